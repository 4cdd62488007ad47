"""GET /api/v1/why: the story of what an id means."""

from __future__ import annotations

import falcon

from covenq import inquiry, refused
from covenq.errors import UsageError
from covenq.http.answers import say
from covenq.http.parts import Parts


class Why:
    """`id=`: GUID, hook/GUID, a task's id, owner/name#number, or an issue's or pull request's address."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        asked = req.get_param("id")
        if not asked:
            raise UsageError("which one?", hint="Add ?id=GUID, a task's id, or owner/name%23number.")
        parts = self._parts
        config = parts.config
        answer = inquiry.why(
            parts.reader(),
            parts.journal,
            config.routes,
            config.sha256,
            asked,
            now=parts.clock(),
            waiting=inquiry.waiting(config),
            refused=lambda: refused.read(parts.data),
        )
        say(resp, 200, {"ok": True, **answer})
