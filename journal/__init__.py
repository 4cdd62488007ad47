"""An append-only, hash-chained log of records, fsynced before it answers. Knows nothing of GitHub, tasks or HTTP.

The promise: when `append` returns Appended, its entries are durable, and only then can anyone read them. The entries of one call
are appended all or none; only a crash during the call may leave a prefix of them. Damage is reported, never hidden or repaired
unasked. `journal.interface` has the whole contract, which tests/journal/conformance checks of every engine.

    from journal.file.open import open_journal
    from journal.records import Appended, Conflict, Entry

    with open_journal(directory) as journal:
        answer = journal.append([Entry("task.t1", "task.queued", {"route": "ci"}, expect=0)])
        assert answer == Appended((1,))  # durable, as record 1
        answer = journal.append([Entry("task.t1", "task.claimed", {"worker": "w"}, expect=1)])
        assert answer == Appended((2,))
        answer = journal.append([Entry("task.t1", "task.claimed", {"worker": "x"}, expect=1)])
        assert answer == Conflict("task.t1", 2)  # nothing was appended
        for record in journal.read(after=0):
            print(record.seq, record.kind, record.data)

`expect` is the seq of the subject's newest record that the caller has seen; 0 means that it must have none. So one rule finds
duplicates and makes claims atomic. `Entry.payload` takes any bytes, which come back as they were.

A segment is a file `<seq of its first record, 20 digits>.jsonl`: its header line twice, then a line for each record. Records:

    {"seq":N,"at":"…","synced":N,"subject":"…","kind":"…"[,"about_sha256":"…"][,"payload_sha256":"…","payload_bytes":N],
     "data":{…},"prev":"…","sum":"…"[,"about":{…}][,"payload":{…} | ,"body":"…" | ,"body64":"…" | ,"dropped":N]}

- `sum` is the SHA-256 of the segment's salt and the line's bytes up to `,"sum":"`; `prev` is the sum before it. So no line
  is altered, dropped, moved or reordered unnoticed; but it is no signature: a writer of the directory can recompute every sum.
- The part after the sum is bound by its hashes before the sum, so it can be erased: `dropped` is the later record that says so.
- `synced` is the newest seq known durable when the line was formed: it proves which lines had been acknowledged.

    {"format":1,"journal":"…","epoch":"…","first":N,"after":N,"prev":"…","salt":"…","sum":"…"}

- The header continues the chain: `prev` is the sum of record `after`, the last before the segment; its own `sum` is the `prev`
  of its first record. A full segment (64 MiB) is sealed, and the next gets its name only when all before it is synced.

`open_reader` opens any journal for reading, by its address. `journal.file` has the modules of the file engine;
covenq-journal(5) the format, exact enough to write a reader from.
"""

from journal.engines import open_reader

__all__ = ["DISTRIBUTION", "open_reader"]

DISTRIBUTION = "covenq"
"""Whose package this is: PyPI has another distribution with a package of this name (`covenq.cli.main`)."""
