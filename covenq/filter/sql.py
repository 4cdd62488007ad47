"""A filter compiled to SQL over state.db, with the same result as the predicate for every row.

A column that is NULL makes a comparison NULL. `AND` and `OR` never make that true, and every negation is written as
`IS NOT TRUE`, which treats it as false. So SQL's third truth value has no effect. Values are always parameters.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import orjson

from covenq.filter.tree import (
    CASELESS,
    Age,
    And,
    Filter,
    InRange,
    Match,
    Node,
    Not,
    Pattern,
    Payload,
    Word,
    fold_case,
)

Table = Literal["webhook_deliveries", "tasks"]
Ranges = tuple[tuple[int | None, int | None], ...]

_DELIVERY = {
    name: f"d.{name}"
    for name in (
        "hook guid seq event action repo repo_id owner sender installation number ref target state reason duplicates source "
        "secret twin"
    ).split()
} | {"sha": "d.head_sha", "size": "d.payload_bytes", "secret": "+d.secret"}
"""The + keeps SQLite from using the index on secret: it is in order of hooks, and nearly all rows have the same few secrets."""
_DELIVERY_TASKS = {name: f"t.{name}" for name in "route kind purpose familiar worker node category attempts".split()}

_TASK = {
    name: f"t.{name}"
    for name in (
        "id hook guid event action repo repo_id installation number ref target state reason route kind purpose familiar worker "
        "node category attempts"
    ).split()
} | {"sha": "t.head_sha", "seq": "t.delivery_seq"}
_TASK_DELIVERY = {name: f"d.{name}" for name in ("owner", "sender", "duplicates", "source", "secret", "twin")} | {
    "size": "d.payload_bytes"
}

IsFew = Callable[[str, Sequence[object]], bool]
"""Whether a statement, with its parameters, gives few rows. Of many that match, the newest are found sooner than all."""


def size_class(column: str) -> str:
    """The SQL of a size's class, which is not above that of any larger size: steps of 256 bytes, of 4 KiB, of 64 KiB.

    Of sizes an index would change a page for each delivery. The classes that are usual are few, and the rows of one are in it
    in order of arrival.
    """
    return (
        f"CASE WHEN {column} < 4096 THEN {column} >> 8 "
        f"WHEN {column} < 65536 THEN 15 + ({column} >> 12) ELSE 30 + ({column} >> 16) END"
    )


_AS_LARGE = f"{size_class('d.payload_bytes')} >= (SELECT {size_class('low')} FROM (SELECT ? AS low))"  # noqa: S608 - constants
_RARE = {
    "d.head_sha": ("deliveries_sha", "d.head_sha IS NOT NULL", 0),
    "d.twin": ("deliveries_twin", "d.twin IS NOT NULL", 0),
    "d.duplicates": ("deliveries_repeated", "d.duplicates > 0", 0),
    "d.payload_bytes": ("deliveries_size", _AS_LARGE, -1),
    "t.attempts": ("tasks_retried", "t.attempts > 1", 1),
}
"""The columns of which few rows may have what is asked for: their index, what it has of them, and what a number is above.

The index is named, for SQLite, which doesn't know how few they are, would rather look at every row, the newest first."""
_INDEXED = frozenset({"d.state", "d.event", "d.repo", "d.repo_id", "d.sender", "t.state", "t.repo"})
"""The columns whose index isn't used where another term is known to match few rows: many may have an event, or a repository."""
_SHA_DIGITS = 8
"""Of a commit's hash: so many are in the index."""
_SHA_START = f"substr(d.head_sha, 1, {_SHA_DIGITS})"

_SEQ_IN_RARE = {
    ("webhook_deliveries", "d"): "d.seq IN (SELECT d.seq FROM webhook_deliveries d {})",
    ("webhook_deliveries", "t"): "d.seq IN (SELECT t.delivery_seq FROM tasks t {})",
    ("tasks", "d"): "t.delivery_seq IN (SELECT d.seq FROM webhook_deliveries d {})",
    ("tasks", "t"): "t.created_seq IN (SELECT t.created_seq FROM tasks t {})",
}
"""By the table that is filtered, and the one that has the column."""
_ITS_TASKS = "EXISTS (SELECT 1 FROM tasks t WHERE t.delivery_seq = d.seq AND {})"
_ITS_DELIVERY = "EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.seq = t.delivery_seq AND {})"
_OF_DELIVERIES = "t.delivery_seq IN (SELECT d.seq FROM webhook_deliveries d WHERE {})"
_ITS_LABELS = "EXISTS (SELECT 1 FROM json_each(d.labels) WHERE {})"
_LIKE = "LIKE ? ESCAPE '\\'"

_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_NEWEST = "(SELECT max(seq) FROM webhook_deliveries)"
_BOUND = f"""d.seq {{side}} CASE
    WHEN coalesce((SELECT seq FROM webhook_deliveries WHERE received_at > ? ORDER BY received_at LIMIT 1), {_NEWEST})
        {{mostly}} {_NEWEST} / 2
    THEN (SELECT {{end}}(+seq) FROM webhook_deliveries WHERE received_at {{op}} ?)
    ELSE {{all}} END"""  # noqa: S608 - constants
_BEFORE = {"side": "<=", "mostly": "<", "end": "max", "all": _NEWEST}
_SINCE = {"side": ">=", "mostly": ">=", "end": "min", "all": "0"}
"""Seqs aren't in order of time, because clocks are set back. So a page of rows before or since a moment has to look at every
row from the newest on. If few rows are on that side of the moment, the index on time gives the seq where they end (the + makes
SQLite use it), and only the rows up to it are looked at."""

_AFTER_ALL = chr(0x10FFFF) * _SHA_DIGITS
"""Behind a text, the last of all that begin with it and have so many characters more, whatever these are."""
_IN_TASK_IDS = frozenset("t0123456789abcdef")


def to_sql(
    filter: Filter, table: Table, *, now: float | None = None, is_few: IsFew | None = None
) -> tuple[str, list[object]]:
    """(condition, parameters), for a query where `webhook_deliveries` is called `d`, or `tasks` is called `t`.

    Terms on the payload can't be evaluated in SQL and are left out, so that the condition matches too many rows: the caller
    evaluates `payload_terms` on each. `now` as in `Filter.matches`. Without `is_few`, what may be rare is taken to be.
    """
    parts = _SqlBuilder(table, time.time() if now is None else now, is_few or (lambda _sql, _params: True))
    parts.few = any(_is_number(node) or parts.is_rare(node) for node in filter.node.nodes)
    clauses = [parts.clause(node) for node in filter.node.nodes if not _asks_payload(node)]
    return " AND ".join(clauses) or "1", parts.params


def payload_terms(filter: Filter) -> Filter | None:
    """The terms on the payload as a filter, or None."""
    nodes = tuple(node for node in filter.node.nodes if _asks_payload(node))
    return Filter(And(nodes), filter.text) if nodes else None


def _is_number(node: Node) -> bool:
    """Whether it asks for an issue or pull request by its number, or for one of several."""
    return (
        isinstance(node, InRange)
        and node.field == "number"
        and all(low is not None and low == high for low, high in node.ranges)
    )


def _rare_column(node: Node, table: Table) -> str | None:
    """The column of _RARE whose index has all that the term matches; None where there is none."""
    if not isinstance(node, Match | InRange):
        return None
    columns = (_DELIVERY, _DELIVERY_TASKS) if table == "webhook_deliveries" else (_TASK, _TASK_DELIVERY)
    column = next((of[node.field] for of in columns if node.field in of), "")
    if column not in _RARE:
        return None
    if isinstance(node, InRange):
        above = _RARE[column][2]
        return column if all(low is not None and low > above for low, _ in node.ranges) else None
    if column == "d.head_sha" and not all(pattern.chunks[0] for pattern in node.patterns):
        return None
    return column


def _asks_payload(node: Node) -> bool:
    return Filter(And((node,))).needs_payload


@dataclass(slots=True)
class _SqlBuilder:
    """Writes clauses and collects their parameters in order."""

    table: Table
    now: float
    is_few: IsFew
    few: bool = False
    """Whether a term that all of the rows match is known to match few."""
    params: list[object] = field(default_factory=list)
    asked: dict[Node, bool] = field(default_factory=dict)

    def clause(self, node: Node) -> str:
        match node:
            case And(nodes):
                return "(" + (" AND ".join(self.clause(inner) for inner in nodes) or "1") + ")"
            case Not(Age(op, ago, at)):  # the one column that is never NULL
                return self.clause(Age(_OPPOSITE[op], ago, at))
            case Not(inner):
                return f"({self.clause(inner)}) IS NOT TRUE"
            case Age():
                return self.age(node)
            case Word(pattern):
                return self.word(pattern)
            case Match("id", patterns) if self.table == "webhook_deliveries":
                return self.delivery_id(patterns)
            case Match("guid", patterns) if self.table == "tasks":
                # By the delivery, which has an index on it; a task without a delivery is compared itself.
                theirs = _OF_DELIVERIES.format(self.text("d.guid", patterns))
                return f"({theirs} OR (t.delivery_seq IS NULL AND {self.text('t.guid', patterns)}))"
            case Match("label", patterns):
                inner_clause = self.label(patterns)
                return inner_clause if self.table == "webhook_deliveries" else _ITS_DELIVERY.format(inner_clause)
            case Match() | InRange() if (rare := _rare_column(node, self.table)) is not None and self.is_rare(node):
                return _SEQ_IN_RARE[self.table, rare[0]].format(self.rare(rare, node))
            case Match(name) | InRange(name):
                own, other, join = (
                    (_DELIVERY, _DELIVERY_TASKS, _ITS_TASKS)
                    if self.table == "webhook_deliveries"
                    else (_TASK, _TASK_DELIVERY, _ITS_DELIVERY)
                )
                if name in own:
                    return self.column(own[name], node)
                return join.format(self.column(other[name], node))
            case Payload():
                raise AssertionError("payload terms are for the predicate")

    def age(self, node: Age) -> str:
        moment = node.moment(self.now)
        if self.table == "tasks":
            self.params.append(moment)
            return f"t.created_at {node.op} ?"
        self.params.extend((moment, moment, moment))
        bound = _BOUND.format(op=node.op, **(_SINCE if node.op.startswith(">") else _BEFORE))
        return f"(d.received_at {node.op} ? AND {bound})"

    def column(self, column: str, node: Match | InRange) -> str:
        if self.few and column in _INDEXED:
            column = f"+{column}"
        if isinstance(node, InRange):
            return self.in_ranges(column, node.ranges)
        return self.text(column, node.patterns, caseless=node.field in CASELESS)

    def text(self, column: str, patterns: tuple[Pattern, ...], *, caseless: bool = False) -> str:
        """A column of text matches any of the patterns.

        `caseless`: in either case. LIKE and the collation NOCASE fold case, and use an index of that collation; GLOB never does.
        """
        exactly = f"{column} COLLATE NOCASE" if caseless else column
        literals = [p.literal for p in patterns if p.literal is not None]
        clauses = []
        if len(literals) == 1:
            clauses.append(f"{exactly} = ?")
        elif literals:
            clauses.append(f"{exactly} IN ({', '.join('?' * len(literals))})")
        self.params.extend(literals)
        for pattern in patterns:
            if pattern.any:
                clauses.append(f"{column} IS NOT NULL")
            elif pattern.literal is None:
                clauses.append(f"{column} {_LIKE}" if caseless else f"{column} GLOB ?")
                self.params.append(_like(pattern) if caseless else _glob(pattern))
        return _either(clauses)

    def is_rare(self, node: Node) -> bool:
        """Whether few rows match a term, as far as an index can tell."""
        column = _rare_column(node, self.table)
        if column is None or not isinstance(node, Match | InRange):
            return False
        if node not in self.asked:
            apart = _SqlBuilder(self.table, self.now, self.is_few)
            # Of sizes the class alone: the index has no more, and the rows of a class may be many.
            rows = apart.rare(column, node) if column != "d.payload_bytes" else apart.large(node)
            table = "tasks t" if column[0] == "t" else "webhook_deliveries d"
            self.asked[node] = self.is_few(f"SELECT 1 FROM {table} {rows}", apart.params)  # noqa: S608 - constants, and own clauses
        return self.asked[node]

    def rare(self, column: str, node: Match | InRange) -> str:
        """What follows the table's name in a statement for the rows that match."""
        if column == "d.payload_bytes":
            return f"{self.large(node)} AND {self.column(f'+{column}', node)}"
        index, condition, _ = _RARE[column]
        if column == "d.head_sha" and isinstance(node, Match):
            found = _either([self.sha(pattern) for pattern in node.patterns])
        else:
            found = self.column(column, node)
        return f"INDEXED BY {index} WHERE {condition} AND {found}"

    def large(self, node: Match | InRange) -> str:
        """As `rare`, for the rows of a size whose class is no lower than the least that matches."""
        index, condition, _ = _RARE["d.payload_bytes"]
        self.params.append(min(low or 0 for low, _ in node.ranges) if isinstance(node, InRange) else 0)
        return f"INDEXED BY {index} WHERE {condition}"

    def sha(self, pattern: Pattern) -> str:
        """A commit's hash, by its first digits and then the whole of it."""
        start = pattern.chunks[0][:_SHA_DIGITS]
        self.params.extend((start,) if pattern.literal is not None else (start, start + _AFTER_ALL))
        found = f"{_SHA_START} = ?" if pattern.literal is not None else f"{_SHA_START} BETWEEN ? AND ?"
        # The +: SQLite would put the value in the column's place also in the expression, and not find the index's.
        return f"({found} AND {self.text('+d.head_sha', (pattern,))})"

    def in_ranges(self, column: str, ranges: Ranges) -> str:
        clauses = []
        for low, high in ranges:
            if low is None and high is None:
                clauses.append(f"{column} IS NOT NULL")
            elif low == high:
                clauses.append(f"{column} = ?")
                self.params.append(low)
            elif low is not None and high is not None:
                clauses.append(f"{column} BETWEEN ? AND ?")
                self.params.extend((low, high))
            else:
                clauses.append(f"{column} >= ?" if high is None else f"{column} <= ?")
                self.params.append(low if high is None else high)
        return _either(clauses)

    def delivery_id(self, patterns: tuple[Pattern, ...]) -> str:
        clauses = []
        for pattern in patterns:
            hook, slash, guid = (pattern.literal or "").rpartition("/")
            if slash:  # the index has both columns, but not their concatenation
                clauses.append("(d.guid = ? AND d.hook = ?)")
                self.params.extend((guid, hook))
            else:
                clauses.append(self.text("d.guid", (pattern,)))
                if pattern.literal is None and not pattern.any:
                    clauses.append(self.text("(d.hook || '/' || d.guid)", (pattern,)))
        return _either(clauses)

    def label(self, patterns: tuple[Pattern, ...]) -> str:
        own = self.text("d.label", patterns, caseless=True)
        hint = ""
        if all(p.literal is not None for p in patterns):
            # If the list's text doesn't contain the label's text, the label isn't in the list: most lists need not be parsed.
            hint = _either(["instr(lower(d.labels), ?)"] * len(patterns)) + " AND "
            self.params.extend(orjson.dumps(fold_case(p.literal or "")).decode() for p in patterns)
        any_label = _ITS_LABELS.format(self.text("value", patterns, caseless=True))
        return f"({own} OR (d.label IS NULL AND {hint}{any_label}))"

    def word(self, pattern: Pattern) -> str:
        alias = "d" if self.table == "webhook_deliveries" else "t"
        own = [f"coalesce({alias}.repo || '#' || {alias}.number, {alias}.repo)", f"{alias}.hook || '/' || {alias}.guid"]
        like = _like(pattern)
        if alias == "d":
            own.append("d.title")
        else:
            own.append("t.id")
        clauses = [f"({column}) {_LIKE}" for column in own]
        self.params.extend([like] * len(own))
        if alias == "t":
            clauses.append(_ITS_DELIVERY.format(f"d.title {_LIKE}"))
            self.params.append(like)
        elif _IN_TASK_IDS.issuperset("".join(pattern.chunks)):  # else no task id can contain it
            clauses.append(_ITS_TASKS.format(f"t.id {_LIKE}"))
            self.params.append(like)
        return _either(clauses)


def _either(clauses: list[str]) -> str:
    return clauses[0] if len(clauses) == 1 else f"({' OR '.join(clauses)})"


def _glob(pattern: Pattern) -> str:
    """SQLite's GLOB with only `*` special."""
    return "*".join(re.sub(r"[*?[]", r"[\g<0>]", chunk) for chunk in pattern.chunks)


def _like(pattern: Pattern) -> str:
    """SQLite's LIKE, which takes ASCII letters in either case, with only stars special."""
    return "%".join(re.sub(r"[%_\\]", r"\\\g<0>", chunk) for chunk in pattern.chunks)
