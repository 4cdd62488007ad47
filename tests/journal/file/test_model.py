"""The engine against a dictionary: whatever is done in whatever order, it answers as a list of entries would."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from journal.errors import EntryRefused
from journal.file.engine import FileJournal
from journal.file.open import drop_index, open_journal
from journal.file.reader import open_reader
from journal.file.verify import verify
from journal.records import OWN_SUBJECT, Appended, Conflict, Entry, Record, Witness
from tests.support.journals.explorer import NEVER_S, digest

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


class Engine(RuleBasedStateMachine):
    """`records` is what was acknowledged, by seq; `newest` the newest seq of each subject."""

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.root = Path(tempfile.mkdtemp(prefix="covenq-model-", dir=memory if memory.is_dir() else None))
        self.generation = 0
        self.entries: dict[int, Entry] = {}
        self.records: dict[int, Record] = {}
        self.newest: dict[str, int] = {}
        self.journal = self.open()

    @property
    def directory(self) -> Path:
        return self.root / str(self.generation)

    def open(self) -> FileJournal:
        witnesses = []
        if self.records:
            newest = self.records[max(self.records)]
            witnesses = [Witness(self.journal.id, newest.seq, newest.sum)]
        journal = open_journal(self.directory, witnesses=witnesses, cut_at=3000, idle_s=NEVER_S, force_filesystem=True)
        assert journal.recovery.torn is None
        return journal

    def teardown(self) -> None:
        self.journal.close()
        assert verify(self.directory).ok
        shutil.rmtree(self.root)

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

    @rule(seq=st.integers(-1, 60))
    def get(self, seq: int) -> None:
        assert self.journal.get(seq) == self.records.get(seq)

    @rule(subject=SUBJECTS)
    def last(self, subject: str) -> None:
        found = self.journal.last(subject)
        assert found == self.records.get(self.newest.get(subject, 0))

    @rule(indexed=st.booleans())
    def close_and_open(self, indexed: bool) -> None:
        had = len(self.records)
        self.journal.close()
        if not indexed:
            drop_index(self.directory)
        self.journal = self.open()
        self.own()
        assert len(self.records) <= had + 1

    @rule(indexed=st.booleans())
    def crash(self, indexed: bool) -> None:
        """What is on the disk right now goes on under another name, as after a kill; the index as far as it has come."""
        names = [path for path in self.directory.iterdir() if path.is_file() and path.name != "lock"]
        old, self.generation = self.directory, self.generation + 1
        self.directory.mkdir()
        for path in sorted(names, key=lambda path: "index" not in path.name):  # the index first: it may only be behind
            if (indexed and "index" in path.name) or "index" not in path.name:
                shutil.copyfile(path, self.directory / path.name)
        if indexed:
            for name in ("index.sqlite-wal", "index.sqlite-shm"):
                (self.directory / name).unlink(missing_ok=True)
        dying = self.journal
        self.journal = self.open()
        dying.close()
        shutil.rmtree(old)
        self.own()

    @precondition(lambda self: self.records)
    @rule()
    def erase(self) -> None:
        seq = min(self.records)
        entry = Entry("ops.erase", "model.erased", {"drops": [[seq, seq]], "about": True})
        answer, _ = self.journal.erase([entry])
        assert isinstance(answer, Appended)
        for changed in (seq, *answer.seqs):
            found = self.journal.get(changed)
            assert found is not None
            if changed == seq:
                assert found.payload is None and found.about is None
                old = self.records[seq]
                if old.payload is not None or old.about is not None:
                    assert found.dropped == answer.seqs[0]
            self.records[changed] = found
        self.newest["ops.erase"] = answer.seqs[0]

    @rule()
    def another_process_reads(self) -> None:
        with open_reader(self.directory, upto=self.journal.head().seq) as reader:
            assert list(reader.read(0)) == [self.records[seq] for seq in sorted(self.records)]
            for subject, seq in self.newest.items():
                assert reader.last(subject) == self.records[seq]

    @invariant()
    def head_is_the_newest(self) -> None:
        head = self.journal.head()
        assert head.seq == max(self.records, default=0)
        assert head.seq == 0 or head.sum == self.records[head.seq].sum
        assert self.journal.wait(head.seq - 1, 0) is True
        assert self.journal.wait(head.seq, 0) is False


CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


class TestEngine(Engine.TestCase):
    settings = settings(max_examples=25, stateful_step_count=25, suppress_health_check=CHECKS)


@pytest.mark.deep
class TestEngineAtLength(Engine.TestCase):
    settings = settings(max_examples=1500, stateful_step_count=60, suppress_health_check=CHECKS)
