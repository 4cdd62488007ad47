"""`covenq audit`: what senders, operators, tokens and the system did, in one stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.filter_words import filter_argument
from covenq.cli.followed import Followed
from covenq.cli.options import (
    LIMIT_MAX,
    ConfigOption,
    DataOption,
    Json,
    Jsonl,
    TokenFileOption,
    UrlOption,
    one_of,
)
from covenq.cli.output import clean, say
from covenq.cli.table import Column, print_table
from covenq.errors import UsageError
from covenq.model.short_ids import GUID_SHORT
from covenq.text import shorten_middle

if TYPE_CHECKING:
    from covenq.client.interface import Source
    from covenq.model.audit import AuditLine

NEWEST = 50
"""Lines printed without --limit, --after, and a beginning in the filter."""
PAGE = 1000
POLL_S = 1.0
"""Seconds between two looks at what is followed: the logs beside the journal can't be waited for."""

WhoOption = Annotated[
    str | None,
    typer.Option(
        "--who",
        metavar="WHO",
        help="Whose doing: sender, operator, token or system, or one with a name, token:deploy; a,b is either.",
        autocompletion=one_of("operator", "sender", "system", "token"),
    ),
]


def _complete_what(incomplete: str) -> list[str]:
    from typing import get_args

    from covenq.model.audit import What

    *before, last = incomplete.split(",")
    return [",".join([*before, word]) for word in get_args(What) if word.startswith(last)]


WhatOption = Annotated[
    str | None,
    typer.Option(
        "--what",
        metavar="WORD",
        help="What was done: requeued, refused, …; a,b is either.",
        autocompletion=_complete_what,
    ),
]
Most = Annotated[
    int | None,
    typer.Option(
        "--limit",
        min=0,
        max=LIMIT_MAX,
        metavar="N",
        help="The newest so many, or with --after the next; 0 is all. Without it 50, and with a beginning all.",
    ),
]


def audit(
    words: Annotated[list[str] | None, filter_argument("-f")] = None,
    who: WhoOption = None,
    what: WhatOption = None,
    limit: Most = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="CURSOR", help="Go on after this `next` of an earlier answer.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as more is done, until Ctrl-C. Also -f.")] = False,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Tell who did what: senders, operators, tokens and the system.

    From the journal, and the logs of requests that were refused, and that tokens were used for; oldest first. The arguments are a
    filter: time is when it was done, and all else is of the delivery or the task as it is now.

    \b
      covenq audit since:1d --who operator,token
      covenq audit --what refused,conflicted
      covenq audit installation:42 since:2026-11-01 before:2026-12-01 --jsonl
    """
    filter = [word for word in words or [] if word != "-f"]  # as a short option it would be found in every `-owner:foo`
    follow = follow or "-f" in (words or [])
    if follow and json and not output.is_json_lines():
        raise UsageError("--json is one document, and what is followed has no end", hint="Use --jsonl.")
    if limit is None and not (after is not None or _has_beginning(filter)):
        limit = NEWEST
    stream = AuditStream(filter, follow, who, what, after, limit or 0, data, config)
    lines = stream.lines()
    if json and not output.is_json_lines():
        output.emit_items(lines, lambda: stream.position)
    elif json:
        for line in lines:
            output.emit_jsonl([line])
            output.flush()
    elif follow:
        for line in lines:
            output.prose(_text_of(line), HANG)
            output.flush()
    elif not print_table(COLUMNS, lines):
        say("Nothing that matches was done.")
    if not stream.whole:
        say("So many match only further back than was looked: since:1d, or another beginning, looks from there.")


def _has_beginning(filter: list[str]) -> bool:
    """Whether the filter says since when. A word that can't be read is told of by who reads all of it."""
    return any(word.startswith(("since:", "age<")) for word in filter)


class AuditStream(Followed["AuditLine"]):
    """What was done; `position` is the cursor behind the last of it."""

    def __init__(
        self,
        filter: list[str],
        follow: bool,
        who: str | None,
        what: str | None,
        after: str | None,
        limit: int,
        data: str | None,
        config: str | None,
    ) -> None:
        super().__init__(follow, data, config)
        self.position = after
        self.whole = True
        self._filter = filter
        self._who = who
        self._what = what
        self._left = limit if after is not None and limit else None
        """How many are still to come of those after the cursor; None: all."""
        self._newest = limit if after is None and limit else None
        self._waited = True

    def lines(self) -> Iterator[AuditLine]:
        """One by one. More of the newest than an answer has are those at the end of all."""
        every = chain.from_iterable(self)
        if self._newest is None or self._newest <= PAGE:
            return every
        number, self._newest = self._newest, None
        if self.follow:
            raise UsageError(
                f"the newest {number:,} can't be followed", hint=f"--limit {PAGE}, or a beginning: since:1d."
            )
        return iter(deque(every, maxlen=number))

    def _ask(self, opened: Source) -> tuple[list[AuditLine], bool]:
        if not self._waited:
            output.pause(POLL_S)
        limit = PAGE if self._left is None else min(self._left, PAGE)
        found = opened.audit(
            self._filter, who=self._who, what=self._what, after=self.position, newest=self._newest, limit=limit
        )
        self.position, self._newest = found.next, None
        self.whole = self.whole and found.whole
        self._waited = found.more or not self.follow
        if self._left is not None:
            self._left -= len(found.items)
            if self._left <= 0:
                self.follow = False
                return found.items, True
        return found.items, not found.more


# ---- in words

HANG = 22
"""Columns by which later lines are indented: only times stand where a line begins."""


def _who_text(one: AuditLine) -> str:
    name = clean(one.who.name)
    said = f" ({clean(one.who.claimed)})" if one.who.claimed else ""
    return f"{one.who.kind} {name}{said}".rstrip()


def _on_text(one: AuditLine) -> str:
    return clean(one.on.id or one.on.kind)


def _about_text(one: AuditLine) -> str:
    event = f"{one.event}.{one.action}" if one.event and one.action else one.event
    repo = one.repo if one.repo is None or one.number is None else f"{one.repo}#{one.number}"
    return clean("  ".join(part for part in (event, repo, one.route and f"route {one.route}") if part))


def _reason_text(one: AuditLine) -> str:
    count = f"×{one.count:,}" if one.count is not None and one.count != 1 else None
    status = None if one.status is None else str(one.status)
    return clean("  ".join(part for part in (status, one.reason, count) if part))


def _text_of(one: AuditLine) -> str:
    parts = (_who_text(one), one.what, _on_text(one), _about_text(one), _reason_text(one))
    return f"{output.timestamp(one.at)}  {'  '.join(part for part in parts if part)}"


COLUMNS: list[Column[AuditLine]] = [
    Column("UTC", lambda one: output.timestamp(one.at).removesuffix("Z")),
    Column("WHO", _who_text, shrink=12, cut=shorten_middle),
    Column("WHAT", lambda one: one.what),
    Column("ON", _on_text, shrink=GUID_SHORT, cut=shorten_middle),
    Column("ABOUT", _about_text, shrink=12, rank=2, cut=shorten_middle),
    Column("SEQ", lambda one: one.seq, right=True, rank=3),
    Column("REASON", _reason_text, shrink=16, rank=1),
]
