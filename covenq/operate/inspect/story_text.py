"""The wording of a delivery's history: its lines, and the phrases that its answers and events share.

The lines serve two decisions, in this order: what to do now (the verdict, and the command that helps), and whether that is
believed (the answers, what was written last, what happened when, and the rules).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from covenq.model import Category, seconds_of
from covenq.model.ledger import BY_HAND
from covenq.model.rows import Attempt, Delivery, Task
from covenq.text import duration, instant, to_the_second

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from covenq.intake.refusal_log import Refusal
    from covenq.model.answers import LastOutput
    from covenq.model.status import NotHeldDelivery
    from covenq.operate.inspect.history import Story, StoryRules, StoryTask
    from covenq.routing.verdicts import Verdict
    from journal.records import Record

QUESTIONS = ("accepted", "ignored", "failed", "retried", "duplicated", "now")
QUOTED_MAX = 3
"""Lines of an output in a story, its last."""
PHASES_MAX = 8
"""Phases of an attempt that are told, the first and the last of them."""
NEAREST_MAX = 3
"""Rules that don't match and are told all the same: of those of which the fewest terms don't hold."""
ENDED = {"completed": "completed", "failed": "failed", "cancelled": "was cancelled", "superseded": "was superseded"}


def who(attempt: Attempt | Task) -> str:
    """The worker, and the node that gave it the task, where the records say that."""
    return f"{attempt.worker} (node {attempt.node})" if attempt.node else str(attempt.worker)


def lines(story: Story, *, all_rules: bool = False, more: str = "--rules") -> Iterator[tuple[str, str]]:
    """(heading or "", words) for each line of a story but its verdict, which the printer must clean of control characters.

    `all_rules`: of the rules not the nearest alone; `more` is how they are had.
    """
    yield f"delivery {story.id}", ""
    yield "what it is", _subject(story.delivery)
    for question in QUESTIONS:
        heading = "where is it now?" if question == "now" else f"{question}?"
        yield heading, getattr(story.answers, question).words
    for task in story.tasks:
        yield from _output_lines(task)
    yield from _event_lines(story)
    yield from _rule_lines(story.rules, all_rules, more)
    if story.next:
        yield "what next", ""
        for step in story.next:
            yield step.command, step.words


def _subject(delivery: Delivery) -> str:
    """`issues.opened of octo/hello#12: The title`, as far as it is known."""
    what = f"{delivery.event}.{delivery.action}" if delivery.action else str(delivery.event)
    number = "" if delivery.number is None else f"#{delivery.number}"
    where = f" of {delivery.repo}{number}" if delivery.repo else ""
    return f"{what}{where}{f': {delivery.title}' if delivery.title else ''}"


# ---- what happened


def _event_lines(story: Story) -> Iterator[tuple[str, str]]:
    """Each event with its clock and the time since it all began; a day that begins is told apart, an attempt's phases are one."""
    began = story.events[0].at if story.events else None
    day = (began or "")[:10]
    yield f"what happened (UTC, {day})" if day else "what happened", ""
    phases: dict[int | None, Attempt] = {
        one.claim_seq: one for task in story.tasks for one in task.attempt_objects if one.phases
    }
    for event in story.events:
        words = event.words
        if event.word == "phase":
            attempt = phases.pop(event.seq, None)
            if attempt is None:  # told with its first
                continue
            words = f"{words.removesuffix(str(attempt.phases[0][0]))}{_phases(attempt)}"
        if event.at[:10] != day:
            day = event.at[:10]
            yield "", day
        yield f"{event.at[11:19]}Z {'+' + took(began, event.at):>10}", words


def _phases(attempt: Attempt) -> str:
    """`prepared +3ms, started +20ms`: each phase with the time since the attempt's start."""
    told = [f"{name} +{took(attempt.started_at, at)}" for name, at in attempt.phases]
    half = PHASES_MAX // 2
    if len(told) > PHASES_MAX:
        told = [*told[:half], f"… {len(told) - 2 * half} more …", *told[-half:]]
    return ", ".join(told)


def _output_lines(task: StoryTask) -> Iterator[tuple[str, str]]:
    last = task.last_output
    if last is None:
        return
    yield (output_heading(task, last), "") if last.elsewhere is None else (last.elsewhere, "")
    for line in last.lines[-QUOTED_MAX:]:
        yield "", line.expandtabs()


def output_heading(task: Task, last: LastOutput) -> str:
    """Of a forward, it is the receiver's answer."""
    if task.kind == "forward":
        return f"the last of what the receiver answered attempt {last.attempt} of {task.id}"
    return f"the last of what attempt {last.attempt} of {task.id} wrote to {last.stream}"


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


def _rule_lines(rules: StoryRules, whole: bool, more: str) -> Iterator[tuple[str, str]]:
    heading = {
        True: "today's rules, the ones it was decided by",
        False: "today's rules, which are NOT the ones it was decided by",
        None: "today's rules",
    }[rules.same]
    yield heading, ""
    if not rules.routes:
        yield "", "There are no routes that may be shown."
    told = rules.routes if whole else nearest(rules.routes)
    for verdict in told:
        yield verdict.route, verdict_words(verdict)
    left = len(rules.routes) - len(told)
    if left:
        words = "1 other doesn't match" if left == 1 else f"{left} others don't match"
        yield "", f"{words}; all of them: {more}"


def nearest(routes: Sequence[Verdict]) -> list[Verdict]:
    """In order: the rules that match or can't be told, and NEAREST_MAX of those others of which the fewest terms don't hold."""
    missed = {
        at: sum(term.holds is False for term in one.terms) for at, one in enumerate(routes) if one.matches is False
    }
    fewest = min(missed.values(), default=0)
    kept = [at for at, number in missed.items() if number == fewest][:NEAREST_MAX]
    return [one for at, one in enumerate(routes) if one.matches is not False or at in kept]


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
    return to_the_second(at) if at else ""


def took(start: str | None, end: str | None) -> str:
    """How long it was from one time to another: `850ms`, `12s`, `3m`; 0ms where a clock was set back, or either is no time."""
    first, last = instant(start), instant(end)
    seconds = 0.0 if first is None or last is None else max(0.0, last - first)
    return f"{int(seconds * 1000)}ms" if seconds < 1 else duration(seconds)


def count(number: int, one: str) -> str:
    return f"{number} {one}" if number == 1 else f"{number} {one}s"


def times(number: int) -> str:
    return "once" if number == 1 else "twice" if number == 2 else f"{number} times"


def route_list(names: Iterable[str | None]) -> str:
    *most, last = (f"route {name}" for name in names)
    return f"{', '.join(most)} and {last}" if most else last
