"""What a system lost and did twice while it was killed, counted from what it said and what was there afterwards.

Counted alike for all: of deliveries, what was answered with a 2xx, against what its store holds at the end; of tasks, what was
queued, against what their work left behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec


class Loss(msgspec.Struct, frozen=True):
    """Of what was acknowledged, what is not there, and what is there more than once."""

    kills: int
    acknowledged: int
    lost: int
    doubled: int
    """How many times too often, in all."""


def count(acknowledged: Iterable[str], there: Iterable[str], kills: int) -> Loss:
    """`there` names each thing as often as it is there. What was not acknowledged may be there or not: nobody was told."""
    promised, found = set(acknowledged), Counter(there)
    return Loss(
        kills,
        len(promised),
        sum(one not in found for one in promised),
        sum(times - 1 for times in found.values()),
    )


def held(deliveries: Iterable[str], tasks: Iterable[str]) -> list[str]:
    """What a journal holds, for `count`: without its task a delivery is as good as lost, and two tasks are one too many."""
    received, queued = Counter(deliveries), Counter(tasks)
    return [guid for guid, times in received.items() if queued[guid] for _ in range(max(times, queued[guid]))]
