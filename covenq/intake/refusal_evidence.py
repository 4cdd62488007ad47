"""The evidence that a refused request gives, for the log of refusals: what it said it was, and known words of the rest.

The headers that name a delivery and its hook are kept as they came, also where they are malformed, since by them it is looked
for; the log masks secrets in them, and cuts them. Of other headers only known words are kept, and what may be an event's name:
what somebody put there by mistake or on purpose is not logged. No signature covers any header: all of it is only what was said.

To the signature check, a wrong secret and a rewritten body look the same. Other evidence distinguishes them: GitHub's JSON has
no space between its parts, and a proxy adds a header.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import TypedDict

from covenq.github.events import OTHER

BODY_START = 256
"""Bytes at the beginning of a body that are examined."""

_EVENT = re.compile(r"(?=.{1,40}\Z)[a-z]+(?:_[a-z]+)*\Z")
IDENTITY_MAX = 4096
"""Characters of a header with an id that are passed on. The log masks secrets in them, and cuts them further."""
_MEDIA = frozenset(
    """application/json application/x-www-form-urlencoded application/octet-stream application/xml multipart/form-data
    text/plain text/html text/xml""".split()
)
_PROXY_HEADERS = ("VIA", "FORWARDED", "X_FORWARDED_FOR", "X_FORWARDED_PROTO", "X_REAL_IP", "CF_RAY")
_REFORMATTED = re.compile(rb'\s*[{\[]\s+"|"\s*:\s+["{\[0-9tfn-]')
"""Space behind a bracket or a colon, where GitHub has none."""

Header = Callable[[str], str | None]
"""Returns a header by its name in WSGI's spelling, without HTTP_; None if it is absent."""


class Evidence(TypedDict, total=False):
    """What a refused request shows of itself; None is absent."""

    delivery: str | None
    hook: str | None
    event: str | None
    content_type: str | None
    github: bool | None
    proxied: bool | None
    body: str | None
    signature: str | None


def evidence_of(header: Header, start: bytes | None = b"") -> Evidence:
    """The evidence for the log of refusals. `start` is the beginning of the body, as far as it was read; None: nobody looked."""
    media = (header("CONTENT_TYPE") or "").partition(";")[0].strip().lower()
    return {
        "delivery": _said(header("X_GITHUB_DELIVERY")),
        "hook": _said(header("X_GITHUB_HOOK_ID") or header("X_GITHUB_HOOK_INSTALLATION_TARGET_ID")),
        "event": _event(header("X_GITHUB_EVENT")),
        "content_type": _known(_MEDIA, media),
        "github": (header("USER_AGENT") or "").startswith("GitHub-Hookshot/") or None,
        "proxied": any(header(name) is not None for name in _PROXY_HEADERS) or None,
        "body": None if start is None else body_anomaly(start[:BODY_START], media),
        "signature": _signature_kind(header),
    }


def body_anomaly(start: bytes, media: str) -> str | None:
    """What is wrong with a body that begins like this: "empty", "reformatted", "form" (in JSON's place), "json" (in a form's)."""
    if not start:
        return "empty"
    if media == "application/json":
        if start.startswith(b"payload="):
            return "form"
        return "reformatted" if _REFORMATTED.search(start) else None
    if media == "application/x-www-form-urlencoded" and start.lstrip()[:1] in (b"{", b"["):
        return "json"
    return None


def _signature_kind(header: Header) -> str | None:
    """ "sha1" where the older signature is the only one."""
    alone = header("X_HUB_SIGNATURE") is not None and header("X_HUB_SIGNATURE_256") is None
    return "sha1" if alone else None


def _event(value: str | None) -> str | None:
    """The event, one that covenq doesn't know yet too; OTHER for what is no name as GitHub gives them."""
    return OTHER if value and not _EVENT.match(value) else value or None


def _said(value: str | None) -> str | None:
    return value[:IDENTITY_MAX] if value else None


def _known(words: Collection[str], value: str | None) -> str | None:
    return value if not value or value in words else OTHER
