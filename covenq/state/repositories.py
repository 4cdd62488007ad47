"""Repositories by their numbers: which ones a name means, and which names one has had.

A repository is its number. Renames and transfers change its name, and a name that was given up is used again, so the rows of one
name may be of several repositories, and those of one repository have several names.
"""

from __future__ import annotations

import sqlite3

from covenq.model.rows import Repository

_NUMBERS = "SELECT DISTINCT repo_id FROM webhook_deliveries WHERE repo = ? COLLATE NOCASE"
_COUNT = "SELECT count(*) FROM webhook_deliveries WHERE repo_id = ? AND redacted IS NULL"
_NAMES = """SELECT repo FROM webhook_deliveries WHERE repo_id = ? AND repo IS NOT NULL
    GROUP BY repo COLLATE NOCASE ORDER BY max(seq) DESC"""
_UNNUMBERED = "SELECT repo, count(*) FROM webhook_deliveries WHERE repo = ? COLLATE NOCASE AND repo_id IS NULL"


def named(conn: sqlite3.Connection, name: str) -> list[Repository]:
    """The repositories that have, or had, that name in any case, the newest number first; then what came without a number."""
    numbers = [row[0] for row in conn.execute(_NUMBERS, (name,))]
    found = [numbered(conn, number) for number in sorted((one for one in numbers if one is not None), reverse=True)]
    if None in numbers:
        spelled, count = conn.execute(_UNNUMBERED, (name,)).fetchone()
        found.append(Repository(None, [spelled], count))
    return found


def numbered(conn: sqlite3.Connection, number: int) -> Repository:
    """The repository of that number, with the names that its deliveries still have, the newest first.

    Its deliveries are those that were not erased, also without a name.
    """
    names = [str(row[0]) for row in conn.execute(_NAMES, (number,))]
    return Repository(number, names, int(conn.execute(_COUNT, (number,)).fetchone()[0]))


def newest(conn: sqlite3.Connection, name: str) -> tuple[int | None, str] | None:
    """The number and the spelling in the newest delivery of that name: whose name it is now. None without a delivery."""
    row = conn.execute(
        "SELECT repo_id, repo FROM webhook_deliveries WHERE seq ="
        " (SELECT max(seq) FROM webhook_deliveries INDEXED BY deliveries_repo WHERE repo = ? COLLATE NOCASE)",
        (name,),
    ).fetchone()
    return None if row is None else (row[0], str(row[1]))


def present_name(conn: sqlite3.Connection, number: int) -> str | None:
    """The name in the newest delivery of the repository of that number; None without one, or where it was erased."""
    row = conn.execute(
        "SELECT repo FROM webhook_deliveries WHERE seq ="
        " (SELECT max(seq) FROM webhook_deliveries INDEXED BY deliveries_repo_id WHERE repo_id = ?)",
        (number,),
    ).fetchone()
    return None if row is None or row[0] is None else str(row[0])


def number_of(conn: sqlite3.Connection, name: str, *, after: int = 0) -> int | None:
    """The number that the first delivery of that name after the seq `after` has; None without one."""
    row = conn.execute(
        "SELECT repo_id FROM webhook_deliveries INDEXED BY deliveries_repo"
        " WHERE repo = ? COLLATE NOCASE AND seq > ? AND repo_id IS NOT NULL ORDER BY seq LIMIT 1",
        (name, after),
    ).fetchone()
    return None if row is None else int(row[0])
