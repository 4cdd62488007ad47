"""Authentication as a GitHub App: JSON Web Tokens, signed with its private key.

A token is good for nine minutes, GitHub's maximum being ten, and is dated a minute back, since GitHub refuses what seems to come
from its future. Its issuer is the App's client id, or its number. The clock is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from covenq.errors import ConfigError, ExtraMissing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

BACK_S = 60
"""Seconds that a token's `iat` is before the clock."""
VALID_S = 540
"""Seconds from the clock to a token's `exp`."""
RENEW_S = 120.0
"""Seconds before its end at which a token is no longer used."""


class AppAuth:
    """The Authorization header of an App's requests. Nothing here is shown in its repr, or in an error."""

    def __init__(self, issuer: str, keys: Sequence[bytes], clock: Callable[[], float]) -> None:
        """`keys` are private keys as PEM: that which GitHub takes is found by trying. Raises ConfigError, ExtraMissing."""
        self._issuer = issuer
        self._keys = [load_key(key) for key in keys]
        self._clock = clock
        self._key = 0
        self._token: tuple[float, str] | None = None

    def header(self) -> str:
        now = self._clock()
        if self._token is None or not self._token[0] <= now < self._token[0] + VALID_S - RENEW_S:
            self._token = (now, app_jwt(self._issuer, self._keys[self._key], now))
        return f"Bearer {self._token[1]}"

    def rejected(self) -> bool:
        """GitHub took the last one for no credentials: whether there is another key to try, which is then used."""
        self._token = None
        self._key += 1
        if self._key < len(self._keys):
            return True
        self._key = 0
        return False


class TokenAuth:
    """The Authorization header of a hook's requests: a token, which is all there is to try."""

    def __init__(self, token: bytes) -> None:
        """Raises ConfigError for what can be none."""
        if not token.isascii() or not all(33 <= one <= 126 for one in token):
            raise ConfigError("what should be a token of GitHub's is none", hint="A token is one line without blanks.")
        self._header = f"Bearer {token.decode('ascii')}"

    def header(self) -> str:
        return self._header

    def rejected(self) -> bool:
        return False


class NoAuth:
    """Of what GitHub tells everybody."""

    def header(self) -> str | None:
        return None

    def rejected(self) -> bool:
        return False


def load_key(pem: bytes) -> RSAPrivateKey:
    """An App's private key. Raises ConfigError, which never quotes it, and ExtraMissing."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise _missing() from None
    hint = "Generate one on the App's page on GitHub, and save it as it comes: a PEM file."
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise ConfigError("the App's private key is locked with a password", hint=hint) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError("the App's private key is no private key", hint=hint) from None
    if not isinstance(key, RSAPrivateKey):
        raise ConfigError("the App's private key is no RSA key", hint=hint)
    return key


def app_jwt(issuer: str, key: RSAPrivateKey, now: float) -> str:
    """The token as which an App asks, at `now`, seconds since 1970. Raises ExtraMissing."""
    try:
        import jwt
    except ImportError:
        raise _missing() from None
    claims = {"iat": int(now) - BACK_S, "exp": int(now) + VALID_S, "iss": issuer}
    return jwt.encode(claims, key, algorithm="RS256")


def _missing() -> ExtraMissing:
    return ExtraMissing("asking as a GitHub App needs PyJWT and cryptography, and they are not installed")
