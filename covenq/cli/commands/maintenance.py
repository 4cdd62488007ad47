"""`covenq compact`, `covenq redact`: remove content from the journal, by retention and by erasure."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.bulk import (
    Wording,
    ask,
    confirm,
    ids_or_filter,
    operator_name,
    reasons_of,
    say_count,
    say_skipped,
)
from covenq.cli.context import source
from covenq.cli.filter_hints import say_unknown_values
from covenq.cli.options import (
    ConfigOption,
    DataOption,
    Deliveries,
    DryRun,
    Json,
    Jsonl,
    Reason,
    TokenFileOption,
    UrlOption,
    Yes,
)
from covenq.cli.output import clean, command_text, say
from covenq.cli.progress import bar
from covenq.errors import Failure, UsageError
from covenq.model import parse_repo

if TYPE_CHECKING:
    from covenq.client.interface import Source
    from covenq.client.plans import Planned
    from covenq.operate.answers import Compaction, Mentions, Redaction
    from covenq.operate.operations import A
    from covenq.operate.parameters import Redact

REDACT = Wording("redact", "redacted", "delivery", "deliveries")
SHOWN_MAX = 20
ID_MAX = (1 << 63) - 1
"""Of a repository or an installation."""
ERASE_BATCH = 5000
"""Ids erased per request: each request rewrites the segments that hold them."""
POLL_S = 0.3
"""Seconds between two requests for the daemon's progress."""


def compact(
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Drop what is kept no longer.

    Payloads of finished deliveries, and files of attempts, that are older than the configuration's [retention] says.
    The daemon does it by itself once a day, where it is worth it; this does all of it, now. Deliveries, their hashes,
    states and history stay. At a terminal it shows first what would be dropped, and asks.
    """
    from covenq.operate import operations
    from covenq.operate.parameters import Compact

    wanted = Compact(dry_run=dry_run, by=operator_name())
    with source(data, config) as opened:
        if not (dry_run or yes) and output.is_terminal(sys.stdin) and output.is_terminal(sys.stderr):
            _ask_to_compact(opened.act(operations.COMPACT, Compact(dry_run=True, by=wanted.by)))
        done = _with_progress(opened, "compact", lambda: opened.act(operations.COMPACT, wanted))
    with output.report_of_act(not dry_run):
        if json:
            output.emit_json(done)
        else:
            _say_compacted(done)
    if done.left:
        _say_not_removed(done.left)
        raise typer.Exit(1)


def _ask_to_compact(plan: Compaction) -> None:
    """Show the plan, and ask; nothing where nothing would go. Raises typer.Exit on a no.

    Without a terminal it isn't asked: the configuration has decided it, and the daemon does the same every day.
    """
    from covenq.operate.act.plan_text import compaction_lines

    if plan.deliveries or plan.attempts:
        for words in compaction_lines(plan):
            say(words)
        ask("compact the journal", hint="Add --yes to do it, or --dry-run to see it.")


def _say_compacted(done: Compaction) -> None:
    from covenq.operate.act.plan_text import compaction_lines

    lines = compaction_lines(done)
    if done.policy.payloads_s is None and done.policy.attempts_s is None:
        say(lines[0])
        return
    for words in lines:
        output.prose(words)
    if not done.dry_run:
        say(f"The journal is {output.size(max(done.freed, 0))} shorter.")


def redact(
    words: Deliveries = None,
    repo: Annotated[
        str | None, typer.Option("--repo", metavar="OWNER/NAME", help="Every delivery of this repository.")
    ] = None,
    repo_id: Annotated[
        int | None,
        typer.Option(
            "--repo-id", min=0, max=ID_MAX, metavar="N", help="Every delivery of the repository with this number."
        ),
    ] = None,
    installation: Annotated[
        int | None,
        typer.Option("--installation", min=0, max=ID_MAX, metavar="N", help="Every delivery of this installation."),
    ] = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Erase the content of deliveries, for ever.

    The arguments are ids (GUID or hook/GUID), - for ids on stdin, or a filter; or all of a repository or installation.
    Payload, repository, sender, title and labels go: from the journal, from state.db, and with all files of their
    tasks' attempts. Ids, event, action, sizes, hashes, states and times stay, so that a redelivery is still a duplicate.
    A repository is meant under all names it has had, and --repo-id tells two apart that had the same one.
    A task that waits is cancelled; a delivery that is being worked on is skipped. Backups are named, and are yours.
    A reason stays for ever: put nothing in it that would have to be erased.

    \b
      covenq redact 72d3162e-cc78-11e3-81ab-4c9367dc0958
      covenq redact sender:octocat before:90d --dry-run
    """
    from covenq.operate.parameters import Redact

    _require_one(words, repo, repo_id, installation)
    ids, terms = ids_or_filter(words, "deliveries") if words else ([], [])
    which = Redact(
        ids=ids,
        filter=terms or None,
        repo=repo,
        repo_id=repo_id,
        installation=installation,
        reason=reason,
        dry_run=dry_run,
        by=operator_name(),
    )
    with source(data, config) as opened:
        say_unknown_values(opened, terms, "deliveries")
        done, not_done = _redact(opened, which, yes=yes, keep_skipped=json or bool(ids))
    with output.report_of_act(not dry_run):
        _report(done, not_done, dry_run=dry_run, json=json)
    if done.left:
        _say_not_removed(done.left)
        raise typer.Exit(1)
    if done.skipped and (ids or _any_eligible_skipped(done)):
        raise typer.Exit(4)


def _require_one(words: Sequence[str] | None, repo: str | None, repo_id: int | None, installation: int | None) -> None:
    """Raises UsageError unless just one thing says what to erase; and for a repository's name that is none."""
    ways = {"ids or a filter": words or None, "--repo": repo, "--repo-id": repo_id, "--installation": installation}
    given = [way for way, value in ways.items() if value is not None]
    if not given:
        raise UsageError(
            "say what to erase: ids, a filter, --repo, --repo-id or --installation",
            hint="One of the five; `--dry-run` shows what it means.",
        )
    if len(given) > 1:
        raise UsageError(
            f"{given[0]} and {given[1]} can't be combined: each says by itself what to erase",
            hint="Give one of them; `--dry-run` shows what it means.",
        )
    if repo is not None and "*" in repo:
        raise UsageError(
            f"{repo[:80]!r} is a pattern, and --repo takes one name",
            hint=f"For what a pattern matches give a filter: {command_text('covenq', 'redact', f'repo:{repo[:80]}')}",
        )
    if repo is not None:
        parse_repo(repo)


def _redact(opened: Source, which: Redact, *, yes: bool, keep_skipped: bool) -> tuple[Redaction, Counter[str]]:
    """Erase one id at once; plan several ids, or what `which` names, first. → what was done, and how many were not, by reason.

    Of a filter exactly what was planned is erased, and nothing that arrived since.
    """
    from msgspec.structs import replace

    from covenq.client.plans import Planned
    from covenq.operate import operations

    asked = [which]
    plan: Redaction | None = None
    not_done: Counter[str] = Counter()
    if which.dry_run or len(which.ids) != 1:
        planned = Planned(by_filter=which.filter is not None, keep_skipped=keep_skipped)
        plan = _planned(opened, which, planned)
        not_done = planned.skipped_whole()
        # Pauses and scopes may hold the name of a repository without deliveries.
        named = which.repo is not None or which.repo_id is not None
        if which.dry_run or not (plan.eligible or named):
            return plan, not_done
        if not yes:
            _say_plan(plan)
            confirm(REDACT, len(plan.eligible))
        elif plan.repositories:
            _say_repositories(plan)
        if which.ids or which.filter is not None:
            asked = _batches(replace(which, filter=None), plan.eligible, ERASE_BATCH)
    answers = []
    try:
        for part in asked:
            answers.append(_with_progress(opened, "redact", partial(opened.act, operations.REDACT, part)))
    except KeyboardInterrupt:
        finished = sum(len(one.done) for one in answers)
        say(f"Interrupted: {output.count(finished, REDACT.one, REDACT.many)} redacted, and perhaps more.")
        say("hint: Run it again for the rest; what was recorded as erased is finished in any case.")
        raise
    done = _merged(answers)
    if plan is None or not (which.ids or which.filter is not None):  # it planned anew
        not_done = reasons_of(done.skipped)
    else:
        not_done += reasons_of(done.skipped)
        done.skipped = [*plan.skipped, *done.skipped]
    if plan is not None:
        done.summary, done.elsewhere = plan.summary, plan.elsewhere
    return done, not_done


def _planned(opened: Source, which: Redact, planned: Planned) -> Redaction:
    """The plan, from all its parts."""
    from covenq.client.plans import parts_of_plan
    from covenq.operate import operations

    whole: Redaction | None = None
    for part in parts_of_plan(opened, operations.REDACT, which):
        planned.add(part)
        part.eligible, part.skipped = [], []
        whole = part if whole is None else _merged([whole, part])
    assert whole is not None, "a plan has one part at least"
    ids = planned.whole()
    whole.eligible, whole.skipped, whole.summary, whole.next = ids.eligible, ids.skipped, ids.summary, None
    return whole


def _batches(which: Redact, ids: list[str], size: int) -> list[Redact]:
    from msgspec.structs import replace

    return [replace(which, ids=ids[start : start + size]) for start in range(0, len(ids), size)]


def _merged(answers: Sequence[Redaction]) -> Redaction:
    """Several answers as one: numbers and lists added up, paths listed once."""
    from covenq.operate.answers import Redaction

    whole, *others = answers
    for one in others:
        whole = Redaction(
            whole.eligible + one.eligible,
            whole.skipped + one.skipped,
            whole.done + one.done,
            segments=whole.segments + one.segments,
            freed=whole.freed + one.freed,
            attempts=whole.attempts + one.attempts,
            left=sorted({*whole.left, *one.left}),
            copies=sorted({*whole.copies, *one.copies}),
            copies_unread=sorted({*whole.copies_unread, *one.copies_unread}),
            repositories=whole.repositories or one.repositories,
            elsewhere=whole.elsewhere or one.elsewhere,
            nodes=list({node.name: node for node in [*whole.nodes, *one.nodes]}.values()),
        )
    return whole


def _report(done: Redaction, not_done: Mapping[str, int], *, dry_run: bool, json: bool) -> None:
    if json:
        output.emit_json(done)
    elif dry_run:
        for id in done.eligible:
            output.line(clean(id))
    else:
        for item in done.done:
            output.line(clean(item.id))
    if dry_run:
        _say_plan(done)
    else:
        say_skipped(not_done)
    say_count(len(done.eligible if dry_run else done.done), REDACT, dry_run)
    if done.elsewhere is not None and done.elsewhere.deliveries:
        _say_mentions(done.elsewhere)
    others = [*done.copies, *done.copies_unread]
    if others and (done.done or dry_run):
        say(
            "Not reached by this, and yours to see to; a backup that is run again into the same directory is erased too:"
        )
        for path in others:
            say(f"  {clean(path)}")
    if done.nodes and (done.done or dry_run):
        from covenq.model.nodes_text import absence, named

        for node in done.nodes:
            words = f"{named(node.name, node.address)} {absence(node.state, node.seen)}"
            say(f"Node {clean(words)}: it still has what it had of that, and removes it when it is back.")
        say("`covenq nodes` shows what each has to remove.")
    if done.done:
        say("Backups that were made by other means than `covenq backup` are not known here.")


def _say_plan(plan: Redaction) -> None:
    """Which repository is meant, what of it, what goes for ever, and what stays."""
    from covenq.operate.act.plan_text import FOR_EVER, redaction_lines

    _say_repositories(plan)
    if plan.summary is None:  # an older daemon's
        say_skipped(reasons_of(plan.skipped))
        return
    for words in [*redaction_lines(plan.summary, time.time(), clean), FOR_EVER]:
        say(words)


def _say_repositories(plan: Redaction) -> None:
    """Which repository is meant: a name may have been another's, and it may have had others."""
    for one in plan.repositories:
        name, *others = [clean(name) for name in one.names] or ["a repository without a name"]
        what = "without a number" if one.repo_id is None else str(one.repo_id)
        also = f", also as {', '.join(others[:SHOWN_MAX])}" if others else ""
        say(f"{name} ({what}){also}: {output.count(one.deliveries, 'delivery', 'deliveries')}")


def _say_mentions(found: Mentions) -> None:
    number = output.count(found.deliveries, "delivery", "deliveries")
    names = "names" if found.deliveries == 1 else "name"
    least = "" if found.complete else "At least "
    say(f"{least}{number} of others {names} it too, and stay{'s' if found.deliveries == 1 else ''} as they are:")
    for id in found.examples:
        say(f"  {clean(id)}")


def _any_eligible_skipped(done: Redaction) -> bool:
    skipped = {item.id for item in done.skipped}
    return any(id in skipped for id in done.eligible)


def _say_not_removed(left: Sequence[str]) -> None:
    say("covenq: these could not be removed, and may hold content; the daemon tries again:")
    for path in left[:SHOWN_MAX]:
        say(f"  {clean(path)}")


def _with_progress(opened: Source, what: str, work: Callable[[], A]) -> A:
    """Do the work, with a progress bar of the daemon's on a terminal. Ctrl-C ends the command, not the daemon's work."""
    if not opened.live or not output.is_terminal(sys.stderr):
        return work()
    answers: list[A] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(work())
        except Failure as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        with bar(what) as update:
            while thread.is_alive():
                thread.join(POLL_S)
                upkeep = opened.status().upkeep
                doing = None if upkeep is None else upkeep.doing
                if update is not None and doing is not None:
                    update(doing.done, doing.total)
    except KeyboardInterrupt:
        say("The daemon goes on with it; `covenq status` tells how far it is.")
        raise
    if errors:
        raise errors[0]
    return answers[0]
