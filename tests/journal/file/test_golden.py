"""Journals of format 1, kept forever: they open, read and verify, and the same records are still written in the same bytes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from journal.file.reader import open_reader
from journal.file.verify import verify
from journal.records import Appended, Conflict, Entry
from tests.journal.file.golden import make_golden
from tests.support.journals import independent_reader, making

GOLDEN = Path(__file__).resolve().parent / "golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/expected.json"))


def test_all_are_there() -> None:
    assert set(CASES) == set(make_golden.CASES)
    assert CASES


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def journal(case: str, tmp_path: Path) -> Path:
    return making.copy(GOLDEN / case / "journal", tmp_path / "journal")


@pytest.fixture
def expected(case: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / case / "expected.json").read_bytes())
    for record in found["records"]:
        if record["payload"] is not None:
            record["payload"] = base64.b64decode(record["payload"])
    return found


def test_it_verifies(journal: Path, expected: dict[str, Any]) -> None:
    before = making.bytes_of(journal)
    report = verify(journal)
    newest = expected["records"][-1]
    assert report.damage == []
    assert (report.records, report.head.seq, report.head.sum) == (
        len(expected["records"]),
        newest["seq"],
        newest["sum"],
    )
    assert making.bytes_of(journal) == before


def test_it_is_read(case: str, journal: Path, expected: dict[str, Any]) -> None:
    with open_reader(journal, adopt=True) as reader:
        assert reader.damage == ()
        assert making.seen(reader.read(0)) == making.seen(expected["records"])
        for record in expected["records"]:
            found = reader.get(record["seq"])
            assert found is not None
            assert making.seen([found]) == making.seen([record])
    with open_reader(journal, upto=expected["records"][-1]["seq"]) as reader:
        assert making.seen(reader.read(0)) == making.seen(expected["records"])


def test_it_is_read_by_the_page(journal: Path, expected: dict[str, Any]) -> None:
    found = independent_reader.read(journal)
    assert found.fault is None
    assert found.records == expected["records"]
    assert [list(gap) for gap in found.gaps] == expected["gaps"]
    assert (None if found.torn is None else list(found.torn)) == expected["torn"]


def test_it_opens_and_goes_on(case: str, journal: Path, expected: dict[str, Any]) -> None:
    records = expected["records"]
    with making.opened(journal, seed=9) as opened:
        assert making.seen(opened.read(0))[: len(records)] == making.seen(records)
        assert (opened.recovery.torn is not None) == (expected["torn"] is not None) == (case == "unclean")
        assert (opened.epoch != records[-1]["epoch"]) == (case == "backup")
        known = {record["subject"]: record["seq"] for record in records if not record["subject"].startswith("ops.")}
        for subject, seq in known.items():
            assert opened.append([Entry(subject, "delivery.received", {}, expect=0)]) == Conflict(subject, seq)
        assert isinstance(opened.append([making.delivery("new", b"{}")]), Appended)
    assert verify(journal).ok
    assert independent_reader.read(journal).fault is None


def test_the_same_bytes_are_written_today(case: str, journal: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    make_golden.make(case, tmp_path / "made")
    made, kept = making.bytes_of(tmp_path / "made" / "journal"), making.bytes_of(journal)
    if "backup.json" in kept:
        # Not of the format: what the next backup in the same directory goes by, and nobody who opens this one.
        for files in (made, kept):
            note = json.loads(files["backup.json"])
            del note["sources"]
            files["backup.json"] = json.dumps(note).encode()
    assert made == kept
    assert (tmp_path / "made" / "expected.json").read_bytes() == (GOLDEN / case / "expected.json").read_bytes()


def test_they_hold_what_they_are_kept_for() -> None:
    def records(case: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((GOLDEN / case / "expected.json").read_bytes())["records"]
        return found

    assert [
        json.loads((GOLDEN / case / "expected.json").read_bytes())["gaps"] for case in CASES if case == "salvaged"
    ] != [[]]
    assert {one["data"]["guid"] for one in records("plain") if "guid" in one["data"]} == set(making.PAYLOADS)
    assert len(list((GOLDEN / "rotated" / "journal").glob("*.jsonl"))) > 2
    assert len({one["epoch"] for one in records("rotated")}) == 2
    assert len({one["dropped"] for one in records("erased")}) == 3
    assert [one["kind"] for one in records("salvaged")][-1] == "journal.salvaged"
    assert (GOLDEN / "backup" / "journal" / "backup.json").exists()
