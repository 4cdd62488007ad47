"""/api/v1/claims: the protocol of pull workers. The fencing token in a body proves that the worker holds the task."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import falcon
from msgspec.structs import asdict

from covenq.config.route import Route
from covenq.errors import CovenqError, NotFound, Refused, ScopeInsufficient, UsageError
from covenq.http.answers import item_of, respond_ok
from covenq.http.api.effective import EffectiveConfig
from covenq.http.api.params import Body, body_of
from covenq.http.guard import scope_of_request
from covenq.model import TOKEN, task_subject
from covenq.model.answers import Grants
from covenq.state.folded import FoldedState
from covenq.state.scoped import is_subject_known
from covenq.tasks.remote.claims import BATCH_MAX, Claims
from covenq.tasks.remote.client import NO_PULL_ROUTE
from covenq.tasks.remote.report_files import Outputs
from covenq.tasks.remote.reports import ClaimReports, Completed, Completion, Failure
from covenq.tasks.scheduling.outcome import OUTPUT_MAX, Usage
from journal.errors import JournalError

LEASE_S = 60
"""Seconds of a lease, if the request names none."""
_SHORTEN = f"Send the last {OUTPUT_MAX} bytes of stdout and stderr: no more are kept."


class Claim:
    """POST {"worker", "routes"?, "lease_s"?, "wait_s"?, "max"?, "node"?}: 200 with a task, and `more` of them, or 204.

    A 204 says by the header NO_PULL_ROUTE for which routes nothing will come: a mistyped name would be waited for for ever. It
    is no error, since a reload may add the route, and tasks of one that was removed may be left.
    """

    def __init__(self, claims: Claims, config: EffectiveConfig) -> None:
        self._claims = claims
        self._config = config

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = body_of(req, {"worker", "routes", "lease_s", "wait_s", "max", "node"})
        routes = body.texts("routes", "a list of names")
        node, scope = body.text("node"), scope_of_request(req)
        if node is not None and scope is not None:
            raise ScopeInsufficient("a node runs everybody's commands, and this token is for some alone")
        if node is not None:
            self._check_commands(routes)
        gone = req.env.get("waitress.client_disconnected")
        found = self._claims.claim_all(
            body.required_text("worker"),
            _lease_s(body),
            body.typed("max", int, "a whole number", 1),
            routes=routes,
            wait_s=body.seconds("wait_s") or 0,
            node=node,
            scope=scope,
            gone=gone if callable(gone) else lambda: False,
        )
        if found:
            respond_ok(resp, Grants(**asdict(found[0]), more=found[1:]))
        else:
            resp.status = falcon.HTTP_204
            # Which routes there are is the machine's business.
            missing = [] if node is not None or scope is not None else _not_pulled(self._config.config.routes, routes)
            if missing:
                resp.set_header(NO_PULL_ROUTE, ",".join(missing))

    def _check_commands(self, routes: Sequence[str] | None) -> None:
        """Raises UsageError, Refused."""
        if routes is None:
            raise UsageError("tasks of commands are claimed by the names of their routes", hint="Say them as routes.")
        if self._config.config.on_standby is None:
            raise Refused(
                "this node alone runs the commands of its routes",
                hint="[worker] on_standby = true lets nodes that stand by run them too.",
            )


def _not_pulled(configured: Sequence[Route], wanted: Sequence[str] | None) -> list[str]:
    """The wanted names that no pull route has now; `*` where all were wanted, and there is none."""
    pulled = {route.name for route in configured if route.kind == "pull"}
    if wanted is None:
        return [] if pulled else ["*"]
    return [name for name in dict.fromkeys(wanted) if name not in pulled]


class _Report:
    """A report of a worker on a task that it holds; `state` is None where no token is asked for."""

    def __init__(self, reports: ClaimReports, state: FoldedState | None) -> None:
        self._reports = reports
        self._state = state

    def _check(self, req: falcon.Request, task: str) -> None:
        """Raises NotFound for a task that isn't in the token's scope, as for one that never was.

        Before anything of the report is looked at: what a claim's fence says of it must not be told.
        """
        scope = scope_of_request(req)
        if scope is not None and self._state is not None:
            find_task(self._state.reader(scope), task)


def find_task(conn: sqlite3.Connection, task: str) -> None:
    """Raises NotFound, in the words of `ClaimReports`, where there is no such task in what `conn` shows."""
    if not (TOKEN.match(task) and is_subject_known(conn, task_subject(task))):
        raise NotFound(f"no task {task[:80]}")


class Renew(_Report):
    """POST {"fence", "lease_s"?}."""

    def on_post(self, req: falcon.Request, resp: falcon.Response, task: str) -> None:
        body = body_of(req, {"fence", "lease_s"})
        self._check(req, task)
        respond_ok(resp, self._reports.renew(task, body.required_text("fence"), _lease_s(body)))


class Phase(_Report):
    """POST {"fence", "phase", "pr"?}."""

    def on_post(self, req: falcon.Request, resp: falcon.Response, task: str) -> None:
        body = body_of(req, {"fence", "phase", "pr"})
        self._check(req, task)
        fence, phase = body.required_text("fence"), body.required_text("phase")
        respond_ok(resp, self._reports.phase(task, fence, phase, body.integer("pr")))


class Token(_Report):
    """POST {"fence"}. The answer holds what authorises, and is for nobody's cache."""

    def on_post(self, req: falcon.Request, resp: falcon.Response, task: str) -> None:
        body = body_of(req, {"fence"})
        self._check(req, task)
        respond_ok(resp, self._reports.token(task, body.required_text("fence")))
        resp.set_header("Cache-Control", "no-store")


class Complete(_Report):
    """POST {"fence", "result"?, "exit_code"?, "usage"?, "stdout"?, "stderr"?}."""

    def on_post(self, req: falcon.Request, resp: falcon.Response, task: str) -> None:
        body = body_of(req, {"fence", "result", "exit_code", "usage", "stdout", "stderr"}, shorten=_SHORTEN)
        self._check(req, task)
        answer = self._reports.complete(
            task,
            body.required_text("fence"),
            result=body.get("result"),
            exit_code=body.int32("exit_code"),
            usage=_usage(body),
            outputs=_outputs(body),
        )
        respond_ok(resp, answer)


class CompleteAll(_Report):
    """POST {"done": [{"task", "fence", "exit_code"?, "usage"?}, …]}: `items`, each answered by itself."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        given: list[object] = body_of(req, {"done"}).typed("done", list, "a list", [])
        listed = [one for one in given if isinstance(one, dict)]
        if not 1 <= len(given) <= BATCH_MAX or len(listed) < len(given):
            raise UsageError(f"done must be a list of 1 to {BATCH_MAX} objects")
        for one in listed:
            if unknown := sorted(one.keys() - {"task", "fence", "exit_code", "usage"}):
                raise UsageError(f"unknown key {unknown[0][:40]!r}")
        done = [_done(Body(one)) for one in listed]
        answers = self._in_scope(req, done)
        respond_ok(
            resp, {"items": [{"task": one.task, **item_of(said)} for one, said in zip(done, answers, strict=True)]}
        )

    def _in_scope(
        self, req: falcon.Request, done: Sequence[Completion]
    ) -> Sequence[Completed | CovenqError | JournalError]:
        """The answer to each; to one of a task that isn't in scope, that there is none."""
        scope = scope_of_request(req)
        if scope is None or self._state is None:
            return self._reports.complete_all(done)
        conn = self._state.reader(scope)
        known = [one for one in done if is_subject_known(conn, task_subject(one.task))]
        told = iter(self._reports.complete_all(known) if known else ())
        return [next(told) if one in known else NotFound(f"no task {one.task[:80]}") for one in done]


class Fail(_Report):
    """POST {"fence", "category"?, "detail"?, "retry"?, "retry_after_s"?, "signal"?}, and what `Complete` takes but the result."""

    def on_post(self, req: falcon.Request, resp: falcon.Response, task: str) -> None:
        known = {"fence", "category", "detail", "retry", "retry_after_s", "exit_code", "signal", "usage"}
        body = body_of(req, known | {"stdout", "stderr"}, shorten=_SHORTEN)
        self._check(req, task)
        answer = self._reports.fail(
            task,
            body.required_text("fence"),
            Failure(
                body.typed("category", str, "a text", "exit"),
                detail=body.text("detail"),
                retry=body.flag("retry", True),
                retry_after_s=body.seconds("retry_after_s"),
                exit_code=body.int32("exit_code"),
                signal=body.int32("signal"),
                usage=_usage(body),
                outputs=_outputs(body),
            ),
        )
        respond_ok(resp, answer)


def _lease_s(body: Body) -> float:
    seconds = body.seconds("lease_s")
    return LEASE_S if seconds is None else seconds


def _done(body: Body) -> Completion:
    return Completion(body.required_text("task"), body.required_text("fence"), body.int32("exit_code"), _usage(body))


def _outputs(body: Body) -> Outputs:
    return Outputs(body.text("stdout"), body.text("stderr"))


def _usage(body: Body) -> Usage | None:
    """The resources that an attempt used. Raises UsageError."""
    given = body.typed("usage", dict, "an object", None)
    if given is None:
        return None
    try:
        user, system, rss = float(given["user_s"]), float(given["system_s"]), int(given["max_rss"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UsageError("usage must have the numbers user_s, system_s and max_rss") from None
    if not (0 <= user <= 1e9 and 0 <= system <= 1e9 and 0 <= rss <= 1 << 60):
        raise UsageError("usage must have numbers that make sense")
    return Usage(user, system, rss)
