"""The verdict on an id of which nothing is held: refused, listed by GitHub and not here, or unknown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from covenq.intake.refusal_log import Refusal
from covenq.model.status import NotHeldDelivery
from covenq.operate.inspect.history import Level, StoryVerdict, Target
from covenq.operate.inspect.story_text import not_held_words, times

NOT_HELD: Mapping[str, Level] = {
    "open": "warning",
    "on_its_way": "active",
    "before_us": "idle",
    "not_wanted": "idle",
    "erased": "idle",
    "refused": "error",
    "unrecoverable": "error",
}
"""By how a delivery stands in the ledger."""
_COMMAND = re.compile(r"(?:\A|`)(covenq [a-z][^`]*?)(?:`|\Z)")


def verdict_absent(
    not_held: Sequence[NotHeldDelivery], refused: Sequence[Refusal], target: Target | None, now: float
) -> StoryVerdict:
    """On what was asked for. What GitHub lists is surer than what a refused request said it was."""
    if target is not None:
        known = f"covenq deliveries repo:{target.repo}"
        return StoryVerdict(f"Nothing that is held is about {target.repo}#{target.number}", "warning", known)
    if not_held:
        words, hint = not_held_words(not_held[-1], now)
        return StoryVerdict(f"Not held: {words}", NOT_HELD.get(not_held[-1].state, "warning"), _command(hint))
    if refused:
        last = refused[-1]
        why = f"{last.status} {last.error}" + (f": {last.detail.rstrip('.')}" if last.detail else "")
        text = f"Refused {times(len(refused))}, if that was what it said it was; last with {why}"
        return StoryVerdict(text, "error", _command(last.hint) or "covenq refused")
    return StoryVerdict("Unknown: nothing of it is held, and no refusal of it is kept", "warning", "covenq refused")


def _command(hint: str | None) -> str | None:
    """The command in a hint, or that the hint is."""
    found = _COMMAND.search(hint or "")
    return None if found is None else found[1]
