"""POST /api/v1/<name> for each operation of `covenq.operate.operations`: what operators do.

Answered on completion. The progress of an erasure or a compaction is in /api/v1/status.
"""

from __future__ import annotations

from typing import Generic

import falcon

from covenq.http.answers import respond_ok
from covenq.http.api.parameters import parameters_of
from covenq.operate.operations import A, Context, Operation, P


class Act(Generic[P, A]):
    """The resource of one operation: its parameters as a JSON object, its answer as one with `ok`."""

    def __init__(self, context: Context, operation: Operation[P, A]) -> None:
        self._context = context
        self._operation = operation

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        parameters = parameters_of(req, self._operation)
        respond_ok(resp, self._operation.function(self._context, parameters))
