"""GitHub's webhook signature: HMAC-SHA256 over the raw body, made and verified in constant time.

The rule is GitHub's ("Validating webhook deliveries"): the header X-Hub-Signature-256 is `sha256=` and the digest in hex.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence

from covenq.config.secret_keys import Key

_SIGNATURE = re.compile(r"sha256=([0-9a-fA-F]{64})\Z")
_HEADER = "X-Hub-Signature-256"
_SHA1_HEADER = "X-Hub-Signature"
_MAC_PIECE = 2047
"""Bytes that hashlib hashes without giving up the interpreter's lock."""
_MAC_AT_ONCE = 64 << 10
"""Bytes of a body above which it is hashed in one call."""


def sign(secret: bytes, body: bytes) -> str:
    """The value of `X-Hub-Signature-256` for these bytes: `sha256=` and 64 hex digits."""
    return "sha256=" + hmac.digest(secret, body, "sha256").hex()


def sign_anew(headers: Sequence[tuple[str, str]], secret: bytes, body: bytes) -> list[tuple[str, str]]:
    """The headers with the signatures that GitHub would make with this secret: by SHA-256, and by SHA-1 where they have one."""
    sha1 = any(name.lower() == _SHA1_HEADER.lower() for name, _ in headers)
    kept = [(name, value) for name, value in headers if name.lower() not in (_HEADER.lower(), _SHA1_HEADER.lower())]
    if sha1:
        kept.append((_SHA1_HEADER, "sha1=" + hmac.digest(secret, body, "sha1").hex()))
    return [*kept, (_HEADER, sign(secret, body))]


def is_signature(header: str | None) -> bool:
    """Whether it has the form of a signature, so that some bytes could fit it."""
    return header is not None and _SIGNATURE.match(header) is not None


def verifiers(keys: Sequence[Key], body: bytes, header: str | None) -> list[Key]:
    """The keys that signed `body`, in their order: more than one only where secrets are the same.

    Every key is tried, also after one that fits, and each comparison takes constant time. So the duration reveals neither
    which secret was right nor how much of a signature was.
    """
    found = _SIGNATURE.match(header) if header else None
    if found is None:
        return []
    claimed = bytes.fromhex(found[1])
    return [key for key in keys if hmac.compare_digest(_mac(key, body), claimed)]


def _mac(key: Key, body: bytes) -> bytes:
    """HMAC-SHA256; smaller bodies in pieces so short that hashlib keeps the interpreter's lock (see `journal.format.codec`)."""
    if len(body) > _MAC_AT_ONCE:
        return hmac.digest(key.secret, body, "sha256")
    view = memoryview(body)
    state = key.keyed.copy()
    for start in range(0, len(body), _MAC_PIECE):
        state.update(view[start : start + _MAC_PIECE])
    return state.digest()


def verify(keys: Sequence[Key], body: bytes, header: str | None) -> str | None:
    """The name of the first of `verifiers`, or None."""
    signers = verifiers(keys, body, header)
    return signers[0].name if signers else None
