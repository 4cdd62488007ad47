"""What a plan says before anything is done: counts by route and reason, what is skipped, what would wait and for what."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from covenq.client import plans
from covenq.client.local import LocalSource
from covenq.client.plans import Planned, parts_done, parts_of_plan
from covenq.config.load import build
from covenq.errors import UsageError
from covenq.model import at_text
from covenq.operate import operations
from covenq.operate.act.plan_summary import GROUPS_MAX, OTHER_REASONS, REASONS_MAX, Part, Tally, merged
from covenq.operate.act.plan_text import FOR_EVER, STAYS, plan_lines, redaction_lines
from covenq.operate.answers import PlannedGroup, PlanSummary
from covenq.operate.parameters import Pause, Redact, Reroute, Selection
from covenq.text import escape
from tests.support.journals.chosen import config_in, open_chosen
from tests.support.records import POLICY, START, moved, note, of, queued, received

CONFIG = build(
    {
        "route": [
            {"name": "fix", "match": "event:issues", "run": ["true"], "daily": 1},
            {"name": "look", "match": "event:push", "pull": True},
        ]
    },
    None,
    {},
)
TASK = ("task", "tasks")


@pytest.fixture(scope="module")
def source(journal_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSource]:
    """Twelve tasks: seven of `fix` failed, two of `look` timed out, one was cancelled, one waits, one is done."""
    data: Path = tmp_path_factory.mktemp("plans")
    with open_chosen(data) as journal:
        for n in range(12):
            route = "look" if n in (7, 8) else "fix"
            kind = {"kind": "pull"} if route == "look" else {}
            repo = {"repo": "acme/pay" if n < 3 else "octo/hello"}
            number = {"repo_id": 7 if n < 3 else 6}
            journal.append([received(f"g{n}", about=repo, **number)])
            journal.append([queued(f"g{n}", route=route, about=repo, policy=POLICY, **kind, **number)])
        for n in range(9):
            task = of(f"g{n}", route="look" if n in (7, 8) else "fix")
            journal.append([moved("claimed", task, attempt=1, worker="w")])
            journal.append([moved("failed", task, attempt=1, category="timeout" if n in (7, 8) else "exit")])
        journal.append([moved("cancelled", of("g9"), reason="not wanted", by="me")])
        journal.append([moved("completed", of("g10"))])
        journal.append([received("g12"), received("g13"), note("ignored", "g13", reason="no_match")])
    with LocalSource(data, config_in(data, CONFIG)) as opened:
        yield opened


def planned(
    source: LocalSource, words: str, operation: operations.Operation[Selection, operations.PlanAnswer]
) -> PlanSummary:
    found = source.act(operation, Selection(filter=words, dry_run=True)).summary
    assert found is not None
    return found


def test_a_plan_is_grouped_by_route_and_reason_with_the_oldest_of_each(source: LocalSource) -> None:
    found = planned(source, "", operations.REQUEUE)
    oldest = source.task(of("g0")).created_at
    assert (found.eligible, found.tasks, found.oldest) == (10, 10, oldest)
    assert [(one.route, one.state, one.reason, one.count) for one in found.groups] == [
        ("fix", "failed", "exit", 7), ("look", "failed", "timeout", 2), ("fix", "cancelled", "not wanted", 1)
    ]  # fmt: skip
    first = [of("g0"), of("g7", route="look"), of("g9")]
    assert [one.oldest for one in found.groups] == [source.task(id).created_at for id in first]
    assert {one.reason: one.count for one in found.skipped} == {
        "it is completed; `covenq replay` makes a new task": 1, "it is queued": 1
    }  # fmt: skip


def test_what_would_wait_is_told_with_what_ends_it(source: LocalSource) -> None:
    def waits() -> dict[str, tuple[int, str | None]]:
        found = planned(source, "state:failed", operations.REQUEUE)
        return {one.cause: (one.count, one.command) for one in found.waits}

    worker = "covenq worker --route look -- CMD"
    # One attempt a day is all that `fix` may begin, and today's are seven.
    assert waits() == {"quota": (7, None), "unclaimed": (2, worker)}
    steps = [("repo", "acme/pay"), ("route", "fix"), ("installation", "5"), ("worker", None)]
    expected: list[dict[str, tuple[int, str | None]]] = [
        {"paused": (3, "covenq resume repo acme/pay"), "quota": (4, None), "unclaimed": (2, worker)},
        {"paused": (7, "covenq resume route fix"), "unclaimed": (2, worker)},
        {"paused": (9, "covenq resume installation 5")},
        {"paused": (9, "covenq resume worker")},
    ]
    try:
        for (what, name), told in zip(steps, expected, strict=True):
            source.act(operations.PAUSE, Pause(what=what, name=name, reason="a release"))
            assert waits() == told
        (why,) = planned(source, "state:failed", operations.REQUEUE).waits
        assert why.scope == "worker" and why.why.startswith("paused") and why.why.endswith(": a release")
        said = plan_lines(planned(source, "state:failed", operations.REQUEUE), TASK, START, escape)[-1]
        assert re.fullmatch(r"would wait 9: worker, paused \S+.*: a release: `covenq resume worker`", said)
        assert not planned(source, "", operations.CANCEL).waits, "what is cancelled waits for nothing"
    finally:
        for what, name in steps:
            source.act(operations.RESUME, Pause(what=what, name=name))


def test_a_paused_repository_is_resumed_by_its_name(source: LocalSource) -> None:
    source.act(operations.PAUSE, Pause(what="repo", name="acme/pay"))
    try:
        without = build({"route": [{"name": "fix", "match": "", "run": ["true"]}]}, None, {})
        data = Path(source.where)
        unlimited = LocalSource(data, config_in(data, without))
        found = planned(unlimited, "state:failed route:fix", operations.REQUEUE)
        assert [(one.cause, one.count, one.command) for one in found.waits] == [
            ("paused", 3, "covenq resume repo acme/pay")
        ]
    finally:
        source.act(operations.RESUME, Pause(what="repo", name="acme/pay"))


def test_deliveries_are_counted_by_the_routes_that_want_them(source: LocalSource) -> None:
    found = source.act(operations.REROUTE, Reroute(filter="state:received,ignored", dry_run=True)).summary
    assert found is not None
    told = {(one.route, one.state, one.reason) for one in found.groups}
    assert told == {("fix", "received", None), ("fix", "ignored", "no_match")}
    dismissed = source.act(operations.REROUTE, Reroute(filter="state:received", dry_run=True, ignore=True)).summary
    assert dismissed is not None and dismissed.tasks == 0
    assert [(one.route, one.repo, one.state, one.count) for one in dismissed.groups] == [(None, None, "received", 1)]


def test_an_erasure_is_grouped_by_repository_and_says_what_goes_and_what_stays(source: LocalSource) -> None:
    found = source.act(operations.REDACT, Redact(filter="event:issues", dry_run=True)).summary
    assert found is not None
    assert sum(one.count for one in found.groups if one.repo == "acme/pay") == 3
    assert (found.eligible, found.tasks) == (14, 1)
    lines = redaction_lines(found, START, escape)
    assert "1 task that waits is cancelled" in lines and STAYS in lines
    assert "erased" in FOR_EVER and "For ever" in FOR_EVER


@pytest.mark.parametrize("page", [1, 4, 100])
def test_a_plan_in_parts_is_the_plan_as_a_whole(
    source: LocalSource, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    whole = source.act(operations.REQUEUE, Selection(filter="", dry_run=True))
    monkeypatch.setattr(plans, "PLAN_MAX", page)
    monkeypatch.setattr("covenq.operate.act.actions.PAGE", min(page, 3))
    parts = list(parts_of_plan(source, operations.REQUEUE, Selection(filter="")))
    assert len(parts) == {1: 12, 4: 2, 100: 1}[page]
    found = Planned(by_filter=True, keep_skipped=True)
    for part in parts:
        found.add(part)
    put_together = found.whole()
    assert put_together.eligible == whole.eligible, "the oldest first"
    assert put_together.summary == whole.summary
    assert sorted(one.id for one in put_together.skipped) == sorted(one.id for one in whole.skipped)
    assert found.skipped_whole() == Counter({one.reason: 1 for one in whole.skipped})
    lean = Planned(by_filter=True, keep_skipped=False)
    for part in parts:
        lean.add(part)
    assert (lean.whole().skipped, lean.skipped_whole()) == ([], found.skipped_whole()), "counted, not held"


def test_what_is_done_is_what_was_planned(source: LocalSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "BATCH", 2)
    ids = [of(f"g{n}") for n in range(5)]
    reached = []
    wanted = Selection(filter="state:failed", dry_run=True)
    for answer, so_far in parts_done(source, operations.REQUEUE, wanted, ids):
        assert answer.done == [] and answer.eligible == ids[so_far - len(answer.eligible) : so_far]
        reached.append(so_far)
    assert reached == [2, 4, 5]


@pytest.mark.parametrize(
    "wanted",
    [
        Selection(filter="", limit=5),
        Selection(ids=["x"], dry_run=True, limit=5),
        Selection(filter="", dry_run=True, limit=-1),
        Selection(filter="", after="3"),
    ],
)
def test_only_the_plan_for_a_filter_is_made_in_parts(source: LocalSource, wanted: Selection) -> None:
    with pytest.raises(UsageError):
        source.act(operations.REQUEUE, wanted)


# The summary alone

parts_ = st.builds(
    Part,
    st.sampled_from(["fix", "look", None]),
    st.sampled_from(["failed", "cancelled"]),
    st.text(max_size=200) | st.text("倉庫x", max_size=60) | st.none(),
    st.integers(0, 1000).map(lambda n: at_text(START + n)),
)


def summary_of(parts: list[Part], reasons: list[str]) -> PlanSummary:
    tally = Tally()
    for part in parts:
        tally.add([part])
    for reason in reasons:
        tally.skip(reason)
    return tally.summary()


@given(st.lists(parts_), st.lists(parts_), st.lists(st.text()), st.lists(st.text()))
def test_two_parts_of_a_plan_come_to_the_whole(a: list[Part], b: list[Part], left: list[str], right: list[str]) -> None:
    found = merged(summary_of(a, left), summary_of(b, right))
    whole = summary_of(a + b, left + right)
    assert found is not None and found.groups == whole.groups
    assert (found.eligible, found.oldest, found.skipped) == (whole.eligible, whole.oldest, whole.skipped)


def test_a_summary_is_bounded_and_loses_no_count() -> None:
    tally = Tally()
    for n in range(5000):
        tally.add([Part(f"route-{n}", "failed", f"reason {n}", at_text(START + n))])
        tally.skip(f"reason {n}")
        tally.skip(f"its content was erased, by record {n}")
    found = tally.summary()
    assert (len(found.groups), len(found.skipped)) == (GROUPS_MAX + 1, REASONS_MAX + 1)
    assert sum(one.count for one in found.groups) == found.eligible == 5000
    assert sum(one.count for one in found.skipped) == 10_000
    told = {one.reason: one.count for one in found.skipped}
    assert told["its content was erased"] == 5000, "the record's number is no reason of its own"
    assert OTHER_REASONS in told
    assert PlannedGroup(None, None, None, None, 5000 - GROUPS_MAX, at_text(START + GROUPS_MAX)) in found.groups


@given(st.lists(parts_, max_size=30), st.lists(st.text(alphabet="abc ", max_size=300), max_size=30))
def test_the_lines_of_groups_fit_a_dialog_and_nothing_in_them_moves_a_cursor(
    parts: list[Part], reasons: list[str]
) -> None:
    found = summary_of(parts, reasons)
    lines = plan_lines(found, TASK, START + 2000, escape)
    assert lines[0].startswith(f"eligible  {found.eligible:,} task")
    assert all(line.isprintable() for line in lines)
    assert all(cell_len(line) <= 74 for line in lines if line.startswith("  "))


def test_the_lines_say_what_an_operator_decides_by() -> None:
    parts = [Part("mirror", "failed", "http", at_text(START))] * 208 + [
        Part("a" * 40, "failed", "exit", at_text(START + 7200))
    ]
    found = summary_of(parts, ["it is queued"] * 12)
    assert plan_lines(found, TASK, START + 10_800, escape, waits=["no daemon is running"]) == [
        "eligible  209 tasks; the oldest came 3h ago",
        "  208  mirror                  failed: http  oldest 3h",
        "    1  aaaaaaaaaaa…aaaaaaaaaa  failed: exit  oldest 1h",
        "skipped 12: it is queued",
        "would wait: no daemon is running",
    ]
