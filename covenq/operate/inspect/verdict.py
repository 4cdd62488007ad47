"""The verdict on what `covenq why` is asked about: where it stands and why, in one sentence, and the command that helps.

It serves one decision: is anything to be done about this, and what? Who is woken at night reads this line, and perhaps no other.
Values in, a value out. Each table here has a word for all that the model knows of its kind, and a test holds it to that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from covenq.model import Category, IgnoredReason, Kind, ReceivedReason, State, SupersededReason
from covenq.model.rows import Attempt, Delivery, Task
from covenq.operate.inspect.delivery_facts import DeliveryFacts, newest_by_route
from covenq.operate.inspect.history import Level, Step, Story, StoryVerdict
from covenq.operate.inspect.next_steps import delivery_steps, task_steps
from covenq.operate.inspect.story_text import because, by_whom, times, took, when
from covenq.operate.inspect.stuck import is_overdue
from covenq.operate.origin import FETCHED
from covenq.tasks.scheduling.outcome import Policy
from covenq.text import counted, shorten_words
from journal.records import Record

NAMES_MAX = 3
"""Routes that are named of several in one state; of more, how many they are."""
SENTENCE_MAX = 300
"""Characters of a detail, which a command's worker elsewhere may have written."""

GRAVEST = (State.FAILED, State.RUNNING, State.QUEUED, State.CANCELLED, State.SUPERSEDED, State.COMPLETED)
"""Which task of several a verdict is about: the first in this order. What failed needs somebody, whatever else still runs."""
_LEVELS: tuple[Level, ...] = ("error", "warning", "active", "ok", "idle")
"""The gravest first."""

CATEGORIES: Mapping[str, str] = {
    Category.EXIT: "exited with an error",
    Category.SIGNAL: "was ended by a signal",
    Category.TIMEOUT: "ran longer than it may",
    Category.INTERRUPTED: "was interrupted",
    Category.LEASE_LOST: "was given up by its worker, whose lease ended",
    Category.SPAWN: "could not be started",
    Category.HTTP: "was not taken by its receiver",
    Category.RESULT_INVALID: "left a result that can't be kept",
    Category.POLICY: "was refused by policy",
    Category.INTERNAL: "was ended by an error of covenq itself",
    Category.TOKEN: "got no token for its work",
}
"""What an attempt did that ended so, where its record has no detail."""

RESULTS: Mapping[str, tuple[str, Level]] = {
    "partial": ("Completed in part, as its command says", "warning"),
    "needs_input": ("Ended, and needs input, as its command says", "warning"),
}
"""What a task that ended well is said to be, where its command said otherwise by its contract."""

IGNORED: Mapping[str, tuple[str, Level]] = {
    IgnoredReason.PING: (
        "Ignored: it is the ping that GitHub sends when a hook is made, and nothing is to be done",
        "idle",
    ),
    IgnoredReason.NO_ROUTES: ("Ignored: there were no routes when it came", "warning"),
    IgnoredReason.NO_MATCH: ("Ignored: no route matched it", "idle"),
    IgnoredReason.IMPORTED: (
        "Ignored: it was imported without tasks, and stays so until somebody reroutes it",
        "warning",
    ),
    IgnoredReason.DISMISSED: ("Dismissed: it was held back, and somebody had it ignored", "idle"),
    IgnoredReason.REDACTED: ("Erased before it was routed", "idle"),
    IgnoredReason.FAMILIAR_AUTHOR: ("Ignored: a familiar wrote it", "idle"),
    IgnoredReason.INSTALLATION_UNLISTED: ("Ignored: its installation is not listed", "warning"),
    IgnoredReason.FAMILIAR_OUT_OF_SCOPE: ("Ignored: its installation doesn't have the familiar", "idle"),
    IgnoredReason.REPOSITORY_DISABLED: ("Ignored: the repository is not enabled", "idle"),
    IgnoredReason.LANE_CLOSED: ("Ignored: what would trigger a familiar is closed there", "idle"),
    IgnoredReason.DRAFT: ("Ignored: it is a draft, and drafts are not reviewed unasked", "idle"),
    IgnoredReason.NOT_PERMITTED: ("Ignored: its author may not command", "idle"),
}
_TOLD_BY_DETAIL = frozenset(
    {
        IgnoredReason.INSTALLATION_UNLISTED,
        IgnoredReason.FAMILIAR_OUT_OF_SCOPE,
        IgnoredReason.REPOSITORY_DISABLED,
        IgnoredReason.LANE_CLOSED,
        IgnoredReason.NOT_PERMITTED,
    }
)
"""Reasons of which the record says more, in a sentence."""

RECEIVED: Mapping[str, tuple[str, Level]] = {
    ReceivedReason.HELD: ("Held back until somebody routes it", "warning"),
    ReceivedReason.RULE_FAILED: ("Not routed: a rule failed", "error"),
}

SUPERSEDED: Mapping[str, str] = {
    SupersededReason.NEWER: "newer work of the same key took its place",
    SupersededReason.STALE: "a newer state of the same had been seen",
    SupersededReason.LATE: "GitHub had sent it before the one that was there already",
}

WAITS: Mapping[str, Level] = {
    "retry": "active",
    "debounce": "active",
    "outdated": "active",
    "worker": "active",
    "key": "active",
    "pull": "active",
    "not_before": "active",
    "stopped": "warning",
    "daemon": "warning",
    "receiver": "warning",
    **{f"{scope}_concurrency": "active" for scope in ("installation", "route", "repo")},
    **{f"{scope}_daily": "warning" for scope in ("installation", "route", "repo")},
    **{f"paused_{what}": "warning" for what in ("worker", "route", "repo", "installation")},
}
"""By the word of what a queued task waits for: whether that ends by itself, soon."""

_HELPS: Mapping[str, tuple[str, ...]] = {
    State.FAILED: ("covenq doctor", "covenq requeue", "covenq replay", "covenq logs", "covenq show"),
    State.RUNNING: ("covenq logs", "covenq tail"),
    State.QUEUED: ("covenq resume", "covenq worker", "covenq status", "covenq doctor"),
    State.CANCELLED: ("covenq requeue",),
    State.SUPERSEDED: ("covenq why", "covenq requeue"),
}
"""Of a task's next steps, the one that helps: the first that is one of these."""


def verdict(facts: DeliveryFacts) -> StoryVerdict:
    """On one delivery that is held."""
    delivery = facts.delivery
    found = _of_tasks(facts) if facts.tasks else _without_tasks(facts)
    if delivery.redacted:
        gone = facts.dropped_by
        who = "" if gone is None else f" on {when(gone.at)}{because(gone.by, gone.reason)}"
        return StoryVerdict(f"Erased{who}{_before_erasure(delivery)}", "idle")
    return StoryVerdict(found.text + "".join(f"; {one}" for one in _remarks(facts)), found.level, found.command)


def _before_erasure(delivery: Delivery) -> str:
    erased_first = IgnoredReason.REDACTED.value
    return "" if delivery.reason == erased_first else f"; before that, it was {delivery.state}"


def _remarks(facts: DeliveryFacts) -> Iterable[str]:
    """What is odd about the way it came, or is left of it."""
    delivery, origin = facts.delivery, facts.origin
    if delivery.payload_dropped and delivery.state != State.COMPLETED:
        yield "its payload was dropped, so it can't be done again"
    if origin is not None and origin.reason == FETCHED:
        yield "it was fetched from GitHub's delivery log"
    elif delivery.source == "import" and delivery.reason != IgnoredReason.IMPORTED:
        yield f"it was imported{because(origin.by, None) if origin is not None else ''}"
    elif delivery.source == "send":
        yield "it came from covenq send"
    if delivery.duplicates:
        yield f"it came {times(delivery.duplicates)} more, and made no other task"
    if delivery.conflicts:
        yield "another body came under its id, and was refused"


# ---- without tasks


def _without_tasks(facts: DeliveryFacts) -> StoryVerdict:
    delivery = facts.delivery
    words = f"{delivery.state.capitalize()}, without any task"
    level: Level = "warning"
    if delivery.state == State.IGNORED:
        words, level = _ignored(facts)
    elif delivery.state == State.RECEIVED:
        words, level = _received(delivery)
    command = next((step.command for step in delivery_steps(facts)), None)
    if delivery.reason == IgnoredReason.DISMISSED:
        command = None
    return StoryVerdict(words, level, command)


def _ignored(facts: DeliveryFacts) -> tuple[str, Level]:
    delivery, reason = facts.delivery, facts.delivery.reason or ""
    if reason not in IGNORED:  # a route's own word
        return f"Ignored, {reason}: {_lowered(delivery.detail) or 'a route has this word for it'}", "idle"
    words, level = IGNORED[reason]
    if reason == IgnoredReason.NO_MATCH and delivery.detail:
        words = f"Ignored: {_lowered(delivery.detail).partition('; there ')[0]}"  # the names of all routes follow
    elif reason in _TOLD_BY_DETAIL and delivery.detail:
        words = f"Ignored: {_lowered(delivery.detail).rstrip('.')}"
    elif reason == IgnoredReason.DISMISSED and facts.rerouted is not None:
        words = f"Dismissed{by_whom(facts.rerouted)}"
    return words, level


def _received(delivery: Delivery) -> tuple[str, Level]:
    found = RECEIVED.get(delivery.reason or "")
    if found is None:
        return "Received, and not routed yet", "warning"
    words, level = found
    if delivery.detail:
        words = (
            f"{'Not routed' if delivery.reason == ReceivedReason.RULE_FAILED else words}: {_lowered(delivery.detail)}"
        )
    return words, level


# ---- of its tasks


def _of_tasks(facts: DeliveryFacts) -> StoryVerdict:
    """Of the newest replay of each route: on the gravest, and how the others stand."""
    tasks = sorted(newest_by_route(facts.tasks), key=lambda task: _gravity(task.state))
    lead, others = tasks[0], tasks[1:]
    word, rest, level = _TASKS.get(lead.state, _other_task)(lead, facts)
    of = f" in route {lead.route}" if others else ""
    text = f"{word}{of}{rest}" + "".join(f"; {words}" for words in _others(others))
    return StoryVerdict(text, level, _help(lead.state, task_steps(lead, facts)))


def _gravity(state: str) -> int:
    return next((at for at, one in enumerate(GRAVEST) if one == state), len(GRAVEST))


def _help(state: str, steps: Iterable[Step]) -> str | None:
    commands = [step.command for step in steps]
    for wanted in _HELPS.get(state, ()):
        for command in commands:
            if command.startswith(wanted):
                return command
    return None


_VERBS: Mapping[str, tuple[str, str]] = {
    State.RUNNING: ("runs", "run"),
    State.QUEUED: ("waits", "wait"),
    State.FAILED: ("failed", "failed"),
    State.CANCELLED: ("was cancelled", "were cancelled"),
    State.SUPERSEDED: ("was superseded", "were superseded"),
    State.COMPLETED: ("completed", "completed"),
}


def _others(tasks: Sequence[Task]) -> Iterable[str]:
    for state in dict.fromkeys(task.state for task in tasks):
        names = [str(task.route) for task in tasks if task.state == state]
        one, many = _VERBS.get(state, (f"is {state}", f"are {state}"))
        if len(names) > NAMES_MAX:
            yield f"{len(names)} other routes {many}"
        else:
            yield f"{' and '.join(names)} {one if len(names) == 1 else many}"


Found = tuple[str, str, Level]
"""The word that a verdict begins with, the rest of the sentence, and the level."""


def _failed(task: Task, facts: DeliveryFacts) -> Found:
    attempts = [one for one in facts.attempts.get(task.id, ()) if one.outcome == State.FAILED]
    if not attempts:
        return "Failed", f": {_did(task, 'it', '')}", "error"
    number = max(task.attempts, len(attempts))
    if number == 1:
        return "Failed", f": {_did(attempts[-1], 'one attempt, which', 'one attempt:')}", "error"
    alike = len({_did(one, "", "") for one in attempts}) == 1
    each = _did(attempts[-1], *(("each", "each:") if alike else ("the last of which", "the last:")))
    return "Failed", f": {_number(number)} attempts, {each}", "error"


def _queued(task: Task, facts: DeliveryFacts) -> Found:
    waits = facts.waiting.get(task.id)
    if waits is None:
        return "Queued", f" since {when(task.updated_at)}", "active"
    attempts = facts.attempts.get(task.id, ())
    if waits.word == "retry" and attempts and task.not_before:
        last = attempts[-1]
        did = _did(last, f"attempt {last.attempt}", f"attempt {last.attempt} failed:")
        return "Queued", f" again until {when(task.not_before)}: {did}", "active"
    return "Queued", f": {waits.why.rstrip('.')}", WAITS.get(waits.word, "active")


def _running(task: Task, facts: DeliveryFacts) -> Found:
    attempts = facts.attempts.get(task.id, ())
    if not attempts:
        return "Running", "", "active"
    last = attempts[-1]
    phase = f", {last.phases[-1][0]}" if last.phases else ""
    rest = f" since {when(last.started_at)}: attempt {last.attempt} at {last.worker}{phase}"
    late = None if facts.now is None else _overdue(task, last, facts.now)
    return ("Running", rest, "active") if late is None else ("Running", f"{rest}; {late}", "warning")


def _overdue(task: Task, last: Attempt, now: float) -> str | None:
    """Why it should have ended by now, as `covenq.operate.inspect.stuck` tells it of all tasks; None while it may run."""
    if task.lease_until is not None:
        over = is_overdue(task.lease_until, 0.0, now)
        return f"its lease was over at {when(task.lease_until)}, and nobody ended its attempt" if over else None
    limit = Policy.from_record(task.policy or {}).timeout_s
    over = is_overdue(last.started_at, limit, now)
    return f"that is longer than its timeout of {limit:g} s" if over else None


def _completed(task: Task, facts: DeliveryFacts) -> Found:
    attempts = facts.attempts.get(task.id, ())
    which = "at the first attempt" if task.attempts <= 1 else f"after {_number(task.attempts)} attempts"
    last = attempts[-1] if attempts else None
    spent = "" if last is None or last.ended_at is None else f" in {took(last.started_at, last.ended_at)}"
    what, level = RESULTS.get(task.result_status or "", ("Completed", "ok"))
    return what, f" on {when(task.updated_at)}, {which}{spent}", level


def _cancelled(task: Task, facts: DeliveryFacts) -> Found:
    note = _note(facts, task, Kind.CANCELLED)
    who = because(None, task.reason) if note is None else by_whom(note)
    return "Cancelled", f" on {when(task.updated_at)}{who}", "idle"


def _superseded(task: Task, facts: DeliveryFacts) -> Found:
    why = SUPERSEDED.get(task.reason or "") or task.reason or "nobody said why"
    return "Superseded", f"{f' by task {task.superseded_by}' if task.superseded_by else ''}: {why}", "idle"


def _other_task(task: Task, facts: DeliveryFacts) -> Found:
    return task.state.capitalize(), "", "warning"


_TASKS: Mapping[str, Callable[[Task, DeliveryFacts], Found]] = {
    State.FAILED: _failed,
    State.QUEUED: _queued,
    State.RUNNING: _running,
    State.COMPLETED: _completed,
    State.CANCELLED: _cancelled,
    State.SUPERSEDED: _superseded,
}


def _note(facts: DeliveryFacts, task: Task, kind: Kind) -> Record | None:
    return next((one for one in reversed(facts.notes) if one.kind == kind and one.subject.endswith(task.id)), None)


def _did(one: Attempt | Task, before: str, before_sentence: str) -> str:
    """What an attempt, or a task, did that failed: `before` and a verb or, where its detail is about another, that sentence."""
    detail = shorten_words((one.detail or "").strip().rstrip("."), SENTENCE_MAX)
    if detail and not detail.startswith("it "):
        return f"{before_sentence} {_lowered(detail)}".strip()
    return f"{before} {detail.removeprefix('it ') or _did_by_category(one)}"


def _did_by_category(one: Attempt | Task) -> str:
    if isinstance(one, Attempt):
        if one.category == Category.EXIT and one.exit_code is not None:
            return f"exited with {one.exit_code}"
        if one.category == Category.SIGNAL and one.signal is not None:
            return f"was ended by signal {one.signal}"
        if one.category == Category.HTTP and one.http_status is not None:
            return f"was answered {one.http_status}"
    return CATEGORIES.get(one.category or "") or (
        f"failed ({one.category})" if one.category else "failed, and nobody said why"
    )


_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def _number(number: int) -> str:
    return _NUMBERS[number] if 0 <= number < len(_NUMBERS) else f"{number:,}"


def _lowered(sentence: str | None) -> str:
    """A sentence as the end of another. A word that isn't one of ours at its beginning stays as it is: GitHub, say."""
    words = (sentence or "").strip().rstrip(".")
    return words[:1].lower() + words[1:] if re.match(r"(?:No|It|There|The|A|An)\b", words) else words


# ---- on several, and on what is not held


def of_several(stories: Sequence[Story]) -> StoryVerdict | None:
    """On all deliveries about one thing, the newest first: how many stand how, and the newest of the gravest."""
    found = [(story.id, story.verdict) for story in stories if story.verdict is not None]
    if len(stories) < 2 or not found:
        return found[0][1] if found else None
    states = [story.delivery.state for story in stories]
    order = sorted(dict.fromkeys(states), key=_gravity)
    told = ", ".join(f"{states.count(state)} {state}" for state in order)
    id, gravest = min(found, key=lambda one: _LEVELS.index(one[1].level))
    which = f"; {id}: {gravest.text}" if gravest.level in ("error", "warning") else ""
    text = f"{counted(len(stories), 'delivery', 'deliveries')}: {told}{which}"
    return StoryVerdict(text, gravest.level, gravest.command)
