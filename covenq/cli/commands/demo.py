"""`covenq demo`: kill a real daemon under load, start it again, and count what was lost.

Everything is the real thing: a `covenq serve` process with the embedded journal, signed HTTP requests, commands that run.
Only the directory is a temporary one.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covenq.cli import output
from covenq.cli.common import Json
from covenq.cli.output import Column, say
from covenq.paths import JOURNAL_NAME

if TYPE_CHECKING:
    from covenq.cli.demo_daemon import DemoDaemon

WANTED = ("issues", "issue_comment", "pull_request", "push", "check_run", "workflow_run", "release")
UNSUPPORTED = ("star", "fork", "watch")
FIRST = 40
"""New deliveries before the burst."""
BURST = 240
"""Deliveries of the burst, for four workers."""
KILL_AFTER = 90
"""Answers of the burst after which the daemon is killed."""
FORGED = 8
REMOVALS = 100
"""Attempts at removing the directory, a twentieth of a second apart."""


@dataclass(slots=True)
class Story:
    """What was sent and what was answered. A delivery is (hook, GUID); `accepted` has the seq each was promised."""

    accepted: dict[tuple[str, str], int] = field(default_factory=dict)
    wanted: set[tuple[str, str]] = field(default_factory=set)
    refused: Counter[int] = field(default_factory=Counter)
    repeated: int = 0
    recognised: int = 0
    unanswered: int = 0
    forged: set[str] = field(default_factory=set)
    moved: int = 0
    """Deliveries that were promised one seq, and later another."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the verdict: what, the number promised (None: only told), the number found."""

    what: str
    promised: int | None
    found: int

    @property
    def ok(self) -> bool:
        return self.promised is None or self.promised == self.found


@dataclass(slots=True)
class Evidence:
    """What the journal and the commands' own file say afterwards."""

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
) -> None:
    """Kill a daemon under load, count the losses.

    On a temporary directory, in under a minute: a stream of new, repeated, forged and unsupported deliveries, SIGKILL in
    the middle of a burst, a restart; then every promise is checked against the journal. Exits 1 if one was not kept.
    """
    directory = Path(tempfile.mkdtemp(prefix="covenq-demo-"))
    passed = False
    try:
        checks = crash(directory)
        passed = all(check.ok for check in checks)
        if json:
            rows = [{"what": c.what, "promised": c.promised, "found": c.found, "ok": c.ok} for c in checks]
            output.emit_json({"ok": passed, "checks": rows})
        else:
            output.table(COLUMNS, [{"check": check} for check in checks])
    finally:
        if keep or (not passed and sys.exc_info()[0] is not KeyboardInterrupt):
            say(f"Everything is in {directory}: covenq deliveries --data {directory / 'data'}")
        else:
            remove(directory)
    if not passed:
        say("covenq: a promise was not kept")
        raise typer.Exit(1)
    say("Every accepted delivery is there, none ran twice, and the journal verifies.")


def crash(directory: Path) -> list[Check]:
    """The whole play in that directory: the daemon is killed, started again, and held to what it had answered."""
    from covenq.cli.demo_daemon import DemoDaemon

    with DemoDaemon(directory, WANTED) as stage:
        story = play(stage)
    say("Reading the journal from its files, and verifying it.")
    return judge(story, gather(directory / "data", stage.ran))


def remove(directory: Path) -> None:
    """Remove it with all that is in it. Commands that the killed daemon had started may still write their line, for as
    long as they run, so a directory that is not yet empty is tried again."""
    for _ in range(REMOVALS):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(0.05)
    say(f"{directory} could not be removed.")


COLUMNS = [
    Column(
        "",
        lambda row: "ok" if row["check"].ok else "FAILED",
        colour=lambda cell: output.GREEN if cell == "ok" else output.RED,
    ),
    Column("WHAT", lambda row: row["check"].what),
    Column("PROMISED", lambda row: "" if row["check"].promised is None else f"{row['check'].promised:,}", right=True),
    Column("FOUND", lambda row: f"{row['check'].found:,}", right=True),
]


def play(stage: DemoDaemon) -> Story:
    """Send the stream, kill in the middle of the burst, restart, and send everything again as GitHub's button would."""
    story = Story()
    say(f"Starting a daemon in {stage.directory}, with four workers and no delivery yet.")
    stage.start()
    events = [*WANTED, *UNSUPPORTED]
    first = [stage.make(events[n % len(events)], n) for n in range(FIRST)]
    say(f"Sending {FIRST} new deliveries, some of a kind that no route wants, and a third of them again, at once.")
    _send(stage, story, first)
    _send(stage, story, first[::3] * 4, again=True)
    say(f"Sending {FORGED} unsigned or forged ones.")
    for n in range(FORGED):
        forged = stage.make("issues", 1000 + n, signature=None if n % 2 else "sha256=" + "0" * 64)
        story.forged.add(forged.id[1])
        reply = stage.post(forged)
        story.refused[reply.status if reply else 0] += 1

    burst = [stage.make(WANTED[n % len(WANTED)], 2000 + n) for n in range(BURST)]
    say(f"Sending {BURST} at once, and SIGKILL to the daemon after {KILL_AFTER} answers.")
    _send(stage, story, burst, kill_after=KILL_AFTER)
    story.unanswered = sum(one.id not in story.accepted for one in burst)
    say(f"Killed: {story.unanswered} of them have no answer. Starting it again on the same directory.")
    stage.start()
    say("Redelivering all of them, answered or not, as GitHub's button would.")
    _send(stage, story, [*first, *burst], again=True)
    say("Waiting for the tasks to end.")
    stage.wait_idle()
    stage.stop()
    return story


def _send(
    stage: DemoDaemon, story: Story, deliveries: Sequence[Any], *, again: bool = False, kill_after: int | None = None
) -> None:
    """Post them from several threads and note the answers; on the way, kill the daemon after so many answers."""
    known = set(story.accepted) if again else set()
    for delivery, reply in stage.post_all(deliveries, kill_after):
        answer: Mapping[str, Any] = reply.object if reply is not None and reply.status in (200, 202) else {}
        if not answer:
            if reply is not None:
                story.refused[reply.status] += 1
            continue
        if delivery.id in known:
            story.repeated += 1
            story.recognised += answer["duplicate"] is True
        story.moved += story.accepted.setdefault(delivery.id, answer["seq"]) != answer["seq"]
        if delivery.event in WANTED:
            story.wanted.add(delivery.id)


def gather(data: Path, ran: Path) -> Evidence:
    """Read the journal from its files, with no daemon, and the lines that the tasks' commands wrote."""
    from covenq.model import FINAL
    from covenq.operate.maintain.verify import check
    from journal.file.reader import open_reader

    found = Evidence()
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
    if ran.exists():
        found.ran = Counter(line.split()[0] for line in ran.read_text().splitlines())
    found.damage = len(check(data, upto=None).damage)
    return found


def judge(story: Story, found: Evidence) -> list[Check]:
    """Hold what was answered against what is there."""
    accepted = set(story.accepted)
    unsupported = accepted - story.wanted
    lost = [id for id in accepted if found.seqs.get(id) != story.accepted[id]]
    twice = [task for task, runs in found.ran.items() if runs > 1 and task not in found.interrupted]
    return [
        Check("deliveries sent, each accepted at last", FIRST + BURST, len(accepted)),
        Check("accepted, but not in the journal under the seq that was answered", 0, len(lost) + story.moved),
        Check("in the journal more than once", 0, sum(n > 1 for n in found.received.values())),
        Check("in the journal, though unsigned or forged", 0, sum(guid in story.forged for _, guid in found.received)),
        Check("unsigned or forged, refused with 401", FORGED, story.refused[401]),
        Check("redelivered, and recognised as duplicates", story.repeated, story.recognised),
        Check("unsupported, kept as ignored with the reason", len(unsupported), len(unsupported & found.ignored)),
        Check(
            "tasks, one for each delivery that a route wanted",
            len(story.wanted),
            sum(found.tasks[id] == 1 for id in story.wanted),
        ),
        Check("tasks in all", len(story.wanted), len(found.ends)),
        Check(
            "tasks completed, once each", len(story.wanted), sum(ends == ["completed"] for ends in found.ends.values())
        ),
        Check("tasks whose command ran to its end", len(story.wanted), len(found.ran)),
        Check("tasks whose command ran twice", 0, len(twice)),
        Check("unanswered because of the kill, and redelivered", None, story.unanswered),
        Check("tasks that the kill interrupted, started again", None, len(found.interrupted)),
        Check("findings of damage in the journal", 0, found.damage),
    ]
