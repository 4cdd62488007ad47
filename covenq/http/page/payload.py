"""GET /page/deliveries/HOOK/GUID/payload: what GitHub sent, where `[api] payloads` lets it be seen.

It serves one decision: is what the sender says they sent what came? It is shown as text, indented, and never as what it may claim
to be.
"""

from __future__ import annotations

import re
from contextlib import suppress

import falcon
import msgspec

from covenq.errors import NotFound
from covenq.http.page import links
from covenq.http.page.access import scope_of_page, session_of
from covenq.http.page.render import respond_page
from covenq.http.page.sources import PageSources, only
from covenq.model import parse_id
from covenq.operate.inspect import view
from covenq.state import query
from covenq.text import byte_size

SHOWN_MAX = 256 << 10
"""Bytes of a payload that are shown, its first."""
INDENT_MAX = 1 << 20
"""Spaces that indent it. One that nests so deep that it would take more is shown as it came."""

_NESTING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\Z)|[][{},]', re.DOTALL)
"""A string, whole, or what begins or ends a line of indented JSON."""


class PayloadPage:
    def __init__(self, sources: PageSources) -> None:
        self._sources = sources

    def on_get(self, req: falcon.Request, resp: falcon.Response, one: str, two: str) -> None:
        only(req)
        if not self._sources.payloads:
            raise NotFound("no page shows payloads here", hint="[api] payloads in covenq.toml(5) would let it.")
        with self._sources.reading(scope_of_page(req)) as (conn, records):
            found = query.delivery(conn, *parse_id(f"{one}/{two}"))
            content = view.decoded_body(records, found)
        shown = payload_lines(content)
        cut = len(content) > SHOWN_MAX
        respond_page(
            resp,
            "payload",
            session=session_of(req),
            id=f"{found.hook}/{found.guid}",
            story=links.delivery(found.hook, found.guid),
            lines=shown,
            size=byte_size(len(content), "MiB"),
            cut=byte_size(SHOWN_MAX, "MiB") if cut else None,
        )

    on_head = on_get


def payload_lines(content: bytes) -> list[str]:
    """As text, a line each: indented if it is short enough to be shown whole. Nothing of it is changed but the space between."""
    shown = content[:SHOWN_MAX]
    if len(content) <= SHOWN_MAX and not _is_deep(content):
        with suppress(msgspec.DecodeError, RecursionError):
            shown = msgspec.json.format(content, indent=2)
    return shown.decode("utf-8", "replace").split("\n")


def _is_deep(content: bytes) -> bool:
    """Whether indenting it takes too much: of what somebody nests with ill intent, the square of its length."""
    depth = spaces = 0
    for found in _NESTING.finditer(content):
        piece = found[0]
        if piece in (b"[", b"{"):
            depth += 1
        elif piece in (b"]", b"}"):
            depth -= 1
        spaces += 0 if piece[:1] == b'"' else 2 * depth
        if spaces > INDENT_MAX:
            return True
    return False
