"""Redaction: erasing the content of deliveries by id or filter, of a whole repository, or of a whole installation.

A delivery's erasure is one durable record of its own, `delivery.redacted`, which names the records that hold its content: the
delivery's, and those that queued its tasks. Once it is synced the erasure can't be undone, and the journal's engine, the fold
and `covenq.operate.maintain.cleanup` each carry out their part from the record alone, now or after a crash. Metadata
stays: ids, event, action, sizes, hashes, states, times. So a redelivery of it is still a duplicate.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

from covenq.errors import ErasurePending, UsageError
from covenq.filter.grammar import Filter
from covenq.model import DeliveryId, Kind, State, parse_id, parse_repo, task_subject
from covenq.model.rows import Delivery, Task
from covenq.operate.act.plan import CHANGED, PAGE, Item, Plan, clean_text, matching, payloads, skip_rest
from covenq.operate.answers import Done, PlanAnswer, Skipped
from covenq.operate.parameters import Redact
from covenq.state import query
from covenq.state.fold_pauses import REDACTED
from covenq.state.tables import TASKS
from journal.append import erase_known
from journal.erasure import seq_ranges
from journal.errors import ErasureFailed, JournalError
from journal.interface import Erasing, Progress, Reading
from journal.records import Conflict, Entry, Rewritten

AT_ONCE = 5000
"""Deliveries whose records share one append, and one rewriting of their segments."""

_TRIES = 50
_PAGE = 2000
_TASK_CONTENT = tuple(name for name in TASKS.erased if name in Task.__struct_fields__)


def plan_redact(
    journal: Reading,
    conn: sqlite3.Connection,
    wanted: Redact,
    filter: Filter | None,
) -> Plan:
    """Plan an erasure. `filter` is that of `wanted`, parsed.

    Skipped are deliveries with a running task, and those erased before. A task that waits is cancelled. Raises
    UsageError, NotFound, Ambiguous.
    """
    ids, repo, installation = wanted.ids, wanted.repo, wanted.installation
    if sum((bool(ids), filter is not None, repo is not None, installation is not None)) != 1:
        raise UsageError(
            "say what to erase: ids, a filter, a repository, or an installation",
            hint="One of the four: covenq-http(7) says how it is given.",
        )
    if repo is not None:
        parse_repo(repo)
    if installation is not None and not 0 <= installation < 1 << 63:
        raise UsageError(
            f"{str(installation)[:40]} is no installation", hint="It is a number: `covenq deliveries --json`."
        )
    reason, by = clean_text(wanted.reason), clean_text(wanted.by)

    def make(id: str) -> Item | Skipped:
        return _item(conn, query.delivery(conn, *parse_id(id)), reason=reason, by=by)

    eligible: dict[str, None] = {}
    skipped: list[Skipped] = []
    if ids:
        found: Iterator[str] = (str(_id(query.delivery(conn, *parse_id(id)))) for id in ids)
    elif filter is not None:
        payload_of = payloads(journal)
        rows = matching(
            filter, lambda wanted, after: query.deliveries(conn, wanted, PAGE, after, payload_of=payload_of)
        )
        found = reversed([str(_id(row)) for row in rows])
    elif repo is not None:
        found = _all_of(conn, "repo = ? COLLATE NOCASE", repo)
    else:
        found = _all_of(conn, "installation = ? AND redacted IS NULL", installation)
    for id in dict.fromkeys(found):
        one = make(id)
        if isinstance(one, Skipped):
            skipped.append(one)
        else:
            eligible[id] = None
    return Plan(tuple(eligible), tuple(skipped), make)


def pause_names_erasure(conn: sqlite3.Connection, repo: str, *, reason: str | None, by: str | None) -> Entry | None:
    """The record that erases the name of `repo` from the records of its pauses; None where none holds it.

    `repo` is OWNER/NAME, in any case; the pauses are current or past. A pause in effect stays, by the repository's number,
    where that is known.
    """
    rows = conn.execute("SELECT seq FROM pause_names WHERE repo = ? COLLATE NOCASE", (repo,)).fetchall()
    if not rows:
        return None
    data = {"drops": seq_ranges([int(row[0]) for row in rows]), "about": True}
    data |= {"reason": clean_text(reason), "by": clean_text(by)}
    return Entry("ops.redaction", REDACTED, data)


def apply(
    plan: Plan, journal: Erasing, fold: Callable[[], None], progress: Progress | None = None
) -> tuple[PlanAnswer, Rewritten]:
    """Carry out the plan: its answer with what was done, and the segments rewritten.

    `fold` brings the rows that the plan reads up to what is durable. Everything in `done` is durable, and gone from the
    log. Raises as `skip_rest`, and ErasurePending if it was recorded and the log could not be rewritten.
    """
    answer = plan.answer()
    done, skipped = answer.done, answer.skipped
    rewritten = Rewritten()
    for start in range(0, len(plan.eligible), AT_ONCE):
        items = {id: plan.make(id) for id in plan.eligible[start : start + AT_ONCE]}
        try:
            rewritten += _erase(journal, plan, items, fold, progress, done, skipped)
        except JournalError as error:
            skip_rest(plan, answer, error, "erased")
            break
        fold()
    return answer, rewritten


def _erase(
    journal: Erasing,
    plan: Plan,
    items: dict[str, Item | Skipped],
    fold: Callable[[], None],
    progress: Progress | None,
    done: list[Done],
    skipped: list[Skipped],
) -> Rewritten:
    """Append them all at once. An item that changed since it was read is planned again, a few times, and then left out."""
    for tries_left in range(_TRIES, -1, -1):
        wanted = [one for one in items.values() if isinstance(one, Item)]
        if not wanted:
            break
        try:
            answer, rewritten = erase_known(journal, [entry for item in wanted for entry in item.entries], progress)
        except ErasureFailed as error:
            if not error.recorded:
                raise
            raise ErasurePending(f"the erasure is recorded, but not carried out everywhere: {error}") from error
        if not isinstance(answer, Conflict):
            skipped += [one for one in items.values() if isinstance(one, Skipped)]
            at = 0
            for item in wanted:
                done.append(Done(item.id, list(item.tasks), answer.seqs[at]))
                at += len(item.entries)
            return rewritten
        fold()
        moved = next(item for item in wanted if any(entry.subject == answer.subject for entry in item.entries))
        items[moved.id] = plan.make(moved.id) if tries_left else Skipped(moved.id, CHANGED)
    skipped += [one for one in items.values() if isinstance(one, Skipped)]
    skipped += [Skipped(one.id, CHANGED) for one in items.values() if isinstance(one, Item)]
    return Rewritten()


def _id(row: Delivery) -> DeliveryId:
    return DeliveryId(row.hook, row.guid)


def _item(conn: sqlite3.Connection, row: Delivery, *, reason: str | None, by: str | None) -> Item | Skipped:
    delivery = _id(row)
    tasks = query.tasks_of(conn, delivery.hook, delivery.guid)
    if row.redacted and not any(getattr(task, name) is not None for task in tasks for name in _TASK_CONTENT):
        return Skipped(str(delivery), f"its content was erased before, by record {row.redacted}")
    if any(task.state == State.RUNNING for task in tasks):
        return Skipped(str(delivery), "a task of it is running: erase it when that has ended")
    data = {
        "received": row.seq,
        "drops": seq_ranges([row.seq, *(task.created_seq for task in tasks)]),
        "about": True,
        "by": by,
        "reason": reason,
    }
    made = [Entry(delivery.subject, Kind.REDACTED, data, expect=row.last_seq)]
    if row.state == State.RECEIVED:
        # Not routed yet, and its content, which routes look at, is erased.
        made.append(Entry(delivery.subject, Kind.IGNORED, {"reason": "redacted", "detail": None}))
    waiting = [task for task in tasks if task.state == State.QUEUED]
    made += [
        Entry(task_subject(task.id), Kind.CANCELLED, {"by": by, "reason": "redacted"}, expect=task.last_seq)
        for task in waiting
    ]
    return Item(str(delivery), tuple(made), tuple(task.id for task in tasks))


def _all_of(conn: sqlite3.Connection, where: str, value: object) -> Iterator[str]:
    after = 0
    while True:
        rows = conn.execute(
            f"SELECT seq, hook, guid FROM webhook_deliveries WHERE seq > ? AND {where} ORDER BY seq LIMIT ?",  # noqa: S608 - constants
            (after, value, _PAGE),
        ).fetchall()
        for row in rows:
            yield f"{row['hook']}/{row['guid']}"
        if len(rows) < _PAGE:
            return
        after = rows[-1]["seq"]
