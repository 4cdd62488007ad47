"""Journals for tests: the same bytes at every run, with every form a payload can stand in, and copies to damage."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from journal.file.engine import FileJournal
from journal.file.segment import NAME
from journal.records import Entry, Record
from tests.support.journals.opening import open_with

START = 1_800_000_000.0
"""2027-01-15T08:00:00Z"""
NEVER_S = 3600.0
"""An `idle_s` that no test lives to see: the only `journal.synced` is that of the close."""


def deep(levels: int) -> bytes:
    """An object in which `levels` of braces and brackets are open at once."""
    return b'{"d":' * (levels - 1) + b"[]" + b"}" * (levels - 1)


PAYLOADS: dict[str, bytes | None] = {
    "none": None,
    "object": b'{"action":"opened","issue":{"number":7,"title":"caf\xc3\xa9 \\n \\" \xf0\x9f\xa6\x87"},"x":[1,-0.5e-3]}',
    "spaces": b'{ "a" : 1 }',
    "twice": b'{"a":1,"a":2,"a":{}}',
    "huge": b'{"n":' + b"9" * 5000 + b',"f":1e400,"g":-0.0}',
    "lone": b'{"title":"\\ud800 and \\udc00"}',
    "depth128": deep(128),
    "depth129": deep(129),
    "marks": b'{"a":"}","b":{"sum":"0"},"payload":{},"body":"x","dropped":5}',
    "form": b"payload=%7B%22a%22%3A1%7D&x=1",
    "lines": b'{"a":1,\r\n\t"b":2}',
    "nul": b'{"a":"\0"}',
    "controls": bytes(range(1, 32)) + b'"\\/\x7f',
    "array": b"[1,2,3]",
    "nan": b'{"a":NaN}',
    "bom": b'\xef\xbb\xbf{"a":1}',
    "newline_behind": b'{"a":1}\n',
    "text": "€ 𝄞 \u2028".encode(),
    "surrogate_bytes": b'{"a":"\xed\xa0\x80"}',
    "binary": bytes(range(256)),
    "latin": b'{"a":"\xe9"}',
    "base64_like": b'","body64":"AAAA"}',
    "empty": b"",
}
"""A payload for each way in which one can stand in a line, and for each border between two of them."""


class Tokens:
    """`token` for `open_journal`: the same "random" hex at every run."""

    def __init__(self, seed: int = 1) -> None:
        self._numbers = itertools.count(seed)

    def __call__(self, size: int) -> str:
        return f"{next(self._numbers):02x}".rjust(2 * size, "a")


class Clock:
    """A quarter of a second later at every look."""

    def __init__(self, start: float = START) -> None:
        self.now = start

    def __call__(self) -> float:
        self.now += 0.25
        return self.now


def opened(directory: Path, seed: int = 1, **options: Any) -> FileJournal:
    """The journal there, with deterministic times and tokens."""
    given = {"clock": Clock(START + 3600 * (seed - 1)), "token": Tokens(256 * seed), "idle_s": NEVER_S}
    return open_with(directory, **{**given, "force_filesystem": True, **options})


def delivery(name: str, payload: bytes | None = None, *, about: Any = None, **data: Any) -> Entry:
    return Entry(f"delivery.9.{name}", "delivery.received", {"guid": name, **data}, about, payload, 0)


def about_of(number: int) -> dict[str, Any] | None:
    """For two records of three. Its members are named as what stands after a sum, to be taken for it."""
    if number % 3 == 0:
        return None
    return {"repo": "octo/hello", "title": 't "\\', "body64": "AA==", "payload": {"dropped": number}, "body": "x"}


def fill(journal: FileJournal, names: Iterable[str] = PAYLOADS) -> None:
    for number, name in enumerate(names):
        journal.append([delivery(name, PAYLOADS[name], about=about_of(number))])


def segments(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if NAME.match(path.name))


def copy(source: Path, target: Path, *, caches: bool = True) -> Path:
    """A copy to damage; without `caches`, of the segments alone."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(mode=0o700)
    for path in source.iterdir():
        if path.name != "lock" and (caches or NAME.match(path.name)):
            shutil.copyfile(path, target / path.name)
    return target


def bytes_of(directory: Path) -> dict[str, bytes]:
    """All files there but SQLite's, which reading may touch."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if "sqlite" not in path.name}


def alter(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def seen(records: Iterable[Record | dict[str, Any]]) -> list[dict[str, Any]]:
    """Records of the engine and of the independent reader, as what can be compared."""
    return [
        {name: one[name] if isinstance(one, dict) else getattr(one, name) for name in Record.__struct_fields__}
        for one in records
    ]
