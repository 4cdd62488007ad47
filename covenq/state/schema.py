"""The schema of state.db: a cache of the journal, written by `covenq.state.fold`, read by `covenq.state.query`.

The columns of deliveries, tasks and attempts are the fields of their rows (`covenq.model.rows`); here are the indexes.

The rowid of a delivery or a task is the seq of its first record. So both tables are in order of arrival, and every index on a
column is implicitly one on (column, arrival): rows of one value are in it in order of arrival, and a page of them is read
without sorting them all. That is why no index is on a repository and a number: few rows have the number, whichever repository
they are of. A task is joined to its delivery by that seq, because new tasks are then at the end of the index; in an index on
GUIDs each would be on a page of its own.

What an index costs is the pages that a batch of records changes in it. Where values come in order (times, seqs), or few are
usual (states, events), that is next to nothing; where they don't (names, numbers, hashes), it is one for each row, so what is
rarely asked for, and rare, has a partial index. `tests/state/test_indexes.py` knows which statements need each of them.

Names that GitHub takes for the same in either case are indexed so: what reads them says COLLATE NOCASE, or LIKE.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from covenq.filter.sql import size_class
from covenq.state.tables import ATTEMPTS, DELIVERIES, TASKS
from journal.records import Witness

VERSION = 37
"""Kept in `PRAGMA user_version`. A state.db of any other version is rebuilt from the journal, never migrated."""
MARKED = -1
"""In VERSION's place where the file turned out to be damaged: who has it open goes on, the next opening makes it anew."""

SQLITE_MIN = (3, 35)
"""The oldest SQLite that has what the statements need: UPDATE … FROM, and upserts without a conflict target."""

_OTHERS = """
CREATE TABLE position (journal TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL, sum TEXT NOT NULL);

CREATE TABLE moments (newest INTEGER NOT NULL, ahead INTEGER NOT NULL);

CREATE TABLE starts (scope TEXT NOT NULL, hour TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (scope, hour)) WITHOUT ROWID;

CREATE TABLE names_in_records (seq INTEGER PRIMARY KEY, repo TEXT NOT NULL, repo_id INTEGER);
CREATE TABLE pauses (
    seq INTEGER PRIMARY KEY, what TEXT NOT NULL, name TEXT, repo TEXT, since TEXT NOT NULL, by TEXT, reason TEXT
);

CREATE TABLE scope_bindings (
    subject TEXT PRIMARY KEY, seq INTEGER NOT NULL, secret TEXT NOT NULL, repo TEXT, repo_id INTEGER NOT NULL, since TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE uninstalls (
    installation INTEGER PRIMARY KEY, deletion INTEGER NOT NULL, app INTEGER, state TEXT NOT NULL, seq INTEGER NOT NULL,
    since TEXT NOT NULL, boundary INTEGER, begun INTEGER, by TEXT, reason TEXT
);

CREATE INDEX uninstalls_left ON uninstalls (state, since, installation) WHERE state IN ('waiting', 'erasing');
CREATE INDEX deliveries_uninstalled ON webhook_deliveries (installation, seq)
    WHERE event = 'installation' AND action = 'deleted' AND redacted IS NULL;

CREATE TABLE ledger (
    log TEXT NOT NULL, hour TEXT NOT NULL, seq INTEGER NOT NULL, at TEXT NOT NULL, hook TEXT, listed INTEGER NOT NULL,
    held INTEGER NOT NULL, redelivered INTEGER NOT NULL, fetched INTEGER NOT NULL, unrecoverable INTEGER NOT NULL,
    refused INTEGER NOT NULL, erased INTEGER NOT NULL, before_us INTEGER NOT NULL, not_wanted INTEGER NOT NULL,
    on_its_way INTEGER NOT NULL, open INTEGER NOT NULL, reasons TEXT NOT NULL, PRIMARY KEY (hour, log)
) WITHOUT ROWID;

CREATE TABLE not_held (
    log TEXT NOT NULL, guid TEXT NOT NULL, event TEXT NOT NULL, first_at TEXT NOT NULL, state TEXT NOT NULL, reason TEXT,
    seq INTEGER NOT NULL, PRIMARY KEY (guid, log)
) WITHOUT ROWID;

CREATE INDEX not_held_newest ON not_held (log, first_at);
CREATE INDEX ledger_open ON ledger (hour, log) WHERE open > 0;

CREATE TABLE unrevoked_tokens (
    task TEXT NOT NULL, attempt INTEGER NOT NULL, state TEXT NOT NULL, until TEXT NOT NULL, node TEXT, seq INTEGER NOT NULL,
    PRIMARY KEY (task, attempt)
) WITHOUT ROWID;

CREATE TABLE notes (seq INTEGER PRIMARY KEY, subject TEXT NOT NULL);

CREATE INDEX notes_subject ON notes (subject);

CREATE TABLE rollups (
    level INTEGER NOT NULL, block INTEGER NOT NULL, deliveries INTEGER NOT NULL, failed INTEGER NOT NULL,
    oldest TEXT, newest TEXT, counts TEXT NOT NULL, PRIMARY KEY (level, block)
);

CREATE TABLE usage (
    first INTEGER PRIMARY KEY, month TEXT NOT NULL, installation INTEGER, repo_id INTEGER, familiar TEXT,
    accepted INTEGER NOT NULL, ignored INTEGER NOT NULL, duplicated INTEGER NOT NULL, tasks INTEGER NOT NULL,
    attempts INTEGER NOT NULL, completed INTEGER NOT NULL, failed INTEGER NOT NULL, retried INTEGER NOT NULL,
    micros INTEGER NOT NULL
);
CREATE UNIQUE INDEX usage_group
    ON usage (month, coalesce(installation, ''), coalesce(repo_id, ''), coalesce(familiar, ''));

CREATE INDEX tasks_delivery ON tasks (delivery_seq);
CREATE INDEX tasks_without_delivery ON tasks (guid) WHERE delivery_seq IS NULL;
CREATE INDEX tasks_ready ON tasks (pull, tenant, priority DESC, sent_at)
    WHERE state = 'queued' AND not_before IS NULL;
CREATE INDEX tasks_lane ON tasks (pull, tenant, coalesce(route, ''), coalesce(repo_id, 0), coalesce(key, ''), sent_at)
    WHERE state = 'queued' AND not_before IS NULL;
CREATE INDEX tasks_keyed ON tasks (pull, tenant, key, sent_at)
    WHERE state = 'queued' AND not_before IS NULL AND key IS NOT NULL;
CREATE INDEX tasks_delayed ON tasks (pull, tenant, not_before) WHERE state = 'queued' AND not_before IS NOT NULL;
CREATE INDEX tasks_due ON tasks (pull, not_before) WHERE state = 'queued' AND not_before IS NOT NULL;
CREATE INDEX tasks_rivals ON tasks (route, key, sent_at) WHERE supersede IS NOT NULL;
CREATE INDEX tasks_rivals_left ON tasks (route, key, sent_at)
    WHERE supersede IS NOT NULL AND state IN ('queued', 'running');
CREATE INDEX tasks_order ON tasks (route, repo_id, number, source_at) WHERE source_at IS NOT NULL;
CREATE INDEX tasks_risen ON tasks (last_seq) WHERE state = 'queued' AND coalesce(supersede, source_at) IS NOT NULL;
"""
"""What is there from the start, also of a state.db that is built anew: new rows are at the end of these indexes, or few are in
them. The dispatcher names them."""

ROUTING = """CASE WHEN {0}.state = 'ignored' THEN 'ignored:' || coalesce({0}.reason, '') ELSE (
    SELECT 'task:' || group_concat(id, ',') FROM (
        SELECT t.id FROM tasks t WHERE t.delivery_seq = {0}.seq ORDER BY t.created_seq)) END"""
"""A delivery's routing result, `{0}` being its row. Null: nothing is decided yet."""

_VIEW = f"""CREATE VIEW routing AS
    SELECT d.seq, d.hook, d.guid, {ROUTING.format("d")} AS routing FROM webhook_deliveries d"""  # noqa: S608 - constants

_KEYS = """
CREATE UNIQUE INDEX deliveries_id ON webhook_deliveries (guid, hook);
CREATE INDEX deliveries_body ON webhook_deliveries (substr(payload_sha256, 1, 16));
CREATE UNIQUE INDEX tasks_id ON tasks (id);
CREATE UNIQUE INDEX attempts_id ON task_attempts (task, attempt);
CREATE INDEX attempts_results ON task_attempts (result_seq) WHERE result_seq IS NOT NULL;
"""
"""What the fold finds rows by. Where state.db is built anew, it has `covenq.state.seen` instead."""

_SECONDARY = f"""
CREATE INDEX deliveries_state ON webhook_deliveries (state);
CREATE INDEX deliveries_event ON webhook_deliveries (event);
CREATE INDEX deliveries_repo ON webhook_deliveries (repo COLLATE NOCASE);
CREATE INDEX deliveries_number ON webhook_deliveries (number);
CREATE INDEX deliveries_repo_id ON webhook_deliveries (repo_id);
CREATE INDEX deliveries_installation ON webhook_deliveries (installation);
CREATE INDEX deliveries_sender ON webhook_deliveries (sender COLLATE NOCASE);
CREATE INDEX deliveries_received_at ON webhook_deliveries (received_at);
CREATE INDEX deliveries_dropped ON webhook_deliveries (payload_dropped) WHERE payload_dropped IS NOT NULL;
CREATE INDEX deliveries_redacted ON webhook_deliveries (redacted) WHERE redacted IS NOT NULL;
CREATE INDEX deliveries_secret ON webhook_deliveries (secret, hook);
CREATE INDEX tasks_state ON tasks (state);
CREATE INDEX tasks_repo ON tasks (repo COLLATE NOCASE);
CREATE INDEX tasks_number ON tasks (number);
CREATE INDEX tasks_installation ON tasks (installation);
CREATE INDEX deliveries_sha ON webhook_deliveries (substr(head_sha, 1, 8)) WHERE head_sha IS NOT NULL;
CREATE INDEX deliveries_twin ON webhook_deliveries (twin) WHERE twin IS NOT NULL;
CREATE INDEX deliveries_repeated ON webhook_deliveries (duplicates) WHERE duplicates > 0;
CREATE INDEX deliveries_size ON webhook_deliveries ({size_class("payload_bytes")});
CREATE INDEX tasks_retried ON tasks (attempts, delivery_seq) WHERE attempts > 1;
CREATE INDEX tasks_changed ON tasks (last_seq);
CREATE INDEX tasks_changed_of ON tasks (installation, last_seq, purpose);
CREATE INDEX tasks_changed_in ON tasks (repo_id, last_seq, installation, purpose);
CREATE INDEX tasks_pulls ON tasks (last_seq, installation, repo_id) WHERE pr_number IS NOT NULL;
CREATE INDEX deliveries_ignored ON webhook_deliveries (installation) WHERE state = 'ignored';
"""
"""What only readers need. A partial index is used where a statement has its condition word for word: `covenq.filter.sql`."""


_TALLIES = (
    """CREATE TABLE tallies (
        what TEXT NOT NULL, word TEXT NOT NULL, category TEXT NOT NULL, n INTEGER NOT NULL,
        PRIMARY KEY (what, word, category)
    ) WITHOUT ROWID""",
    """CREATE TABLE ended (
        minute TEXT NOT NULL, outcome TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (minute, outcome)
    ) WITHOUT ROWID""",
    """CREATE TRIGGER ended_new AFTER INSERT ON ended BEGIN
        DELETE FROM ended WHERE minute < strftime('%Y-%m-%dT%H:%M', new.minute, '-1 day');
    END""",
)
"""Counters of the rows in each state and of each outcome of an attempt, so that reading them costs the same at a million
rows; for the last day also the outcomes of each minute."""

_COUNTING = (
    """CREATE TRIGGER deliveries_new AFTER INSERT ON webhook_deliveries BEGIN
        INSERT INTO tallies VALUES ('deliveries', new.state, '', 1) ON CONFLICT DO UPDATE SET n = n + 1;
    END""",
    """CREATE TRIGGER deliveries_moved AFTER UPDATE OF state ON webhook_deliveries WHEN old.state <> new.state BEGIN
        UPDATE tallies SET n = n - 1 WHERE what = 'deliveries' AND word = old.state AND category = '';
        DELETE FROM tallies WHERE what = 'deliveries' AND word = old.state AND category = '' AND n = 0;
        INSERT INTO tallies VALUES ('deliveries', new.state, '', 1) ON CONFLICT DO UPDATE SET n = n + 1;
    END""",
    """CREATE TRIGGER tasks_new AFTER INSERT ON tasks BEGIN
        INSERT INTO tallies VALUES ('tasks', new.state, '', 1) ON CONFLICT DO UPDATE SET n = n + 1;
    END""",
    """CREATE TRIGGER tasks_moved AFTER UPDATE OF state ON tasks WHEN old.state <> new.state BEGIN
        UPDATE tallies SET n = n - 1 WHERE what = 'tasks' AND word = old.state AND category = '';
        DELETE FROM tallies WHERE what = 'tasks' AND word = old.state AND category = '' AND n = 0;
        INSERT INTO tallies VALUES ('tasks', new.state, '', 1) ON CONFLICT DO UPDATE SET n = n + 1;
    END""",
    """CREATE TRIGGER attempts_new AFTER INSERT ON task_attempts WHEN new.outcome IS NOT NULL BEGIN
        INSERT INTO tallies VALUES ('attempts', new.outcome, coalesce(new.category, ''), 1)
            ON CONFLICT DO UPDATE SET n = n + 1;
        INSERT INTO ended VALUES (coalesce(substr(new.ended_at, 1, 16), ''), new.outcome, 1)
            ON CONFLICT DO UPDATE SET n = n + 1;
    END""",
    """CREATE TRIGGER attempts_ended AFTER UPDATE OF outcome ON task_attempts
        WHEN old.outcome IS NULL AND new.outcome IS NOT NULL BEGIN
        INSERT INTO tallies VALUES ('attempts', new.outcome, coalesce(new.category, ''), 1)
            ON CONFLICT DO UPDATE SET n = n + 1;
        INSERT INTO ended VALUES (coalesce(substr(new.ended_at, 1, 16), ''), new.outcome, 1)
            ON CONFLICT DO UPDATE SET n = n + 1;
    END""",
)
"""Triggers that maintain the counters, in the transaction that changes the rows."""

_OLD_GROUP = """pull = old.pull AND tenant = old.tenant AND route = coalesce(old.route, '') AND repo_id = coalesce(old.repo_id, 0)
    AND timed = (old.not_before IS NOT NULL)"""
_ADD_TO_GROUP = """INSERT INTO queue_sizes VALUES (
    new.pull, new.tenant, coalesce(new.route, ''), coalesce(new.repo_id, 0), new.not_before IS NOT NULL, 1
    ) ON CONFLICT DO UPDATE SET n = n + 1"""
_SAME_GROUP = "(old.state = 'queued' AND new.state = 'queued' AND (old.not_before IS NULL) = (new.not_before IS NULL))"
_QUEUE_SIZES = (
    """CREATE TABLE queue_sizes (
        pull INTEGER NOT NULL, tenant TEXT NOT NULL, route TEXT NOT NULL, repo_id INTEGER NOT NULL, timed INTEGER NOT NULL,
        n INTEGER NOT NULL, PRIMARY KEY (pull, tenant, route, repo_id, timed)
    ) WITHOUT ROWID""",
    """CREATE INDEX tasks_grouped ON tasks (pull, tenant, coalesce(route, ''), coalesce(repo_id, 0), not_before)
        WHERE state = 'queued'""",
    *(
        f"""INSERT INTO queue_sizes
        SELECT pull, tenant, coalesce(route, ''), coalesce(repo_id, 0), not_before IS NOT NULL, count(*)
        FROM tasks INDEXED BY tasks_grouped WHERE state = 'queued' AND not_before {those}
        GROUP BY pull, tenant, coalesce(route, ''), coalesce(repo_id, 0)"""  # noqa: S608 - constants
        for those in ("IS NULL", "IS NOT NULL")  # each in the index's order: nothing is sorted
    ),
    f"CREATE TRIGGER tasks_queued AFTER INSERT ON tasks WHEN new.state = 'queued' BEGIN {_ADD_TO_GROUP}; END",
    f"""CREATE TRIGGER tasks_left AFTER UPDATE OF state, not_before ON tasks
        WHEN old.state = 'queued' AND NOT {_SAME_GROUP} BEGIN
        UPDATE queue_sizes SET n = n - 1 WHERE {_OLD_GROUP};
        DELETE FROM queue_sizes WHERE {_OLD_GROUP} AND n = 0;
    END""",  # noqa: S608 - constants
    f"""CREATE TRIGGER tasks_joined AFTER UPDATE OF state, not_before ON tasks
        WHEN new.state = 'queued' AND NOT {_SAME_GROUP} BEGIN {_ADD_TO_GROUP}; END""",
)
"""How many queued tasks each installation, route and repository has, those with a time apart (`timed`), and an index that finds
the oldest of each: what blocks tasks blocks whole groups of these. Not there while the file is built anew: among tasks that all
stay queued the index took a fifth of the time."""


def create(conn: sqlite3.Connection, *, indexes: bool = True) -> None:
    """Drop what exists and make the tables, inside the caller's transaction: readers see either the old or the new ones.

    Without `indexes`, those that `missing_indexes` names are left for later, and so is `count_by_triggers`.
    """
    things = conn.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
    for kind, name in sorted(things, key=lambda thing: str(thing[0]) == "table"):
        if kind in ("table", "view", "index", "trigger"):
            quoted = str(name).replace('"', '""')
            conn.execute(f'DROP {kind} IF EXISTS "{quoted}"')
    for table in (DELIVERIES, TASKS, ATTEMPTS):
        conn.execute(table.definition())
    for statement in (*_statements(_OTHERS), _VIEW, *_TALLIES):
        conn.execute(statement)
    if indexes:
        count_by_triggers(conn)
        for statement in missing_indexes(conn):
            conn.execute(statement)
    conn.execute(f"PRAGMA user_version = {VERSION}")


def count_by_triggers(conn: sqlite3.Connection) -> None:
    """Have triggers count what is written from now on, and count the queue as it is: that was not done before."""
    for statement in (*_COUNTING, *_QUEUE_SIZES):
        conn.execute(statement)


def table_names() -> list[str]:
    """The names of all tables, also of those that are not there while the file is built anew."""
    created = " ".join((_OTHERS, *_TALLIES, *_QUEUE_SIZES))
    return [DELIVERIES.name, TASKS.name, ATTEMPTS.name, *re.findall(r"CREATE TABLE (\w+)", created)]


def routing_select() -> str:
    """What the view `routing` shows."""
    return _VIEW.partition(" AS\n")[2]


def counts_queue(conn: sqlite3.Connection) -> bool:
    """Whether the queue's groups are counted: not yet while the file is built anew."""
    return bool(conn.execute("SELECT count(*) FROM sqlite_master WHERE name = 'queue_sizes'").fetchone()[0])


def missing_indexes(conn: sqlite3.Connection, *, keys_only: bool = False) -> list[str]:
    """The statements that make the indexes which are still missing; `keys_only`, of those that the fold finds rows by."""
    there = {str(row[0]) for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    wanted = _statements(_KEYS) if keys_only else [*_statements(_KEYS), *_statements(_SECONDARY)]
    return [statement for statement in wanted if _index_name(statement) not in there]


def _statements(script: str) -> list[str]:
    return [statement.strip() for statement in script.split(";") if statement.strip()]


def _index_name(statement: str) -> str:
    """The name of the index that it makes."""
    return statement.partition(" INDEX ")[2].partition(" ")[0]


def version(conn: sqlite3.Connection) -> int:
    return int(conn.execute("PRAGMA user_version").fetchone()[0])


@dataclass(frozen=True, slots=True)
class Position:
    """The record up to which the tables are folded, and the journal's epoch then."""

    witness: Witness
    epoch: str

    def __str__(self) -> str:
        return f"record {self.witness.seq} of journal {self.witness.journal}, epoch {self.epoch}"


def position(conn: sqlite3.Connection) -> Position | None:
    """None before the first fold. The version must be VERSION."""
    row = conn.execute("SELECT journal, seq, sum, epoch FROM position").fetchone()
    return None if row is None else Position(Witness(str(row[0]), int(row[1]), str(row[2])), str(row[3]))


def set_position(conn: sqlite3.Connection, witness: Witness, epoch: str) -> None:
    """Called inside the transaction that folds the records up to `witness`, so that rows and position always agree."""
    done = conn.execute(
        "UPDATE position SET journal = ?, epoch = ?, seq = ?, sum = ?",
        (witness.journal, epoch, witness.seq, witness.sum),
    )
    if done.rowcount == 0:
        conn.execute("INSERT INTO position VALUES (?, ?, ?, ?)", (witness.journal, epoch, witness.seq, witness.sum))
