"""Makes the golden journals: `python tests/journal/file/golden/make_golden.py CASE DIRECTORY`, or without arguments all
of them, here.

They were made once, when format 1 was given out, and are not made again: a version that can't read them, or that writes
other bytes for the same records, has changed the format. A new case is a new function.
"""

from __future__ import annotations

import base64
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[4]))

from journal.file.backup import backup
from journal.file.files import OsFiles
from journal.file.salvage import salvage
from journal.records import Entry
from tests.support.journals import independent_reader, making

HERE = Path(__file__).resolve().parent
SEGMENT_BYTES = 6000


def plain(directory: Path) -> None:
    """Every form of a payload, in one segment, closed cleanly."""
    with making.opened(directory) as journal:
        making.fill(journal)


def rotated(directory: Path) -> None:
    """Several segments, batches of more than one record, and a new epoch in between."""
    with making.opened(directory, segment_bytes=SEGMENT_BYTES) as journal:
        making.fill(journal, list(making.PAYLOADS)[::2])
        journal.append(
            [making.delivery("batch", b"{}"), Entry("task.t1", "task.queued", {"route": "fix"}, {"key": None})]
        )
        journal.begin_epoch("e" * 16)
        making.fill(journal, list(making.PAYLOADS)[1::2])


def erased(directory: Path) -> None:
    """Payloads dropped, others with what they were about."""
    with making.opened(directory, segment_bytes=SEGMENT_BYTES) as journal:
        making.fill(journal)
        journal.erase([Entry("ops.retention", "journal.dropped", {"drops": [[1, 4], [9, 9]], "about": False})])
        journal.erase(
            [Entry("delivery.9.huge", "delivery.redacted", {"drops": [[5, 6], [9, 9]], "about": True}, expect=5)]
        )


def salvaged(directory: Path) -> None:
    """Made of a journal that had lost a record and a payload: a gap that a header states, and content dropped by it."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        with making.opened(source, segment_bytes=SEGMENT_BYTES) as journal:
            making.fill(journal)
        first = making.segments(source)[0]
        lines = first.read_bytes().splitlines(keepends=True)
        lines[3] = lines[3].replace(b'"action":"opened"', b'"action":"closed"')
        del lines[4]
        first.write_bytes(b"".join(lines))
        salvage(source, directory, now=making.START, token=making.Tokens(9000), segment_bytes=SEGMENT_BYTES)


def unclean(directory: Path) -> None:
    """The process died in the middle of a write: the last line is cut, and nothing but the log says how far it went."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        with making.opened(source) as journal:
            making.fill(journal, "none object form nul binary lines text".split())
            directory.mkdir()
            for path in making.segments(source):
                (directory / path.name).write_bytes(path.read_bytes()[:-60])


class SameFiles(OsFiles):
    """Of which each has the same identity at every run."""

    def identity(self, fd: int) -> tuple[int, int]:
        return 1, 1

    def identity_at(self, path: Path) -> tuple[int, int]:
        return 1, 1


def backed_up(directory: Path) -> None:
    """A backup, not opened yet, of a journal that has gone on since."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        with making.opened(source, segment_bytes=SEGMENT_BYTES) as journal:
            making.fill(journal, list(making.PAYLOADS)[:9])
            head = journal.head()
            making.fill(journal, list(making.PAYLOADS)[9:12])
            backup(source, directory, journal=journal.id, head=lambda: head, files=SameFiles())


CASES: dict[str, Callable[[Path], None]] = {
    "plain": plain,
    "rotated": rotated,
    "erased": erased,
    "salvaged": salvaged,
    "unclean": unclean,
    "backup": backed_up,
}


def expectation(directory: Path) -> dict[str, Any]:
    """What any reader must find there, as the independent one does; payloads in base64."""
    found = independent_reader.read(directory)
    if found.fault is not None:
        raise SystemExit(f"{directory}: {found.fault}")
    for record in found.records:
        if record["payload"] is not None:
            record["payload"] = base64.b64encode(record["payload"]).decode()
    return {"torn": found.torn, "gaps": found.gaps, "records": found.records}


def make(case: str, target: Path) -> None:
    """`target`/journal and `target`/expected.json."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    directory = target / "journal"
    CASES[case](directory)
    for name in ("lock", "index.sqlite", "index.sqlite-wal", "index.sqlite-shm"):
        (directory / name).unlink(missing_ok=True)
    (target / "expected.json").write_text(json.dumps(expectation(directory), indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        make(sys.argv[1], Path(sys.argv[2]))
    else:
        for name in CASES:
            make(name, HERE / name)
