"""What every engine says of itself."""

from __future__ import annotations

import time

from journal.histogram import Counts
from journal.records import Entry
from tests.support.journals.engines import Opened


def test_a_sound_engine_says_so(opened: Opened) -> None:
    journal = opened()
    journal.append([Entry("task.t", "task.queued", {})])
    health = journal.health()
    assert (health.poisoned, health.full, health.unreachable) == (None, None, None)
    assert not journal.poisoned and not journal.full
    assert abs(time.monotonic() - journal.beat) < 60
    room = health.room
    assert room is None or (room.free >= 0 and 0 < room.kept < room.to_reopen)
    assert health.ok is (room is None or room.free >= room.kept)
    assert health.ok is (health.sentence is None)


def test_an_answer_rests_on_a_disk_or_on_several(opened: Opened) -> None:
    assert opened().durability in ("fsync", "replicated")


def test_figures_have_names_that_monitoring_takes(opened: Opened) -> None:
    journal = opened()
    journal.append([Entry("task.t", "task.queued", {})])
    assert journal.measurements()
    for name, measurement in journal.measurements().items():
        assert name.replace("_", "").isalnum() and name == name.lower()
        assert isinstance(measurement, int | float | Counts | tuple)
