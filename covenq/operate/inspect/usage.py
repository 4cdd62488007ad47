"""Usage of a month by installation, repository and familiar, out of the sums that the fold keeps (`covenq.state.fold_usage`).

What is read is a row for each group of the month, however many deliveries there were. A filter can name what groups are told
apart by, and the present names of their repositories; it is held against the groups, which are few.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final

import orjson
from msgspec import Struct

from covenq.errors import UsageError
from covenq.filter.grammar import Filter
from covenq.model import at_text
from covenq.model.usage import By, Usage, UsageRow, UsageSums
from covenq.state import repositories, schema
from covenq.state.fold_usage import COLUMNS
from covenq.state.readers import snapshot

ALL_MONTHS = "all"
FILTERED_BY = ("installation", "repo", "repo_id", "owner", "familiar")
"""The fields of the grammar that usage has."""
_MONTH = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])\Z")
_KEYS: Final = ("month", "installation", "repo_id", "familiar")
_GROUPED: Final[Mapping[By, str]] = {
    "month": "month",
    "installation": "installation",
    "repository": "repo_id",
    "familiar": "familiar",
}
_SUMS = ", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in COLUMNS)
_GROUPS = "SELECT first, installation, repo_id, familiar FROM usage"


class UsageQuestion(Struct, frozen=True, kw_only=True):
    """What is asked: of one month (2026-11), or of all; by all four keys, or by one; a page of groups, or with `limit` 0 all."""

    filter: Filter
    month: str | None
    by: By | None
    limit: int
    after: int


def question(
    filter: Filter, *, month: str | None, by: str | None, limit: int, after: str | None, now: float
) -> UsageQuestion:
    """The question, checked. Without a month it is of the one that `now` is in. Raises UsageError."""
    month = at_text(now)[:7] if month is None else month
    if month != ALL_MONTHS and not _MONTH.match(month):
        raise UsageError(f"{month[:40]!r} is no month", hint="Write it as 2026-11 (UTC), or all.")
    grouped = next((one for one in _GROUPED if one == by), None)
    if by is not None and grouped is None:
        raise UsageError(f"{by[:40]!r} is nothing to sum up by", hint=f"It is one of {', '.join(_GROUPED)}.")
    others = sorted(filter.fields() - {*FILTERED_BY})
    if others:
        raise UsageError(
            f"usage has no {'time but its month' if others[0] == 'age' else others[0]}",
            hint=f"Its filter has {', '.join(FILTERED_BY)}, and --month says when. `covenq stats` counts by any filter.",
        )
    if after and not (after.isascii() and after.isdecimal() and len(after) <= 18):
        raise UsageError(f"{after[:40]!r} is no cursor", hint="Pass `next` of the page before.")
    if limit < 0:
        raise UsageError(f"a limit of {limit}", hint="0 is all.")
    return UsageQuestion(
        filter=filter,
        month=None if month == ALL_MONTHS else month,
        by=grouped,
        limit=limit,
        after=int(after or 0),
    )


def usage(conn: sqlite3.Connection, asked: UsageQuestion) -> Usage:
    """The answer, from one state of the tables."""
    with snapshot(conn):
        names = _Names(conn)
        where, params = ("1", []) if asked.month is None else ("month = ?", [asked.month])
        if asked.filter.node.nodes:
            found = _matching(conn, asked.filter, where, params, names)
            where, params = "first IN (SELECT value FROM json_each(?))", [orjson.dumps(found).decode()]
        keys = _KEYS if asked.by is None else (_GROUPED[asked.by],)
        shown = ", ".join(f"{name if name in keys else 'NULL'} AS {name}" for name in _KEYS)
        rows = conn.execute(
            f"SELECT min(first) AS begins, {shown}, {_SUMS} FROM usage WHERE {where} GROUP BY {', '.join(keys)}"  # noqa: S608
            " HAVING begins > ? ORDER BY begins LIMIT ?",
            (*params, asked.after, asked.limit + 1 if asked.limit else -1),
        ).fetchall()
        total = conn.execute(f"SELECT {_SUMS} FROM usage WHERE {where}", params).fetchone()  # noqa: S608 - constants
        position = schema.position(conn)
        page = rows[: asked.limit] if asked.limit else rows
        return Usage(
            month=asked.month,
            by=asked.by,
            seq=0 if position is None else position.witness.seq,
            items=[_row(row, names) for row in page],
            next=str(page[-1]["begins"]) if len(page) < len(rows) else None,
            total=_sums(total),
        )


class _Names:
    """The present names of repositories, each looked up once."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._known: dict[int, str | None] = {}

    def of(self, number: int | None) -> str | None:
        if number is None:
            return None
        if number not in self._known:
            self._known[number] = repositories.present_name(self._conn, number)
        return self._known[number]


def _matching(conn: sqlite3.Connection, filter: Filter, where: str, params: Sequence[str], names: _Names) -> list[int]:
    """The groups that match, each by the seq that it begins with."""
    needs_name = bool(filter.fields() & {"repo", "owner"})
    found = []
    for first, installation, repo_id, familiar in conn.execute(f"{_GROUPS} WHERE {where}", params).fetchall():
        repo = names.of(repo_id) if needs_name else None
        fields = {"installation": installation, "repo_id": repo_id, "familiar": familiar}
        fields |= {"repo": repo, "owner": None if repo is None else repo.partition("/")[0]}
        if filter.matches(fields):
            found.append(first)
    return found


def _row(row: sqlite3.Row, names: _Names) -> UsageRow:
    sums = _sums(row)
    return UsageRow(
        **{name: getattr(sums, name) for name in UsageSums.__struct_fields__},
        month=row["month"],
        installation=row["installation"],
        repo_id=row["repo_id"],
        repo=names.of(row["repo_id"]),
        familiar=row["familiar"],
    )


def _sums(row: sqlite3.Row) -> UsageSums:
    counts = {name: row[name] for name in COLUMNS if name != "micros"}
    return UsageSums(**counts, seconds=row["micros"] / 1e6)
