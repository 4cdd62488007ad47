"""The engine, broken on purpose: each mutant is one small change of the source, and the test that must catch it.

As a pytest plugin (`-p mutants`, with COVENQ_MUTANT naming one) it puts the broken module in place before anything imports
it. A change whose text is no longer in the source is an error, so that the table can't rot.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

EXPLORE = "test_explorer.py::test_no_crash_loses_an_acknowledged_record"


@dataclass(frozen=True)
class Mutant:
    module: str
    old: str
    new: str
    caught_by: str


MUTANTS = {
    "no directory fsync": Mutant(
        "journal.file.files",
        "    files.rename(temporary, path)\n    files.fsync_dir(path.parent)\n",
        "    files.rename(temporary, path)\n",
        f"{EXPLORE}[rotation]",
    ),
    "rename before the sync": Mutant(
        "journal.file.files",
        "        write_all(files, fd, content, 0)\n        _sync(files, fd)\n",
        "        write_all(files, fd, content, 0)\n",
        f"{EXPLORE}[rotation]",
    ),
    "short write ignored": Mutant(
        "journal.file.files",
        "        view = view[written:]\n",
        "        view = view[len(view) :]\n",
        "test_faults.py::test_short_writes_of_every_length",
    ),
    "waiters woken before the sync": Mutant(
        "journal.file.committer",
        "        began = time.perf_counter()\n        try:\n            self.files.fdatasync(tail.fd)\n",
        "        for request in accepted:\n"
        "            request.resolve(Appended(tuple(one.seq for one in records)))\n"
        "        began = time.perf_counter()\n        try:\n            self.files.fdatasync(tail.fd)\n",
        "test_engine.py::test_nothing_un_synced_is_seen_by_anyone",
    ),
    "un-synced seq shown to a reader": Mutant(
        "journal.file.committer",
        "        began = time.perf_counter()\n        try:\n            self.files.fdatasync(tail.fd)\n",
        "        self._publish(records, Head(records[-1].seq, records[-1].sum))\n"
        "        began = time.perf_counter()\n        try:\n            self.files.fdatasync(tail.fd)\n",
        "test_engine.py::test_nothing_un_synced_is_seen_by_anyone",
    ),
    "Conflict answered before the sync": Mutant(
        "journal.file.committer",
        "                request.pending = Conflict(conflict[0], conflict[1])\n",
        "                request.resolve(Conflict(conflict[0], conflict[1]))\n",
        "test_engine.py::test_a_conflict_within_a_batch_waits_for_its_sync",
    ),
    "submitters told before the sync": Mutant(
        "journal.file.committer",
        "        began = time.perf_counter()\n        try:\n            self.files.fdatasync(tail.fd)\n",
        "        for one in accepted:\n            if one.after:\n                one.resolve(Appended((tail.seq + 1,)))\n"
        "        began = time.perf_counter()\n        try:\n            self.files.fdatasync(tail.fd)\n",
        "test_submit.py::test_nobody_is_told_before_the_sync_and_everybody_once_after_it",
    ),
    "watermark early": Mutant(
        "journal.file.committer",
        "line, total = encode_line(one, seq=seq, at=at, synced=synced, prev=prev, salted=salted)",
        "line, total = encode_line(one, seq=seq, at=at, synced=seq - 1, prev=prev, salted=salted)",
        f"{EXPLORE}[batches]",
    ),
    "no sync at all": Mutant(
        "journal.file.committer",
        "        began = time.perf_counter()\n        try:\n            self.files.fdatasync(tail.fd)\n",
        "        began = time.perf_counter()\n        try:\n            pass\n",
        f"{EXPLORE}[appends]",
    ),
    "a failed sync tried again": Mutant(
        "journal.file.committer",
        "        began = time.perf_counter()\n        try:\n            self.files.fdatasync(tail.fd)\n",
        "        began = time.perf_counter()\n        try:\n            try:\n                self.files.fdatasync(tail.fd)\n"
        "            except OSError:\n                self.files.fdatasync(tail.fd)\n",
        "test_faults.py::test_a_failed_sync_poisons_and_is_never_tried_again",
    ),
    "cut back without a sync": Mutant(
        "journal.file.committer",
        "            self.files.truncate(tail.fd, tail.offset)\n            self.files.fdatasync(tail.fd)\n",
        "            self.files.truncate(tail.fd, tail.offset)\n",
        "test_faults.py::test_a_failed_write_is_cut_back_and_the_journal_goes_on",
    ),
    "not cut back": Mutant(
        "journal.file.committer",
        "            self._truncate_batch(error)\n",
        "",
        "test_faults.py::test_a_failed_write_is_cut_back_and_the_journal_goes_on",
    ),
    "the file's name not looked at": Mutant(
        "journal.file.committer",
        "        self._check_name()\n",
        "",
        "test_engine.py::test_a_replaced_segment_is_noticed_before_anything_is_promised",
    ),
    "the proof closed after itself": Mutant(
        "journal.file.committer",
        "return self.tail.last_kind != SYNCED_KIND and ",
        "return ",
        "test_engine.py::test_the_proof_is_closed_once_and_never_after_itself",
    ),
    "tail adopted without the rewrite": Mutant(
        "journal.file.recovery",
        "        if found.end > found.unproven_from:\n            rewrite(",
        "        if False:\n            rewrite(",
        "test_faults.py::test_after_a_failed_sync_what_is_adopted_is_written_again",
    ),
    "torn bytes not saved": Mutant(
        "journal.file.recovery",
        "            save_torn(files, directory, fd, found.torn)\n",
        "            pass\n",
        "test_recovery.py::test_a_torn_tail_is_saved_cut_and_recorded",
    ),
    "later lines not asked what they prove": Mutant(
        "journal.file.examine",
        "seen.append(open_envelope(later, header.salted).synced)",
        "open_envelope(later, header.salted)",
        "test_recovery.py::test_a_later_line_proves_that_the_earlier_ones_were_durable",
    ),
    "the mark of a clean close not believed": Mutant(
        "journal.file.examine",
        "read_mark(files, directory) if use_mark else None",
        "None",
        "test_recovery.py::test_the_mark_of_a_clean_close_knows_how_long_the_log_was",
    ),
    "header not doubled": Mutant(
        "journal.file.segment",
        "publish(files, directory / name_of(first), line * 2)",
        "publish(files, directory / name_of(first), line)",
        f"{EXPLORE}[appends]",
    ),
    "no salt": Mutant(
        "journal.format.codec",
        "self.start = hashlib.sha256(salt.encode())",
        "self.start = hashlib.sha256()",
        "test_codec.py::test_a_line_belongs_to_its_salt",
    ),
    "position written before its rows": Mutant(
        "journal.file.catalogue",
        "                self._index.begin()\n",
        "                self._index.begin()\n                self._index.commit(lots[-1][1])\n"
        "                self._index.begin()\n",
        "test_mutants.py::test_an_index_that_stops_between_rows_and_position_is_only_behind",
    ),
    "rewritten segment not synced": Mutant(
        "journal.file.erase",
        "                files.fdatasync(fd)\n",
        "",
        f"{EXPLORE}[erasing]",
    ),
}


def _install(name: str) -> None:
    mutant = MUTANTS[name]
    spec = importlib.util.find_spec(mutant.module)
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        sys.exit(f"mutant {name!r}: its text is {source.count(mutant.old)} times in {mutant.module}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[mutant.module] = module
    exec(compile(source.replace(mutant.old, mutant.new), spec.origin, "exec"), module.__dict__)


if "COVENQ_MUTANT" in os.environ:
    _install(os.environ["COVENQ_MUTANT"])
