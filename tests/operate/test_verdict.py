"""The verdict of `covenq why`: there is one, in words of its own, for every state and every reason that the model knows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec
import pytest

import covenq
from covenq.intake.refusal_hints import HINTS, with_hint
from covenq.intake.refusal_log import Refusal
from covenq.model import Category, IgnoredReason, Kind, ReceivedReason, State, SupersededReason, seconds_of
from covenq.model.ledger import HERE, STATES
from covenq.model.rows import TASK_STATES, Attempt, Delivery, Dropped, Origin, Task, Waits
from covenq.model.status import NotHeldDelivery
from covenq.operate.inspect.delivery_facts import DeliveryFacts
from covenq.operate.inspect.history import Level, StoryVerdict, Target
from covenq.operate.inspect.next_steps import next_steps
from covenq.operate.inspect.verdict import CATEGORIES, IGNORED, RECEIVED, SUPERSEDED, WAITS, verdict
from covenq.operate.inspect.verdict_absent import NOT_HELD, verdict_absent
from covenq.routing.held import SENTENCES
from covenq.routing.verdicts import Verdict
from covenq.state.fold_pauses import PauseTarget
from tests.support.records import as_records, moved, note

AT = "2026-11-30T02:00:00.000000Z"
LATER = "2026-11-30T02:00:01.500000Z"
NOW = 1_795_996_801.0
T = TypeVar("T", bound=msgspec.Struct)


def made(row: type[T], /, **values: Any) -> T:
    """A row in which what isn't given is None, or empty."""
    empty: dict[str, Any] = dict.fromkeys((field.name for field in msgspec.structs.fields(row)), None)
    counts = {
        name: 0 for name in ("duplicates", "conflicts", "replays", "attempts", "retries", "replay") if name in empty
    }
    return row(**{**empty, **counts, **({"phases": []} if "phases" in empty else {}), **values})


def delivery(**values: Any) -> Delivery:
    plain = {
        "hook": "9",
        "guid": "g",
        "seq": 1,
        "received_at": AT,
        "event": "issues",
        "source": "http",
        "state": "queued",
    }
    return made(Delivery, **(plain | values))


def task(state: str, route: str = "fix", **values: Any) -> Task:
    plain = {
        "id": f"t-{route}",
        "route": route,
        "kind": "run",
        "repo": "octo/it's",
        "installation": 5,
        "updated_at": AT,
    }
    return made(Task, **(plain | {"state": state} | values))


def attempt(number: int = 1, route: str = "fix", **values: Any) -> Attempt:
    ended = {"started_at": AT, "ended_at": LATER, "outcome": "failed", "worker": "w1"}
    return made(Attempt, **({"task": f"t-{route}", "attempt": number} | ended | values))


def of(one: Delivery, *tasks: Task, **values: Any) -> DeliveryFacts:
    return DeliveryFacts(**({"delivery": one, "tasks": tasks, "attempts": {}} | values))


def on(one: Task, *attempts: Attempt, waits: Waits | None = None, notes: Any = (), **values: Any) -> StoryVerdict:
    """The verdict on a delivery with that task alone; what helps is one of the next steps."""
    facts = DeliveryFacts(
        delivery(state=one.state, **values),
        [one],
        {one.id: list(attempts)},
        waiting={} if waits is None else {one.id: waits},
        notes=as_records(notes),
    )
    found = verdict(facts)
    assert found.command in (None, *(step.command for step in next_steps(facts)))
    return found


def alone(**values: Any) -> StoryVerdict:
    """The verdict on a delivery without tasks."""
    return verdict(of(delivery(**values)))


# ---- there is one for each


def test_all_that_the_model_knows_has_a_word() -> None:
    assert set(CATEGORIES) == set(Category)
    assert set(IGNORED) == set(IgnoredReason)
    assert set(RECEIVED) == set(ReceivedReason)
    assert set(SUPERSEDED) == set(SupersededReason)
    assert set(NOT_HELD) == set(STATES) - HERE
    assert {f"paused_{what}" for what in PauseTarget if what is not PauseTarget.INTAKE} <= set(WAITS)
    words = set(waiting_words())
    assert {"retry", "key", "*_daily"} <= words
    for word in words:
        assert any(re.fullmatch(word.replace("*", "[a-z]+"), known) for known in WAITS), word


def waiting_words() -> Iterator[str]:
    """What queued tasks wait for, as scheduling's source has the words; a part that is filled in is a star."""
    for path in Path(covenq.__file__).parent.joinpath("tasks/scheduling").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Waits", "BlockReason"):
                match node.args[0]:
                    case ast.Constant(value=str(word)):
                        yield word
                    case ast.JoinedStr(values=parts):
                        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in parts)


@pytest.mark.parametrize("state", TASK_STATES)
def test_each_state_of_a_task_begins_its_verdict(state: State) -> None:
    found = on(task(state, attempts=1), attempt(outcome=None if state == "running" else state))
    assert found.text.startswith(state.capitalize())
    assert found.level == {"completed": "ok", "failed": "error", "queued": "active", "running": "active"}.get(
        state, "idle"
    )


@pytest.mark.parametrize("category", Category)
def test_each_category_of_failure_is_told_in_words(category: Category) -> None:
    found = on(task("failed", attempts=1, category=category), attempt(category=category))
    next = "covenq doctor" if category is Category.TOKEN else "covenq requeue t-fix"  # GitHub's settings come first
    assert found == StoryVerdict(f"Failed: one attempt, which {CATEGORIES[category]}", "error", next)


@pytest.mark.parametrize("word", WAITS)
def test_what_a_task_waits_for_is_told(word: str) -> None:
    found = on(task("queued"), waits=Waits(word, "the reason."))
    assert (found.text, found.level) == ("Queued: the reason", WAITS[word])


@pytest.mark.parametrize(
    ("word", "command"),
    [
        ("paused_worker", "covenq resume worker"),
        ("paused_route", "covenq resume route fix"),
        ("paused_repo", """covenq resume repo 'octo/it'"'"'s'"""),
        ("paused_installation", "covenq resume installation 5"),
        ("pull", "covenq worker --route fix -- CMD"),
        ("worker", None),
        ("key", None),
    ],
)
def test_what_lets_a_waiting_task_go_on_is_told(word: str, command: str | None) -> None:
    assert on(task("queued"), waits=Waits(word, "why")).command == command


@pytest.mark.parametrize("reason", SupersededReason)
def test_each_reason_of_superseding_is_told(reason: SupersededReason) -> None:
    found = on(task("superseded", reason=reason, superseded_by="t2"))
    assert found == StoryVerdict(f"Superseded by task t2: {SUPERSEDED[reason]}", "idle", "covenq why t2")


@pytest.mark.parametrize("reason", IgnoredReason)
def test_each_reason_of_ignoring_is_told(reason: IgnoredReason) -> None:
    found = alone(state="ignored", reason=reason)
    assert (found.text, found.level) == IGNORED[reason]


def test_what_a_familiar_was_refused_is_told_by_the_records_own_words() -> None:
    detail = "The installation 41 is not listed; else cody-fix-issue would have taken it."
    found = alone(state="ignored", reason="installation_unlisted", detail=detail)
    words = "Ignored: the installation 41 is not listed; else cody-fix-issue would have taken it"
    assert (found.text, found.level) == (words, "warning")


@pytest.mark.parametrize("reason", ReceivedReason)
def test_each_reason_of_not_routing_is_told(reason: ReceivedReason) -> None:
    found = alone(state="received", reason=reason)
    assert (found.text, found.level, found.command) == (*RECEIVED[reason], "covenq reroute 9/g")


@pytest.mark.parametrize("why", SENTENCES.values())
def test_why_it_is_held_back_is_told(why: str) -> None:
    found = alone(state="received", reason="held", detail=why)
    assert found.text == f"Held back until somebody routes it: {why.rstrip('.')}"


@pytest.mark.parametrize("state", NOT_HELD)
def test_what_github_lists_and_is_not_held_is_told(state: str) -> None:
    listed = NotHeldDelivery("app", "g", "push", AT, state, "GitHub forgot it", LATER)
    found = verdict_absent([listed], [], None, NOW)
    assert found.text.startswith("Not held: GitHub lists it (push,")
    assert found.level == NOT_HELD[state]
    commands = {"open": "covenq reconcile", "on_its_way": "covenq reconcile", "not_wanted": "covenq routes"}
    by_hand = {"erased": None, "unrecoverable": None}
    assert found.command == {**commands, **by_hand}.get(state, "covenq reconcile --since 3d guid:g")


@pytest.mark.parametrize("word", sorted({word.partition("/")[0] for word in HINTS}))
def test_each_refusal_is_told(word: str) -> None:
    found = verdict_absent([], [with_hint(Refusal(AT, word, 401, "So it was."), False)] * 2, None, NOW)
    assert found.text == f"Refused twice, if that was what it said it was; last with 401 {word}: So it was"
    assert found.level == "error"
    assert found.command is not None
    assert found.command.startswith("covenq ")


def test_what_is_unknown_is_told() -> None:
    assert verdict_absent([], [], None, NOW).command == "covenq refused"
    about = verdict_absent([], [], Target("octo/hello", 7), NOW)
    assert (about.text, about.command) == (
        "Nothing that is held is about octo/hello#7",
        "covenq deliveries repo:octo/hello",
    )


def test_what_a_later_version_recorded_has_one_too() -> None:
    odd = "of_a_later_version"
    for found in (
        on(task(odd)),
        on(task("queued"), waits=Waits(odd, "why")),
        on(task("failed", attempts=1, category=odd), attempt(category=odd)),
        on(task("superseded", reason=odd)),
        alone(state="ignored", reason=odd),
        alone(state="received", reason=odd),
        alone(state=odd),
    ):
        assert found.text
        assert found.level in get_args(Level)


# ---- what they say


def test_attempts_that_failed_alike_are_told_once() -> None:
    slow = [attempt(number, category="timeout", detail="it ran longer than 1 s") for number in (1, 2)]
    found = on(task("failed", attempts=2), *slow)
    assert found == StoryVerdict("Failed: two attempts, each ran longer than 1 s", "error", "covenq requeue t-fix")
    other = attempt(3, category="exit", exit_code=75, detail="it exited with 75.")
    assert (
        on(task("failed", attempts=3), *slow, other).text == "Failed: three attempts, the last of which exited with 75"
    )
    sentence = "The receiver at http://h answered 503"
    assert on(task("failed", attempts=1), attempt(category="http", detail=sentence)).text == (
        "Failed: one attempt: the receiver at http://h answered 503"
    )
    before = on(task("failed", category="policy", detail="the delivery's payload is no longer kept"))
    assert before.text == "Failed: the delivery's payload is no longer kept"


def test_one_that_is_tried_again_says_when_and_after_what() -> None:
    waits = Waits("retry", "until then")
    found = on(task("queued", attempts=1, not_before=LATER), attempt(category="exit", exit_code=3), waits=waits)
    assert found.text == "Queued again until 2026-11-30 02:00:01Z: attempt 1 exited with 3"


def test_one_that_runs_says_since_when_and_where() -> None:
    running = attempt(2, ended_at=None, outcome=None, phases=[("prepared", AT), ("started", AT)])
    found = on(task("running", attempts=2), running)
    assert found.text == "Running since 2026-11-30 02:00:00Z: attempt 2 at w1, started"
    assert found.command == "covenq logs t-fix -f"


def test_one_that_should_have_ended_says_why() -> None:
    running, policy = attempt(ended_at=None, outcome=None), {"run": ["true"], "timeout_s": 10.0}

    def told(after_s: float, **values: Any) -> tuple[str, Level]:
        one = task("running", attempts=1, policy=policy, **values)
        found = verdict(of(delivery(), one, attempts={one.id: [running]}, now=seconds_of(AT) + after_s))
        return found.text.partition("at w1")[2], found.level

    assert told(69.0) == ("", "active")
    assert told(71.0) == ("; that is longer than its timeout of 10 s", "warning")
    assert told(60.0, lease_until=LATER) == ("", "active")
    over = "; its lease was over at 2026-11-30 02:00:01Z, and nobody ended its attempt"
    assert told(62.0, lease_until=LATER) == (over, "warning")


def test_one_that_completed_says_after_how_many_attempts() -> None:
    done = attempt(3, outcome="completed")
    assert (
        on(task("completed", attempts=3), done).text == "Completed on 2026-11-30 02:00:00Z, after three attempts in 1s"
    )
    assert (
        on(task("completed", attempts=1), done).text == "Completed on 2026-11-30 02:00:00Z, at the first attempt in 1s"
    )


def test_one_that_was_cancelled_says_by_whom() -> None:
    said = [moved("cancelled", "t-fix", by="cli:ada", reason="the issue is closed.")]
    assert on(task("cancelled"), notes=said).text == "Cancelled on 2026-11-30 02:00:00Z by cli:ada: the issue is closed"


def test_of_several_routes_the_one_that_failed_leads() -> None:
    tasks = [task("completed", "a"), task("running", "b"), task("failed", "c", attempts=1), task("completed", "d")]
    attempts = {"t-c": [attempt(route="c", category="exit", exit_code=1)]}
    facts = of(delivery(state="running"), *tasks, attempts=attempts)
    found = verdict(facts)
    assert found.text == "Failed in route c: one attempt, which exited with 1; b runs; a and d completed"
    assert (found.level, found.command) == ("error", "covenq requeue t-c")
    many = [task("failed", "c"), *(task("completed", f"r{number}") for number in range(30))]
    assert verdict(of(delivery(), *many)).text.endswith("; 30 other routes completed")


def test_of_a_program_that_is_not_there_the_help_is_not_to_run_it_again() -> None:
    gone = attempt(category="spawn", detail="agent could not be started: No such file", phases=[("prepared", AT)])
    assert on(task("failed", attempts=1), gone).command == "covenq doctor"


def test_what_came_otherwise_than_from_github_or_again_is_remarked() -> None:
    def remarked(origin: Origin | None = None, **values: Any) -> str:
        return verdict(of(delivery(**values), task("completed"), origin=origin)).text.partition("; ")[2]

    assert remarked() == ""
    assert remarked(Origin(reason="reconcile"), source="import") == "it was fetched from GitHub's delivery log"
    assert remarked(Origin(by="cli:ada"), source="import") == "it was imported by cli:ada"
    assert remarked(source="send") == "it came from covenq send"
    assert remarked(duplicates=2) == "it came twice more, and made no other task"
    assert remarked(conflicts=1) == "another body came under its id, and was refused"


def test_what_was_erased_or_dropped_has_no_command_that_would_need_it() -> None:
    by = Dropped(7, AT, Kind.REDACTED, "cli:ada", "they asked us to")
    erased = verdict(of(delivery(state="failed", redacted=7), task("failed"), dropped_by=by))
    said = "Erased on 2026-11-30 02:00:00Z by cli:ada: they asked us to; before that, it was failed"
    assert erased == StoryVerdict(said, "idle")
    dropped = on(task("failed", attempts=1), attempt(category="exit", exit_code=1), payload_dropped=7)
    assert dropped.text.endswith("exited with 1; its payload was dropped, so it can't be done again")
    assert dropped.command == "covenq show t-fix"


def test_one_that_no_route_wanted_says_which_there_were_and_one_of_today_is_named() -> None:
    ignored = {"state": "ignored", "reason": "no_match", "detail": "No route matches event star; there is fix."}
    assert alone(**ignored) == StoryVerdict("Ignored: no route matches event star", "idle", "covenq routes")
    wanted = verdict(of(delivery(**ignored), verdicts=[Verdict("fix", "event:star", True, [])]))
    assert wanted.command == "covenq reroute 9/g"
    own = alone(state="ignored", reason="too_small", detail="No route matches event push; fix came nearest.")
    assert own.text == "Ignored, too_small: no route matches event push; fix came nearest"
    dismissed = [note("rerouted", "g", dismissed=True, by="cli:ada", reason="it was done by hand")]
    facts = of(delivery(state="ignored", reason="dismissed"), notes=as_records(dismissed))
    assert verdict(facts) == StoryVerdict("Dismissed by cli:ada: it was done by hand", "idle")
