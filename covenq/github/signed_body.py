"""The bytes that GitHub signed, rebuilt from the payload that its delivery log gives as an object, where that is possible.

GitHub's API has no bytes of a delivery, only its JSON, written anew. What it signed is compact and has the same keys in the
same order, so what may differ is which characters are escaped, and how. Each way is tried against the signature: one that fits
are the bytes, for nobody makes others that fit; where none does, nothing is claimed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from covenq.config.secret_keys import Key
from covenq.github.json_spans import compact
from covenq.github.signature import is_signature, verifiers

WRITTEN_MAX = 128 << 20
"""Bytes that are written for one payload at most, of all ways together: for one of many MiB the likely ways alone are tried."""
HASHED_MAX = 1 << 30
"""Bytes that are hashed for it at most: of all ways, under all keys."""

_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)",
    re.DOTALL,
)
_NOT_ASCII = re.compile("[^\x00-\x7f]+")
_HTML = "<>&"
_SEPARATORS = "\u2028\u2029"
_DELETE = "\x7f"
_FORMS = ((b"*._-", b"+"), (b"._~-", b"+"), (b"._~-", b"%20"), (b"!'()*._~-", b"%20"))
"""Ways to write a form: what is not escaped beside letters and digits, and how a blank is written."""


class SignedBody(NamedTuple):
    """What was signed, and the keys that signed it."""

    body: bytes
    signers: list[Key]


class _Spelling(NamedTuple):
    """What is escaped beyond what JSON must, and whether the digits of escapes are capitals."""

    ascii: bool
    """All that is not ASCII."""
    delete: bool
    """The control character at the end of ASCII, by some who escape all that is not ASCII."""
    separators: bool
    """The line and paragraph separators alone, which JavaScript once took for the ends of lines."""
    html: bool
    """What means something to HTML."""
    upper: bool


_SPELLINGS = [
    _Spelling(every, delete, separators, html, upper)
    for every, delete, separators, html in (
        (False, False, False, False),
        (False, False, True, True),
        (False, False, False, True),
        (False, False, True, False),
        (True, False, False, False),
        (True, False, False, True),
        (True, True, False, False),
        (True, True, False, True),
    )
    for upper in (True, False)
]


def rebuild(payload: bytes, signature: str | None, keys: Sequence[Key], *, form: bool) -> SignedBody | None:
    """The bytes that one of the keys signed; None where no way to write the payload fits, or the signature is none.

    `payload` is JSON as GitHub's API gave it. As with a delivery that comes, every key is tried on each body, and comparing
    takes constant time.
    """
    if not keys or not is_signature(signature):
        return None
    written = 0
    for body in bodies(payload, form=form):
        written += len(body)
        if written > WRITTEN_MAX or written * len(keys) > HASHED_MAX:
            return None
        if signers := verifiers(keys, body, signature):
            return SignedBody(body, signers)
    return None


def bodies(payload: bytes, *, form: bool) -> Iterator[bytes]:
    """The ways in which this JSON may have been written as a body, the likely ones first, each once."""
    for text in _texts(compact(payload)):
        if form:
            yield from _forms(text)
        else:
            yield text


def plain(payload: bytes) -> bytes:
    """The JSON, compact, with nothing escaped but what has to be."""
    return _escaped_least(compact(payload).decode(), upper=False).encode()


def _texts(given: bytes) -> Iterator[bytes]:
    """The ways to write compact JSON; the first is as it is given."""
    yield given
    text = given.decode()
    least = {upper: _escaped_least(text, upper=upper) for upper in (True, False)}
    lower = least[False]
    html, separators, delete = (any(one in lower for one in which) for which in (_HTML, _SEPARATORS, _DELETE))
    known = set[_Spelling]()
    for wanted in _SPELLINGS:
        one = _Spelling(
            wanted.ascii and not lower.isascii(),
            wanted.delete and delete,
            wanted.separators and separators,
            wanted.html and html,
            wanted.upper,
        )
        if least[True] == lower and not (one.ascii or one.delete or one.html):
            one = one._replace(upper=False)  # no escape has a digit that could be a capital
        if one in known:
            continue
        known.add(one)
        written = _spelled(least[one.upper], one).encode()
        if written != given:
            yield written


def _escaped_least(text: str, *, upper: bool) -> str:
    """The text with those escapes alone that JSON must have, and lone surrogates."""
    if "\\" not in text:
        return text
    known: dict[str, str] = {}

    def least(found: re.Match[str]) -> str:
        escape = found[0]
        written = known.get(escape)
        if written is None:
            written = known[escape] = _least(escape, upper)
        return written

    return _ESCAPE.sub(least, text)


def _least(escape: str, upper: bool) -> str:
    character: str = json.loads(f'"{escape}"')
    if len(character) == 1 and "\ud800" <= character <= "\udfff":
        return _unicode_escape(character, upper)
    if character < " " or character in '"\\':
        written = json.dumps(character)[1:-1]
        return _unicode_escape(character, upper) if written.startswith("\\u") else written
    return character


def _unicode_escape(character: str, upper: bool) -> str:
    return f"\\u{ord(character):04X}" if upper else f"\\u{ord(character):04x}"


def _spelled(text: str, how: _Spelling) -> str:
    """The text that is escaped least, with more of it escaped."""
    for escaped, which in ((how.html, _HTML), (how.separators, _SEPARATORS), (how.delete, _DELETE)):
        for one in which if escaped else "":
            text = text.replace(one, _unicode_escape(one, how.upper))
    if how.ascii:
        text = _NOT_ASCII.sub(_escape_upper if how.upper else _escape_lower, text)
    return text


def _escape_lower(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


def _escape_upper(found: re.Match[str]) -> str:
    return _escape_lower(found).upper().replace("\\U", "\\u")


def _forms(text: bytes) -> Iterator[bytes]:
    """The ways to write it as the field `payload` of a form, each once."""
    known = set[tuple[bytes, bytes]]()
    for safe, blank in _FORMS:
        kept = bytes(one for one in safe if one in text)
        one = kept, blank if b" " in text else b""
        if one not in known:
            known.add(one)
            escaped = re.sub(b"[^ 0-9A-Za-z" + safe + b"]+", _percent, text)
            yield b"payload=" + escaped.replace(b" ", blank)


def _percent(found: re.Match[bytes]) -> bytes:
    return b"%" + found[0].hex("%").upper().encode()
