"""A journal with what several installations left, of which one is uninstalled; and the erasure of that, killed at any point.

`python -m tests.support.uninstalling DIR SEED POINTS` kills it at so many points, each in a process of its own that is forked
when all is imported, and prints what is left each time: a line of JSON for each point.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from covenq.config.retention import ERASE, Retention
from covenq.model.uninstall_record import subject_of
from covenq.operate.maintain import redaction, uninstall_work
from covenq.operate.maintain.uninstall_work import IsInstalled, Uninstalls
from covenq.operate.maintain.upkeep_work import UpkeepContext
from covenq.state.store import StateStore
from journal.file.files import OsFiles
from journal.interface import Engine
from journal.records import Appended, Entry, Record
from tests.support.journals.chosen import open_chosen
from tests.support.records import moved, note, of, queued, received
from tests.support.same_state import assert_state_is_a_fresh_fold

GONE, OTHER = 9001, 9002
GRACE_S = 7 * 86_400.0
POLICY = Retention(on_uninstall=ERASE, uninstall_grace_s=GRACE_S)
ABSENT = {"repo": None, "owner": None, "number": None, "title": None, "labels": None}
SECRET_TEXT = "of-the-one-that-is-gone"


def lifecycle(
    guid: str,
    action: str = "deleted",
    installation: int = GONE,
    *,
    app: int = 2,
    event: str = "installation",
    **data: Any,
) -> list[Entry]:
    """What GitHub sends of an installation, which no route wants."""
    body = {"action": action, "installation": {"id": installation, "app_id": app, "account": {"login": SECRET_TEXT}}}
    fields = {"event": event, "action": action, "installation": installation, "repo_id": None} | data
    entry = received(guid, payload=json.dumps(body | {"guid": guid}).encode(), about=ABSENT, **fields)
    return [entry, note("ignored", guid, reason="no_route")]


def delivery(guid: str, installation: int | None = GONE, *, task: bool = True, about: Any = None) -> list[Entry]:
    """A delivery about a repository, with a task that waits or without one."""
    text = SECRET_TEXT if installation == GONE else "kept"
    told = {"title": text} | (about or {})
    entry = received(
        guid, installation=installation, about=told, payload=json.dumps({"of": text, "guid": guid}).encode()
    )
    made = queued(guid, installation=installation, about=about) if task else note("ignored", guid, reason="no_route")
    return [entry, made]


def fill(journal: Engine, number: int = 6) -> None:
    """Of each installation, and of none, deliveries in every state."""
    for owner in (GONE, OTHER, None):
        for one in range(number):
            guid = f"{owner}-{one}"
            journal.append(delivery(guid, owner, task=one % 3 != 2))
            task = of(guid)
            if one % 3 == 1:  # it runs
                journal.append([moved("claimed", task, attempt=1, worker="w", fence=f"f{guid}")])
            if one == 0:
                journal.append([moved("completed", task, attempt=1, summary=None)] if owner is None else [])


@dataclass
class Place:
    """A data directory, open, and rounds of the daemon's work in it."""

    data: Path
    journal: Engine
    store: StateStore
    is_installed: IsInstalled = lambda installation, app: None
    policy: Retention = POLICY
    later_s: float = 0.0
    """Seconds that the clock is put forward, and so is that of the questions to GitHub."""
    tick: Callable[[], None] = lambda: None
    work: Uninstalls = field(init=False)

    def __post_init__(self) -> None:
        self.work = Uninstalls(lambda *asked: self.is_installed(*asked), lambda: self.later_s)

    def add(self, *lots: Sequence[Entry]) -> None:
        for entries in lots:
            answer = self.journal.append(entries)
            assert isinstance(answer, Appended), answer
        self.store.catch_up()

    def context(self) -> UpkeepContext:
        def fold() -> None:
            self.tick()
            self.store.catch_up()

        def truncate() -> bool:
            self.tick()
            return self.store.truncate_wal()

        return UpkeepContext(
            self.journal,
            self.data,
            self.policy,
            self.store.reader,
            fold,
            truncate,
            clock=lambda: time.time() + self.later_s,
            step=self.tick,
        )

    def round(self, later_s: float = 0.0) -> bool:
        """A round; whether something is left for another one soon."""
        self.later_s += later_s
        context = self.context()
        again = self.work.work(context, lambda: contextlib.nullcontext((context, None)))
        self.store.catch_up()
        return again

    def rounds(self, later_s: float = GRACE_S, number: int = 6) -> None:
        """Notice what there is, let the time pass, and go on for long enough."""
        self.round()
        self.round(later_s)
        for _ in range(number):
            self.round()

    def kinds(self, installation: int = GONE) -> list[str]:
        """What was recorded of the installation's end."""
        found = [one for one in self.journal.read(0) if one.subject == subject_of(installation)]
        return [one.kind.removeprefix("uninstall.") for one in found]

    def newest(self, installation: int = GONE) -> Record:
        found = self.journal.last(subject_of(installation))
        assert found is not None
        return found

    def with_content(self) -> set[str]:
        """The GUIDs whose content the journal and the rows still have."""
        held = {
            one.data["guid"]
            for one in self.journal.read(0)
            if one.kind == "delivery.received" and (one.payload is not None or one.about is not None)
        }
        rows = self.store.reader().execute("SELECT guid FROM webhook_deliveries WHERE redacted IS NULL").fetchall()
        assert held == {row["guid"] for row in rows}
        return held


@contextmanager
def opened(data: Path, *, files: OsFiles | None = None, **options: Any) -> Iterator[Place]:
    data.mkdir(parents=True, exist_ok=True)
    with open_chosen(data, files=files) as journal, StateStore(data / "state.db", journal) as store:
        store.catch_up()
        yield Place(data, journal, store, **options)


# ---- killed


class CountedFiles(OsFiles):
    """The real files, which tell of every call that changes one, before it and half done."""

    tick: Callable[[], None] = lambda: None

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self.tick()
        half = super().pwrite(fd, data[: len(data) // 2], offset) if len(data) > 1 else 0
        self.tick()
        return half + super().pwrite(fd, data[half:], offset + half)

    def fdatasync(self, fd: int) -> None:
        self.tick()
        super().fdatasync(fd)

    def fsync_dir(self, path: Path) -> None:
        self.tick()
        super().fsync_dir(path)

    def rename(self, source: Path, target: Path) -> None:
        self.tick()
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self.tick()
        super().unlink(path)


def prepare(data: Path) -> None:
    """Installations with deliveries, files of attempts, and a deletion."""
    with opened(data) as place:
        fill(place.journal)
        place.add(lifecycle("the-deletion"))
        for guid in (f"{GONE}-1", f"{OTHER}-1"):
            attempt = data / "attempts" / of(guid) / "1"
            attempt.mkdir(parents=True)
            (attempt / "payload").write_text(SECRET_TEXT if guid.startswith(str(GONE)) else "kept")


def go_on(data: Path, tick: Callable[[], None] = lambda: None) -> None:
    """All of it, from wherever it stands, as a daemon does that starts again."""
    files = CountedFiles()
    files.tick = tick  # type: ignore[method-assign]
    with opened(data, files=files, tick=tick) as place:
        place.rounds(GRACE_S)
        files.tick = lambda: None  # type: ignore[method-assign]


def outcome(data: Path) -> dict[str, Any]:
    """What is left, without what may differ: seqs and times."""
    with opened(data) as place:
        tasks = place.store.reader().execute("SELECT id, state FROM tasks ORDER BY id").fetchall()
        redacted = [one.subject for one in place.journal.read(0) if one.kind == "delivery.redacted"]
        done = place.newest()
        found = {
            "kinds": place.kinds(),
            "done": {name: done.data.get(name) for name in ("deliveries", "tasks")},
            "held": sorted(place.with_content()),
            "redacted": sorted(redacted),
            "tasks": [list(row) for row in tasks],
            "cancelled": sorted(one.subject for one in place.journal.read(0) if one.kind == "task.cancelled"),
            "repeated": isinstance(place.journal.append(delivery(f"{GONE}-0")), Appended),
            "erasing": place.journal.erasing,
        }
    assert_state_is_a_fresh_fold(data)
    texts = [path for path in data.rglob("*") if path.is_file() and SECRET_TEXT.encode() in path.read_bytes()]
    return found | {"left": sorted(str(path.relative_to(data)) for path in texts), "files": _attempts(data)}


def _attempts(data: Path) -> list[str]:
    return sorted(path.name for path in (data / "attempts").iterdir())


def _killed_at(data: Path, point: int) -> bool:
    """Do it in a process of its own, which kills itself at that call: whether there were so many."""
    child = os.fork()
    if child == 0:
        left = point

        def tick() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            go_on(data, tick)
            os._exit(0)
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, f"it failed before {point}: {status}"
    return killed


def main() -> None:
    root, chance, points = Path(sys.argv[1]), random.Random(int(sys.argv[2])), int(sys.argv[3])
    redaction.AT_ONCE, uninstall_work.CANCEL_AT_ONCE = 2, 1  # so that there is more to be cut short
    prepare(root / "begin")
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    def copied(name: str) -> Path:
        return Path(shutil.copytree(root / "begin", root / name))

    whole = copied("whole")
    go_on(whole, count)
    print(json.dumps({"point": None, "calls": calls, **outcome(whole)}))
    while points:
        point = chance.randrange(calls)
        data = copied("killed")
        if _killed_at(data, point):
            points -= 1
            again = chance.random() < 0.3 and _killed_at(data, chance.randrange(calls // 3))
            go_on(data)
            print(json.dumps({"point": point, "again": again, **outcome(data)}))
        shutil.rmtree(data)


if __name__ == "__main__":
    main()
