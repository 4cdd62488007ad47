"""Redaction: erasing the content of deliveries by id or filter, of a whole repository, or of a whole installation.

A delivery's erasure is one durable record of its own, `delivery.redacted`, which names the records that hold its content: the
delivery's, those that queued its tasks, and those that have their results or what their commands said of their work. Once it is
synced the erasure can't be undone, and the journal's engine, the fold and `covenq.operate.maintain.cleanup` each carry out
their part from the record alone, now or after a crash. Metadata stays: ids, event, action, sizes, hashes, states, times. So a
redelivery of it is still a duplicate.
"""

from __future__ import annotations

import json
import shlex
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from covenq.errors import AmbiguousRepository, ErasurePending, NotFound, UsageError
from covenq.filter.grammar import Filter
from covenq.model import DeliveryId, IgnoredReason, Kind, State, parse_repo, task_subject
from covenq.model.rows import Delivery, Repository, Task
from covenq.operate.act.plan import CHANGED, PAGE, Item, Matching, Plan, clean_text, payloads, skip_rest
from covenq.operate.act.plan_summary import Part, Tally
from covenq.operate.answers import Done, PlanAnswer, Skipped
from covenq.operate.parameters import Redact
from covenq.state import query, repositories
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
    UsageError, NotFound, Ambiguous, AmbiguousRepository.
    """
    ids, installation = wanted.ids, wanted.installation
    of_repository = wanted.repo is not None or wanted.repo_id is not None
    given = (ids, filter is not None, wanted.repo is not None, wanted.repo_id is not None, installation is not None)
    if sum(map(bool, given)) != 1:
        raise UsageError(
            "ids, filter, repo, repo_id and installation can't be combined"
            if any(given)
            else "say what to erase: ids, a filter, a repository by name or number, or an installation",
            hint="One of the five: covenq-http(7) says how it is given.",
        )
    if installation is not None and not 0 <= installation < 1 << 63:
        raise UsageError(
            f"{str(installation)[:40]} is no installation", hint="It is a number: `covenq deliveries --json`."
        )
    reason, by = clean_text(wanted.reason), clean_text(wanted.by)

    def make(id: str) -> Item | Skipped:
        return _item(conn, query.delivery_to_act_on(conn, id), reason=reason, by=by)

    eligible: dict[str, None] = {}
    skipped: list[Skipped] = []
    rows: Matching[Delivery] | None = None
    if ids:
        found: Iterator[str] = (str(_id(query.delivery_to_act_on(conn, id))) for id in ids)
    elif filter is not None:
        payload_of = payloads(journal)
        rows = Matching(
            filter,
            lambda wanted, after: query.deliveries(conn, wanted, PAGE, after, payload_of=payload_of),
            wanted.limit,
            wanted.after,
        )
        found = reversed([str(_id(row)) for row in rows])
    elif of_repository:
        found = (id for one in meant(conn, wanted) for id in _of_repository(conn, one))
    else:
        found = _all_of(conn, "installation = :value", installation)
    tally = Tally()
    for id in dict.fromkeys(found):
        one = make(id)
        if isinstance(one, Skipped):
            skipped.append(one)
            tally.skip(one.reason)
        else:
            eligible[id] = None
            tally.add(one.parts)
    next = None if rows is None else rows.next
    return Plan(tuple(eligible), tuple(skipped), make, summary=tally.summary(), next=next)


def plan_uninstalled(conn: sqlite3.Connection, installation: int, boundary: int, reason: str, by: str) -> Plan:
    """Plan the erasure of an installation's deliveries up to the record `boundary`: what came later is not looked at.

    Its tasks have been cancelled; a delivery of which one runs nevertheless is skipped.
    """

    def make(id: str) -> Item | Skipped:
        return _item(conn, query.delivery_to_act_on(conn, id), reason=reason, by=by)

    eligible: dict[str, None] = {}
    skipped: list[Skipped] = []
    for id in _all_of(conn, "seq <= :boundary AND installation = :value", installation, boundary=boundary):
        one = make(id)
        if isinstance(one, Skipped):
            skipped.append(one)
        else:
            eligible[id] = None
    return Plan(tuple(eligible), tuple(skipped), make)


def meant(conn: sqlite3.Connection, wanted: Redact) -> list[Repository]:
    """The repository that `wanted` names, and what came under its name without a number. Nothing if it names none.

    Raises UsageError for what is no name or number, and AmbiguousRepository.
    """
    if wanted.repo_id is not None:
        if not 0 <= wanted.repo_id < 1 << 63:
            raise UsageError(
                f"{str(wanted.repo_id)[:40]} is no repository's number", hint="See `covenq deliveries --json`."
            )
        one = repositories.numbered(conn, wanted.repo_id)
        return [one] if one.deliveries else []
    if wanted.repo is None:
        return []
    found = repositories.named(conn, parse_repo(wanted.repo))
    numbers = [one.repo_id for one in found if one.repo_id is not None]
    if len(numbers) > 1:
        said = "; ".join(f"{one.repo_id} ({', '.join(one.names[:3])})" for one in found[:10] if one.repo_id is not None)
        raise AmbiguousRepository(wanted.repo, said, numbers)
    return found


def is_known(conn: sqlite3.Connection, wanted: Redact, found: Sequence[Repository]) -> bool:
    """Whether the repository or installation that `wanted` names is one that anything stored is of. `found`: see `meant`.

    A number stays known when all of it was erased; a name goes with the content. What has ids or a filter names none.
    """
    if found:
        return True
    if wanted.repo is not None:
        return names_erasure(conn, [wanted.repo], [], reason=None, by=None) is not None
    for column, number in (("repo_id", wanted.repo_id), ("installation", wanted.installation)):
        if number is not None:
            row = conn.execute(f"SELECT 1 FROM webhook_deliveries WHERE {column} = ? LIMIT 1", (number,))  # noqa: S608
            return row.fetchone() is not None
    return True


def unknown(wanted: Redact) -> NotFound:
    """The error for a repository or installation that nothing is known of: a mistyped erasure must not look done."""
    if wanted.repo is not None:
        return NotFound(
            f"nothing that is stored is of the repository {wanted.repo}",
            hint="Check the spelling; what was erased has no name any more."
            f" `covenq deliveries {_search(wanted.repo)}` looks for more.",
        )
    what, number = (
        ("repository", wanted.repo_id) if wanted.repo_id is not None else ("installation", wanted.installation)
    )
    return NotFound(
        f"no delivery ever came of the {what} {number}", hint="`covenq deliveries --json` has the numbers of what came."
    )


def _search(repo: str) -> str:
    """The filter's term for repositories whose name is of that owner."""
    return shlex.quote(f"repo:{repo.partition('/')[0]}/*")


def _of_repository(conn: sqlite3.Connection, one: Repository) -> Iterator[str]:
    if one.repo_id is not None:
        return _all_of(conn, "repo_id = :value", one.repo_id)
    return _all_of(conn, "repo_id IS NULL AND repo = :value COLLATE NOCASE", one.names[0])


_NAMES_IN_RECORDS = """SELECT seq FROM names_in_records
    WHERE repo_id IN (SELECT value FROM json_each(:numbers))
    OR (repo_id IS NULL OR :by_name) AND repo COLLATE NOCASE IN (SELECT value FROM json_each(:names)) ORDER BY seq"""


def names_erasure(
    conn: sqlite3.Connection, names: Sequence[str], numbers: Sequence[int], *, reason: str | None, by: str | None
) -> Entry | None:
    """The record that erases a repository's names from those of its pauses and scopes; None where none holds one.

    Those of its numbers, under whatever name; and those without a number that have one of the names, in any case. Without
    numbers a name is a name. The pauses are current or past; one in effect stays, by the repository's number, where that is
    known, and what a scope is bound to stays too, by the name's digest in the record's subject.
    """
    asked = {"names": json.dumps(list(names)), "numbers": json.dumps(list(numbers)), "by_name": not numbers}
    rows = conn.execute(_NAMES_IN_RECORDS, asked).fetchall()
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
    answer = replace(plan, summary=None).answer()
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
        "drops": seq_ranges(
            [
                row.seq,
                *(task.created_seq for task in tasks),
                *query.results_of(conn, row.seq, row.seq),
                *query.abouts_of(conn, row.seq),
            ]
        ),
        "about": True,
        "by": by,
        "reason": reason,
    }
    made = [Entry(delivery.subject, Kind.REDACTED, data, expect=row.last_seq)]
    if row.state == State.RECEIVED:
        # Not routed yet, and its content, which routes look at, is erased.
        made.append(Entry(delivery.subject, Kind.IGNORED, {"reason": IgnoredReason.REDACTED.value, "detail": None}))
    waiting = [task for task in tasks if task.state == State.QUEUED]
    made += [
        Entry(task_subject(task.id), Kind.CANCELLED, {"by": by, "reason": "redacted"}, expect=task.last_seq)
        for task in waiting
    ]
    part = Part(None, row.state, row.reason, row.received_at, row.repo, by_repo=True, tasks=len(waiting))
    return Item(str(delivery), tuple(made), tuple(task.id for task in tasks), parts=(part,))


def _all_of(conn: sqlite3.Connection, where: str, value: object, *, boundary: int | None = None) -> Iterator[str]:
    after = 0
    while True:
        rows = conn.execute(
            f"SELECT seq, hook, guid FROM webhook_deliveries WHERE seq > :after AND redacted IS NULL AND {where} "  # noqa: S608 - constants
            "ORDER BY seq LIMIT :page",
            {"after": after, "value": value, "boundary": boundary, "page": _PAGE},
        ).fetchall()
        for row in rows:
            yield f"{row['hook']}/{row['guid']}"
        if len(rows) < _PAGE:
            return
        after = rows[-1]["seq"]
