"""Bulk actions: which items are meant, the plan, the confirmation, the batches, and the report.

A single id is acted on at once. Several, or a filter, are planned first: the plan is shown (`covenq.operate.act.plan_text`), to
decide whether to go on, confirmation is asked for, and exactly what was planned is then done, in batches, so that an interruption
leaves whole batches and a second run does the rest.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

import typer

from covenq.cli import output
from covenq.cli.filter_hints import say_unknown_values
from covenq.cli.id_prefix import whole_ids
from covenq.cli.output import clean, say
from covenq.cli.progress import bar
from covenq.cli.prose import wrap
from covenq.cli.terminal_width import columns
from covenq.errors import UsageError

if TYPE_CHECKING:
    from covenq.client.interface import Source
    from covenq.operate.answers import PlanAnswer, Skipped
    from covenq.operate.operations import Operation, S

LINE_MAX = 1024
"""Bytes of a line on stdin; an id has at most 129."""


@dataclass(frozen=True, slots=True)
class Wording:
    """The words for an action and for what it acts on: `replay`, `replayed`, `delivery`, `deliveries`."""

    name: str
    past: str
    one: str
    many: str
    queues: bool = False
    """Whether what is done leaves tasks that wait to be started."""


def operator_name() -> str:
    """Who acts by a command, for the journal."""
    from covenq.operate import operator

    return operator.operator_name("cli")


def ids_or_filter(words: list[str] | None, what: str) -> tuple[list[str], list[str]]:
    """Sort arguments into ids and filter words: a filter's term has a `:`, `<` or `>`, and an id never has.

    So a bare word is an id here, not a search: nothing is acted on because its title happened to match. `-` means the ids on
    stdin. Raises UsageError for neither, and for both.
    """
    given = [word for word in words or [] if word != "-"]
    terms = [word for word in given if any(mark in word for mark in ":<>")]
    ids = [word for word in given if word not in terms]
    if "-" in (words or ()):
        ids += ids_of_lines(sys.stdin)
        if not ids and not terms:
            raise UsageError("there were no ids on stdin", hint=f"Send the ids of {what}, one a line.")
    elif not given:
        raise UsageError(
            f"which {what}?",
            hint="Give one or more ids, - for those on stdin, or a filter such as since:1h; `--dry-run` shows what it means.",
        )
    if ids and terms:
        raise UsageError(
            f"{ids[0][:80]!r} is an id and {terms[0][:80]!r} a filter: they can't be combined",
            hint="Give ids, or a filter.",
        )
    return list(dict.fromkeys(ids)), terms


def ids_of_lines(lines: TextIO | None) -> Iterator[str]:
    """The first word of each line, so that a command's output can be piped into another. Raises UsageError if it isn't UTF-8."""
    if lines is None:
        return
    try:
        while line := lines.buffer.readline(LINE_MAX):
            if words := line.decode().split(None, 1):
                yield words[0]
    except UnicodeDecodeError:
        raise UsageError("what came on stdin is no text", hint="Send ids, one a line.") from None


def run_bulk(
    source: Source,
    operation: Operation[S, PlanAnswer],
    wanted: S,
    verb: Wording,
    chosen: tuple[list[str], list[str]],
    yes: bool,
    json: bool,
) -> None:
    """Do what is wanted to what was chosen, and report.

    Raises typer.Exit(4) if something eligible, or named by its id, was not done.
    """
    from msgspec.structs import replace

    ids, terms = chosen
    ids = whole_ids(source, ids, tasks=verb.many == "tasks")
    if len(ids) == 1:
        found = source.act(operation, replace(wanted, ids=ids))
        not_done = reasons_of(found.skipped)
    else:
        say_unknown_values(source, terms, "tasks" if verb.many == "tasks" else "deliveries")
        chosen_ones = replace(wanted, ids=ids) if ids else replace(wanted, filter=terms)
        found, not_done = _plan_and_apply(source, operation, chosen_ones, verb, yes, keep_skipped=json or bool(ids))
    with output.report_of_act(not wanted.dry_run):
        report(found, not_done, verb, wanted.dry_run, json, live=source.live)
    done = set(found.eligible) if wanted.dry_run else {item.id for item in found.done}
    meant = [*found.eligible, *(item.id for item in found.skipped if ids)]
    if any(id not in done for id in meant):
        raise typer.Exit(4)


def _plan_and_apply(
    source: Source, operation: Operation[S, PlanAnswer], wanted: S, verb: Wording, yes: bool, *, keep_skipped: bool
) -> tuple[PlanAnswer, Counter[str]]:
    """What was planned and done, and how many were not, by reason."""
    from covenq.client.plans import BATCH, Planned, parts_done, parts_of_plan

    planned = Planned(by_filter=wanted.filter is not None, keep_skipped=keep_skipped)
    with bar(f"{verb.many} looked at") as update:
        for part in parts_of_plan(source, operation, wanted):
            planned.add(part)
            if update is not None:
                update(planned.looked_at, 0)
    found = planned.whole()
    not_done = planned.skipped_whole()
    if wanted.dry_run or not found.eligible:
        return found, not_done
    if not yes:
        say_plan(found, verb, live=source.live)
        confirm(verb, len(found.eligible))
    among = set(found.eligible)
    # What the plan says of those that are done in part, the operation's own answer says again.
    found.skipped = [item for item in found.skipped if item.id not in among]
    total = len(found.eligible)
    with bar(verb.past) as update:
        try:
            for answer, reached in parts_done(source, operation, wanted, found.eligible):
                found.skipped += answer.skipped
                not_done += reasons_of(answer.skipped)
                found.done += answer.done
                if update is not None:
                    update(reached, total)
                elif total > BATCH:
                    say(f"{reached:,} of {total:,}")
        except KeyboardInterrupt:
            finished = output.count(len(found.done), verb.one, verb.many)
            say(f"Interrupted: {finished} of {total:,} {verb.past}, and perhaps up to {BATCH:,} more.")
            say("hint: Run it again for the rest; what is done is skipped.")
            raise
    return found, not_done


def say_plan(found: PlanAnswer, verb: Wording, *, live: bool, listed: bool = False) -> None:
    """The plan, in words, on stderr. `live`: a daemon is running; `listed`: the ids are on stdout."""
    from covenq.operate.act.plan_text import plan_lines

    if found.summary is None:  # an older daemon's
        say_skipped(reasons_of(found.skipped))
        return
    waits = [] if live or not verb.queues else ["no daemon is running"]
    ids = [] if listed else found.eligible
    for words in plan_lines(found.summary, (verb.one, verb.many), time.time(), clean, ids, waits=waits):
        say(words)


def confirm(verb: Wording, eligible: int) -> None:
    """Ask about so many. Raises typer.Exit on a no, UsageError without a terminal to ask at."""
    ask(
        f"{verb.name} {output.count(eligible, verb.one, verb.many)}",
        hint="Add --yes to do it, or --dry-run to see it.",
    )


def ask(what: str, *, hint: str) -> None:
    """Ask whether to do it. Raises typer.Exit on a no; UsageError, with the hint, without a terminal to ask at."""
    if not (output.is_terminal(sys.stdin) and output.is_terminal(sys.stderr)):
        raise UsageError(f"this would {what}, and there is no terminal to ask at", hint=hint)
    question = "\n".join(wrap(f"{what[:1].upper()}{what[1:]}? [y/N]", columns(sys.stderr)))
    print(question, end=" ", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        say("Nothing was done.")
        raise typer.Exit(1)


def report(
    found: PlanAnswer, not_done: Mapping[str, int], verb: Wording, dry_run: bool, json: bool, *, live: bool = True
) -> None:
    """Print the ids, with the tasks they got, on stdout; and what happened, in words, on stderr."""
    if json:
        output.emit_json(found)
    elif dry_run:
        for id in found.eligible:
            output.line(clean(id))
    else:
        for item in found.done:
            tasks = [task for task in item.tasks if task != item.id]
            output.line(" ".join(clean(word) for word in (item.id, *tasks)))
    if dry_run:
        say_plan(found, verb, live=live, listed=True)
    else:
        say_skipped(not_done)
    say_count(len(found.eligible if dry_run else found.done), verb, dry_run)


def reasons_of(skipped: Iterable[Skipped]) -> Counter[str]:
    """How many are skipped for each reason, in general terms."""
    from covenq.operate.act.plan_summary import general

    return Counter(general(one.reason) for one in skipped)


def say_skipped(reasons: Mapping[str, int]) -> None:
    """How many were skipped, by reason."""
    from covenq.operate.act.plan_text import skipped_lines
    from covenq.operate.answers import SkippedGroup

    largest = sorted(reasons.items(), key=lambda one: -one[1])
    for words in skipped_lines([SkippedGroup(reason, number) for reason, number in largest], clean):
        say(words)


def say_count(number: int, verb: Wording, dry_run: bool) -> None:
    """Say how many were done, or would be."""
    say(f"{output.count(number, verb.one, verb.many)} {'would be ' if dry_run else ''}{verb.past}.")
