"""Logging in and out: a token is typed into a form, and never in an address, which logs and histories keep.

The form serves one decision: is this the right covenq to give it to, and what is a token here? So it names the host.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

import falcon

from covenq.config.api_tokens import Tokens
from covenq.http.page import links
from covenq.http.page.access import cookies_of, refuse, session_of, set_cookie
from covenq.http.page.attempts_limit import FAILED_MAX, AttemptsLimit
from covenq.http.page.hosts import name_of
from covenq.http.page.render import redirect, respond_page
from covenq.http.page.same_origin import is_same_origin
from covenq.http.page.sessions import Sessions, may_read
from covenq.intake.refusal_log import Refusals
from covenq.text import escape

FORM_MAX = 8192
"""Bytes of the form: a token, and the address of the page after it."""
_FIELDS_MAX = 10

log = logging.getLogger("covenq.http")


@dataclass(frozen=True, slots=True, eq=False)
class Login:
    """GET and POST /page/login; `next` is the page that it leads to."""

    tokens: Tokens
    sessions: Sessions
    refusals: Refusals
    limit: AttemptsLimit

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        onward = links.own(req.get_param("next"))
        if session_of(req) is not None:
            redirect(resp, onward)
        else:
            _form(req, resp, onward)

    on_head = on_get

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        if _is_foreign(req, resp, self.refusals):
            return
        form = _fields(req)
        onward, token = links.own(form.get("next")), form.get("token", "").strip()
        if not token:
            _form(req, resp, onward, 400, "Type a token.")
            return
        found = self.tokens.identify(token)
        if found is None or not may_read(found):
            wait_s = self.limit.wait_s(req.remote_addr)
            failed = self.limit.failed(req.remote_addr)
            if wait_s:
                resp.set_header("Retry-After", str(wait_s))
                detail = f"Too many have failed: try again in {wait_s} s."
                if failed == FAILED_MAX + 1:
                    self._refuse(req, resp, onward, 429, "login_limited", detail)
                else:
                    _form(req, resp, onward, 429, detail)
            elif found is None:
                resp.set_header("WWW-Authenticate", 'Bearer realm="covenq"')
                self._refuse(req, resp, onward, 401, "token_wrong", "The token is not known, or was revoked.")
            else:
                detail = f"These pages take tokens of the role read alone; {found.name} has {found.role}."
                self._refuse(req, resp, onward, 403, "role_insufficient", detail)
            return
        for before in cookies_of(req):
            self.sessions.end(before)
        set_cookie(req, resp, self.sessions.begin(found))
        log.info("page: %s logged in from %s", found.name, escape(req.remote_addr))
        redirect(resp, onward)

    def _refuse(
        self, req: falcon.Request, resp: falcon.Response, onward: str, status: int, word: str, detail: str
    ) -> None:
        self.refusals.note(word, status, detail, path=req.path, client=req.remote_addr)
        _form(req, resp, onward, status, detail)


@dataclass(frozen=True, slots=True, eq=False)
class Logout:
    """POST /page/logout."""

    sessions: Sessions
    refusals: Refusals

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        if _is_foreign(req, resp, self.refusals):
            return
        for ended in filter(None, map(self.sessions.end, cookies_of(req))):
            log.info("page: %s logged out", ended.token.name)
        set_cookie(req, resp, "")
        redirect(resp, links.LOGIN)


def _form(req: falcon.Request, resp: falcon.Response, onward: str, status: int = 200, problem: str = "") -> None:
    host = name_of(req.get_header("Host"))
    respond_page(resp, "login", status, session=None, onward=onward, problem=problem, host=host)


def _is_foreign(req: falcon.Request, resp: falcon.Response, refusals: Refusals) -> bool:
    """Whether another site had the browser send it; then it is refused."""
    if is_same_origin(req.get_header("Sec-Fetch-Site"), req.get_header("Origin"), req.get_header("Host")):
        return False
    hint = (
        "Open the form here, over https or as localhost, and send it from there. A proxy in front must pass Host on "
        "as it is: covenq-proxy(7)."
    )
    refuse(refusals, req, resp, 403, "form_cross_site", "The form was not sent from this page.", hint)
    return True


def _fields(req: falcon.Request) -> Mapping[str, str]:
    """The fields of a form, each as it came first. None of what is no form, or is too long."""
    raw = req.bounded_stream.read(FORM_MAX + 1)
    kind = (req.content_type or "").partition(";")[0].strip().lower()
    if len(raw) > FORM_MAX or kind != "application/x-www-form-urlencoded":
        return {}
    try:
        found = parse_qs(raw.decode("ascii"), max_num_fields=_FIELDS_MAX, errors="replace")
    except ValueError:
        return {}
    return {name: values[0] for name, values in found.items()}
