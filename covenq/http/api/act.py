"""POST /api/v1/<name> for each operation of `covenq.operate.operations`: what operators do.

Answered on completion. The progress of an erasure or a compaction is in /api/v1/status.
"""

from __future__ import annotations

from typing import Generic, cast

import falcon

from covenq.http.answers import respond_ok
from covenq.http.api.parameters import parameters_of
from covenq.http.guard import scope_of_request, token_of
from covenq.operate.operations import A, Context, Operation, P
from covenq.operate.scoped_context import ScopedContext
from covenq.state.folded import FoldedState


class Act(Generic[P, A]):
    """The resource of one operation: its parameters as a JSON object, its answer as one with `ok`."""

    def __init__(self, context: Context, state: FoldedState, operation: Operation[P, A]) -> None:
        self._context = context
        self._state = state
        self._operation = operation

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        parameters = parameters_of(req, self._operation)
        respond_ok(resp, self._operation.function(self._context_for(req, parameters), parameters))

    def _context_for(self, req: falcon.Request, parameters: P) -> Context:
        """What a token has it done in: under a scope, its own. Raises as `ScopedContext.check`."""
        token, scope = token_of(req), scope_of_request(req)
        if token is None or scope is None:
            return self._context
        scoped = ScopedContext(self._context, scope, token.name, lambda: self._state.reader(scope))
        scoped.check(self._operation.name, parameters)
        # `Guard` lets no operation come here that needs more of a context than there is.
        return cast(Context, scoped)
