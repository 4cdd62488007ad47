"""Bulk actions: which items are meant, the plan, the confirmation, the batches, and the report.

A single id is acted on at once. Several, or a filter, are planned first: the count is shown, confirmation is asked for, and
exactly what was planned is then done, in batches, so that an interruption leaves whole batches and a second run does the rest.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

import typer

from covenq.cli import output
from covenq.cli.id_prefix import whole_ids
from covenq.cli.output import clean, say
from covenq.cli.progress import bar
from covenq.errors import UsageError

if TYPE_CHECKING:
    from covenq.client.interface import Source
    from covenq.operate.answers import PlanAnswer, Skipped
    from covenq.operate.operations import Operation, S

BATCH = 500
"""Ids per request: some hundred kilobytes at most, and one step of the progress bar."""

PLAN_MAX = 20_000
"""Ids per dry run: even with the longest ids the request stays below the API's limit for a body."""

SHOWN_MAX = 20
"""Reasons listed in words; --json has all of them."""

LINE_MAX = 1024
"""Bytes of a line on stdin; an id has at most 129."""


@dataclass(frozen=True, slots=True)
class Wording:
    """The words for an action and for what it acts on: `replay`, `replayed`, `delivery`, `deliveries`."""

    name: str
    past: str
    one: str
    many: str


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
    else:
        found = _plan_and_apply(source, operation, wanted, verb, ids, terms, yes)
    with output.report_of_act(not wanted.dry_run):
        report(found, verb, wanted.dry_run, json)
    done = set(found.eligible) if wanted.dry_run else {item.id for item in found.done}
    meant = [*found.eligible, *(item.id for item in found.skipped if ids)]
    if any(id not in done for id in meant):
        raise typer.Exit(4)


def _plan_and_apply(
    source: Source,
    operation: Operation[S, PlanAnswer],
    wanted: S,
    verb: Wording,
    ids: list[str],
    terms: list[str],
    yes: bool,
) -> PlanAnswer:
    from msgspec.structs import replace

    from covenq.operate.answers import PlanAnswer

    found = PlanAnswer([], [], [])
    plan = replace(wanted, dry_run=True)
    for start in range(0, max(len(ids), 1), PLAN_MAX):
        part = replace(plan, ids=ids[start : start + PLAN_MAX]) if ids else replace(plan, filter=terms)
        answer = source.act(operation, part)
        found.eligible += answer.eligible
        found.skipped += answer.skipped
    if wanted.dry_run or not found.eligible:
        return found
    if not yes:
        confirm(verb, len(found.eligible), found.skipped)
    planned = set(found.eligible)
    # What the plan says of those that are done in part, the operation's own answer says again.
    found.skipped = [item for item in found.skipped if item.id not in planned]
    total = len(found.eligible)
    with bar(verb.past) as update:
        try:
            for start in range(0, total, BATCH):
                answer = source.act(operation, replace(wanted, ids=found.eligible[start : start + BATCH]))
                found.skipped += answer.skipped
                found.done += answer.done
                reached = min(start + BATCH, total)
                if update is not None:
                    update(reached, total)
                elif total > BATCH:
                    say(f"{reached:,} of {total:,}")
        except KeyboardInterrupt:
            finished = output.count(len(found.done), verb.one, verb.many)
            say(f"Interrupted: {finished} of {total:,} {verb.past}, and perhaps up to {BATCH:,} more.")
            say("hint: Run it again for the rest; what is done is skipped.")
            raise
    return found


def confirm(verb: Wording, eligible: int, skipped: Sequence[Skipped]) -> None:
    """Show the count and wait for a yes. Raises typer.Exit on a no, UsageError without a terminal to ask at."""
    counted = output.count(eligible, verb.one, verb.many)
    say_skipped(skipped)
    ask(f"{verb.name} {counted}", hint="Add --yes to do it, or --dry-run to see it.")


def ask(what: str, *, hint: str) -> None:
    """Ask whether to do it. Raises typer.Exit on a no; UsageError, with the hint, without a terminal to ask at."""
    if not (output.is_terminal(sys.stdin) and output.is_terminal(sys.stderr)):
        raise UsageError(f"this would {what}, and there is no terminal to ask at", hint=hint)
    print(f"{what[:1].upper()}{what[1:]}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        say("Nothing was done.")
        raise typer.Exit(1)


def say_skipped(skipped: Sequence[Skipped]) -> None:
    """How many were skipped, by reason."""
    for reason, number in Counter(item.reason for item in skipped).most_common(SHOWN_MAX):
        say(f"skipped {number:,}: {clean(reason)}")


def report(found: PlanAnswer, verb: Wording, dry_run: bool, json: bool) -> None:
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
    say_skipped(found.skipped)
    say_count(len(found.eligible if dry_run else found.done), verb, dry_run)


def say_count(number: int, verb: Wording, dry_run: bool) -> None:
    """Say how many were done, or would be."""
    say(f"{output.count(number, verb.one, verb.many)} {'would be ' if dry_run else ''}{verb.past}.")
