"""Import of deliveries from a file: recorded as the intake records them, without a signature to check.

Their records show it forever: `source` is `import`, `secret` is null. By default nothing is run: they are `ignored` with
the reason `imported`, and `reroute` gives them tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from covenq.config.load import Config
from covenq.errors import BadRequest
from covenq.github import request
from covenq.github.columns import columns
from covenq.model import DeliveryId, JsonObject, Kind, State
from covenq.operate.act.plan import BATCH, Item, append_all, clean_text
from covenq.operate.answers import ALREADY_HERE, Done, PlanAnswer, Skipped
from covenq.operate.imported import ImportedDelivery
from covenq.operate.parameters import Import
from covenq.routing.decide import route
from journal.interface import Journal
from journal.records import Entry

IMPORTED = "imported"
"""The reason of a delivery that was imported without tasks."""


@dataclass(frozen=True, slots=True)
class _ParsedDelivery:
    """An imported delivery as its record, with the fields and the body that routes look at."""

    delivery: DeliveryId
    received: Entry
    row: JsonObject
    body: JsonObject


def import_deliveries(journal: Journal, config: Config, wanted: Import, clock: Callable[[], float]) -> PlanAnswer:
    """Record deliveries. With `routed` today's routes decide at once, as for a delivery that GitHub sends.

    Skipped are items whose id is in the journal already, and those that are no delivery. Raises JournalError, NotDurable.
    """
    answer = PlanAnswer([], [], [])
    items: list[Item] = []
    seen: set[str] = set()  # a redelivery has its first delivery's identity, and one append can't hold both
    for number, one in enumerate(wanted.items):
        try:
            parsed = _parse(one, config, by=clean_text(wanted.by), reason=clean_text(wanted.reason))
        except BadRequest as error:
            answer.skipped.append(Skipped(_name(one, number), error.detail))
            continue
        id = str(parsed.delivery)
        if id in seen or journal.last(parsed.delivery.subject) is not None:
            answer.skipped.append(Skipped(id, ALREADY_HERE))
            continue
        seen.add(id)
        answer.eligible.append(id)
        items.append(_item(parsed, config, wanted.routed, clock))
    if wanted.dry_run:
        return answer
    for start in range(0, len(items), BATCH):
        for item, seq in append_all(journal, items[start : start + BATCH]):
            if seq is None:
                answer.skipped.append(Skipped(item.id, ALREADY_HERE))
            else:
                answer.done.append(Done(item.id, list(item.tasks), seq))
    return answer


def _parse(one: ImportedDelivery, config: Config, *, by: str | None, reason: str | None) -> _ParsedDelivery:
    """Raises BadRequest."""
    if one.body is None:
        raise BadRequest("payload_gone", "its payload was no longer kept where it comes from")
    if len(one.body) > config.body_limit:
        raise BadRequest("body_too_large", f"its payload is over {config.body_limit} bytes")
    headers = request.fold_headers(one.headers)
    identity = request.identity(headers)
    content = request.parse(one.body, headers.get("content-type", "application/json"))
    read, about = columns(identity.event, content.object)
    data: JsonObject = {
        "hook": identity.delivery.hook,
        "guid": identity.delivery.guid,
        "event": identity.event,
        **read,
        "secret": None,
        "source": "import",
        "headers": request.recorded_headers(one.headers),
        "twin": None,
        "origin": {**one.origin, "by": by, "reason": reason},
    }
    entry = Entry(
        identity.delivery.subject, str(Kind.RECEIVED), data, about, one.body, expect=0, parsed_json=content.parsed_json
    )
    return _ParsedDelivery(identity.delivery, entry, {**data, **about, "payload_bytes": len(one.body)}, content.object)


def _item(parsed: _ParsedDelivery, config: Config, routed: bool, clock: Callable[[], float]) -> Item:
    if routed:
        decision = route(config, parsed.delivery, parsed.row, lambda: parsed.body, now=clock)
        tasks = decision.tasks if decision.state is not State.RECEIVED else None
        return Item(str(parsed.delivery), (_with_tasks(parsed.received, tasks), *decision.entries), decision.tasks)
    told = {"reason": IMPORTED, "detail": "It was imported, and given no tasks: `covenq reroute` makes them."}
    ignored = Entry(parsed.delivery.subject, str(Kind.IGNORED), {**told, "config": config.sha256})
    return Item(str(parsed.delivery), (_with_tasks(parsed.received, ()), ignored), ())


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
