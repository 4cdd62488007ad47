"""Deliveries from elsewhere, recorded as ours: what the intake does, without a signature to check.

They say so for ever: `source` is `import`, `secret` is null. Unless asked for, nothing is run: they are `ignored` with the
reason `imported`, and `reroute` gives them tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from covenq.config.load import Config
from covenq.errors import BadRequest
from covenq.github import request
from covenq.github.columns import columns
from covenq.model import DeliveryId, JsonObject, Kind, State
from covenq.operate.act.archive import Incoming
from covenq.operate.act.plan import AT_ONCE, Item, append_all, clean_text
from covenq.routing.decide import route
from journal.interface import Journal
from journal.records import Entry

IMPORTED = "imported"
"""The reason of a delivery that was imported and given no tasks."""
HERE = "it is here already"


@dataclass(frozen=True, slots=True)
class _Ready:
    delivery: DeliveryId
    received: Entry
    row: JsonObject
    body: JsonObject


def take(
    journal: Journal,
    config: Config,
    incoming: Sequence[Incoming],
    *,
    routed: bool = False,
    reason: str | None = None,
    dry_run: bool = False,
    by: str | None = None,
    clock: Callable[[], float],
) -> JsonObject:
    """Record them: {"eligible": [id…], "skipped": [{"id", "reason"}…], "done": [{"id", "tasks", "seq"}…]}.

    With `routed` today's routes decide at once, as for a delivery that GitHub sends. Skipped is what is here already, under
    the same id, and what is no delivery. Raises JournalError, NotDurable.
    """
    answer: JsonObject = {"eligible": [], "skipped": [], "done": []}
    items: list[Item] = []
    for number, one in enumerate(incoming):
        try:
            ready = _ready(one, config, by=clean_text(by), reason=clean_text(reason))
        except BadRequest as error:
            answer["skipped"].append({"id": _name(one, number), "reason": error.detail})
            continue
        id = str(ready.delivery)
        if journal.last(ready.delivery.subject) is not None:
            answer["skipped"].append({"id": id, "reason": HERE})
            continue
        answer["eligible"].append(id)
        items.append(_item(ready, config, routed, clock))
    if dry_run:
        return answer
    for start in range(0, len(items), AT_ONCE):
        for item, seq in append_all(journal, items[start : start + AT_ONCE]):
            if seq is None:
                answer["skipped"].append({"id": item.id, "reason": HERE})
            else:
                answer["done"].append({"id": item.id, "tasks": list(item.tasks), "seq": seq})
    return answer


def _ready(one: Incoming, config: Config, *, by: str | None, reason: str | None) -> _Ready:
    """Raises BadRequest."""
    if one.body is None:
        raise BadRequest("payload_gone", "its payload was no longer kept where it comes from")
    if len(one.body) > config.body_limit:
        raise BadRequest("body_too_large", f"its payload is over {config.body_limit} bytes")
    headers = request.fold_headers(one.headers)
    identity = request.identity(headers)
    parsed = request.parse(one.body, headers.get("content-type", "application/json"))
    read, about = columns(identity.event, parsed.object)
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
    entry = Entry(identity.delivery.subject, str(Kind.RECEIVED), data, about, one.body, expect=0, proof=parsed.proof)
    return _Ready(identity.delivery, entry, {**data, **about, "payload_bytes": len(one.body)}, parsed.object)


def _item(ready: _Ready, config: Config, routed: bool, clock: Callable[[], float]) -> Item:
    if routed:
        decision = route(config.routes, config.sha256, ready.delivery, ready.row, lambda: ready.body, now=clock)
        tasks = decision.tasks if decision.state is not State.RECEIVED else None
        return Item(str(ready.delivery), (_with_tasks(ready.received, tasks), *decision.entries), decision.tasks)
    told = {"reason": IMPORTED, "detail": "It was imported, and given no tasks: `covenq reroute` makes them."}
    ignored = Entry(ready.delivery.subject, str(Kind.IGNORED), {**told, "config": config.sha256})
    return Item(str(ready.delivery), (_with_tasks(ready.received, ()), ignored), ())


def _with_tasks(received: Entry, tasks: Sequence[str] | None) -> Entry:
    data = {**received.data, "tasks": None if tasks is None else list(tasks)}
    return Entry(
        received.subject, received.kind, data, received.about, received.payload, expect=0, proof=received.proof
    )


def _name(one: Incoming, number: int) -> str:
    guid = request.fold_headers(one.headers).get("x-github-delivery", "")
    return guid[:64] if guid.isprintable() and guid else f"number {number + 1}"
