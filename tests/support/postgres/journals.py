"""Journals in the server of the tests' own process, for the conformance suite: one at a time."""

from __future__ import annotations

from pathlib import Path

import psycopg

from journal.interface import Reader
from journal.postgres.engine import PostgresJournal
from journal.postgres.open import open_journal
from journal.postgres.reader import open_reader
from journal.records import Node
from tests.support.postgres.server import cluster

MARK = "postgres"
"""The name of a file in the scratch directory of whoever the journal in the server's tables belongs to."""


def open_in(scratch: Path, *, standby: bool) -> PostgresJournal:
    """The journal of this scratch directory: a new one, or, if it had one, the same again. One directory at a time."""
    url = cluster(standby=standby).url
    mark = scratch / MARK
    if not mark.exists():
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("SET client_min_messages = error")
            conn.execute("DROP SCHEMA IF EXISTS covenq CASCADE")
        mark.touch()
    return open_journal(url, node=Node(str(scratch)))


def reader_in(scratch: Path, *, standby: bool) -> Reader:
    return open_reader(cluster(standby=standby).url)
