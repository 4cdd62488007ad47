"""What is known of requests that were refused: the bounded log that the daemon keeps beside the journal, read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson

from covenq.model import JsonObject

NAME = "refused.jsonl"
LINE_MAX = 16384
"""Bytes of one line; the daemon writes a few hundred."""

_FIXED = (("at", str), ("error", str), ("status", int))
"""What each has. Anybody who may write the directory may write anything there; none of it may fail who reads it."""


def read(data: Path) -> Iterator[JsonObject]:
    """Each refusal: {"at", "error", "status", "detail", …}, oldest first. Lines that can't be read are left out: one may be
    on its way to the disk just now. Nothing where there is no log, or it can't be read.
    """
    for name in (f"{NAME}.1", NAME):
        try:
            with (data / name).open("rb") as file:
                while line := file.readline(LINE_MAX):
                    try:
                        found = orjson.loads(line)
                    except orjson.JSONDecodeError:
                        continue
                    if isinstance(found, dict) and all(isinstance(found.get(name), kind) for name, kind in _FIXED):
                        yield found
        except OSError:
            continue
