"""`covenq usage` is what a count over the raw journal gives, by a program that shares no code with it; and what it answers."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from covenq.errors import FilterError, UsageError
from covenq.filter.grammar import parse
from covenq.model.usage import Usage
from covenq.operate.inspect.usage import question, usage
from covenq.state.fold import fold
from covenq.state.store import StateStore
from journal.engines import open_reader
from journal.records import Record
from tests.support import raw_usage
from tests.support.journal_json import journal_lines
from tests.support.journals.chosen import open_chosen
from tests.support.month_of_traffic import Months
from tests.support.records import START, as_records, empty_state, moved, note, of, queued, received

SEEDS = (4, 6, 8, 12)
NOW = START
"""In 2027-01."""


def ask(
    conn: sqlite3.Connection, filter: str = "", month: str | None = "all", by: str | None = None, **page: Any
) -> Usage:
    more = {"limit": 0, "after": None, **page}
    return usage(conn, question(parse(filter), month=month, by=by, now=NOW, **more))


def groups_of(found: Usage) -> dict[raw_usage.Group, dict[str, float]]:
    return {
        (str(one.month), one.installation, one.repo_id, one.familiar): {
            name: getattr(one, name) for name in (*raw_usage.NONE, "seconds")
        }
        for one in found.items
    }


def total_of(found: Usage) -> dict[str, float]:
    return {name: getattr(found.total, name) for name in (*raw_usage.NONE, "seconds")}


# ---- what must hold


@pytest.mark.files("months pass by a clock that is passed in")
def test_the_usage_of_months_is_a_count_over_the_raw_journal(tmp_path: Path) -> None:
    seen = Counter[str]()
    for seed in SEEDS:
        journal = tmp_path / f"journal{seed}"
        world = Months(seed, journal)
        try:
            world.live_through()
            world.journal.close()
            counted = raw_usage.usage(raw_usage.lines_of(journal))
            # As it was folded, in portions of any size and after crashes again from the start; and all anew.
            assert groups_of(ask(world.conn)) == counted, f"seed {seed}"
        finally:
            world.conn.close()
        with open_reader(journal) as reader, StateStore(tmp_path / f"state{seed}.db", reader) as store:
            store.catch_up()
            found = ask(store.reader())
            assert groups_of(found) == counted, f"seed {seed}"
            assert total_of(found) == raw_usage.total(counted.values())
            assert found.seq == reader.head().seq
            for month in {group[0] for group in counted}:
                only = {group: sums for group, sums in counted.items() if group[0] == month}
                found = ask(store.reader(), month=month)
                assert groups_of(found) == only and total_of(found) == raw_usage.total(only.values())
        seen.update(what_happened(world.journal.records))
    assert all(seen[what] for what in WANTED), f"no {[what for what in WANTED if not seen[what]]} in these histories"


WANTED = (
    "delivery.received", "delivery.repeated", "delivery.conflicted", "delivery.ignored", "delivery.replayed", "delivery.redacted",
    "journal.dropped", "task.queued", "task.claimed", "task.retry", "task.completed", "task.failed", "task.requeued",
    "task.cancelled", "task.superseded", "lease_lost", "import", "repeated in a later month", "an attempt over a month's end",
    "no installation", "no repository", "familiar cody",
)  # fmt: skip


def what_happened(records: Iterable[Record]) -> Iterable[str]:
    began: dict[str, str] = {}
    for record in records:
        yield record.kind
        yield str(record.data.get("category"))
        month = record.at[:7]
        if record.kind == "delivery.received":
            began[record.subject] = month
            yield str(record.data["source"])
            yield from (
                f"no {word}"
                for word, key in (("installation", "installation"), ("repository", "repo_id"))
                if record.data[key] is None
            )
        elif record.kind == "task.queued":
            yield f"familiar {record.data.get('familiar')}"
        elif record.kind == "task.claimed":
            began[record.subject] = month
        elif record.kind == "delivery.repeated" and began[record.subject] < month:
            yield "repeated in a later month"
        elif record.kind in raw_usage.ENDS and began.get(record.subject, month) < month:
            yield "an attempt over a month's end"


@pytest.mark.files("months pass by a clock that is passed in")
def test_whatever_a_salvage_lost_the_sums_are_those_of_what_is_left(tmp_path: Path) -> None:
    world = Months(1, tmp_path / "journal", steps=300)
    world.live_through()
    world.journal.close()
    world.conn.close()
    lines = [line for line in raw_usage.lines_of(tmp_path / "journal") if line.startswith(b'{"seq":')]
    assert 100 < len(world.journal.records) <= len(lines)  # the close of the journal is a record too
    for seed in range(5):
        rng = random.Random(seed)
        kept = [place for place in range(len(world.journal.records)) if rng.random() < 0.8]
        with closing(empty_state()) as conn:
            fold(conn, [world.journal.records[place] for place in kept])
            assert groups_of(ask(conn)) == raw_usage.usage(lines[place] for place in kept)


def test_the_sums_are_those_of_the_journal_whoever_keeps_it(data: Path) -> None:
    data.mkdir()
    with open_chosen(data) as journal:
        for n in range(8):
            whose = {"installation": n % 3 or None, "repo_id": 7 + n % 2}
            journal.append([received(f"g{n}", **whose), queued(f"g{n}", **whose)])
            journal.append([moved("claimed", of(f"g{n}"), attempt=1, worker="w")])
            journal.append([moved("completed" if n % 2 else "retry", of(f"g{n}"), attempt=1, category="exit")])
            journal.append([note("repeated", f"g{n}", received=1)])
        with StateStore(data / "state.db", journal) as store:
            store.catch_up()
            found = ask(store.reader())
    assert groups_of(found) == raw_usage.usage(journal_lines(data))
    assert (found.total.accepted, found.total.duplicated, found.total.retried, found.total.attempts) == (8, 8, 4, 8)


# ---- what is counted, and what isn't


def state_of(*entries: Any) -> sqlite3.Connection:
    conn = empty_state()
    fold(conn, as_records(entries))
    return conn


def test_an_attempt_counts_where_it_ends_and_not_less_than_nothing() -> None:
    records = as_records([received("a"), queued("a"), moved("claimed", of("a"), attempt=1), moved("retry", of("a"))])
    records += as_records([moved("claimed", of("a"), attempt=2), moved("failed", of("a"))], first=5)
    times = (
        "2027-01-31T23:00",
        "2027-01-31T23:00",
        "2027-01-31T23:30",
        "2027-02-01T00:30",
        "2027-03-01T00:00",
        "2027-02-28T23:59",
    )
    from msgspec.structs import replace

    with closing(empty_state()) as conn:
        fold(conn, [replace(one, at=f"{at}:00.250000Z") for one, at in zip(records, times, strict=True)])
        found = {one.month: (one.attempts, one.retried, one.failed, one.seconds) for one in ask(conn).items}
    assert found == {"2027-01": (1, 0, 0, 0.0), "2027-02": (0, 1, 1, 3600.0), "2027-03": (1, 0, 0, 0.0)}


def test_times_that_no_clock_has_break_nothing() -> None:
    records = as_records([received("a"), queued("a"), moved("claimed", of("a")), moved("completed", of("a"))])
    from msgspec.structs import replace

    with closing(empty_state()) as conn:
        fold(conn, [replace(one, at="2027-13-99T99:99:99.000000Z") for one in records])
        (one,) = ask(conn).items
        assert (one.month, one.completed, one.seconds) == ("2027-13", 1, 0.0)
    with closing(empty_state()) as conn:
        for place in range(50):
            longest = [f"{year}-01-01T00:00:00.000000Z" for year in ("0001", "0001", "0001", "9999")]
            many = as_records(
                [
                    received(f"g{place}"),
                    queued(f"g{place}"),
                    moved("claimed", of(f"g{place}")),
                    moved("completed", of(f"g{place}")),
                ],
                first=4 * place + 1,
            )
            fold(conn, [replace(one, at=at) for one, at in zip(many, longest, strict=True)])
        assert ask(conn).total.completed == 50


def test_a_repositorys_name_is_the_present_one_and_an_erased_one_is_gone_while_its_numbers_stay() -> None:
    conn = state_of(
        received("a", about={"repo": "octo/old"}), queued("a"), received("b", about={"repo": "octo/new"}), queued("b")
    )
    (one,) = ask(conn).items
    assert (one.repo_id, one.repo, one.accepted) == (6, "octo/new", 2)
    assert ask(conn, "repo:OCTO/new").total.accepted == 2
    assert ask(conn, "repo:octo/old").items == []
    redacted = [
        note("redacted", guid, received=seq, drops=[[seq, seq + 1]], about=True) for guid, seq in (("a", 1), ("b", 3))
    ]
    fold(conn, as_records(redacted, first=5))
    (one,) = ask(conn).items
    assert (one.repo_id, one.repo, one.accepted, one.tasks) == (6, None, 2, 2)
    assert ask(conn, "owner:octo").items == []
    conn.close()


# ---- what is asked


def some() -> sqlite3.Connection:
    return state_of(
        *(
            entry
            for n in range(12)
            for entry in (
                received(f"g{n}", installation=n % 3 or None, repo_id=n % 4, about={"repo": f"octo/r{n % 4}"}),
                queued(f"g{n}", installation=n % 3 or None, repo_id=n % 4),
            )
        )
    )


@pytest.mark.parametrize("by", ["month", "installation", "repository", "familiar"])
def test_summed_up_by_one_thing_nothing_is_lost(by: str) -> None:
    with closing(some()) as conn:
        whole, found = ask(conn), ask(conn, by=by)
        name = "repo_id" if by == "repository" else by
        sums: Counter[object] = Counter()
        for one in whole.items:
            sums[getattr(one, name)] += one.accepted
        assert {getattr(one, name): one.accepted for one in found.items} == sums
        assert found.total == whole.total and found.by == by
        others = {"month", "installation", "repo_id", "familiar"} - {name}
        assert all(getattr(one, other) is None for one in found.items for other in others)


def test_pages_are_all_of_it_each_group_once_with_the_total_of_all() -> None:
    with closing(some()) as conn:
        whole, items, after = ask(conn), [], None
        while True:
            page = ask(conn, limit=5, after=after)
            assert page.total == whole.total
            items += page.items
            after = page.next
            if after is None:
                break
        assert items == whole.items and len(items) == 12


@pytest.mark.parametrize(
    ("filter", "accepted"),
    [
        ("installation:1", 4),
        ("-installation:*", 4),
        ("repo_id:0,1", 6),
        ("repo:octo/r1 installation:1", 1),
        ("owner:OCTO", 12),
        ("repo:*2", 3),
    ],
)
def test_a_filter_of_what_groups_are_told_apart_by(filter: str, accepted: int) -> None:
    with closing(some()) as conn:
        found = ask(conn, filter)
        assert found.total.accepted == sum(one.accepted for one in found.items) == accepted


def test_without_a_month_it_is_the_one_of_now() -> None:
    with closing(some()) as conn:
        assert ask(conn, month=None).month == "2027-01"
        assert ask(conn, month=None).total.accepted == 12
        assert ask(conn, month="2026-12").items == []
        assert ask(conn, month="2026-12").total.accepted == 0


@pytest.mark.parametrize(
    ("filter", "more", "words"),
    [
        ("event:push", {}, "usage has no event"),
        ("since:2d", {}, "usage has no time but its month"),
        ("octo", {}, "usage has no word"),
        ("payload.a:b", {}, "usage has no payload"),
        ("", {"month": "2026-13"}, "is no month"),
        ("", {"month": "2026-1"}, "is no month"),
        ("", {"by": "owner"}, "nothing to sum up by"),
        ("", {"after": "x"}, "is no cursor"),
        ("", {"limit": -1}, "a limit of -1"),
    ],
)
def test_what_usage_is_not_summed_up_by_is_refused(filter: str, more: dict[str, Any], words: str) -> None:
    with closing(empty_state()) as conn, pytest.raises(UsageError, match=words) as refused:
        ask(conn, filter, **more)
    assert refused.value.hint


def test_a_mistyped_filter_is_one_here_too() -> None:
    with pytest.raises(FilterError):
        parse("instalation:1")
