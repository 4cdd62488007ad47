"""/api/v1/claims: what workers elsewhere ask and say. The fencing token in the body is what makes a word theirs."""

from __future__ import annotations

from typing import Any

import falcon

from covenq.errors import UsageError
from covenq.http.answers import say
from covenq.http.api.params import body_of, typed
from covenq.http.services import Services
from covenq.tasks.remote.claims import AT_ONCE, Claims, Done
from covenq.tasks.scheduling.outcome import Usage

LEASE_S = 60
"""Seconds of a lease that doesn't say how long."""


class Claiming:
    """POST {"worker", "routes"?, "lease_s"?, "wait_s"?, "max"?}: 200 with a task, and `more` of them, or 204."""

    def __init__(self, services: Services) -> None:
        self._claims = services.claims

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = body_of(req, {"worker", "routes", "lease_s", "wait_s", "max"})
        routes = typed(body, "routes", list, "a list of names", None)
        if routes is not None and not all(isinstance(route, str) for route in routes):
            raise UsageError("routes must be a list of names")
        gone = req.env.get("waitress.client_disconnected")
        found = self._claims.claim_all(
            _text(body, "worker"),
            _number(body, "lease_s", LEASE_S),
            typed(body, "max", int, "a whole number", 1),
            routes=routes,
            wait_s=_number(body, "wait_s", 0),
            gone=gone if callable(gone) else lambda: False,
        )
        if found:
            say(resp, 200, {"ok": True, **found[0], "more": found[1:]})
        else:
            resp.status = falcon.HTTP_204


class Renewing:
    """POST {"fence", "lease_s"?}."""

    def __init__(self, services: Services) -> None:
        self._claims = services.claims

    def on_post(self, req: falcon.Request, resp: falcon.Response, task: str) -> None:
        body = body_of(req, {"fence", "lease_s"})
        say(
            resp, 200, {"ok": True, **self._claims.renew(task, _text(body, "fence"), _number(body, "lease_s", LEASE_S))}
        )


class Phase:
    """POST {"fence", "phase"}."""

    def __init__(self, services: Services) -> None:
        self._claims = services.claims

    def on_post(self, req: falcon.Request, resp: falcon.Response, task: str) -> None:
        body = body_of(req, {"fence", "phase"})
        say(resp, 200, {"ok": True, **self._claims.phase(task, _text(body, "fence"), _text(body, "phase"))})


class Completing:
    """POST {"fence", "result"?, "exit_code"?, "usage"?}."""

    def __init__(self, services: Services) -> None:
        self._claims: Claims = services.claims

    def on_post(self, req: falcon.Request, resp: falcon.Response, task: str) -> None:
        body = body_of(req, {"fence", "result", "exit_code", "usage"})
        answer = self._claims.complete(
            task,
            _text(body, "fence"),
            result=body.get("result"),
            exit_code=_whole(body, "exit_code"),
            usage=_usage(body),
        )
        say(resp, 200, {"ok": True, **answer})


class CompletingAll:
    """POST {"done": [{"task", "fence", "exit_code"?, "usage"?}, …]}: `items`, each answered by itself."""

    def __init__(self, services: Services) -> None:
        self._claims = services.claims

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        listed = typed(body_of(req, {"done"}), "done", list, "a list", [])
        if not 1 <= len(listed) <= AT_ONCE or not all(isinstance(one, dict) for one in listed):
            raise UsageError(f"done must be a list of 1 to {AT_ONCE} objects")
        for one in listed:
            if unknown := sorted(one.keys() - {"task", "fence", "exit_code", "usage"}):
                raise UsageError(f"unknown key {unknown[0][:40]!r}")
        done = [Done(_text(one, "task"), _text(one, "fence"), _whole(one, "exit_code"), _usage(one)) for one in listed]
        say(resp, 200, {"ok": True, "items": self._claims.complete_all(done)})


class Failing:
    """POST {"fence", "category"?, "detail"?, "retry"?, "retry_after_s"?, "exit_code"?, "signal"?, "usage"?}."""

    def __init__(self, services: Services) -> None:
        self._claims = services.claims

    def on_post(self, req: falcon.Request, resp: falcon.Response, task: str) -> None:
        known = {"fence", "category", "detail", "retry", "retry_after_s", "exit_code", "signal", "usage"}
        body = body_of(req, known)
        answer = self._claims.fail(
            task,
            _text(body, "fence"),
            category=typed(body, "category", str, "a text", "exit"),
            detail=typed(body, "detail", str, "a text", None),
            retry=typed(body, "retry", bool, "true or false", True),
            retry_after_s=_number(body, "retry_after_s", None),
            exit_code=_whole(body, "exit_code"),
            signal=_whole(body, "signal"),
            usage=_usage(body),
        )
        say(resp, 200, {"ok": True, **answer})


def _text(body: dict[str, Any], key: str) -> str:
    text: str | None = typed(body, key, str, "a text", None)
    if text is None:
        raise UsageError(f"{key} is missing")
    return text


def _number(body: dict[str, Any], key: str, default: float | None) -> Any:
    """A number that is at least 0, or the default. Raises UsageError."""
    value = body.get(key)
    if value is None:
        return default
    if type(value) not in (int, float) or not 0 <= value <= 1e9:
        raise UsageError(f"{key} must be a number of seconds")
    return value


def _whole(body: dict[str, Any], key: str) -> int | None:
    value: int | None = typed(body, key, int, "a whole number", None)
    if value is not None and abs(value) > 1 << 31:
        raise UsageError(f"{key} is too large")
    return value


def _usage(body: dict[str, Any]) -> Usage | None:
    given = typed(body, "usage", dict, "an object", None)
    if given is None:
        return None
    try:
        user, system, rss = float(given["user_s"]), float(given["system_s"]), int(given["max_rss"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UsageError("usage must have the numbers user_s, system_s and max_rss") from None
    if not (0 <= user <= 1e9 and 0 <= system <= 1e9 and 0 <= rss <= 1 << 60):
        raise UsageError("usage must have numbers that make sense")
    return Usage(user, system, rss)
