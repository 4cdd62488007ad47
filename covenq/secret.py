"""Webhook secrets: from where the configuration says they are to the bytes that signatures are checked with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from covenq.config import Config, SecretSource
from covenq.errors import ConfigError

SECRET_MAX = 64 * 1024
"""Bytes of a secret file. More is no secret but a wrong path."""

FROM_ENVIRONMENT = "env"
DEFAULT = "default"
"""The name of the data directory's own secret, which joins when the configuration names none."""


def default_file(data: Path) -> Path:
    return data / "secret"


def read_secrets(config: Config, env: Mapping[str, str], data: Path) -> tuple[tuple[str, bytes], ...]:
    """(name, bytes) of every configured secret, in order; if the file names none, the data directory's own, if it is there.

    COVENQ_WEBHOOK_SECRET joins either; it does not silence the one that GitHub may still be signing with.

    Raises ConfigError for one that is missing, unreadable or empty: an empty key would let anyone sign. Line ends at
    the end of a file are not part of its secret.
    """
    sources = config.secrets
    if all(source.name == FROM_ENVIRONMENT for source in sources) and default_file(data).exists():
        sources = (*sources, SecretSource(DEFAULT, file=default_file(data)))
    return tuple((source.name, _read(source, env)) for source in sources)


def known_secrets(
    config: Config, env: Mapping[str, str], data: Path
) -> tuple[tuple[tuple[str, bytes], ...], list[str]]:
    """As `read_secrets`, but with those left out that can't be read, and why; and always with the data directory's own.

    For checking what was signed: a variable that only the daemon's environment has must not stop that.
    """
    sources = [*config.secrets]
    if default_file(data).exists():
        sources.append(SecretSource(DEFAULT, file=default_file(data)))
    found, problems = [], []
    for source in sources:
        try:
            found.append((source.name, _read(source, env)))
        except ConfigError as error:
            problems.append(str(error))
    return tuple(found), problems


def _read(source: SecretSource, env: Mapping[str, str]) -> bytes:
    if source.file is not None:
        where = f"file {source.file}"
        try:
            with source.file.open("rb") as file:
                secret = file.read(SECRET_MAX + 1)
        except OSError as error:
            raise _error(source, f"{where} can't be read: {error.strerror}") from None
        if len(secret) > SECRET_MAX:
            raise _error(source, f"{where} is too long for a secret")
        secret = secret.rstrip(b"\r\n")
    elif source.env is not None:
        where = f"environment variable {source.env}"
        if source.env not in env:
            raise _error(source, f"{where} is not set")
        secret = os.fsencode(env[source.env])
    else:
        where = "value"
        secret = (source.value or "").encode()
    if not secret:
        raise _error(source, f"{where} is empty")
    return secret


def _error(source: SecretSource, problem: str) -> ConfigError:
    return ConfigError(
        f"webhook secret {source.name!r}: {problem}", hint="Put the secret there, or correct [github] webhook_secrets."
    )
