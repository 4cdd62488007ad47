"""Each call of a workload fails, once or from then on: what was acknowledged survives, what was refused is not there."""

from __future__ import annotations

import errno
import itertools
import os
from collections import Counter
from pathlib import Path

import pytest

from journal.errors import (
    JournalError,
    JournalFull,
    JournalGone,
    JournalPoisoned,
    JournalReadOnly,
    JournalWriteFailed,
)
from journal.file.files import write_all
from journal.file.open import open_journal
from journal.file.segment import list_segments, name_of
from journal.file.verify import verify
from journal.records import Appended, Entry
from tests.support.journals.entries import delivery, task
from tests.support.journals.explorer import Checker, Promise, Run, promises
from tests.support.journals.simdisk import Crashes, Density, SimDisk
from tests.support.journals.workloads import failing, short_writes

KINDS = "open create pread pwrite fdatasync fsync_dir truncate rename unlink listdir identity_at".split()
REDACT = Entry("ops.redact", "delivery.redacted", {"drops": [[1, 2]], "about": True})


def workload(run: Run) -> None:
    """Creation, batches, rotation, a torn tail, recovery, erasure, clean close; goes on after what fails."""
    for step in range(3):
        try:
            run.open()
        except (OSError, JournalError):
            continue
        if step == 1:
            tear(run)
            continue
        base = 20 * step
        for number in (1, 5, 3, 12):
            run.append(delivery(base + number), task(base + number))
        run.erase(REDACT)
        run.append(delivery(base + 4))
        run.close()


def tear(run: Run) -> None:
    """The process is killed with the half of a batch in the page cache."""
    try:
        name = name_of(list_segments(run.disk, run.directory)[-1])
        fd = run.disk.open(run.directory / name, write=True)
    except OSError:
        run.close()
        return
    try:
        write_all(run.disk, fd, b'{"seq":99,"at":"2027', run.disk.size(fd))
    except OSError:
        pass
    run.disk.close(fd)
    run.die()


class Fault:
    """The nth call of a kind fails; with `sticky` all of that kind from there on."""

    def __init__(self, kind: str, number: int, code: int, *, sticky: bool) -> None:
        self.kind, self.number, self.code, self.sticky = kind, number, code, sticky
        self.seen = 0
        self.struck = False

    def __call__(self, _disk: SimDisk, kind: str, _name: str, _size: int) -> None:
        if kind != self.kind:
            return
        self.seen += 1
        if self.seen == self.number or (self.sticky and self.seen > self.number):
            self.struck = True
            raise OSError(self.code, os.strerror(self.code))


CASES = [
    *(pytest.param(kind, errno.EIO, 1, 1, False, id=f"{kind} EIO once") for kind in KINDS),
    *(pytest.param(kind, errno.EIO, 1, 2, True, id=f"{kind} EIO for good") for kind in KINDS),
    *(
        pytest.param(kind, errno.EIO, 2, 2, True, id=f"{kind} EIO for good, even", marks=pytest.mark.deep)
        for kind in KINDS
    ),
    *(
        pytest.param(kind, errno.ENOSPC, 1, 1, False, id=f"{kind} ENOSPC once")
        for kind in ("create", "pwrite", "fdatasync", "fsync_dir", "rename")
    ),
]
"""Every call fails once, and from every second on all do; from the others in the deep tests."""


@pytest.mark.parametrize(("kind", "code", "first", "step", "sticky"), CASES)
def test_no_failing_call_costs_an_acknowledged_record(
    root: Path, kind: str, code: int, first: int, step: int, sticky: bool
) -> None:
    checker = Checker(root)
    for number in itertools.count(first, step):
        fault = Fault(kind, number, code, sticky=sticky)
        run = Run(root)
        run.disk.hook = fault
        workload(run)
        run.disk.hook = None
        assert run.disk.open_descriptors() == [], f"call {number}"
        if not fault.struck:
            break
        promise = promises(run.disk.trace)[-1] if run.disk.trace else Promise({}, ())
        last = len(run.disk.trace) - 1
        density = Density(stride=1 << 20, sets=1, subsets=4, combinations=8)
        crashed = Crashes(run.disk.base, run.disk.trace, density, range(last, last + 1))
        images = [run.disk.image(), *(image for _, image in itertools.islice(crashed, 1, 2))]
        for image in images:
            try:
                checker.check(image, promise, 0, witness=False)
            except Exception as error:
                raise AssertionError(f"{kind} failing at call {number}: {run.disk.trace[-8:]}") from error
    assert number > 1, f"the workload makes no call of {kind}"


def test_short_writes_of_every_length(root: Path) -> None:
    checker = Checker(root)
    for most in (1, 2, 3, 7, 64, 511, 512, 513, 4096):
        run = Run(root)
        run.disk.hook = short_writes(most)
        workload(run)
        checker.check(run.disk.image(), promises(run.disk.trace)[-1], 0, witness=False)


# ---- what is promised after each kind of failure


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.ENOSPC, JournalFull),
        (errno.EDQUOT, JournalFull),
        (errno.EIO, JournalWriteFailed),
        (errno.EROFS, JournalReadOnly),
        (errno.ESTALE, JournalGone),
    ],
)
@pytest.mark.parametrize("taken", [0, 1, 400])
def test_a_failed_write_is_cut_back_and_the_journal_goes_on(
    root: Path, code: int, error: type[JournalError], taken: int
) -> None:
    run = Run(root, segment_bytes=1 << 20)
    run.open()
    run.append(delivery(1))
    before = run.disk.image()
    run.disk.hook = failing("pwrite", code, after_bytes=taken)
    answer = run.append(delivery(2), delivery(3))
    assert type(answer) is error
    assert answer.hint
    assert run.disk.image() == before
    assert "sync" in [event[0] for event in run.disk.trace[-2:]], "the cut is durable before the caller is told"
    run.disk.hook = None
    assert run.append(delivery(2)) == Appended((2,))
    run.close()


def test_a_failed_cut_poisons(root: Path) -> None:
    run = Run(root, segment_bytes=1 << 20)
    journal = run.open()
    run.append(delivery(1))

    def broken(_disk: SimDisk, kind: str, _name: str, size: int) -> int | None:
        if kind == "truncate" or (kind == "pwrite" and size < 200):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return 200 if kind == "pwrite" else None

    run.disk.hook = broken
    assert isinstance(run.append(delivery(2)), JournalPoisoned)
    run.disk.hook = None
    assert isinstance(run.append(delivery(3)), JournalPoisoned), "and stays so"
    assert journal.poisoned
    assert journal.head().seq == 1
    run.close()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_failed_sync_poisons_and_is_never_tried_again(root: Path, code: int) -> None:
    run = Run(root, segment_bytes=1 << 20)
    journal = run.open()
    run.append(delivery(1))
    syncs: Counter[str] = Counter()

    def broken(_disk: SimDisk, kind: str, _name: str, _size: int) -> None:
        syncs[kind] += 1
        if kind == "fdatasync":
            raise OSError(code, os.strerror(code))

    run.disk.hook = broken
    assert isinstance(run.append(delivery(2)), JournalPoisoned)
    assert isinstance(run.append(delivery(3)), JournalPoisoned)
    assert not journal.wait(1, None), "whoever waits is woken"
    assert [record.seq for record in journal.read(0)] == [1]
    run.close()
    assert syncs["fdatasync"] == 1
    assert syncs["pwrite"] == 1
    assert "journal/closed.json" not in run.disk.image()


def test_after_a_failed_sync_what_is_adopted_is_written_again(root: Path) -> None:
    """The page cache shows the bytes and calls them clean: without writing them again no sync would make them durable."""
    run = Run(root, segment_bytes=1 << 20)
    run.open()
    run.append(delivery(0))
    run.disk.hook = failing("fdatasync", errno.EIO)
    run.append(delivery(1))
    run.disk.hook = None
    run.die()
    run.open()
    found = run.disk.image()
    checker = Checker(root, 1 << 20)
    promise = promises(run.disk.trace)[-1]
    assert sorted(promise.acked) == [1, 2]
    last = len(run.disk.trace) - 1
    run.close()
    for _, image in Crashes(run.disk.base, run.disk.trace, Density(), range(last, last + 1)):
        assert image["journal/00000000000000000001.jsonl"] == found["journal/00000000000000000001.jsonl"]
        checker.check(image, promise, 0, witness=True)


def test_a_damaged_journal_is_not_touched(root: Path) -> None:
    run = Run(root)
    run.open()
    run.append(delivery(1))
    run.append(delivery(3))
    run.close()
    image = run.disk.image()
    name = "journal/00000000000000000001.jsonl"
    broken = bytearray(image[name])
    broken[700] ^= 1
    disk = SimDisk(root, {**image, name: bytes(broken)})
    (root / "journal" / "index.sqlite").unlink()
    with pytest.raises(JournalError) as raised:
        open_journal(root / "journal", files=disk, force_filesystem=True)
    assert raised.value.exit_code == 5
    assert disk.trace == []
    assert not verify(root / "journal", files=disk).ok
