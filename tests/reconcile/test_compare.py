"""The walk through a delivery log and its comparison with what is held, by values alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from covenq.errors import CovenqError, FilterError, GithubAnswerUnreadable, OutgoingFailed
from covenq.filter.grammar import parse
from covenq.github.delivery_log import Attempt, LogPage
from covenq.model import DeliveryId
from covenq.reconcile.compare import Absent, Came, Comparison, Policy
from covenq.reconcile.identity import DETAILS_TRIED, hook_of_details, hook_of_held
from covenq.reconcile.walk import RESTARTS_MAX, CursorRefused, pages_since

NOW = 1_800_000_000.0
NOTHING_ERASED: Callable[[Absent], bool] = lambda one: False  # noqa: E731


def attempt(guid: str, at: float, id: int = 1, **more: object) -> Attempt:
    made = Attempt(str(id), guid, at, False, 500, "push", None, 5, 6)
    return replace(made, **more)


@dataclass
class Log:
    """Pages of a log, newest first, by cursors."""

    attempts: list[Attempt]
    size: int = 2
    refused: set[int] = field(default_factory=set)
    """Numbers of reads that are refused."""
    before: Callable[[int], None] = lambda number: None
    reads: int = 0

    def read(self, cursor: str | None) -> LogPage:
        number, self.reads = self.reads, self.reads + 1
        self.before(number)
        if number in self.refused:
            raise CursorRefused
        listed = sorted(self.attempts, key=lambda one: one.order, reverse=True)
        start = 0 if cursor is None else [one.id for one in listed].index(cursor)
        following = listed[start + self.size : start + self.size + 1]
        return LogPage(tuple(listed[start : start + self.size]), following[0].id if following else None)


def compared(
    log: Log, held: Sequence[tuple[str, str]] = (), *, since: float = 0.0, filter: str = "", hook: str | None = "9"
) -> Comparison:
    found = Comparison(
        hook,
        lambda guids: {DeliveryId(*one): Came("http", NOW) for one in held if one[1] in guids},
        since,
        parse(filter),
        NOW,
    )
    for page in pages_since(log.read, since, found.restart):
        found.add(page)
    return found


def sorted_out(found: Comparison, policy: Policy | None = None) -> list[tuple[str, str]]:
    policy = policy or Policy(NOW, None, NOTHING_ERASED)
    return [(one.guid, state) for one, state in found.sorted_out(policy)]


# ---- the walk


def test_the_walk_ends_where_the_time_is_reached_and_not_before() -> None:
    log = Log([attempt(f"g{n}", float(n), n + 1) for n in range(11)])
    pages = list(pages_since(log.read, 6.5, lambda: None))
    assert [one.guid for page in pages for one in page.attempts] == ["g10", "g9", "g8", "g7", "g6", "g5"]
    assert log.reads == 3


def test_more_than_ten_thousand_in_one_minute_lose_nothing() -> None:
    log = Log([attempt(f"g{n}", NOW - 600 + n / 200, n + 1) for n in range(10_500)], size=100)
    found = compared(log, since=NOW - 3600)
    assert len(sorted_out(found)) == 10_500 and log.reads == 105


def test_attempts_that_come_between_two_pages_move_nothing() -> None:
    log = Log([attempt(f"g{n}", float(n), n + 1) for n in range(6)])
    fresh = count(100)

    def more(number: int) -> None:
        log.attempts += [attempt(f"new{next(fresh)}", 50.0 + number, 1000 + next(fresh)) for _ in range(3)]

    log.before = more
    assert {f"g{n}" for n in range(6)} <= {guid for guid, _ in sorted_out(compared(log))}


def test_a_refused_cursor_starts_the_walk_over_and_nothing_is_counted_twice() -> None:
    log = Log([attempt(f"g{n}", float(n), n + 1) for n in range(7)], refused={2, 5})
    said: list[int] = []
    found = Comparison("9", lambda guids: {}, 0.0, parse(""), NOW)
    for page in pages_since(log.read, 0.0, lambda: (found.restart(), said.append(1))[1]):
        found.add(page)
    assert len(said) == 2 and found.listed == 7
    assert [one.attempts for one, _ in found.sorted_out(Policy(NOW, None, NOTHING_ERASED))] == [1] * 7


def test_cursors_that_are_refused_for_ever_end_the_walk_with_a_word() -> None:
    log = Log([attempt(f"g{n}", float(n), n + 1) for n in range(7)], refused=set(range(1, 100, 2)))
    with pytest.raises(GithubAnswerUnreadable, match="refused the cursors"):
        list(pages_since(log.read, 0.0, lambda: None))
    assert log.reads == 2 * (RESTARTS_MAX + 1)


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_pages_that_go_in_a_circle_end(length: int) -> None:
    reads = count()

    def read(cursor: str | None) -> LogPage:
        assert next(reads) < 100
        return LogPage((attempt("g", NOW),), str((int(cursor or 0) + 1) % length))

    with pytest.raises(GithubAnswerUnreadable, match="circle"):
        list(pages_since(read, 0.0, lambda: None))


# ---- the comparison


def test_what_is_held_is_held_under_this_hook_alone() -> None:
    log = Log([attempt("mine", 1.0, 1), attempt("theirs", 2.0, 2), attempt("none", 3.0, 3)])
    found = compared(log, [("9", "mine"), ("8", "theirs")])
    assert sorted_out(found) == [("theirs", "missing"), ("none", "missing")]
    assert (found.listed, found.held) == (3, 1)


def test_without_the_hooks_id_nothing_counts_as_held() -> None:
    assert sorted_out(compared(Log([attempt("g", 1.0)]), [("9", "g")], hook=None)) == [("g", "missing")]


def test_attempts_are_one_delivery_by_its_first_and_its_newest_though_ids_jump() -> None:
    log = Log(
        [attempt("g", 10.0, 7), attempt("g", 30.0, 3, status_code=502), attempt("g", 20.0, 9), attempt("f", 15.0, 8)]
    )
    first, second = (one for one, _ in compared(log).sorted_out(Policy(NOW, None, NOTHING_ERASED)))
    assert (first.guid, first.first_at, first.last_at, first.attempts, first.attempt, first.status_code) == (
        "g", 10.0, 30.0, 3, "3", 502
    )  # fmt: skip
    assert second.guid == "f"


def test_how_each_stands() -> None:
    log = Log(
        [
            attempt(name, at, n)
            for n, (name, at) in enumerate(
                [("old", NOW - 9000), ("lost", NOW - 4000), ("erased", NOW - 4000), ("just", NOW - 100)], 1
            )
        ]
    )
    policy = Policy(NOW, NOW - 5000, lambda one: one.guid in ("erased",))
    assert sorted_out(compared(log), policy) == [
        ("old", "before_us"), ("lost", "missing"), ("erased", "erased"), ("just", "on_its_way"),
    ]  # fmt: skip
    asked = changed(policy, baseline=None)
    assert sorted_out(compared(log), asked)[0] == ("old", "missing")
    assert sorted_out(compared(log), changed(policy, grace_s=0.0))[3] == ("just", "missing")


def test_what_was_erased_is_never_missing_even_where_it_is_asked_for() -> None:
    policy = Policy(NOW, None, lambda one: True, grace_s=0.0)
    assert sorted_out(compared(Log([attempt("g", 1.0)])), policy) == [("g", "erased")]


@pytest.mark.parametrize(
    ("filter", "left"),
    [
        ("event:push", ["a"]),
        ("-event:push", ["b"]),
        ("repo_id:6", ["a"]),
        ("installation>5", ["b"]),
        ("action:*", ["b"]),
        ("guid:b", ["b"]),
        ("id:9/a", ["a"]),
        ("before:2d", ["a"]),
    ],
)
def test_a_filter_asks_what_the_list_says(filter: str, left: list[str]) -> None:
    first = attempt("a", NOW - 3 * 86_400, 1)
    second = attempt("b", NOW - 86_400, 2, event="issues", action="opened", installation=7, repo_id=8)
    assert [guid for guid, _ in sorted_out(compared(Log([first, second]), filter=filter))] == left


@pytest.mark.parametrize("filter", ["repo:o/r", "label:bug", "octo", "payload.a:1", "sender:mona", "state:failed"])
def test_a_filter_that_the_list_can_not_answer_is_refused(filter: str) -> None:
    with pytest.raises(FilterError, match="says nothing of"):
        compared(Log([]), filter=filter)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 50)), max_size=40), st.integers(1, 7), st.data())
def test_whatever_the_pages_each_delivery_is_held_or_absent(
    made: list[tuple[int, int]], size: int, data: st.DataObject
) -> None:
    attempts = [attempt(f"g{guid}", float(at), n + 1) for n, (guid, at) in enumerate(made)]
    held = data.draw(st.sets(st.integers(0, 9)))
    since = float(data.draw(st.integers(0, 50)))
    found = compared(Log(attempts, size), [("9", f"g{one}") for one in held], since=since)
    wanted = [one for one in attempts if one.at >= since]
    absent = dict(sorted_out(found))
    assert set(absent) == {one.guid for one in wanted} - {f"g{one}" for one in held}
    assert found.listed == len(wanted)
    assert found.held == sum(one.guid not in absent for one in wanted)


# ---- whose log it is

MINE = [["X-GitHub-Hook-ID", "9"], ["X-GitHub-Hook-Installation-Target-Type", "integration"],
        ["X-GitHub-Hook-Installation-Target-ID", "12"]]  # fmt: skip


def test_the_hook_is_learnt_from_a_delivery_of_this_app_alone() -> None:
    repository = [["X-GitHub-Hook-ID", "8"], ["X-GitHub-Hook-Installation-Target-Type", "repository"],
                  ["X-GitHub-Hook-Installation-Target-ID", "12"]]  # fmt: skip
    assert hook_of_held([[], repository, MINE], 12) == "9"
    assert hook_of_held([MINE], 13) is None
    assert hook_of_held([MINE], None) is None
    assert hook_of_held([repository] * 5 + [MINE], 12) is None


@pytest.mark.parametrize("error", [OutgoingFailed("500, five times"), GithubAnswerUnreadable("no delivery")])
def test_a_detail_that_github_fails_to_give_keeps_no_other_from_telling_the_hook(error: CovenqError) -> None:
    def headers_of(id: str) -> list[list[str]] | None:
        if id == "1":
            raise error
        return {"2": None, "3": MINE}[id]

    attempts = [attempt("g", 1.0, 1, status_code=200), *(attempt("g", 1.0, n) for n in (2, 3))]
    assert hook_of_details(attempts, headers_of) == "9"
    with pytest.raises(type(error)):
        hook_of_details(attempts[:2], headers_of)


def test_the_hook_is_learnt_from_few_details() -> None:
    asked: list[str] = []

    def headers_of(id: str) -> list[list[str]] | None:
        asked.append(id)
        return {"1": None, "2": [["x-github-hook-id", "a b"]], "3": MINE}.get(id)

    attempts = [attempt("g", 1.0, n) for n in (1, 2, 3, 4)]
    assert hook_of_details(attempts, headers_of) == "9"
    assert asked == ["1", "2", "3"]
    assert hook_of_details(attempts[:1] * 9, headers_of) is None
    assert len(asked) == 3 + DETAILS_TRIED
    assert hook_of_details([*attempts[:2], replace(attempts[2], status_code=202)], headers_of) == "9"
    assert asked[8:] == ["3"]  # what was answered was sent, with headers
