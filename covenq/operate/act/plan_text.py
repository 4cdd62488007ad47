"""A plan in words, the same for the command line and the dashboard: what would be done, to which, what not, what would wait.

It serves one decision, whether to go on; the question comes after these lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from covenq.model.waiting import waiting_text
from covenq.operate.answers import Compaction, Paused, PlannedGroup, PlanSummary, SkippedGroup
from covenq.text import byte_size, counted, duration, instant, shorten_middle, width

IDS_SHOWN = 3
GROUPS_SHOWN = 10
REASONS_SHOWN = 20
NAME_MAX = 22
CAUSE_MAX = 30
"""Columns of a route's or repository's name, and of a state with its reason: with all else a line has 74 columns at most."""

Noun = tuple[str, str]
"""Singular and plural."""
Group = tuple[int, str, str, str | None]
"""How many, of what, for which reason, and since when."""
Clean = Callable[[str], str]
"""Makes text from outside safe to show, in one line."""

TASKS: Noun = ("task", "tasks")
DELIVERIES: Noun = ("delivery", "deliveries")
FOR_EVER = (
    "For ever: payloads, repositories, senders, titles, labels, and all files of the tasks' attempts are erased; nothing brings"
    " them back."
)
STAYS = (
    "What stays: ids, events, actions, sizes, hashes, states, times, and a reason that is given; so a redelivery is still a"
    " duplicate. Backups and other copies are yours to see to."
)


def redaction_lines(
    summary: PlanSummary, now: float, clean: Clean, ids: Sequence[str] = (), shown: int = GROUPS_SHOWN
) -> list[str]:
    """The plan of an erasure, as `plan_lines`, and what stays. FOR_EVER comes after it: it is the warning."""
    lines = plan_lines(summary, DELIVERIES, now, clean, ids, shown)
    if summary.tasks:
        what = "task that waits is" if summary.tasks == 1 else "tasks that wait are"
        lines.append(f"{summary.tasks:,} {what} cancelled")
    return [*lines, STAYS]


def plan_lines(
    summary: PlanSummary,
    noun: Noun,
    now: float,
    clean: Clean,
    ids: Sequence[str] = (),
    shown: int = GROUPS_SHOWN,
    waits: Sequence[str] = (),
) -> list[str]:
    """The plan. `now` is in seconds since 1970; `ids` are listed if they are few, and so many groups are shown.

    All would wait for the reasons in `waits`, too.
    """
    age = _age(summary.oldest, now)
    made = sum(one.count for one in summary.groups if one.route is not None)
    tasks = "" if noun == TASKS or not made else f", {counted(summary.tasks, *TASKS)}"
    oldest = "" if age is None else f"; {'the oldest' if summary.eligible > 1 else 'it'} came {age} ago"
    lines = [f"eligible  {counted(summary.eligible, *noun)}{tasks}{oldest}"]
    lines += [f"  {clean(id)}" for id in ids if len(ids) <= IDS_SHOWN]
    lines += _group_lines(summary.groups, shown, now, clean)
    lines += skipped_lines([*summary.skipped, *summary.excluded], clean)
    if summary.eligible:
        lines += [f"would wait: {why}" for why in waits]
    return [*lines, *_wait_lines(summary, "would wait", now, clean)]


def compaction_lines(plan: Compaction) -> list[str]:
    """What retention drops, or would drop, by which policy, and what stays."""
    kept = [("payloads", plan.policy.payloads_s), ("files of attempts", plan.policy.attempts_s)]
    policy = [f"{what} for {duration(seconds)}" for what, seconds in kept if seconds is not None]
    if not policy:
        return ["The configuration has no [retention]: everything is kept."]
    would = "would be " if plan.dry_run else ""
    lines = [
        f"{counted(plan.deliveries, 'payload')} of {byte_size(plan.payload_bytes, 'GiB')} {would}dropped,"
        f" in {counted(plan.segments, 'segment')}",
        f"the files of {counted(plan.attempts, 'task')} {would}removed",
    ]
    if plan.dry_run:
        lines.append(
            f"[retention] keeps {' and '.join(policy)}. What is dropped is gone for ever; hashes, states and history stay."
        )
    return lines


def pause_lines(done: Paused, now: float, clean: Clean) -> list[str]:
    """What a pause holds, or its end lets go on; nothing where it isn't known, as of the intake."""
    if done.summary is None or not done.changed:
        return []
    waiting = [one for one in done.summary.groups if one.state == "queued"]
    number = sum(one.count for one in waiting)
    age = _age(min((one.oldest for one in waiting if one.oldest), default=None), now)
    oldest = "" if age is None else f"; {'the oldest' if number > 1 else 'it'} came {age} ago"
    would = "would " if done.dry_run else ""
    wait, go = (("waits", "goes") if number == 1 else ("wait", "go")) if not would else ("wait", "go")
    verb = f"{would}{wait}" if done.paused else f"{would}{go} on"
    lines = [f"{counted(number, *TASKS)} {verb}{oldest}"]
    if len(waiting) > 1:
        lines += _group_lines(waiting, GROUPS_SHOWN, now, clean)
    running = sum(one.count for one in done.summary.groups if one.state == "running")
    if running and done.paused:
        lines.append(f"{counted(running, *TASKS)} that run{'s' if running == 1 else ''} already: left alone")
    return [*lines, *_wait_lines(done.summary, "would still wait" if done.dry_run else "still waiting", now, clean)]


def _wait_lines(summary: PlanSummary, verb: str, now: float, clean: Clean) -> Iterator[str]:
    for one in summary.waits[:REASONS_SHOWN]:
        help = "" if one.command is None else f": `{clean(one.command)}`"
        scope = "" if one.scope is None else f"{clean(one.scope)}, "
        yield f"{verb} {one.count:,}: {scope}{clean(waiting_text(one, now))}{help}"
    yield from _more(len(summary.waits) - REASONS_SHOWN, "reason to wait", "reasons to wait")


def skipped_lines(skipped: Sequence[SkippedGroup], clean: Clean) -> list[str]:
    """How many are not done, by reason."""
    lines = [f"skipped {one.count:,}: {clean(one.reason)}" for one in skipped[:REASONS_SHOWN]]
    return [*lines, *_more(len(skipped) - REASONS_SHOWN, "reason to skip", "reasons to skip")]


def _group_lines(groups: Sequence[PlannedGroup], shown: int, now: float, clean: Clean) -> Iterator[str]:
    return group_lines([(one.count, _name(one), _cause(one), one.oldest) for one in groups], shown, now, clean)


def group_lines(groups: Sequence[Group], shown: int, now: float, clean: Clean) -> Iterator[str]:
    """The first of the groups in columns, and how many are in the others."""
    rows = [
        (f"{count:,}", shorten_middle(clean(name), NAME_MAX), shorten_middle(clean(cause), CAUSE_MAX), _age(at, now))
        for count, name, cause, at in groups[:shown]
    ]
    widths = [max((width(row[n] or "") for row in rows), default=0) for n in range(3)]
    for number, name, cause, age in rows:
        told = "" if age is None else f"oldest {age}"
        padded = (text + " " * (wide - width(text)) for text, wide in zip((name, cause), widths[1:], strict=True))
        yield f"  {number:>{widths[0]}}  {'  '.join(padded)}  {told}".rstrip()
    rest = groups[shown:]
    if rest:
        yield f"  {sum(one[0] for one in rest):,} in {counted(len(rest), 'further group')}"


def _name(group: PlannedGroup) -> str:
    return group.route or group.repo or ("–" if group.state else "others")


def _cause(group: PlannedGroup) -> str:
    return ": ".join(filter(None, (group.state, group.reason)))


def _age(at: str | None, now: float) -> str | None:
    then = instant(at)
    return None if then is None else duration(max(0.0, now - then))


def _more(number: int, one: str, many: str) -> list[str]:
    return [f"  and {counted(number, f'more {one}', f'more {many}')}"] if number > 0 else []
