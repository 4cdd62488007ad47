"""The history of a delivery: what became of a request and why, from its arrival to where it is now, and what to do next.

Values in, an object out: `covenq.operate.inspect.why` gathers the facts, `story_answers` answers the six questions,
`story_text` has the wording.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import asdict

from covenq.model import REQUEUEABLE, Category, Kind, State
from covenq.model.rows import Attempt, Task
from covenq.operate.inspect import forward_signature
from covenq.operate.inspect.delivery_facts import DeliveryFacts, newest_by_route
from covenq.operate.inspect.history import Step, Story, StoryEvent, StoryRules, StoryTask
from covenq.operate.inspect.story_answers import answers
from covenq.operate.inspect.story_text import ENDED, because, by_whom, cause, route_list
from covenq.operate.origin import FETCHED
from covenq.operate.signed_later import parse_note
from covenq.routing.held import HELD
from journal.records import Record


def build_story(facts: DeliveryFacts) -> Story:
    """A delivery's history as one object."""
    delivery = facts.delivery
    return Story(
        id=f"{delivery.hook}/{delivery.guid}",
        delivery=delivery,
        tasks=[
            StoryTask(
                **{**asdict(task), "waits": facts.waiting.get(task.id)},
                attempt_objects=list(facts.attempts.get(task.id, ())),
                last_output=facts.outputs.get(task.id),
                waiting=facts.waiting.get(task.id),
            )
            for task in facts.tasks
        ],
        answers=answers(facts),
        events=_events(facts),
        rules=StoryRules(_same_rules(facts), list(facts.verdicts)),
        next=list(_next_steps(facts)),
    )


# ---- what happened, in order


def _events(facts: DeliveryFacts) -> list[StoryEvent]:
    # The row says that it was erased, too.
    events = [*_row_events(facts), *(_note_event(note) for note in facts.notes if note.kind != Kind.REDACTED)]
    return sorted(events, key=lambda event: (event.at, event.seq or 0))


def _event(at: str | None, seq: int | None, word: str, words: str, task: str | None = None) -> StoryEvent:
    return StoryEvent(at or "", seq, word, task, words)


def _row_events(facts: DeliveryFacts) -> Iterator[StoryEvent]:
    delivery = facts.delivery
    what = f"{delivery.event}.{delivery.action}" if delivery.action else str(delivery.event)
    origin = facts.origin
    if origin is not None and origin.delivered_at is not None:
        yield _event(origin.delivered_at, None, "sent", "GitHub first sent it")
    fetched = origin is not None and origin.reason == FETCHED
    way = (
        "arrived and was" if origin is None else "was fetched from GitHub's log and" if fetched else "was imported and"
    )
    yield _event(delivery.received_at, delivery.seq, "received", f"{what} {way} made durable")
    if delivery.state == State.IGNORED:
        by = facts.rerouted
        seq = delivery.seq if by is None else by.seq + 1  # one append has both
        yield _event(facts.ignored_at, seq, "ignored", str(delivery.detail or delivery.reason))
    for task in facts.tasks:
        again = f", replay {task.replay}" if task.replay else ""
        yield _event(
            task.created_at,
            task.created_seq,
            "queued",
            f"it became task {task.id} of route {task.route}{again}",
            task.id,
        )
        for attempt in facts.attempts.get(task.id, ()):
            yield from _attempt_events(task, attempt, several=len(facts.tasks) > 1)
    if facts.dropped_by is not None:
        gone = facts.dropped_by
        what = "content was erased" if delivery.redacted else "payload was dropped"
        yield _event(gone.at, gone.seq, "dropped", f"its {what}{because(gone.by, gone.reason)}")


def _attempt_events(task: Task, attempt: Attempt, *, several: bool) -> Iterator[StoryEvent]:
    """The events of one attempt. Where the delivery has several tasks, each says whose it is."""
    again = f", replay {task.replay}" if task.replay else ""
    number = f"{attempt.attempt} ({task.route}{again})" if several else str(attempt.attempt)
    yield _event(attempt.started_at, attempt.claim_seq, "attempt", f"attempt {number} by {attempt.worker}", task.id)
    for phase in attempt.phases:
        yield _event(phase[1], attempt.claim_seq, "phase", f"attempt {number}: {phase[0]}", task.id)
    if attempt.ended_at:
        outcome = str(attempt.outcome)
        words = f"attempt {number} {ENDED.get(outcome, outcome)}"
        if outcome != State.COMPLETED and (attempt.category or attempt.detail):
            words += f": {cause(attempt)}"
        yield _event(attempt.ended_at, attempt.claim_seq, outcome, words, task.id)


_NOTE_WORDS = {
    Kind.REPEATED: "came again, the same: answered 200, no new task",
    Kind.CONFLICTED: "came again with another body: refused with 409",
    Kind.REPLAYED: "was replayed",
    Kind.REROUTED: "was rerouted",
    Kind.REQUEUED: "was requeued",
    Kind.CANCELLED: "was cancelled",
    Kind.SUPERSEDED: "was superseded",
}


def _note_event(note: Record) -> StoryEvent:
    _, _, word = note.kind.partition(".")
    task = note.subject.split(".")[1] if note.subject.startswith("task.") else None
    what = f"{task or 'it'} {_NOTE_WORDS.get(Kind(note.kind), word)}"
    if note.kind == Kind.REROUTED and note.data.get("dismissed"):
        word, what = "dismissed", "it was dismissed"
    if note.kind == Kind.SUPERSEDED and note.data.get("by_task"):
        what += f" by task {note.data['by_task']}"
    if note.kind == Kind.CONFLICTED and note.data.get("source") == "import":
        what = "it was imported again with another body, that was signed: refused"
    signed = parse_note(note)
    if signed is not None:
        what = f"it came again with the bytes that were signed, by the secret {signed.secret!r}: no new task"
    return _event(note.at, note.seq, word, what + by_whom(note), task)


# ---- the rules, and what to do


def _same_rules(facts: DeliveryFacts) -> bool | None:
    """Whether the delivery was decided by today's configuration; None where that is not known."""
    then = {task.config for task in facts.tasks if task.config} or {facts.decided_by} - {None}
    return then == {facts.config} if then and facts.config else None


def _next_steps(facts: DeliveryFacts) -> Iterator[Step]:
    delivery = facts.delivery
    id = f"{delivery.hook}/{delivery.guid}"
    gone = bool(delivery.redacted or delivery.payload_dropped)
    wanted = [verdict.route for verdict in facts.verdicts if verdict.matches]
    if not facts.tasks:
        if delivery.event == "ping" or gone:
            return
        if delivery.state == State.RECEIVED and delivery.reason == HELD:
            yield Step("it is held back: route it, if it was not worked on", f"covenq reroute {id}")
            yield Step("if it was: have it ignored", f"covenq reroute {id} --ignore")
            yield Step("see all that are held back", f"covenq deliveries state:received reason:{HELD}")
        elif wanted:
            yield Step(f"today {route_list(wanted)} would take it", f"covenq reroute {id}")
        elif delivery.state == State.RECEIVED:
            yield Step("mend the rule that failed, then route it", f"covenq reroute {id}")
        else:
            yield Step("no route of today wants it: see which there are, and change one", "covenq routes")
        return
    for task in newest_by_route(facts.tasks):
        name = task.id
        match task.state:
            case State.RUNNING:
                yield Step("watch it", f"covenq tail -f id:{name}")
                if task.kind == "run":
                    yield Step("watch what it writes", f"covenq logs {name} -f")
                yield Step("stop it", f"covenq cancel {name}")
            case State.QUEUED:
                waits = facts.waiting.get(name)
                if waits is not None and waits.word.startswith("paused"):
                    yield Step("see what is paused, and by whom", "covenq status")
                yield from _install_step(task, facts)
                yield Step("end it", f"covenq cancel {name}")
            case state if state in REQUEUEABLE:
                yield from _install_step(task, facts)
                if state == State.FAILED:
                    what = "show" if facts.outputs.get(name) is None else "logs"
                    yield Step("see its output", f"covenq {what} {name}")
                attempts = facts.attempts.get(name, ())
                if not gone and forward_signature.refused(task, attempts, delivery, facts.signing):
                    yield from forward_signature.steps(task, delivery, facts.signing)
                elif not gone:
                    yield Step("run it again, as it was decided then", f"covenq requeue {name}")
    if delivery.state == State.COMPLETED and not gone:
        yield Step("have it done again by today's routes", f"covenq replay {id} --force")
    elif delivery.state in REQUEUEABLE and not gone:
        yield Step("have it decided anew by today's routes", f"covenq replay {id}")


def _install_step(task: Task, facts: DeliveryFacts) -> Iterator[Step]:
    """Of a command of the daemon's whose program could not be started: where it would be found.

    By the phases that it came to: before `prepared` its directory could not be made, after `started` its process not be watched.
    """
    attempts = facts.attempts.get(task.id, ())
    last = attempts[-1] if attempts else None
    if task.kind != "run" or last is None or last.category != Category.SPAWN:
        return
    phases = {name for name, _ in last.phases}
    if "prepared" not in phases or "started" in phases:
        return
    where = facts.config_path or "the configuration"
    yield Step(
        f"its program could not be started: install it, or write its whole path in {where}",
        "covenq doctor",
    )
