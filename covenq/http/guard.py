"""Authorisation: a request's bearer token against `openapi.operations.OPERATIONS`: its role, and whether a scope suffices.

What was asked with a token is noted (`covenq.intake.read_log`), and query parameters are checked here, too.

On the Unix socket there are no tokens: its permissions are the authorisation. What is refused here reaches no
resource, and no token is ever logged, only the path without its query, and the name of a known token.
"""

from __future__ import annotations

from difflib import get_close_matches

import falcon

from covenq.config.api_tokens import Role, Token, Tokens
from covenq.errors import UsageError
from covenq.http.answers import error_body, respond
from covenq.http.openapi.operation import Operation
from covenq.http.openapi.operations import OPERATIONS
from covenq.intake.read_log import ReadLog
from covenq.intake.refusal_log import Refusals
from covenq.model.token_scope import Scope

LEAKED = frozenset({"access_token", "token", "bearer"})
"""Parameters by which tokens are often sent in a query, which logs and histories keep."""
_OPEN = frozenset(one.path for one in OPERATIONS if one.access == "open" and one.method == "GET")
_BY_ROUTE = {(one.method, one.path): one for one in OPERATIONS}
_HINT = "Send `Authorization: Bearer TOKEN`; `covenq tokens new` makes one."


class Guard:
    """Falcon middleware. With `tokens` None it checks parameters only."""

    def __init__(self, refusals: Refusals, tokens: Tokens | None, reads: ReadLog) -> None:
        self._refusals = refusals
        self._tokens = tokens
        self._reads = reads

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Before the path is looked up: without a token nothing can be learnt of what there is."""
        if self._tokens is None:
            return
        if any(name.lower() in LEAKED for name in req.params):
            self._refuse(req, resp, 400, "token_in_query", "A token in a query ends up in logs.", _HINT)
            return
        if req.path in _OPEN:
            return
        presented = presented_token(req)
        if presented is None:
            self._refuse(req, resp, 401, "token_missing", "The API needs a bearer token here.", _HINT)
            return
        token = self._tokens.identify(presented)
        if token is None:
            self._refuse(req, resp, 401, "token_wrong", "The bearer token is not known, or was revoked.", _HINT)
            return
        req.context.token = token

    def process_resource(self, req: falcon.Request, resp: falcon.Response, resource: object, params: object) -> None:
        method = "GET" if req.method == "HEAD" else req.method
        operation = _BY_ROUTE.get((method, req.uri_template or ""))
        token = token_of(req)
        if token is not None and not _may(token, operation, method):
            needs = operation.access if operation is not None else "operate"
            detail = f"This needs a token of the role {needs}; {token.name!r} has {token.role}."
            hint = f"`covenq tokens new --role {needs}` makes one."
            self._refuse(req, resp, 403, "role_insufficient", detail, hint)
        elif token is not None and token.scope is not None and not _is_scoped(operation, method):
            detail = f"This is about the whole machine, and {token.name!r} is for {token.scope} alone."
            hint = "A token without --installation may: ask whoever runs this covenq."
            self._refuse(req, resp, 403, "scope_insufficient", detail, hint)
        elif operation is not None and operation.access != "open":
            _check_query(req, operation)

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool) -> None:
        token = token_of(req)
        if token is not None:
            note_read(self._reads, token, req, resp)

    def _refuse(
        self, req: falcon.Request, resp: falcon.Response, status: int, word: str, detail: str, hint: str
    ) -> None:
        self._refusals.note(word, status, detail, path=req.path, client=req.remote_addr)
        respond(resp, status, {**error_body(word, detail), "hint": hint})
        if status == 401:
            resp.set_header("WWW-Authenticate", 'Bearer realm="covenq"')
        resp.complete = True


def token_of(req: falcon.Request) -> Token | None:
    """The token that a request was authorised by; None where none is required."""
    token: Token | None = getattr(req.context, "token", None)
    return token


def scope_of_request(req: falcon.Request) -> Scope | None:
    """What the request may see; None is everything."""
    token = token_of(req)
    return None if token is None else token.scope


def note_read(reads: ReadLog, token: Token, req: falcon.Request, resp: falcon.Response) -> None:
    """Note that it was asked for, by the path as the application has it: what isn't one of its paths is noted as none."""
    items: int = getattr(resp.context, "shown", 0)
    reads.note(token.name, token.scope, req.method, req.uri_template, resp.status_code, items)


def presented_token(req: falcon.Request) -> str | None:
    """The bearer token that came with a request, whatever it is."""
    scheme, _, token = (req.get_header("Authorization") or "").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _may(token: Token, operation: Operation | None, method: str) -> bool:
    """A route that is missing in the table is for operators, so that it is closed rather than open."""
    if method == "OPTIONS":
        return True
    if operation is None:
        return token.role == Role.OPERATE
    if token.role == Role.WORKER and operation.workers:
        return True
    match operation.access:
        case "open":
            return True
        case "read":
            return token.role in (Role.READ, Role.OPERATE)
        case access:
            return token.role == access


def _is_scoped(operation: Operation | None, method: str) -> bool:
    """Whether it respects a scope. What says nothing of it is closed, so that a new operation shows nobody what is another's."""
    return method == "OPTIONS" or (operation is not None and operation.scoped in ("open", "filter", "one"))


def _check_query(req: falcon.Request, operation: Operation) -> None:
    """Raises UsageError for a parameter that is unknown, repeated, or has none of its allowed values.

    Ignoring it would do something else than was meant.
    """
    known = {one.name: one.schema.get("enum") for one in operation.query}
    for name, value in req.params.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"It takes {', '.join(known) or 'none'}."
            raise UsageError(f"there is no parameter {name[:40]!r} here", hint=hint)
        if isinstance(value, list):
            raise UsageError(f"the parameter {name} is there {len(value)} times", hint="Say it once.")
        values = known[name]
        if values is not None and value not in values:
            raise UsageError(f"{value[:40]!r} is no {name}", hint=f"It is one of {', '.join(values)}.")
