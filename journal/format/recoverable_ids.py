"""Delivery ids that can still be read in damaged bytes: a hint for people, and no proof of anything."""

from __future__ import annotations

import re

from journal.format.codec import SUM_MARK

RECOVERABLE_MAX = 1000
"""Ids that are read out of one piece of damage, and that one record names."""
_LEGIBLE = re.compile(rb'"subject":"delivery\.([0-9A-Za-z_-]{1,64})\.([0-9A-Za-z_-]{1,64})"')
_HOLES = re.compile(rb"[\n\0]+")


def recoverable_ids(data: bytes) -> tuple[str, ...]:
    """Delivery ids (`hook/guid`) in damaged bytes, each once.

    Of each line, or of each part of one beside a hole, only the first id counts, and only if it comes before the line's data
    and content: there anyone can write what looks like an id.
    """
    seen: dict[str, None] = {}
    for part in _HOLES.split(data):
        found = _LEGIBLE.search(part)
        if found is None:
            continue
        content = min((at for at in (part.find(b',"data":{'), part.find(SUM_MARK)) if at >= 0), default=len(part))
        if found.start() < content:
            seen[f"{found[1].decode()}/{found[2].decode()}"] = None
    return tuple(seen)[:RECOVERABLE_MAX]


def recoverable_id(line: bytes) -> str | None:
    """The first delivery id in a damaged line, or None."""
    return next(iter(recoverable_ids(line)), None)
