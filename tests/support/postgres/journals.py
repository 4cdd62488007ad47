"""Journals in the tests' PostgreSQL: a server a process, started when the first test asks, and ended with the process."""

from __future__ import annotations

import atexit
from functools import cache
from pathlib import Path

import psycopg

from journal.interface import Reader
from journal.postgres.engine import PostgresJournal
from journal.postgres.open import open_journal
from journal.postgres.reader import open_reader
from tests.support.postgres.server import Cluster

MARK = "postgres"
"""The name of a file in the scratch directory of whoever the journal in the server's tables belongs to."""


@cache
def cluster(*, standby: bool) -> Cluster:
    """Skips the test where no server can be run."""
    made = Cluster(standby=standby)
    atexit.register(made.close)
    return made


def open_in(scratch: Path, *, standby: bool) -> PostgresJournal:
    """The journal of this scratch directory: a new one, or, if it had one, the same again. One directory at a time."""
    url = cluster(standby=standby).url
    mark = scratch / MARK
    if not mark.exists():
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("SET client_min_messages = error")
            conn.execute("DROP SCHEMA IF EXISTS covenq CASCADE")
        mark.touch()
    return open_journal(url, node=str(scratch))


def reader_in(scratch: Path, *, standby: bool) -> Reader:
    return open_reader(cluster(standby=standby).url)
