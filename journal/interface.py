"""The interface of a journal, which every engine implements.

An engine is a package of its own (`journal.file`); nothing here names a file. `Journal` is what most of the product needs, and
`Reading` its half that appends nothing. `Submitting` adds appends that don't block their caller, `Erasing` takes content out,
`Monitored` is what an engine says of itself, and `Leasing` whether claims need leases. `Engine` is all that a daemon needs of
one; `SpaceReserve` is optional. How an engine is opened, recovers and hands over its reserve is its own:
`covenq/daemon/datadir.py` opens one to write, `journal.engines` one to read.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self

from journal.errors import JournalError
from journal.health import Health, Measurements
from journal.records import Appended, Conflict, Damage, Entry, Head, Leader, NodeSeen, Record, Rewritten, Unknown

if TYPE_CHECKING:
    from journal.database import Database

Durability = Literal["fsync", "replicated"]
"""What an answered append rests on: synced to this machine's disk, or held by several machines as well."""

Progress = Callable[[int, int], None]
"""Called with (parts done, parts in all). What it raises ends the work between two parts."""


class Appending(Protocol):
    """What takes entries."""

    def append(self, entries: Sequence[Entry]) -> Appended | Conflict | Unknown:
        """Durable on return, all or none. After a crash a prefix may survive: resume from any prefix.

        Expectations hold against what was durable before the call, not against earlier entries of it; of several that don't
        hold, the Conflict names one. An append of nothing does nothing.

        Unknown is answered where the entries were sent and no answer came. Repeated with the same `Entry.attempt`, entries that
        were recorded are answered Appended with the seqs they have, and are never recorded again, for as long as a caller may
        repeat them (`journal.append.REQUEST_S`, and a daemon's life for those without a deadline), also over a reconnect. An
        engine that never answers Unknown may ignore the id. Callers use `journal.append.append_known`, which repeats.

        Raises EntryRefused, JournalFull, JournalWriteFailed, JournalUnavailable, JournalPoisoned, JournalClosed, JournalGone,
        JournalReadOnly.
        """


class Reading(Protocol):
    """The reading half of a journal. Methods may be called from any thread, and raise JournalDamaged and JournalUnavailable."""

    @property
    def id(self) -> str:
        """Identifies this journal forever: 32 hex digits."""

    @property
    def epoch(self) -> str:
        """New after a restore or a salvage, which reuse seqs; fencing tokens carry it. 16 hex digits."""

    def read(self, after: int, only: Container[int] | None = None, *, payloads: bool = True) -> Iterator[Record]:
        """The durable records with seq > `after`, in order, up to the head as it was at the call.

        Without `payloads` they come with `payload` None, and all else as ever: for who folds them. Payload bytes are then
        neither held in memory nor verified, which costs a fraction of it; everything else is.

        With `only`, those of them whose seq is in it. The others are passed over unverified, which costs a fraction of reading
        them; a damaged record may be passed over as one of them, so `get` has the last word on one that is missing.
        """

    def get(self, seq: int) -> Record | None:
        """The durable record with that seq, or None."""

    def last(self, subject: str) -> Record | None:
        """The newest durable record of the subject, or None."""

    def head(self) -> Head:
        """The newest durable record."""


class Journal(Reading, Appending, Protocol):
    """An append-only log of records. Methods may be called from any thread."""

    @property
    def durability(self) -> Durability:
        """What an append that is answered now rests on."""

    def wait(self, after: int, timeout: float | None) -> bool:
        """Block until the head is past `after` (True), or `timeout` seconds passed or it closed (False)."""


class Reader(Journal, Protocol):
    """A journal opened for reading alone (`journal.open_reader`): `append` raises JournalClosed.

    So it can stand where a plan is only made, and nothing is appended. Its head moves only by `advance`: a reader can't see
    what another process has synced, and is told.
    """

    def advance(self, seq: int) -> None:
        """The writer says that the journal is durable up to `seq`: the head moves there, never back, and `wait` returns.

        From any thread. What the head's sum is, is read when `head` is asked for it, if that record wasn't read before.
        """

    @property
    def damage(self) -> Sequence[Damage]:
        """What the opening found; what comes before it can still be read."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Submitting(Journal, Protocol):
    """A journal that also takes appends without blocking the caller."""

    def submit(
        self,
        entries: Sequence[Entry],
        done: Callable[[Appended | Conflict | Unknown | JournalError], None],
        after: Callable[[], None] | None = None,
    ) -> None:
        """`append` without blocking: `done` is called once with what `append` would have returned or raised.

        The entries are written at the latest after `start_batch`, which the submitter has to call when it has nothing more to
        submit at the moment: so many submissions cost one wake-up.

        `done` is called exactly when `append` would have returned: with Appended only when the entries are durable. It is
        called on the journal's own thread, which must go on: it may neither block nor raise nor call the journal. `after`
        is called when all submissions that are answered together have been; once for all that gave the same function.
        After Unknown, `after` is not called.

        Raises EntryRefused, and JournalPoisoned, JournalClosed and the like if that is known at once; `done` is then
        never called.
        """

    def start_batch(self) -> None:
        """Have what was submitted written now. From any thread; costs nothing if there is nothing."""


class Erasing(Journal, Protocol):
    """A journal whose content can be erased. The records stay, with their sums: `journal.erasure` says what may go."""

    def erase(
        self, entries: Sequence[Entry], progress: Progress | None = None
    ) -> tuple[Appended | Conflict | Unknown, Rewritten]:
        """`append` the entries, and erase the content that their `data.drops` name, wherever the journal keeps it.

        With Appended, the content is gone, and so is that of an erasure which was cut short before. With Conflict nothing was
        recorded, and nothing that these entries name is gone. Unknown as for `append`: repeated with the same `Entry.attempt`
        nothing is recorded twice, and what is not erased yet is then. Callers use `journal.append.erase_known`.

        Raises as `append`; ErasureFailed; JournalDamaged where content can't be erased for damage: it stays there, and is
        gone elsewhere.
        """

    @property
    def erasing(self) -> bool:
        """Whether an erasure is under way, or was cut short and waits for `resume_erasure`."""

    def resume_erasure(self, progress: Progress | None = None) -> Rewritten:
        """Finish an erasure that was cut short; does nothing if there is none. Raises ErasureFailed, JournalDamaged."""

    def parts(self) -> Sequence[tuple[int, int]]:
        """(first seq, bytes) of each part that an erasure rewrites as a whole, in order; the last is still written to.

        An engine that erases in place has one part.
        """


class Monitored(Protocol):
    """What an engine says of itself. Methods may be called from any thread, and none but `measurements` raises."""

    @property
    def poisoned(self) -> bool:
        """Nothing will ever be appended by this process again. Asked for every delivery, so it has to cost nothing."""

    @property
    def full(self) -> bool:
        """The last append could not be written, for want of space; the next one may succeed. As cheap as `poisoned`."""

    @property
    def beat(self) -> float:
        """When the engine last showed that it isn't stuck, by the monotonic clock; renewed every second."""

    def health(self) -> Health:
        """Measured at the call: the disk may be asked."""

    def measurements(self) -> Measurements:
        """The engine's own measurements, which may take a look at all that is stored. Raises OSError, JournalError."""

    def database(self) -> Database | None:
        """What the database that keeps the journal said of itself last; it isn't asked now. None of an engine without one."""


class Leasing(Protocol):
    """What an engine says to those who claim what is recorded in it."""

    @property
    def lease_clock(self) -> Callable[[], float] | None:
        """The clock that leases end by, in seconds since 1970, which stamps records too. It raises JournalUnavailable.

        None where none are needed: no other machine can take the journal over while processes of this one still run. Whoever
        opens it then knows that those are gone, or ends them.
        """


class Succeeding(Protocol):
    """A journal that several nodes have open, of which one leads: it alone appends. Optional; methods from any thread.

    Until this node leads, its head moves as the leader's does, and an append raises JournalStandby. A node that loses the lead is
    poisoned, and never leads again.
    """

    @property
    def leads(self) -> bool:
        """Whether this node appends, or did until it was poisoned or closed."""

    @property
    def lost(self) -> bool:
        """Whether another node has taken the lead from this one, which is poisoned by that."""

    def leader(self) -> Leader | None:
        """Who leads, as it was seen last; None if nobody does."""

    def lead(self) -> bool:
        """Take the lead if nobody has it; whether this node leads now. May wait for an append of the last leader, for seconds.

        Raises JournalDamaged where the journal lacks what was read here, JournalSealed; JournalUnavailable.
        """

    def step_down(self) -> None:
        """Answer what was submitted, append nothing more, and let another node lead at once; go on reading. Never to lead again.

        Does nothing where this node doesn't lead. Waits for what is in flight, hardly longer than an append is held.
        """

    def tell(self, about: str) -> None:
        """Have other nodes shown this of this one, in place of what was told before: a few KB at most."""

    def nodes(self, *, ask: bool = False) -> Sequence[NodeSeen]:
        """Every node that has the journal open, or had it not long ago, as they were seen last: about a second ago.

        With `ask` as they are now. Raises JournalUnavailable then.
        """


class SpaceReserve(Protocol):
    """Space that an engine sets aside, to be given up when work that runs can't record its end otherwise. Raises OSError."""

    def release(self) -> bool:
        """Give it up at once; whether there was any."""

    def release_if_full(self) -> bool:
        """The same if there is more of it than is free: for what needs space to free some."""

    def restore(self) -> None:
        """Set it aside again if it isn't, and if there is room for it and for new work."""


class Engine(Submitting, Erasing, Monitored, Leasing, Protocol):
    """A journal as a daemon holds it."""

    def close(self) -> None:
        """Answer what was submitted, and take no more. May be repeated."""
