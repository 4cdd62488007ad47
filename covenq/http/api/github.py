"""GET /api/github: tasks, usage, audit and routing as coven-github answers them, for CovenCave.

CovenCave asks for tasks every few minutes, and sends the ETag that it was given: where nothing changed since, it is answered 304
after two or three looks at the ends of indexes, and no task is read. The ETag is strong. It is made of all that an answer is made
of: the scope's newest change (`covenq.state.changed_tasks`), the journal's epoch, covenq's version, what the configuration says
that is shown, whose scope it is, and the parameters. Answers are for the caller alone, and are asked about each time.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import falcon
import orjson
from falcon import ETag

from covenq import __version__
from covenq.config.github_api import GITHUB_API
from covenq.errors import UsageError
from covenq.github.app_manifest import web_url
from covenq.http.answers import respond_error, respond_ok
from covenq.http.api.effective import EffectiveConfig
from covenq.http.api.params import integer_of, limit_of
from covenq.http.guard import scope_of_request
from covenq.operate.inspect import cave
from covenq.operate.inspect.cave import Familiars
from covenq.state import schema
from covenq.state.changed_tasks import newest_change
from covenq.state.folded import FoldedState
from covenq.state.in_scope import Scope, parameters
from covenq.state.readers import snapshot

PATH = "/api/github"

ScopeOf = Callable[[falcon.Request], Scope | None]
"""What the caller may see; None is everything."""


@dataclass(frozen=True, slots=True)
class CaveSources:
    """What the answers are made of.

    A scope is in the statements themselves, each of which is planned for it, and not in the connection: that shows everything,
    but for usage, which names repositories: one that went to another installation may have another name there.
    """

    state: FoldedState
    config: EffectiveConfig
    familiars: Callable[[], Familiars]
    """What the configuration in effect says of them: asked once for one answer."""
    scope_of: ScopeOf = scope_of_request

    def resources(self) -> Iterator[tuple[str, object]]:
        yield f"{PATH}/tasks", Tasks(self)
        yield f"{PATH}/usage", Usage(self)
        yield f"{PATH}/audit", Audit(self)
        yield f"{PATH}/routing", Routing(self)

    def web(self) -> str:
        """Where the pages are of the GitHub that deliveries come from."""
        app = self.config.config.github_logs.app
        return web_url(GITHUB_API if app is None else app.api_url)


@dataclass(eq=False)
class Tasks:
    """GET …/tasks: the newest; `limit=` (0 is the most there may be), `after=` for who pages."""

    sources: CaveSources

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        asked, before = req.get_param("limit"), integer_of(req, "after")
        limit = cave.LIMIT if asked is None else limit_of(asked)
        scope, web = self.sources.scope_of(req), self.sources.web()
        names = dict(self.sources.familiars().names())
        conn = self.sources.state.reader()
        with snapshot(conn):
            if _is_unchanged(req, resp, conn, scope, [limit, before, web, sorted(names.items())]):
                return
            found = cave.tasks(conn, scope, before, limit, names, web)
        respond_ok(resp, found)
        resp.context.shown = len(found.tasks)


@dataclass(eq=False)
class Usage:
    """GET …/usage: sums of tasks by installation, repository and familiar."""

    sources: CaveSources

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        scope = self.sources.scope_of(req)
        conn = self.sources.state.reader(scope_of_request(req))
        with snapshot(conn):
            found = cave.usage(conn, scope)
        _set_private(resp)
        respond_ok(resp, {"usage": found})
        resp.context.shown = len(found)


@dataclass(eq=False)
class Audit:
    """GET …/audit: the newest deliveries that were ignored, attempts, and pull requests."""

    sources: CaveSources

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        scope = self.sources.scope_of(req)
        conn = self.sources.state.reader()
        with snapshot(conn):
            found = cave.audit(conn, scope)
        _set_private(resp)
        respond_ok(resp, {"events": found})
        resp.context.shown = len(found)


@dataclass(eq=False)
class Routing:
    """GET …/routing: `installation_id=`; whoever may see one installation alone needn't say it."""

    sources: CaveSources

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        scope, installation = self.sources.scope_of(req), integer_of(req, "installation_id")
        if installation is None and scope is not None and len(scope.installations) == 1:
            (installation,) = scope.installations
        if installation is None:
            detail = "Say whose routing: installation_id is the installation's number."
            respond_error(resp, 400, "installation_id required", detail)
            return
        if installation == 0:
            raise UsageError("0 is no installation", hint="It is a number: `covenq deliveries --json`.")
        # What is configured of an installation names its repositories, so who may see some of them alone isn't told.
        if scope is not None and (installation not in scope.installations or scope.repositories is not None):
            respond_error(resp, 404, "not_found", f"no installation {installation}.")
            return
        _set_private(resp)
        respond_ok(resp, {"routing": self.sources.familiars().routing(installation)})


def _is_unchanged(
    req: falcon.Request, resp: falcon.Response, conn: sqlite3.Connection, scope: Scope | None, more: list[object]
) -> bool:
    """Set the headers, and answer 304 where the caller has what would be answered. `conn` is in a read transaction.

    If-None-Match compares weakly, so a tag that a proxy made weak when it compressed the answer is the same one.
    """
    position = schema.position(conn)
    made_of = [
        __version__,
        None if position is None else [position.witness.journal, position.epoch],
        list(newest_change(conn, scope)),
        None if scope is None else [parameters(scope), scope.repositories is None],
        more,
    ]
    tag = ETag(hashlib.sha256(orjson.dumps(made_of)).hexdigest()[:32])
    resp.etag = tag
    _set_private(resp)
    if not any(one == "*" or one == tag for one in req.if_none_match or ()):
        return False
    resp.status = falcon.HTTP_304
    return True


def _set_private(resp: falcon.Response) -> None:
    """Whoever keeps an answer keeps it for the one who asked, and asks again before it is used."""
    resp.cache_control = ("private", "no-cache")
