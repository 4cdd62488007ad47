"""The pages of `covenq init --github-app`: the form that posts an App's manifest to GitHub, and a sentence for anything else.

They load nothing, run nothing, and can be sent to GitHub alone, as their Content-Security-Policy says to the browser.
"""

from __future__ import annotations

from html import escape
from urllib.parse import urlsplit

from covenq.github.app_manifest import Manifest

POLICY = "default-src 'none'; base-uri 'none'"


def policy_of_form(address: str) -> str:
    """The Content-Security-Policy of a page whose form goes to that address: to its host alone."""
    parts = urlsplit(address)
    return f"{POLICY}; form-action {parts.scheme}://{parts.netloc}"


def form_page(manifest: Manifest, address: str) -> str:
    """The page with the form. It is for a listener and for a file alike: its policy is in it, too."""
    host = urlsplit(address).netloc
    asked = manifest.subscription
    events = ", ".join(asked.events) or "none"
    permissions = ", ".join(one if level == "read" else f"{one} ({level})" for one, level in asked.permissions.items())
    return _page(
        "covenq: a GitHub App",
        f"<h1>A GitHub App for covenq</h1>\n"
        f"<p>{escape(host)} shows its name, which you may change, and makes it when you say so. Be signed in there.</p>\n"
        f"<dl>\n<dt>Name</dt><dd>{escape(manifest.name)}</dd>\n"
        f"<dt>Webhook address</dt><dd>{escape(manifest.webhook_url)}</dd>\n"
        f"<dt>Events</dt><dd>{escape(events)}</dd>\n"
        f"<dt>Permissions, to read unless it says more</dt><dd>{escape(permissions)}</dd>\n</dl>\n"
        f'<form method="post" action="{escape(address)}">\n'
        f'<input type="hidden" name="manifest" value="{escape(manifest.text())}">\n'
        f"<button>Go on at {escape(host)}</button>\n</form>",
        policy_of_form(address),
    )


def sentence_page(sentence: str) -> str:
    """A page that says one thing."""
    return _page("covenq", f"<p>{escape(sentence)}</p>", POLICY)


def _page(title: str, body: str, policy: str) -> str:
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        f"<title>{escape(title)}</title>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
