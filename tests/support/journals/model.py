"""The model of any journal: a dictionary of what was acknowledged, which the journal's answers are compared with."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from journal.errors import EntryRefused
from journal.interface import Engine
from journal.records import OWN_SUBJECT, Appended, Conflict, Entry, Record
from tests.support.journals.engines import Open
from tests.support.journals.entries import digest
from tests.support.journals.explorer import scratch

CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
SUBJECTS = st.sampled_from(
    [f"delivery.h.g{number}" for number in range(4)] + [f"task.t{number}" for number in range(3)]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(max_size=8), JSON, max_size=4)
PAYLOADS = (
    st.none()
    | st.binary(max_size=600)
    | st.text(max_size=100).map(str.encode)
    | st.sampled_from(
        [
            b'{"a":1}',
            b'{"a":"\\ud800"}',
            b'{"a":1e999}',
            b"{}",
            b'{"a" :1}\n',
            b"[" * 300,
            b'{"a":' * 200 + b"1" + b"}" * 200,
        ]
    )
)


class JournalModel(RuleBasedStateMachine):
    """`records` is what was acknowledged, by seq; `newest` the newest seq of each subject."""

    journal: Engine

    def __init__(self, engine: Open) -> None:
        super().__init__()
        self.engine = engine
        self.resources = ExitStack()
        self.root: Path = self.resources.enter_context(scratch())
        self.records: dict[int, Record] = {}
        self.newest: dict[str, int] = {}
        self.journal = self.open()

    def open(self) -> Engine:
        return self.engine(self.root)

    def teardown(self) -> None:
        self.journal.close()
        self.resources.close()

    def own(self) -> None:
        """Take up what the journal recorded by itself."""
        for record in self.journal.read(max(self.records, default=0)):
            assert record.subject == OWN_SUBJECT
            self.records[record.seq] = record
            self.newest[OWN_SUBJECT] = record.seq

    @rule(
        drafts=st.lists(st.tuples(SUBJECTS, OBJECTS, st.none() | OBJECTS, PAYLOADS), max_size=4),
        expecting=st.sampled_from(["right", "right", "right", "wrong", "nothing"]),
        off=st.integers(1, 3),
    )
    def append(self, drafts: list[tuple[str, dict, dict | None, bytes | None]], expecting: str, off: int) -> None:
        entries = []
        seen: set[str] = set()
        for subject, data, about, payload in drafts:
            expect = None if expecting == "nothing" or subject in seen else self.newest.get(subject, 0)
            seen.add(subject)
            entries.append(Entry(subject, "model.entry", data, about, payload, expect))
        if expecting == "wrong" and entries:
            last = entries[-1]
            expect = self.newest.get(last.subject, 0) + off
            entries[-1] = Entry(last.subject, last.kind, last.data, last.about, last.payload, expect)
        head = self.journal.head().seq
        try:
            answer = self.journal.append(entries)
        except EntryRefused as error:
            twice = len({entry.subject for entry in entries}) < len(entries) and expecting == "wrong"
            assert twice or "sum" in str(error) or "sum" in str([entry.data for entry in entries])
            assert self.journal.head().seq == head
            return
        wrong = [entry for entry in entries if entry.expect not in (None, self.newest.get(entry.subject, 0))]
        if wrong:
            assert answer == Conflict(wrong[0].subject, self.newest.get(wrong[0].subject, 0))
            assert self.journal.head().seq == head
            return
        assert answer == Appended(tuple(range(head + 1, head + 1 + len(entries))))
        for seq, entry in enumerate(entries, head + 1):
            found = self.journal.get(seq)
            assert found is not None
            assert digest(found) == digest(entry)
            assert found.payload == entry.payload
            assert found.synced == head
            self.records[seq] = found
            self.newest[entry.subject] = seq

    @rule(after=st.integers(0, 60))
    def read(self, after: int) -> None:
        assert list(self.journal.read(after)) == [self.records[seq] for seq in sorted(self.records) if seq > after]

    @rule(after=st.integers(0, 40), only=st.sets(st.integers(-1, 60)))
    def read_only(self, after: int, only: set[int]) -> None:
        expected = [self.records[seq] for seq in sorted(self.records) if seq > after and seq in only]
        assert list(self.journal.read(after, only)) == expected

    @rule(seq=st.integers(-1, 60))
    def get(self, seq: int) -> None:
        assert self.journal.get(seq) == self.records.get(seq)

    @rule(subject=SUBJECTS)
    def last(self, subject: str) -> None:
        found = self.journal.last(subject)
        assert found == self.records.get(self.newest.get(subject, 0))

    def open_again(self) -> None:
        self.journal = self.open()
        self.own()

    @rule()
    def close_and_open(self) -> None:
        had = len(self.records)
        self.journal.close()
        self.open_again()
        assert len(self.records) <= had + 1

    @invariant()
    def head_is_the_newest(self) -> None:
        head = self.journal.head()
        assert head.seq == max(self.records, default=0)
        assert head.seq == 0 or head.sum == self.records[head.seq].sum
        assert self.journal.wait(head.seq - 1, 0) is True
        assert self.journal.wait(head.seq, 0) is False
