"""Reading the webhook secrets: from the sources in the configuration to the keys that signatures are verified with."""

from __future__ import annotations

import codecs
import hmac
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from covenq.config import regular_file
from covenq.config.load import DEFAULT_SECRET, Config
from covenq.config.secret_source import (
    CREDENTIALS,
    EVERYTHING,
    FROM_ENVIRONMENT,
    LINE_ENDS,
    Scope,
    SecretSource,
    SecretStatus,
    problem,
)
from covenq.errors import ConfigError
from covenq.model.status import SecretWarning
from covenq.paths import SECRET_NAME
from journal.presence import is_absent

SECRET_MAX = 64 * 1024
"""Bytes of a secret file. A larger file is not a secret but a wrong path."""
SAFE_BYTES = 16
"""Bytes below which a secret causes a warning: one signed delivery is enough to find a short secret by trying."""

_BOM = "\ufeff"
_INVISIBLE = ("\u200b", "\u200c", "\u200d", "\u2060", _BOM)
"""Characters that show nothing, as blanks do, and are none: what a page that was copied from may hold."""
_QUOTES = ('""', "''", "``", "\u201c\u201d", "\u2018\u2019", "\u00ab\u00bb", "\u201e\u201c")


@dataclass(frozen=True, slots=True)
class Key:
    """A secret with its name and scope. Its repr doesn't show the bytes."""

    name: str
    secret: bytes = field(repr=False)
    scope: Scope = EVERYTHING
    keyed: hmac.HMAC = field(init=False, repr=False, compare=False)
    """HMAC-SHA256 that has been given the secret, and nothing else: a copy of it is what a body is hashed with."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "keyed", hmac.new(self.secret, digestmod="sha256"))


def default_file(data: Path) -> Path:
    return data / SECRET_NAME


def sources_of(config: Config, data: Path) -> tuple[SecretSource, ...]:
    """The configured secrets, in order; if the file names none, also the data directory's own, unless there is none.

    COVENQ_WEBHOOK_SECRET is added to either; it replaces none, since GitHub may still be signing with that.
    """
    sources = config.secrets
    if all(source.name == FROM_ENVIRONMENT for source in sources) and not is_absent(default_file(data)):
        return (*sources, SecretSource(DEFAULT_SECRET, file=default_file(data)))
    return sources


def read_secrets(config: Config, env: Mapping[str, str], data: Path) -> tuple[Key, ...]:
    """The key of each of `sources_of`.

    Raises ConfigError for one that is missing, unreadable or empty: an empty key would let anyone sign. Line ends at
    its end are not part of a secret, wherever it is: editors, `echo` and unit files put them there, and no form of GitHub's
    takes them.
    """
    return tuple(_key(source, env) for source in sources_of(config, data))


def known_secrets(config: Config, env: Mapping[str, str], data: Path) -> tuple[tuple[Key, ...], list[str]]:
    """As `read_secrets`, but without those that can't be read, and with the reasons; always with the data directory's own.

    For verifying what was signed earlier: a variable that only the daemon's environment has must not prevent that.
    """
    sources = [*config.secrets]
    own = default_file(data)
    if not is_absent(own) and not any((one.name, one.file) == (DEFAULT_SECRET, own) for one in sources):
        sources.append(SecretSource(DEFAULT_SECRET, file=own))
    return readable(sources, env)


def readable(sources: Sequence[SecretSource], env: Mapping[str, str]) -> tuple[tuple[Key, ...], list[str]]:
    """The keys that this process can read, and why it can't read the others."""
    found, problems = [], []
    for source in sources:
        try:
            found.append(_key(source, env))
        except ConfigError as error:
            problems.append(str(error))
    return tuple(found), problems


def secret_status(config: Config, env: Mapping[str, str], data: Path) -> list[SecretStatus]:
    """Each of `sources_of`, and what prevents this process from reading it, if anything does."""
    return [(source, problem(source, env)) for source in sources_of(config, data)]


def warnings(keys: Sequence[Key]) -> list[SecretWarning]:
    """One for each secret that is allowed but weak, or likely not what GitHub has."""
    found = [
        f"webhook secret {key.name!r} is short: {len(key.secret)} bytes, where {SAFE_BYTES} and more are safe"
        for key in keys
        if len(key.secret) < SAFE_BYTES
    ]
    for index, key in enumerate(keys):
        for other in keys[:index]:
            if other.secret == key.secret:
                found.append(f"webhook secrets {other.name!r} and {key.name!r} are the same")
    enclosed = ((key.name, _enclosure(key.secret)) for key in keys)
    counting = [f"webhook secret {name!r} {what}, which counts as part of it" for name, what in enclosed if what]
    return [
        *(SecretWarning(words, counts=False) for words in found),
        *(SecretWarning(words, counts=True) for words in counting),
    ]


def _enclosure(secret: bytes) -> str | None:
    """What is around a secret that is likely no part of what GitHub has, in words that don't show it.

    It is kept as it is, since it may be meant; but GitHub's signatures are wrong if GitHub has the secret without it.
    """
    if secret.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "is UTF-16 with a byte order mark"
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return None
    if text.startswith(_BOM):
        return "begins with a byte order mark"
    if _is_blank(text[:1]):
        return "begins with a blank"
    if _is_blank(text[-1:]):
        return "ends with a blank"
    return "is in quotes" if len(text) > 1 and text[0] + text[-1] in _QUOTES else None


def _is_blank(text: str) -> bool:
    return text.isspace() or text in _INVISIBLE


def _key(source: SecretSource, env: Mapping[str, str]) -> Key:
    return Key(source.name, read_value(source, env), source.scope)


WEBHOOK_SECRET = ("webhook secret", "Put the secret there, or correct [github] webhook_secrets.")
API_SECRET = ("secret for GitHub's API", "Put it there, or correct [github.app] or [[github.hook]].")
"""What a source is of, for the error, and what to do where it can't be read."""


def read_value(source: SecretSource, env: Mapping[str, str], of: tuple[str, str] = WEBHOOK_SECRET) -> bytes:
    """The bytes that a source has, without line ends at their end. Raises ConfigError, which never quotes them."""
    path = source.path(env)
    if source.credential is not None and path is None:
        raise _error(
            of, source, f"credential {source.credential}: systemd gave no credentials ({CREDENTIALS} is not set)"
        )
    if path is not None:
        where = f"credential {source.credential}" if source.credential is not None else f"file {path}"
        try:
            secret, _ = regular_file.read(path, SECRET_MAX + 1)
        except OSError as error:
            raise _error(of, source, f"{where} can't be read: {error.strerror}") from None
        if len(secret) > SECRET_MAX:
            raise _error(of, source, f"{where} is too long for a secret")
    elif source.env is not None:
        where = f"environment variable {source.env}"
        if source.env not in env:
            raise _error(of, source, f"{where} is not set")
        secret = os.fsencode(env[source.env])
    else:
        where = "value"
        secret = (source.value or "").encode()
    secret = secret.rstrip(LINE_ENDS.encode())
    if not secret:
        raise _error(of, source, f"{where} is empty")
    return secret


def _error(of: tuple[str, str], source: SecretSource, problem: str) -> ConfigError:
    what, hint = of
    return ConfigError(f"{what} {source.name!r}: {problem}", hint=hint)
