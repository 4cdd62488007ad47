"""Each kind of damage by its name, with its place and whose it is; in one process as in several."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from journal.errors import FormatUnknown, JournalGone
from journal.file import verify as module
from journal.file.files import OsFiles
from journal.file.segment_check import check_segment
from journal.file.verify import verify
from journal.format.codec import SUM_MARK, Salted
from journal.format.header import parse_header
from journal.records import Damage, Entry, Head, Witness
from journal.reports import VerifyReport
from tests.support.checkout import ROOT, clean_env
from tests.support.journals import making

COUNT = 40


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("verify") / "j"
    with making.opened(directory, segment_bytes=6000) as journal:
        for number in range(1, COUNT + 1):
            payload = b'{"n":%d,"pad":"%s"}' % (number, b"x" * 300) if number % 2 else b"text\n" * 20
            journal.append([making.delivery(f"g{number}", payload, about={"n": number} if number % 3 else None)])
        journal.erase([Entry("ops.x", "journal.dropped", {"drops": [[3, 4]], "about": False})])
        journal.erase([Entry("ops.x", "journal.dropped", {"drops": [[5, 5]], "about": True})])
    assert len(making.segments(directory)) > 4
    return directory


@pytest.fixture
def journal(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage, without caches: what is told is told by the log alone."""
    return making.copy(whole, tmp_path / "copy", caches=False)


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def offset(path: Path, number: int) -> int:
    return sum(map(len, lines(path)[:number]))


def put(path: Path, changed: list[bytes]) -> None:
    path.write_bytes(b"".join(changed))


def seq_of(line: bytes) -> int:
    return int(line[7 : line.index(b",")])


def found(directory: Path) -> list[tuple[str, str, int, int | None, str | None]]:
    return [(one.kind, one.segment, one.offset, one.seq, one.delivery) for one in verify(directory).damage]


def test_a_whole_journal(whole: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = verify(whole, progress=lambda done, total: seen.append((done, total)))
    last = lines(making.segments(whole)[-1])[-1]
    assert report.ok
    assert report.records == COUNT + 3
    assert (report.head.seq, report.head.sum.encode()) == (COUNT + 3, last[-67:-3])
    size = sum(path.stat().st_size for path in making.segments(whole))
    assert seen[-1] == (size, size)
    assert seen == sorted(seen)


def test_a_flipped_byte(journal: Path) -> None:
    path = making.segments(journal)[1]
    changed = lines(path)
    seq, at = seq_of(changed[3]), offset(path, 3)
    changed[3] = changed[3].replace(b'"kind":"delivery', b'"kind":"delivers')
    put(path, changed)
    assert found(journal) == [("flipped", path.name, at, seq, f"9/g{seq}")]


def test_a_payload_that_is_another(journal: Path) -> None:
    path = making.segments(journal)[1]
    changed = lines(path)
    number = next(at for at, line in enumerate(changed) if b'"pad"' in line)
    seq = seq_of(changed[number])
    changed[number] = changed[number].replace(b"xxx", b"xyx")
    put(path, changed)
    assert found(journal) == [("payload", path.name, offset(path, number), seq, f"9/g{seq}")]
    assert verify(journal).records == COUNT + 3


def test_a_missing_record(journal: Path) -> None:
    path = making.segments(journal)[1]
    changed = lines(path)
    at, behind = offset(path, 4), seq_of(changed[5])
    del changed[4]
    put(path, changed)
    assert found(journal) == [("missing record", path.name, at, behind, f"9/g{behind}")]


def test_records_in_another_order(journal: Path) -> None:
    path = making.segments(journal)[1]
    changed = lines(path)
    changed[3], changed[4] = changed[4], changed[3]
    put(path, changed)
    first, second = seq_of(changed[3]), seq_of(changed[4])
    kinds = found(journal)
    assert kinds[0] == ("missing record", path.name, offset(path, 3), first, f"9/g{first}")
    assert ("reordered", path.name, offset(path, 4), second, f"9/g{second}") in kinds
    assert {one[0] for one in kinds} == {"missing record", "reordered"}


def test_a_record_twice(journal: Path) -> None:
    path = making.segments(journal)[1]
    changed = lines(path)
    seq, at = seq_of(changed[3]), offset(path, 4)
    put(path, [*changed[:4], changed[3], *changed[4:]])
    assert found(journal) == [("reordered", path.name, at, seq, f"9/g{seq}")]
    assert verify(journal).records == COUNT + 3


def test_a_record_that_continues_another(journal: Path) -> None:
    """Summed again under the right salt, and so right by itself: the chain is what tells."""
    path = making.segments(journal)[1]
    changed = lines(path)
    header, _ = parse_header(path.read_bytes())
    assert header is not None
    envelope, tail = changed[3].split(SUM_MARK)
    envelope = envelope.replace(b'"delivery.received"', b'"delivery.replayed"')
    changed[3] = envelope + SUM_MARK + header.salted.sum(envelope).encode() + tail[64:]
    put(path, changed)
    behind = seq_of(changed[4])
    assert found(journal) == [("reordered", path.name, offset(path, 4), behind, f"9/g{behind}")]


def test_a_foreign_line_and_a_record_of_another_segment(journal: Path) -> None:
    first, second = making.segments(journal)[:2]
    changed = lines(second)
    put(second, [*changed[:4], b"{}\n", *changed[4:]])
    kinds = found(journal)
    assert kinds[0] == ("foreign", second.name, offset(second, 4), seq_of(changed[4]), None)
    put(second, [*changed[:4], lines(first)[3], *changed[4:]])
    kinds = found(journal)
    assert kinds[0][:3] == ("flipped", second.name, offset(second, 4))
    assert kinds[0][4] == f"9/g{seq_of(lines(first)[3])}"


def test_a_truncated_segment(journal: Path) -> None:
    path, behind = making.segments(journal)[1:3]
    changed = lines(path)
    at, seq = offset(path, len(changed) - 1), seq_of(changed[-1])
    put(path, [*changed[:-1], changed[-1][:-9]])
    assert found(journal) == [("truncated", path.name, at, seq, f"9/g{seq}")]
    put(path, [*changed[:-1], changed[-1][:150]])
    assert found(journal) == [
        ("truncated", path.name, at, seq, f"9/g{seq}"),
        ("gap between segments", behind.name, 0, seq, None),
    ]
    put(path, changed[:-2])
    assert found(journal) == [("gap between segments", behind.name, 0, seq - 1, None)]


def test_a_last_segment_that_ends_too_early(journal: Path, whole: Path) -> None:
    """The log alone can't tell a cut at a line's end: the index, the mark or another cache does."""
    path = making.segments(journal)[-1]
    changed = lines(path)
    put(path, changed[:-1])
    assert found(journal) == []
    head = verify(whole).head
    header, _ = parse_header(path.read_bytes())
    assert header is not None
    witness = Witness(header.journal, head.seq, head.sum)
    expected = Damage("shorter than caches", path.name, path.stat().st_size, head.seq, None, "")
    reports = [with_cache(journal, whole, name) for name in ("closed.json", "index.sqlite")]
    for told in (verify(journal, witnesses=[witness]), *reports):
        assert [(one.kind, one.segment, one.offset, one.seq) for one in told.damage] == [
            (expected.kind, expected.segment, expected.offset, expected.seq)
        ]


@pytest.mark.parametrize("count", [1, 2])
def test_a_last_line_that_is_flipped_is_not_missing_as_well(tmp_path: Path, count: int) -> None:
    """What the caches had seen is there, damaged; only what is behind that is gone."""
    with making.opened(tmp_path / "whole") as opened:
        making.fill(opened, ["object", "text", "form", "binary"])
    copy = making.copy(tmp_path / "whole", tmp_path / "copy")
    path = making.segments(copy)[0]
    changed = [line.replace(b'"kind":"', b'"kind":"x') for line in lines(path)[-count:]]
    put(path, [*lines(path)[:-count], *changed])
    seqs = [seq_of(line) for line in changed]
    assert [(kind, seq) for kind, _, _, seq, _ in found(copy)] == [("flipped", seq) for seq in seqs]
    assert [one.kind for one in verify(copy, upto=seqs[-1]).damage] == ["flipped"] * count
    put(path, [*lines(path)[: -count - 1], *changed[:-1]])
    assert [kind for kind, *_ in found(copy)] == ["flipped"] * (count - 1) + ["shorter than caches"]


def with_cache(journal: Path, whole: Path, name: str) -> VerifyReport:
    (journal / name).write_bytes((whole / name).read_bytes())
    report = verify(journal)
    for path in journal.glob(name + "*"):
        path.unlink()
    return report


def test_headers(journal: Path) -> None:
    path = making.segments(journal)[2]
    raw = path.read_bytes()
    size = len(lines(path)[0])
    for copy, at in ((1, 0), (2, size)):
        path.write_bytes(raw[: at + 30] + b"X" + raw[at + 31 :])
        report = verify(journal)
        assert [(one.kind, one.segment, one.offset) for one in report.damage] == [("bad header", path.name, at)]
        assert f"copy {copy}" in report.damage[0].detail
        assert report.records == COUNT + 3
    path.write_bytes(raw[:30] + b"X" + raw[31 : size + 30] + b"X" + raw[size + 31 :])
    report = verify(journal)
    assert [(one.kind, one.segment, one.offset) for one in report.damage] == [("bad header", path.name, 0)]
    assert report.records == COUNT + 3 - (len(raw.splitlines()) - 2)


def test_segments_gone_foreign_renamed_and_in_another_order(journal: Path, tmp_path: Path) -> None:
    paths = making.segments(journal)
    keep = {path: path.read_bytes() for path in paths}

    def again(change: Callable[[], object]) -> list[tuple[str, str, int, int | None, str | None]]:
        for path, raw in keep.items():
            path.write_bytes(raw)
        change()
        return found(journal)

    firsts = [int(path.stem) for path in paths]
    assert again(paths[0].unlink) == [("missing segment", paths[1].name, 0, firsts[1] - 1, None)]
    assert again(paths[1].unlink) == [("gap between segments", paths[2].name, 0, firsts[1], None)]
    other = tmp_path / "other"
    with making.opened(other, seed=5, segment_bytes=6000) as opened:
        for number in range(1, firsts[1]):
            opened.append([making.delivery(f"h{number}", b"{}")])
        opened._committer.rotate()
    foreign = making.segments(other)[0]
    told = again(lambda: paths[0].write_bytes(foreign.read_bytes()))
    assert told[0][:3] == ("foreign segment", paths[1].name, 0)
    told = again(lambda: (paths[1].write_bytes(keep[paths[2]]), paths[2].write_bytes(keep[paths[1]])))
    assert {one[0] for one in told} >= {"wrong segment order"}
    assert ("wrong segment order", paths[1].name, 0, firsts[1], None) in told
    assert ("wrong segment order", paths[2].name, 0, firsts[2], None) in told
    assert again(lambda: None) == []


def test_a_segment_whose_predecessor_was_another(journal: Path) -> None:
    """Same seqs, another history: the last record of the first segment is summed again, and its successor gives it away."""
    first, second = making.segments(journal)[:2]
    changed = lines(first)
    header, _ = parse_header(first.read_bytes())
    assert header is not None
    envelope, tail = changed[-1].split(SUM_MARK)
    envelope = envelope.replace(b'"delivery.received"', b'"delivery.replayed"')
    put(first, [*changed[:-1], envelope + SUM_MARK + header.salted.sum(envelope).encode() + tail[64:]])
    assert found(journal) == [("wrong segment order", second.name, 0, int(second.stem), None)]


DROPS: list[tuple[str, int, Callable[[bytes], bytes]]] = [
    ("by a record that names others", 4, lambda line: line.replace(b'"dropped":%d' % (COUNT + 1), b'"dropped":%d' % (COUNT + 2))),
    ("by a record that names nothing", 3, lambda line: line.replace(b'"dropped":%d' % (COUNT + 1), b'"dropped":9')),
    ("by a record that is not there", 3, lambda line: line.replace(b'"dropped":%d' % (COUNT + 1), b'"dropped":999')),
    ("with its about, which was to stay", 4, lambda line: line[: line.index(b',"about":{')] + line[line.index(b',"dropped"') :]),
    ("of a record that no one named", 7, lambda line: line[: line.rindex(b',"payload":')] + b',"dropped":%d}\n' % (COUNT + 1)),
]  # fmt: skip


@pytest.mark.parametrize(("what", "seq", "change"), DROPS, ids=[what for what, _, _ in DROPS])
def test_content_dropped_without_leave(journal: Path, what: str, seq: int, change: Callable[[bytes], bytes]) -> None:
    told = 0
    for path in making.segments(journal):
        for number, line in enumerate(lines(path)):
            if line.startswith(b'{"seq":%d,' % seq):
                told += 1
                changed = lines(path)
                changed[number] = change(line)
                assert changed[number] != line
                put(path, changed)
                assert found(journal) == [("payload", path.name, offset(path, number), seq, f"9/g{seq}")]
    assert told == 1


def test_each_of_several_is_told(journal: Path) -> None:
    one, two, three = making.segments(journal)[:3]
    making.alter(one, lambda raw: raw.replace(b'"delivery.9.g2"', b'"delivery.9.gX"', 1))
    changed = lines(two)
    del changed[3]
    put(two, changed)
    making.alter(three, lambda raw: b"?" + raw[1:])
    assert [(damage.kind, damage.segment) for damage in verify(journal).damage] == [
        ("flipped", one.name), ("missing record", two.name), ("bad header", three.name)
    ]  # fmt: skip


def test_nothing_left_and_nothing_ever(journal: Path, whole: Path, tmp_path: Path) -> None:
    for path in making.segments(journal):
        path.unlink()
    assert verify(journal).ok
    assert [one.kind for one in with_cache(journal, whole, "closed.json").damage] == ["gone"]
    with pytest.raises(JournalGone):
        verify(tmp_path / "nowhere")


def test_another_format(journal: Path) -> None:
    path = making.segments(journal)[0]
    line = lines(path)[0].replace(b'"format":1', b'"format":2')
    envelope = line[: line.index(SUM_MARK)]
    header, _ = parse_header(path.read_bytes())
    assert header is not None
    line = envelope + SUM_MARK + Salted(header.salt).sum(envelope).encode() + b'"}\n'
    put(path, [line, line, *lines(path)[2:]])
    with pytest.raises(FormatUnknown):
        verify(journal)


# ---- parts of it


def test_since_and_segment(journal: Path) -> None:
    paths = making.segments(journal)
    making.alter(paths[0], lambda raw: raw.replace(b'"delivery.9.g2"', b'"delivery.9.gX"', 1))
    second = int(paths[1].stem)
    assert not verify(journal).ok
    assert not verify(journal, since=second - 1).ok
    assert verify(journal, since=second).ok
    assert verify(journal, segment=second).ok
    assert not verify(journal, segment=1).ok
    with pytest.raises(JournalGone):
        verify(journal, segment=2)


def test_upto_leaves_what_is_in_flight_alone(journal: Path) -> None:
    path = making.segments(journal)[-1]
    seq = seq_of(lines(path)[-1])
    making.alter(path, lambda raw: raw + raw[-200:-90])
    report = verify(journal, upto=seq)
    assert (report.ok, report.head.seq) == (True, seq)
    making.alter(path, lambda raw: raw.replace(b'"kind":"journal', b'"kind":"jjurnal'))
    assert not verify(journal, upto=seq).ok


def test_a_log_that_ends_before_what_a_daemon_made_durable(journal: Path) -> None:
    path = making.segments(journal)[-1]
    last = lines(path)
    seq = seq_of(last[-1])
    put(path, last[:-1])
    assert verify(journal, upto=seq - 1).ok
    [damage] = verify(journal, upto=seq).damage
    size = path.stat().st_size
    assert (damage.kind, damage.segment, damage.offset, damage.seq) == ("shorter than caches", path.name, size, seq)
    for one in making.segments(journal):
        one.unlink()
    assert [(damage.kind, damage.seq) for damage in verify(journal, upto=seq).damage] == [("gone", seq)]


def test_a_bad_mark_hides_nothing_else(journal: Path, whole: Path) -> None:
    path = making.segments(journal)[-1]
    put(path, lines(path)[:-1])
    (journal / "closed.json").write_bytes(b"{}")
    assert [one.kind for one in with_cache(journal, whole, "index.sqlite").damage] == [
        "bad mark",
        "shorter than caches",
    ]


def test_an_old_journal_whose_content_was_dropped_takes_little_memory(tmp_path: Path) -> None:
    count = 5000
    with making.opened(tmp_path / "j") as opened:
        opened.append([making.delivery(f"g{number}", b'{"a":1}') for number in range(count)])
        opened.erase([Entry("ops.x", "journal.dropped", {"drops": [[1, count]], "about": False})])
    tracemalloc.start()
    try:
        report = check_segment(OsFiles(), tmp_path / "j", 1)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert report.records == count + 1
    assert held < 64 * count, "a few numbers for each record"


def test_a_named_pipe_in_a_segments_place_holds_nobody(journal: Path) -> None:
    path = making.segments(journal)[1]
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match=r"seek|pipe"):
        verify(journal)


def test_the_delivery_named_is_none_that_a_payload_makes_up(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    with making.opened(directory) as opened:
        opened.append([making.delivery("true", b'{"subject":"delivery.9.lie","x":{"subject":"delivery.9.lie2"}}')])
        opened.append([making.delivery("next", b"{}")])
    [path] = making.segments(directory)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"kind":"delivery', b'"kind":"deliverx', 1))
    assert [one.delivery for one in verify(directory).damage] == ["9/true"]
    path.write_bytes(whole.replace(b'"subject":"delivery.9.true"', b'"subject":"delivery 9.true"', 1))
    assert [one.delivery for one in verify(directory).damage] == [None]


def test_a_torn_tail_is_no_damage_and_no_record(journal: Path) -> None:
    path = making.segments(journal)[-1]
    raw = path.read_bytes()
    path.write_bytes(raw[:-5])
    report = verify(journal)
    assert (report.ok, report.records, report.head.seq) == (True, COUNT + 2, COUNT + 2)
    path.write_bytes(raw[:-5] + b"X" + raw[-4:])
    assert [one.kind for one in verify(journal).damage] == ["flipped"]


# ---- in several processes


class Serial(OsFiles):
    """Any other kind of `Files` is read in one process."""


def both(directory: Path, **options: int) -> VerifyReport:
    side_by_side = verify(directory, processes=2, **options)  # type: ignore[arg-type]
    serial = verify(directory, files=Serial(), **options)  # type: ignore[arg-type]
    assert side_by_side == serial
    assert serial == verify(directory, processes=1, **options)  # type: ignore[arg-type]
    return serial


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even these few bytes are worth several processes, and many pieces."""
    monkeypatch.setattr(module, "PARALLEL_FROM", 0)
    monkeypatch.setattr(module, "PIECE", 1500)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))


@pytest.mark.usefixtures("pieces")
def test_several_processes_say_the_same(journal: Path) -> None:
    assert both(journal).ok
    assert both(journal, since=9).ok
    assert both(journal, upto=COUNT).head == Head(COUNT, both(journal, upto=COUNT).head.sum)
    paths = making.segments(journal)
    making.alter(paths[0], lambda raw: raw.replace(b'"dropped":%d' % (COUNT + 1), b'"dropped":%d' % (COUNT + 2)))
    assert [one.kind for one in both(journal).damage] == ["payload", "payload"]
    changed = lines(paths[1])
    del changed[-2]
    put(paths[1], changed)
    making.alter(paths[3], lambda raw: raw[:-2] + b"X\n")
    paths[2].unlink()
    kinds = {one.kind for one in both(journal).damage}
    assert kinds >= {"payload", "missing record", "gap between segments"}


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param("sys.stderr = NoDescriptor()", id="a screen takes the place of stderr"),
        pytest.param("sys.stderr = None", id="there is no stderr"),
        pytest.param("multiprocessing.set_executable('/bin/false')", id="processes end at once"),
        pytest.param("multiprocessing.set_executable('/nonexistent')", id="no process starts"),
    ],
)
def test_it_verifies_whatever_processes_do(journal: Path, trouble: str) -> None:
    code = f"""if True:
        import io, multiprocessing, sys
        from pathlib import Path
        from journal.file import verify as module

        class NoDescriptor(io.StringIO):
            def fileno(self):
                return -1

        module.PARALLEL_FROM, module.PIECE = 0, 1500
        {trouble}
        before = sys.stderr
        report = module.verify(Path(sys.argv[1]), processes=2)
        print(report.ok, report.records, sys.stderr is before)"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(journal)]
    done = subprocess.run(command, cwd=ROOT, env=clean_env(), capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == f"True {verify(journal).records} True\n", done.stderr


@pytest.mark.usefixtures("pieces")
def test_pieces_find_what_one_reading_finds(journal: Path) -> None:
    """Without starting processes: each piece by itself, for damage at every line."""
    path = making.segments(journal)[1]
    raw, files, first = path.read_bytes(), OsFiles(), int(path.stem)
    for number in range(len(lines(path))):
        at = sum(map(len, raw.splitlines(keepends=True)[:number]))
        for change in (b"X", b"\n", b""):
            path.write_bytes(raw[: at + 40] + change + raw[at + 41 :])
            cuts = module._pieces(files, journal, first, path.stat().st_size)
            parts = [module.check_piece(str(journal), first, start, end) for start, end in cuts]
            assert module._merge_pieces(files, journal, first, parts) is None
            assert module.check_segment(files, journal, first).damage
    path.write_bytes(raw)
    cuts = module._pieces(files, journal, first, len(raw))
    assert len(cuts) > 2
    sound = module._merge_pieces(files, journal, first, [module.check_piece(str(journal), first, *cut) for cut in cuts])
    one = module.check_segment(files, journal, first)
    assert sound is not None
    assert (sound.records, sound.last, sound.sum, sound.dropped) == (one.records, one.last, one.sum, one.dropped)
