"""The application of the pages: who is let in, the pages at their addresses, and errors as pages."""

from __future__ import annotations

import logging
import sqlite3

import falcon

from covenq.config.api_tokens import Tokens
from covenq.config.page import PageSettings
from covenq.errors import CovenqError, StateBehind, StateUnreadable, TookTooLong, TooMany, UsageError
from covenq.http.answers import RETRY_AFTER_S, status_of
from covenq.http.app import App, raised_in
from covenq.http.page import links, listing
from covenq.http.page.access import Access, session_of
from covenq.http.page.attempts_limit import AttemptsLimit
from covenq.http.page.login import Login, Logout
from covenq.http.page.payload import PayloadPage
from covenq.http.page.render import redirect, respond_page
from covenq.http.page.sessions import Sessions
from covenq.http.page.sources import PageSources
from covenq.http.page.status import StatusPage
from covenq.http.page.story import LookUp, StoryPage
from covenq.intake.read_log import ReadLog
from covenq.intake.refusal_log import Refusals
from covenq.state.readers import is_damage
from journal.errors import JournalError

log = logging.getLogger("covenq.http")


class Home:
    """GET /: to the first page, for who types the host alone."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        redirect(resp, links.ROOT)

    on_head = on_get


def make_page_app(
    sources: PageSources, tokens: Tokens, settings: PageSettings, refusals: Refusals, reads: ReadLog
) -> App:
    sessions = Sessions(tokens)
    app: App = falcon.App(middleware=[Access(settings, sessions, refusals, reads)])
    app.req_options.auto_parse_form_urlencoded = False
    app.req_options.keep_blank_qs_values = True
    app.req_options.strip_url_path_trailing_slash = True  # as people type it
    errors = _ErrorPages(sources)
    app.add_error_handler(Exception, errors.unexpected)
    app.add_error_handler(falcon.HTTPError, errors.http)
    app.add_error_handler(CovenqError, errors.failure)
    app.add_error_handler(JournalError, errors.failure)
    app.add_error_handler(sqlite3.DatabaseError, errors.unreadable)
    story, payload = StoryPage(sources), PayloadPage(sources)
    pages: dict[str, object] = {
        "/": Home(),
        links.ROOT: StatusPage(sources),
        links.LOGIN: Login(tokens, sessions, refusals, AttemptsLimit()),
        links.LOGOUT: Logout(sessions, refusals),
        links.DELIVERIES: listing.deliveries(sources),
        f"{links.DELIVERIES}/{{one}}": story,
        f"{links.DELIVERIES}/{{one}}/{{two}}": story,
        f"{links.DELIVERIES}/{{one}}/{{two}}/payload": payload,
        links.TASKS: listing.tasks(sources),
        links.LOOK_UP: LookUp(sources),
    }
    for path, page in pages.items():
        app.add_route(path, page)
    return app


class _ErrorPages:
    """What is raised, as a page: a sentence, and what to do."""

    def __init__(self, sources: PageSources) -> None:
        self._sources = sources

    def http(
        self, req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: dict[str, object]
    ) -> None:
        status = error.status_code
        title = {404: "There is no such page.", 405: f"{req.method[:20]} is no method of this page."}.get(
            status, "The request can not be understood."
        )
        _respond(req, resp, status, title)
        for name, value in dict(error.headers or {}).items():
            resp.set_header(name, value)

    def failure(
        self, req: falcon.Request, resp: falcon.Response, error: CovenqError | JournalError, params: dict[str, object]
    ) -> None:
        busy = isinstance(error, TookTooLong | TooMany | StateBehind | StateUnreadable)
        status = 503 if busy else status_of(type(error))
        hint = None if error.hint in (UsageError.hint, CovenqError.hint) else error.hint
        _respond(req, resp, status, f"{str(error)[:1].upper()}{str(error)[1:]}.", hint)
        if status == 503:
            resp.set_header("Retry-After", str(RETRY_AFTER_S))

    def unreadable(
        self, req: falcon.Request, resp: falcon.Response, error: sqlite3.DatabaseError, params: dict[str, object]
    ) -> None:
        if not (is_damage(error) or type(error) is sqlite3.OperationalError):
            self.unexpected(req, resp, error, params)
            return
        log.error("%s failed: state.db can't be read: %s in %s", req.path[:200], error, raised_in(error))
        self._sources.status.readers.met(error)
        self.failure(req, resp, StateUnreadable(f"state.db can't be read: {error}"), params)

    def unexpected(
        self, req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, object]
    ) -> None:
        # The type and place, not the text: an error may quote the payload.
        log.error("%s %s failed: %s in %s", req.method, req.path[:200], type(error).__name__, raised_in(error))
        _respond(req, resp, 500, "covenq failed to make this page; its log says where.")


def _respond(req: falcon.Request, resp: falcon.Response, status: int, title: str, hint: str | None = None) -> None:
    respond_page(resp, "error", status, session=session_of(req), title=title, hint=hint)
