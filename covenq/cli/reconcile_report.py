"""What `covenq reconcile` prints: a row for each delivery that GitHub lists and the journal doesn't hold, and sums in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from covenq.cli import output
from covenq.cli.output import clean, say
from covenq.cli.table import Column, print_table
from covenq.model import at_text
from covenq.reconcile.compare import Comparison
from covenq.reconcile.result import LogSummary, Row, state_words

WORDS = {
    "missing": "missing",
    "before_us": "sent before covenq was there: `--since 3d` takes them too",
    "on_its_way": "of the last minutes, and perhaps on their way",
    "erased": "of what was erased here, and never fetched",
    "not_wanted": "that no route can match, and not fetched: [reconcile] fetch says so",
    "redelivered": "sent again by GitHub, which was asked to",
    "fetched": "fetched, and routed as if they had come",
    "waiting": "fetched and held back: `covenq reroute state:received reason:held` routes them",
    "held": "in the journal already",
    "unrecoverable": "can't be recovered",
    "refused": "refused",
    "open": "not fetched yet: run it again",
}
"""Each state of a row, in words, in the order in which they are counted."""
REASONS_MAX = 20


def say_compared(summary: LogSummary, comparison: Comparison, since: float) -> None:
    """What a log was compared to."""
    attempts = output.count(summary.listed, "attempt")
    say(
        f"{clean(summary.log)}: {attempts} listed since {at_text(since)[:19]}Z, {summary.held:,} of deliveries in the journal"
        f" ({output.count(summary.requests, 'request')})."
    )
    if summary.unreadable:
        say(f"{output.count(summary.unreadable, 'item')} of the list can't be read, and were passed over.")
    if comparison.hook is None and summary.listed:
        say(
            "GitHub said of none which hook it came from, so none is known here; what is fetched is recognised by itself."
        )


class ExpectedHolds(NamedTuple):
    """How many of those that are missing will not be routed when they are fetched, and how many perhaps."""

    surely: int
    perhaps: int


def say_held_back(held_back: ExpectedHolds) -> None:
    if held_back.surely:
        say(
            f"{held_back.surely:,} of those will be held back: GitHub sent them before this journal was restored, or too"
            " long ago."
        )
    if held_back.perhaps:
        say(f"{held_back.perhaps:,} of those may be held back: they are too old for some route that may want them.")


def say_plan(rows: Sequence[Row], now: float, *, skipped: bool) -> None:
    """What would be fetched, by event and by what covenq answered when GitHub sent it, and, if `skipped`, what not, by reason.

    It serves the decision whether to fetch, and route, all of it. `now` is in seconds since 1970.
    """
    from covenq.operate.act.plan_text import GROUPS_SHOWN, group_lines

    missing = [row for row in rows if row.state == "missing"]
    groups: dict[tuple[str, str], tuple[int, str]] = {}
    for row in missing:
        key = (_event(row), f"answered {row.status_code}" if row.status_code else "no answer")
        number, first_at = groups.get(key, (0, row.first_at))
        groups[key] = (number + 1, min(first_at, row.first_at))
    if missing:
        oldest = output.elapsed(min(row.first_at for row in missing), now)
        say(f"eligible  {output.count(len(missing), 'delivery', 'deliveries')}; the oldest was first sent {oldest} ago")
    largest = sorted(groups.items(), key=lambda one: (-one[1][0], one[0]))
    lines = [(number, event, answer, first_at) for (event, answer), (number, first_at) in largest]
    for words in group_lines(lines, GROUPS_SHOWN, now, clean):
        say(words)
    others = Counter(row.state for row in rows if skipped and row.state != "missing")
    for state, number in others.most_common():
        say(f"skipped {number:,}: {WORDS[state]}")


def report(rows: Sequence[Row], logs: Sequence[LogSummary], json: bool, again: str, held_back: ExpectedHolds) -> None:
    """The rows on stdout, and how many stand how on stderr.

    `again` is the command that fetches what is missing, and `held_back` says how many of those it would not route.
    """
    if json:
        output.emit_page(rows, next=None, logs=list(logs))
    else:
        print_table(COLUMNS, rows)
    counted = Counter(row.state for row in rows)
    for state, words in WORDS.items():
        if counted[state]:
            next = f": `{again}` fetches what GitHub still has of it" if state == "missing" else ""
            say(f"{output.count(counted[state], 'delivery', 'deliveries')} {words}{next}.")
    if counted["missing"]:
        say_held_back(held_back)
    unverified = sum(row.verified is False for row in rows)
    if unverified:
        say(f"{unverified:,} of those unverified: no secret here signed them in any way to write their JSON.")
    reasons = Counter(row.reason for row in rows if row.reason is not None)
    for reason, number in reasons.most_common(REASONS_MAX):
        say(f"  {number:,}: {clean(reason)}")
    if not rows and not any(one.error for one in logs):
        say("Nothing is missing.")


def _event(row: Row) -> str:
    return f"{row.event}.{row.action}" if row.action else row.event


COLUMNS: list[Column[Row]] = [
    Column("FIRST SENT", lambda row: f"{row.first_at[:19]}Z"),
    Column("EVENT", _event, shrink=12, rank=1),
    Column("REPO ID", lambda row: row.repo_id, right=True, rank=3),
    Column("ATTEMPTS", lambda row: row.attempts, right=True, rank=5),
    Column("ANSWER", lambda row: row.status_code or "none", right=True, rank=4),
    Column("GUID", lambda row: row.guid, rank=2),
    Column("STATE", lambda row: state_words(row.state)),
]
