"""Replay and reroute of deliveries, requeue and cancel of tasks: the plan of each.

`covenq.operate.operations` has the table of what is done with them, `covenq.operate.act.plan` applies a plan.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

from msgspec.structs import asdict

from covenq.config.executor import checked_address
from covenq.config.limits import tenant_of
from covenq.config.load import Config
from covenq.config.route import Route, parse_route
from covenq.config.toml_table import Table
from covenq.errors import Ambiguous, NotFound, UsageError
from covenq.filter.grammar import Filter
from covenq.model import REQUEUEABLE, DeliveryId, Kind, State, parse_id, task_id, task_subject
from covenq.model.rows import Delivery, Page, Task
from covenq.operate.act.late import find_late
from covenq.operate.act.plan import PAGE, ById, Item, Paged, Plan, clean_text, payloads, plan
from covenq.operate.act.plan_summary import Part, WaitReasons
from covenq.operate.answers import Skipped
from covenq.operate.parameters import Replay, Reroute, Selection
from covenq.routing.decide import PING, Decision, route
from covenq.routing.held import DISMISSED
from covenq.routing.late import born_superseded
from covenq.state import query
from covenq.state.rows import as_text
from covenq.state.scoped import scope_of_reader
from journal.interface import Journal
from journal.records import Entry

_INFORMATIONAL = frozenset({Kind.REPEATED, Kind.CONFLICTED})
"""Records of a delivery that change nothing about its state."""
_NOT_FINAL = frozenset({Kind.QUEUED, Kind.CLAIMED, Kind.PHASE, Kind.RENEWED, Kind.RETRY, Kind.REQUEUED})
"""Records after which a task is not final: it can be cancelled after any of them."""
REPLAY_TO_ROUTE = "replay-to"
"""The route name of tasks made by a replay to an address."""
TASKS_SHOWN = 20
"""Task ids listed in the hint when a delivery's id was given in place of a task's."""
_WAITING = (State.QUEUED, State.RUNNING)


def plan_replay(
    journal: Journal,
    conn: sqlite3.Connection,
    config: Config,
    wanted: Replay,
    filter: Filter | None,
) -> Plan:
    """Plan new tasks for deliveries, by today's routes. `filter` is that of `wanted`, parsed.

    With `route`, by that one alone; with `to`, a web address, by none: each is forwarded there once. Skipped are those with
    a task (of that route) that waits or runs, those that completed unless `force`, and those that no route wants; of those
    that failed, routes that completed are left out. `conn` must have folded everything that its user has seen. Raises
    UsageError, NotFound, Ambiguous.
    """
    payload_of = payloads(journal)
    route, to, force = wanted.route, wanted.to, wanted.force
    if to is not None:
        if route is not None:
            raise UsageError("a route and an address name two ways", hint="Give one of them.")
        # That it completed here doesn't matter: the address is another receiver.
        route, force, config = REPLAY_TO_ROUTE, True, replace(config, routes=(_forwarding(to),))
    elif route is not None:
        _check_route(config, route, tell=scope_of_reader(conn) is None)

    def item(row: Delivery) -> Item | Skipped:
        return _replay_item(conn, row, config, payload_of, only=route, force=force, note=_note(wanted))

    return plan(wanted, filter, *_deliveries(conn, payload_of), item, _waits(conn, config))


def plan_reroute(
    journal: Journal,
    conn: sqlite3.Connection,
    config: Config,
    wanted: Reroute,
    filter: Filter | None,
) -> Plan:
    """Plan the first routing again, for deliveries without a task: still `received`, or ignored under older rules.

    Their tasks have replay number 0, so their ids are those that the first routing would have made: a daemon that routes
    the delivery at the same time makes the same ones. Skipped are deliveries that have tasks, and those that today's routes
    ignore as well. What was held back is routed by it, and late is late: their tasks take the place of when GitHub
    sent them. `conn` and errors: as for `plan_replay`.

    With `wanted.ignore` those that are still `received` are dismissed instead: ignored. Such are routed after all only where they
    are named by their ids, for they may have been worked on by hand.
    """
    payload_of = payloads(journal)

    def item(row: Delivery) -> Item | Skipped:
        if wanted.ignore:
            return _dismiss_item(row, note=_note(wanted))
        if row.state == State.IGNORED and row.reason == DISMISSED and not wanted.ids:
            return Skipped(f"{row.hook}/{row.guid}", "it was dismissed; it is routed only where its id is named")
        found = _reroute_item(row, config, payload_of, note=_note(wanted))
        return _late(row, found, conn) if isinstance(found, Item) else found

    return plan(wanted, filter, *_deliveries(conn, payload_of), item, _waits(conn, config))


def plan_requeue(
    journal: Journal,
    conn: sqlite3.Connection,
    config: Config,
    wanted: Selection,
    filter: Filter | None,
) -> Plan:
    """Plan another run of failed, cancelled and superseded tasks, under their frozen policy (so not today's `config`).

    `ids` are task ids. All others are skipped. `conn` and errors: as for `plan_replay`.
    """

    def item(row: Task) -> Item | Skipped:
        gone = _why_no_content_of_task(conn, row) if row.state in REQUEUEABLE else None
        if gone is not None:
            return Skipped(row.id, gone)
        return _requeue_item(row, note=_note(wanted))

    return plan(wanted, filter, *_tasks(conn, payloads(journal)), item, _waits(conn, config))


def plan_cancel(
    journal: Journal,
    conn: sqlite3.Connection,
    config: Config,
    wanted: Selection,
    filter: Filter | None,
) -> Plan:
    """Plan the cancellation of tasks that wait or run; `ids` are task ids. All others are skipped.

    The record itself ends the task: the worker that runs it sees that its claim is no longer valid, and stops. `conn` and
    errors: as for `plan_replay`.
    """

    def item(row: Task) -> Item | Skipped:
        id = row.id
        if row.state not in _WAITING:
            return Skipped(id, f"it is {row.state} already")
        entry = Entry(task_subject(id), Kind.CANCELLED, _note(wanted), expect=row.last_seq)
        part = Part(row.route, row.state, None, row.created_at)
        return Item(id, (entry,), (id,), ignored_kinds=_NOT_FINAL, parts=(part,))

    return plan(wanted, filter, *_tasks(conn, payloads(journal)), item)


# ---- planning


def _waits(conn: sqlite3.Connection, config: Config) -> WaitReasons | None:
    """None under a scope: what tasks wait for is shared with others'."""
    return None if scope_of_reader(conn) is not None else WaitReasons(conn, time.time(), config.caps)


_Note = dict[str, str | None]
"""Who, and why, as a record has it."""


def _note(wanted: Selection) -> _Note:
    return {"by": clean_text(wanted.by), "reason": clean_text(wanted.reason)}


def _deliveries(conn: sqlite3.Connection, payload_of: query.PayloadOf) -> tuple[ById[Delivery], Paged[Delivery]]:
    def by_id(id: str) -> Delivery:
        return query.delivery_to_act_on(conn, id)

    def page(wanted: Filter, after: str | None) -> Page[Delivery]:
        return query.deliveries(conn, wanted, PAGE, after, payload_of=payload_of)

    return by_id, page


def _tasks(conn: sqlite3.Connection, payload_of: query.PayloadOf) -> tuple[ById[Task], Paged[Task]]:
    def by_id(id: str) -> Task:
        try:
            return query.task(conn, id)
        except NotFound as error:
            raise _delivery_not_task(conn, id) or error from None

    def page(wanted: Filter, after: str | None) -> Page[Task]:
        return query.tasks(conn, wanted, PAGE, after, payload_of=payload_of)

    return by_id, page


def _delivery_not_task(conn: sqlite3.Connection, id: str) -> NotFound | None:
    """The error where a delivery's id was given in place of a task's; None if it is no delivery's either."""
    try:
        found = [query.delivery(conn, *parse_id(id))]
    except Ambiguous as error:
        found = [query.delivery(conn, *parse_id(one)) for one in error.ids]
    except (NotFound, UsageError):
        return None
    tasks = [task for row in found for task in row.tasks]
    hint = f"Its tasks: {' '.join(tasks[:TASKS_SHOWN])}" if tasks else f"It has no task: `covenq why {id}` says why."
    return NotFound(f"{id} is a delivery, and this is done to tasks", hint=hint)


def _replay_item(
    conn: sqlite3.Connection,
    row: Delivery,
    config: Config,
    payload_of: query.PayloadOf,
    *,
    only: str | None,
    force: bool,
    note: _Note,
) -> Item | Skipped:
    delivery = DeliveryId(row.hook, row.guid)
    id = str(delivery)
    state = row.state if only is None else _states_by_route(conn, row).get(only)
    if state in _WAITING:
        return Skipped(id, f"it is {state}: its task is still to come to an end")
    gone = _why_no_content(row.redacted, row.payload_dropped)
    if gone is not None:
        return Skipped(id, gone)
    if state == State.COMPLETED and not force:
        return Skipped(id, "it has completed; --force replays it all the same")
    number = row.replays + 1
    decision = _route(row, config, payload_of, replay=number, only=only)
    if decision.state is not State.QUEUED:
        return Skipped(id, decision.problem or f"no route wants it today ({decision.reason})")
    if not decision.entries:
        return Skipped(id, f"route {only!r} doesn't want it today")
    completed: set[str | None] = set()
    if not force and len(row.tasks) > 1:
        completed = {name for name, its in _states_by_route(conn, row).items() if its == State.COMPLETED}
    wanted = [(entry.data["route"], task, entry) for task, entry in zip(decision.tasks, decision.entries, strict=True)]
    tasks = tuple(task for name, task, _ in wanted if name not in completed)
    excluded = [name for name, _, _ in wanted if name in completed]
    if not tasks:
        return Skipped(
            id, f"what wants it today has completed ({', '.join(excluded)}); --force replays it all the same"
        )
    made = [entry for name, _, entry in wanted if name not in completed]
    data = {"replay": number, "tasks": list(tasks), **note}
    # Against the delivery's newest record, so two replays at once can't both take this number; and the tasks' ids,
    # derived from it, are new.
    replayed = Entry(delivery.subject, Kind.REPLAYED, data, expect=row.last_seq)
    why = tuple(f"its route {name} has completed; --force replays that too" for name in excluded)
    parts = _parts(row, made)
    return Item(id, (replayed, *made), tasks, ignored_kinds=_INFORMATIONAL, excluded=why, parts=parts)


def _reroute_item(row: Delivery, config: Config, payload_of: query.PayloadOf, *, note: _Note) -> Item | Skipped:
    delivery = DeliveryId(row.hook, row.guid)
    id = str(delivery)
    if row.tasks:
        return Skipped(id, "it has been routed; `covenq replay` makes new tasks")
    gone = _why_no_content(row.redacted, row.payload_dropped)
    if gone is not None:
        return Skipped(id, gone)
    if row.event == PING:
        return Skipped(id, "it is a ping: there is nothing to do")
    decision = _route(row, config, payload_of, replay=0, only=None)
    if decision.problem is not None:
        return Skipped(id, decision.problem)
    if decision.state is not State.QUEUED and row.state == State.IGNORED:
        return Skipped(id, f"no route wants it today ({decision.reason})")
    rerouted = _rerouted(row, {"tasks": list(decision.tasks), **note})
    made = decision.entries if decision.state is State.QUEUED else ()
    parts = _parts(row, made)
    return Item(id, (rerouted, *decision.entries), decision.tasks, ignored_kinds=_INFORMATIONAL, parts=parts)


def _parts(row: Delivery, made: Sequence[Entry]) -> tuple[Part, ...]:
    """What a summary counts: the tasks that are made of a delivery, or, without any, itself."""
    if not made:
        return (Part(None, row.state, row.reason, row.received_at, row.repo, tasks=0),)
    tenant = tenant_of(row.installation, row.hook)
    return tuple(
        Part(
            as_text(one.data.get("route")),
            row.state,
            row.reason,
            row.received_at,
            row.repo,
            row.repo_id,
            tenant,
            pull=one.data.get("kind") == "pull",
        )
        for one in made
    )


def _rerouted(row: Delivery, data: dict[str, object]) -> Entry:
    """The note that an operator had it decided, who and why: before what was decided, and in its history for good."""
    return Entry(DeliveryId(row.hook, row.guid).subject, Kind.REROUTED, data, expect=row.last_seq)


def _dismiss_item(row: Delivery, *, note: _Note) -> Item | Skipped:
    delivery = DeliveryId(row.hook, row.guid)
    if row.tasks:
        return Skipped(str(delivery), "it has been routed; `covenq cancel` ends its tasks")
    if row.state != State.RECEIVED:
        return Skipped(str(delivery), f"it is {row.state}")
    detail = "An operator dismissed it: what it asks for was done, or isn't wanted."
    ignored = Entry(delivery.subject, Kind.IGNORED, {"reason": DISMISSED, "detail": detail})
    rerouted = _rerouted(row, {"tasks": [], "dismissed": True, **note})
    return Item(str(delivery), (rerouted, ignored), (), ignored_kinds=_INFORMATIONAL, parts=_parts(row, ()))


_SENT_AT = "SELECT sent_at FROM webhook_deliveries WHERE seq = ?"


def _late(row: Delivery, item: Item, conn: sqlite3.Connection) -> Item:
    """The item of a rerouted delivery: a task is superseded at once where one that GitHub sent later has its key."""
    first, *decided = item.entries
    late = find_late(decided, lambda conn: int(conn.execute(_SENT_AT, (row.seq,)).fetchone()[0]), lambda: conn)
    return replace(item, entries=(first, *born_superseded(decided, late))) if late else item


def _route(row: Delivery, config: Config, payload_of: query.PayloadOf, *, replay: int, only: str | None) -> Decision:
    delivery = DeliveryId(row.hook, row.guid)
    return route(
        config,
        delivery,
        asdict(row),
        lambda: query.decode(payload_of(row.seq)),
        delivery_seq=row.seq,
        replay=replay,
        only=None if only is None else {task_id(delivery, only, replay)},
    )


def _requeue_item(row: Task, *, note: _Note) -> Item | Skipped:
    id = row.id
    if row.state not in REQUEUEABLE:
        hint = "; `covenq replay` makes a new task" if row.state == State.COMPLETED else ""
        return Skipped(id, f"it is {row.state}{hint}")
    entry = Entry(task_subject(id), Kind.REQUEUED, note, expect=row.last_seq)
    tenant = tenant_of(row.installation, row.hook)
    part = Part(
        row.route, row.state, row.reason, row.created_at, row.repo, row.repo_id, tenant, pull=row.kind == "pull"
    )
    return Item(id, (entry,), (id,), parts=(part,))


def _forwarding(to: str) -> Route:
    """Raises UsageError."""
    return parse_route(
        Table("", "", {"name": REPLAY_TO_ROUTE, "match": "", "forward": checked_address(to), "timeout": "1m"})
    )


def _check_route(config: Config, name: str, *, tell: bool) -> None:
    """Raises UsageError, with the names that there are if it may `tell`."""
    names = [route.name for route in config.routes]
    if name not in names:
        if not tell:
            raise UsageError(f"there is no route {name[:64]!r} today", hint="The tasks of a delivery say their routes.")
        near = get_close_matches(name, names, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There {'are' if names else 'is'} {', '.join(names) or 'none'}."
        raise UsageError(f"there is no route {name[:64]!r} today", hint=hint)


def _states_by_route(conn: sqlite3.Connection, row: Delivery) -> dict[str | None, str]:
    """The state of the delivery's newest task of each route."""
    return {task.route: task.state for task in query.tasks_of(conn, row.hook, row.guid)}


def _why_no_content(redacted: int | None, payload_dropped: int | None) -> str | None:
    """Why a delivery has no content any more to make a task of; None if it has."""
    if redacted:
        return f"its content was erased, by record {redacted}"
    if payload_dropped:
        return f"its payload was dropped, by record {payload_dropped}: it is no longer kept"
    return None


def _why_no_content_of_task(conn: sqlite3.Connection, task: Task) -> str | None:
    found = conn.execute(
        "SELECT redacted, payload_dropped FROM webhook_deliveries WHERE seq = ?", (task.delivery_seq,)
    ).fetchone()
    return None if found is None else _why_no_content(*found)
