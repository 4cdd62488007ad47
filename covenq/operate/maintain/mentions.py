"""What else names a repository: deliveries of others, whose payloads list it, fork it, or tell of its old name.

An erasure of a repository takes its own deliveries. Those of others stay, and are counted here, so that nobody takes them for
erased too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Sequence

from covenq.model import Kind
from covenq.operate.answers import Mentions
from journal.interface import Reading

SCAN_S = 20.0
"""Seconds that payloads are looked through: what is found until then is a lower bound, and said to be one."""
EXAMPLES = 5


def mentions(
    journal: Reading, names: Sequence[str], own: Collection[str], monotonic: Callable[[], float] = time.monotonic
) -> Mentions:
    """The deliveries, but for `own` (hook/GUID), whose payload has one of the names (OWNER/NAME), in any case. Reads them all."""
    found = 0
    examples: list[str] = []
    until = monotonic() + SCAN_S
    pattern = re.compile(
        rb"(?<![0-9A-Za-z_.-])(?:" + b"|".join(re.escape(name.encode()) for name in names) + rb")(?![0-9A-Za-z_.-])",
        re.I,
    )
    for record in journal.read(0) if names else ():
        if monotonic() > until:
            return Mentions(found, examples, complete=False)
        if record.kind != Kind.RECEIVED or record.payload is None or pattern.search(record.payload) is None:
            continue
        id = f"{record.data.get('hook')}/{record.data.get('guid')}"
        if id not in own:
            found += 1
            if len(examples) < EXAMPLES:
                examples.append(id)
    return Mentions(found, examples)
