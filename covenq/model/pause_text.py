"""A pause in words: what is paused, for how long, by whom and why."""

from __future__ import annotations

from covenq.text import duration, instant


def pause_subject(what: str, name: str | None) -> str:
    """What is paused, in the words that `covenq resume` takes."""
    return f"{what} {name}" if name else what


def pause_details(since: str | None, by: str | None, reason: str | None, now: float) -> str:
    """How long it has been paused, by whom and why."""
    then = instant(since)
    ago = since or "" if then is None else duration(max(0.0, now - then))
    whom = f" by {by}" if by else ""
    why = f": {reason}" if reason else ""
    return f"for {ago}{whom}{why}"
