"""What GitHub has of a webhook: its settings, its App's, and where that is installed; and the calls that read and change it.

The secret alone is ever changed: what a PATCH doesn't name stays as it is. GitHub shows no secret, but asterisks in its place.
Answers are typed, and each is bounded: what isn't as documented is one error, and never a guess.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct

from covenq.config.github_api import GithubApp, GithubHook
from covenq.errors import GithubAnswerUnreadable
from covenq.github.api_client import GithubApi
from covenq.github.delivery_log import PAGE_BYTES_MAX, PER_PAGE, LogPage, parse_page

ANSWER_MAX = 4 << 20
"""Bytes of an answer. A hundred installations take about 500 KB."""
INSTALLATIONS_PAGE = 100

T = TypeVar("T")


class HookConfig(Struct, frozen=True):
    """Where a webhook delivers to, and how. `insecure_ssl` is "0" or "1", as a text or as a number."""

    url: str | None = None
    content_type: str | None = None
    insecure_ssl: str | float | None = None

    @property
    def verifies_certificates(self) -> bool:
        return str(self.insecure_ssl) not in ("1", "1.0")


class HookSettings(Struct, frozen=True):
    """A hook of a repository or an organisation."""

    active: bool
    events: list[str]
    config: HookConfig


class AppSettings(Struct, frozen=True):
    """A GitHub App: the events it is subscribed to, and the permissions that it asks for."""

    events: list[str]
    permissions: dict[str, str]
    html_url: str


class Account(Struct, frozen=True):
    """Whose an installation is: a user or an organisation by `login`, an enterprise by `slug`."""

    login: str | None = None
    slug: str | None = None


class Installation(Struct, frozen=True):
    """Where an App is installed, and the permissions that were granted there."""

    id: int
    permissions: dict[str, str]
    html_url: str
    account: Account | None = None
    suspended_at: str | None = None

    @property
    def name(self) -> str:
        known = None if self.account is None else self.account.login or self.account.slug
        return known or f"installation {self.id}"


class _Meta(Struct):
    hooks: list[str] = []


def set_secret(api: GithubApi, owner: GithubApp | GithubHook, secret: str) -> None:
    """Have GitHub sign with that secret from now on. Raises what `GithubApi.patch` does."""
    api.patch(f"{owner.hook_path}/config", msgspec.json.encode({"secret": secret}), body_max=ANSWER_MAX)


# ---- reading: these raise what `GithubApi.get` does, and GithubAnswerUnreadable


def app_config(api: GithubApi, app: GithubApp) -> HookConfig:
    return _get(api, f"{app.hook_path}/config", HookConfig)


def hook_settings(api: GithubApi, hook: GithubHook) -> HookSettings:
    return _get(api, hook.hook_path, HookSettings)


def app_settings(api: GithubApi) -> AppSettings:
    return _get(api, "/app", AppSettings)


def installations(api: GithubApi, page: int) -> list[Installation]:
    """A page of them, from 1; a last one has fewer than INSTALLATIONS_PAGE."""
    query = {"per_page": str(INSTALLATIONS_PAGE), "page": str(page)}
    return _get(api, "/app/installations", list[Installation], query)


def newest_attempts(api: GithubApi, owner: GithubApp | GithubHook) -> LogPage:
    """The newest page of the delivery log."""
    answer = api.get(owner.log_path, {"per_page": str(PER_PAGE)}, body_max=PAGE_BYTES_MAX)
    return parse_page(answer.body, None)


def sending_ranges(api: GithubApi) -> list[str]:
    """The networks that webhooks are sent from; an Enterprise Server may name none."""
    return _get(api, "/meta", _Meta).hooks


def _get(api: GithubApi, path: str, kind: type[T], query: dict[str, str] | None = None) -> T:
    answer = api.get(path, query, body_max=ANSWER_MAX)
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise GithubAnswerUnreadable(f"GitHub's answer to {path} is not as documented") from None
