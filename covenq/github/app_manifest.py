"""GitHub's manifest flow for making an App: the manifest, GitHub's addresses, and what its redirect brings.

A page posts the manifest, JSON, to GitHub's page for new Apps; the person there makes the App; GitHub redirects to
`redirect_url` with a `code`, which is good once and for an hour, and the `state` that the page gave.
`covenq.github.app_conversion` exchanges it.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from covenq.config.github_api import OWNER, is_github_com
from covenq.errors import UsageError
from covenq.github.subscriptions import Subscription
from covenq.json_text import json_text

NAME_MAX = 34
"""Characters of an App's name at GitHub."""
ADDRESS_MAX = 2048
"""Characters of a redirect's address, and of its query; GitHub's has about 150."""
FIELDS_MAX = 10

_CODE = re.compile(r"[0-9A-Za-z_-]{8,255}\Z")
_STATE = re.compile(r"[0-9A-Za-z_-]{16,128}\Z")
_OF_NAMES = re.compile(r"[^0-9A-Za-z ._-]")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an App shall be. Its owner alone can install it: `public` is false."""

    name: str
    homepage: str
    webhook_url: str
    redirect_url: str
    subscription: Subscription

    def text(self) -> str:
        """The JSON that GitHub takes."""
        return json_text(
            {
                "name": self.name,
                "url": self.homepage,
                "hook_attributes": {"url": self.webhook_url, "active": True},
                "redirect_url": self.redirect_url,
                "public": False,
                "default_permissions": dict(self.subscription.permissions),
                "default_events": list(self.subscription.events),
            }
        )


def checked_name(text: str) -> str:
    """Raises UsageError for what GitHub would not take as an App's name."""
    name = text.strip()
    if not name or len(name) > NAME_MAX or not name.isprintable():
        raise UsageError(f"an App's name has 1 to {NAME_MAX} characters", hint="Give a short one with --name.")
    return name


def default_name(host: str) -> str:
    """`covenq on HOST`, within what GitHub takes: names are shared by all of its users, so it has to be its own."""
    return f"covenq on {_OF_NAMES.sub('', host.partition('.')[0]) or 'a host'}"[:NAME_MAX].rstrip()


def checked_organisation(text: str) -> str:
    """Raises UsageError for what is no organisation's name, and would be another address."""
    if not OWNER.match(text):
        raise UsageError(f"{text[:80]!r} is no organisation's name", hint="Give its login: --org octo-org.")
    return text


def web_url(api_url: str) -> str:
    """The address of GitHub's pages, of that of its API: they are different hosts, but on an Enterprise Server."""
    parts = urlsplit(api_url)
    host = parts.netloc
    if is_github_com(host):
        return f"https://{host.removeprefix('api.')}"
    return f"{parts.scheme}://{host}{parts.path.removesuffix('/api/v3')}"


def registration_url(web: str, organisation: str | None, state: str) -> str:
    """Where the manifest is posted to, for an organisation or the person who posts it. The parts were checked."""
    owner = "" if organisation is None else f"/organizations/{organisation}"
    return f"{web}{owner}/settings/apps/new?state={state}"


def code_of_address(text: str, redirect_url: str, state: str) -> str:
    """The code of an address that a person copied from a browser. Raises UsageError, as `code_of_query` does."""
    address, _, query = text.strip().partition("?")
    if len(text) > ADDRESS_MAX or address != redirect_url:
        raise UsageError(
            "that is not the address to which GitHub redirected",
            hint=f"Copy all of it from the browser's address bar: {redirect_url}?code=…&state=…",
        )
    return code_of_query(query, state)


def code_of_query(query: str, state: str) -> str:
    """The code that a redirect brings for this `state`. Raises UsageError, which quotes nothing of it."""
    try:
        given = parse_qs(query[: ADDRESS_MAX + 1], strict_parsing=True, max_num_fields=FIELDS_MAX)
    except ValueError:
        given = {}
    codes, states = given.get("code", []), given.get("state", [])
    well_formed = len(codes) == 1 and _CODE.match(codes[0]) and len(states) == 1 and _STATE.match(states[0])
    if len(query) > ADDRESS_MAX or not well_formed:
        raise UsageError("there is no code of GitHub's in it", hint="It has ?code=…&state=… at its end.")
    if not hmac.compare_digest(states[0], state):
        raise UsageError("it is of another run of this command, or of somebody else", hint="Start again from the page.")
    return codes[0]
