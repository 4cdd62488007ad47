"""What answers on the listener of [api] where there are pages: those at /page, and the API for all else.

The pages' application, and the templates' engine with it, is made at the first request for one: a daemon whose pages nobody reads
starts as fast, and is as small, as one without them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from covenq.config.api_tokens import Tokens
from covenq.config.page import PageSettings
from covenq.http.app import ApiRoutes
from covenq.intake.refusal_log import Refusals


class WithPages:
    """A WSGI application. From any thread."""

    def __init__(self, api: WSGIApplication, make: Callable[[], WSGIApplication]) -> None:
        self._api = api
        self._make = make
        self._lock = threading.Lock()
        self._pages: WSGIApplication | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not _is_page(environ):
            return self._api(environ, start_response)
        with self._lock:
            if self._pages is None:
                self._pages = self._make()
        return self._pages(environ, start_response)


def _is_page(environ: WSGIEnvironment) -> bool:
    path = environ.get("PATH_INFO", "")
    return (
        path == "/page" or path.startswith("/page/") or (path == "/" and environ["REQUEST_METHOD"] in ("GET", "HEAD"))
    )


def with_pages(
    api: WSGIApplication, routes: ApiRoutes, tokens: Tokens, settings: PageSettings, refusals: Refusals
) -> WithPages:
    """The pages beside an API, read from what that is read from."""

    def make() -> WSGIApplication:
        from covenq.http.page.application import make_page_app
        from covenq.http.page.sources import PageSources

        sources = PageSources(
            routes.data,
            routes.journal,
            routes.state,
            routes.config,
            routes.status,
            routes.logs,
            settings.payloads,
            routes.clock,
        )
        return make_page_app(sources, tokens, settings, refusals, routes.reads)

    return WithPages(api, make)
