"""The same deliveries in covenq and in a database as one would lay them out, asked the same questions.

The database has what the questions ask for: a table of deliveries and one of tasks, with an index for each question. They are
asked over a connection that is open, as covenq is on its socket; what they cost in the end is what whoever asks waits for.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from covenq.cli import bench_client
from covenq.net.http_client import Client
from covenq.paths import SOCKET_NAME
from tests.bench import cli
from tests.bench.compare.kill_intake import ask
from tests.bench.intake import SECRET, Contender
from tests.support.checkout import ROOT, clean_env

PAGE = 50
CLAIMS = 40
"""Tasks that are queued to be claimed and ended one by one."""
FILTERS = {"target": "repo:org7/repo7 number:7", "failed": "state:failed"}
"""Of one pull request; and the newest that failed."""

Rows = list[Any]


class Store(Protocol):
    """A system with deliveries in it, whose processes are a contender's."""

    contender: Contender

    def fill(self, count: int) -> None:
        """Make them, while it doesn't run."""

    def filter(self, name: str) -> Rows: ...
    def why(self, number: int) -> Rows:
        """What it tells of the delivery of that number."""

    def queue(self, count: int) -> None:
        """Have so many tasks that can be claimed."""

    def claim(self) -> None:
        """Claim a task, and end it, each durably."""

    def verify(self) -> None:
        """Check all that it holds, by a command."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def path(self) -> Path:
        """What it holds, on the disk."""


def guid_of(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-{number:012x}"


def failed_in(count: int) -> int:
    """The number of a delivery that failed, from the middle of so many."""
    return count // 2 + (2 - count // 2) % 50


class Covenq:
    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.data = contender.base / "data"

    def fill(self, count: int) -> None:
        cli.build(self.data, count)

    def connect(self) -> None:
        from covenq.tasks.remote.client import ClaimsClient

        self.asking = ClaimsClient(self.data / SOCKET_NAME)

    def disconnect(self) -> None:
        self.asking.close()

    def filter(self, name: str) -> Rows:
        found = Client.get(self.asking, "/api/v1/deliveries", {"filter": FILTERS[name], "limit": str(PAGE)})
        return list(found["items"])

    def why(self, number: int) -> Rows:
        return [self.asking.get("/api/v1/why", {"id": guid_of(number)})]

    def queue(self, count: int) -> None:
        plan = bench_client.LoadPlan("127.0.0.1", self.contender.port, SECRET, 60.0, connections=8, size=1000)
        bench_client.run(plan, count)

    def claim(self) -> None:
        (grant,) = self.asking.claim_all("bench", 60.0, 1, wait_s=5.0)
        self.asking.report(grant, "complete", exit_code=0)

    def verify(self) -> None:
        _run([sys.executable, "-m", "covenq", "verify", "--data", str(self.data)])

    def path(self) -> Path:
        return self.data


TABLES = (
    "CREATE TABLE deliveries (seq {serial} PRIMARY KEY, guid TEXT UNIQUE NOT NULL, event TEXT, action TEXT, repo TEXT,"
    " number INTEGER, sender TEXT, title TEXT, headers TEXT, body {blob})",
    "CREATE TABLE tasks (id {serial} PRIMARY KEY, delivery BIGINT NOT NULL REFERENCES deliveries, route TEXT NOT NULL,"
    " state TEXT NOT NULL, attempt INTEGER NOT NULL, worker TEXT, exit_code INTEGER, ended TEXT)",
)
INDEXES = (
    "CREATE INDEX deliveries_target ON deliveries (repo, number, seq)",
    "CREATE INDEX tasks_delivery ON tasks (delivery)",
    "CREATE INDEX tasks_state ON tasks (state, id)",
)
COLUMNS = "seq, guid, event, action, repo, number, sender, title"
TARGET = f"SELECT {COLUMNS} FROM deliveries WHERE repo = 'org7/repo7' AND number = 7 ORDER BY seq DESC LIMIT {PAGE}"
FAILED = (
    f"SELECT {', '.join('d.' + name for name in COLUMNS.split(', '))} FROM tasks t JOIN deliveries d ON d.seq = t.delivery"
    f" WHERE t.state = 'failed' ORDER BY t.id DESC LIMIT {PAGE}"
)
QUESTIONS = {"target": TARGET, "failed": FAILED}
HEADERS = json.dumps({"X-GITHUB-EVENT": "issues", "CONTENT-TYPE": "application/json"})


def deliveries(count: int) -> Iterator[tuple[object, ...]]:
    """The rows of the deliveries that `cli.entries` makes: theirs are the same numbers, names and bodies."""
    for number in range(count):
        first = cli.entries(number)[0]
        about = dict(first.about or {})
        data = first.data
        yield (
            number + 1,
            str(data["guid"]),
            data["event"],
            data["action"],
            about["repo"],
            about["number"],
            about["sender"],
            about["title"],
            HEADERS,
            bytes(first.payload or b""),
        )


def tasks(count: int) -> Iterator[tuple[object, ...]]:
    """Theirs: which ones have one, failed or wait is said in `cli.entries`."""
    for number in range(count):
        kinds = [entry.kind for entry in cli.entries(number)]
        if "task.queued" in kinds:
            last = kinds[-1].removeprefix("task.")
            code = {"failed": 1, "completed": 0}.get(last)
            yield number + 1, "fix", last, int(last != "queued"), None if last == "queued" else "w1", code


class Sqlite:
    """SQLite with synchronous=FULL."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.file = contender.base / "deliveries.db"

    def fill(self, count: int) -> None:
        db = sqlite3.connect(self.file)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")  # of the filling alone
        for one in TABLES:
            db.execute(one.format(serial="INTEGER", blob="BLOB"))
        places = ", ".join("?" * 10)
        db.executemany(f"INSERT INTO deliveries VALUES ({places})", deliveries(count))
        insert = "INSERT INTO tasks (delivery, route, state, attempt, worker, exit_code) VALUES (?, ?, ?, ?, ?, ?)"
        db.executemany(insert, tasks(count))
        for one in INDEXES:
            db.execute(one)
        db.execute("ANALYZE")
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()

    def connect(self) -> None:
        self.db = sqlite3.connect(self.file, isolation_level=None)
        self.db.execute("PRAGMA synchronous = FULL")

    def disconnect(self) -> None:
        self.db.close()

    def filter(self, name: str) -> Rows:
        return self.db.execute(QUESTIONS[name]).fetchall()

    def why(self, number: int) -> Rows:
        found = self.db.execute("SELECT * FROM deliveries WHERE guid = ?", (guid_of(number),)).fetchall()
        return found + self.db.execute("SELECT * FROM tasks WHERE delivery = ?", (found[0][0],)).fetchall()

    def queue(self, count: int) -> None:
        insert = "INSERT INTO tasks (delivery, route, state, attempt) VALUES (?, 'each', 'queued', 0)"
        self.db.execute("BEGIN")
        self.db.executemany(insert, [(one + 1,) for one in range(count)])
        self.db.execute("COMMIT")

    def claim(self) -> None:
        claimed = self.db.execute(
            "UPDATE tasks SET state = 'running', attempt = attempt + 1, worker = 'bench' WHERE id ="
            " (SELECT id FROM tasks WHERE state = 'queued' ORDER BY id LIMIT 1) RETURNING id"
        ).fetchall()
        self.db.execute("UPDATE tasks SET state = 'completed', exit_code = 0 WHERE id = ?", claimed[0])

    def verify(self) -> None:
        check = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchall())"
        if "('ok',)" not in _run([sys.executable, "-c", check, str(self.file)]):
            raise RuntimeError("SQLite finds its database broken")

    def path(self) -> Path:
        return self.file


class Postgresql:
    """PostgreSQL with its defaults."""

    def __init__(self, contender: Contender) -> None:
        assert contender.database is not None
        self.contender, self.server = contender, contender.database

    def fill(self, count: int) -> None:
        import psycopg

        with psycopg.connect(self.server.dsn) as database:
            extension = database.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'").fetchone()
            if extension is None or not (self.server.programs / "pg_amcheck").is_file():
                raise LookupError("PostgreSQL has no pg_amcheck, which comes with its contributed modules")
            for one in TABLES:
                database.execute(one.format(serial="BIGSERIAL", blob="BYTEA"))
            with database.cursor().copy("COPY deliveries FROM STDIN") as copy:
                for row in deliveries(count):
                    copy.write_row(row)
            columns = "delivery, route, state, attempt, worker, exit_code"
            with database.cursor().copy(f"COPY tasks ({columns}) FROM STDIN") as copy:
                for row in tasks(count):
                    copy.write_row(row)
            database.execute("SELECT setval('deliveries_seq_seq', %s)", (count,))
            for one in INDEXES:
                database.execute(one)
            database.execute("CREATE EXTENSION amcheck")
        with psycopg.connect(self.server.dsn, autocommit=True) as database:
            database.execute("VACUUM ANALYZE")
            database.execute("CHECKPOINT")

    def connect(self) -> None:
        import psycopg

        self.db = psycopg.connect(self.server.dsn, autocommit=True)

    def disconnect(self) -> None:
        self.db.close()

    def filter(self, name: str) -> Rows:
        return self.db.execute(QUESTIONS[name]).fetchall()

    def why(self, number: int) -> Rows:
        found: Rows = self.db.execute("SELECT * FROM deliveries WHERE guid = %s", (guid_of(number),)).fetchall()
        return found + self.db.execute("SELECT * FROM tasks WHERE delivery = %s", (found[0][0],)).fetchall()

    def queue(self, count: int) -> None:
        insert = "INSERT INTO tasks (delivery, route, state, attempt) VALUES (%s, 'each', 'queued', 0)"
        with self.db.transaction():
            self.db.cursor().executemany(insert, [(one + 1,) for one in range(count)])

    def claim(self) -> None:
        claimed = self.db.execute(
            "UPDATE tasks SET state = 'running', attempt = attempt + 1, worker = 'bench' WHERE id = (SELECT id FROM tasks"
            " WHERE state = 'queued' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id"
        ).fetchone()
        self.db.execute("UPDATE tasks SET state = 'completed', exit_code = 0 WHERE id = %s", claimed)

    def verify(self) -> None:
        where = ["-h", str(self.server.directory), "-U", "bench"]
        _run([str(self.server.programs / "pg_amcheck"), *where, "--heapallindexed", "postgres"])

    def path(self) -> Path:
        return self.server.data


STORES = {"covenq": Covenq, "full": Sqlite, "postgres": Postgresql}


def start(store: Store) -> float:
    """Seconds from starting its processes to its first 202."""
    request = bench_client.requests(1, bench_client.LoadPlan("127.0.0.1", 0, SECRET, 1.0, size=1000))[0]
    began = time.perf_counter()
    store.contender.restart()
    status = ask(store.contender.port, request)
    took = time.perf_counter() - began
    if status != b"202":
        raise RuntimeError(f"{store.contender.name} answers its first delivery with {status!r}")
    return took


def on_disk_mib(path: Path) -> float:
    """What its files take."""
    files = [path, *path.rglob("*")] if path.is_dir() else list(path.parent.glob(f"{path.name}*"))
    return sum(one.stat().st_blocks for one in files if one.is_file()) * 512 / (1 << 20)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, env=clean_env(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} exits with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout
