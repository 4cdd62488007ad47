"""A journal and a state on a directory, and requests to the intake over them, for tests of what it answers and leaves."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from covenq.config.live import Snapshot
from covenq.config.load import Config, build
from covenq.config.secret_keys import Key
from covenq.intake.answer import Answer
from covenq.intake.receive import Request, receive
from covenq.intake.scope_bindings import ScopeBindings
from covenq.model import DeliveryId
from covenq.model.rows import Delivery
from covenq.state import query
from covenq.state.store import StateStore
from journal.file.files import OsFiles
from journal.records import Record
from tests.support.journals.chosen import open_chosen
from tests.support.requests import issue, signed

SECRETS = (Key("new", b"a newer secret"), Key("test", b"a test's webhook secret"))
FORM = "application/x-www-form-urlencoded"


class TightFiles(OsFiles):
    """The real files of a disk that can be told to be full, or to fail its syncs."""

    full = False
    broken = False

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().pwrite(fd, data, offset)

    def fdatasync(self, fd: int) -> None:
        if self.broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().fdatasync(fd)


def config_of(*matches: str) -> Config:
    routes = [{"name": f"r{i}", "match": match, "run": ["true"]} for i, match in enumerate(matches)]
    return build({"route": routes}, None, {})


@dataclass
class House:
    """A journal and a state on a directory, and requests to them."""

    path: Path
    config: Config = field(default_factory=lambda: config_of("event:issues", "action:opened"))
    files: TightFiles = field(default_factory=TightFiles)

    def open(self) -> House:
        self.journal = open_chosen(self.path, files=self.files)
        self.store = StateStore(self.path / "state.db", self.journal)
        return self

    def close(self) -> None:
        self.store.close()
        self.journal.close()

    def reopen(self) -> House:
        self.close()
        return self.open()

    def lookup(self, id: DeliveryId, seq: int) -> Delivery | None:
        assert self.store.catch_up() >= seq
        return query.delivery(self.store.reader(), id.hook, id.guid)

    def row(self, guid: str, hook: str = "9") -> Delivery:
        found = self.lookup(DeliveryId(hook, guid), 0)
        assert found is not None
        return found

    def send(self, request: Request, **more: Any) -> Answer:
        live = Snapshot(more.pop("config", self.config), SECRETS)
        options: dict[str, Any] = {"journal": self.journal, "lookup": self.lookup, **more}
        answer = receive(request, live=live, bindings=ScopeBindings(self.journal), **options)
        json.dumps(answer.body)
        assert (answer.refusal is None) == (answer.status < 300) == answer.body["ok"]
        if answer.refusal:
            assert answer.body["error"] == answer.refusal
            assert answer.body["detail"].endswith(".")
        return answer

    def post(
        self, payload: Any = None, guid: str = "g-1", event: str = "issues", hook: str = "9", **more: Any
    ) -> Answer:
        return self.send(request(payload, guid, event, hook), **more)

    def kinds(self) -> list[str]:
        return [record.kind for record in self.records()]

    def records(self) -> list[Record]:
        return [r for r in self.journal.read(0) if r.kind.startswith(("delivery.", "task."))]


def request(payload: Any = None, guid: str = "g-1", event: str = "issues", hook: str = "9", **options: Any) -> Request:
    body, headers = signed(event, issue() if payload is None else payload, guid, hook, **options)
    return Request(list(headers.items()), body)
