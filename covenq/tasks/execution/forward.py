"""Forwarding: a delivery is posted to a URL as it came, with the original headers and bytes (`covenq.tasks.execution.post`).

So the receiver checks GitHub's signature itself, or one that is made anew with a secret of ours, where the route says so.
The status of the answer decides; a bounded part of its body is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from covenq import __version__
from covenq.model import Category
from covenq.net.address import shown_address
from covenq.tasks.scheduling.outcome import Outcome, is_retried_status
from covenq.text import one_line

BODY_MAX = 64 * 1024
"""Bytes kept of an answer's body. The rest is not read."""

_CONNECTION_HEADERS = frozenset(
    {"host", "content-length", "connection", "transfer-encoding", "expect", "te", "upgrade"}
)
"""Headers that belong to a connection: not those of the one by which the delivery came are sent, but this one's own."""
_ADDRESS_MAX = 300
_ANSWER_MAX = 120
_TYPE_MAX = 200


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of a POST. `status` None: no answer, for the reason in `error`. `body` has at most BODY_MAX bytes."""

    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    error: str | None = None

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def receiver_failed(self) -> bool:
        """Whether the receiver itself failed, whatever it was sent: what a circuit breaker counts."""
        return self.status is None or self.status >= 500 or self.status in (408, 429)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def target_of(url: str) -> str:
    """The receiver that a URL names: scheme, host and port. There is one circuit breaker for each.

    What is no URL is its own name: the attempt that would use it fails, and nothing before.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return url
    host = parts.hostname or ""
    return f"{parts.scheme}://[{host}]:{port}" if ":" in host else f"{parts.scheme}://{host}:{port}"


def headers_for(original: Iterable[Sequence[str]], more: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers to send: the recorded ones in their order, without the connection's own, and `more`."""
    kept = [
        (str(one[0]), str(one[1]))
        for one in original
        if len(one) == 2 and str(one[0]).lower() not in _CONNECTION_HEADERS
    ]
    named = any(name.lower() == "user-agent" for name, _ in kept)
    return [*kept, *([] if named else [("User-Agent", f"covenq/{__version__}")]), *more]


def outcome_of(reply: Reply, url: str, now: float) -> Outcome:
    """The outcome of an attempt by its reply. 5xx, 408, 425, 429 and no answer may be retried; others would come again."""
    if reply.status is None:
        return Outcome(Category.HTTP, detail=f"no answer from {_shown(url)}: {reply.error}")
    if reply.ok:
        return Outcome(None, http_status=reply.status)
    again = is_retried_status(reply.status)
    detail = f"the receiver at {_shown(url)} answered {reply.status}"
    if 300 <= reply.status < 400:
        detail += "; a redirect is not followed"
    wait = retry_after(reply.header("Retry-After"), now) if again else None
    return Outcome(Category.HTTP, detail=detail, http_status=reply.status, final=not again, retry_after_s=wait)


def _shown(url: str) -> str:
    return one_line(shown_address(url), _ADDRESS_MAX)


def short_answer(reply: Reply) -> str:
    """How it went, in a few words: `HTTP 503`, or why there was no answer."""
    return f"HTTP {reply.status}" if reply.status is not None else one_line(reply.error or "no answer", _ANSWER_MAX)


def answer_of(reply: Reply) -> bytes:
    """What is kept of an answer as the attempt's output: status, content type and body, in the form of HTTP."""
    kind = reply.header("Content-Type")
    head = f"HTTP {reply.status}\n" + (f"Content-Type: {one_line(kind, _TYPE_MAX)}\n" if kind else "")
    return head.encode("utf-8", "replace") + b"\n" + reply.body


def retry_after(value: str | None, now: float) -> float | None:
    """`Retry-After` in seconds from `now`: a number, or a date. None for anything else."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdecimal() and len(text) <= 9:
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - now, 0.0)
    except (ValueError, TypeError, OverflowError):
        return None
