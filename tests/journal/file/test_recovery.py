"""What an opening makes of a log that ends badly: torn and cut, mended, or damage that it refuses to touch."""

from __future__ import annotations

import hashlib
import itertools
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from journal.errors import JournalDamaged, JournalError, JournalUnaccepted
from journal.file.engine import FileJournal
from journal.file.index import Index, Position
from journal.file.open import NEWLINES_MAX, drop_index, open_journal
from journal.file.reader import open_reader
from journal.file.segment import name_of
from journal.file.settings import WriteSettings
from journal.file.verify import verify
from journal.records import Conflict, Damage, Entry, Head, Record, Witness
from tests.support.journals.entries import delivery, digest, task
from tests.support.journals.explorer import NEVER_S, Checker, Promise, Run
from tests.support.journals.opening import open_with
from tests.support.journals.simdisk import Image, SimDisk
from tests.support.waiting import eventually

FIRST = f"journal/{name_of(1)}"
SECTOR = 512


class Log:
    """A journal of two acknowledged batches and one in flight, as bytes: `proven` up to seq 3, the batch from `start` on."""

    def __init__(self, root: Path, *, segment_bytes: int = 1 << 20) -> None:
        self.root = root
        run = Run(root, segment_bytes=segment_bytes)
        run.open()
        run.append(delivery(1), task(1))
        run.append(delivery(3))
        self.start = len(run.disk.image()[FIRST])
        run.append(delivery(5), delivery(12), delivery(6))
        assert run.journal is not None
        self.records = list(run.journal.read(0))
        self.id = run.journal.id
        run.die()
        self.content = run.disk.image()[FIRST]

    def line(self, seq: int) -> tuple[int, int]:
        """Where the record's line starts and ends, its newline counted."""
        start = self.content.index(b'{"seq":%d,' % seq)
        return start, self.content.index(b"\n", start) + 1

    def image(self, content: bytes | bytearray) -> Image:
        return {FIRST: bytes(content)}

    def witness(self, seq: int) -> Witness:
        return Witness(self.id, seq, self.records[seq - 1].sum)

    def open(self, image: Image, *witnesses: Witness, **options: object) -> FileJournal:
        drop_index(self.root / "journal")
        disk = SimDisk(self.root, image)
        return open_with(
            self.root / "journal", files=disk, witnesses=witnesses, idle_s=NEVER_S, force_filesystem=True, **options
        )

    def damage(self, image: Image, *witnesses: Witness) -> Damage:
        """The damage an opening refuses with; checks that nothing was changed, and that `verify` says so too."""
        drop_index(self.root / "journal")
        disk = SimDisk(self.root, image)
        assert not verify(self.root / "journal", files=disk, witnesses=witnesses).ok
        with pytest.raises(JournalDamaged) as raised:
            open_journal(self.root / "journal", files=disk, witnesses=witnesses, force_filesystem=True)
        assert disk.trace == []
        assert raised.value.exit_code == 5
        return raised.value.damage[0]


@pytest.fixture
def log(root: Path) -> Log:
    return Log(root)


def without_note(records: list[Record], kind: str) -> list[Record]:
    assert records[-1].kind == kind
    return records[:-1]


def test_a_torn_tail_is_saved_cut_and_recorded(log: Log) -> None:
    content = log.content[: log.line(5)[0] + 700]
    with log.open(log.image(content)) as journal:
        torn = journal.recovery.torn
        assert torn is not None
        assert (torn.segment, torn.offset, torn.length) == (1, log.line(5)[0], 700)
        assert torn.possibly == ("h/g12",)
        assert journal.recovery.possibly == torn.possibly
        records = list(journal.read(0))
        assert without_note(records, "journal.torn") == log.records[:4]
        rest = content[torn.offset :]
        assert records[-1].data == {
            "segment": name_of(1),
            "offset": torn.offset,
            "bytes": 700,
            "sha256": hashlib.sha256(rest).hexdigest(),
            "possibly": ["h/g12"],
        }
        image = journal.files.image()
        saved = [name for name in image if name.endswith(".torn")]
        assert [image[name] for name in saved] == [rest]
        assert f"{torn.offset}." in saved[0] and torn.sha256[:16] in saved[0]


@pytest.mark.parametrize("hole", ["first", "middle", "last", "all"])
def test_sectors_that_never_came_are_a_torn_tail(log: Log, hole: str) -> None:
    end = len(log.content)
    edges = [log.start, *range((log.start // SECTOR + 1) * SECTOR, end, SECTOR), end]
    sectors = list(itertools.pairwise(edges))
    chosen = {"first": sectors[:1], "middle": sectors[2:3], "last": sectors[-1:], "all": sectors}[hole]
    content = bytearray(log.content)
    for low, high in chosen:
        content[low:high] = bytes(high - low)
    with log.open(log.image(content), log.witness(3)) as journal:
        assert journal.recovery.torn is not None
        kept = without_note(list(journal.read(0)), "journal.torn")
        assert kept == log.records[: len(kept)]
        assert len(kept) >= 3


def test_nuls_behind_the_last_line_are_cut(log: Log) -> None:
    with log.open(log.image(log.content + bytes(1000))) as journal:
        assert without_note(list(journal.read(0)), "journal.torn") == log.records


@pytest.mark.parametrize("behind", [b"", bytes(300)])
def test_a_missing_newline_is_mended_and_the_record_kept(log: Log, behind: bytes) -> None:
    image = log.image(log.content[:-1] + behind)
    assert verify(log.root / "journal", files=SimDisk(log.root, image)).ok
    with log.open(image) as journal:
        assert journal.recovery.mended_newlines == 1
        records = list(journal.read(0))
        assert records[: len(log.records)] == log.records
        assert "journal.mended" in [record.kind for record in records[len(log.records) :]]


@pytest.mark.parametrize("every", [1, 2])
def test_thousands_of_newlines_in_one_batch_are_mended(root: Path, every: int) -> None:
    """More than the interpreter lets a function call itself."""
    count = 2 * sys.getrecursionlimit()
    run = Run(root, segment_bytes=1 << 30)
    run.open()
    run.append(delivery(1))
    run.append(*(Entry(f"ops.n{number}", "ops.note", {"n": number}) for number in range(count)))
    assert run.journal is not None
    records = list(run.journal.read(0))
    run.die()
    lines = run.disk.image()[FIRST].splitlines(keepends=True)
    broken = [line[:-1] + b"\0" if number % every == 0 else line for number, line in enumerate(lines[3:])]
    disk = SimDisk(root, {FIRST: b"".join([*lines[:3], *broken])})
    drop_index(root / "journal")
    assert verify(root / "journal", files=disk).ok
    with open_journal(
        root / "journal", files=disk, force_filesystem=True, settings=WriteSettings(idle_s=NEVER_S)
    ) as journal:
        assert journal.recovery.mended_newlines == count // every
        kept = list(journal.read(0))
        assert kept[: len(records)] == records
        note = next(record for record in kept[len(records) :] if record.kind == "journal.mended")
        # Bounded: one that no record could hold would keep the journal from ever being opened again.
        assert len(note.data["newlines"]) == min(count // every, NEWLINES_MAX)
        assert note.data.get("more", 0) == max(count // every - NEWLINES_MAX, 0)
    disk = SimDisk(root, {FIRST: b"".join([*lines, b"\n" * count])})
    drop_index(root / "journal")
    with pytest.raises(JournalDamaged):
        open_journal(root / "journal", files=disk, force_filesystem=True)
    assert not verify(root / "journal", files=disk).ok


@pytest.mark.parametrize("seq", [1, 2, 3])
def test_a_flipped_byte_below_the_witness_is_damage(log: Log, seq: int) -> None:
    start, end = log.line(seq)
    for offset in (start + 3, start + 60, (start + end) // 2, end - 1):
        content = bytearray(log.content)
        content[offset] ^= 0x20
        found = log.damage(log.image(content))
        assert (found.segment, found.offset, found.seq) == (name_of(1), start, seq)


def test_a_flipped_byte_above_the_witness_is_damage_too(log: Log) -> None:
    """No crash flips a bit, and the batch may have been acknowledged."""
    start, _ = log.line(4)
    content = bytearray(log.content)
    content[start + 90] ^= 1
    found = log.damage(log.image(content))
    assert (found.offset, found.seq, found.kind) == (start, 4, "flipped")


def test_a_later_line_proves_that_the_earlier_ones_were_durable(root: Path) -> None:
    """A hole in batch two, and batch three, that says batch two was synced, behind it."""
    run = Run(root, segment_bytes=1 << 20)
    run.open()
    run.append(delivery(1))
    start = len(run.disk.image()[FIRST])
    run.append(delivery(5))
    run.append(delivery(3))
    run.die()
    content = bytearray(run.disk.image()[FIRST])
    hole = (start // SECTOR + 1) * SECTOR
    content[hole : hole + SECTOR] = bytes(SECTOR)
    with pytest.raises(JournalDamaged) as raised:
        open_journal(root / "journal", files=SimDisk(root, {FIRST: bytes(content)}), force_filesystem=True)
    assert raised.value.damage[0].seq == 2


@pytest.mark.parametrize("kept", [3, 4, 5])
def test_caches_that_saw_more_than_the_log_holds_are_evidence_of_loss(log: Log, kept: int) -> None:
    image = log.image(log.content[: log.line(kept)[1]])
    found = log.damage(image, log.witness(6))
    assert (found.kind, found.seq) == ("shorter than caches", kept + 1)
    assert "shorter than its caches" in found.detail
    with log.open(image, log.witness(kept)) as journal:
        assert list(journal.read(0)) == log.records[:kept], "as far as the caches have seen it, all is well"


def test_a_cache_with_another_sum_at_its_seq_is_evidence_of_another_log(log: Log) -> None:
    other = Witness(log.id, 2, "0" * 64)
    drop_index(log.root / "journal")
    with pytest.raises(JournalDamaged) as raised:
        log.open(log.image(log.content), other)
    assert raised.value.damage[0].kind == "shorter than caches"


def test_a_cache_of_another_journal_says_nothing(log: Log) -> None:
    with log.open(log.image(log.content), Witness("f" * 32, 900, "0" * 64)) as journal:
        assert journal.head() == Head(6, log.records[5].sum)


@pytest.mark.parametrize("accept", [None, 3])
def test_the_mark_of_a_clean_close_knows_how_long_the_log_was(log: Log, accept: int | None) -> None:
    journal = log.open(log.image(log.content))
    journal.close()
    image = journal.files.image()
    short = {**image, FIRST: log.content[: log.start]}
    if accept is None:
        assert log.damage(short).kind == "shorter than caches"
        return
    journal = log.open(short, accept_head=3)
    assert list(journal.read(0))[:3] == log.records[:3]
    assert journal.epoch != log.records[0].epoch
    disk = journal.files.fork()
    journal.close()
    drop_index(log.root / "journal")
    with open_journal(log.root / "journal", files=disk, force_filesystem=True) as again:
        assert again.head().seq >= 4, "accepted once, also if the process is killed right after"


def test_only_the_head_that_is_there_can_be_accepted(log: Log) -> None:
    image = log.image(log.content[: log.start])
    with pytest.raises(JournalUnaccepted):
        log.open(image, log.witness(6), accept_head=5)


def test_accepting_a_head_begins_an_epoch_even_where_the_segment_is_empty(root: Path) -> None:
    run = Run(root, segment_bytes=100)
    run.open()
    run.append(delivery(1))
    epoch = run.journal.epoch if run.journal else ""
    run.append(delivery(2))
    run.close()
    image = run.disk.image()
    names = sorted(name for name in image if name.endswith(".jsonl"))
    image = {name: image[name] for name in names[:2]}
    header_end = image[names[1]].index(b"\n", image[names[1]].index(b"\n") + 1) + 1
    image[names[1]] = image[names[1]][:header_end]
    drop_index(root / "journal")
    with open_journal(root / "journal", files=SimDisk(root, image), accept_head=1, force_filesystem=True) as journal:
        assert journal.epoch != epoch


def test_a_missing_segment_is_damage(root: Path) -> None:
    run = Run(root, segment_bytes=100)
    run.open()
    for number in (1, 3, 4):
        run.append(delivery(number))
    run.close()
    image = run.disk.image()
    names = sorted(name for name in image if name.endswith(".jsonl"))
    assert len(names) >= 3
    kinds = []
    for missing in (names[0], names[1], names[-1]):
        drop_index(root / "journal")
        disk = SimDisk(root, {name: content for name, content in image.items() if name != missing})
        with pytest.raises(JournalDamaged) as raised:
            open_journal(root / "journal", files=disk, force_filesystem=True)
        kinds.append(raised.value.damage[0].kind)
        assert disk.trace == []
    assert kinds == ["missing segment", "gap between segments", "shorter than caches"]


def test_a_mark_without_any_segment_is_no_new_journal(log: Log) -> None:
    journal = log.open(log.image(log.content))
    journal.close()
    image = {name: content for name, content in journal.files.image().items() if not name.endswith(".jsonl")}
    assert log.damage(image).kind == "gone"


def test_one_copy_of_the_header_is_enough_to_read_and_not_to_write(log: Log) -> None:
    for copy in (0, 1):
        content = bytearray(log.content)
        content[copy * (log.content.index(b"\n") + 1) + 50] ^= 1
        assert log.damage(log.image(content)).kind == "bad header"
        drop_index(log.root / "journal")
        with open_reader(log.root / "journal", files=SimDisk(log.root, log.image(content))) as reader:
            assert reader.damage


# ---- caches behind, broken, or of another journal


def build_index(root: Path, journal: str, total: str) -> None:
    index = Index(root / "journal" / "index.sqlite")
    index.begin()
    index.add([("delivery.h.g1", 9, 0), ("task.other", 7, 0)])
    index.commit(Position(journal, 9, total, 1, 652, 900))
    index.close()


def test_the_index_of_another_journal_is_forgotten(root: Path) -> None:
    journal = open_journal(root / "journal", files=SimDisk(root), force_filesystem=True)
    journal.close()
    image = journal.files.image()
    assert list(image) == [FIRST], "a header alone"
    drop_index(root / "journal")
    build_index(root, "f" * 32, "0" * 64)
    with open_journal(root / "journal", files=SimDisk(root, image), force_filesystem=True) as journal:
        assert journal.last("task.other") is None
        assert journal.append([delivery(1)]).seqs == (1,)


def test_an_index_broken_inside_is_built_again(log: Log, root: Path) -> None:
    journal = log.open(log.image(log.content))
    journal.close()
    image = journal.files.image()
    path = root / "journal" / "index.sqlite"
    good = path.read_bytes()
    for start in range(4096, len(good), 4096):
        path.write_bytes(good[:start] + b"\xa5" * 4096 + good[start + 4096 :])
        with open_journal(root / "journal", files=SimDisk(root, image), force_filesystem=True) as journal:
            assert list(journal.read(0))[:6] == log.records
            try:
                assert [journal.last(record.subject) for record in log.records] == log.records
            except JournalError:
                with pytest.raises(JournalError):
                    journal.append([delivery(1)])  # it can't tell whether that is new, and so it does not
        with open_journal(root / "journal", files=SimDisk(root, image), force_filesystem=True) as journal:
            assert [journal.last(record.subject) for record in log.records] == log.records
    path.write_bytes(b"no database at all" * 100)
    with open_journal(root / "journal", files=SimDisk(root, image), force_filesystem=True) as journal:
        assert journal.recovery.scanned == 7


def test_opening_reads_from_the_index_on(root: Path, opened: Callable[..., FileJournal]) -> None:
    journal = opened(segment_bytes=4000)
    for number in range(40):
        journal.append([delivery(number)])
    journal.close()
    journal = opened(segment_bytes=4000)
    assert journal.recovery.scanned == 0
    journal.close()
    drop_index(root / "journal")
    journal = opened(segment_bytes=4000)
    assert journal.recovery.scanned == 41


# ---- readers without the daemon


def test_a_reader_without_the_lock_stops_at_what_is_proven(log: Log) -> None:
    disk = SimDisk(log.root, log.image(log.content))
    drop_index(log.root / "journal")
    with open_reader(log.root / "journal", files=disk) as reader:
        assert not reader.damage
        assert list(reader.read(0)) == log.records[:3]
    with open_reader(log.root / "journal", files=disk, witnesses=[log.witness(5)]) as reader:
        assert list(reader.read(0)) == log.records[:5]
    assert disk.trace == []


@pytest.mark.parametrize("cut", [0, 1, 40])
def test_a_reader_with_the_lock_adopts_what_links(log: Log, cut: int) -> None:
    content = log.content[: len(log.content) - cut]
    disk = SimDisk(log.root, log.image(content))
    drop_index(log.root / "journal")
    with open_reader(log.root / "journal", files=disk, adopt=True) as reader:
        found = list(reader.read(0))
        assert found == log.records[: len(found)]
        assert len(found) >= 5
        assert reader.head() == Head(len(found), log.records[len(found) - 1].sum)
    assert disk.image()[FIRST] == content, "nothing is cut and nothing appended by reading"
    # What was served must still be there after a crash, and after the opening that cuts the rest.
    promise = Promise(
        {record.seq: record for record in found}, tuple(digest(record) for record in log.records[len(found) :])
    )
    Checker(log.root, 1 << 20).check(disk.image(), promise, 0, witness=True)


def test_lines_inside_a_payload_are_never_records(log: Log) -> None:
    """A payload that holds whole lines of this very journal is never taken for them, wherever the damage is."""
    forged = b"\n".join([log.content[slice(*log.line(seq))].rstrip() for seq in (1, 2, 3)]) + b"\n"
    run = Run(log.root, log.image(log.content), segment_bytes=1 << 20)
    run.open()
    run.append(Entry("delivery.h.forger", "delivery.received", {}, None, forged, 0))
    run.append(Entry("delivery.h.after", "delivery.received", {}, None, b'{"x":1}', 0))
    run.die()
    content = run.disk.image()[FIRST]
    start = content.index(b"forger")
    broken = bytearray(content)
    broken[start - 20] ^= 1
    drop_index(log.root / "journal")
    report = verify(log.root / "journal", files=SimDisk(log.root, log.image(broken)))
    assert [damage.seq for damage in report.damage] == [7]
    assert report.records == 7


def test_an_index_taken_away_from_under_the_journal_makes_nothing_new(
    root: Path, opened: Callable[..., FileJournal]
) -> None:
    journal = opened()
    journal.append([delivery(1)])
    eventually(lambda: journal.measurements()["index_backlog"] == 0)
    drop_index(root / "journal")
    Index(root / "journal" / "index.sqlite").close()
    found: list[object] = []

    def ask() -> None:
        for question in (lambda: journal.append([delivery(1)]), lambda: journal.last("delivery.h.g1")):
            try:
                found.append(question())
            except JournalError as error:
                found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(30)
    assert len(found) == 2
    assert isinstance(found[0], JournalError) or found[0] == Conflict("delivery.h.g1", 1)
    assert isinstance(found[1], JournalError) or found[1] == journal.get(1)
