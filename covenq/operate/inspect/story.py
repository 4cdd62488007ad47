"""The history of a delivery: what became of a request and why, from its arrival to where it is now, and what to do next.

Values in, an object out: `covenq.operate.inspect.why` gathers the facts, `story_answers` answers the six questions,
`story_text` has the wording.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from covenq.model import REQUEUEABLE, JsonObject, Kind, State
from covenq.operate.inspect.delivery_facts import DeliveryFacts, newest_by_route
from covenq.operate.inspect.story_answers import answers
from covenq.operate.inspect.story_text import ENDED, because, by_whom, cause, route_list
from journal.records import Record


def build_story(facts: DeliveryFacts) -> JsonObject:
    """A delivery's history as one object.

    It is {"id", "delivery", "tasks": [{…task, "attempt_objects", "waiting"}…], "answers": {question: {"yes", "words"}…},
    "events": [{"at", "seq", "word", "words"}…] by time, "rules": {"same": bool or None, "routes": [verdict…]}, "next":
    [{"words", "command"}…]}. `yes` is None for `now`, whose `word` is the state.
    """
    delivery = facts.delivery
    return {
        "id": f"{delivery['hook']}/{delivery['guid']}",
        "delivery": delivery,
        "tasks": [
            {
                **task,
                "attempt_objects": list(facts.attempts.get(task["id"], ())),
                "waiting": facts.waiting.get(task["id"]),
            }
            for task in facts.tasks
        ],
        "answers": answers(facts),
        "events": _events(facts),
        "rules": {"same": _same_rules(facts), "routes": msgspec.to_builtins(facts.verdicts)},
        "next": list(_next_steps(facts)),
    }


# ---- what happened, in order


def _events(facts: DeliveryFacts) -> list[JsonObject]:
    # The row says that it was erased, too.
    events = [*_row_events(facts), *(_note_event(note) for note in facts.notes if note.kind != Kind.REDACTED)]
    return sorted(events, key=lambda event: (event["at"], event["seq"] or 0))


def _event(at: str | None, seq: int | None, word: str, words: str, task: str | None = None) -> JsonObject:
    return {"at": at or "", "seq": seq, "word": word, "task": task, "words": words}


def _row_events(facts: DeliveryFacts) -> Iterator[JsonObject]:
    delivery = facts.delivery
    what = f"{delivery['event']}.{delivery['action']}" if delivery["action"] else str(delivery["event"])
    yield _event(delivery["received_at"], delivery["seq"], "received", f"{what} arrived and was made durable")
    if delivery["state"] == State.IGNORED:
        yield _event(delivery["received_at"], delivery["seq"], "ignored", str(delivery["detail"] or delivery["reason"]))
    for task in facts.tasks:
        again = f", replay {task['replay']}" if task["replay"] else ""
        yield _event(
            task["created_at"],
            task["created_seq"],
            "queued",
            f"it became task {task['id']} of route {task['route']}{again}",
            task["id"],
        )
        for attempt in facts.attempts.get(task["id"], ()):
            yield from _attempt_events(task, attempt)
    if facts.dropped_by is not None:
        gone = facts.dropped_by
        what = "content was erased" if delivery["redacted"] else "payload was dropped"
        yield _event(gone["at"], gone["seq"], "dropped", f"its {what}{because(gone['by'], gone['reason'])}")


def _attempt_events(task: JsonObject, attempt: JsonObject) -> Iterator[JsonObject]:
    number = attempt["attempt"]
    yield _event(
        attempt["started_at"], attempt["claim_seq"], "attempt", f"attempt {number} by {attempt['worker']}", task["id"]
    )
    for phase in attempt["phases"]:
        yield _event(phase[1], attempt["claim_seq"], "phase", f"attempt {number}: {phase[0]}", task["id"])
    if attempt["ended_at"]:
        outcome = str(attempt["outcome"])
        words = f"attempt {number} {ENDED.get(outcome, outcome)}"
        if outcome != State.COMPLETED and (attempt["category"] or attempt["detail"]):
            words += f", {cause(attempt)}"
        yield _event(attempt["ended_at"], attempt["claim_seq"], outcome, words, task["id"])


_NOTE_WORDS = {
    Kind.REPEATED: "came again, the same: answered 200, no new task",
    Kind.CONFLICTED: "came again with another body: refused with 409",
    Kind.REPLAYED: "was replayed",
    Kind.REROUTED: "was rerouted",
    Kind.REQUEUED: "was requeued",
    Kind.CANCELLED: "was cancelled",
    Kind.SUPERSEDED: "was superseded",
}


def _note_event(note: Record) -> JsonObject:
    _, _, word = note.kind.partition(".")
    task = note.subject.split(".")[1] if note.subject.startswith("task.") else None
    what = f"{task or 'it'} {_NOTE_WORDS.get(Kind(note.kind), word)}"
    if note.kind == Kind.SUPERSEDED and note.data.get("by_task"):
        what += f" by task {note.data['by_task']}"
    return _event(note.at, note.seq, word, what + by_whom(note), task)


# ---- the rules, and what to do


def _same_rules(facts: DeliveryFacts) -> bool | None:
    """Whether the delivery was decided by today's configuration; None where that is not known."""
    then = {task["config"] for task in facts.tasks if task["config"]} or {facts.decided_by} - {None}
    return then == {facts.config} if then and facts.config else None


def _next_steps(facts: DeliveryFacts) -> Iterator[JsonObject]:
    delivery = facts.delivery
    id = f"{delivery['hook']}/{delivery['guid']}"
    gone = bool(delivery["redacted"] or delivery["payload_dropped"])
    wanted = [verdict.route for verdict in facts.verdicts if verdict.matches]
    if not facts.tasks:
        if delivery["event"] == "ping" or gone:
            return
        if wanted:
            yield _step(f"today {route_list(wanted)} would take it", f"covenq reroute {id}")
        elif delivery["state"] == State.RECEIVED:
            yield _step("mend the rule that failed, then route it", f"covenq reroute {id}")
        else:
            yield _step("no route of today wants it; change one, and see what it would have done", "covenq routes diff")
        return
    for task in newest_by_route(facts.tasks):
        name = task["id"]
        match task["state"]:
            case State.RUNNING:
                yield _step("watch it", f"covenq tail -f id:{name}")
                yield _step("stop it", f"covenq cancel {name}")
            case State.QUEUED:
                if str((facts.waiting.get(name) or {}).get("word", "")).startswith("paused"):
                    yield _step("see what is paused, and by whom", "covenq status")
                yield _step("end it", f"covenq cancel {name}")
            case state if state in REQUEUEABLE:
                if state == State.FAILED:
                    yield _step("see its output", f"covenq show {name}")
                if not gone:
                    yield _step("run it again, as it was decided then", f"covenq requeue {name}")
    if delivery["state"] == State.COMPLETED and not gone:
        yield _step("have it done again by today's routes", f"covenq replay {id} --force")
    elif delivery["state"] in REQUEUEABLE and not gone:
        yield _step("have it decided anew by today's routes", f"covenq replay {id}")


def _step(words: str, command: str) -> JsonObject:
    return {"words": words, "command": command}
