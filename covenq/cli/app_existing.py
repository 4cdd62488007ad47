"""`covenq init --github-app --existing`: a GitHub App that is there already, by its id and its private key's file.

Both are checked before anything is written: the key by reading it, and both together by asking GitHub as the App, where
GitHub can be reached from here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from covenq.cli import app_configuration as configuration
from covenq.cli.app_configuration import AppSettings, Target
from covenq.cli.app_setup import Wanted, ask_line, undeliverable
from covenq.cli.output import clean, command_text, say
from covenq.config import regular_file
from covenq.config.github_api import CLIENT_ID, GITHUB_API, checked_api_url
from covenq.config.public_url import checked_public_url
from covenq.config.secret_keys import SECRET_MAX, default_file
from covenq.config.secret_source import FROM_ENVIRONMENT
from covenq.errors import GithubAnswerUnreadable, GithubLimited, OutgoingFailed, Refused, UsageError
from covenq.github.api_client import GithubApi, pacing_towards
from covenq.github.app_auth import AppAuth
from covenq.net.outgoing import OutgoingClient
from journal.presence import is_absent

ANSWER_MAX = 1 << 20
_ID_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Identity:
    """What an App is known by; at least one of the two is given."""

    id: int | None
    client_id: str | None


class _App(Struct):
    id: int
    client_id: str | None = None


def use_existing(target: Target, wanted: Wanted, env: Mapping[str, str]) -> None:
    """Ask for the App's id and key, check them, and write the configuration. Raises CovenqError, OSError."""
    api, url = GITHUB_API if wanted.api_url is None else checked_api_url(wanted.api_url), wanted.url
    ingress = configuration.ingress_to_write(target, wanted.ingress)
    nowhere = undeliverable(url) if configuration.follows_log(target, ingress) else None
    if url is not None:
        url = checked_public_url(url, target.loaded.webhook_path)
        if target.loaded.public_url is not None:
            raise UsageError(
                "the configuration has a public_url already", hint="Leave --url out, or change the setting."
            )
    given = identity(ask_line("The App's client id, or its number (on its page, under About): "))
    key_file = Path(ask_line("The file of its private key: ")).expanduser().absolute()
    key = private_key(key_file)
    auth = AppAuth(given.client_id or str(given.id), [key], time.time)
    client = OutgoingClient(api, env)
    try:
        found = _asked(GithubApi(client, auth, pacing_towards(client), time.time))
    except (OutgoingFailed, GithubLimited) as error:
        say(f"Whether GitHub takes them could not be asked: {clean(error)}")
        found = given
    finally:
        client.close()
    configuration.write(target, AppSettings(found.id, found.client_id, str(key_file), None, api, url, ingress))
    if nowhere is not None:
        say(
            f"On the App's page, let its webhook be active and deliver to {nowhere}{target.loaded.webhook_path}, where nobody "
            "can ever be: GitHub lists each attempt as failed, and the log is what is read."
        )
    elif all(one.name == FROM_ENVIRONMENT for one in target.loaded.secrets):
        file = default_file(target.data)
        here = (
            f"`covenq serve` makes one, {clean(file)}, at its first start"
            if is_absent(file)
            else f"{clean(file)} is used"
        )
        say(
            f"The configuration names no webhook secret: {here}; then `covenq secrets rotate` has the App sign with one of its "
            "own. One that the App has already can be named in [github] webhook_secrets."
        )


def identity(text: str) -> Identity:
    """A client id or a number. Raises UsageError."""
    if text.isascii() and text.isdecimal() and len(text) < 20 and 0 < int(text) <= _ID_MAX:
        return Identity(int(text), None)
    if not text.isdecimal() and CLIENT_ID.match(text):
        return Identity(None, text)
    raise UsageError(f"{text[:80]!r} is no App's id", hint="It is like Iv23liAbCdEfGhIjKlMn, or a number like 123456.")


def private_key(file: Path) -> bytes:
    """The bytes of a private key's file; that they are a key is seen when they are used. Raises UsageError, Refused."""
    try:
        content, mode = regular_file.read(file, SECRET_MAX + 1)
    except OSError as error:
        raise UsageError(f"{file} can't be read: {error.strerror}", hint="GitHub gives it as a .pem file.") from None
    if len(content) > SECRET_MAX:
        raise UsageError(f"{file} is too long for a private key", hint="GitHub gives it as a .pem file.")
    if mode & 0o007:
        raise Refused(f"everybody on this machine can use {file}", hint=command_text("chmod", "600", str(file)))
    if mode & 0o070:
        say(f"warning: the group of {clean(file)} can use it, too.")
    return content


def _asked(api: GithubApi) -> Identity:
    """What GitHub says the App is. Raises GithubRefused, GithubLimited, OutgoingFailed, GithubAnswerUnreadable."""
    answer = api.get("/app", body_max=ANSWER_MAX)
    try:
        app = msgspec.json.decode(answer.body, type=_App)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise GithubAnswerUnreadable("GitHub's answer is no App") from None
    client_id = app.client_id if app.client_id is not None and CLIENT_ID.match(app.client_id) else None
    return Identity(app.id, client_id)
