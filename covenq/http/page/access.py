"""Who is let in to a page: by the host that is asked for, then by the session. What is refused here reaches no page.

Refusals are noted as the API's are (`covenq refused`), under the same words where they are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address

import falcon

from covenq.config.page import PageSettings
from covenq.http.guard import LEAKED, note_read
from covenq.http.page import links
from covenq.http.page.headers import set_headers
from covenq.http.page.hosts import is_allowed, name_of
from covenq.http.page.hosts import is_loopback as is_loopback_name
from covenq.http.page.render import redirect, respond_page
from covenq.http.page.sessions import Session, Sessions
from covenq.intake.read_log import ReadLog
from covenq.intake.refusal_log import Refusals
from covenq.model.token_scope import Scope

COOKIE = "covenq_session"
COOKIES_MAX = 10
"""Cookies of that name that are looked at."""
_PAST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Access:
    """Falcon middleware."""

    settings: PageSettings
    sessions: Sessions
    refusals: Refusals
    reads: ReadLog

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool) -> None:
        session = session_of(req)
        if session is not None:
            note_read(self.reads, session.token, req, resp)

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        set_headers(resp)
        host = req.get_header("Host")
        if not is_allowed(host, self.settings.hosts):
            known = f"{name_of(host)[:100]!r}" if host else "no host"
            # Whoever pointed a name of theirs here may read this: it doesn't say which others there are.
            hint = "Add it to [api] hosts, if it is this covenq's."
            refuse(self.refusals, req, resp, 421, "host_not_allowed", f"This was asked of {known}.", hint)
        elif any(name.lower() in LEAKED for name in req.params):
            hint = "Have it revoked, and type another into the form."
            refuse(self.refusals, req, resp, 400, "token_in_query", "A token in an address ends up in logs.", hint)
        else:
            self._let_in(req, resp)

    def _let_in(self, req: falcon.Request, resp: falcon.Response) -> None:
        session = next(filter(None, map(self.sessions.find, cookies_of(req))), None)
        req.context.session = session
        if session is not None or req.path in (links.LOGIN, links.LOGOUT):
            return
        login = links.login(links.own(req.relative_uri) if req.method in ("GET", "HEAD") else links.ROOT)
        if req.get_header("Sec-Fetch-Site") == "cross-site" and req.method == "GET":
            # A browser sends a strict cookie with no link from elsewhere, a ticket say. From this page it does: if there is a
            # session, the form leads on at once.
            respond_page(resp, "onward", session=None, onward=login)
        else:
            redirect(resp, login)
        resp.complete = True


def refuse(
    refusals: Refusals, req: falcon.Request, resp: falcon.Response, status: int, word: str, detail: str, hint: str
) -> None:
    """Answer with a page that says so, and note it."""
    refusals.note(word, status, detail, path=req.path, client=req.remote_addr)
    respond_page(resp, "error", status, session=None, title=detail, hint=hint)
    resp.complete = True


def session_of(req: falcon.Request) -> Session | None:
    """By what the request was let in; None at the form, if nobody has logged in."""
    found: Session | None = getattr(req.context, "session", None)
    return found


def scope_of_page(req: falcon.Request) -> Scope | None:
    """What the session's token is for; None is everything."""
    session = session_of(req)
    assert session is not None  # `Access` lets nobody in without one
    return session.token.scope


# ---- the cookie


def is_secure(req: falcon.Request) -> bool:
    """Whether the browser is to send the cookie over TLS alone: wherever it isn't on this machine, or says it came by TLS."""
    return req.forwarded_scheme == "https" or not (
        is_loopback_name(req.get_header("Host")) and _is_loopback(req.remote_addr)
    )


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def cookies_of(req: falcon.Request) -> list[str]:
    """The session's id, as the browser has it, among others of that name.

    Whatever else is served on this host, or under its domain, can give the browser one for a longer path, which it then sends
    first: that must keep nobody out.
    """
    return (req.get_cookie_values(COOKIE) or [])[:COOKIES_MAX]


def set_cookie(req: falcon.Request, resp: falcon.Response, id: str) -> None:
    """Give the browser the id, until it is closed; the empty one takes it back."""
    resp.set_cookie(
        COOKIE,
        id,
        expires=None if id else _PAST,
        path=links.ROOT,
        secure=is_secure(req),
        http_only=True,
        same_site="Strict",
    )
