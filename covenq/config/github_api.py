"""GitHub's API in the configuration: the App whose delivery log is read, and hooks of repositories and organisations.

`[github.app]` and `[[github.hook]]`. No key and no token is read here: `covenq.config.secret_keys` does, when a request is made.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from covenq.config.secret_source import SOURCES, SecretSource, parse_source
from covenq.config.toml_table import Table
from covenq.errors import ConfigError, UsageError
from covenq.net.address import is_loopback, parse_url

GITHUB_API = "https://api.github.com"
KEPT_S = 3 * 86_400.0
KEPT_ENTERPRISE_S = 7 * 86_400.0
"""How long an attempt is in the delivery log of GitHub's, and of an Enterprise Server's."""
PRIVATE_KEYS_MAX = 2
"""An App's private keys: the one in use, and while keys rotate the next one."""

_INTEGER_MAX = 2**63 - 1
_DIGITS = 48
CLIENT_ID = re.compile(r"[0-9A-Za-z._-]{1,64}\Z")
OWNER = re.compile(r"[0-9A-Za-z_-]{1,100}\Z")
_NAME = re.compile(r"(?!\.{1,2}\Z)[0-9A-Za-z._-]{1,100}\Z")


@dataclass(frozen=True, slots=True)
class GithubApp:
    """A GitHub App: its numeric id or its client id, or both; one private key or two; and where its GitHub is."""

    id: int | None
    client_id: str | None
    keys: tuple[SecretSource, ...]
    api_url: str = GITHUB_API

    @property
    def secret_name(self) -> str | None:
        """The name of the webhook secret that GitHub gave with the App, where `covenq init` made it."""
        return None if self.id is None else app_secret_name(self.id)

    @property
    def issuer(self) -> str:
        """By what GitHub knows the App: the client id, which it recommends, else the number."""
        return self.client_id if self.client_id is not None else str(self.id)

    @property
    def name(self) -> str:
        return f"app {self.issuer}"

    @property
    def credentials(self) -> str:
        """What it asks with, for a person."""
        return f"the App's id ({self.issuer}) and private key ({', '.join(map(_where, self.keys))})"

    @property
    def settings(self) -> str:
        """Where its webhook's settings are on GitHub, for a person."""
        return "the App's settings, Webhook"

    @property
    def hook_path(self) -> str:
        """Where its webhook is, below the API's address."""
        return "/app/hook"

    @property
    def limited_as(self) -> object:
        """What GitHub counts its requests by: equal for those that share a limit."""
        return self.api_url, self.issuer

    @property
    def identity(self) -> str:
        """What it is known by from one pass to the next; no name that would have to be erased."""
        return f"{self.api_url} app {self.issuer}"

    @property
    def log_path(self) -> str:
        """Where its delivery log is, below the API's address."""
        return f"{self.hook_path}/deliveries"


@dataclass(frozen=True, slots=True)
class GithubHook:
    """A hook of a repository (`repo`, owner/name) or an organisation (`org`), and the token that may read its delivery log."""

    id: str
    repo: str | None
    org: str | None
    token: SecretSource
    api_url: str = GITHUB_API

    @property
    def name(self) -> str:
        return f"hook {self.id} of {self.repo or self.org}"

    @property
    def credentials(self) -> str:
        """What it is asked with, for a person."""
        return f"the id ({self.id}) and the token ({_where(self.token)}) of the hook of {self.repo or self.org}"

    @property
    def settings(self) -> str:
        """Where its settings are on GitHub, for a person."""
        return f"Settings, Webhooks of {self.repo or self.org}"

    @property
    def limited_as(self) -> object:
        """What GitHub counts its requests by: hooks with one token share its limit, whatever they are called."""
        return self.api_url, replace(self.token, name="")

    @property
    def identity(self) -> str:
        """What it is known by from one pass to the next: a repository may be renamed, and its name may have to be erased."""
        return f"{self.api_url} hook {self.id}"

    @property
    def hook_path(self) -> str:
        """Where it is, below the API's address. The names were checked: they hold nothing that a path obeys."""
        owner = f"/repos/{self.repo}" if self.repo is not None else f"/orgs/{self.org}"
        return f"{owner}/hooks/{self.id}"

    @property
    def log_path(self) -> str:
        """Where its delivery log is, below the API's address."""
        return f"{self.hook_path}/deliveries"


def digest_of(log: GithubApp | GithubHook) -> str:
    """What a log is known by in the subjects of its records, and in the state's rows."""
    return hashlib.sha256(log.identity.encode()).hexdigest()[:_DIGITS]


def _where(source: SecretSource) -> str:
    """The place of a key or token, which never shows it."""
    return f"{source.file or source.env or source.credential or 'in the configuration'}"


@dataclass(frozen=True, slots=True)
class GithubLogs:
    """Whose delivery logs are read: the App's, and those of hooks."""

    app: GithubApp | None = None
    hooks: tuple[GithubHook, ...] = ()

    @property
    def all(self) -> tuple[GithubApp | GithubHook, ...]:
        """Each of them, the App's first."""
        return (*((self.app,) if self.app is not None else ()), *self.hooks)

    @property
    def sources(self) -> tuple[SecretSource, ...]:
        """All that authorises a request: private keys and tokens."""
        return (*(self.app.keys if self.app is not None else ()), *(one.token for one in self.hooks))


NO_LOGS = GithubLogs()


def app_secret_name(app_id: int) -> str:
    """The name of the webhook secret that GitHub gave with the App of that number."""
    return f"app-{app_id}"


def keeps_s(api_url: str) -> float:
    """For how many seconds the GitHub at that address keeps an attempt in its log."""
    return KEPT_S if is_github_com(urlsplit(api_url).hostname or "") else KEPT_ENTERPRISE_S


def is_github_com(host: str) -> bool:
    """Whether an API's host is github.com's, or one of GitHub Enterprise Cloud's, and no Enterprise Server's."""
    return host == "api.github.com" or (host.startswith("api.") and host.endswith(".ghe.com"))


def parse_logs(github: Table, base: Path) -> GithubLogs:
    """`[github.app]` and `[[github.hook]]`. Relative paths start from `base`. Raises ConfigError."""
    app = _app(github, base) if "app" in github.raw else None
    hooks: list[GithubHook] = []
    for table in github.tables("hook"):
        one = _hook(table, base, app.api_url if app is not None else GITHUB_API)
        if any((one.id, one.api_url) == (other.id, other.api_url) for other in hooks):
            raise table.error("id", f"two hooks have the id {one.id}")
        hooks.append(one)
    return GithubLogs(app, tuple(hooks))


def _app(github: Table, base: Path) -> GithubApp:
    table = github.table("app", ("id", "client_id", "private_key_file", "private_key_credential", "api_url"))
    if "id" not in table.raw and "client_id" not in table.raw:
        raise table.error("", "needs id or client_id", hint="Both are on the App's page of settings, under About.")
    id = table.integer("id", 1, 1, _INTEGER_MAX) if "id" in table.raw else None
    client_id = table.text("client_id") if "client_id" in table.raw else None
    if client_id is not None and not CLIENT_ID.match(client_id):
        raise table.error("client_id", f"{client_id[:80]!r} is no client id, such as Iv23liAbCdEfGhIjKlMn")
    keys = [*_keys(table, "file", base), *_keys(table, "credential", base)]
    if not keys:
        raise table.error(
            "", "needs private_key_file or private_key_credential", hint="The App's page on GitHub generates the key."
        )
    if len(keys) > PRIVATE_KEYS_MAX:
        raise table.error("", f"has {len(keys)} private keys, and {PRIVATE_KEYS_MAX} at most are tried")
    return GithubApp(id, client_id, tuple(keys), _api_url(table, GITHUB_API))


def _keys(table: Table, kind: str, base: Path) -> list[SecretSource]:
    key = f"private_key_{kind}"
    if key not in table.raw:
        return []
    texts = table.texts(key) if isinstance(table.raw[key], list) else (table.text(key),)
    return [parse_source(table, key, kind, text, "app private key", base) for text in texts]


def _hook(table: Table, base: Path, api_url: str) -> GithubHook:
    table.require_known(("id", "repo", "org", "token", "api_url"))
    id = str(table.integer("id", 0, 1, _INTEGER_MAX)) if isinstance(table.raw.get("id"), int) else table.token("id")
    if ("repo" in table.raw) == ("org" in table.raw):
        raise table.error("", "needs exactly one of repo and org")
    repo = table.text("repo") if "repo" in table.raw else None
    org = table.text("org") if "org" in table.raw else None
    if repo is not None:
        owner, _, name = repo.partition("/")
        if not (OWNER.match(owner) and _NAME.match(name)):
            raise table.error("repo", f"{repo[:80]!r} is not owner/name")
    if org is not None and not OWNER.match(org):
        raise table.error("org", f"{org[:80]!r} is no organisation's name")
    token = table.table("token", SOURCES)
    given = [kind for kind in SOURCES if kind in token.raw]
    if len(given) != 1:
        raise table.error("token", f"needs exactly one of {', '.join(SOURCES[:-1])} and {SOURCES[-1]}")
    source = parse_source(token, given[0], given[0], token.text(given[0]), f"token of hook {id}", base)
    return GithubHook(id, repo, org, source, _api_url(table, api_url))


def _api_url(table: Table, default: str) -> str:
    """The address of GitHub's API: https, or plain http to this machine alone, since what is sent there authorises."""
    try:
        return checked_api_url(table.text("api_url", default))
    except UsageError as error:
        raise table.error("api_url", str(error), hint=error.hint) from None


def checked_api_url(text: str) -> str:
    """The address without a slash at its end. Raises UsageError."""
    url = text.rstrip("/")
    try:
        parts = parse_url(url)
    except UsageError as error:
        hint = f"Write {GITHUB_API}, or https://HOST/api/v3 of an Enterprise Server."
        raise UsageError(str(error), hint=hint) from None
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise UsageError(f"{url[:200]} must be https: what is sent there authorises", hint="Write https://…")
    return url


def require_logs(logs: GithubLogs, what: str = "delivery log") -> None:
    """Raises ConfigError where none is configured. `what` of GitHub's is asked for."""
    if logs.app is None and not logs.hooks:
        raise ConfigError(
            f"the configuration names no {what} of GitHub's",
            hint="Write [github.app] with `covenq init --github-app`, or add a [[github.hook]]: covenq.toml(5).",
        )
