"""What limits the intake: a verdict from the numbers of one run, with its reasons in a sentence. Values in, values out.

Each suspect gets a share of the run's time, 0 to 1, in which it could not have done more; the one with the largest is named:

sync       the time that as many syncs of batches as large take on this disk alone: what is timed within the daemon would count
           the wait for a processor, or for the interpreter's lock, as the disk's.
processor  the larger of two: how busy all cores were, other programs included; and how busy one core was with the daemon, most of
           whose work can use only one.
network    how busy one core was with the process that sends. It is also named where nothing was busy for BUSY of the time: then
           each connection waits for its answer, and there were too few of them. No network is between it and the daemon.
fold       is all or nothing: it limits if it was behind by more than BEHIND of the run, and by more than BEHIND_S, at the end.
           It holds up no answer, but such a rate can't last: tasks would start later and later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypedDict

BUSY = 0.5
"""The share of the time below which nothing counts as a limit."""
CLOSE = 0.75
"""A suspect whose share is at least so much of the first one's is named, too."""
BEHIND = 0.1
BEHIND_S = 0.5
"""The fold rests for tens of milliseconds between transactions, so a little is always left at the end."""

OTHERS = 0.2
"""The share of all cores from which on what other programs took is named as what could be had back."""

What = Literal["sync", "processor", "fold", "network"]


@dataclass(frozen=True, slots=True)
class Usage:
    """What one run used. Seconds of processor time are None where the system doesn't show them."""

    seconds: float
    cores: int
    connections: int
    accepted: int
    syncs: int
    sync_alone_s: float
    """How long a sync of such a batch takes where nothing else runs, on average."""
    client_cpu_s: float
    daemon_cpu_s: float | None
    follower_cpu_s: float | None
    machine_cpu_s: float | None
    """Of all programs together, the system's own work included."""
    appended: int
    """Records."""
    folded: int
    """Of them, by the end of the run."""

    @property
    def behind_s(self) -> float:
        """How many seconds of the run's records the fold had still before it."""
        return self.seconds * (self.appended - self.folded) / self.appended if self.appended else 0.0

    @property
    def kept_up(self) -> bool:
        return self.behind_s <= max(BEHIND_S, BEHIND * self.seconds)


class Limit(TypedDict):
    """The verdict. `share` is the one named; `close` are others that are near it; `shares` has all that are known."""

    what: What
    share: float
    close: list[What]
    shares: dict[What, float]
    sentence: str


def limit_of(used: Usage) -> Limit:
    """The one thing that limits the most, by the module's rules."""
    shares = {what: round(share, 3) for what, share in _shares(used)}
    first = max(shares, key=lambda what: shares[what])  # of equal ones the first of `_shares`
    close: list[What] = []
    if shares[first] < BUSY:
        what: What = "processor" if used.daemon_cpu_s is None else "network"
        sentence = _unknown(used, shares) if used.daemon_cpu_s is None else _nothing_busy(used, shares)
    else:
        what = first
        close = [one for one in shares if one != first and shares[one] >= CLOSE * shares[first]]
        sentence = _SENTENCES[first](used)
        if close:
            near = " and ".join(f"{_NAMES[one]} ({shares[one]:.0%})" for one in close)
            sentence += f" Close behind: {near}."
    return {"what": what, "share": shares.get(what, 0.0), "close": close, "shares": shares, "sentence": sentence}


def _shares(used: Usage) -> Iterator[tuple[What, float]]:
    if not used.seconds:
        yield "network", 0.0
        return
    yield "fold", 0.0 if used.kept_up else 1.0
    yield "sync", min(1.0, used.syncs * used.sync_alone_s / used.seconds)
    all_cores, one_core = _processor(used)
    if all_cores is not None and one_core is not None:
        yield "processor", max(all_cores, one_core)
    yield "network", min(1.0, used.client_cpu_s / used.seconds)


def _processor(used: Usage) -> tuple[float | None, float | None]:
    """How busy all cores were, and how busy one was with the daemon."""
    if used.daemon_cpu_s is None:
        return None, None
    ours = used.daemon_cpu_s + (used.follower_cpu_s or 0.0) + used.client_cpu_s
    everything = max(ours, used.machine_cpu_s or 0.0)
    return min(1.0, everything / (used.seconds * used.cores)), min(1.0, used.daemon_cpu_s / used.seconds)


# ---- in words


def _sync(used: Usage) -> str:
    share = min(1.0, used.syncs * used.sync_alone_s / used.seconds)
    return (
        f"The disk's sync limits: {used.syncs / used.seconds:,.0f} syncs a second, each for {_each(used)}, take {share:.0%} of"
        f" the time on this disk even where nothing else runs ({used.sync_alone_s * 1000:.2f} ms each). A faster disk would help."
    )


def _processor_words(used: Usage) -> str:
    all_cores, one_core = _processor(used)
    assert all_cores is not None and one_core is not None
    if one_core > all_cores:
        return (
            f"The processor limits: the daemon kept one core {one_core:.0%} busy, and most of its work can use only one."
            f" Faster cores would help; more than the {used.cores} there are would not."
        )
    cores = f"the {used.cores} cores were" if used.cores != 1 else "the one core was"
    programs = _programs(used)
    words = ", ".join(f"{name} {busy:.1f}" for name, busy in programs.items() if busy >= 0.05)
    others = programs[_OTHERS]
    helps = "Another core would help, or a faster one."
    if others >= OTHERS * used.cores:
        helps += f" Other programs took {others / used.cores:.0%}: measure again where they don't run."
    return f"The processor limits: {cores} {all_cores:.0%} busy ({words}). {helps}"


def _programs(used: Usage) -> dict[str, float]:
    """What used the processor, and how many cores of it."""
    known = {
        "the daemon": used.daemon_cpu_s or 0.0,
        "the fold": used.follower_cpu_s or 0.0,
        "what sent the load": used.client_cpu_s,
    }
    known[_OTHERS] = max(0.0, (used.machine_cpu_s or 0.0) - sum(known.values()))
    return {name: seconds / used.seconds for name, seconds in known.items()}


def _fold(used: Usage) -> str:
    return (
        f"The fold limits: of {used.appended / used.seconds:,.0f} records a second it folded"
        f" {used.folded / used.seconds:,.0f}, and was {used.behind_s:.1f} s behind after {used.seconds:.1f} s. Answers don't wait"
        " for it, but if such a rate lasts, tasks start later and later. Another core would help, or fewer tasks a delivery."
    )


def _network(used: Usage) -> str:
    return (
        "The network's side limits: the one process that sent the load was busy for"
        f" {min(1.0, used.client_cpu_s / used.seconds):.0%} of the time, and could send no more."
        " covenq could take more than this; a faster core would show how much."
    )


def _nothing_busy(used: Usage, shares: dict[What, float]) -> str:
    each = "connection waits for its answer" if used.connections == 1 else f"of {used.connections} connections waits"
    busy = ", ".join(f"{_NAMES[what]} {share:.0%}" for what, share in shares.items() if what != "fold")
    return (
        f"The network's side limits: nothing was busy for even half of the time ({busy}): each {each}."
        " More deliveries at once would help (--connections)."
    )


def _unknown(used: Usage, shares: dict[What, float]) -> str:
    busy = ", ".join(f"{_NAMES[what]} {share:.0%}" for what, share in shares.items() if what != "fold")
    return (
        f"Probably the processor limits: nothing else was busy for even half of the time ({busy}), and this system doesn't"
        " show what the daemon used. A faster core would help."
    )


def _each(used: Usage) -> str:
    many = used.accepted / used.syncs if used.syncs else 0.0
    return "one delivery" if many < 1.05 else f"{many:.1f} deliveries"


_OTHERS = "all else"
_NAMES: dict[What, str] = {
    "sync": "the disk's sync",
    "processor": "the processor",
    "fold": "the fold",
    "network": "what sends the load",
}
_SENTENCES = {"sync": _sync, "processor": _processor_words, "fold": _fold, "network": _network}
