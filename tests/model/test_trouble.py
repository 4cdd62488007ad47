"""What is wrong is told by one list, so that no face lacks a line that another has."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from covenq.cli.commands.status import _wrong_lines
from covenq.client.local import LocalSource
from covenq.config.load import Config
from covenq.http.page.status import status_view
from covenq.model.notices import NotifyStatus
from covenq.model.pending_status import Uninstall, UnrevokedTokens
from covenq.model.readiness import readiness
from covenq.model.status import Overdue, Reload, SecretProblem, Status, Stuck, UpkeepStatus, Verified
from covenq.model.trouble import MENDED_LATER, NOTES, troubles
from covenq.text import instant

AT = "2026-11-23T02:34:56.000000Z"
NOW = (instant(AT) or 0.0) + 3600


def ill(data: Path) -> Status:
    well = LocalSource(data, Config()).status()
    return replace(
        well,
        verified=Verified(AT, False, 9, 3, 9, 1.0, "segment 1 is cut"),
        state=replace(well.state, damaged=True),
        overdue=[Overdue("upkeep", "upkeep has not looked for 9m")],
        stuck=[Stuck("t1", "all", None, "running", AT, "runs for 9h")],
        secrets=[SecretProblem("app", "it can't be read")],
        reload=Reload(AT, False, "no TOML", None, 3, ["route x never matches"]),
        notify=NotifyStatus(targets=[], error="the outbox can't be written"),
        upkeep=UpkeepStatus(None, "the disk is full"),
        uninstalls=[Uninstall(9001, "waiting", AT, "2026-11-30T02:34:56.000000Z")],
        tokens=UnrevokedTokens(1, AT, ["t1"]),
    )


def test_every_face_has_each_in_the_same_order(tmp_path: Path) -> None:
    found = list(troubles(ill(tmp_path), NOW))
    assert [one.word for one in found] == [
        "damaged", "damaged", "overdue", "stuck", "unreadable", "refused", "warning", "untold", "upkeep",
        "uninstalled", "token",
    ]  # fmt: skip
    page = [(one.label.lower(), one.text) for one in status_view(ill(tmp_path), NOW).wrong]
    lines = [(label.lower(), text) for label, text in _wrong_lines(ill(tmp_path), NOW) if label]
    assert page == lines == [(one.word, one.text) for one in found]


def test_a_word_says_how_grave_it_is(tmp_path: Path) -> None:
    tones = {one.word: one.tone for one in troubles(ill(tmp_path), NOW)}
    assert {word for word, tone in tones.items() if tone == "warning"} <= MENDED_LATER
    assert {word for word, tone in tones.items() if tone == "note"} == NOTES
    assert tones["damaged"] == tones["overdue"] == tones["unreadable"] == "bad"
    assert not MENDED_LATER & NOTES


def test_nothing_is_wrong_with_what_is_well(tmp_path: Path) -> None:
    assert list(troubles(LocalSource(tmp_path, Config()).status(), NOW)) == []


def test_of_a_journal_in_a_database_nothing_is_suggested_that_is_for_files(tmp_path: Path) -> None:
    """`covenq salvage` would refuse."""
    in_files = ill(tmp_path)
    in_database = replace(in_files, journal=replace(in_files.journal, engine="postgres"))
    assert [("salvage" in next(troubles(one, NOW)).next) for one in (in_files, in_database)] == [True, False]
    assert "read from the files" in readiness(replace(in_files, verified=None)).sentence
    assert "read from the database" in readiness(replace(in_database, verified=None)).sentence
