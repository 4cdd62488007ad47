"""A filter's predicate and its SQL agree on every row, and a filter and its negation split every table in two."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs
from msgspec.structs import asdict

from covenq.filter.explain import node_text
from covenq.filter.grammar import Filter, delivery_fields, parse, task_fields
from covenq.filter.sql import payload_terms, to_sql
from covenq.model import at_text
from covenq.state import query
from covenq.state.fold import fold
from journal.records import Entry
from tests.support.filters import NOW, filters, journals, negated, sql_filters
from tests.support.records import as_records, empty_state, queued, received


class State:
    """A folded journal, with its rows as filters see them."""

    def __init__(self, entries: list[Entry]) -> None:
        self.records = as_records(entries)
        self.conn: sqlite3.Connection = empty_state()
        fold(self.conn, self.records)

    def payload_of(self, seq: int) -> bytes | None:
        return self.records[seq - 1].payload

    def deliveries(self, filter: Filter) -> set[int]:
        page = query.deliveries(self.conn, filter, 0, payload_of=self.payload_of, now=NOW)
        return {item.seq for item in page.items}

    def tasks(self, filter: Filter) -> set[str]:
        return {item.id for item in query.tasks(self.conn, filter, 0, payload_of=self.payload_of, now=NOW).items}

    def deliveries_by_predicate(self, filter: Filter) -> set[int]:
        found = set()
        for item in query.deliveries(self.conn, parse(""), 0).items:
            tasks = query.tasks_of(self.conn, item.hook, item.guid)
            body = query.decode(self.payload_of(item.seq))
            if filter.matches(delivery_fields(asdict(item), [asdict(task) for task in tasks], body), now=NOW):
                found.add(item.seq)
        return found

    def tasks_by_predicate(self, filter: Filter) -> set[str]:
        found = set()
        for item in query.tasks(self.conn, parse(""), 0).items:
            delivery = query.delivery(self.conn, item.hook, item.guid)
            body = query.decode(self.payload_of(delivery.seq))
            if filter.matches(task_fields(asdict(item), asdict(delivery), body), now=NOW):
                found.add(item.id)
        return found


@given(journals(), st.lists(filters, min_size=1, max_size=6))
def test_sql_and_predicate_agree_and_negation_splits_in_two(entries: list[Entry], filters: list[Filter]) -> None:
    state = State(entries)
    try:
        every, every_task = state.deliveries(parse("")), state.tasks(parse(""))
        for filter in filters:
            for one, rest in ((filter, negated(filter)), (negated(filter), negated(negated(filter)))):
                assert state.deliveries(one) == state.deliveries_by_predicate(one), one
                assert state.tasks(one) == state.tasks_by_predicate(one), one
                assert state.deliveries(rest) == every - state.deliveries(one), one
                assert state.tasks(rest) == every_task - state.tasks(one), one
    finally:
        state.conn.close()


@given(journals(), sql_filters)
def test_without_payload_terms_the_condition_is_the_whole_filter(entries: list[Entry], filter: Filter) -> None:
    state = State(entries)
    try:
        assert payload_terms(filter) is None
        for few in (True, False):
            where, params = to_sql(filter, "webhook_deliveries", now=NOW, is_few=lambda *_, few=few: few)
            rows = state.conn.execute(f"SELECT seq, ({where}) FROM webhook_deliveries d", params).fetchall()
            assert {seq for seq, holds in rows if holds} == state.deliveries(filter)
        assert query.count(state.conn, "webhook_deliveries", filter, now=NOW) == len(state.deliveries(filter))
        assert query.count(state.conn, "tasks", filter, now=NOW) == len(state.tasks(filter))
    finally:
        state.conn.close()


@pytest.mark.parametrize(
    ("text", "guids"),
    [
        ("sender:*[bot]", "g1"),
        ("sender:*[?*", "g4"),
        ("sender:*[*", "g1 g4"),
        ("-sender:*[bot]", "g2 g3 g4"),
        ("sender:*]", "g1"),
        ("label:fix", "g1"),
        ("label:good", "g2"),
        ("-label:good", "g1 g3 g4"),
        ("-label:*", "g3 g4"),
        ("route:fix", "g1"),
        ("-route:fix", "g2 g3 g4"),
        ("payload.a:5 -payload.b:*", "g2"),
        ("not:payload.a:5", "g1 g3 g4"),
    ],
)
def test_what_is_special_to_sql_is_not_to_filters(text: str, guids: str) -> None:
    state = State(
        [
            received("g1", about={"sender": "dependabot[bot]", "label": "fix", "labels": ["fix", "good"]}),
            received("g2", about={"sender": "b", "labels": ["good", "bad"]}, payload=b"payload=%7B%22a%22%3A5%7D"),
            received("g3", about={"sender": None, "labels": None}),
            received("g4", about={"sender": "[?", "labels": []}, payload=b"[5"),
            queued("g1"),
        ]
    )
    try:
        seqs = {int(guid[1]) for guid in guids.split()}
        assert state.deliveries(parse(text)) == seqs == state.deliveries_by_predicate(parse(text))
    finally:
        state.conn.close()


@pytest.mark.parametrize(
    ("text", "guids"),
    [
        ("repo:acme/infra", "g1 g2"),
        ("repo:ACME/i*", "g1 g2"),
        ("-repo:acme/Infra", "g3"),
        ("repo:acme/infra,other/É", "g1 g2"),
        ("owner:Acme", "g1 g2"),
        ("owner:*ME", "g1 g2"),
        ("-sender:EvilBot", "g2 g3"),
        ("sender:evil*,MONA", "g1 g2"),
        ("label:BUG", "g1 g2"),
        ("label:b*G", "g1 g2"),
        ("label:é", "g3"),
        ("label:É", ""),
        ("event:Push", ""),
    ],
)
def test_names_are_the_same_in_either_case_as_they_are_to_github(text: str, guids: str) -> None:
    state = State(
        [
            received(
                "g1", event="push", about={"repo": "acme/Infra", "owner": "acme", "sender": "evilbot", "label": "Bug"}
            ),
            received("g2", about={"repo": "ACME/infra", "owner": "Acme", "sender": "Mona", "labels": ["x", "buG"]}),
            received("g3", about={"repo": "other/é", "owner": "other", "sender": None, "labels": ["é"]}),
        ]
    )
    try:
        seqs = {int(guid[1]) for guid in guids.split()}
        assert state.deliveries(parse(text)) == seqs == state.deliveries_by_predicate(parse(text))
        assert node_text(parse(text).node) == text, "spelled as it was typed"
    finally:
        state.conn.close()


@pytest.mark.parametrize(
    "sha", ["a\U0010ffffb", "a\U0010ffff\U0010ffff\U0010ffff", "abcdefg\U0010ffffh", "abcdefgh\U0010ffff"]
)
def test_a_commit_is_found_by_its_beginning_whatever_the_payload_called_it(sha: str) -> None:
    state = State([received("g1", about={"head_sha": sha}), received("g2", about={"head_sha": "b"})])
    try:
        for length in range(1, len(sha) + 1):
            filter = parse(f'sha:"{sha[:length]}"*')
            assert state.deliveries(filter) == {1} == state.deliveries_by_predicate(filter)
            assert state.deliveries(negated(filter)) == {2}
    finally:
        state.conn.close()


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("state:failed", "deliveries_state"),
        ("event:push", "deliveries_event"),
        ("event:issues action:opened", "deliveries_event"),
        ("repo:octo/hello", "deliveries_repo"),
        ("repo:octo/*", "SEARCH d USING INDEX deliveries_"),
        ("repo:Octo/Hello,acme/infra", "SEARCH d USING INDEX deliveries_"),
        ("repo:octo/hello number:12", "deliveries_number"),
        ("number:12 state:failed event:push sender:mona", "deliveries_number"),
        ("repo_id:7 number:12,13", "deliveries_number"),
        ("sha:0a1b2c3d4e5f event:push", "deliveries_sha (<expr>=?)"),
        ("sha:0a1b* repo:octo/hello", "deliveries_sha (<expr>>? AND <expr><?)"),
        ("twin:*", "deliveries_twin"),
        ("twin:g1", "deliveries_twin (twin=?)"),
        ("duplicates>0", "deliveries_repeated (duplicates>?)"),
        ("size>1000 event:push", "deliveries_size (<expr>>?)"),
        ("attempts:2,5..9 state:failed", "tasks_retried"),
        ("-attempts>1 -sha:0a1b", "tasks_retried"),
        ("sender:mona,hubot", "deliveries_sender"),
        ("id:72d3", "deliveries_id"),
        ("id:9/72d3", "deliveries_id"),
    ],
)
def test_these_deliveries_are_found_by_an_index(text: str, index: str) -> None:
    where, params = to_sql(parse(text), "webhook_deliveries", now=NOW)
    plan = _plan("SELECT * FROM webhook_deliveries d", f"{where} ORDER BY d.seq DESC LIMIT 50", params)
    assert index in plan


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("state:failed", "tasks_state"),
        ("id:t0a", "tasks_id"),
        ("guid:g1", "deliveries_id"),
        ("repo:a/b", "tasks_repo"),
        ("repo:a/b number:7", "tasks_number"),
        ("number:7 state:failed", "tasks_number"),
        ("attempts>3", "tasks_retried (attempts>?)"),
        ("twin:g1 size>1000000", "deliveries_twin (twin=?)"),
    ],
)
def test_these_tasks_are_found_by_an_index(text: str, index: str) -> None:
    where, params = to_sql(parse(text), "tasks", now=NOW)
    assert index in _plan("SELECT * FROM tasks t", f"{where} ORDER BY t.created_seq DESC LIMIT 50", params)


@pytest.mark.parametrize(
    "text", ["", "state:failed", "event:push", "repo:a/b", "sender:mona", "secret:app", "event:a repo:a/b"]
)
def test_a_page_is_read_without_sorting_all_of_it(text: str) -> None:
    where, params = to_sql(parse(text), "webhook_deliveries", now=NOW)
    assert "TEMP B-TREE" not in _plan(
        "SELECT * FROM webhook_deliveries d", f"{where} ORDER BY d.seq DESC LIMIT 50", params
    )


@pytest.mark.parametrize("text", ["size>1000", "-size>1000", "twin:*", "duplicates>0", "sha:a*", "attempts>1"])
def test_where_many_match_a_page_is_read_from_the_newest_row_on(text: str) -> None:
    where, params = to_sql(parse(text), "webhook_deliveries", now=NOW, is_few=lambda *_: False)
    plan = _plan("SELECT * FROM webhook_deliveries d", f"{where} ORDER BY d.seq DESC LIMIT 50", params)
    assert "SCAN d" in plan and "INDEX deliveries_" not in plan


@given(
    st.lists(st.integers(0, 1 << 26), min_size=1), st.integers(0, 1 << 26), st.sampled_from(["<", "<=", ">", ">=", ""])
)
@example([255, 256, 1000, 1001, 1023, 4095, 4096, 65535, 65536, 131072], 1000, ">")
@example([4094, 4095, 4096, 4097, 8191, 8192], 4095, ">")
@example([65534, 65535, 65536, 65537], 65535, ">")
def test_sizes_are_found_by_their_class_and_then_exactly(sizes: list[int], bound: int, op: str) -> None:
    conn = empty_state()
    try:
        fold(conn, as_records([received(f"g{number}") for number in range(len(sizes))]))
        conn.executemany(
            "UPDATE webhook_deliveries SET payload_bytes = ? WHERE guid = ?",
            [(size, f"g{number}") for number, size in enumerate(sizes)],
        )
        filter = parse(f"size{op or ':'}{bound}")
        found = {item.guid for item in query.deliveries(conn, filter, 0, now=NOW).items}
        assert found == {f"g{number}" for number, size in enumerate(sizes) if filter.matches({"size": size}, now=NOW)}
    finally:
        conn.close()


def _plan(select: str, where: str, params: list[Any]) -> str:
    conn = empty_state()
    try:
        return str([tuple(row) for row in conn.execute(f"EXPLAIN QUERY PLAN {select} WHERE {where}", params)])
    finally:
        conn.close()


def test_values_never_enter_the_sql() -> None:
    where, params = to_sql(parse("""repo:"x' OR 1=1 --" -sender:"y';" word"""), "webhook_deliveries", now=NOW)
    assert "OR 1=1" not in where and "y'" not in where
    assert params[:2] == ["x' OR 1=1 --", "y';"]


def test_the_largest_filter_runs() -> None:
    conn = empty_state()
    try:
        terms = " ".join(f"-repo:{','.join(f'{n}*{m}' for m in range(9))}" for n in range(100))
        assert query.deliveries(conn, parse(terms)).items == []
        values = ",".join(f"{n}*" for n in range(200))
        assert query.tasks(conn, parse(f"-label:{values} owner:{values} {'a*b' * 500}")).items == []
    finally:
        conn.close()


def test_what_came_before_a_moment_is_found_though_the_clock_was_set_back_and_newer_rows_are_not_looked_through() -> (
    None
):
    """Two thousand rows, the middle ones of a clock that was two hours early; most are newer than most moments asked for."""
    conn = empty_state()
    hours = [6.0 - 5 * seq / 2000 - (2 if 900 < seq <= 1100 else 0) for seq in range(1, 2001)]
    try:
        records = as_records([received(f"g{seq}") for seq in range(1, 2001)])
        fold(
            conn, [structs.replace(one, at=at_text(NOW - ago * 3600)) for one, ago in zip(records, hours, strict=True)]
        )
        for text, moment in [
            (f"{word}:{ago}m", ago / 60) for ago in (1, 70, 110, 200, 270, 330, 359, 400) for word in TIMES
        ]:
            older = [seq for seq, ago in enumerate(hours, 1) if ago > moment]
            expected = older if text.startswith(("before", "-since")) else sorted({*range(1, 2001)} - {*older})
            found = query.deliveries(conn, parse(text), 0, now=NOW).items
            assert [item.seq for item in found] == expected[::-1], text
        assert _steps(conn, "before:400m") < 1000 and _steps(conn, "-since:359m") < 5000
        assert _steps(conn, "since:10m") < 1000 and _steps(conn, "-before:61m") < 5000
        assert max(_steps(conn, f"{word}:200m") for word in TIMES) < 20_000
        assert (
            _steps(conn, "event:none") < 1000 < _steps(conn, "hook:none")
        )  # an index, and none: so the measure measures
    finally:
        conn.close()


TIMES = ("before", "-before", "since", "-since")


def _steps(conn: sqlite3.Connection, text: str) -> int:
    """How many of SQLite's steps the first page takes."""
    taken = 0

    def step() -> int:
        nonlocal taken
        taken += 1
        return 0

    conn.set_progress_handler(step, 1)
    try:
        query.deliveries(conn, parse(text), 50, now=NOW)
    finally:
        conn.set_progress_handler(None, 1)
    return taken
