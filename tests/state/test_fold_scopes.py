"""What scopes are bound to, as rows: the newest record of each name, the same whether it is folded live or again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from covenq.model.scope_record import BOUND, UNBOUND, is_scope_subject, subject_of
from covenq.state import fold_scopes
from covenq.state.fold import fold
from journal.records import SUBJECT, Entry
from tests.support.records import as_records, dump, empty_state


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    conn = empty_state()
    yield conn
    conn.close()


def bound(secret: str, repo: str, number: int, *, named: bool = True) -> Entry:
    data = {"secret": secret, "repo_id": number, "hook": "7", "guid": "g"}
    return Entry(subject_of(secret, repo), BOUND, data, {"repo": repo} if named else None)


def unbound(secret: str, repo: str) -> Entry:
    return Entry(
        subject_of(secret, repo), UNBOUND, {"secret": secret, "repo_id": 5, "of": 1, "by": "me", "reason": None}
    )


def rows(conn: sqlite3.Connection, secret: str = "app") -> list[tuple[int, str | None, int]]:
    return [(row["seq"], row["repo"], row["repo_id"]) for row in fold_scopes.of_secret(conn, secret)]


def test_each_name_of_each_secret_has_a_subject_of_its_own() -> None:
    made = {subject_of(secret, name) for secret in ("app", "app2") for name in ("octo/a", "octo/b", "2octo/a")}
    assert len(made) == 6
    assert all(SUBJECT.match(subject) and is_scope_subject(subject) for subject in made)


def test_the_newest_record_of_a_name_is_what_it_is_bound_to(conn: sqlite3.Connection) -> None:
    entries = [
        bound("app", "octo/a", 5),
        bound("app", "octo/b", 6),
        bound("other", "octo/a", 7),
        unbound("app", "octo/b"),
    ]
    fold(conn, as_records([*entries, bound("app", "octo/b", 8), unbound("other", "octo/a"), unbound("app", "octo/c")]))
    assert rows(conn) == [(1, "octo/a", 5), (5, "octo/b", 8)]
    assert rows(conn, "other") == []
    held = [tuple(row) for row in conn.execute("SELECT seq, repo FROM names_in_records ORDER BY seq")]
    assert held == [(1, "octo/a"), (2, "octo/b"), (3, "octo/a"), (5, "octo/b")], "over or not"


def test_an_erased_name_leaves_the_same_rows_live_and_folded_again(conn: sqlite3.Connection) -> None:
    erasure = Entry("ops.redaction", "ops.redacted", {"drops": [[1, 1], [3, 3]], "about": True})
    for record in as_records(
        [bound("app", "octo/a", 5), bound("app", "octo/b", 6), bound("app", "octo/c", 7), erasure]
    ):
        fold(conn, [record])
    again = empty_state()
    try:
        left = [
            bound("app", "octo/a", 5, named=False),
            bound("app", "octo/b", 6),
            bound("app", "octo/c", 7, named=False),
        ]
        fold(again, as_records([*left, erasure]))
        assert rows(conn) == rows(again) == [(1, None, 5), (2, "octo/b", 6), (3, None, 7)]
        assert dump(conn) == dump(again)
    finally:
        again.close()


def test_hostile_records_bind_nothing(conn: sqlite3.Connection) -> None:
    subject = subject_of("app", "octo/a")
    odd = [
        {"secret": "app"},
        {"secret": 5, "repo_id": 5},
        {"secret": "app", "repo_id": "5"},
        {"secret": "app", "repo_id": 1 << 70},
    ]
    fold(conn, as_records([Entry(subject, BOUND, data, {"repo": 7}) for data in odd]))
    fold(
        conn,
        as_records([Entry("ops.other", BOUND, {"secret": "app", "repo_id": 5}), Entry(subject, "ops.x", {})], first=9),
    )
    assert rows(conn) == []
