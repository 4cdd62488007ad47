"""The section `[journal]`: which engine keeps the journal, and where.

A URL may hold a password. COVENQ_JOURNAL_URL goes before the file's, and no answer, log or record shows either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

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
    """The URL without its password, and without what else its query says; None for the file engine."""
    if settings.url is None:
        return None
    try:
        parts = urlsplit(settings.url)
    except ValueError:
        return "postgresql://…"
    where = parts.netloc.rpartition("@")[2]
    user = f"{parts.username}@" if parts.username else ""
    host = parse_qs(parts.query).get("host", [""])[0]
    return f"postgresql://{user}{where}{parts.path}" + (f"?host={host}" if host else "")
