"""Receiving one delivery: who sent it, which it is, what becomes of it, and the one durable append before the answer.

Everything is computed in the caller's thread from the request's own bytes; the only waits are the journal's append
and, for a delivery seen before, the fold. No answer below 300 is given for anything that is not durable.

`receive` waits and answers; `submit` is its short way, for who has better to do than to wait: it takes the plain case, and says
who else must go the long way.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from covenq.config.load import Config
from covenq.config.secret_keys import Key
from covenq.errors import BadRequest, CovenqError, StateBehind
from covenq.github import request as github_request
from covenq.github.columns import columns as columns_of
from covenq.github.signature import verifiers
from covenq.intake.twins import Reservation, Twins
from covenq.model import DeliveryId, JsonObject, Kind, State, at_text
from covenq.routing.decide import PING, Decision, route
from journal.errors import EntryRefused, JournalClosed, JournalError, JournalFull, JournalPoisoned
from journal.interface import Journal, Submitting
from journal.records import Appended, Conflict, Entry, Proof, Unknown

RETRY_AFTER_S = 30
UNKNOWN_TRIES = 5
"""How often the identical entries are repeated when a journal over a network gives no answer."""

log = logging.getLogger("covenq.intake")

Lookup = Callable[[DeliveryId, int], Mapping[str, Any] | None]
"""The delivery's row (the delivery object) once the state has folded at least that seq; None if it can't be had in time."""

Secrets = Sequence[Key]


@dataclass(frozen=True, slots=True)
class Request:
    """A POST to the webhook: headers in the order they came, and the body's bytes exactly as they came."""

    headers: Sequence[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What to say. `refusal` is the word to count it under, None if the delivery was accepted (now or before)."""

    status: int
    body: JsonObject
    headers: dict[str, str] = field(default_factory=dict)
    refusal: str | None = None


@dataclass(slots=True)
class _Delivery:
    """A request that passed the door."""

    id: DeliveryId
    event: str
    data: JsonObject
    about: JsonObject
    body: bytes
    object: JsonObject
    """The JSON in `body`."""
    proof: Proof | None

    def received(self, tasks: Sequence[str] | None, problem: str | None = None) -> Entry:
        """`data.tasks` names what the same append queues, so that a crash in its midst can be made good (`resume`).

        `problem` is the rule that failed, where nothing could be decided.
        """
        data = {**self.data, "tasks": tasks}
        if problem is not None:
            data["problem"] = problem
        return Entry(self.id.subject, str(Kind.RECEIVED), data, self.about, self.body, expect=0, proof=self.proof)


def receive(
    request: Request,
    *,
    journal: Journal,
    secrets: Secrets,
    config: Config,
    lookup: Lookup,
    clock: Callable[[], float] = time.time,
    twins: Twins | None = None,
) -> Answer:
    """Answer one request, by the first that applies of: 413, 415, 401, 400, 409 for a twin where those are refused, and
    then what the journal says: 202 for a new delivery (200 for a ping), 200 for one seen before, 409 for another body
    under its id, 503 if it can't be made durable or nothing can be known of it now. Raises nothing for anything a
    request may hold.
    """
    delivery = _validated(request, secrets, config)
    if isinstance(delivery, Answer):
        return delivery
    reservation: Reservation | None = None
    recorded: int | None = None
    try:
        if twins is not None and config.asks_for_twins:
            reservation = twins.reserve(hashlib.sha256(delivery.body).hexdigest(), delivery.id, config)
            delivery.data["twin"] = reservation.twin
            if config.twins == "refuse" and _refuses_twin(reservation, delivery, journal):
                return refuse(
                    409, "twin", f"This body came before, under the GUID {reservation.twin}; nothing is recorded."
                )
        answer = _route_and_append(delivery, config, journal, lookup, clock)
        recorded = answer.body.get("seq")
        return answer
    except StateBehind as error:
        if config.twins == "refuse":
            return refuse(503, "state_behind", f"It can't be told now whether this body came before: {error}.")
        log.warning("%s is not compared with what came before: %s", delivery.id, error)
        return _route_and_append(delivery, config, journal, lookup, clock)
    except JournalError as error:
        return unavailable(error)
    finally:
        if reservation is not None:
            reservation.end(recorded)


def _validated(request: Request, keys: Secrets, config: Config) -> Answer | _Delivery:
    """The delivery, if whoever sent it may, and it is one; else the refusal."""
    headers = github_request.fold_headers(request.headers)
    if len(request.body) > config.body_limit:
        return refuse(413, "body_too_large", f"The body is over {config.body_limit} bytes.")
    content_type = headers.get("content-type")
    if github_request.is_form(content_type) is None:
        return refuse(415, "content_type_unsupported", "Content-Type is neither application/json nor a form.")
    signature = headers.get("x-hub-signature-256")
    if signature is None:
        return refuse(401, "signature_missing", "There is no X-Hub-Signature-256 header.")
    signers = verifiers(keys, request.body, signature)
    if not signers:
        return refuse(401, "signature_wrong", "X-Hub-Signature-256 is not this body's under any configured secret.")
    try:
        identity = github_request.identity(headers)
        if config.hooks and identity.delivery.hook not in config.hooks:
            return refuse(401, "hook_not_allowed", f"Hook {identity.delivery.hook} is not among [github] hooks.")
        parsed = github_request.parse(request.body, content_type)
    except BadRequest as error:
        return refuse(400, error.word, error.detail)
    columns, about = columns_of(identity.event, parsed.object)
    # Only now, out of a body that somebody signed, is it read whom that somebody may speak for.
    named = identity.delivery.hook, columns["installation"], about["repo"]
    secret = next((key.name for key in signers if key.scope.covers(*named)), None)
    if secret is None:
        names = " and ".join(repr(key.name) for key in signers)
        what = "hook, installation or repository"
        return refuse(401, "signature_out_of_scope", f"Secret {names} signed it, whose scope leaves out its {what}.")
    data: JsonObject = {
        "hook": identity.delivery.hook,
        "guid": identity.delivery.guid,
        "event": identity.event,
        **columns,
        "secret": secret,
        "source": "http",
        "headers": github_request.recorded_headers(request.headers),
        "twin": None,
    }
    return _Delivery(identity.delivery, identity.event, data, about, request.body, parsed.object, parsed.proof)


def _refuses_twin(reservation: Reservation, delivery: _Delivery, journal: Journal) -> bool:
    """Whether it is a twin to turn away. Not if it came before under its own id: then that is what it is answered by, and
    it may have been let in when twins were marked. Raises JournalError.
    """
    if reservation.twin is None or reservation.own or delivery.event == PING:
        return False
    return journal.last(delivery.id.subject) is None


def _route_and_append(
    delivery: _Delivery, config: Config, journal: Journal, lookup: Lookup, clock: Callable[[], float]
) -> Answer:
    """Route it, record it, and say how that went."""
    decision = _decided(delivery, config, clock)
    entries = _entries(delivery, decision)
    try:
        return _answer_to_append(delivery, decision, entries, append(journal, entries), journal, lookup)
    except JournalError as error:
        return unavailable(error)


def _decided(delivery: _Delivery, config: Config, clock: Callable[[], float]) -> Decision:
    row = {
        **delivery.data,
        **delivery.about,
        "payload_bytes": len(delivery.body),
        "received_at": at_text(clock()),
    }
    return decide(config, delivery.id, row, lambda: delivery.object, clock)


class Submitted:
    """A delivery on its way into the journal, and what it will be answered."""

    __slots__ = ("_decision", "_delivery", "_done", "_entries", "_journal", "_lookup", "_result")

    def __init__(
        self,
        delivery: _Delivery,
        decision: Decision,
        entries: list[Entry],
        journal: Journal,
        lookup: Lookup,
        done: Callable[[Submitted], None],
    ) -> None:
        self._delivery = delivery
        self._decision = decision
        self._entries = entries
        self._journal = journal
        self._lookup = lookup
        self._done = done
        self._result: Appended | Conflict | JournalError | None = None

    def on_result(self, result: Appended | Conflict | JournalError) -> None:
        """What the journal calls, after the sync or with what went wrong."""
        self._result = result
        self._done(self)

    @property
    def plain(self) -> bool:
        """Whether it is newly accepted, so that `answer` waits for nothing."""
        return isinstance(self._result, Appended)

    def answer(self) -> Answer:
        """What `receive` would have said; only after `on_result`. May wait for the journal and the fold, if not `plain`."""
        result = self._result
        assert result is not None, "an answer rests on what the journal has told"
        if isinstance(result, JournalError):
            return unavailable(result)
        try:
            return _answer_to_append(self._delivery, self._decision, self._entries, result, self._journal, self._lookup)
        except JournalError as error:
            return unavailable(error)


def submit(
    request: Request,
    *,
    journal: Submitting,
    secrets: Secrets,
    config: Config,
    lookup: Lookup,
    done: Callable[[Submitted], None],
    after: Callable[[], None],
    clock: Callable[[], float] = time.time,
) -> bool:
    """Bring a delivery on its way without waiting: `done` is called as the journal's `submit` says, and `after` too.

    Whoever submits calls the journal's `start_batch` in the end.

    False if that can't be: it is refused, or what becomes of it has to be waited for. Then nothing was done, and `receive`
    is to be asked.
    """
    if config.asks_for_twins:
        return False
    delivery = _validated(request, secrets, config)
    if isinstance(delivery, Answer):
        return False
    decision = _decided(delivery, config, clock)
    delivery.object = {}  # several times the body's size, and nothing asks for it any more
    entries = _entries(delivery, decision)
    one = Submitted(delivery, decision, entries, journal, lookup, done)
    try:
        journal.submit(entries, one.on_result, after)
    except JournalError:
        return False
    return True


def refuse(status: int, word: str, detail: str) -> Answer:
    """A refusal, to be counted under `word`."""
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    return Answer(status, {"ok": False, "error": word, "detail": detail}, headers, word)


def unavailable(error: JournalError) -> Answer:
    """The journal would not have it: 503, and nothing is claimed (400 for what no journal could ever hold)."""
    match error:
        case EntryRefused():
            return refuse(400, "delivery_unstorable", f"The delivery can't be recorded: {error}.")
        case JournalFull():
            return refuse(503, "journal_full", "There is no space to make the delivery durable.")
        case JournalPoisoned():
            return refuse(503, "journal_poisoned", "The disk failed to make deliveries durable.")
        case JournalClosed():
            return refuse(503, "journal_closed", "The intake is closed.")
        case _:
            return refuse(503, "journal_unavailable", "The delivery can't be made durable now.")


def decide(
    config: Config,
    delivery: DeliveryId,
    row: Mapping[str, Any],
    payload: Callable[[], Any],
    clock: Callable[[], float],
    seq: int | None = None,
) -> Decision:
    decision = route(config.routes, config.sha256, delivery, row, payload, delivery_seq=seq, now=clock)
    if decision.problem:
        log.error("%s stays received: %s", delivery, decision.problem)
    return decision


def _entries(delivery: _Delivery, decision: Decision) -> list[Entry]:
    """The delivery and what becomes of it, for one append."""
    decided = decision.state is not State.RECEIVED
    return [delivery.received(decision.tasks if decided else None, decision.problem), *decision.entries]


def _answer_to_append(
    delivery: _Delivery,
    decision: Decision,
    entries: list[Entry],
    result: Appended | Conflict,
    journal: Journal,
    lookup: Lookup,
) -> Answer:
    """The answer that follows from what the append of these entries came to. Raises JournalError."""
    while True:
        if isinstance(result, Appended):
            return _accepted(delivery, result.seqs[0], decision.state, decision.tasks, duplicate=False)
        if result.subject == delivery.id.subject:
            return _duplicate_or_conflict(delivery, result.last, journal, lookup)
        # The delivery is new, yet a task of its id is there: it outlived its delivery's record (a salvage). It is the
        # same task, so it is left as it is.
        kept = [entry for entry in entries if entry.subject != result.subject]
        if len(kept) == len(entries):
            return refuse(503, "journal_unavailable", "The delivery can't be made durable now.")
        entries = kept
        result = append(journal, entries)


def append(journal: Journal, entries: Sequence[Entry]) -> Appended | Conflict:
    """Append, repeating the identical entries while no answer comes. A Conflict may then be with our own entries: told
    as "seen before", which claims no more than is so. Raises JournalError.
    """
    for _ in range(UNKNOWN_TRIES):
        result = journal.append(entries)
        if not isinstance(result, Unknown):
            return result
    raise JournalError("the journal does not answer")


def _accepted(delivery: _Delivery, seq: int, state: str, tasks: Sequence[str], *, duplicate: bool) -> Answer:
    ping = delivery.event == PING
    body: JsonObject = {"ok": True, "pong": True} if ping else {"ok": True}
    body |= {
        "duplicate": duplicate,
        "delivery": delivery.id.guid,
        "seq": seq,
        "state": str(state),
        "tasks": list(tasks),
        "durability": "fsync",
    }
    return Answer(200 if duplicate or ping else 202, body)


def _duplicate_or_conflict(delivery: _Delivery, last: int, journal: Journal, lookup: Lookup) -> Answer:
    """The id is taken, durably: the same body is a duplicate, another a conflict. Either is noted if that can be; both
    answers rest on the first one's record alone.
    """
    try:
        row = lookup(delivery.id, last)
    except (CovenqError, OSError, sqlite3.Error) as error:
        log.error("%s came again, and its state can't be read: %s", delivery.id, type(error).__name__)
        row = None
    if row is None:
        return refuse(503, "state_behind", "The delivery came before, but its state can't be read now.")
    sha256 = hashlib.sha256(delivery.body).hexdigest()
    if row["payload_sha256"] == sha256:
        _note(journal, Entry(delivery.id.subject, str(Kind.REPEATED), {"received": row["seq"]}))
        return _accepted(delivery, row["seq"], row["state"], row["tasks"], duplicate=True)
    seen = {"received": row["seq"], "payload_sha256": sha256, "payload_bytes": len(delivery.body)}
    _note(journal, Entry(delivery.id.subject, str(Kind.CONFLICTED), seen))
    return refuse(409, "delivery_conflict", "This delivery came before with another body; the first one stands.")


def _note(journal: Journal, entry: Entry) -> None:
    try:
        journal.append([entry])
    except JournalError as error:
        log.warning("%s of %s is not recorded: %s", entry.kind, entry.subject, error)
