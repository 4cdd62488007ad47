"""`covenq init --github-app` and `--existing`: a GitHub App, made through GitHub's manifest flow or there already."""

from __future__ import annotations

import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from covenq import atomic_file
from covenq.cli import app_configuration as configuration
from covenq.cli.app_configuration import AppSettings, Target
from covenq.cli.app_page import form_page, policy_of_form
from covenq.cli.output import clean, say
from covenq.cli.prose import wrap
from covenq.cli.redirect_listener import RedirectListener, listening
from covenq.cli.terminal_width import columns
from covenq.config.github_api import GITHUB_API, checked_api_url
from covenq.config.ingress import UNDELIVERABLE
from covenq.config.public_url import checked_public_url
from covenq.errors import CovenqError, UsageError
from covenq.github.api_client import pacing_towards
from covenq.github.app_conversion import CreatedApp, exchange_code
from covenq.github.app_manifest import (
    Manifest,
    checked_name,
    checked_organisation,
    code_of_address,
    code_of_query,
    default_name,
    registration_url,
    web_url,
)
from covenq.github.subscriptions import subscription
from covenq.net.address import is_loopback
from covenq.net.outgoing import OutgoingClient

WAIT_S = 600.0
"""Seconds for the person to have made the App; GitHub's code is good for an hour, and comes at the end of that."""
LINE_MAX = 8192
TRIES = 5
"""Pasted addresses that are looked at."""
ELSEWHERE = "http://127.0.0.1:47113/created"
"""Where a browser on another machine is redirected to: nothing listens there, and its address bar keeps the address."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says of the App; None is what is found out or asked."""

    organisation: str | None = None
    name: str | None = None
    url: str | None = None
    api_url: str | None = None
    browser: bool = True
    ingress: str | None = None


def make_app(target: Target, wanted: Wanted, env: Mapping[str, str]) -> CreatedApp:
    """Have the person make the App at GitHub, and keep what GitHub gives. Raises CovenqError, OSError."""
    organisation = None if wanted.organisation is None else checked_organisation(wanted.organisation)
    name = default_name(socket.gethostname()) if wanted.name is None else checked_name(wanted.name)
    api_url = GITHUB_API if wanted.api_url is None else checked_api_url(wanted.api_url)
    client = OutgoingClient(api_url, env)
    ingress = configuration.ingress_to_write(target, wanted.ingress)
    if configuration.follows_log(target, ingress):
        url, stated = undeliverable(wanted.url), None
    else:
        url, stated = _public_url(target, wanted.url, client.loopback)
    planned = AppSettings(1, "planned", configuration.KEY_NAME, configuration.SECRET_NAME, api_url, stated, ingress)
    configuration.require_free(target.key_file, target.secret_file)
    configuration.text_with(target, planned)  # what can't be written is refused while nothing is lost by it
    asked = subscription(target.loaded.routes)
    if asked.left_out:
        say(f"To be chosen on the App's page, if it has it: {clean(', '.join(asked.left_out))}")
    state = secrets.token_urlsafe(32)
    address = registration_url(web_url(api_url), organisation, state)

    def page(redirect_url: str) -> str:
        hook = url + target.loaded.webhook_path
        return form_page(Manifest(name, url, hook, redirect_url, asked), address)

    by = _code_by_browser if wanted.browser and _has_browser(env) else _code_by_paste
    code = by(page, state, address, target)
    created = _exchanged(client, code)
    secret = None if created.webhook_secret is None else configuration.SECRET_NAME
    settings = AppSettings(created.id, created.client_id, configuration.KEY_NAME, secret, api_url, stated, ingress)
    configuration.keep(target, created, settings)
    return created


def undeliverable(url: str | None) -> str:
    """Where an App is to deliver to whose log alone is read: to nobody. `url` is what --url says. Raises UsageError."""
    if url is not None:
        raise UsageError("with ingress log nothing is delivered to an address", hint="Leave --url out.")
    return UNDELIVERABLE


def _public_url(target: Target, given: str | None, trial: bool) -> tuple[str, str | None]:
    """The address under which GitHub reaches this covenq, and the same where the configuration has to be told it.

    `trial`: GitHub is on this machine, too. Raises UsageError.
    """
    configured, path = target.loaded.public_url, target.loaded.webhook_path
    if given is None and configured is None:
        given = ask_line("The https address under which GitHub reaches this covenq, as https://covenq.example.org: ")
    url = configured if given is None else checked_public_url(given, path)
    assert url is not None
    if configured is not None and url != configured:
        raise UsageError(
            f"--url is {url}, and [server] public_url is {configured}", hint="Leave --url out, or change the setting."
        )
    if is_loopback(urlsplit(url).hostname or "") and not trial:
        raise UsageError(
            f"{url} is this machine, where GitHub reaches nobody",
            hint="Give the address of the proxy or tunnel in front of it: covenq-proxy(7).",
        )
    return url, None if configured is not None else url


def _has_browser(env: Mapping[str, str]) -> bool:
    """Whether a browser that is opened here is seen by whoever typed the command."""
    if env.get("SSH_CONNECTION") or env.get("SSH_TTY"):
        return False
    return sys.platform == "darwin" or bool(env.get("DISPLAY") or env.get("WAYLAND_DISPLAY"))


def _code_by_browser(page: Callable[[str], str], state: str, address: str, target: Target) -> str:
    """Serve the page on the loopback interface, and wait for the redirect."""
    with listening(RedirectListener(lambda query: code_of_query(query, state))) as listener:
        listener.policy = policy_of_form(address)
        listener.page = page(listener.redirect_url)
        say(f"In the browser, go on from {listener.page_url}")
        say(
            f"This waits for {WAIT_S / 60:.0f} minutes. Ctrl-C ends it, and nothing is written before GitHub has answered."
        )
        opened = threading.Thread(target=_open_browser, args=(listener.page_url,), name="browser", daemon=True)
        opened.start()  # some browsers are waited for until they are closed
        return listener.wait(WAIT_S)


def _open_browser(url: str) -> None:
    if not webbrowser.open(url):
        say("No browser could be opened from here: open one at that address, or use --no-browser.")


def _code_by_paste(page: Callable[[str], str], state: str, address: str, target: Target) -> str:
    """Write the page as a file to be opened elsewhere, and take the address that the browser was redirected to."""
    file = target.path.with_name(f"github-app-{secrets.token_hex(4)}.html")
    try:
        if not atomic_file.create(file, page(ELSEWHERE).encode()):
            raise CovenqError(f"{file} is there already", hint="Run it again.")
        say(f"Copy {clean(file)} to where your browser is, open it there, and let GitHub make the App.")
        say("The browser is then redirected to an address where nothing is. Copy it, all of it, from the address bar.")
        for tries_left in range(TRIES - 1, -1, -1):
            pasted = ask_line("The address: ")
            try:
                return code_of_address(pasted, ELSEWHERE, state)
            except UsageError as error:
                if not tries_left:
                    raise
                say(f"covenq: {error}")
                say(f"hint: {error.hint}")
        raise AssertionError("the last try raises")
    finally:
        file.unlink(missing_ok=True)


def ask_line(question: str) -> str:
    """A line from standard input, asked for on standard error. Raises UsageError where there is none."""
    print("\n".join(wrap(question.rstrip(), columns(sys.stderr))), end=" ", file=sys.stderr, flush=True)
    line = sys.stdin.readline(LINE_MAX)
    if not line:
        say()
        raise UsageError(
            "standard input ended before that was answered", hint="Type or paste it, or give it by option."
        )
    return line.strip()


def _exchanged(client: OutgoingClient, code: str) -> CreatedApp:
    say(f"GitHub's code came. Asking {client.host} for the App's key …")
    try:
        return exchange_code(client, code, pacing_towards(client))
    except KeyboardInterrupt:
        say("The App may be in your settings on GitHub; its key was not fetched, and nothing was written.")
        raise
    finally:
        client.close()
