"""A delivery's whole way over a flaky journal, received, claimed, ended, redacted, dropped: nothing lost, doubled or stuck.

One thread and no pause, so that a seed is a way through it: what it does next, and which answers are lost. Tasks are run by a
pull worker: the pool's threads and processes are `test_flaky_journal`'s.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from covenq.config.live import Snapshot
from covenq.config.load import build
from covenq.config.retention import Retention
from covenq.config.secret_keys import Key
from covenq.intake.receive import Request, receive
from covenq.intake.scope_bindings import ScopeBindings
from covenq.model import DeliveryId
from covenq.model.rows import Delivery
from covenq.operate.act.actions import plan_requeue
from covenq.operate.act.plan import apply
from covenq.operate.maintain import upkeep_work as upkeep
from covenq.operate.maintain.upkeep_work import UpkeepContext
from covenq.operate.parameters import Compact, Redact, Selection
from covenq.state import query
from covenq.state.store import StateStore
from covenq.tasks.remote.claims import Claims
from covenq.tasks.remote.report_files import ReportFiles
from covenq.tasks.remote.reports import Failure
from journal.erasure import erasure_of
from journal.errors import JournalUnavailable
from journal.file.files import OsFiles
from journal.file.open import open_journal
from journal.file.settings import WriteSettings
from tests.support.flaky import FlakyJournal
from tests.support.journals.making import NEVER_S
from tests.support.requests import SECRET, issue, signed

DELIVERIES = 5
DEEP = int(os.environ.get("COVENQ_TEST_CHAINS", "10000"))
CONFIG = build({"route": [{"name": "r", "match": "event:issues", "pull": True}]}, None, {})
ENDED = ("task.completed", "task.failed", "task.cancelled")


class UnsyncedFiles(OsFiles):
    """Nothing here is about crashes."""

    def fdatasync(self, fd: int) -> None:
        pass

    def fsync_dir(self, path: Path) -> None:
        pass


class Folded:
    """What claims need of the fold's thread, without the thread: the state folds when it is asked for."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    @property
    def folded(self) -> int:
        return self._store.catch_up()

    def wait_for(self, seq: int, timeout: float, unless: Callable[[], bool] = lambda: False) -> bool:
        return self._store.catch_up() >= seq


class Chain:
    """One data directory, and what is done to it."""

    def __init__(self, data: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.data = data
        settings = WriteSettings(idle_s=NEVER_S, segment_bytes=8000)
        self.journal = open_journal(data / "journal", files=UnsyncedFiles(), settings=settings, force_filesystem=True)
        self.store = StateStore(data / "state.db", self.journal)
        self.flaky = FlakyJournal(self.journal, seed, before=0.2, after=0.2, late=0.15)
        self.claims = Claims(self.flaky, self.store, Folded(self.store), ReportFiles(data))  # type: ignore[arg-type]  # no thread here
        self.context = UpkeepContext(
            self.flaky,
            data,
            Retention(payloads_s=60.0),
            self.store.reader,
            lambda: void(self.store.catch_up()),
            self.store.truncate_wal,
            clock=lambda: time.time() + 3600,
        )

    def close(self) -> None:
        self.store.close()
        self.journal.close()

    def lookup(self, id: DeliveryId, at_least: int) -> Delivery | None:
        assert self.store.catch_up() >= at_least
        return query.delivery(self.store.reader(), id.hook, id.guid)

    def post(self, number: int) -> None:
        """As GitHub and an operator do it: sent again until it is accepted."""
        body, headers = signed("issues", issue(number), f"guid-{number}", "9")
        self.cut(
            lambda: (
                receive(
                    Request(list(headers.items()), body),
                    journal=self.flaky,
                    live=Snapshot(CONFIG, (Key("t", SECRET.encode()),)),
                    bindings=ScopeBindings(self.flaky),
                    lookup=self.lookup,
                ).status
                < 300
            )
        )

    def work(self) -> int:
        """Claim some tasks and end each; how many there were."""
        granted = self.claims.claim_all("w", 60, self.random.randint(1, 3))
        for one in granted:
            if self.random.random() < 0.7:
                self.claims.reports.complete(one.task.id, one.fence, result={})
            else:
                self.claims.reports.fail(one.task.id, one.fence, Failure("exit"))
        return len(granted)

    def cut(self, act: Callable[[], Any]) -> None:
        """Repeat what fails because the connection is cut; it is, now and then."""
        self.flaky.reads = 0.1
        try:
            for _ in range(50):
                try:
                    if act() is not False:
                        return
                except JournalUnavailable:
                    continue
            raise AssertionError("it never got through")
        finally:
            self.flaky.reads = 0.0

    def step(self) -> None:
        guid = f"9/guid-{self.random.randrange(DELIVERIES)}"
        what = self.random.choice(["post", "post", "work", "work", "redact", "compact", "requeue"])
        if what == "post":
            self.post(self.random.randrange(DELIVERIES))
        elif what == "work":
            self.work()
        elif what == "compact":
            self.cut(lambda: upkeep.compact(self.context, None, Compact()))
        else:
            self.store.catch_up()
            if self.store.reader().execute("SELECT 1 FROM webhook_deliveries WHERE guid = ?", (guid[2:],)).fetchone():
                if what == "redact":
                    self.cut(lambda: upkeep.redact(self.context, None, Redact(ids=[guid]), None))
                else:
                    tasks = self.store.reader().execute("SELECT id FROM tasks WHERE guid = ?", (guid[2:],)).fetchall()
                    wanted = Selection(ids=[task[0] for task in tasks])
                    apply(plan_requeue(self.flaky, self.store.reader(), CONFIG, wanted, None), self.flaky)


def void(value: object) -> None:
    """For a callback that returns nothing."""


def run(data: Path, seed: int) -> int:
    """One way through it, and what must hold at its end; how many answers were lost."""
    chain = Chain(data, seed)
    try:
        for _ in range(14):
            chain.step()
        for number in range(DELIVERIES):
            chain.post(number)
        while chain.work():
            pass
        upkeep.finish(chain.context)
        check(chain)
        return chain.flaky.lost
    finally:
        chain.close()


def run_in(scratch: Path, seed: int) -> int:
    """`run` in a directory that is kept only if it fails."""
    scratch.mkdir()
    lost = run(scratch, seed)
    shutil.rmtree(scratch)
    return lost


def check(chain: Chain) -> None:
    records = list(chain.journal.read(0))
    of_subject: dict[str, list[str]] = {}
    for record in records:
        of_subject.setdefault(record.subject, []).append(record.kind)
    kinds = Counter(record.kind for record in records)
    assert kinds["delivery.received"] == kinds["task.queued"] == DELIVERIES, "none is lost, none is there twice"
    for subject, told in of_subject.items():
        if not subject.startswith("task."):
            assert told.count("delivery.redacted") <= 1
            continue
        count = Counter(told)
        assert told[-1] in ENDED, f"{subject} waits or runs, and nobody runs it: {told}"
        assert sum(count[kind] for kind in ENDED) == 1 + count["task.requeued"]
        assert count["task.claimed"] == count["task.completed"] + count["task.failed"]
    named: Counter[int] = Counter()
    for record in records:
        erasure = erasure_of(record.seq, record.data)
        for low, high in erasure.drops if erasure is not None else ():
            named.update(range(low, high + 1))
        if record.kind == "delivery.redacted":
            gone = chain.journal.get(record.data["received"])
            assert gone is not None and gone.payload is None and gone.about is None
    assert max(named.values(), default=0) <= 2, "by retention once, and by a redaction once"
    assert not chain.journal.erasing
    states = chain.store.reader().execute("SELECT count(*) FROM tasks WHERE state IN ('running', 'queued')").fetchone()
    assert states[0] == 0


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("journal.append.PAUSE_S", 0.0)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("shard", [*range(2), *(pytest.param(shard, marks=pytest.mark.deep) for shard in range(2, 10))])
def test_nothing_is_lost_doubled_or_stuck(tmp_path: Path, shard: int) -> None:
    """30 ways a shard: 60 of them, and the other 240 in the deep tests, before those of the next."""
    lost = 0
    for seed in range(shard * 30, shard * 30 + 30):
        try:
            lost += run_in(tmp_path / str(seed), seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    assert lost > 100


@pytest.mark.deep
@pytest.mark.parametrize("shard", range(20))
def test_many_more_ways(tmp_path: Path, shard: int) -> None:
    seeds = range(1000 + shard, 1000 + DEEP, 20)
    assert seeds, "COVENQ_TEST_CHAINS is at least 20"
    for seed in seeds:
        try:
            run_in(tmp_path / str(seed), seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
