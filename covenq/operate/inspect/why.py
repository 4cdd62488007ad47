"""`covenq why`: deliveries found by an id, a task's id or an issue's address, each with its history.

`covenq.operate.inspect.story` builds the history.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from msgspec import structs
from msgspec.structs import asdict

from covenq.config.github_api import NO_LOGS
from covenq.config.limits import Caps
from covenq.config.load import Config
from covenq.config.route import Route
from covenq.errors import NotFound, UsageError
from covenq.filter.grammar import parse
from covenq.intake import refusal_log
from covenq.intake.refusal_hints import with_hint
from covenq.intake.refusal_log import Refusal
from covenq.model import DeliveryId, Kind, State, parse_id, seconds_of, task_subject
from covenq.model.rows import Delivery, Repository, Task, Waits
from covenq.model.uninstall_record import subject_of
from covenq.operate.inspect import view
from covenq.operate.inspect.delivery_facts import DeliveryFacts
from covenq.operate.inspect.forward_signature import Signing, signing_of
from covenq.operate.inspect.history import Story, Target, Why
from covenq.operate.inspect.last_output import ReadLog, last_output
from covenq.operate.inspect.ledger import not_held
from covenq.operate.inspect.story import build_story
from covenq.operate.inspect.verdict import of_several
from covenq.operate.inspect.verdict_absent import verdict_absent
from covenq.operate.origin import origin_of
from covenq.operate.signed_later import find_signed_later
from covenq.routing.verdicts import CONTENT_FIELDS, Verdict, verdicts
from covenq.state import query, repositories
from covenq.state.fold_history import notes
from covenq.state.scoped import scope_of_reader
from covenq.tasks.scheduling.waiting import waiting as what_it_waits_for
from journal.records import Record

STORIES_MAX = 20
"""Histories in an answer about one issue or pull request: those of its newest deliveries."""
NOTES_MAX = 50
"""Newest notes (rarer records) read of one delivery, and of each of its tasks."""
REFUSED_MAX = 20

TASK_ID = re.compile(r"t[0-9a-f]{24}\Z")
_NAME = r"([0-9A-Za-z_.-]{1,100}/[0-9A-Za-z_.-]{1,150})"
_URL = re.compile(rf"https?://[^/\s]{{1,253}}/{_NAME}/(?:pull|pulls|issues|discussions)/([0-9]{{1,18}})(?:[/?#].*)?\Z")
_SHORT = re.compile(rf"{_NAME}#([0-9]{{1,18}})\Z")

Waiting = Callable[[sqlite3.Connection, str, float], Waits | None]
"""Why the queued task with that id doesn't run now."""


def why(
    conn: sqlite3.Connection,
    records: view.ReadableJournal,
    config: Config,
    asked: str,
    *,
    now: float,
    waiting: Waiting,
    refused: Callable[[], Iterable[Refusal]],
    read_log: ReadLog,
) -> Why:
    """The history of a delivery by its id or a task's, or those of an issue's or pull request's deliveries by its address.

    The function `refused` gives the log of refusals, newest last. What it has of the id is told beside what the journal holds,
    and replaces none of that: nothing proves what a refused request said it was. `read_log` gives the outputs of attempts.
    Raises UsageError for what is no id, unless
    something was refused under it, Ambiguous for a GUID that several hooks share.

    Where `conn` reads under a scope (`covenq.state.scoped`), nothing is told of the machine: no routes, refusals and logs.
    """
    if not asked:
        raise UsageError(
            "which one?", hint="Give a GUID, hook/GUID, a task's id, owner/name#number or its address on GitHub."
        )

    scoped = scope_of_reader(conn) is not None
    if scoped:
        config, refused = replace(config, path=None, routes=(), secrets=(), github_logs=NO_LOGS), tuple

    def story(row: Delivery) -> Story:
        found = build_story(_facts(conn, records, config, row, now, waiting, read_log))
        return structs.replace(found, next=[]) if scoped and not found.tasks else found  # which would be about routes

    target = target_of(asked)
    if target is not None:
        rows, more = _of_target(conn, target)
        stories = [story(row) for row in rows]
        return Why(
            asked,
            "target" if rows else "nothing",
            target=target,
            stories=stories,
            more=more,
            namesakes=_namesakes(conn, target),
            verdict=of_several(stories) or verdict_absent((), (), target, now),
        )
    task = _task(conn, asked)
    answer = Why(asked, task=None if task is None else task.id)
    fetched = bool(config.github_logs.all)
    try:
        hook, guid = parse_id(asked) if task is None else parse_id(f"{task.hook}/{task.guid}")
    except UsageError:  # what is no id may have been refused for that
        answer.kind, answer.refused = "nothing", _refused_as(refused(), None, asked, fetched)
        if not answer.refused:
            raise
        answer.verdict = verdict_absent((), answer.refused, None, now)
        return answer
    try:
        answer.stories = [story(query.delivery(conn, hook, guid))]
        hook = answer.stories[0].delivery.hook
    except NotFound:
        answer.kind = "nothing"
        answer.not_held = not_held(conn, config.github_logs, guid)
    answer.refused = _refused_as(refused(), hook, guid, fetched)
    answer.verdict = of_several(answer.stories) or verdict_absent(answer.not_held, answer.refused, None, now)
    return answer


def _refused_as(log: Iterable[Refusal], hook: str | None, guid: str, fetched: bool) -> list[Refusal]:
    """The newest refusals of requests that said they were this delivery. Those that named no hook may have been any hook's."""
    named = guid[: refusal_log.TEXT_MAX]
    mine = [one for one in log if one.delivery == named and (hook is None or one.hook in (None, hook))]
    return [with_hint(one, fetched) for one in mine[-REFUSED_MAX:]]


def target_of(asked: str) -> Target | None:
    """What an address on GitHub, or `owner/name#number`, is of; None for anything else."""
    found = _URL.match(asked) or _SHORT.match(asked)
    return None if found is None else Target(found[1], int(found[2]))


def _task(conn: sqlite3.Connection, asked: str) -> Task | None:
    if not TASK_ID.match(asked):
        return None
    try:
        return query.task(conn, asked)
    except NotFound:
        return None  # a GUID may have this form too


def _of_target(conn: sqlite3.Connection, target: Target) -> tuple[list[Delivery], bool]:
    """The deliveries about it, under all names of its repository, and none of another that had the name."""
    found = repositories.newest(conn, target.repo)
    number = None if found is None else found[0]
    which = f'repo:"{target.repo}"' if number is None else f"repo_id:{number}"
    page = query.deliveries(conn, parse(f"{which} number:{target.number}"), STORIES_MAX)
    return page.items, page.next is not None


def _namesakes(conn: sqlite3.Connection, target: Target) -> list[Repository]:
    """The other repositories that have had the name."""
    found = repositories.newest(conn, target.repo)
    return [] if found is None else [one for one in repositories.named(conn, target.repo) if one.repo_id != found[0]]


# ---- the facts about one


def _facts(
    conn: sqlite3.Connection,
    records: view.ReadableJournal,
    config: Config,
    row: Delivery,
    now: float,
    waiting: Waiting,
    read_log: ReadLog,
) -> DeliveryFacts:
    tasks = query.tasks_of(conn, row.hook, row.guid)
    attempts = {task.id: query.attempts(conn, task.id) for task in tasks}
    noted = [seq for subject in _subjects(row, tasks) for seq in notes(conn, subject, NOTES_MAX)[1]]
    found = [
        _shown(conn, record)
        for record in map(records.get, sorted(noted))
        if record is not None and record.data.get("deletion") in (None, row.seq)
    ]
    by = row.redacted or row.payload_dropped
    return DeliveryFacts(
        delivery=row,
        tasks=tasks,
        attempts=attempts,
        outputs={id: last_output(its, read_log) for id, its in attempts.items() if not row.redacted},
        notes=found,
        now=now,
        decided_by=_decided_by(records, row),
        verdicts=_verdicts(records, config.routes, row),
        config=config.sha256,
        config_path=None if config.path is None else str(config.path),
        waiting=_waits(conn, tasks, now, waiting),
        dropped_by=None if by is None else view.dropped_by(records, by),
        signing=Signing(frozenset({row.secret or ""}))
        if scope_of_reader(conn) is not None
        else signing_of(conn, config, row),
        origin=origin_of(records.get(row.seq)) if row.source == "import" else None,
        signed_later=find_signed_later(conn, records, row),
    )


def _shown(conn: sqlite3.Connection, note: Record) -> Record:
    """A note, without the id of a task that isn't in the scope which `conn` reads under."""
    by = note.data.get("by_task")
    if by is None or scope_of_reader(conn) is None or (isinstance(by, str) and query.tasks_with(conn, [by])):
        return note
    return structs.replace(note, data={name: one for name, one in note.data.items() if name != "by_task"})


def _subjects(row: Delivery, tasks: Sequence[Task]) -> Iterator[str]:
    yield DeliveryId(row.hook, row.guid).subject
    yield from (task_subject(task.id) for task in tasks)
    if row.event == "installation" and row.action == "deleted" and row.installation is not None:
        yield subject_of(row.installation)  # what became of the installation then


def _waits(conn: sqlite3.Connection, tasks: Sequence[Task], now: float, waiting: Waiting) -> Mapping[str, Waits]:
    told = {task.id: waiting(conn, task.id, now) for task in tasks if task.state == State.QUEUED}
    return {id: why for id, why in told.items() if why is not None}


def _decided_by(records: view.ReadableJournal, row: Delivery) -> str | None:
    """The configuration's hash in its `delivery.ignored`, which follows it directly, or is its newest record."""
    subject = DeliveryId(row.hook, row.guid).subject
    for seq in (row.seq + 1, row.last_seq):
        record = records.get(seq)
        if record is not None and record.kind == Kind.IGNORED and record.subject == subject:
            config = record.data.get("config")
            return config if isinstance(config, str) else None
    return None


def _verdicts(records: view.ReadableJournal, routes: Sequence[Route], row: Delivery) -> list[Verdict]:
    """Today's routes on the delivery, with the age that it had when it was received."""
    lost: dict[str, str] = {}
    if row.redacted:
        lost = dict.fromkeys(CONTENT_FIELDS, "its content was erased")
    elif row.payload_dropped:
        lost = {"payload": "its payload was dropped"}

    def payload() -> object:
        record = records.get(row.seq)
        return query.decode(None if record is None else record.payload)

    return verdicts(routes, asdict(row), payload, now=seconds_of(row.received_at), lost=lost)


def waiting(caps: Caps) -> Waiting:
    """The reason for waiting, from `covenq.tasks.scheduling.waiting`, under these limits."""
    return lambda conn, task, now: what_it_waits_for(conn, task, now, caps)
