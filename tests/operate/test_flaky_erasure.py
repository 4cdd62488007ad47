"""Redaction and retention over a journal whose answers get lost or come late, or whose reads fail: nothing left or doubled."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from covenq.config.retention import Retention
from covenq.errors import NotDurable, NotFound
from covenq.operate.act import pauses
from covenq.operate.maintain import upkeep_work as upkeep
from covenq.operate.maintain.upkeep import Upkeep
from covenq.operate.maintain.upkeep_work import UpkeepContext
from covenq.operate.parameters import Compact, Pause, Redact
from covenq.state.store import StateStore
from journal.erasure import erasure_of
from journal.errors import JournalUnavailable
from journal.file.open import open_journal
from journal.file.settings import WriteSettings
from journal.interface import Engine, Progress
from journal.records import Entry, Record, Rewritten
from tests.support.flaky import Answer, FlakyJournal
from tests.support.fold_thread import FoldThread
from tests.support.journals.making import NEVER_S
from tests.support.records import note, of, queued, received
from tests.support.waiting import eventually

SEEDS = [*range(15), *(pytest.param(seed, marks=pytest.mark.deep) for seed in range(15, 30))]
REPO = "octo/secret"


class Rival(FlakyJournal):
    """Flaky, and now and then somebody else changes a delivery just before an erasure: it has to be planned again."""

    conflicts = 0

    def erase(self, entries: Sequence[Entry], progress: Progress | None = None) -> tuple[Answer, Rewritten]:
        expecting = [entry for entry in entries if entry.expect is not None]
        if expecting and self._random.random() < 0.2:
            last = self.journal.last(expecting[-1].subject)
            if last is not None and last.seq == expecting[-1].expect:
                self.journal.append([Entry(expecting[-1].subject, "delivery.repeated", {"received": 1})])
                self.conflicts += 1
        return super().erase(entries, progress)


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("journal.append.PAUSE_S", 0.0)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Engine]:
    with open_journal(
        tmp_path / "journal", settings=WriteSettings(idle_s=NEVER_S, segment_bytes=4000), force_filesystem=True
    ) as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path, journal: Engine) -> Iterator[StateStore]:
    with StateStore(tmp_path / "state.db", journal) as opened:
        yield opened


def fill(journal: Engine, seed: int, number: int = 16) -> dict[str, str]:
    """Deliveries by GUID, with the repository of each; every third has a task that waits."""
    chance = random.Random(seed)
    repos = {}
    for one in range(number):
        guid = f"g{one}"
        repos[guid] = chance.choice([REPO, "octo/kept"])
        about, number = {"repo": repos[guid]}, 6 if repos[guid] == REPO else 7
        entry = received(guid, repo_id=number, about=about, payload=b'{"of":"%s"}' % repos[guid].encode())
        task = [queued(guid, about=about)] if one % 3 == 0 else [note("ignored", guid, reason="no_route")]
        journal.append([entry, *task])
    return repos


def context_of(
    flaky: FlakyJournal, store: StateStore, data: Path, policy: Retention | None = None, **options: Any
) -> UpkeepContext:
    def fold() -> None:
        flaky._cut()
        store.catch_up()

    return UpkeepContext(flaky, data, policy or Retention(), store.reader, fold, store.truncate_wal, **options)


def until_done(act: Callable[[], Any]) -> Any:
    """As an operator does it, who is told that the connection was cut."""
    for _ in range(100):
        try:
            return act()
        except (JournalUnavailable, NotDurable):
            continue
    raise AssertionError("it never got through")


def erased_by(journal: Engine) -> dict[int, list[int]]:
    """The records that name each seq."""
    found: dict[int, list[int]] = {}
    for record in journal.read(0):
        erasure = erasure_of(record.seq, record.data)
        for low, high in erasure.drops if erasure is not None else ():
            for seq in range(low, high + 1):
                found.setdefault(seq, []).append(record.seq)
    return found


def of_kind(journal: Engine, kind: str) -> list[Record]:
    return [record for record in journal.read(0) if record.kind == kind]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_repository_is_redacted_once_and_everywhere(
    journal: Engine, store: StateStore, tmp_path: Path, seed: int
) -> None:
    repos = fill(journal, seed)
    wanted = {guid for guid, repo in repos.items() if repo == REPO}

    def rows() -> Any:
        store.catch_up()
        return store.reader()

    pauses.pause(journal, rows, Pause(what="repo", name=REPO))
    flaky = Rival(journal, seed, before=0.25, after=0.25, late=0.2, reads=0.15)
    context = context_of(flaky, store, tmp_path)
    with contextlib.suppress(NotFound):  # the first try had come so far, and was cut short
        until_done(lambda: upkeep.redact(context, None, Redact(repo=REPO, reason="asked", by="test"), None))
    until_done(lambda: upkeep.finish(context))

    redacted = Counter(record.subject.split(".")[2] for record in of_kind(journal, "delivery.redacted"))
    assert redacted == Counter(wanted), "each once, and no other"
    cancelled = Counter(record.subject for record in of_kind(journal, "task.cancelled"))
    assert cancelled == Counter(f"task.{of(guid)}" for guid in wanted if int(guid[1:]) % 3 == 0)
    assert all(len(by) == 1 for by in erased_by(journal).values())
    for record in journal.read(0):
        assert REPO not in str(record.about) and (record.payload is None or REPO.encode() not in record.payload)
        if record.kind == "delivery.received" and record.data["guid"] not in wanted:
            assert record.payload is not None and record.about is not None
    assert not journal.erasing
    store.catch_up()
    assert store.reader().execute("SELECT count(*) FROM webhook_deliveries WHERE repo = ?", (REPO,)).fetchone()[0] == 0
    assert store.reader().execute("SELECT count(*) FROM names_in_records").fetchone()[0] == 0


def test_the_seeds_lose_answers_and_meet_rivals(journal: Engine, store: StateStore, tmp_path: Path) -> None:
    fill(journal, 1)
    flaky = Rival(journal, 1, before=0.25, after=0.25, late=0.2)
    for number in range(16):
        upkeep.redact(context_of(flaky, store, tmp_path), None, Redact(ids=[f"g{number}"]), None)
    assert flaky.lost and flaky.conflicts


@pytest.mark.parametrize("seed", SEEDS)
def test_retention_drops_each_payload_once(journal: Engine, store: StateStore, tmp_path: Path, seed: int) -> None:
    fill(journal, seed, 24)
    flaky = FlakyJournal(journal, seed, before=0.25, after=0.25, late=0.2, reads=0.15)
    policy = Retention(payloads_s=60.0)
    context = context_of(flaky, store, tmp_path, policy, clock=lambda: time.time() + 3600)
    until_done(lambda: upkeep.compact(context, None, Compact()))
    again = until_done(lambda: upkeep.compact(context, None, Compact()))
    assert again.deliveries == 0
    by = erased_by(journal)
    for record in of_kind(journal, "delivery.received"):
        waits = int(record.data["guid"][1:]) % 3 == 0
        assert (record.payload is not None) is waits, "what still waits keeps its payload"
        assert record.about is not None
        assert len(by.get(record.seq, [])) == (0 if waits else 1)
    assert not journal.erasing


class Silent(FlakyJournal):
    """No answer ever comes to an erasure."""

    def erase(self, entries: Sequence[Entry], progress: Progress | None = None) -> tuple[Answer, Rewritten]:
        return self._lose(), Rewritten()


def test_a_daemon_that_stops_gives_up_an_erasure_that_is_never_answered(
    journal: Engine, store: StateStore, tmp_path: Path
) -> None:
    fill(journal, 1)
    fold_thread = FoldThread(store, journal)
    fold_thread.start()
    silent = Silent(journal, 1)
    thread = Upkeep(
        silent,
        store,
        fold_thread,
        tmp_path,
        lambda: Retention(payloads_s=60.0),
        truncate_wal=store.truncate_wal,
        clock=lambda: time.time() + 3600,
    )
    try:
        thread.start()
        eventually(lambda: silent.lost > 3, 30, "it asks again")
    finally:
        thread.stop(30.0)
        fold_thread.stop()
    assert not thread.is_alive()
    assert not erased_by(journal)
