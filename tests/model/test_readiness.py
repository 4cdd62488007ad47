"""What `covenq status` says first, and exits with: the worst that is true."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from covenq.model import NOT_RUNNING
from covenq.model.journal_status import DatabaseStatus, HeadStatus, JournalStatus
from covenq.model.readiness import readiness
from covenq.model.status import Oldest, StateStatus, Status, Verified
from covenq.tui.panes.alarms import of_status
from tests.support.answers import blank

RUNNING = blank(
    Status,
    ready=True,
    reasons=[],
    pid=7,
    journal=blank(JournalStatus, head=HeadStatus(1, "")),
    state=StateStatus(1, 0, None),
    oldest=Oldest({}, {}),
)
STOPPED: dict[str, Any] = {"ready": False, "pid": None, "reasons": [NOT_RUNNING]}
STANDBY: dict[str, Any] = {"ready": False, "standby": True, "reasons": ["This node stands by: a leads."]}


def of_database(away_s: float) -> JournalStatus:
    return replace(RUNNING.journal, engine="postgres", database=DatabaseStatus(away_s=away_s))


SILENT: dict[str, Any] = {**STOPPED, "reasons": ["process 7 has the journal, and no daemon answers"]}
VERIFIED = Verified("2027-01-15T07:00:00.000000Z", False, 9, 1, 9, 0.1, "a byte differs")


@pytest.mark.parametrize(
    ("fields", "word", "code"),
    [
        ({}, "READY", 0),
        ({"verified": replace(VERIFIED, ok=True)}, "READY", 0),
        ({"ready": False, "reasons": ["An operator paused the intake."]}, "NOT READY", 1),
        (STANDBY, "STANDBY", 0),
        ({**STANDBY, "journal": of_database(2.0)}, "STANDBY", 0),
        ({**STANDBY, "journal": of_database(60.0)}, "NOT READY", 1),
        (STOPPED, "NO DAEMON", 6),
        (SILENT, "NO ANSWER", 6),
        ({"verified": VERIFIED}, "DAMAGED", 5),
        ({"damaged": True, "ready": False, "reasons": ["The journal is damaged."]}, "DAMAGED", 5),
        ({**STOPPED, "damaged": True}, "DAMAGED", 5),
        ({**SILENT, "verified": VERIFIED}, "DAMAGED", 5),
        ({"state": StateStatus(1, 0, None, damaged=True)}, "DAMAGED", 5),
    ],
)
def test_the_worst_is_said_and_decides_the_exit_code(fields: dict[str, Any], word: str, code: int) -> None:
    told = readiness(replace(RUNNING, **fields))
    assert (told.word, told.exit_code) == (word, code)


def test_a_node_that_stands_by_and_is_well_alarms_nobody() -> None:
    assert of_status(replace(RUNNING, **STANDBY), 0.0) == []
    away = of_status(replace(RUNNING, **STANDBY, journal=of_database(60.0)), 0.0)
    assert any("the database has not answered for 1m" in one.words for one in away)


def test_damage_says_too_whether_anything_is_received() -> None:
    assert readiness(replace(RUNNING, verified=VERIFIED)).sentence == "the journal, and deliveries are accepted"
    assert "no daemon runs" in readiness(replace(RUNNING, **STOPPED, damaged=True)).sentence
    assert "state.db" in readiness(replace(RUNNING, state=StateStatus(1, 0, None, damaged=True))).sentence
