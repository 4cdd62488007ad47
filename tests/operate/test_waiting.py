"""What waits, and why: each cause alone, all of them mixed, and the same from a daemon and from the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covenq.config.limits import BackingOff, Cap, Caps, RouteCap
from covenq.model import NOT_RUNNING, at_text
from covenq.model.waiting import GLYPHS, ORDER, Cause, cause_name, untold_pauses, waiting_text
from covenq.operate.inspect import view
from covenq.operate.inspect.waiting import BEING_MADE, KEPT_TIMES, LINES_MAX, KeptWaiting, by_cause, waiting
from covenq.state.building import Building
from covenq.tasks.scheduling.candidates import Candidate
from covenq.tasks.scheduling.waiting import Waiting, ready_cause
from tests.support.records import as_records, empty_built_state, queued, received
from tests.support.task_queue import NOW, Queue

REFUSES = {"mirror": BackingOff("http://127.0.0.1:9 failed 10 times in a row (refused)", at_text(NOW + 105))}


@pytest.fixture
def queue() -> Iterator[Queue]:
    made = Queue()
    yield made
    made.conn.close()


def told(queue: Queue) -> list[tuple[str, str | None, int, str | None]]:
    return [(one.cause, one.scope, one.count, one.command) for one in waiting(queue.conn, NOW, queue.caps)]


def paused(what: str, name: str | None = None, repo: str | None = None) -> Callable[[Queue], None]:
    return lambda queue: queue.pause(what, name, repo)


def stopped(queue: Queue) -> None:
    queue.caps = Caps(stopped=NOT_RUNNING)


def refused(queue: Queue) -> None:
    queue.caps = Caps(backing_off=REFUSES)


def used_up(queue: Queue) -> None:
    queue.caps = Caps(installation=Cap(daily=2))
    queue.began("installation 9001", NOW - 7200, 2)


def full(queue: Queue) -> None:
    queue.caps = Caps(routes={"mirror": RouteCap(Cap(1))})
    queue.add("runs", route="mirror")
    queue.move("runs", "running")


def key_in_use(queue: Queue) -> None:
    queue.add("runs", "k", route="other")
    queue.move("runs", "running")


RESUME = "covenq resume "


@pytest.mark.parametrize(
    ("cause", "scope", "command", "holds"),
    [
        ("paused", "worker", f"{RESUME}worker", paused("worker")),
        ("paused", "installation 9001", f"{RESUME}installation 9001", paused("installation", "9001")),
        ("paused", "route mirror", f"{RESUME}route mirror", paused("route", "mirror")),
        ("paused", "repo o/it's", f"{RESUME}repo 'o/it'\"'\"'s'", paused("repo", "6", "o/it's")),
        ("paused", "repo O/R6", f"{RESUME}repo O/R6", paused("repo", None, "O/R6")),
        ("stopped", "daemon", "covenq serve", stopped),
        ("receiver", "route mirror", None, refused),
        ("quota", "installation 9001", None, used_up),
        ("cap", "route mirror", None, full),
        ("key", "route mirror", None, key_in_use),
        ("worker", "worker", None, lambda queue: None),
    ],
)
def test_each_cause_alone(
    queue: Queue, cause: str, scope: str, command: str | None, holds: Callable[[Queue], None]
) -> None:
    holds(queue)
    for n in range(3):
        queue.add(f"t{n}", "k", installation=9001, route="mirror", repo=6)
    assert told(queue) == [(cause, scope, 3, command)]
    reasons = Waiting(queue.conn, NOW, queue.caps)
    assert [reasons.reason_for(f"t{n}").cause for n in range(3)] == [cause] * 3  # type: ignore[union-attr]


def test_what_nobody_claims_and_what_its_workers_do_not_keep_up_with(queue: Queue) -> None:
    for route in ("ci results", "build"):
        queue.add(f"{route}-1", kind="pull", route=route)
    queue.add("taken", kind="pull", route="build")
    queue.move("taken", "running")
    assert told(queue) == [
        ("unclaimed", "route ci results", 1, "covenq worker --route 'ci results' -- CMD"),
        ("unclaimed", "route build", 1, "covenq worker --route build -- CMD"),
    ]
    whys = [one.why for one in waiting(queue.conn, NOW, queue.caps)]
    assert whys == ["nobody claims them", "more than its workers take: 1 run"]


def test_backoff_and_quiet_periods_say_when_the_next_is_due(queue: Queue) -> None:
    queue.add("later", not_before=NOW + 300)
    queue.add("sooner", not_before=NOW + 60)
    queue.add("due", not_before=NOW - 1)
    first, second = waiting(queue.conn, NOW, queue.caps)
    assert (first.cause, first.scope, first.count, first.until) == ("not_before", "route r", 2, at_text(NOW + 60))
    assert waiting_text(first, NOW).endswith("; the next in 1m")
    assert (second.cause, second.count) == ("worker", 1)


@pytest.mark.parametrize(("busy", "short", "why"), [
    (None, None, "ready: they start as workers come free"),
    (4, None, "all 4 workers are busy"),
    (1, None, "the one worker is busy"),
    (4, "no descriptors are left", "no descriptors are left"),
])  # fmt: skip
def test_what_is_ready_says_what_its_workers_do(queue: Queue, busy: int | None, short: str | None, why: str) -> None:
    queue.caps = Caps(all_busy=busy, short_of=short)
    queue.add("ready")
    assert [one.why for one in waiting(queue.conn, NOW, queue.caps)] == [why]


def test_the_words_of_a_line(queue: Queue) -> None:
    queue.caps = Caps(backing_off=REFUSES, installation=Cap(daily=2))
    queue.began("installation 9001", NOW - 20 * 3600, 1)
    queue.began("installation 9001", NOW - 3600, 1)
    queue.add("mirrored", route="mirror")
    queue.add("used", installation=9001)
    queue.conn.execute(
        "INSERT INTO pauses (what, name, since, by, reason) VALUES ('route', 'fix', ?, 'root', 'a release')",
        (at_text(NOW - 5 * 3600),),
    )
    queue.add("fixed", route="fix")
    lines = {one.cause: (one, waiting_text(one, NOW)) for one in waiting(queue.conn, NOW, queue.caps)}
    assert lines["receiver"][1] == "http://127.0.0.1:9 failed 10 times in a row (refused); asked again in 1m"
    assert lines["paused"][1] == "paused 5h by root: a release"
    # It began at noon, in an hour that counts for 25: 12:00 of the day before + 25 h.
    assert lines["quota"][0].until == "2027-01-15T13:00:00.000000Z"
    assert lines["quota"][1] == "2 of 2 attempts in 24 hours; next at 13:00Z"
    assert lines["quota"][0].task == "used"


def test_a_quota_frees_up_when_it_says(queue: Queue) -> None:
    queue.caps = Caps(repo=Cap(daily=3))
    queue.add("t", repo=1)
    for hours, number in ((24, 1), (20, 2), (1, 2)):
        queue.began("repo 1", NOW - hours * 3600, number)
    (line,) = waiting(queue.conn, NOW, queue.caps)
    assert line.until == at_text(NOW + 5 * 3600), "the three oldest must be forgotten"
    assert queue.pick(now=NOW + 5 * 3600 - 1) == []
    assert queue.pick(now=NOW + 5 * 3600) == ["t"]


def test_what_only_a_person_ends_is_told_before_what_ends_by_itself(queue: Queue) -> None:
    """Each task once: of several causes that hold, the first in the order."""
    queue.caps = Caps(backing_off=REFUSES, stopped=NOT_RUNNING)
    queue.add("both", route="mirror", not_before=NOW + 9)
    assert [one[0] for one in told(queue)] == ["stopped"]
    queue.pause("route", "mirror")
    assert [one[0] for one in told(queue)] == ["paused"]
    queue.caps = Caps(backing_off=REFUSES)
    queue.conn.execute("DELETE FROM pauses")
    assert [one[0] for one in told(queue)] == ["receiver"]
    queue.caps = Caps()
    assert [one[0] for one in told(queue)] == ["not_before"]


def test_a_task_that_waits_for_a_daemon_and_for_its_time_says_both(queue: Queue) -> None:
    queue.caps = Caps(stopped=NOT_RUNNING)
    queue.add("later", not_before=NOW + 9)
    waits = queue.waits("later")
    assert (waits.word, waits.cause) == ("stopped", "stopped")
    assert waits.why.startswith("nothing is started: no daemon is running; and until 2027-01-15 08:00:09Z")


def test_there_are_few_lines_however_many_things_hold_tasks(queue: Queue) -> None:
    for n in range(LINES_MAX + 5):
        queue.pause("repo", str(n + 1), f"o/r{n + 1}")
        queue.add(f"t{n}", repo=n + 1)
        queue.add(f"u{n}", repo=n + 1)
    lines = waiting(queue.conn, NOW, queue.caps)
    assert [one.count for one in lines] == [2] * LINES_MAX + [10]
    assert (lines[-1].scope, lines[-1].command, lines[-1].why) == (None, None, "5 more of these")


def test_nothing_waits(queue: Queue) -> None:
    queue.pause("worker", None)
    assert told(queue) == []
    assert by_cause([]) == dict.fromkeys(map(str, ORDER), 0)


def test_every_cause_has_a_glyph_and_a_name() -> None:
    assert set(GLYPHS) == set(ORDER)
    assert len(set(GLYPHS.values())) == len(ORDER)
    assert cause_name("of a newer daemon") == "of a newer daemon"


def test_a_long_count_is_kept_for_a_while_and_not_across_a_pause(queue: Queue) -> None:
    clock = [0.0]
    slow = iter([1.0, 1.0, 1.0, 1.0])

    def monotonic() -> float:
        return clock[0]

    def caps() -> Caps:
        clock[0] += next(slow, 0.0)
        return queue.caps

    kept = KeptWaiting(caps, clock=lambda: NOW, monotonic=monotonic)
    queue.add("one")
    assert by_cause(kept.read(queue.conn))["worker"] == 1
    queue.add("two")
    assert by_cause(kept.read(queue.conn))["worker"] == 1, "it took a second"
    queue.pause("worker", None)
    assert by_cause(kept.read(queue.conn))["paused"] == 2
    queue.add("three")
    clock[0] += KEPT_TIMES + 1
    assert by_cause(kept.read(queue.conn))["paused"] == 3
    slow = iter([])
    clock[0] += KEPT_TIMES + 1
    assert by_cause(kept.read(queue.conn))["paused"] == 3
    queue.add("four")
    assert by_cause(kept.read(queue.conn))["paused"] == 4, "what takes no time is counted each time"


TASKS = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["queued", "queued", "queued", "delayed", "again", "running", "failed"]),
        "kind": st.sampled_from(["run", "run", "pull"]),
        "route": st.sampled_from(["mirror", "fix", "ci"]),
        "installation": st.sampled_from([1, 2]),
        "repo": st.sampled_from([None, 1, 2]),
        "key": st.sampled_from([None, "a", "b"]),
        "not_before": st.sampled_from([None, None, None, NOW - 5, NOW + 5]),
        "numbered": st.booleans(),
    }
)
PAUSES = st.sampled_from(
    [
        ("worker", None, None),
        ("intake", None, None),
        ("installation", "1", None),
        ("route", "fix", None),
        ("repo", "1", "o/r1"),
        ("repo", None, "O/R2"),
        ("repo", None, "o/unheard-of"),
    ]
)
CAPS = st.builds(
    Caps,
    installation=st.sampled_from([Cap(), Cap(1), Cap(daily=1)]),
    repo=st.sampled_from([Cap(), Cap(1), Cap(daily=1)]),
    route=st.sampled_from([Cap(), Cap(2), Cap(1, 1)]),
    routes=st.sampled_from([{}, {"ci": RouteCap(Cap(), 2)}]),
    backing_off=st.sampled_from([{}, {}, REFUSES]),
    stopped=st.sampled_from([None, None, None, NOT_RUNNING]),
)


def counted_one_by_one(queue: Queue) -> dict[tuple[str, str], tuple[int, str, str | None, str | None]]:
    """What the lines have to say, (cause, what holds) → how many, the oldest, until when, since when: asked task by task."""
    reasons = Waiting(queue.conn, NOW, queue.caps)
    found: dict[tuple[str, str], tuple[int, str, str | None, str | None]] = {}
    for row in queue.conn.execute("SELECT * FROM tasks WHERE state = 'queued' ORDER BY created_seq"):
        task = Candidate(*(row[name] for name in Candidate._fields))
        later = row["not_before"] is not None and row["not_before"] > at_text(NOW)
        block = reasons.block(task, later=later)
        cause = ready_cause(bool(row["pull"])) if block is None else block.cause
        what, name = ("worker", "") if block is None else block.holder
        if cause in (Cause.UNCLAIMED, Cause.NOT_BEFORE):
            what, name = "route", row["route"]
        elif what == "repo" and cause in (Cause.CAP, Cause.QUOTA):
            name = str(row["repo_id"])  # nothing was ever delivered of it that has its name
        until = row["not_before"] if cause == Cause.NOT_BEFORE else None if block is None else block.until
        count, oldest, first, _ = found.get((cause, f"{what} {name}".strip()), (0, row["id"], None, None))
        since = None if block is None else block.since
        first = min(filter(None, (first, until)), default=None)
        found[cause, f"{what} {name}".strip()] = count + 1, oldest, first, since
    return found


@settings(max_examples=150)
@given(
    tasks=st.lists(TASKS, max_size=14),
    pauses=st.lists(PAUSES, max_size=2),
    caps=CAPS,
    began=st.lists(st.sampled_from(["installation 1", "repo 1", "route mirror"]), max_size=2),
)
def test_each_queued_task_is_counted_once_under_the_cause_that_its_own_waits_names(
    tasks: list[dict[str, object]], pauses: list[tuple[str, str | None, str | None]], caps: Caps, began: list[str]
) -> None:
    queue = Queue(caps)
    try:
        for number, task in enumerate(tasks):
            fields = {name: value for name, value in task.items() if name not in ("state", "key", "not_before")}
            queue.add(f"t{number}", task["key"], task["not_before"], **fields)  # type: ignore[arg-type]
            if task["state"] == "delayed":
                queue.move(f"t{number}", "queued", NOW + 7)
            elif task["state"] == "again":
                queue.move(f"t{number}", "running")
                queue.move(f"t{number}", "queued")
            elif task["state"] != "queued":
                queue.move(f"t{number}", str(task["state"]))
        for pause in set(pauses):
            queue.pause(*pause)
        for scope in began:
            queue.conn.execute(
                "INSERT INTO starts VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET n = n + 1", (scope, at_text(NOW)[:13])
            )
        reasons = Waiting(queue.conn, NOW, caps)
        queued = [f"t{number}" for number, task in enumerate(tasks) if task["state"] in ("queued", "delayed", "again")]
        causes = Counter(waits.cause for one in queued if (waits := reasons.reason_for(one)) is not None)
        lines = waiting(queue.conn, NOW, caps)
        assert Counter(by_cause(lines)) == causes
        assert sum(one.count for one in lines) == len(queued)
        assert len({(one.cause, one.scope) for one in lines}) == len(lines)
        assert all(one.task in queued and one.why for one in lines)
        told = {(one.cause, one.scope): (one.count, one.task, one.until, one.since) for one in lines}
        assert told == counted_one_by_one(queue)
    finally:
        queue.conn.close()


def test_a_count_takes_as_long_whatever_the_length_of_the_queue(queue: Queue) -> None:
    queue.caps = Caps(installation=Cap(daily=2), backing_off=REFUSES)
    queue.pause("route", "fix")
    queue.began("installation 1", NOW - 7200, 2)
    routes = ["mirror", "fix", "ci"]

    def steps() -> int:
        taken: list[int] = []
        queue.conn.set_progress_handler(lambda: taken.append(1), 1)
        waiting(queue.conn, NOW, queue.caps)
        queue.conn.set_progress_handler(None, 0)
        return len(taken)

    some = {
        "route": lambda n: routes[n % 3],
        "repo": lambda n: n % 7,
        "installation": lambda n: n % 2,
        "key": lambda n: f"k{n}",
    }
    queue.many(200, **some)
    queue.run(1)
    few = steps()
    queue.many(10_000, **some)
    assert steps() < few * 1.1


def test_while_state_db_is_made_anew_all_wait_for_that() -> None:
    """Its groups aren't counted yet, and nothing would be found about them but by reading them all."""
    conn = empty_built_state()
    try:
        Building(conn, 8).fold(as_records([received("g1"), queued("g1"), received("g2"), queued("g2")]))
        found = waiting(conn, NOW, Caps())
        assert [(one.cause, one.count, one.command, one.why) for one in found] == [("stopped", 2, None, BEING_MADE)]
    finally:
        conn.close()


def test_a_pause_is_told_once(queue: Queue) -> None:
    queue.add("t", route="fix")
    queue.pause("route", "fix")
    queue.pause("route", "idle")
    queue.pause("intake", None)
    found = waiting(queue.conn, NOW, queue.caps)
    left = untold_pauses(view.pauses(queue.conn), found)
    assert [(one.what, one.name) for one in left] == [("route", "idle"), ("intake", None)], "nothing waits for these"
    assert len(untold_pauses(view.pauses(queue.conn), [])) == 3
