"""What a sender hides in a payload never comes back as a record, wherever damage lays it open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from journal.errors import JournalDamaged, JournalError, JournalFull, SalvageRefused
from journal.file.examine import examine
from journal.file.files import OsFiles
from journal.file.reader import open_reader
from journal.file.salvage import plan, salvage
from journal.file.segment import name_of, write_header, write_mark
from journal.file.segment_check import check_piece
from journal.file.verify import verify
from journal.format.codec import SUM_MARK, Salted, encode_line, prepare
from journal.format.header import parse_header
from journal.records import SEQ_MAX, Damage, Entry
from tests.support.journals import independent_reader, making

GUESSES = ["0" * 64, "a" * 64, "", "f" * 64]


def forged_line(seq: int, prev: str, salt: str) -> bytes:
    """A record that is right in all but the salt, which no sender knows."""
    entry = Entry("delivery.9.forged", "delivery.received", {"guid": "forged"}, None, b'{"forged":true}', 0)
    at = "2027-01-15T08:00:00.000000Z"
    return encode_line(prepare(entry), seq=seq, at=at, synced=seq - 1, prev=prev, salted=Salted(salt))[0]


def header_line(salt: str) -> bytes:
    """A header of the sender's own, under a salt of his own: whoever took it for one would take his records too."""
    envelope = b'{"format":1,"journal":"%s","epoch":"%s","first":1,"after":0,"prev":"%s","salt":"%s"' % (
        b"b" * 32,
        b"c" * 16,
        b"0" * 64,
        salt.encode(),
    )
    return envelope + b',"sum":"' + Salted(salt).sum(envelope).encode() + b'"}\n'


def disguises(line: bytes) -> dict[str, bytes]:
    """A payload of every form that holds the line, as whole as the form lets it be."""
    bare = line.rstrip(b"\n")
    return {
        "payload": b'{"x":' + bare + b"}",
        "payload alone": bare,
        "body": b"\n" + line + line,
        "body, in quotes": b'x"\n' + line + b'"',
        "body64": b"\xff\n" + line + b"\n",
        "body64, coded": line + b"\xff",
    }


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One honest record, one that is dropped later, the hostile ones, and a few honest ones behind, in two segments."""
    directory = tmp_path_factory.mktemp("forgery") / "j"
    with making.opened(directory, segment_bytes=40_000) as journal:
        journal.append([making.delivery("honest", b'{"ok":1}')])
        journal.append([making.delivery("kept", b"plain text", about={"repo": "octo/hello"})])
        lines = making.segments(directory)[0].read_bytes().splitlines(keepends=True)
        seen = [(f"replayed {at}", line) for at, line in enumerate(lines)]
        head = journal.head()
        guessed = [(f"guessed {salt[:4]}", forged_line(head.seq + 1, head.sum, salt)) for salt in GUESSES]
        for what, line in [*seen, *guessed, ("header", header_line("d" * 64) * 2 + forged_line(1, "0" * 64, "d" * 64))]:
            for form, payload in disguises(line).items():
                name = f"{what} {form}".translate({ord(" "): "-", ord(","): ""})
                journal.append([making.delivery(name, payload, about={"title": line.decode()})])
        journal.append([making.delivery("last", b'{"ok":2}')])
    return directory


@pytest.fixture(scope="module")
def honest(journal: Path) -> dict[str, int]:
    """(sum: seq) of every record that was ever appended."""
    return {record["sum"]: record["seq"] for record in independent_reader.read(journal).records}


def exposures(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """The segment, damaged so that what its payloads hold begins a line, or follows another header."""
    lines = raw.splitlines(keepends=True)
    start = 0
    for number, line in enumerate(lines):
        end = start + len(line)
        if number >= 2:
            yield f"{number}: start gone", raw[:start] + b"X" + raw[start + 1 :]
            hidden = [at for at in (line.find(b'{"seq":', 1), line.find(b'{"format":', 1)) if at > 0]
            for at in hidden:
                yield f"{number}: newline put before the hidden", raw[: start + at] + b"\n" + raw[start + at :]
                before = raw[start + at - 1 : start + at]
                if before != b"\n":
                    yield f"{number}: byte before it a newline", raw[: start + at - 1] + b"\n" + raw[start + at :]
                yield f"{number}: all before it lost", raw[:start] + raw[start + at :]
                cut = raw[start + at : end].replace(b"}}", b"}\n", 1)
                yield f"{number}: and its end cut to a line", raw[: start + at] + b"\n" + cut + raw[end:]
            decoded = line.replace(b'\\"', b'"').replace(b"\\n", b"\n").replace(b"\\\\", b"\\")
            if decoded != line:
                yield f"{number}: escapes undone", raw[:start] + decoded + raw[end:]
        start = end
    header = len(lines[0])
    yield "first header copy gone", raw[header:]
    yield "both header copies gone", raw[2 * header :]
    yield "headers unreadable", b"\0" * (2 * header) + raw[2 * header :]
    for number, line in enumerate(lines[2:]):
        at = line.find(b'{\\"format\\":1')
        if at > 0:
            hidden_lines = line[at:].replace(b'\\"', b'"').replace(b"\\n", b"\n")
            yield f"{number}: a hidden header at the front", hidden_lines + raw[2 * header :]


def sums_of(records: object) -> list[tuple[str, int]]:
    return [(one["sum"], one["seq"]) for one in making.seen(records)]  # type: ignore[arg-type]


def test_nothing_hidden_comes_back(journal: Path, honest: dict[str, int], tmp_path: Path) -> None:
    checked = 0
    sums = set(honest.items())
    for path in making.segments(journal):
        whole = path.read_bytes()
        for what, raw in exposures(whole):
            if raw == whole:
                continue
            target = making.copy(journal, tmp_path / "copy", caches=False)
            (target / path.name).write_bytes(raw)
            checked += 1
            page = independent_reader.read(target)
            assert page.fault is not None, what
            assert set(sums_of(page.records)) <= sums
            report = verify(target)
            assert not report.ok, what
            assert report.records <= len(honest), what
            linked: list[tuple[str, int]] = []
            found = examine(
                OsFiles(), target, visit=lambda envelope, *_, to=linked: to.append((envelope.sum, envelope.seq))
            )
            assert found.damage, what
            assert linked == list(honest.items())[: len(linked)]
            with open_reader(target) as reader:
                assert reader.damage
                assert sums_of(reader.read(0)) == list(honest.items())[: reader.head().seq]
    assert checked > 150


def test_nothing_hidden_is_salvaged(journal: Path, tmp_path: Path) -> None:
    """Only what was appended: each kept record has the seq, the id and the payload that it had, or no payload."""
    before = {one["seq"]: one for one in independent_reader.read(journal).records}
    salvaged = 0
    for path in making.segments(journal):
        whole = path.read_bytes()
        for number, (what, raw) in enumerate(exposures(whole)):
            if raw == whole:
                continue
            source = making.copy(journal, tmp_path / "copy", caches=False)
            (source / path.name).write_bytes(raw)
            target = tmp_path / f"{path.stem}-{number}"
            try:
                salvage(source, target, now=making.START, token=making.Tokens(7))
            except SalvageRefused:
                continue
            kept = independent_reader.read(target)
            assert kept.fault is None, what
            for one in kept.records[:-1]:
                assert one["subject"] == before[one["seq"]]["subject"], what
                assert one["data"] == before[one["seq"]]["data"]
                assert one["payload"] in (None, before[one["seq"]]["payload"])
            salvaged += len(kept.records) > 1
    assert salvaged > 20


def test_a_torn_end_that_looks_whole_is_cut(tmp_path: Path) -> None:
    """A crash that leaves a hostile payload without the line's start: what is behind the NULs is no record."""
    for form, payload in disguises(forged_line(2, "0" * 64, GUESSES[0])).items():
        directory = tmp_path / form.replace(" ", "-").replace(",", "")
        with making.opened(directory) as journal:
            journal.append([making.delivery("a", b"{}")])
            journal.append([making.delivery("b", payload)])
            source = making.copy(directory, tmp_path / "copy", caches=False)
        path = making.segments(source)[0]
        raw = path.read_bytes()
        start = raw.index(b'{"seq":2')
        hidden = raw.find(b'"seq', start + 10)
        sector = -(-(start + 1) // 512) * 512
        lost = raw[:start] + b"\0" * (sector - start) + raw[sector:]
        assert hidden < 0 or len(lost) == len(raw)
        path.write_bytes(lost)
        with making.opened(source) as journal:
            assert journal.recovery.torn is not None
            assert [record.data.get("guid") for record in journal.read(0)][:1] == ["a"]
            assert journal.last("delivery.9.forged") is None
            assert journal.last("delivery.9.b") is None
        assert verify(source).ok


def test_an_opening_says_damage(journal: Path, tmp_path: Path) -> None:
    path = making.segments(journal)[0]
    exposed = list(exposures(path.read_bytes()))[::9]
    assert len(exposed) > 3
    for _, raw in exposed:
        target = making.copy(journal, tmp_path / "copy", caches=False)
        (target / path.name).write_bytes(raw)
        with pytest.raises(JournalDamaged):
            making.opened(target)


def test_the_salt_is_what_keeps_them_out(journal: Path) -> None:
    """The test of the tests: under the segment's own salt such a line would verify."""
    header, _ = parse_header(making.segments(journal)[0].read_bytes())
    assert header is not None
    assert header.salt not in GUESSES
    directory = journal
    lines = making.segments(directory)[0].read_bytes().splitlines(keepends=True)[:3]
    first = independent_reader.record_of(lines[2][:-1], header.salt.encode())
    known = forged_line(2, first["sum"], header.salt)
    assert independent_reader.record_of(known[:-1], header.salt.encode())["subject"] == "delivery.9.forged"


# ---- whole chains, by who can write the directory


def sealed(directory: Path, first: int, after: int = 0, prev: str = "0" * 64, *more: int) -> str:
    """A segment of the records `first` and `more`, in which every sum is right; the last one's."""
    directory.mkdir(exist_ok=True)
    header = write_header(
        OsFiles(), directory, journal="1" * 32, epoch="1" * 16, first=first, after=after, prev=prev, salt="2" * 64
    )
    total, path = header.sum, directory / name_of(first)
    for seq in (first, *more):
        line = forged_line(seq, total, header.salt)
        total = line[line.index(SUM_MARK) + len(SUM_MARK) :][:64].decode()
        path.write_bytes(path.read_bytes() + line)
    return total


def damage_of(directory: Path) -> Damage:
    """The first that verify finds; an opening refuses with it, a reader tells it, and the manual's reader sees it too."""
    found = verify(directory).damage
    with pytest.raises(JournalDamaged) as raised:
        making.opened(directory)
    assert raised.value.damage[0].kind == found[0].kind
    with open_reader(directory) as reader:
        assert reader.damage
        assert all(record.seq <= SEQ_MAX for record in reader.read(0))
    assert independent_reader.read(directory).fault is not None
    return found[0]


@pytest.mark.parametrize("seq", [SEQ_MAX + 1, SEQ_MAX + 6, 10**19 - 1])
def test_a_segment_of_seqs_that_there_can_t_be_is_damage(tmp_path: Path, seq: int) -> None:
    sealed(tmp_path / "alone", seq)
    assert damage_of(tmp_path / "alone").kind == "bad header"
    with pytest.raises(SalvageRefused):
        plan(tmp_path / "alone")
    sealed(tmp_path / "behind", seq, 1, sealed(tmp_path / "behind", 1))
    assert damage_of(tmp_path / "behind").kind == "bad header"
    kept = plan(tmp_path / "behind")
    assert (kept.kept, kept.last) == (1, 1)


def test_a_record_behind_the_last_seq_there_can_be_is_damage(tmp_path: Path) -> None:
    sealed(tmp_path / "j", SEQ_MAX, 0, "0" * 64, SEQ_MAX + 1)
    found = damage_of(tmp_path / "j")
    assert (found.kind, found.seq) == ("foreign", SEQ_MAX + 1)
    assert check_piece(str(tmp_path / "j"), SEQ_MAX, 0, 1 << 20) is None
    assert plan(tmp_path / "j").last == SEQ_MAX


def test_behind_the_last_seq_nothing_is_appended(tmp_path: Path) -> None:
    sealed(tmp_path / "j", SEQ_MAX)
    before = making.segments(tmp_path / "j")[0].read_bytes()
    with making.opened(tmp_path / "j") as journal:
        assert journal.head().seq == SEQ_MAX
        assert list(journal.read(SEQ_MAX)) == []
        with pytest.raises(JournalFull, match="no seq is left") as raised:
            journal.append([making.delivery("more", b"{}")])
        assert "No covenq" in raised.value.hint
        with pytest.raises(JournalFull):
            journal.begin_epoch("f" * 16)
    assert [path.read_bytes() for path in making.segments(tmp_path / "j")] == [before]
    with pytest.raises(SalvageRefused, match="no seq is left"):
        salvage(tmp_path / "j", tmp_path / "s", now=0.0, token=making.Tokens())
    assert not (tmp_path / "s").exists()


def test_what_notes_say_of_such_seqs_proves_nothing(tmp_path: Path) -> None:
    total = sealed(tmp_path / "j", 1)
    write_mark(OsFiles(), tmp_path / "j", journal="1" * 32, seq=SEQ_MAX + 1, total=total, segment=1, size=1)
    assert [one.kind for one in verify(tmp_path / "j").damage] == ["bad mark"]
    (tmp_path / "j" / "erasing.json").write_bytes(b'{"after":%d}' % (SEQ_MAX + 1))
    making.opened(tmp_path / "j").close()
    assert not (tmp_path / "j" / "erasing.json").exists()
    assert verify(tmp_path / "j").ok
    note = {"journal": "1" * 32, "finished": True, "seq": SEQ_MAX + 1, "sum": total}
    (tmp_path / "j" / "backup.json").write_bytes(orjson.dumps(note))
    with pytest.raises(JournalError, match="no backup's note"):
        verify(tmp_path / "j")


def test_content_dropped_by_a_record_that_there_can_t_be_is_damage(tmp_path: Path) -> None:
    sealed(tmp_path / "j", 1)
    path = making.segments(tmp_path / "j")[0]
    making.alter(path, lambda raw: raw.replace(b',"payload":{"forged":true}', b',"dropped":%d' % (SEQ_MAX + 1)))
    making.alter(
        path, lambda raw: raw + forged_line(2, raw[raw.rindex(SUM_MARK) + len(SUM_MARK) :][:64].decode(), "2" * 64)
    )
    assert damage_of(tmp_path / "j").kind == "payload"
    assert plan(tmp_path / "j").dropped == [[1, 1]]


@pytest.mark.parametrize("data", [b"{x}", b'{"drops":1e400}', b'{"drops":[}', b'{"a":"\\ud800"}'])
def test_what_is_no_json_under_a_right_sum_is_no_record(tmp_path: Path, data: bytes) -> None:
    total = sealed(tmp_path / "j", 1)
    path, salted = making.segments(tmp_path / "j")[0], Salted("2" * 64)
    line = (
        b'{"seq":2,"at":"2026-11-26T00:00:00.000000Z","synced":1,"subject":"ops.x","kind":"ops.x","data":%s,"prev":"%s"'
    )
    envelope = line % (data, total.encode())
    making.alter(path, lambda raw: raw + envelope + SUM_MARK + salted.sum(envelope).encode() + b'"}\n')
    verify(tmp_path / "j")  # of the data only what it erases is read
    assert plan(tmp_path / "j").dropped == []
    with making.opened(tmp_path / "j") as journal, pytest.raises(JournalDamaged, match="no JSON"):
        list(journal.read(0))
