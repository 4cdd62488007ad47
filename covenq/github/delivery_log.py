"""GitHub's delivery log: the attempts that `GET …/hook/deliveries` lists, and where its next page is.

Every attempt to deliver is an item of its own; those of one event have one GUID. Ids are whole numbers of up to 63 bits, which
other programs round: here they are texts. They have jumped before, so attempts are ordered by their time.

Values in, values out. What GitHub answers is checked and bounded before it is passed on; an item that isn't as documented is
counted and passed over, so that one odd item can't hide all others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

import msgspec
from msgspec import Struct

from covenq.errors import GithubAnswerUnreadable
from covenq.filter.tree import DIGITS_MAX
from covenq.github.columns import ACTION_MAX
from covenq.github.request import EVENT_NAME
from covenq.model import TOKEN

PER_PAGE = 100
"""Attempts in a page; GitHub's maximum."""
PAGE_BYTES_MAX = 4 << 20
"""Bytes of a page: a hundred attempts take about 40 KB."""
CURSOR_MAX = 512

_ID_MAX = 2**63 - 1
_TIME_END = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
"""What a record can't write again as it was read would be another hour's each time, and never settled."""
_LINK = re.compile(r"<([^<>\s]{1,4096})>((?:\s*;\s*[a-zA-Z]+=(?:\"[^\"]{0,256}\"|[^\s;,\"]{1,256}))*)")
_REL = re.compile(r";\s*rel=(?:\"([^\"]*)\"|([^\s;,\"]+))")
_CURSOR = re.compile(r"[!-~]+\Z")


class Attempt(Struct, frozen=True):
    """An attempt of GitHub's to deliver. `at` is its time in seconds since 1970; `status_code` 0: nothing answered."""

    id: str
    guid: str
    at: float
    redelivery: bool
    status_code: int
    event: str
    action: str | None = None
    installation: int | None = None
    repo_id: int | None = None
    throttled: bool = False

    @property
    def order(self) -> tuple[float, int]:
        return self.at, int(self.id)

    @property
    def accepted(self) -> bool:
        """Whether GitHub lists it as delivered."""
        return 200 <= self.status_code < 300


@dataclass(frozen=True, slots=True)
class LogPage:
    """A page of the log, newest first. `next` is the cursor of the next one; `unreadable` counts items not as documented."""

    attempts: tuple[Attempt, ...]
    next: str | None = None
    unreadable: int = 0


class _Item(Struct):
    """An item as GitHub documents it."""

    id: int
    guid: str
    delivered_at: str
    redelivery: bool
    status_code: int
    event: str
    action: str | None = None
    installation_id: int | None = None
    repository_id: int | None = None
    throttled_at: str | None = None


_Items = list[msgspec.Raw]


def parse_page(body: bytes, link: str | None) -> LogPage:
    """A page from its body and its `link` header. Raises GithubAnswerUnreadable for what is no list."""
    attempts = [_attempt(item) for item in _items(body)]
    read = tuple(one for one in attempts if one is not None)
    return LogPage(read, next_cursor(link), len(attempts) - len(read))


def _items(body: bytes) -> Sequence[msgspec.Raw | bytes]:
    """The items as JSON texts. Half a surrogate pair, which the strict reader takes for no JSON, becomes a `?` in its own."""
    try:
        return msgspec.json.decode(body, type=_Items)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        items = json.loads(body)
    except (ValueError, RecursionError):
        items = None
    if not isinstance(items, list):
        raise GithubAnswerUnreadable("GitHub's answer is no list of deliveries")
    return [json.dumps(item, ensure_ascii=False).encode("utf-8", "replace") for item in items]


def _attempt(raw: msgspec.Raw | bytes) -> Attempt | None:
    """The attempt; None for what isn't as documented, or couldn't be recorded."""
    try:
        item = msgspec.json.decode(raw, type=_Item)
        moment = datetime.fromisoformat(item.delivered_at)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None
    if not (
        moment.tzinfo is not None
        and 0.0 <= moment.timestamp() < _TIME_END
        and 0 < item.id <= _ID_MAX
        and 0 <= item.status_code < 1000
        and TOKEN.match(item.guid)
        and EVENT_NAME.match(item.event)
    ):
        return None
    # What no filter can ask for counts as not said, and is no loss. An action may be its sender's own words: repository_dispatch.
    numbers = (_number(item.installation_id), _number(item.repository_id))
    action = item.action if item.action is not None and len(item.action) <= ACTION_MAX else None
    return Attempt(
        str(item.id), item.guid, moment.timestamp(), item.redelivery, item.status_code, item.event, action, *numbers,
        item.throttled_at is not None,
    )  # fmt: skip


def _number(value: int | None) -> int | None:
    return value if value is not None and 0 <= value < 10**DIGITS_MAX else None


def next_cursor(link: str | None) -> str | None:
    """The `cursor` of the `link` header's next page, as that parameter alone: the address it stands in is never asked."""
    for found in _LINK.finditer(link or ""):
        rel = _REL.search(found[2])
        if rel is None or "next" not in (rel[1] or rel[2] or "").split():
            continue
        try:
            query = parse_qsl(urlsplit(found[1]).query, max_num_fields=32)
        except ValueError:
            return None
        for name, value in query:
            if name == "cursor" and len(value) <= CURSOR_MAX and _CURSOR.match(value):
                return value
    return None
