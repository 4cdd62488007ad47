"""The six answers of a delivery's history, each a sentence.

Was it accepted, ignored, failed, retried, duplicated, and where is it now?
"""

from __future__ import annotations

from covenq.model import Kind, State
from covenq.model.rows import Delivery, Origin, SignedLater, Task
from covenq.operate.inspect import forward_signature
from covenq.operate.inspect.delivery_facts import DeliveryFacts, newest_by_route
from covenq.operate.inspect.history import AcceptedAnswer, NowAnswer, StoryAnswer, StoryAnswers
from covenq.operate.inspect.not_retried import why_not_retried
from covenq.operate.inspect.story_text import ENDED, by_whom, cause, count, route_list, times, when, who
from covenq.routing.held import HELD
from journal.records import Record


def answers(facts: DeliveryFacts) -> StoryAnswers:
    return StoryAnswers(
        accepted=_accepted(facts.delivery, facts.origin, facts.signed_later),
        ignored=_ignored(facts),
        failed=_failed(facts),
        retried=_retried(facts),
        duplicated=_duplicated(facts),
        now=_now(facts),
    )


def _accepted(delivery: Delivery, origin: Origin | None, signed_later: SignedLater | None) -> AcceptedAnswer:
    body = None if origin is None else origin.body
    if body == "verified" and delivery.secret:
        proof = (
            "it was imported out of GitHub's delivery log, and its signature, made with the secret "
            f"{delivery.secret!r}, fits the bytes that were rebuilt from it"
        )
    elif body == "unverified":
        whom = (origin and origin.by) or "whoever imported it"
        proof = (
            "it was imported out of GitHub's delivery log as unverified: no secret signed what could be rebuilt of it, so "
            f"that it is GitHub's is shown by no signature, only by where {whom} had it from"
        )
    elif delivery.secret:
        proof = f"its signature was made with the secret {delivery.secret!r}"
    elif delivery.source == "import":
        proof = "it was imported, so no signature was checked"
    else:
        proof = "nothing says which secret verified it"
    if signed_later is not None:
        proof += (
            f"; the bytes that were signed came later, at {when(signed_later.at)} (record {signed_later.seq}), with its JSON: "
            f"{signed_later.payload_bytes} bytes that the secret {signed_later.secret!r} signed"
        )
    size = delivery.payload_bytes
    return AcceptedAnswer(
        True,
        f"Yes: durable as record {delivery.seq} since {when(delivery.received_at)}, {size or 0} bytes; {proof}.",
        secret=delivery.secret,
    )


def _ignored(facts: DeliveryFacts) -> StoryAnswer:
    delivery = facts.delivery
    if delivery.state == State.IGNORED:
        return StoryAnswer(True, f"Yes, {delivery.reason}: {delivery.detail or 'no more is known.'}")
    if delivery.state == State.RECEIVED and delivery.reason == HELD:
        return StoryAnswer(False, f"No, but it isn't routed either: it is held back. {delivery.detail}")
    if delivery.state == State.RECEIVED:
        return StoryAnswer(False, "No, but it isn't routed either: a rule failed, or routing was held up.")
    routes = dict.fromkeys(task.route for task in facts.tasks)
    before = any(note.kind == Kind.REROUTED and note.data.get("tasks") for note in facts.notes)
    return StoryAnswer(
        False,
        f"No: {route_list(routes)} wanted it."
        + (" At first no rule decided for it; it was rerouted." if before else ""),
    )


def _failed(facts: DeliveryFacts) -> StoryAnswer:
    failed = [task for task in newest_by_route(facts.tasks) if task.state == State.FAILED]
    if failed:
        return StoryAnswer(True, " ".join(_failure(task, facts) for task in failed))
    ended = [
        (task, attempt)
        for task in facts.tasks
        for attempt in facts.attempts.get(task.id, ())
        if attempt.outcome == State.FAILED
    ]
    if not ended:
        return StoryAnswer(False, "No." if facts.tasks else "No: nothing ran for it.")
    task, attempt = ended[-1]
    also = f"; {len(ended)} attempts failed in all" if len(ended) > 1 else ""
    return StoryAnswer(False, f"Not for good: attempt {attempt.attempt} of {task.id} failed ({cause(attempt)}{also}).")


def _failure(task: Task, facts: DeliveryFacts) -> str:
    attempts = facts.attempts.get(task.id, ())
    last = attempts[-1] if attempts else None
    why = cause(last) if last is not None and last.outcome == State.FAILED else cause(task)
    told = f"Yes: task {task.id} of route {task.route} failed after {count(task.attempts, 'attempt')}: {why}."
    if forward_signature.refused(task, attempts, facts.delivery, facts.signing):
        told += f" {forward_signature.sentence(task, facts.delivery, facts.signing)}"
    return told


def _retried(facts: DeliveryFacts) -> StoryAnswer:
    parts = [
        f"{count(task.attempts, 'attempt')} of {task.id} (route {task.route})"
        for task in facts.tasks
        if task.attempts > 1
    ]
    by_hand = [note for note in facts.notes if note.kind in (Kind.REPLAYED, Kind.REQUEUED)]
    if by_hand:
        parts.append(", ".join(_operator_action(note) for note in by_hand))
    no_more = _no_more(facts)
    if not parts:
        return StoryAnswer(False, f"No: {no_more}." if no_more else "No.")
    return StoryAnswer(True, f"Yes: {'; '.join(parts)}." + (f" No more: {no_more}." if no_more else ""))


def _no_more(facts: DeliveryFacts) -> str:
    """Why what failed is not tried again; with the route's name where there are several. Empty if nothing is to be said."""
    newest = newest_by_route(facts.tasks)
    told = [(task, why_not_retried(task, facts.attempts.get(task.id, ()))) for task in newest]
    return "; ".join(f"{why} (route {task.route})" if len(newest) > 1 else why for task, why in told if why)


def _operator_action(note: Record) -> str:
    what = "replayed" if note.kind == Kind.REPLAYED else "requeued"
    return f"{what}{by_whom(note)}"


def _duplicated(facts: DeliveryFacts) -> StoryAnswer:
    delivery = facts.delivery
    parts = []
    if delivery.duplicates:
        last = [note for note in facts.notes if note.kind == Kind.REPEATED]
        newest = f", last at {when(last[-1].at)}" if last else ""
        parts.append(f"it came {times(delivery.duplicates)} more{newest}; none made another task")
    if delivery.conflicts:
        parts.append(f"{times(delivery.conflicts)} it came with another body, which was refused")
    if delivery.twin:
        parts.append(f"its body had come before as {delivery.twin}: it is a twin, under another id")
    return StoryAnswer(bool(parts), f"Yes: {'; '.join(parts)}." if parts else "No.")


def _now(facts: DeliveryFacts) -> NowAnswer:
    delivery = facts.delivery
    parts = [_task_now(task, facts) for task in newest_by_route(facts.tasks)]
    if not parts and delivery.state == State.RECEIVED and delivery.reason == HELD:
        parts = [
            f"Held back until somebody routes it: `covenq reroute` does, or dismisses it (--ignore). {delivery.detail}"
        ]
    if not parts:
        parts = [
            f"Ignored since {when(facts.ignored_at)}: it stays so until somebody reroutes it."
            if delivery.state == State.IGNORED
            else f"Received, and not routed{_routing_problem(delivery)}: `covenq serve` tries again at its next start, "
            "`covenq reroute` now."
        ]
    return NowAnswer(None, " ".join(parts), word=delivery.state)


def _routing_problem(delivery: Delivery) -> str:
    return f", since {delivery.detail.rstrip('.')}" if delivery.detail else ""


def _task_now(task: Task, facts: DeliveryFacts) -> str:
    name = f"{task.id} (route {task.route})"
    attempts = facts.attempts.get(task.id, ())
    match task.state:
        case State.QUEUED:
            waiting = facts.waiting.get(task.id)
            why = f": {waiting.why.rstrip('.')}" if waiting and waiting.why else ""
            return f"{name} waits{why}."
        case State.RUNNING:
            phase = f", {attempts[-1].phases[-1][0]}" if attempts and attempts[-1].phases else ""
            since = when(attempts[-1].started_at) if attempts else "a moment ago"
            return f"{name} runs: attempt {task.attempts} since {since} at {who(task)}{phase}."
        case state:
            why = f", {task.reason.rstrip('.')}" if task.reason and state != State.COMPLETED else ""
            return f"{name} {ENDED[state]} at {when(task.updated_at)}{why}."
