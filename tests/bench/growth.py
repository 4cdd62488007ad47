"""How a journal grows in PostgreSQL beside one in files: python tests/bench/growth.py [--deliveries 10000] [--dir DIR].

Each delivery has a body of 8 KiB and one task, and makes the seven records that it makes in a daemon, by appends of
`--each` deliveries. In the same run, of either engine: the bytes that a delivery takes in tables, indexes and the
write-ahead log, or in files; how long a state.db takes that is made anew, and one that lacks the last hundredth; how long
`verify` takes; and the most memory that each had. Ratios are to the files. `--checkpoint N` has the server make a checkpoint each
N deliveries, as one does every five minutes, however few came: more of the write-ahead log is whole pages then. A million
deliveries take some 40 GB of --dir.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

# This folder has a journal.py and a postgres.py, and a script's folder comes first on the path.
HERE = Path(__file__).resolve().parent
sys.path[:] = [str(HERE.parents[1]), *(entry for entry in sys.path if Path(entry or ".").resolve() != HERE)]

from covenq.state.store import StateStore  # noqa: E402
from journal.file.open import open_journal as open_files  # noqa: E402
from journal.file.reader import open_reader as read_files  # noqa: E402
from journal.file.verify import verify as verify_files  # noqa: E402
from journal.interface import Engine, Reader  # noqa: E402
from journal.records import Appended, Entry  # noqa: E402
from journal.reports import VerifyReport  # noqa: E402
from tests.bench.journal import payload  # noqa: E402
from tests.bench.postgres import Postgres  # noqa: E402
from tests.support.records import moved, of, queued, received  # noqa: E402

RECORDS = 7
"""Of a delivery whose one task completes at the first attempt."""
HEADERS = [
    ["Content-Type", "application/json"],
    ["User-Agent", "GitHub-Hookshot/0123456"],
    ["X-GitHub-Delivery", "01234567-89ab-cdef-0123-456789abcdef"],
    ["X-GitHub-Event", "issues"],
    ["X-GitHub-Hook-ID", "446581321"],
    ["X-GitHub-Hook-Installation-Target-ID", "271828182"],
    ["X-GitHub-Hook-Installation-Target-Type", "repository"],
    ["X-Hub-Signature-256", "sha256=" + 64 * "0"],
]


def guid_of(number: int) -> str:
    """Of random look, as GitHub's: what an index has of them is all over it."""
    mixed = f"{number * 0x9E3779B97F4A7C15 % (1 << 64):016x}"
    return f"{mixed[:8]}-{mixed[8:12]}-11ef-{mixed[12:]}-{number:012x}"


def append(journal: Engine, entries: list[Entry]) -> int:
    """The seq of the first of them."""
    answer = journal.append(entries)
    assert isinstance(answer, Appended), answer
    return answer.seqs[0]


def fill(journal: Engine, start: int, end: int, each: int, body: bytes) -> Iterator[int]:
    """Append deliveries and what becomes of them; yields how many there are, now and then."""
    for low in range(start, end, each):
        guids = [guid_of(number) for number in range(low, min(low + each, end))]
        tasks = [of(guid) for guid in guids]
        came = [[received(guid, payload=body, headers=HEADERS, tasks=[of(guid)]), queued(guid)] for guid in guids]
        append(journal, [entry for pair in came for entry in pair])
        claim = append(journal, [moved("claimed", task, attempt=1, worker="machine-1-0a1b2c") for task in tasks])
        rest = []
        for task in tasks:
            rest += [
                moved("phase", task, attempt=1, claim=claim, phase=one) for one in ("prepared", "started", "collected")
            ]
            usage = {"user_s": 0.012345, "system_s": 0.001, "max_rss": 71753728}
            rest.append(moved("completed", task, attempt=1, claim=claim, exit_code=0, result=None, usage=usage))
            claim += 1
        append(journal, rest)
        yield low + len(guids)


class Took(NamedTuple):
    """What a child of this process measured: records, wall clock, the processor's time and the most memory, in MiB, of itself or
    of those that it started."""

    records: int
    seconds: float
    processor: float
    mib: int

    @property
    def rate(self) -> float:
        return self.records / self.seconds

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.rate:,.0f} records/s ({self.processor:.1f} s of processor), {self.mib} MiB at most"


@dataclass(frozen=True)
class Place:
    """Where one engine's journal is. `address` is a directory, or how to connect to a database."""

    name: str
    address: str

    def open(self) -> Engine:
        if self.name == "files":
            return open_files(Path(self.address), force_filesystem=True)
        from journal.postgres.open import open_journal

        return open_journal(self.address)

    def reader(self) -> Reader:
        if self.name == "files":
            return read_files(Path(self.address))
        from journal.postgres.reader import open_reader

        return open_reader(self.address)

    def verify(self) -> VerifyReport:
        if self.name == "files":
            return verify_files(Path(self.address))
        from journal.postgres.verify import verify

        return verify(self.address)

    def measured(self, what: str, state: Path) -> Took:
        """A child that folds into `state`, or verifies: it alone is in its memory."""
        command = [sys.executable, str(Path(__file__).resolve()), "--child", what, self.name, self.address, str(state)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{what} of the {self.name} failed:\n{done.stderr}")
        return Took(*json.loads(done.stdout))


def child(what: str, place: Place, state: Path) -> None:
    began = time.perf_counter()
    if what == "verify":
        report = place.verify()
        assert report.ok, report.damage
        records = report.records
    else:
        with place.reader() as reader, StateStore(state, reader) as store:
            before = store.folded
            store.catch_up()
            records = store.folded - before
    seconds = time.perf_counter() - began
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    processor = sum(one.ru_utime + one.ru_stime for one in used)
    print(json.dumps([records, seconds, processor, max(one.ru_maxrss for one in used) >> 10]))


class Sizes(NamedTuple):
    """Bytes."""

    tables: int
    indexes: int
    log: int

    def each(self, deliveries: int) -> str:
        one = [f"{size / deliveries:,.0f}" for size in self]
        return f"{one[0]} bytes a delivery in its tables, {one[1]} in their indexes, {one[2]} in the write-ahead log"


_SIZES = """SELECT coalesce(sum(pg_table_size(c.oid)), 0)::bigint, coalesce(sum(pg_indexes_size(c.oid)), 0)::bigint,
    pg_current_wal_lsn() - '0/0'::pg_lsn
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'covenq' AND c.relkind = 'r'"""


class Server:
    """The database, asked for its sizes, and for checkpoints."""

    def __init__(self, dsn: str) -> None:
        import psycopg

        self._conn = psycopg.connect(dsn, autocommit=True)

    def sizes(self) -> Sizes:
        row = self._conn.execute(_SIZES).fetchone()
        assert row is not None
        return Sizes(*map(int, row))

    def checkpoint(self) -> None:
        self._conn.execute("CHECKPOINT")

    def close(self) -> None:
        self._conn.close()


class Measured(NamedTuple):
    appended_s: float
    anew: Took
    behind: Took
    verified: Took


def measure(place: Place, server: Server | None, given: argparse.Namespace, scratch: Path) -> Measured:
    count, body = given.deliveries, payload(given.bytes)
    known = count - max(count // 100, 1)
    state = scratch / f"{place.name}.db"
    took = 0.0
    anew = None
    for start, end in ((0, known), (known, count)):
        began = said = time.monotonic()
        with closing(place.open()) as journal:
            for done in fill(journal, start, end, given.each, body):
                if server is not None and given.checkpoint and done % given.checkpoint < given.each:
                    server.checkpoint()
                if time.monotonic() - said > 10:
                    said = time.monotonic()
                    left = (said - began) * (end - done) / (done - start)
                    print(f"  {place.name}: {done:,} of {count:,} deliveries, {left:,.0f} s to go", file=sys.stderr)
        took += time.monotonic() - began
        print(f"  {place.name}: {end:,} of {count:,} deliveries; now the fold", file=sys.stderr)
        found = place.measured("fold", state)
        anew, behind = (found, found) if anew is None else (anew, found)
    print(f"  {place.name}: now verify", file=sys.stderr)
    assert anew is not None
    return Measured(took, anew, behind, place.measured("verify", state))


def report(name: str, found: Measured, given: argparse.Namespace) -> None:
    print(f"{name}: {given.deliveries:,} deliveries of {given.bytes:,} bytes, {given.deliveries * RECORDS:,} records")
    print(f"  appended at {given.deliveries / found.appended_s:,.0f} deliveries/s, {given.each} at a time")
    print(f"  state.db made anew: {found.anew}")
    print(f"  state.db that lacks the last hundredth: {found.behind}")
    print(f"  verify: {found.verified}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deliveries", type=int, default=10_000)
    parser.add_argument("--bytes", type=int, default=8192)
    parser.add_argument("--each", type=int, default=64, help="deliveries in one append")
    parser.add_argument("--checkpoint", type=int, default=0, metavar="N", help="a checkpoint each N deliveries")
    parser.add_argument("--dir", type=Path, default=Path.cwd())
    given = parser.parse_args()
    if given.deliveries < 1 or given.each < 1:
        parser.error("of nothing there are no figures")
    with tempfile.TemporaryDirectory(prefix="covenq-bench-", dir=given.dir) as made:
        scratch = Path(made)
        try:
            database = Postgres(scratch)
        except LookupError as reason:
            raise SystemExit(f"there is no PostgreSQL to measure: {reason}") from None
        try:
            files = Place("files", str(scratch / "journal"))
            in_files = measure(files, None, given, scratch)
            report("files", in_files, given)
            size = sum(path.stat().st_size for path in Path(files.address).rglob("*") if path.is_file())
            print(f"  {size / given.deliveries:,.0f} bytes a delivery")
            with closing(Server(database.dsn)) as server:
                place = Place("tables", database.dsn)
                place.open().close()
                before = server.sizes()
                in_tables = measure(place, server, given, scratch)
                after = server.sizes()
            report(f"PostgreSQL {database.version()}", in_tables, given)
            print(f"  {after._replace(log=after.log - before.log).each(given.deliveries)}")
            for what in ("anew", "behind", "verified"):
                ours, theirs = getattr(in_tables, what), getattr(in_files, what)
                print(f"{what}: {ours.rate / theirs.rate:.2f} × the files' records/s")
            print(f"bytes kept: {(after.tables + after.indexes) / size:.2f} × the files'")
        finally:
            database.discard()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Place(sys.argv[3], sys.argv[4]), Path(sys.argv[5]))
    else:
        main()
