"""The history of a delivery: what became of a request and why, from its arrival to where it is now, and what to do next.

Values in, an object out: `covenq.operate.inspect.why` gathers the facts, `story_answers` answers the six questions,
`verdict` says it in one sentence, `next_steps` what to type, and `story_text` has the wording.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import asdict

from covenq.model import Kind, State
from covenq.model.rows import Attempt, Task
from covenq.model.uninstall_record import is_uninstall_subject
from covenq.operate.inspect.delivery_facts import DeliveryFacts
from covenq.operate.inspect.history import Story, StoryEvent, StoryRules, StoryTask
from covenq.operate.inspect.next_steps import next_steps
from covenq.operate.inspect.story_answers import answers
from covenq.operate.inspect.story_text import ENDED, because, by_whom, cause, who
from covenq.operate.inspect.uninstall_story import uninstall_words
from covenq.operate.inspect.verdict import verdict
from covenq.operate.origin import FETCHED
from covenq.operate.signed_later import parse_note
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
        next=list(next_steps(facts)),
        verdict=verdict(facts),
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
    yield _event(attempt.started_at, attempt.claim_seq, "attempt", f"attempt {number} by {who(attempt)}", task.id)
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
    if is_uninstall_subject(note.subject):
        return _event(note.at, note.seq, word, uninstall_words(note))
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


# ---- the rules


def _same_rules(facts: DeliveryFacts) -> bool | None:
    """Whether the delivery was decided by today's configuration; None where that is not known."""
    then = {task.config for task in facts.tasks if task.config} or {facts.decided_by} - {None}
    return then == {facts.config} if then and facts.config else None
