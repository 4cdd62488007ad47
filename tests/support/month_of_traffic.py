"""Months of traffic on a journal of real files: the simulated world (`tests.support.simulation`), whose clock goes on by days.

Deliveries are signed requests that the intake receives; what else happens to them and their tasks is the simulation's: claims by
the pool and by workers elsewhere, leases that run out, retries, replays, cancellations, crashes, clocks that are set. Beside it,
deliveries come again, with other bodies too, some are ignored, and some are erased or lose their payload.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from covenq.config.live import Snapshot
from covenq.config.secret_keys import Key
from covenq.intake.receive import Request, receive
from covenq.intake.scope_bindings import ScopeBindings
from covenq.model import DeliveryId
from covenq.model.rows import Delivery
from covenq.operate.maintain import redaction
from covenq.operate.parameters import Redact
from covenq.state import query
from journal.append import erase_known
from journal.file.open import open_journal
from journal.file.settings import WriteSettings
from journal.records import Appended, Conflict, Entry, Head, Record, Unknown
from tests.support.requests import SECRET, signed
from tests.support.simulation import DAY, World

FAMILIARS = {"issue": "cody", "far": "cody", "push": "mona"}
"""Whose the tasks of these routes are."""


class FiledJournal:
    """`simulation.SimJournal`'s other half over the file engine: no faults."""

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self.records: list[Record] = []
        self.watch: Callable[[Record], None] = lambda record: None
        self.engine = open_journal(directory, settings=WriteSettings(idle_s=1e6, clock=clock, segment_bytes=40_000))
        self.id, self.epoch, self.durability = self.engine.id, self.engine.epoch, self.engine.durability
        self._see()

    def _see(self) -> None:
        for record in self.engine.read(len(self.records)):
            self.records.append(record)
            self.watch(record)

    def append(self, entries: Sequence[Entry]) -> Appended | Conflict | Unknown:
        answer = self.engine.append(entries)
        self._see()
        return answer

    def erase(self, entries: Sequence[Entry]) -> None:
        erase_known(self.engine, list(entries))
        self._see()

    def close(self) -> None:
        self.engine.close()

    def read(self, after: int, only: Container[int] | None = None, *, payloads: bool = True) -> Iterator[Record]:
        return self.engine.read(after, only, payloads=payloads)

    def get(self, seq: int) -> Record | None:
        return self.engine.get(seq)

    def last(self, subject: str) -> Record | None:
        return self.engine.last(subject)

    def wait(self, after: int, timeout: float | None) -> bool:
        return self.engine.head().seq > after

    def head(self) -> Head:
        return self.engine.head()


class Months(World):
    """`live_through` makes it happen; the journal is in `directory`."""

    def __init__(self, seed: int, directory: Path, steps: int = 450) -> None:
        super().__init__(seed, steps, journal_of=lambda clock, fault: FiledJournal(directory, clock))
        self.requests: list[Request] = []
        routes = [replace(one, familiar=FAMILIARS.get(one.name)) for one in self.config.routes]
        self.config = replace(self.config, routes=tuple(routes))

    def live_through(self) -> None:
        rng = self.rng
        events = [
            (self.arrive, 6), (self.again, 3), (self.conflict, 1), (self.fetch, 1), (self.get_on, 8), (self.hand_out, 16),
            (self.work, 36), (self.far_claim, 4), (self.far_report, 3), (self.leases, 5), (self.time, 3),
            (self.days, 2), (self.set_clock, 0.3), (self.operate, 6), (self.erase, 1), (self.drop, 0.5),
            (self.stop, 0.2), (self.crash, 0.3),
        ]  # fmt: skip
        acts, weights = [act for act, _ in events], [weight for _, weight in events]
        for act in rng.choices(acts, weights, k=self.steps):
            self.said.append(act.__name__)
            self._guarded(act)
        self.fold(len(self.journal.records))

    def days(self) -> None:
        passed = self.rng.choice([1.0, 4.0, 12.0]) * DAY
        self.now += passed
        self.mono += passed

    def arrive(self) -> None:
        rng = self.rng
        event = rng.choice(["push", "issues", "pull_request", "check_run", "star", "ping"])
        installation = rng.choice([1, 2, None])
        repo = (installation or 7) * 10 + rng.randint(0, 1)
        payload: dict[str, Any] = {"action": "opened", "nonce": rng.random()}
        if rng.random() < 0.9:
            payload["repository"] = {"id": repo, "full_name": f"o{installation}/r{repo}"}
        if installation is not None:
            payload["installation"] = {"id": installation}
        if event in ("issues", "pull_request"):
            thing = {"number": rng.randint(1, 2), "updated_at": "2027-01-15T08:00:00Z", "head": {"sha": "a" * 40}}
            payload["issue" if event == "issues" else event] = thing
        body, headers = signed(event, payload, f"g{self.sent}", "9")
        self.sent += 1
        self.requests.append(Request(list(headers.items()), body))
        self._receive(self.requests[-1])

    def again(self) -> None:
        if self.requests:
            self._receive(self.rng.choice(self.requests))

    def conflict(self) -> None:
        if self.requests:
            known = dict(self.rng.choice(self.requests).headers)
            body, headers = signed(known["X-GitHub-Event"], {"other": True}, known["X-GitHub-Delivery"], "9")
            self._receive(Request(list(headers.items()), body))

    def erase(self) -> None:
        self.fold(len(self.journal.records))
        if self.requests:
            id = "9/" + dict(self.rng.choice(self.requests).headers)["X-GitHub-Delivery"]
            plan = redaction.plan_redact(self.journal, self.conn, Redact(ids=[id]), None)
            for item in map(plan.make, plan.eligible):
                self.journal.erase(getattr(item, "entries", ()))

    def drop(self) -> None:
        seqs = [one.seq for one in self.journal.records if one.kind == "delivery.received" and one.payload is not None]
        if seqs:
            seq = self.rng.choice(seqs)
            data = {"drops": [[seq, seq]], "about": False, "reason": "retention", "by": "daemon"}
            self.journal.erase([Entry("ops.retention", "journal.dropped", data)])

    def _receive(self, request: Request) -> None:
        live = Snapshot(self.config, (Key("test", SECRET.encode()),))
        answer = receive(
            request,
            journal=self.journal,
            live=live,
            bindings=ScopeBindings(self.journal),
            lookup=self._lookup,
            clock=lambda: self.now,
        )
        assert answer.status in (200, 202, 409), answer

    def _lookup(self, id: DeliveryId, seq: int) -> Delivery | None:
        self.fold(len(self.journal.records))
        with suppress(LookupError):
            return query.delivery(self.conn, id.hook, id.guid)
        return None
