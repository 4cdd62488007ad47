"""Payloads up to the greatest come back as they were; how many there are takes no more memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from journal.postgres import committer
from journal.postgres.engine import PostgresJournal
from journal.postgres.verify import verify
from journal.records import Appended
from tests.support.journals.entries import delivery
from tests.support.postgres.server import HANG_S, Cluster

pytestmark = pytest.mark.postgres

Opened = Callable[[], PostgresJournal]

MIB = 1 << 20
MEASURE = """
import resource, sys
from journal.postgres.lines import TableLines
from journal.postgres.verify import verify

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

url, last = sys.argv[1], int(sys.argv[2])
lines = TableLines(url)
[(header, _)] = lines.segments()
verify(url, upto=1)
sum(map(len, lines.lines(header, 0, 1)))
before = peak()
assert verify(url).damage == []
assert sum(map(len, lines.lines(header, 0, last))) > last << 20
print(peak() - before)
"""


def test_the_greatest_payload_comes_back(opened: Opened, servers: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "HELD_S", HANG_S * 10)  # however slow this machine is
    journal = opened()
    payload = bytes(range(256)) * (64 * MIB // 256)
    assert journal.append([delivery(1)._replace(payload=payload), delivery(2)]) == Appended((1, 2))
    assert journal.get(1).payload == payload  # type: ignore[union-attr]
    assert next(journal.read(0)).payload == payload
    assert verify(servers.url).damage == []


def test_many_large_payloads_are_verified_and_copied_one_at_a_time(opened: Opened, servers: Cluster) -> None:
    journal = opened()
    for number in range(20):
        journal.append([delivery(number)._replace(payload=bytes([97 + number]) * (2 * MIB))])
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, servers.url, "20"], capture_output=True, text=True, check=False, timeout=HANG_S
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 20, "MiB more than for one record: not all 40 at once"
