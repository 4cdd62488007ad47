"""The story of a delivery: what became of a request and why, from its arrival to where it is now, and what to do next.

Values in, an object and its words out; `covenq.operate.inspect.why` gathers what is told. Six questions are answered
each by a sentence: was it accepted, ignored, failed, retried, duplicated, and where is it now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from covenq.model import REQUEUEABLE, JsonObject, Kind, State
from covenq.routing.verdicts import Verdict
from journal.records import Record

QUESTIONS = ("accepted", "ignored", "failed", "retried", "duplicated", "now")
ENDED = {"completed": "completed", "failed": "failed", "cancelled": "was cancelled", "superseded": "was superseded"}


@dataclass(frozen=True, slots=True)
class Material:
    """What is known of one delivery."""

    delivery: JsonObject
    """The delivery object."""
    tasks: Sequence[JsonObject]
    """Its tasks, oldest first."""
    attempts: Mapping[str, Sequence[JsonObject]]
    """By task id."""
    notes: Sequence[Record] = ()
    """The newest of the rarer records of it and its tasks, oldest first."""
    decided_by: str | None = None
    """Hash of the configuration that first decided about it; None where nobody wrote it down."""
    verdicts: Sequence[Verdict] = ()
    """Today's routes on it."""
    config: str | None = None
    """Hash of today's configuration."""
    waiting: Mapping[str, JsonObject] = field(default_factory=dict)
    """Why a queued task doesn't run: {"word", "why", "position"}, by task id."""
    dropped_by: JsonObject | None = None
    """{"seq", "at", "kind", "by", "reason"} of the record that took its content away."""
    url: str | None = None


def tell(known: Material) -> JsonObject:
    """{"id", "delivery", "tasks": [{…task, "attempt_objects", "waiting"}…], "answers": {question: {"yes", "words"}…},
    "events": [{"at", "seq", "word", "words"}…] by time, "rules": {"same": bool or None, "routes": [verdict…]},
    "next": [{"words", "command"}…]}. `yes` is None for `now`, whose `word` is the state.
    """
    delivery = known.delivery
    return {
        "id": f"{delivery['hook']}/{delivery['guid']}",
        "delivery": delivery,
        "tasks": [
            {
                **task,
                "attempt_objects": list(known.attempts.get(task["id"], ())),
                "waiting": known.waiting.get(task["id"]),
            }
            for task in known.tasks
        ],
        "answers": {
            "accepted": _accepted(delivery),
            "ignored": _ignored(known),
            "failed": _failed(known),
            "retried": _retried(known),
            "duplicated": _duplicated(known),
            "now": _now(known),
        },
        "events": _events(known),
        "rules": {"same": _same(known), "routes": [verdict.object() for verdict in known.verdicts]},
        "next": list(_next(known)),
    }


# ---- the six answers


def _answer(yes: bool | None, words: str, **more: Any) -> JsonObject:
    return {"yes": yes, "words": words, **more}


def _accepted(delivery: JsonObject) -> JsonObject:
    if delivery["secret"]:
        proof = f"its signature was made with the secret {delivery['secret']!r}"
    elif delivery["source"] == "import":
        proof = "it was imported, so no signature was checked"
    else:
        proof = "nothing says which secret verified it"
    size = delivery["payload_bytes"]
    return _answer(
        True,
        f"Yes: durable as record {delivery['seq']} since {_when(delivery['received_at'])}, {size or 0} bytes; {proof}.",
        secret=delivery["secret"],
    )


def _ignored(known: Material) -> JsonObject:
    delivery = known.delivery
    if delivery["state"] == State.IGNORED:
        return _answer(True, f"Yes, {delivery['reason']}: {delivery['detail'] or 'no more is known.'}")
    if delivery["state"] == State.RECEIVED:
        return _answer(False, "No, but it isn't routed either: a rule failed, or routing was held up.")
    routes = dict.fromkeys(task["route"] for task in known.tasks)
    before = any(note.kind == Kind.REROUTED for note in known.notes)
    return _answer(
        False,
        f"No: {_list(routes)} wanted it." + (" At first no rule decided for it; it was rerouted." if before else ""),
    )


def _failed(known: Material) -> JsonObject:
    failed = [task for task in _newest(known.tasks) if task["state"] == State.FAILED]
    if failed:
        return _answer(True, " ".join(_failure(task, known.attempts.get(task["id"], ())) for task in failed))
    ended = [
        (task, attempt)
        for task in known.tasks
        for attempt in known.attempts.get(task["id"], ())
        if attempt["outcome"] == State.FAILED
    ]
    if not ended:
        return _answer(False, "No." if known.tasks else "No: nothing ran for it.")
    task, attempt = ended[-1]
    also = f" ({len(ended)} attempts failed in all)" if len(ended) > 1 else ""
    return _answer(False, f"Not for good: attempt {attempt['attempt']} of {task['id']} failed, {_why(attempt)}{also}.")


def _failure(task: JsonObject, attempts: Sequence[JsonObject]) -> str:
    last = attempts[-1] if attempts else None
    why = _why(last) if last is not None and last["outcome"] == State.FAILED else _why(task)
    return f"Yes: task {task['id']} of route {task['route']} failed after {_count(task['attempts'], 'attempt')}, {why}."


def _why(thing: JsonObject) -> str:
    """An attempt's or a task's category and what is known beyond it."""
    told = str(thing["category"] or thing.get("reason") or "nobody said why")
    if thing.get("exit_code") is not None:
        told += f", exit code {thing['exit_code']}"
    if thing.get("signal") is not None:
        told += f", signal {thing['signal']}"
    return told + (f": {thing['detail'].rstrip('.')}" if thing.get("detail") else "")


def _retried(known: Material) -> JsonObject:
    told = [
        f"{_count(task['attempts'], 'attempt')} of {task['id']} (route {task['route']})"
        for task in known.tasks
        if task["attempts"] > 1
    ]
    by_hand = [note for note in known.notes if note.kind in (Kind.REPLAYED, Kind.REQUEUED)]
    if by_hand:
        told.append(", ".join(_by_hand(note) for note in by_hand))
    return _answer(bool(told), f"Yes: {'; '.join(told)}." if told else "No.")


def _by_hand(note: Record) -> str:
    what = "replayed" if note.kind == Kind.REPLAYED else "requeued"
    return f"{what}{_who(note)}"


def _duplicated(known: Material) -> JsonObject:
    delivery = known.delivery
    told = []
    if delivery["duplicates"]:
        last = [note for note in known.notes if note.kind == Kind.REPEATED]
        when = f", last at {_when(last[-1].at)}" if last else ""
        told.append(f"it came {_times(delivery['duplicates'])} more{when}; none made another task")
    if delivery["conflicts"]:
        told.append(f"{_times(delivery['conflicts'])} it came with another body, which was refused with 409")
    if delivery["twin"]:
        told.append(f"its body had come before as {delivery['twin']}: it is a twin, under another id")
    return _answer(bool(told), f"Yes: {'; '.join(told)}." if told else "No.")


def _now(known: Material) -> JsonObject:
    delivery = known.delivery
    told = [_where(task, known) for task in _newest(known.tasks)]
    if not told:
        told = [
            f"Ignored since {_when(delivery['received_at'])}: it stays so until somebody reroutes it."
            if delivery["state"] == State.IGNORED
            else f"Received, and not routed{_problem(delivery)}: `covenq serve` tries again at its next start, "
            "`covenq reroute` now."
        ]
    return _answer(None, " ".join(told), word=delivery["state"])


def _problem(delivery: JsonObject) -> str:
    return f", since {delivery['detail'].rstrip('.')}" if delivery["detail"] else ""


def _where(task: JsonObject, known: Material) -> str:
    name = f"{task['id']} (route {task['route']})"
    attempts = known.attempts.get(task["id"], ())
    match task["state"]:
        case State.QUEUED:
            waiting = known.waiting.get(task["id"])
            why = f": {waiting['why'].rstrip('.')}" if waiting and waiting.get("why") else ""
            return f"{name} waits{why}."
        case State.RUNNING:
            phase = f", {attempts[-1]['phases'][-1][0]}" if attempts and attempts[-1]["phases"] else ""
            since = _when(attempts[-1]["started_at"]) if attempts else "a moment ago"
            return f"{name} runs: attempt {task['attempts']} since {since} at {task['worker']}{phase}."
        case state:
            why = f", {task['reason'].rstrip('.')}" if task["reason"] and state != State.COMPLETED else ""
            return f"{name} {ENDED[state]} at {_when(task['updated_at'])}{why}."


def _newest(tasks: Sequence[JsonObject]) -> list[JsonObject]:
    """The newest replay of each route: what the delivery's state is folded from."""
    newest: dict[str, JsonObject] = {}
    for task in tasks:
        newest[task["route"]] = task
    return list(newest.values())


# ---- what happened, in order


def _events(known: Material) -> list[JsonObject]:
    # That it was erased the row has as well.
    told = [*_of_rows(known), *(_of_note(note) for note in known.notes if note.kind != Kind.REDACTED)]
    return sorted(told, key=lambda event: (event["at"], event["seq"] or 0))


def _event(at: str | None, seq: int | None, word: str, words: str, task: str | None = None) -> JsonObject:
    return {"at": at or "", "seq": seq, "word": word, "task": task, "words": words}


def _of_rows(known: Material) -> Iterator[JsonObject]:
    delivery = known.delivery
    what = f"{delivery['event']}.{delivery['action']}" if delivery["action"] else str(delivery["event"])
    yield _event(delivery["received_at"], delivery["seq"], "received", f"{what} arrived and was made durable")
    if delivery["state"] == State.IGNORED:
        yield _event(delivery["received_at"], delivery["seq"], "ignored", str(delivery["detail"] or delivery["reason"]))
    for task in known.tasks:
        again = f", replay {task['replay']}" if task["replay"] else ""
        yield _event(
            task["created_at"],
            task["created_seq"],
            "queued",
            f"it became task {task['id']} of route {task['route']}{again}",
            task["id"],
        )
        for attempt in known.attempts.get(task["id"], ()):
            yield from _of_attempt(task, attempt)
    if known.dropped_by is not None:
        gone = known.dropped_by
        what = "content was erased" if delivery["redacted"] else "payload was dropped"
        yield _event(gone["at"], gone["seq"], "dropped", f"its {what}{_because(gone['by'], gone['reason'])}")


def _of_attempt(task: JsonObject, attempt: JsonObject) -> Iterator[JsonObject]:
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
            words += f", {_why(attempt)}"
        yield _event(attempt["ended_at"], attempt["claim_seq"], outcome, words, task["id"])


_NOTED = {
    Kind.REPEATED: "came again, the same: answered 200, no new task",
    Kind.CONFLICTED: "came again with another body: refused with 409",
    Kind.REPLAYED: "was replayed",
    Kind.REROUTED: "was rerouted",
    Kind.REQUEUED: "was requeued",
    Kind.CANCELLED: "was cancelled",
    Kind.SUPERSEDED: "was superseded",
}


def _of_note(note: Record) -> JsonObject:
    _, _, word = note.kind.partition(".")
    task = note.subject.split(".")[1] if note.subject.startswith("task.") else None
    what = f"{task or 'it'} {_NOTED.get(Kind(note.kind), word)}"
    if note.kind == Kind.SUPERSEDED and note.data.get("by_task"):
        what += f" by task {note.data['by_task']}"
    return _event(note.at, note.seq, word, what + _who(note), task)


def _who(note: Record) -> str:
    return _because(note.data.get("by"), note.data.get("reason"))


def _because(by: object, reason: object) -> str:
    return (f" by {by}" if by else "") + (f": {str(reason).rstrip('.')}" if reason else "")


# ---- the rules, and what to do


def _same(known: Material) -> bool | None:
    """Whether today's configuration is that by which it was decided; None where that is not known."""
    then = {task["config"] for task in known.tasks if task["config"]} or {known.decided_by} - {None}
    return then == {known.config} if then and known.config else None


def _next(known: Material) -> Iterator[JsonObject]:
    delivery = known.delivery
    id = f"{delivery['hook']}/{delivery['guid']}"
    gone = bool(delivery["redacted"] or delivery["payload_dropped"])
    wanted = [verdict.route for verdict in known.verdicts if verdict.matches]
    if not known.tasks:
        if delivery["event"] == "ping" or gone:
            return
        if wanted:
            yield _do(f"today {_list(wanted)} would take it", f"covenq reroute {id}")
        elif delivery["state"] == State.RECEIVED:
            yield _do("mend the rule that failed, then route it", f"covenq reroute {id}")
        else:
            yield _do("no route of today wants it; change one, and see what it would have done", "covenq routes diff")
        return
    for task in _newest(known.tasks):
        name = task["id"]
        match task["state"]:
            case State.RUNNING:
                yield _do("watch it", f"covenq tail -f id:{name}")
                yield _do("stop it", f"covenq cancel {name}")
            case State.QUEUED:
                if str((known.waiting.get(name) or {}).get("word", "")).startswith("paused"):
                    yield _do("see what is paused, and by whom", "covenq status")
                yield _do("end it", f"covenq cancel {name}")
            case state if state in REQUEUEABLE:
                if state == State.FAILED:
                    yield _do("see its output", f"covenq show {name}")
                if not gone:
                    yield _do("run it again, as it was decided then", f"covenq requeue {name}")
    if delivery["state"] == State.COMPLETED and not gone:
        yield _do("have it done again by today's routes", f"covenq replay {id} --force")
    elif delivery["state"] in REQUEUEABLE and not gone:
        yield _do("have it decided anew by today's routes", f"covenq replay {id}")


def _do(words: str, command: str) -> JsonObject:
    return {"words": words, "command": command}


# ---- as text


def lines(story: JsonObject) -> Iterator[tuple[str, str]]:
    """(heading or "", words) for each line of a story, to be cleaned by who prints it."""
    yield f"delivery {story['id']}", ""
    for question in QUESTIONS:
        heading = "where is it now?" if question == "now" else f"{question}?"
        yield heading, story["answers"][question]["words"]
    yield "what happened", ""
    for event in story["events"]:
        yield _when(event["at"]), event["words"]
    yield from _rule_lines(story["rules"])
    if story["next"]:
        yield "what next", ""
        for step in story["next"]:
            yield step["command"], step["words"]


def _rule_lines(rules: JsonObject) -> Iterator[tuple[str, str]]:
    told = {
        True: "today's rules, the ones it was decided by",
        False: "today's rules, which are NOT the ones it was decided by",
        None: "today's rules",
    }[rules["same"]]
    yield told, ""
    if not rules["routes"]:
        yield "", "There are no routes."
    for verdict in rules["routes"]:
        yield verdict["route"], verdict_words(verdict)


def verdict_words(verdict: JsonObject) -> str:
    """One sentence of a rule: it matches, or on which terms it doesn't."""
    if verdict["matches"]:
        return f"matches: {verdict['match'] or 'everything'}"
    parts = []
    for term in verdict["terms"]:
        if term["problem"]:
            parts.append(f"{term['term']} can't be told: {term['problem']}")
        elif term["holds"] is False:
            seen = ", ".join(term["seen"])
            parts.append(
                f"{term['term']} is not so: it is {seen}" if seen else f"{term['term']} is not so: there is none"
            )
    return ("doesn't match: " if verdict["matches"] is False else "can't be told: ") + "; ".join(parts)


def _when(at: str | None) -> str:
    """To the second, UTC."""
    return f"{at[:10]} {at[11:19]}Z" if at else ""


def _count(number: int, one: str) -> str:
    return f"{number} {one}" if number == 1 else f"{number} {one}s"


def _times(number: int) -> str:
    return "once" if number == 1 else "twice" if number == 2 else f"{number} times"


def _list(names: Any) -> str:
    *most, last = (f"route {name}" for name in names)
    return f"{', '.join(most)} and {last}" if most else last
