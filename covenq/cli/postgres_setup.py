"""`covenq init --postgres URL`: the journal's tables in a database, and the configuration that names it.

The decision it serves is whether this database can be trusted with a journal: it asks what a start asks, and refuses as a start
would, before anything is written.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from covenq.config.journal import POSTGRES, VARIABLE, has_password, parse_journal
from covenq.config.toml_edit import with_settings
from covenq.config.toml_table import Table
from covenq.errors import Refused, UsageError

NO_PASSWORD = (
    f"Other users of this machine see what a command is given. Put the password into a file that PGPASSFILE names, or the "
    f"whole URL into {VARIABLE}."
)


def checked(url: str, env: Mapping[str, str]) -> str:
    """The URL, without a password. Raises UsageError, ConfigError."""
    try:
        urlsplit(url)
    except ValueError:
        raise UsageError("that is no URL", hint="Write postgresql://USER@HOST/DATABASE.") from None
    if has_password(url):
        raise UsageError("the URL has a password in it", hint=NO_PASSWORD)
    without = {key: value for key, value in env.items() if key != VARIABLE}
    parse_journal(Table("--postgres", "", {"journal": {"engine": POSTGRES, "url": url}}), without)
    return url


def configuration(text: str, url: str, path: Path) -> str:
    """The configuration's text with the section; as it is where it names that database. Raises Refused where it has another."""
    if _names(text, url):
        return text
    made = with_settings(text, [("journal", "engine", POSTGRES), ("journal", "url", url)])
    if made is None:
        raise Refused(
            f"{path} has a [journal] already, or can't be added to",
            hint='Change it there: engine = "postgres", and url.',
        )
    return made


def _names(text: str, url: str) -> bool:
    try:
        found = tomllib.loads(text).get("journal")
    except tomllib.TOMLDecodeError:
        return False
    return isinstance(found, dict) and (found.get("engine"), found.get("url")) == (POSTGRES, url)


def grants(writer: str, reader: str) -> str:
    """The SQL that gives two roles what they need."""
    from journal.postgres.schema import grants as template

    names = {":writer": writer, ":reader": reader}
    return re.sub("|".join(names), lambda found: names[found[0]], template())


def role_of(url: str) -> str:
    """Whom the URL connects as, as an identifier of SQL; a word to be replaced where it doesn't say."""
    parts = urlsplit(url)
    user = unquote(parts.username or "") or parse_qs(parts.query).get("user", [""])[0] or "covenq"
    return '"' + user.replace('"', '""') + '"'
