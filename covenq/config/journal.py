"""The section `[journal]`: which engine keeps the journal, and where.

A URL may hold a password. COVENQ_JOURNAL_URL goes before the file's, and no answer, log or record shows either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from covenq.config.toml_table import Table
from covenq.errors import ConfigError

FILE, POSTGRES = "file", "postgres"
ENGINES = (FILE, POSTGRES)
MANAGED = "managed"
REPLICATED = ("", MANAGED)
SCHEMES = ("postgresql://", "postgres://")
VARIABLE = "COVENQ_JOURNAL_URL"
URL_MAX = 4096


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """`url` is None for the file engine, whose journal is in the data directory."""

    url: str | None = field(default=None, repr=False)
    managed: bool = False
    """An operator's word that the database's storage is replicated by whoever runs it: nothing there shows it."""

    @property
    def engine(self) -> str:
        return FILE if self.url is None else POSTGRES


IN_FILES = JournalSettings()


def parse_journal(top: Table, env: Mapping[str, str]) -> JournalSettings:
    """The section, and what the environment says of it: a URL there names its engine too. Raises ConfigError."""
    table = top.table("journal", ("engine", "url", "replicated"))
    engine = table.choice("engine", ENGINES)
    if "engine" not in table.raw and env.get(VARIABLE):
        engine = POSTGRES
    url = env.get(VARIABLE) or table.text("url", "")
    if engine == FILE:
        for key in ("url", "replicated"):
            if key in table.raw:
                raise table.error(key, f'is for engine = "{POSTGRES}"')
        return IN_FILES
    if not url:
        raise table.error("engine", f'"{POSTGRES}" needs url, or {VARIABLE} in the environment')
    if not url.startswith(SCHEMES) or len(url) > URL_MAX or not url.isprintable():
        words, hint = "is no address of a PostgreSQL database", "Write postgresql://USER@HOST/DATABASE."
        if env.get(VARIABLE):
            raise ConfigError(f"{VARIABLE} {words}", hint=hint)
        raise table.error("url", words, hint=hint)
    return JournalSettings(url, table.choice("replicated", REPLICATED) == MANAGED)


def shown_url(settings: JournalSettings) -> str | None:
    """The URL without its password, and without what else its query says; None for the file engine.

    A password may have characters in it that end a URL's parts elsewhere: so of what stands before the last @ only the name is
    shown, and behind it only what has the form of a place.
    """
    if settings.url is None:
        return None
    credentials, at, where = settings.url.partition("://")[2].rpartition("@")
    name = re.split("[:/?#@]", credentials)[0]
    shown = _PLACE.fullmatch(where)
    if shown is None:
        return "postgresql://…"
    host = parse_qs(shown["query"] or "").get("host", [""])[0]
    return f"postgresql://{name}{at}{shown['place']}" + (f"?host={host}" if host else "")


def has_password(url: str) -> bool:
    """Whether there is a password in the URL: where a client looks for one, or where one stands that was not escaped."""
    rest = url.partition("://")[2]
    start = re.match("[^/@]*@?", rest)
    _, _, secret = ("" if start is None else start[0]).partition(":")
    misplaced = "@" in rest and not re.fullmatch("[0-9,]*", secret)
    asked = {key for part in rest.split("?")[1:] for key in parse_qs(part)}
    return secret.endswith("@") or misplaced or bool(asked & {"password", "sslpassword"})


_HOST = r"(?:[^:/?#,@]*|\[[0-9A-Fa-f:.%]+\])(?::\d*)?"
_PLACE = re.compile(rf"(?P<place>{_HOST}(?:,{_HOST})*(?:/[^?#]*)?)(?:\?(?P<query>.*))?")
