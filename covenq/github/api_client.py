"""The client of GitHub's REST API: its headers, its rate limits, and when a request is made once more.

GitHub has two limits. The primary one is counted in `x-ratelimit-*`; of what those leave at the first answer covenq uses half
at most, so that others who ask with the same credentials aren't stopped by it. The secondary one is about haste: it answers 403
or 429, mostly with `retry-after`. Both are waited for where that is short, and told where it is long.

A GET is made again after 5xx, a broken-off answer or a wait. A PATCH, a POST and a DELETE are made once, since what became of
them may not be known: who asked for it says so, and decides. Anything else, and a redirect above all, is an answer or an error:
nothing that authorises goes to another host. How long is waited is passed in (`Pacing`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Protocol

from covenq.config.github_api import is_github_com
from covenq.errors import GithubLimited, GithubRefused, OutgoingFailed
from covenq.model import at_text
from covenq.net.outgoing import Answer, OutgoingClient
from covenq.text import counted

API_VERSION = "2022-11-28"
"""Sent to github.com and GHEC; an Enterprise Server may refuse one that it doesn't know."""
ERROR_BODY_MAX = 64 * 1024
TRIES = 5
WINDOW_S = 60.0
"""Seconds by which `x-ratelimit-reset` is later in a new window; within one it may differ by a second or two."""
RESET_MAX_S = 7200.0
"""Seconds ahead that `x-ratelimit-reset` may be: windows are an hour. One that is later is a proxy's or a wrong clock's, and to
believe it would end all asking until then."""
SECONDARY_S = 60.0
"""Seconds to wait where the secondary limit is met and GitHub doesn't say how long."""
_OF_HOOKS = ("/repos/", "/orgs/")
WRITE_POINTS = 5
DRIFT_S = 50.0
"""Seconds between GitHub's clock and this one from which a refused token is likely due to that."""


@dataclass(frozen=True, slots=True)
class Retry:
    """That a request is made once more, for that reason: as the try of that number, out of `tries`, after `wait_s` seconds."""

    reason: str
    number: int
    tries: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class Pacing:
    """How waiting is done: `sleep`, the longest wait that is made and not told, and the first backoff, which doubles.

    `gap_s` is the least time between the beginnings of two requests: the secondary limit is 900 points a minute, of which a read
    takes one, and a write WRITE_POINTS. Writes are `write_gap_s` apart at least. `retrying` is called before
    each wait for another try.
    """

    sleep: Callable[[float], None] = time.sleep
    wait_max_s: float = 120.0
    tries: int = TRIES
    backoff_s: float = 1.0
    gap_s: float = 0.075
    write_gap_s: float = 1.0
    retrying: Callable[[Retry], None] = lambda retry: None


PACING = Pacing()
"""What is used where nothing else is asked for."""


def no_pacing(waited: Callable[[float], None] = lambda seconds: None) -> Pacing:
    """None: towards this machine, where nobody else's requests are in the way."""
    return Pacing(sleep=waited, gap_s=0.0, write_gap_s=0.0)


def pacing_towards(client: OutgoingClient, wanted: Pacing = PACING) -> Pacing:
    """What is wanted, and towards this machine the same without waiting."""
    return replace(wanted, sleep=no_pacing().sleep, gap_s=0.0) if client.loopback else wanted


class Authorization(Protocol):
    """What authorises requests."""

    def header(self) -> str | None:
        """The Authorization header's value, now; None where there is none."""

    def rejected(self) -> bool:
        """GitHub did not take it: whether there is another to try."""


@dataclass(slots=True)
class Usage:
    """What was asked, and what GitHub said is left, of which limit. `floor` is what is left to others."""

    requests: int = 0
    spent_s: float = 0.0
    """Seconds that answers took, of all requests."""
    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None
    floor: int = field(default=0)
    wrote_at: float = 0.0
    """When the newest write began, in seconds since 1970."""

    def note(self, headers: Mapping[str, str], now: float) -> None:
        """Take what an answer says of the limit, at that time in seconds since 1970."""
        remaining, reset = _number(headers.get("x-ratelimit-remaining")), _number(headers.get("x-ratelimit-reset"))
        if remaining is None or reset is None or reset > now + RESET_MAX_S:
            return
        self.limit = _number(headers.get("x-ratelimit-limit"))
        if self.reset is None or reset > self.reset + WINDOW_S:
            self.floor = remaining // 2
        self.remaining, self.reset = remaining, float(reset)


class GithubApi:
    """Requests to one GitHub with one authorisation. Not for several threads at once."""

    def __init__(
        self,
        client: OutgoingClient,
        authorization: Authorization,
        pacing: Pacing,
        clock: Callable[[], float],
        usage: Usage | None = None,
        credentials: str = "the App's id and private key, or the hook's token,",
    ) -> None:
        """`usage` is that of clients before this one, with the same authorisation; `credentials` names it, for a person."""
        self._credentials = credentials
        self.usage = Usage() if usage is None else usage
        self.drift_s = 0.0
        """Seconds that GitHub's clock was ahead of this one at the last answer."""
        self._client = client
        self._authorization = authorization
        self._pacing = pacing
        self._clock = clock
        self._host = client.host
        self._last = 0.0
        self._points = 1
        """What the newest request took of the secondary limit."""

    def get(
        self, path: str, query: Mapping[str, str] | None = None, *, body_max: int, allowed: frozenset[int] = frozenset()
    ) -> Answer:
        """A 200, or one of the `allowed` statuses.

        Raises GithubRefused, GithubLimited where the wait would be long or half of what is left is used, and OutgoingFailed.
        """
        failures = 0
        while True:
            self._require_budget()
            wait: float | None
            try:
                answer = self._ask("GET", path, query, max(body_max, ERROR_BODY_MAX))
            except OutgoingFailed as error:
                failures += 1
                if not error.retry or failures >= self._pacing.tries:
                    raise
                self._retry(str(error), failures, self._backoff(failures))
                continue
            if answer.status == 200 or answer.status in allowed:
                return answer
            if answer.status == 401 and self._authorization.rejected():
                continue
            failures += 1
            wait = self._wait(answer, failures)
            if wait is None:
                raise self._refusal(answer, path, "read")
            if wait > self._pacing.wait_max_s or failures >= self._pacing.tries:
                raise self._gave_up(answer, wait)
            said = f"answered {answer.status}" if answer.status >= 500 else f"asks to wait ({answer.status})"
            self._retry(f"{self._host} {said}", failures, wait)

    def patch(self, path: str, body: bytes, *, body_max: int) -> Answer:
        """A 200, asked for once: `body` is JSON, and neither it nor what is answered is quoted by an error.

        Raises GithubRefused and GithubLimited where nothing was changed, OutgoingFailed where that isn't known.
        """
        return self._write("PATCH", path, body, body_max, frozenset({200}), "changed")

    def post(self, path: str, *, body_max: int, allowed: frozenset[int] = frozenset()) -> Answer:
        """A 202, or one of the `allowed` statuses, asked for once and with no body. Raises as `patch`."""
        return self._write("POST", path, None, body_max, allowed | {202}, "asked for")

    def send(
        self, method: str, path: str, body: bytes | None = None, *, body_max: int, right: frozenset[int], done: str
    ) -> Answer:
        """One of the `right` statuses, asked for once. `done` is what was asked for the path, as "deleted". Raises as `patch`."""
        return self._write(method, path, body, body_max, right, done)

    def _write(
        self, method: str, path: str, body: bytes | None, body_max: int, right: frozenset[int], done: str
    ) -> Answer:
        self._require_budget()
        while True:
            answer = self._ask(method, path, None, max(body_max, ERROR_BODY_MAX), body)
            if answer.status in right:
                return answer
            if answer.status == 401 and self._authorization.rejected():
                continue
            if answer.status >= 500:
                raise OutgoingFailed(f"{self._host} answered {answer.status}")
            wait = self._wait(answer, 1)
            if wait is not None:
                raise self._gave_up(answer, wait)
            refusal = self._refusal(answer, path, done)
            refusal.status = answer.status
            raise refusal

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _ask(
        self, method: str, path: str, query: Mapping[str, str] | None, body_max: int, body: bytes | None = None
    ) -> Answer:
        self.usage.requests += 1
        writes, now = method != "GET", self._clock()
        left = self._last + self._pacing.gap_s * self._points - now
        if writes:
            left = max(left, self.usage.wrote_at + self._pacing.write_gap_s - now)
        if 0.0 < left <= max(1.0, self._pacing.write_gap_s):  # more is a clock that was set back
            self._pacing.sleep(left)
        self._last, self._points = self._clock(), WRITE_POINTS if writes else 1
        if writes:
            self.usage.wrote_at = self._last
        headers = {"Accept": "application/vnd.github+json"}
        authorization = self._authorization.header()
        if authorization is not None:
            headers["Authorization"] = authorization
        if is_github_com(self._host):
            headers["X-GitHub-Api-Version"] = API_VERSION
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            answer = self._client.ask(method, path, query=query, headers=headers, body=body, body_max=body_max)
        finally:
            self.usage.spent_s += max(0.0, self._clock() - self._last)
        self.usage.note(answer.headers, self._clock())
        self.drift_s = _drift(answer.headers.get("date"), self._clock())
        return answer

    def _require_budget(self) -> None:
        used = self.usage
        if used.remaining is None or used.reset is None or used.reset <= self._clock():
            return
        if used.remaining <= used.floor:
            raise GithubLimited(
                f"half of what {self._host} left of requests is used; it counts anew at {at_text(used.reset)[:19]}Z",
                until=used.reset,
            )

    def _wait(self, answer: Answer, failures: int) -> float | None:
        """Seconds after which it may be asked again; None where that changes nothing."""
        if answer.status >= 500:
            return self._backoff(failures)
        if answer.status not in (403, 429):
            return None
        after = _number(answer.headers.get("retry-after"))
        if after is not None:
            return float(after)
        if answer.headers.get("x-ratelimit-remaining") == "0" and self.usage.reset is not None:
            return max(0.0, self.usage.reset - self._clock()) + 1.0
        if answer.status == 429 or b"secondary rate limit" in answer.body.lower():
            return SECONDARY_S * (1 << (failures - 1))
        return None

    def _retry(self, reason: str, failures: int, wait: float) -> None:
        """Wait before the next try."""
        self._pacing.retrying(Retry(reason, failures + 1, self._pacing.tries, wait))
        self._pacing.sleep(wait)

    def _backoff(self, failures: int) -> float:
        return self._pacing.backoff_s * (1 << (failures - 1))

    def _gave_up(self, answer: Answer, wait: float) -> GithubLimited | OutgoingFailed:
        if answer.status >= 500:
            return OutgoingFailed(f"{self._host} answered {answer.status}, {counted(self._pacing.tries, 'time')}")
        until = self._clock() + wait
        said = f"{self._host} takes no more requests until {at_text(until)[:19]}Z ({answer.status})"
        return GithubLimited(said, until=until)

    def _refusal(self, answer: Answer, path: str, done: str) -> GithubRefused:
        """`done` is what was asked for the path: "read", "changed" or "asked for"."""
        status = answer.status
        if 300 <= status < 400:
            return GithubRefused(
                f"{self._host} answered {path} with a redirect ({status}), which is never followed",
                hint="Is api_url GitHub's API itself, and the repository called by its name of today?",
            )
        if status == 401 and abs(self.drift_s) > DRIFT_S:
            return GithubRefused(
                f"{self._host} did not take the credentials, and its clock is {self.drift_s:+.0f} seconds from this one's",
                hint="Set this machine's clock, and keep it with NTP.",
            )
        if status == 401:
            return GithubRefused(
                f"{self._host} did not take the credentials (401)",
                hint=f"Are {self._credentials} still valid?",
            )
        if status in (403, 404):
            return GithubRefused(
                f"{self._host} does not let {path} be {done} ({status})",
                hint=_forbidden_hint(path),
            )
        return GithubRefused(f"{self._host} answered {path} with {status}")


def _forbidden_hint(path: str) -> str:
    """What to look at where GitHub forbids a path, or has none: by whose it is."""
    if path.startswith(_OF_HOOKS):
        return "Is the hook's id right, and may the token read and change webhooks (Webhooks: write)?"
    api = "api_url that of the API of the GitHub that the App is at?"
    return f"Does the App have a webhook, and is {api}" if path.startswith("/app/hook") else f"Is {api}"


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) <= 12 else None


def _drift(date: str | None, now: float) -> float:
    try:
        return 0.0 if date is None else parsedate_to_datetime(date).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return 0.0
