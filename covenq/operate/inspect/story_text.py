"""The wording of a delivery's history: its lines, and the phrases that its answers and events share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from covenq.model import Category, seconds_of
from covenq.model.ledger import BY_HAND
from covenq.model.rows import Attempt, Task
from covenq.text import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from covenq.intake.refusal_log import Refusal
    from covenq.model.answers import LastOutput
    from covenq.model.status import NotHeldDelivery
    from covenq.operate.inspect.history import Story, StoryRules, StoryTask
    from covenq.routing.verdicts import Verdict
    from journal.records import Record

QUESTIONS = ("accepted", "ignored", "failed", "retried", "duplicated", "now")
QUOTED_MAX = 5
"""Lines of an output in a story, its last."""
ENDED = {"completed": "completed", "failed": "failed", "cancelled": "was cancelled", "superseded": "was superseded"}


def lines(story: Story) -> Iterator[tuple[str, str]]:
    """(heading or "", words) for each line of a story, which the printer must clean of control characters."""
    yield f"delivery {story.id}", ""
    for question in QUESTIONS:
        heading = "where is it now?" if question == "now" else f"{question}?"
        yield heading, getattr(story.answers, question).words
    for task in story.tasks:
        yield from _output_lines(task)
    yield "what happened", ""
    for event in story.events:
        yield when(event.at), event.words
    yield from _rule_lines(story.rules)
    if story.next:
        yield "what next", ""
        for step in story.next:
            yield step.command, step.words


def _output_lines(task: StoryTask) -> Iterator[tuple[str, str]]:
    last = task.last_output
    if last is None:
        return
    yield output_heading(task.id, last), ""
    for line in last.lines[-QUOTED_MAX:]:
        yield "", line.expandtabs()


def output_heading(task: str, last: LastOutput) -> str:
    return f"the last of what attempt {last.attempt} of {task} wrote to {last.stream}"


UNPROVEN = "what a refused request's headers said it was, nothing proves: no signature covers them"


def refused_lines(refused: Iterable[Refusal]) -> Iterator[tuple[str, str]]:
    """The refused requests that said they were this delivery, as `lines`, to be told after what the journal holds of it."""
    for number, one in enumerate(refused):
        if not number:
            yield "refused requests that named it (not verified)", ""
            yield "", f"{UNPROVEN[0].upper()}{UNPROVEN[1:]}."
        yield when(one.at), f"{one.status} {one.error}: {one.detail or one.hint or ''}"


def not_held_words(one: NotHeldDelivery, now: float) -> tuple[str, str]:
    """What GitHub's log and the newest pass say of a delivery that is not held, in a sentence, and what to type next."""
    listed = f"GitHub lists it ({one.event}, first sent {when(one.first_at)}, {one.log}), and nothing of it is held: "
    take = f"covenq reconcile --since 3d guid:{one.guid}"
    until = "" if one.forgotten_at is None else duration(max(0.0, seconds_of(one.forgotten_at) - now))
    match one.state:
        case "open":
            words = f"it is not fetched yet, or its redelivery is waited for; GitHub forgets it in {until}"
            return f"{listed}{words}", "covenq reconcile"
        case "on_its_way":
            return f"{listed}it was sent again minutes ago, and may be on its way", "covenq reconcile"
        case "before_us":
            return f"{listed}it was sent before covenq was there, and is taken only where that is asked for", take
        case "not_wanted":
            return f"{listed}no route can match it ([reconcile] fetch)", "covenq routes"
        case "erased":
            return f"{listed}it is of what was erased here, and never fetched", "See on GitHub what it was."
    why = f": {one.reason}" if one.reason else ""
    if one.state == "refused":
        return f"{listed}refused{why}", f"Mend that, then `{take}`, or have GitHub redeliver it."
    return f"{listed}unrecoverable{why}", BY_HAND


def _rule_lines(rules: StoryRules) -> Iterator[tuple[str, str]]:
    heading = {
        True: "today's rules, the ones it was decided by",
        False: "today's rules, which are NOT the ones it was decided by",
        None: "today's rules",
    }[rules.same]
    yield heading, ""
    if not rules.routes:
        yield "", "There are no routes."
    for verdict in rules.routes:
        yield verdict.route, verdict_words(verdict)


def verdict_words(verdict: Verdict) -> str:
    """One sentence about a route's match: it holds, or which terms of it don't."""
    if verdict.matches:
        return f"matches: {verdict.match or 'everything'}"
    parts = []
    for term in verdict.terms:
        if term.problem:
            parts.append(f"{term.text} can't be told: {term.problem}")
        elif term.holds is False:
            seen = ", ".join(term.seen)
            parts.append(f"{term.text} is not so: it is {seen}" if seen else f"{term.text} is not so: there is none")
    return ("doesn't match: " if verdict.matches is False else "can't be told: ") + "; ".join(parts)


# ---- phrases


_TELLS: dict[str, str] = {
    Category.EXIT: "it exited with ",
    Category.SIGNAL: "it was ended by ",
    Category.TIMEOUT: "it ran ",
}
"""How the detail begins that says all that the category does, and the exit code or the signal."""


def cause(of: Task | Attempt) -> str:
    """Why an attempt or a task ended so, each thing once: its detail, and of category, exit code, signal what that leaves out."""
    detail = (of.detail or "").rstrip(".")
    tells = _TELLS.get(of.category or "")
    if tells is not None and detail.startswith(tells):
        return detail
    words = of.category or (of.reason if isinstance(of, Task) else None) or "nobody said why"
    code, signal = (None, None) if isinstance(of, Task) else (of.exit_code, of.signal)
    if code is not None:
        words = f"exit code {code}" if words == Category.EXIT else f"{words}, exit code {code}"
    if signal is not None:
        words = f"signal {signal}" if words == Category.SIGNAL else f"{words}, signal {signal}"
    return words + (f": {detail}" if detail else "")


def by_whom(note: Record) -> str:
    return because(note.data.get("by"), note.data.get("reason"))


def because(by: object, reason: object) -> str:
    return (f" by {by}" if by else "") + (f": {str(reason).rstrip('.')}" if reason else "")


def when(at: str | None) -> str:
    """To the second, UTC."""
    return f"{at[:10]} {at[11:19]}Z" if at else ""


def count(number: int, one: str) -> str:
    return f"{number} {one}" if number == 1 else f"{number} {one}s"


def times(number: int) -> str:
    return "once" if number == 1 else "twice" if number == 2 else f"{number} times"


def route_list(names: Iterable[str | None]) -> str:
    *most, last = (f"route {name}" for name in names)
    return f"{', '.join(most)} and {last}" if most else last
