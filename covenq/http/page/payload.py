"""GET /page/deliveries/HOOK/GUID/payload: what GitHub sent, where `[api] payloads` lets it be seen.

It serves one decision: is what the sender says they sent what came? It is shown as text, indented, and never as what it may claim
to be.
"""

from __future__ import annotations

from contextlib import suppress

import falcon
import msgspec

from covenq.errors import NotFound
from covenq.http.page import links
from covenq.http.page.access import session_of
from covenq.http.page.render import respond_page
from covenq.http.page.sources import PageSources, only
from covenq.model import parse_id
from covenq.operate.inspect import view
from covenq.state import query
from covenq.text import byte_size

SHOWN_MAX = 256 << 10
"""Bytes of a payload that are shown, its first."""


class PayloadPage:
    def __init__(self, sources: PageSources) -> None:
        self._sources = sources

    def on_get(self, req: falcon.Request, resp: falcon.Response, one: str, two: str) -> None:
        only(req)
        if not self._sources.payloads:
            raise NotFound("no page shows payloads here", hint="[api] payloads in covenq.toml(5) would let it.")
        with self._sources.reading() as (conn, records):
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
    if len(content) <= SHOWN_MAX:
        with suppress(msgspec.DecodeError):
            shown = msgspec.json.format(content, indent=2)
    return shown.decode("utf-8", "replace").split("\n")
