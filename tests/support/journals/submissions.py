"""Submissions for tests of any journal, and the answers that they get."""

from __future__ import annotations

import threading
from collections.abc import Callable

from journal.records import Entry

HANG_S = 60.0
"""Seconds after which an answer that has not come is taken for lost."""


class Answers:
    """The answers to submissions in their order, each with its submission's name, and the calls of `after` among them."""

    def __init__(self) -> None:
        self.given: list[tuple[str, object]] = []
        self._new = threading.Condition()

    def done(self, name: str) -> Callable[[object], None]:
        return lambda answer: self._add(name, answer)

    def after(self) -> None:
        self._add("after", None)

    def _add(self, name: str, answer: object) -> None:
        with self._new:
            self.given.append((name, answer))
            self._new.notify_all()

    def wait(self, count: int) -> list[tuple[str, object]]:
        with self._new:
            assert self._new.wait_for(lambda: len(self.given) >= count, HANG_S), self.given
            return list(self.given)


def submission(number: int, *, expect: int | None = 0) -> Entry:
    return Entry(f"delivery.1.g{number}", "delivery.received", {"n": number}, {"repo": "a/b"}, b'{"a":1}', expect)
