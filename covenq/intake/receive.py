"""Receiving one delivery: validation, routing, and one durable append before the answer.

Everything is computed in the caller's thread from the request's own bytes; it waits only for the journal's append and, for a
delivery that came before, a moment for the fold. No answer below 300 is given for anything that is not durable.

`receive` waits and answers. `submit` is the fast path for a caller that must not wait: it takes a delivery that needs no wait
but the append's, and returns False for every other, which `receive` then handles.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple, NotRequired, TypedDict

from msgspec import Meta

from covenq.config.live import Snapshot
from covenq.config.load import Config
from covenq.errors import BadRequest, StateBehind
from covenq.github import request as github_request
from covenq.github.columns import AboutColumns
from covenq.github.columns import columns as columns_of
from covenq.github.signature import verifiers
from covenq.intake.answer import Answer, refuse, unavailable
from covenq.intake.first_delivery import Lookup, first_delivery
from covenq.intake.scope_bindings import Binding, OutOfScope, ScopeBindings
from covenq.intake.signed_later import has_same_json, hash_of, signed_later
from covenq.intake.twins import Reservation, Twins
from covenq.model import DeliveryId, JsonObject, Kind, State, at_text
from covenq.model.rows import DeliveryState, Token
from covenq.routing.decide import PING, Decision, route
from journal.append import REQUEST_S, append_known, submit_known
from journal.errors import JournalError
from journal.interface import Durability, Journal, Submitting
from journal.records import Appended, Conflict, Entry, ParsedJson

_TRIES = 20
"""Decisions about one delivery, where each finds its secret's scope bound or unbound meanwhile."""

log = logging.getLogger("covenq.intake")


class Request(NamedTuple):
    """A POST to the webhook: headers in the order they came, and the body's bytes exactly as they came."""

    headers: Sequence[tuple[str, str]]
    body: bytes


class Accepted(TypedDict):
    """The answer to a delivery that is durable; `duplicate`: it was before. A ping has `pong`, too."""

    pong: NotRequired[Annotated[bool, Meta(extra_json_schema={"const": True})]]
    duplicate: bool
    delivery: Token
    seq: int
    state: DeliveryState
    tasks: list[str]
    durability: Durability


@dataclass(slots=True)
class _Delivery:
    """A validated request."""

    id: DeliveryId
    event: str
    data: dict[str, object]
    about: AboutColumns
    body: bytes
    object: JsonObject
    """The JSON in `body`."""
    parsed_json: ParsedJson | None
    binding: Binding | None
    """What its secret's scope is bound to by it."""
    deadline: float
    """By `time.monotonic`: until then it has to be known whether an append of this request was recorded."""

    def received(self, tasks: Sequence[str] | None, problem: str | None = None) -> Entry:
        """The entry `delivery.received`.

        `data.tasks` names the tasks that the same append queues, so that `resume` can complete an append that a crash cut
        short.

        `problem` is the rule that failed, if nothing could be decided.
        """
        data = {**self.data, "tasks": tasks}
        if problem is not None:
            data["problem"] = problem
        return Entry(
            self.id.subject, str(Kind.RECEIVED), data, self.about, self.body, expect=0, parsed_json=self.parsed_json
        )


def receive(
    request: Request,
    *,
    journal: Journal,
    live: Snapshot,
    bindings: ScopeBindings,
    lookup: Lookup,
    clock: Callable[[], float] = time.time,
    twins: Twins | None = None,
) -> Answer:
    """Answer one request. Raises nothing, whatever the request holds.

    The answer is the first that applies of: 413, 415, 401, 400, 409 for a twin if twins are refused, and then by the journal's
    result: 202 for a new delivery (200 for a ping), 200 for a repeated one, 409 for another body under a known id, 503 if it
    can't be made durable or its state can't be read now.
    """
    for _ in range(_TRIES):
        delivery = _validated(request, live, bindings)
        if isinstance(delivery, Answer):
            return delivery
        answer = _receive_validated(delivery, journal, live.config, lookup, clock, twins)
        if delivery.binding is not None:
            bindings.reread(delivery.binding.secret, delivery.binding.name)
        if answer is not None:
            return answer
    return refuse(503, "journal_unavailable", "What the secret's scope is bound to changes all the time.")


def _receive_validated(
    delivery: _Delivery,
    journal: Journal,
    config: Config,
    lookup: Lookup,
    clock: Callable[[], float],
    twins: Twins | None,
) -> Answer | None:
    """The answer, but for what `_validated` answers; None as `_answer_to_append`."""
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
        recorded = None if answer is None else answer.body.get("seq")
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


def _validated(request: Request, live: Snapshot, bindings: ScopeBindings) -> Answer | _Delivery:
    """The delivery, if the request is one and a configured secret with a fitting scope signed it; else the refusal."""
    config, keys = live.config, live.keys
    headers = github_request.fold_headers(request.headers)
    if len(request.body) > config.body_limit:
        return refuse(413, "body_too_large", f"The body is over {config.body_limit} bytes.")
    content_type = headers.get("content-type")
    if github_request.is_form(content_type) is None:
        return refuse(415, "content_type_unsupported", github_request.CONTENT_TYPE_UNSUPPORTED)
    coding = headers.get("content-encoding")
    if coding is not None and github_request.is_coded(coding):
        answer = refuse(415, "content_encoding_unsupported", github_request.coding_unsupported(coding))
        answer.headers["Accept-Encoding"] = "identity"
        return answer
    signature = headers.get("x-hub-signature-256")
    if signature is None:
        old = ", but X-Hub-Signature, by SHA-1, which is not enough" if "x-hub-signature" in headers else ""
        return refuse(401, "signature_missing", f"There is no X-Hub-Signature-256 header{old}.")
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
    # The scope is checked last: what it is checked against is read only from a body whose signature is right.
    try:
        found = bindings.admit(
            keys, signers, identity.delivery, columns["installation"], about["repo"], columns["repo_id"]
        )
    except JournalError as error:
        return unavailable(error)
    if isinstance(found, OutOfScope):
        return refuse(401, found.word, found.sentence)
    secret, binding = found
    data: dict[str, object] = {
        "hook": identity.delivery.hook,
        "guid": identity.delivery.guid,
        "event": identity.event,
        **columns,
        "secret": secret,
        "source": github_request.source_of(headers),
        "headers": github_request.recorded_headers(request.headers),
        "twin": None,
    }
    return _Delivery(
        identity.delivery,
        identity.event,
        data,
        about,
        request.body,
        parsed.object,
        parsed.parsed_json,
        binding,
        time.monotonic() + REQUEST_S,
    )


def _refuses_twin(reservation: Reservation, delivery: _Delivery, journal: Journal) -> bool:
    """Whether it is refused as a twin.

    Not if it came before under its own id: then it is answered as a repetition, and it may have been accepted when twins were
    only marked. Raises JournalError.
    """
    if reservation.twin is None or reservation.own or delivery.event == PING:
        return False
    return journal.last(delivery.id.subject) is None


def _route_and_append(
    delivery: _Delivery, config: Config, journal: Journal, lookup: Lookup, clock: Callable[[], float]
) -> Answer | None:
    """Route it, append it, and answer by the result; None as `_answer_to_append`."""
    decision = _decided(delivery, config, clock)
    entries = _entries(delivery, decision)
    try:
        return _answer_to_append(
            delivery, decision, entries, append_known(journal, entries, delivery.deadline), journal, lookup
        )
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
    """A delivery that was submitted to the journal, and later its answer."""

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
        """Called by the journal, after the sync or with the error."""
        self._result = result
        self._done(self)

    @property
    def plain(self) -> bool:
        """Whether it is newly accepted, so that `answer` needn't wait."""
        return isinstance(self._result, Appended)

    def answer(self) -> Answer:
        """The answer that `receive` would give; only after `on_result`. May wait for the journal and the fold if not `plain`."""
        result = self._result
        assert result is not None, "an answer needs the journal's result"
        if isinstance(result, JournalError):
            return unavailable(result)
        try:
            answer = _answer_to_append(
                self._delivery, self._decision, self._entries, result, self._journal, self._lookup
            )
        except JournalError as error:
            return unavailable(error)
        assert answer is not None, "what binds a scope is not submitted"
        return answer


def submit(
    request: Request,
    *,
    journal: Submitting,
    live: Snapshot,
    bindings: ScopeBindings,
    lookup: Lookup,
    done: Callable[[Submitted], None],
    after: Callable[[], None],
    clock: Callable[[], float] = time.time,
) -> bool:
    """Submit a delivery without waiting: `done` and `after` are called as the journal's `submit` describes.

    After one or several calls the caller calls the journal's `start_batch`.

    False if the request is refused, or its answer has to be waited for. Then nothing was done, and the caller calls `receive`.
    """
    if live.config.asks_for_twins or not bindings.ready(live.keys):
        return False
    delivery = _validated(request, live, bindings)
    if isinstance(delivery, Answer) or delivery.binding is not None:
        return False
    decision = _decided(delivery, live.config, clock)
    delivery.object = {}  # several times the body's size, and not needed any more
    entries = _entries(delivery, decision)
    one = Submitted(delivery, decision, entries, journal, lookup, done)
    try:
        submit_known(journal, entries, one.on_result, after, delivery.deadline)
    except JournalError:
        return False
    return True


def decide(
    config: Config,
    delivery: DeliveryId,
    row: Mapping[str, object],
    payload: Callable[[], object],
    clock: Callable[[], float],
    seq: int | None = None,
) -> Decision:
    decision = route(config, delivery, row, payload, delivery_seq=seq, now=clock)
    if decision.problem:
        log.error("%s stays received: %s", delivery, decision.problem)
    return decision


def _entries(delivery: _Delivery, decision: Decision) -> list[Entry]:
    """What it binds, the delivery and its tasks, or why it is ignored, for one append."""
    decided = decision.state is not State.RECEIVED
    bound = [] if delivery.binding is None else [delivery.binding.entry]
    return [*bound, delivery.received(decision.tasks if decided else None, decision.problem), *decision.entries]


def _answer_to_append(
    delivery: _Delivery,
    decision: Decision,
    entries: list[Entry],
    result: Appended | Conflict,
    journal: Journal,
    lookup: Lookup,
) -> Answer | None:
    """The answer that follows from the result of appending these entries. Raises JournalError.

    None if nothing is recorded, because what the delivery would bind was bound, or unbound, meanwhile.
    """
    while True:
        if isinstance(result, Appended):
            seq = result.seqs[0 if delivery.binding is None else 1]
            return _accepted(delivery, seq, decision.state, decision.tasks, journal.durability, duplicate=False)
        if result.subject == delivery.id.subject:
            return _duplicate_or_conflict(delivery, result.last, journal, lookup)
        if delivery.binding is not None and result.subject == delivery.binding.entry.subject:
            return None
        # The delivery is new, but a task of its id exists: the delivery's record was lost in a salvage, the task's
        # was not. It is the same task, so it stays as it is.
        kept = [entry for entry in entries if entry.subject != result.subject]
        if len(kept) == len(entries):
            return unavailable(JournalError("a Conflict with a subject that was not appended"))
        entries = kept
        result = append_known(journal, entries, delivery.deadline)


def _accepted(
    delivery: _Delivery, seq: int, state: str, tasks: Sequence[str], durability: Durability, *, duplicate: bool
) -> Answer:
    ping = delivery.event == PING
    body: Accepted = {
        "duplicate": duplicate,
        "delivery": delivery.id.guid,
        "seq": seq,
        "state": str(state),
        "tasks": list(tasks),
        "durability": durability,
    }
    return Answer(
        200 if duplicate or ping else 202, {"ok": True, "pong": True, **body} if ping else {"ok": True, **body}
    )


def _duplicate_or_conflict(delivery: _Delivery, last: int, journal: Journal, lookup: Lookup) -> Answer:
    """The answer to a delivery whose id is durable already: the same body is a duplicate, another a conflict.

    So are the bytes that were signed, for one that is held without its signature (`covenq.intake.signed_later`). Either is
    recorded if possible; both answers depend only on the first delivery's record. Raises JournalError.
    """
    first = first_delivery(delivery.id, last, journal, lookup)
    if first is None:
        return refuse(503, "state_behind", "The delivery came before, but its state can't be read now.")
    seen = hash_of(delivery.body)
    same = first.payload_sha256 == seen["payload_sha256"]
    if first.unsigned and (same or has_same_json(journal, first.seq, first.payload_sha256, *_body_of(delivery))):
        note = signed_later(delivery.id, first.seq, delivery.body, delivery.data["secret"], "http")
    elif same:
        note = Entry(delivery.id.subject, str(Kind.REPEATED), {"received": first.seq})
    else:
        note = Entry(delivery.id.subject, str(Kind.CONFLICTED), {"received": first.seq, **seen})
    _note(journal, note, delivery.deadline)
    if note.kind == Kind.REPEATED:
        return _accepted(delivery, first.seq, first.state, first.tasks, journal.durability, duplicate=True)
    return refuse(409, "delivery_conflict", "This delivery came before with another body; the first one stands.")


def _body_of(delivery: _Delivery) -> tuple[bytes, str | None]:
    """Its body, and what it came as."""
    return delivery.body, github_request.content_type_of(delivery.data["headers"])


def _note(journal: Journal, entry: Entry, deadline: float) -> None:
    try:
        append_known(journal, [entry], deadline)
    except JournalError as error:
        log.warning("%s of %s is not recorded: %s", entry.kind, entry.subject, error)
