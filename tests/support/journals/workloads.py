"""What the crash explorer runs. A new one is a function of a `Run` and a line in `WORKLOADS`."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from journal.errors import JournalFull, JournalPoisoned
from journal.records import Entry
from tests.support.journals.entries import delivery, task
from tests.support.journals.explorer import Run
from tests.support.journals.simdisk import SimDisk


def appends(run: Run) -> None:
    run.open()
    for number in range(8):
        run.append(delivery(number))


def batches(run: Run) -> None:
    """Several records a batch, several writes a batch: short writes leave more than one un-synced operation."""
    run.open()
    run.disk.hook = short_writes(700)
    run.append(delivery(0), task(0), task(1))
    run.together([delivery(1)], [delivery(2), task(2)], [delivery(2)], [delivery(3)], [task(2)])
    run.append(delivery(5), Entry("delivery.h.g5", "delivery.ignored", {"reason": "no_route"}))
    run.append(delivery(5))


def rotation(run: Run) -> None:
    run.open()
    for number in range(5):
        run.append(delivery(number), task(number))
    run.close()


def idle(run: Run) -> None:
    """A `journal.synced` record is appended after each batch, as after a pause."""
    journal = run.open(idle_s=0.0)
    for number in range(4):
        run.append(delivery(number))
        assert journal.wait(2 * number + 1, 30), "a journal.synced closes the proof"
        run.own()
    assert journal.head().seq == 8


def reopening(run: Run) -> None:
    """Clean closes, each with its mark, and appends behind them."""
    for number in range(3):
        run.open()
        run.append(delivery(number))
        run.close()
    run.open()
    run.append(delivery(3))


def disk_full(run: Run) -> None:
    """ENOSPC in mid-batch is cut back, and the next append stands where the failed one began."""
    run.open()
    run.append(delivery(0))
    run.disk.hook = failing("pwrite", errno.ENOSPC, after_bytes=600)
    answer = run.append(delivery(5), delivery(6))
    assert isinstance(answer, JournalFull), answer
    run.disk.hook = None
    run.append(delivery(1))
    run.disk.hook = failing("pwrite", errno.ENOSPC)
    run.append(delivery(2))
    run.disk.hook = None
    run.append(delivery(2))
    run.close()


def full_at_rotation(run: Run) -> None:
    run.open()
    run.append(delivery(5), delivery(12))
    run.disk.hook = failing("pwrite", errno.ENOSPC, after_bytes=100, name=".tmp")
    answer = run.append(delivery(1), delivery(2))
    assert isinstance(answer, JournalFull), answer
    run.disk.hook = None
    run.append(delivery(1), delivery(2))


def failed_sync(run: Run) -> None:
    """A sync fails; the next process, on the same machine, sees cached bytes that the disk never got, and goes on from them."""
    run.segment_bytes = 1 << 20
    run.open()
    run.append(delivery(0))
    run.disk.hook = failing("fdatasync", errno.EIO)
    answer = run.append(delivery(1), delivery(2))
    assert isinstance(answer, JournalPoisoned), answer
    run.disk.hook = None
    run.die()
    run.open()
    run.append(delivery(3))
    run.append(delivery(4))


def killed_in_write(run: Run) -> None:
    """The process dies between write and sync, and the next one takes up what is in the page cache."""
    run.segment_bytes = 1 << 20
    run.open()
    run.append(delivery(0))
    run.die("fdatasync", [delivery(1), delivery(2)])
    run.open()
    run.append(delivery(3))
    run.die("pwrite", [delivery(4)])
    run.open()
    run.append(delivery(5))
    run.close()


def killed_in_rotation(run: Run) -> None:
    for kind, number in (("rename", 0), ("fsync_dir", 2), ("pwrite", 4), ("create", 6)):
        run.open()
        run.append(delivery(5 + 7 * number), delivery(12 + 7 * number))
        run.die(kind, [delivery(5 + 7 * number + 7 * 11), delivery(12 + 7 * number + 7 * 11)])
    run.open()
    run.append(delivery(1))


def torn(run: Run) -> None:
    """A tail with holes is found, saved, cut and recorded."""
    run.segment_bytes = 1 << 20
    run.open()
    run.append(delivery(0))
    run.die("fdatasync", [delivery(5), delivery(2)])
    image = run.disk.image()
    name = "journal/00000000000000000001.jsonl"
    content = bytearray(image[name])
    hole = len(content) - 1100 & ~511
    content[hole : hole + 512] = bytes(512)
    image[name] = bytes(content)
    trace = run.disk.trace
    run.disk = SimDisk(run.disk.root, image)
    run.disk.trace = [event for event in trace if event[0] == "note"]
    journal = run.open()
    assert journal.recovery.torn is not None
    run.append(delivery(3))
    run.close()


def erasing(run: Run) -> None:
    """Content is taken out of sealed segments and of the active one, twice from one of them."""
    run.open()
    for number in (1, 6, 4, 8):
        run.append(delivery(number), task(number))
    run.erase(Entry("ops.redact", "delivery.redacted", {"drops": [[1, 1]], "about": False}))
    run.append(delivery(9))
    run.erase(Entry("ops.redact", "delivery.redacted", {"drops": [[1, 4], [8, 9]], "about": True}))
    run.append(delivery(11))


def erasing_after_a_tear(run: Run) -> None:
    """What a torn file holds goes with an erasure."""
    torn(run)
    run.open()
    run.erase(Entry("ops.redact", "delivery.redacted", {"drops": [[1, 1], [2, 2]], "about": True}))
    run.close()


def copying(run: Run) -> None:
    """A backup while the journal goes on, and again after more of it and after an erasure."""
    run.open()
    run.append(delivery(5), delivery(12))
    run.append(delivery(1))
    run.backup()
    run.append(delivery(3))
    run.append(delivery(4))
    run.erase(Entry("ops.redact", "delivery.redacted", {"drops": [[1, 1]], "about": False}))
    run.backup()
    run.append(delivery(8))
    run.close()


def epochs(run: Run) -> None:
    journal = run.open()
    journal.begin_epoch("a" * 16)
    run.own()
    run.append(delivery(1))
    journal.begin_epoch("b" * 16)
    run.append(delivery(2))
    run.close()


WORKLOADS: dict[str, Callable[[Run], None]] = {
    "appends": appends,
    "batches": batches,
    "rotation": rotation,
    "idle": idle,
    "reopening": reopening,
    "disk full": disk_full,
    "full at rotation": full_at_rotation,
    "failed sync": failed_sync,
    "killed in write": killed_in_write,
    "killed in rotation": killed_in_rotation,
    "torn": torn,
    "erasing": erasing,
    "erasing after a tear": erasing_after_a_tear,
    "copying": copying,
    "epochs": epochs,
}


# ---- faults


def short_writes(most: int) -> Callable[[SimDisk, str, str, int], int | None]:
    return lambda _disk, kind, _name, _size: most if kind == "pwrite" else None


def failing(
    kind: str, code: int, *, after_bytes: int = 0, name: str = ""
) -> Callable[[SimDisk, str, str, int], int | None]:
    """Calls of `kind` on files whose name contains `name` fail with `code`; a write first takes `after_bytes`."""
    left = after_bytes

    def hook(_disk: SimDisk, called: str, file: str, size: int) -> int | None:
        nonlocal left
        if called != kind or name not in file:
            return None
        if left > 0:
            taken = min(left, size)
            left -= taken
            return taken
        raise OSError(code, os.strerror(code))

    return hook
