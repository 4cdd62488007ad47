"""`covenq demo`: kill a real daemon under load, start it again, and count what was lost.

Everything is the real thing: a `covenq serve` process with the embedded journal, signed HTTP requests, commands that run.
Only the directory is temporary.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.options import Json, Jsonl
from covenq.cli.output import say
from covenq.cli.table import Column, print_table
from covenq.paths import JOURNAL_NAME
from journal.presence import exists

if TYPE_CHECKING:
    from covenq.cli.demo_daemon import Delivery, DemoDaemon

ROUTED_EVENTS = ("issues", "issue_comment", "pull_request", "push", "check_run", "workflow_run", "release")
UNROUTED_EVENTS = ("star", "fork", "watch")
FIRST_COUNT = 40
"""New deliveries before the burst."""
BURST_COUNT = 240
"""Deliveries of the burst, for four workers."""
KILL_AFTER = 90
"""Answers of the burst after which the daemon is killed."""
FORGED_COUNT = 8
REMOVE_TRIES = 100
"""Attempts at removing the directory, 50 ms apart."""


@dataclass(slots=True)
class ClientLog:
    """What the client sent and was answered. A delivery is (hook, GUID); `accepted` has the seq that each answer promised."""

    accepted: dict[tuple[str, str], int] = field(default_factory=dict)
    routed: set[tuple[str, str]] = field(default_factory=set)
    refused: Counter[int] = field(default_factory=Counter)
    redelivered: int = 0
    deduplicated: int = 0
    unanswered: int = 0
    forged: set[str] = field(default_factory=set)
    seq_changed: int = 0
    """Deliveries that were answered with one seq, and later with another."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the verdict: what is counted, the number promised (None: for information only), the number found."""

    what: str
    promised: int | None
    found: int

    @property
    def ok(self) -> bool:
        return self.promised is None or self.promised == self.found


@dataclass(slots=True)
class JournalAudit:
    """What the journal, and the file that the commands write, hold afterwards."""

    received: Counter[tuple[str, str]] = field(default_factory=Counter)
    seqs: dict[tuple[str, str], int] = field(default_factory=dict)
    ignored: set[tuple[str, str]] = field(default_factory=set)
    tasks: Counter[tuple[str, str]] = field(default_factory=Counter)
    ends: dict[str, list[str]] = field(default_factory=dict)
    interrupted: set[str] = field(default_factory=set)
    ran: Counter[str] = field(default_factory=Counter)
    damage: int = 0


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the directory, to look at it with the other commands.")
    ] = False,
    json: Json = False,
    jsonl: Jsonl = False,
) -> None:
    """Kill a daemon under load, count the losses.

    On a temporary directory, in under a minute: a stream of new, repeated, forged and unsupported deliveries, SIGKILL in
    the middle of a burst, a restart; then every promise is checked against the journal. Exits 1 if one was not kept.
    """
    directory = Path(tempfile.mkdtemp(prefix="covenq-demo-"))
    passed = False
    try:
        checks = run_crash_test(directory)
        passed = all(check.ok for check in checks)
        if json:
            rows = [{"what": c.what, "promised": c.promised, "found": c.found, "ok": c.ok} for c in checks]
            output.emit_json({"ok": passed, "checks": rows})
        else:
            print_table(COLUMNS, checks)
    finally:
        if keep or (not passed and sys.exc_info()[0] is not KeyboardInterrupt):
            say(f"Everything is in {directory}: covenq deliveries --data {directory / 'data'}")
        else:
            remove_directory(directory)
    if not passed:
        say("covenq: a promise was not kept")
        raise typer.Exit(1)
    say("Every accepted delivery is there, none ran twice, and the journal verifies.")


def run_crash_test(directory: Path) -> list[Check]:
    """Run the whole test in that directory: kill the daemon, start it again, and compare its answers with its journal."""
    from covenq.cli.demo_daemon import DemoDaemon, demo_config

    ran = directory / "ran"
    with DemoDaemon(directory, demo_config(ROUTED_EVENTS, ran)) as daemon:
        log = send_traffic(daemon)
    say("Reading the journal from its files, and verifying it.")
    return compare(log, audit_journal(directory / "data", ran))


def remove_directory(directory: Path) -> None:
    """Remove the directory with its content.

    Commands that the killed daemon had started may still write their line, so a directory that isn't empty yet is tried again.
    """
    for _ in range(REMOVE_TRIES):
        shutil.rmtree(directory, ignore_errors=True)
        if not exists(directory):
            return
        time.sleep(0.05)
    say(f"{directory} could not be removed.")


COLUMNS: list[Column[Check]] = [
    Column(
        "",
        lambda check: "ok" if check.ok else "FAILED",
        colour=lambda cell: output.GOOD if cell == "ok" else output.BAD,
    ),
    Column("WHAT", lambda check: check.what, shrink=24, wraps=True),
    Column("PROMISED", lambda check: "" if check.promised is None else f"{check.promised:,}", right=True),
    Column("FOUND", lambda check: f"{check.found:,}", right=True),
]


def send_traffic(daemon: DemoDaemon) -> ClientLog:
    """Send the stream, kill in the middle of the burst, restart, and send everything again as GitHub's button would."""
    log = ClientLog()
    say(f"Starting a daemon in {daemon.directory}, with four workers and no delivery yet.")
    daemon.start()
    events = [*ROUTED_EVENTS, *UNROUTED_EVENTS]
    first = [daemon.make(events[n % len(events)], n) for n in range(FIRST_COUNT)]
    say(
        f"Sending {FIRST_COUNT} new deliveries, some of a kind that no route wants, and a third of them again, at once."
    )
    _send(daemon, log, first)
    _send(daemon, log, first[::3] * 4, redelivered=True)
    say(f"Sending {FORGED_COUNT} unsigned or forged ones.")
    for n in range(FORGED_COUNT):
        forged = daemon.make("issues", 1000 + n, signature=None if n % 2 else "sha256=" + "0" * 64)
        log.forged.add(forged.id[1])
        reply = daemon.post(forged)
        log.refused[reply.status if reply else 0] += 1

    burst = [daemon.make(ROUTED_EVENTS[n % len(ROUTED_EVENTS)], 2000 + n) for n in range(BURST_COUNT)]
    say(f"Sending {BURST_COUNT} at once, and SIGKILL to the daemon after {KILL_AFTER} answers.")
    _send(daemon, log, burst, kill_after=KILL_AFTER)
    log.unanswered = sum(one.id not in log.accepted for one in burst)
    say(f"Killed: {log.unanswered} of them have no answer. Starting it again on the same directory.")
    daemon.start()
    say("Redelivering all of them, answered or not, as GitHub's button would.")
    _send(daemon, log, [*first, *burst], redelivered=True)
    say("Waiting for the tasks to end.")
    daemon.wait_idle()
    daemon.stop()
    return log


def _send(
    daemon: DemoDaemon,
    log: ClientLog,
    deliveries: Sequence[Delivery],
    *,
    redelivered: bool = False,
    kill_after: int | None = None,
) -> None:
    """Post them from several threads and log the answers; kill the daemon after `kill_after` answers."""
    known = set(log.accepted) if redelivered else set()
    for delivery, reply in daemon.post_all(deliveries, kill_after):
        answer = reply.answer if reply is not None and reply.status in (200, 202) else {}
        seq = answer.get("seq")
        if not isinstance(seq, int):
            if reply is not None:
                log.refused[reply.status] += 1
            continue
        if delivery.id in known:
            log.redelivered += 1
            log.deduplicated += answer.get("duplicate") is True
        log.seq_changed += log.accepted.setdefault(delivery.id, seq) != seq
        if delivery.event in ROUTED_EVENTS:
            log.routed.add(delivery.id)


def audit_journal(data: Path, ran: Path) -> JournalAudit:
    """Read the journal from its files, without a daemon, and the lines that the tasks' commands wrote."""
    from covenq.model import FINAL
    from covenq.operate.maintain.verify import check
    from journal import open_reader

    found = JournalAudit()
    with open_reader(data / JOURNAL_NAME) as reader:
        for record in reader.read(0):
            noun, _, verb = record.kind.partition(".")
            subject = record.subject.split(".")
            if record.kind == "delivery.received":
                found.received[(subject[1], subject[2])] += 1
                found.seqs[(subject[1], subject[2])] = record.seq
            elif record.kind == "delivery.ignored":
                found.ignored.add((subject[1], subject[2]))
            elif record.kind == "task.queued":
                found.tasks[(record.data["hook"], record.data["guid"])] += 1
                found.ends[subject[1]] = []
            elif record.kind == "task.retry" and record.data["category"] == "interrupted":
                found.interrupted.add(subject[1])
            elif noun == "task" and verb in FINAL:
                found.ends[subject[1]].append(verb)
    if exists(ran):
        found.ran = Counter(line.split()[0] for line in ran.read_text().splitlines())
    found.damage = len(check(data, upto=None).damage)
    return found


def compare(log: ClientLog, found: JournalAudit) -> list[Check]:
    """Compare what was answered with what is stored."""
    accepted = set(log.accepted)
    unsupported = accepted - log.routed
    lost = [id for id in accepted if found.seqs.get(id) != log.accepted[id]]
    twice = [task for task, runs in found.ran.items() if runs > 1 and task not in found.interrupted]
    return [
        Check("deliveries sent, each accepted at last", FIRST_COUNT + BURST_COUNT, len(accepted)),
        Check("accepted, but not in the journal under the seq that was answered", 0, len(lost) + log.seq_changed),
        Check("in the journal more than once", 0, sum(n > 1 for n in found.received.values())),
        Check("in the journal, though unsigned or forged", 0, sum(guid in log.forged for _, guid in found.received)),
        Check("unsigned or forged, refused with 401", FORGED_COUNT, log.refused[401]),
        Check("redelivered, and recognised as duplicates", log.redelivered, log.deduplicated),
        Check("unsupported, kept as ignored with the reason", len(unsupported), len(unsupported & found.ignored)),
        Check(
            "tasks, one for each delivery that a route wanted",
            len(log.routed),
            sum(found.tasks[id] == 1 for id in log.routed),
        ),
        Check("tasks in all", len(log.routed), len(found.ends)),
        Check(
            "tasks completed, once each", len(log.routed), sum(ends == ["completed"] for ends in found.ends.values())
        ),
        Check("tasks whose command ran to its end", len(log.routed), len(found.ran)),
        Check("tasks whose command ran twice", 0, len(twice)),
        Check("unanswered because of the kill, and redelivered", None, log.unanswered),
        Check("tasks that the kill interrupted, started again", None, len(found.interrupted)),
        Check("findings of damage in the journal", 0, found.damage),
    ]
