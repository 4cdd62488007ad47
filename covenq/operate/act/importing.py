"""Import of deliveries from a file: recorded as the intake records them, without asking GitHub.

Their records show it forever: `source` is `import`. `secret` is null, but for those out of GitHub's delivery log whose signed
bytes can be rebuilt (`covenq.github.delivery_detail`): these are what a secret signed, byte for byte, and are recorded under its
name if its scope has them, as at the webhook. By default nothing is run: they are `ignored` with the reason `imported`, and
`reroute` gives them tasks. What is to be held back stays `received` (`covenq.routing.held`), and so does what is too old for a
route that wants it (`covenq.routing.max_age`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from covenq.config.load import Config
from covenq.config.secret_keys import Key
from covenq.errors import BadRequest, NotFound
from covenq.github import request
from covenq.github.columns import columns
from covenq.github.delivery_detail import recover
from covenq.intake.scope_bindings import Binding, OutOfScope, ScopeBindings
from covenq.intake.signed_later import has_same_json, hash_of, signed_later
from covenq.model import DeliveryId, JsonObject, Kind, State, at_text
from covenq.model.rows import is_unsigned
from covenq.operate.act.late import find_late
from covenq.operate.act.plan import BATCH, CHANGED, Item, append_all, clean_text
from covenq.operate.answers import ALREADY_HERE, OTHER_BODY, Done, HeldBack, Imported, Skipped
from covenq.operate.imported import ImportedDelivery
from covenq.operate.parameters import Import
from covenq.operate.signed_later import find_signed_later, has_conflict
from covenq.routing.decide import PING, Decision, route
from covenq.routing.held import held_of, late_data
from covenq.routing.imported import ignored
from covenq.routing.late import born_superseded
from covenq.routing.max_age import TooOld, too_old
from covenq.state import query
from covenq.state.send_order import delivered_at, expected_at, moment
from journal.append import append_known
from journal.interface import Journal
from journal.records import Appended, Entry

VERIFIED = "verified"
UNVERIFIED = "unverified"
"""How a body was got that was rebuilt from GitHub's JSON of it: `origin.body` of its record."""
_TRIES = 5


@dataclass(frozen=True, slots=True)
class SigningSecrets:
    """The secrets that an imported delivery may be signed with, and what their scopes are bound to."""

    keys: Sequence[Key]
    bindings: ScopeBindings
    unread: Sequence[str] = ()
    """Why there are others that could not be read."""


@dataclass(frozen=True, slots=True)
class _ParsedDelivery:
    """An imported delivery as its record, with the fields and the body that routes look at."""

    delivery: DeliveryId
    received: Entry
    row: JsonObject
    body: JsonObject
    proof: str | None
    """VERIFIED or UNVERIFIED if it was rebuilt."""
    binding: Binding | None
    """What its secret's scope is bound to by it."""
    held: bool = False
    """Whether it is recorded and not routed, until an operator says so."""
    hold_if_old: bool = False
    """Whether it is held so where it is too old for a route that wants it."""


@dataclass(slots=True)
class _Importing:
    """One import: its answer, and what waits for the next append."""

    journal: Journal
    config: Config
    secrets: SigningSecrets
    rows: Callable[[], sqlite3.Connection]
    wanted: Import
    clock: Callable[[], float]
    answer: Imported
    waiting: list[Item] = field(default_factory=list)
    proofs: dict[str, str] = field(default_factory=dict)

    def take(self, one: ImportedDelivery, number: int) -> None:
        """Plan one delivery, and append it with others, or alone where its record has to come after another's."""
        try:
            if one.rebuild:
                delivery = request.identity(request.fold_headers(one.headers)).delivery
                if self.is_here(delivery):
                    self.take_again(one, delivery)
                    return  # before anything is rebuilt, unless it is held without its signature
            parsed = self.parsed(one)
        except BadRequest as error:
            self.answer.skipped.append(Skipped(_name(one, number), error.detail))
            return
        if self.is_here(parsed.delivery):
            self.answer.skipped.append(Skipped(str(parsed.delivery), ALREADY_HERE))
            return
        id = str(parsed.delivery)
        self.proofs[id] = parsed.proof or ""
        self.answer.eligible.append(id)
        if self.wanted.dry_run:
            return
        if parsed.binding is not None:
            self.flush()
            self.bind(one, number, parsed)
            return
        self.waiting.append(self.item(parsed))
        if len(self.waiting) == BATCH:
            self.flush()

    def is_here(self, delivery: DeliveryId) -> bool:
        """Whether it came before, or is among those that are being imported: then it is skipped."""
        # A redelivery has its first delivery's identity, and one append can't hold both.
        return str(delivery) in self.proofs or self.journal.last(delivery.subject) is not None

    def take_again(self, one: ImportedDelivery, delivery: DeliveryId) -> None:
        """Skip a delivery that is here. If these are the bytes that were signed, and it is held without, that is noted, once."""
        id, reason = str(delivery), ALREADY_HERE
        if self.proofs.get(id) == UNVERIFIED:
            self.flush()
        note = self.note(one, delivery)
        if note is not None:
            if note.kind == Kind.REPEATED:
                self.answer.signed_later.append(id)
            else:
                reason = OTHER_BODY
            if not self.wanted.dry_run:
                append_known(self.journal, [note])
        self.answer.skipped.append(Skipped(id, reason))

    def note(self, one: ImportedDelivery, delivery: DeliveryId) -> Entry | None:
        """What is to be noted of a delivery that is here; None if that is nothing, or is noted already."""
        conn = self.rows()
        try:
            held = query.delivery(conn, delivery.hook, delivery.guid)
            if not is_unsigned(held.secret, held.source) or find_signed_later(conn, self.journal, held) is not None:
                return None
            parsed = self.parsed(one)
        except (NotFound, BadRequest):
            return None
        body, secret = parsed.received.payload, parsed.received.data["secret"]
        if parsed.proof != VERIFIED or body is None:
            return None
        seen, content_type = hash_of(body), request.content_type_of(parsed.received.data["headers"])
        if seen["payload_sha256"] == held.payload_sha256 or has_same_json(
            self.journal, held.seq, held.payload_sha256, body, content_type
        ):
            return signed_later(delivery, held.seq, body, secret, "import")
        if has_conflict(conn, self.journal, delivery, str(seen["payload_sha256"])):
            return None
        return Entry(delivery.subject, str(Kind.CONFLICTED), {"received": held.seq, **seen, "source": "import"})

    def parsed(self, one: ImportedDelivery) -> _ParsedDelivery:
        """Raises BadRequest."""
        return _parse(
            one, self.config, self.secrets, by=clean_text(self.wanted.by), reason=clean_text(self.wanted.reason)
        )

    def item(self, parsed: _ParsedDelivery) -> Item:
        """Its entries, and after a task that is late that it is superseded."""
        item = _item(parsed, self.config, self.wanted.routed, self.clock)
        now = at_text(self.clock())
        late = find_late(item.entries, lambda conn: expected_at(conn, parsed.row["origin"], now), self.rows)
        if not late:
            return item
        received, *decided = item.entries
        received = received._replace(data={**received.data, "late": [list(pair) for pair in late.items()]})
        return replace(item, entries=(received, *born_superseded(decided, late)))

    def flush(self) -> None:
        """Append what waits."""
        for item, seq in append_all(self.journal, self.waiting):
            self.tell(item, seq)
        self.waiting = []

    def bind(self, one: ImportedDelivery, number: int, parsed: _ParsedDelivery) -> None:
        """Append a delivery that binds a name of its secret's scope: the binding comes first, as at the webhook.

        Where the name is bound or unbound meanwhile, it is decided again by that.
        """
        for _ in range(_TRIES):
            item = self.item(parsed)
            bound = parsed.binding
            entries = item.entries if bound is None else (bound.entry, *item.entries)
            found = append_known(self.journal, entries)
            if bound is not None:
                self.secrets.bindings.reread(bound.secret, bound.name)
            if isinstance(found, Appended):
                self.tell(item, found.seqs[0 if bound is None else 1])
                return
            if bound is None or found.subject != bound.entry.subject:
                self.tell(item, None)
                return
            try:
                parsed = self.parsed(one)
            except BadRequest as error:
                self.answer.skipped.append(Skipped(_name(one, number), error.detail))
                return
        self.answer.skipped.append(Skipped(str(parsed.delivery), CHANGED))

    def tell(self, item: Item, seq: int | None) -> None:
        if seq is None:
            self.answer.skipped.append(Skipped(item.id, ALREADY_HERE))
        else:
            self.answer.done.append(Done(item.id, list(item.tasks), seq))
            held = next((held_of(entry.data) for entry in item.entries if entry.kind == Kind.RECEIVED), None)
            if held is not None:
                self.answer.held_back.append(HeldBack(item.id, held))


def import_deliveries(
    journal: Journal,
    config: Config,
    secrets: SigningSecrets,
    rows: Callable[[], sqlite3.Connection],
    wanted: Import,
    clock: Callable[[], float],
) -> Imported:
    """Record deliveries. With `routed` today's routes decide at once, as for a delivery that GitHub sends.

    `rows` gives the state, folded up to now: a task of a delivery that GitHub sent before another of its key is superseded.

    Skipped are items whose id is in the journal already, those that are no delivery, and those that a secret signed whose scope
    they are not in. Of an id that is held without a signature it is noted where these are the bytes that were signed. Raises
    JournalError, NotDurable.
    """
    answer = Imported(
        [], [], [], secrets_unread=list(secrets.unread) if any(one.rebuild for one in wanted.items) else []
    )
    importing = _Importing(journal, config, secrets, rows, wanted, clock, answer)
    for number, one in enumerate(wanted.items):
        importing.take(one, number)
    importing.flush()
    for id in answer.eligible if wanted.dry_run else [one.id for one in answer.done]:
        if importing.proofs[id] == VERIFIED:
            answer.verified.append(id)
        elif importing.proofs[id] == UNVERIFIED:
            answer.unverified.append(id)
    return answer


def _parse(
    one: ImportedDelivery, config: Config, secrets: SigningSecrets, *, by: str | None, reason: str | None
) -> _ParsedDelivery:
    """Raises BadRequest, and JournalError where what a scope is bound to can't be read."""
    if one.body is None:
        raise BadRequest("payload_gone", "its payload was no longer kept where it comes from")
    headers, body, signers = one.headers, one.body, list[Key]()
    if one.rebuild:
        headers, body, signers = recover(headers, body, secrets.keys)
    if len(body) > config.body_limit:
        raise BadRequest("body_too_large", f"its payload is over {config.body_limit} bytes")
    folded = request.fold_headers(headers)
    identity = request.identity(folded)
    content = request.parse(body, folded.get("content-type", "application/json"))
    read, about = columns(identity.event, content.object)
    secret: str | None = None
    binding: Binding | None = None
    proof = {"body": VERIFIED if signers else UNVERIFIED} if one.rebuild else {}
    if signers:
        admitted = secrets.bindings.admit(
            secrets.keys, signers, identity.delivery, read["installation"], about["repo"], read["repo_id"]
        )
        if isinstance(admitted, OutOfScope):
            raise BadRequest(admitted.word, admitted.sentence)
        secret, binding = admitted
    data: JsonObject = {
        "hook": identity.delivery.hook,
        "guid": identity.delivery.guid,
        "event": identity.event,
        **read,
        "secret": secret,
        "source": "import",
        "headers": request.recorded_headers(headers),
        "twin": None,
        "origin": {**one.origin, **proof, "by": by, "reason": reason},
    }
    held = one.hold is not None and identity.event != PING
    if held:
        data["held"] = one.hold
    entry = Entry(
        identity.delivery.subject, str(Kind.RECEIVED), data, about, body, expect=0, parsed_json=content.parsed_json
    )
    row = {**data, **about, "payload_bytes": len(body)}
    return _ParsedDelivery(
        identity.delivery, entry, row, content.object, proof.get("body"), binding, held, one.hold_if_old
    )


def _item(parsed: _ParsedDelivery, config: Config, routed: bool, clock: Callable[[], float]) -> Item:
    if parsed.held:
        return Item(str(parsed.delivery), (_with_tasks(parsed.received, None),), ())
    if routed:
        decision = route(config, parsed.delivery, parsed.row, lambda: parsed.body, now=clock)
        late = _too_old(parsed, decision, config, clock()) if parsed.hold_if_old else None
        if late is not None:
            received = parsed.received._replace(data={**parsed.received.data, **late_data(late.route)})
            return Item(str(parsed.delivery), (_with_tasks(received, None),), ())
        tasks = decision.tasks if decision.state is not State.RECEIVED else None
        return Item(str(parsed.delivery), (_with_tasks(parsed.received, tasks), *decision.entries), decision.tasks)
    unrouted = ignored(parsed.delivery, config.sha256)
    return Item(str(parsed.delivery), (_with_tasks(parsed.received, ()), unrouted), ())


def _too_old(parsed: _ParsedDelivery, decision: Decision, config: Config, now: float) -> TooOld | None:
    sent_at = moment(delivered_at(parsed.row["origin"]))
    if sent_at is None:
        return None
    return too_old(decision, config.routes, config.reconcile.max_age_s, now - sent_at / 1000)


def _with_tasks(received: Entry, tasks: Sequence[str] | None) -> Entry:
    data = {**received.data, "tasks": None if tasks is None else list(tasks)}
    return Entry(
        received.subject,
        received.kind,
        data,
        received.about,
        received.payload,
        expect=0,
        parsed_json=received.parsed_json,
    )


def _name(one: ImportedDelivery, number: int) -> str:
    guid = request.fold_headers(one.headers).get("x-github-delivery", "")
    return guid[:64] if guid.isprintable() and guid else f"number {number + 1}"
