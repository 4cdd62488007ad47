"""The address of a remote daemon and the token for it, from options, files and the environment.

A token is in a file or in the environment. It is never an argument, which other users of the machine could read, nor part of
an address, which histories keep.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from covenq.errors import UsageError

if TYPE_CHECKING:  # here and below imported where needed: every command imports this module, and few need a URL
    from urllib.parse import SplitResult

TOKEN_FILE_MAX = 4096
NODES_MAX = 16
"""Addresses that may be given: of nodes that share a journal."""
_BETWEEN = re.compile(r",(?=\s*https?://)", re.IGNORECASE)
_TOKEN = re.compile(r"[!-~]{1,256}\Z")


@dataclass(frozen=True, slots=True)
class Remote:
    """A daemon's API at a URL. The token is not in its repr."""

    url: str
    token: str | None = field(default=None, repr=False)

    @property
    def exposed(self) -> bool:
        """Whether the token would be sent unencrypted over a network."""
        parts = parse_url(self.url)
        return self.token is not None and parts.scheme == "http" and not is_loopback(parts.hostname or "")


def parse_url(text: str) -> SplitResult:
    """The parts of a daemon's address: http or https, a host, perhaps a port and a path before /api. Raises UsageError."""
    from urllib.parse import urlsplit

    hint = "Write it as https://covenq.example.org, or http://127.0.0.1:8788."
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{text[:200]!r} is no web address: {error}", hint=hint) from None
    if parts.username is not None or parts.password is not None:
        # Not quoted, since it may hold a secret.
        raise UsageError("an address with a name or a password in it ends up in histories and logs", hint=_SUPPLY_IT)
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise UsageError(f"{text[:200]!r} is no web address", hint=hint)
    if parts.query or parts.fragment or re.search(r"[^!-~]", text):
        raise UsageError("the address of a daemon has no query, fragment or blank", hint=hint)
    return parts


_SUPPLY_IT = "Put the token into a file and name it with --token-file, or set COVENQ_TOKEN."


def remotes(urls: Sequence[str], token_file: str | None, env: Mapping[str, str]) -> tuple[Remote, ...]:
    """Each `--url`, or those of COVENQ_URL, with the token of `--token-file`, COVENQ_TOKEN_FILE or COVENQ_TOKEN.

    None without a URL. COVENQ_URL may have several with commas between them, the nodes that share a journal. Raises UsageError.
    """
    found = tuple(dict.fromkeys(one for one in (urls or _listed(env.get("COVENQ_URL", ""))) if one))
    if not found:
        if token_file is not None:
            raise UsageError("a token is for a daemon at a URL", hint="Say which with --url or COVENQ_URL.")
        return ()
    if len(found) > NODES_MAX:
        raise UsageError(f"{len(found)} addresses of daemons", hint=f"At most {NODES_MAX}: each is that of a node.")
    for url in found:
        parse_url(url)
    token = environment_token(env) if token_file is None else token_in(token_file)
    return tuple(Remote(url, token) for url in found)


def _listed(text: str) -> list[str]:
    """The addresses of a list. A comma within one is no end of it."""
    return [one.strip() for one in _BETWEEN.split(text)]


def environment_token(env: Mapping[str, str]) -> str | None:
    """The token of COVENQ_TOKEN, else of COVENQ_TOKEN_FILE; None if neither is set. Raises UsageError."""
    if token := env.get("COVENQ_TOKEN"):
        return _checked(token.strip(), "COVENQ_TOKEN")
    token_file = env.get("COVENQ_TOKEN_FILE")
    return token_in(token_file) if token_file else None


def token_in(path: str | Path) -> str:
    """The token in a file. Raises UsageError."""
    return _checked(_read(Path(path).expanduser()), str(path))


def _read(path: Path) -> str:
    from covenq import given_file

    try:
        content = given_file.read(path, TOKEN_FILE_MAX + 1)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}", hint=_SUPPLY_IT) from None
    return content.decode("latin-1").strip()


def _checked(token: str, where: str) -> str:
    """The token. Raises UsageError, which never quotes it."""
    if not _TOKEN.match(token):
        raise UsageError(
            f"there is no token in {where}", hint="A token is one line, as `covenq tokens new` printed it."
        )
    return token


def shown_address(url: str) -> str:
    """An address for people and records: scheme, host, port and path. What is before the host, or after a ?, may be secret."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def shown_origin(url: str) -> str:
    """An address for people, whose path may be what authorises, as that of a chat's webhook: scheme, host and port."""
    shown = shown_address(url)
    scheme, slashes, rest = shown.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/…" if slashes else shown


def same_address(one: str, other: str) -> bool:
    """Whether two addresses are written alike, but for the case of scheme and host and a port that is the scheme's own."""
    found = _as_compared(one)
    return found is not None and found == _as_compared(other)


def _as_compared(url: str) -> tuple[object, ...] | None:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return None
    return parts.scheme, parts.username, parts.password, parts.hostname, port, parts.path, parts.query, parts.fragment


def is_loopback(host: str) -> bool:
    """Whether the host, as an address has it, is this machine."""
    from ipaddress import ip_address

    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
