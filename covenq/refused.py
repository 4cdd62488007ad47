"""What is known of requests that were refused: the bounded log that the daemon keeps beside the journal, read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson

from covenq.model import JsonObject

NAME = "refused.jsonl"
LINE_MAX = 16384
"""Bytes of one line; the daemon writes a few hundred."""


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
                    if isinstance(found, dict):
                        yield found
        except OSError:
            continue
