"""The webhook secrets of the configuration: the source and the scope of each. No values are read here."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from covenq.config.toml_table import Table
from covenq.filter.tree import fold_case
from covenq.model import TOKEN

SOURCES = ("file", "env", "credential", "value")
SECRET_VARIABLE = "COVENQ_WEBHOOK_SECRET"  # noqa: S105 - a name
FROM_ENVIRONMENT = "env"
"""The name of the secret that SECRET_VARIABLE holds."""
CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""The variable with the directory of a systemd service's credentials."""

LINE_ENDS = "\r\n"
"""Characters at the end of a secret that are no part of it."""

_SCOPE = ("hooks", "installations", "repositories")
_INTEGER_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Scope:
    """The deliveries that a secret is valid for: each list that is given must contain the delivery's. Without any, all are."""

    hooks: tuple[str, ...] = ()
    installations: tuple[int, ...] = ()
    repositories: tuple[str, ...] = ()
    """`owner/name` or `owner/*`, in lower case: GitHub's names are the same in either."""

    @property
    def everything(self) -> bool:
        return not (self.hooks or self.installations or self.repositories)

    @property
    def repositories_named(self) -> tuple[str, ...]:
        """Those of `repositories` that name one, and not all of an owner's."""
        return tuple(name for name in self.repositories if not name.endswith("/*"))

    def covers(self, hook: str, installation: int | None, repo: str | None) -> bool:
        """Whether a delivery of that hook, with that installation and repository in its body, is in the scope by these.

        A body without an installation, or without a repository, is in no scope that lists any. By their numbers repositories
        are told apart in `covenq.intake.scope_bindings`.
        """
        if not self.admits(hook, installation):
            return False
        return not self.repositories or self.names(repo)

    def admits(self, hook: str, installation: int | None) -> bool:
        """Whether that hook and that installation are in the scope."""
        if self.hooks and hook not in self.hooks:
            return False
        return not self.installations or installation in self.installations

    def names(self, repo: str | None) -> bool:
        """Whether the repository is in the scope by its name or its owner's."""
        return repo is not None and (fold_case(repo) in self.repositories or self.names_owner(repo))

    def names_owner(self, repo: str | None) -> bool:
        """Whether all repositories of its owner are in the scope, by the owner's name."""
        owner, slash, _ = fold_case(repo or "").partition("/")
        return bool(slash) and f"{owner}/*" in self.repositories


EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class SecretSource:
    """The source of a webhook secret: exactly one of `file`, `env` (a variable), `credential` (systemd's) and `value`."""

    name: str
    file: Path | None = None
    env: str | None = None
    value: str | None = field(default=None, repr=False)
    credential: str | None = None
    scope: Scope = EVERYTHING

    def path(self, env: Mapping[str, str]) -> Path | None:
        """The file it is read from; None if it is in no file, or systemd gave this process no credentials."""
        if self.credential is not None:
            directory = env.get(CREDENTIALS)
            return Path(directory) / self.credential if directory else None
        return self.file


def parse_secrets(github: Table, base: Path, env: Mapping[str, str]) -> tuple[SecretSource, ...]:
    """`[github] webhook_secrets` and COVENQ_WEBHOOK_SECRET. Relative paths start from `base`. Raises ConfigError."""
    sources: list[SecretSource] = []
    for table in github.tables("webhook_secrets"):
        table.require_known(("name", *SOURCES, *_SCOPE))
        name = table.token("name")
        if name == FROM_ENVIRONMENT:
            raise table.error("name", f"{name!r} is a name of covenq's own; choose another")
        if any(source.name == name for source in sources):
            raise table.error("name", f"two secrets are named {name!r}")
        sources.append(_source(table, name, base))
    if SECRET_VARIABLE in env:
        sources.append(SecretSource(FROM_ENVIRONMENT, env=SECRET_VARIABLE))
    return tuple(sources)


def parse_hooks(table: Table) -> tuple[str, ...]:
    """`hooks`: ids of hooks, as texts or whole numbers. Raises ConfigError."""
    hooks = []
    for value in table.items("hooks", (str, int), "a list of hook ids"):
        if not TOKEN.match(str(value)):
            raise table.error("hooks", f"{str(value)[:80]!r} is not 1 to 64 letters, digits, _ or -")
        hooks.append(str(value))
    return tuple(hooks)


def _source(table: Table, name: str, base: Path) -> SecretSource:
    given = [key for key in SOURCES if key in table.raw]
    if len(given) != 1:
        raise table.error("", f"needs exactly one of {', '.join(SOURCES[:-1])} and {SOURCES[-1]}")
    key = given[0]
    source = parse_source(table, key, key, table.text(key), name, base)
    return replace(source, scope=_scope(table))


def parse_source(table: Table, key: str, kind: str, text: str, name: str, base: Path) -> SecretSource:
    """The source of that name whose `kind`, one of SOURCES, is `text`, the value of `key`. Raises ConfigError."""
    if not text.rstrip(LINE_ENDS):
        raise table.error(key, "is empty")
    match kind:
        case "file":
            return SecretSource(name, file=base / Path(text).expanduser())
        case "env":
            return SecretSource(name, env=text)
        case "credential":
            if "/" in text or text in (".", ".."):
                raise table.error(key, "is a credential's name, which has no slash")
            return SecretSource(name, credential=text)
        case _:
            return SecretSource(name, value=text)


def _scope(table: Table) -> Scope:
    for key in _SCOPE:
        if key in table.raw and not table.items(key, (str, int), "a list"):
            raise table.error(key, "is empty, and would let nothing in; leave it out to let everything in")
    installations = table.items("installations", (int,), "a list of installation ids")
    for one in installations:
        if not 0 < one <= _INTEGER_MAX:
            raise table.error("installations", f"{str(one)[:40]} is no installation's id")
    repositories = []
    for text in table.texts("repositories", ()):
        owner, slash, repo = text.partition("/")
        if not (owner and slash and repo) or "/" in repo or "*" in owner or ("*" in repo and repo != "*"):
            raise table.error("repositories", f"{text[:80]!r} is neither owner/name nor owner/*")
        repositories.append(fold_case(text))
    return Scope(parse_hooks(table), tuple(installations), tuple(repositories))


SecretStatus = tuple[SecretSource, str | None]
"""A configured secret, and what prevents this process from reading it, if anything does."""


def problem(source: SecretSource, env: Mapping[str, str]) -> str | None:
    """What prevents this process from reading a secret, or None. It checks that the secret exists and doesn't read it."""
    if source.env is not None:
        if source.env not in env:
            return f"environment variable {source.env} is not set"
        return None if env[source.env].rstrip(LINE_ENDS) else f"environment variable {source.env} is empty"
    path = source.path(env)
    if source.credential is not None and path is None:
        return f"systemd gave no credentials ({CREDENTIALS} is not set)"
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError as error:
        return f"{path} can't be read: {error.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return f"{path} can't be read: it is no regular file"
    if not os.access(path, os.R_OK):
        return f"{path} can't be read"
    return None if found.st_size else f"{path} is empty"
