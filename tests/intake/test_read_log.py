"""The log of what was asked with tokens: two lines a minute for the same, of a bounded size, and readable whatever is in it."""

from __future__ import annotations

from pathlib import Path

from covenq.intake.read_log import KEYS_MAX, OTHER, Read, ReadLog, by_minute, read
from covenq.model import seconds_of
from covenq.model.token_scope import Scope
from covenq.paths import READS_NAME

START = seconds_of("2026-12-01T10:00:00.000000Z")


class Clock:
    now = START

    def __call__(self) -> float:
        return self.now


def test_the_same_in_a_minute_is_two_lines_and_one_entry(tmp_path: Path) -> None:
    clock = Clock()
    log = ReadLog(tmp_path / READS_NAME, clock=clock)
    for _ in range(500):
        log.note("ci", Scope((5,), (9,)), "GET", "/api/v1/tasks", 200, 50)
    assert [(one.count, one.items) for one in read(tmp_path)] == [(1, 50)], "it is seen at once"
    clock.now += 60
    log.note("ci", Scope((5,), (9,)), "GET", "/api/v1/tasks", 200, 50)
    lines = list(read(tmp_path))
    assert [(one.count, one.items) for one in lines] == [(1, 50), (499, 499 * 50), (1, 50)]
    assert list(by_minute(read(tmp_path))) == [
        Read("2026-12-01T10:00:00.000000Z", "ci", "GET", "/api/v1/tasks", 200, 500, 25_000, [5], [9]),
        Read("2026-12-01T10:01:00.000000Z", "ci", "GET", "/api/v1/tasks", 200, 1, 50, [5], [9]),
    ]
    assert (tmp_path / READS_NAME).stat().st_mode & 0o777 == 0o600


def test_what_is_repeated_is_there_after_a_flush(tmp_path: Path) -> None:
    log = ReadLog(tmp_path / READS_NAME, clock=Clock())
    for status in (200, 404, 200):
        log.note("ci", None, "GET", "/api/v1/tasks/{id}", status)
    log.flush()
    log.flush()
    assert {(one.status, one.count) for one in by_minute(read(tmp_path))} == {(200, 2), (404, 1)}


def test_it_is_bounded_whatever_is_asked(tmp_path: Path) -> None:
    clock = Clock()
    log = ReadLog(tmp_path / READS_NAME, clock=clock, limit=100_000)
    for number in range(3 * KEYS_MAX):
        log.note(f"t{number}", None, f"M{number}", None, 200)
    clock.now += 60
    log.note("ci", None, "GET", None, 404)
    assert sum(one.count for one in read(tmp_path) if one.token == OTHER) > 1
    assert {one.method for one in read(tmp_path)} == {OTHER, "GET"}
    assert {one.name for one in tmp_path.iterdir()} == {READS_NAME, f"{READS_NAME}.1"}
    assert all(one.stat().st_size <= 100_000 + 300 for one in tmp_path.iterdir())


def test_what_is_no_line_is_skipped_and_what_cant_be_written_hurts_nobody(tmp_path: Path) -> None:
    (tmp_path / READS_NAME).write_bytes(b'\xff\n{"at":1}\n[[[\n' + b"x" * 100_000 + b"\n")
    ReadLog(tmp_path / READS_NAME, clock=Clock()).note("ci", None, "GET", "/metrics", 200)
    assert [one.path for one in read(tmp_path)] == ["/metrics"]
    ReadLog(tmp_path / "gone" / READS_NAME).note("ci", None, "GET", None, 200)
    ReadLog(tmp_path / "full", room=lambda: False).note("ci", None, "GET", None, 200)
    assert not (tmp_path / "full").exists()
    assert list(read(tmp_path / "gone")) == []
