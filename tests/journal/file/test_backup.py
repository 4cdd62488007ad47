"""A copy taken while the log is written: it verifies, it opens in an epoch of its own, and the next one copies little."""

from __future__ import annotations

import string
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from journal.errors import BackupIncomplete, BackupOutrun, BackupRefused, JournalDamaged, JournalError, JournalGone
from journal.file.backup import BACKUP_NAME, backup, read_backup
from journal.file.engine import FileJournal
from journal.file.files import OsFiles
from journal.file.verify import verify
from journal.records import Appended, Conflict, Entry, Head
from journal.reports import BackupReport
from tests.support.journals import independent_reader, making
from tests.support.waiting import eventually


def take(journal: FileJournal, target: Path, files: OsFiles | None = None) -> BackupReport:
    """A backup, and what holds for each."""
    head = journal.head()
    report = backup(journal.directory, target, journal=journal.id, head=journal.head, files=files)
    assert report.head.seq >= head.seq
    note = read_backup(OsFiles(), target)
    assert note is not None
    assert (note["journal"], note["seq"], note["sum"]) == (journal.id, report.head.seq, report.head.sum)
    told = verify(target)
    assert told.ok, told.damage
    assert told.head == report.head
    assert independent_reader.read(target).fault is None
    assert not list(target.glob("*.tmp"))
    return report


def fill(journal: FileJournal, names: str, payload: bytes = b"x" * 600) -> None:
    for name in names:
        journal.append([making.delivery(name, payload, about={"name": name})])


def test_it_holds_what_was_there_at_the_head(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j", segment_bytes=3000) as journal:
        making.fill(journal)
        seen: list[tuple[int, int]] = []
        head = journal.head()
        fill(journal, "later")
        backup(
            journal.directory,
            tmp_path / "b",
            journal=journal.id,
            head=lambda: head,
            progress=lambda *at: seen.append(at),
        )
        kept = making.seen(independent_reader.read(tmp_path / "b").records)
        assert kept == making.seen(journal.read(0))[: head.seq]
        assert verify(tmp_path / "b").head == head
        assert seen == sorted(seen)
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "b").iterdir())


def test_an_empty_journal(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j") as journal:
        assert take(journal, tmp_path / "b").head.seq == 0
    with making.opened(tmp_path / "b", seed=3) as copy:
        assert copy.id == journal.id
        assert copy.epoch != journal.epoch


def test_the_copy_opens_in_a_new_epoch_and_knows_every_id(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j", segment_bytes=3000) as journal:
        fill(journal, "abcdefgh")
        take(journal, tmp_path / "b")
        with making.opened(tmp_path / "b", seed=3) as copy:
            assert copy.id == journal.id
            assert copy.epoch != journal.epoch
            assert not (tmp_path / "b" / BACKUP_NAME).exists()
            for seq, name in enumerate("abcdefgh", 1):
                assert copy.append([making.delivery(name, b"{}")]) == Conflict(f"delivery.9.{name}", seq)
            assert isinstance(copy.append([making.delivery("new", b"{}")]), Appended)
            first = copy.epoch
    assert verify(tmp_path / "b").ok
    with making.opened(tmp_path / "b", seed=4) as again:
        assert again.epoch == first, "once only"


def test_the_next_one_copies_only_what_has_changed(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j", segment_bytes=3000) as journal:
        fill(journal, "abcdefgh")
        first = take(journal, tmp_path / "b")
        assert first.kept == 0
        again = take(journal, tmp_path / "b")
        assert (again.copied, again.kept, again.bytes) == (0, first.copied, 0)
        fill(journal, "i")
        more = take(journal, tmp_path / "b")
        assert more.kept >= first.copied - 1
        assert more.copied <= 2
        identities = {path.name: path.stat().st_ino for path in making.segments(tmp_path / "b")}
        journal.erase([Entry("ops.x", "journal.dropped", {"drops": [[1, 1]], "about": True})])
        erased = take(journal, tmp_path / "b")
        assert b'"dropped"' in making.segments(tmp_path / "b")[0].read_bytes()
        name = making.segments(tmp_path / "b")[0].name
        assert making.segments(tmp_path / "b")[0].stat().st_ino != identities[name], "the rewritten one is copied again"
        assert erased.kept >= 2


def test_a_segment_of_the_copy_that_is_lost_is_copied_again(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j", segment_bytes=3000) as journal:
        fill(journal, "abcdefgh")
        take(journal, tmp_path / "b")
        making.segments(tmp_path / "b")[1].unlink()
        assert take(journal, tmp_path / "b").copied == 1
        making.alter(making.segments(tmp_path / "b")[1], lambda raw: raw[:-1])
        assert take(journal, tmp_path / "b").copied == 1, "nor is a part of one kept"


def test_while_appends_go_on(tmp_path: Path) -> None:
    """Every copy is whole and ends at the head it was taken at, whatever four threads append meanwhile."""
    stop = threading.Event()
    with making.opened(tmp_path / "j", segment_bytes=8000) as journal:

        def append(thread: int) -> None:
            number = 0
            while not stop.is_set():
                journal.append([making.delivery(f"t{thread}-{number}", b"x" * 200)])
                number += 1

        threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            eventually(lambda: journal.head().seq, what="something is appended")
            heads = [take(journal, tmp_path / "b").head.seq for _ in range(8)]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert heads == sorted(heads)
        assert heads[-1] > 0
        take(journal, tmp_path / "b")
        records = making.seen(journal.read(0))
        assert making.seen(independent_reader.read(tmp_path / "b").records) == records


class Stops(OsFiles):
    def __init__(self, at: int) -> None:
        self.left = at

    def fdatasync(self, fd: int) -> None:
        self._count()
        super().fdatasync(fd)

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)

    def fsync_dir(self, path: Path) -> None:
        self._count()
        super().fsync_dir(path)

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(5, "stopped")


class Meanwhile(Stops):
    """Does something between the opening of a segment of the source and the end of its copy: the first few times."""

    def __init__(self, what: Callable[[int], object], times: int = 1, at: int = 1 << 20) -> None:
        super().__init__(at)
        self.what, self.times, self.done = what, times, 0

    def create(self, path: Path) -> int:
        if path.name.endswith(".jsonl.tmp") and self.done < self.times:
            self.done += 1
            self.what(self.done)
        return super().create(path)


def erasing(journal: FileJournal) -> Callable[[int], object]:
    """Erases the nth record."""
    return lambda seq: journal.erase([Entry("ops.x", "journal.dropped", {"drops": [[seq, seq]], "about": True})])


def test_a_segment_rewritten_meanwhile_is_copied_as_it_is_now(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j", segment_bytes=3000) as journal:
        fill(journal, "abcdefgh", b"secret " * 80)
        head = journal.head()
        named = Entry("ops.x", "journal.dropped", {"drops": [[1, 8]], "about": True})
        report = take(journal, tmp_path / "b", Meanwhile(lambda _: journal.erase([named])))
        assert report.head.seq > head.seq, "up to the record that says what was erased"
        assert not any(b"secret" in path.read_bytes() for path in (tmp_path / "b").iterdir())


@pytest.mark.parametrize("again", [False, True])
def test_one_that_is_killed_while_content_is_erased_is_never_finished_and_damaged(tmp_path: Path, again: bool) -> None:
    """An erasure rewrites what is about to be copied, by a record behind the head that was taken."""
    for step in range(100):
        with making.opened(tmp_path / f"j{step}", segment_bytes=3000) as journal:
            fill(journal, "abcdefgh")
            target = tmp_path / f"b{step}"
            if again:
                take(journal, target)
                fill(journal, "ijkl")
            last = partial(erasing(journal), journal.head().seq)
            files = Meanwhile(lambda _, last=last: last(), 1, step)
            try:
                backup(journal.directory, target, journal=journal.id, head=journal.head, files=files)
                break
            except OSError:
                note = read_backup(OsFiles(), target)
                if note is not None and note["finished"]:
                    assert verify(target).damage == []
                take(journal, target)
    assert step > 5


def test_content_that_is_erased_as_fast_as_it_is_copied(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j", segment_bytes=1000) as journal:
        fill(journal, string.ascii_letters)
        take(journal, tmp_path / "b")
        before = making.bytes_of(tmp_path / "b")
        seqs = iter(range(1, 50))

        def head() -> Head:
            found = journal.head()
            erasing(journal)(next(seqs))
            return found

        with pytest.raises(BackupOutrun):
            backup(journal.directory, tmp_path / "b", journal=journal.id, head=head)
        assert making.bytes_of(tmp_path / "b") == before
        take(journal, tmp_path / "b")


def test_what_it_refuses(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j") as journal, making.opened(tmp_path / "other", seed=7) as other:
        fill(journal, "ab")
        fill(other, "ab")
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        (foreign / "letter.txt").write_text("mine")
        with pytest.raises(BackupRefused):
            take(journal, foreign)
        assert [path.name for path in foreign.iterdir()] == ["letter.txt"]
        take(other, tmp_path / "b")
        before = making.bytes_of(tmp_path / "b")
        with pytest.raises(BackupRefused):
            take(journal, tmp_path / "b")
        assert making.bytes_of(tmp_path / "b") == before
        with pytest.raises(BackupRefused):
            take(journal, tmp_path / "other")
        with pytest.raises(BackupRefused):
            take(journal, tmp_path / "j")
        with pytest.raises(JournalGone):
            backup(tmp_path / "nowhere", tmp_path / "c", journal=journal.id, head=journal.head)


def test_a_copy_that_has_begun_a_life_of_its_own_is_not_written_over(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j") as journal:
        fill(journal, "ab")
        take(journal, tmp_path / "b")
        with making.opened(tmp_path / "b", seed=3) as copy:
            fill(copy, "c")
        before = making.bytes_of(tmp_path / "b")
        with pytest.raises(BackupRefused):
            take(journal, tmp_path / "b")
        assert making.bytes_of(tmp_path / "b") == before


def flip(path: Path, needle: bytes) -> int:
    """Change one bit of the last `needle`; its offset."""
    at = path.read_bytes().rindex(needle)
    making.alter(path, lambda raw: raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    return at


def cut_line(path: Path) -> None:
    making.alter(path, lambda raw: b"".join(raw.splitlines(keepends=True)[:-1]))


def rotten_payload(journal: FileJournal) -> tuple[str, int]:
    """A segment that an erasure wrote again, and that rotted since: another file than the one that was copied."""
    journal.erase([Entry("ops.x", "journal.dropped", {"drops": [[1, 1]], "about": True})])
    path = making.segments(journal.directory)[0]
    flip(path, b"xxxx")
    return path.name, 2


def rotten_end(journal: FileJournal) -> tuple[str, int]:
    """The segment that is being written, where the earlier copy holds a part of it."""
    seq = journal.head().seq
    fill(journal, "y", b"y")
    path = making.segments(journal.directory)[-1]
    flip(path, b'"seq":%d,' % seq)
    return path.name, seq


def rotten_header(journal: FileJournal) -> tuple[str, None]:
    path = rotten_payload(journal)[0]
    making.alter(journal.directory / path, lambda raw: raw.replace(b'"salt":"', b'"salt":"0', 2))
    return path, None


def lost_end(journal: FileJournal) -> tuple[str, int]:
    fill(journal, "y", b"y")
    path = making.segments(journal.directory)[-1]
    cut_line(path)
    return path.name, journal.head().seq


def lost_within(journal: FileJournal) -> tuple[str, int]:
    """A segment ends early: the one behind it tells."""
    rotten_payload(journal)
    path, behind = making.segments(journal.directory)[:2]
    flip(path, b"xxxx")
    cut_line(path)
    return behind.name, int(behind.stem) - 1


ROT = [rotten_payload, rotten_end, rotten_header, lost_end, lost_within]


@pytest.mark.parametrize("rot", ROT)
def test_what_rots_in_the_source_takes_no_healthy_copy_s_place(
    tmp_path: Path, rot: Callable[[FileJournal], tuple[str, int | None]]
) -> None:
    with making.opened(tmp_path / "j", segment_bytes=3000) as journal:
        fill(journal, "abcdefghi")
        report = take(journal, tmp_path / "b")
        before = making.bytes_of(tmp_path / "b")
        where = rot(journal)
        for _ in range(2):
            with pytest.raises(JournalDamaged) as raised:
                backup(journal.directory, tmp_path / "b", journal=journal.id, head=journal.head)
            assert (raised.value.damage[0].segment, raised.value.damage[0].seq) == where
            assert raised.value.exit_code == 5
            assert making.bytes_of(tmp_path / "b") == before, "the copy of before is finished as it was"
        told = verify(tmp_path / "b")
        assert (told.ok, told.head) == (True, report.head)


def test_a_damaged_journal_is_not_copied_at_all(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j", segment_bytes=3000) as journal:
        fill(journal, "abcdefgh")
        path = making.segments(journal.directory)[1]
        whole = path.read_bytes()
        at = whole.rindex(b"\n", 0, flip(path, b"xxxx")) + 1
        with pytest.raises(JournalDamaged) as raised:
            take(journal, tmp_path / "b")
        [damage] = raised.value.damage
        assert (damage.kind, damage.segment, damage.offset) == ("payload", path.name, at)
        assert [one.name for one in (tmp_path / "b").iterdir()] == [BACKUP_NAME]
        with pytest.raises(BackupIncomplete):
            making.opened(tmp_path / "b", seed=3)
        path.write_bytes(whole)
        take(journal, tmp_path / "b")
        for one in making.segments(journal.directory):
            one.unlink()
        before = making.bytes_of(tmp_path / "b")
        with pytest.raises(JournalDamaged, match="no segment is left"):
            take(journal, tmp_path / "b")
        assert making.bytes_of(tmp_path / "b") == before


class Misreads(OsFiles):
    """The target's disk gives back other bytes than it was given."""

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        return super().pwrite(fd, bytes(data).replace(b"xxxx", b"yyyy"), offset)


def test_what_the_target_s_disk_falsifies_is_not_the_journal_s_damage(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j", segment_bytes=3000) as journal:
        fill(journal, "ab")
        with pytest.raises(JournalError, match="does not read back") as raised:
            take(journal, tmp_path / "b", Misreads())
        assert not isinstance(raised.value, JournalDamaged)
        take(journal, tmp_path / "b")


def test_one_that_is_cut_short_while_it_copies_leaves_the_earlier_one_finished(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j", segment_bytes=3000) as journal:
        fill(journal, "abcdefgh")
        report = take(journal, tmp_path / "b")
        before = making.bytes_of(tmp_path / "b")
        fill(journal, "ijklmnop")
        with pytest.raises(OSError, match="stopped"):
            take(journal, tmp_path / "b", Stops(2))
        assert making.bytes_of(tmp_path / "b") == before
        (tmp_path / "b" / "00000000000000000005.jsonl.tmp").write_bytes(b"of one that was killed")
        with making.opened(making.copy(tmp_path / "b", tmp_path / "opened"), seed=3) as copy:
            assert copy.read(report.head.seq - 1)
        take(journal, tmp_path / "b")


def test_one_that_was_cut_short_is_gone_on_with(tmp_path: Path) -> None:
    """At whatever step: without its note it is not finished, and the next one finishes it."""
    with making.opened(tmp_path / "j", segment_bytes=3000) as journal:
        fill(journal, "abcdefgh")
        for step in range(100):
            target = tmp_path / f"b{step}"
            try:
                take(journal, target, Stops(step))
                break
            except OSError:
                if not (target / BACKUP_NAME).exists():
                    take(journal, target)
                    with making.opened(making.copy(target, tmp_path / "opened"), seed=3) as copy:
                        assert copy.head().seq >= 8
        assert step > 10


def test_a_note_that_cannot_be_read(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j") as journal:
        fill(journal, "ab")
        take(journal, tmp_path / "b")
        (tmp_path / "b" / BACKUP_NAME).write_bytes(b"{")
        with pytest.raises(JournalError):
            making.opened(tmp_path / "b", seed=3)
        for note in (b"{}", b"[]", b'{"journal":5}', b'{"journal":"%s","finished":true}' % journal.id.encode()):
            (tmp_path / "b" / BACKUP_NAME).write_bytes(note)
            with pytest.raises(JournalError, match="no backup's note"):
                take(journal, tmp_path / "b")
            with pytest.raises(JournalError, match="no backup's note"):
                making.opened(tmp_path / "b", seed=3)
