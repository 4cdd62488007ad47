"""`covenq doctor`: what may be wrong, and one next step for each thing, beside it.

It serves one decision: what to type next. `covenq.operate.maintain.finding` has the rule by which a finding is a problem.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.context import Location, known_data_dir, locate_in_use, newest_of, source
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl
from covenq.cli.output import clean, say
from covenq.cli.prose import unbroken
from covenq.cli.waiting_lines import typed_here
from covenq.client.suggestion import with_suggestions
from covenq.errors import ConfigError, CovenqError, Damaged, Failure
from covenq.text import duration
from journal.errors import JournalDamaged
from journal.presence import is_directory

if TYPE_CHECKING:
    from covenq.config.load import Config
    from covenq.model.answers import Secret
    from covenq.model.route_times import RouteMinutes
    from covenq.model.status import Status
    from covenq.operate.maintain.finding import Finding
    from covenq.operate.maintain.github_look import GithubSeen
    from covenq.operate.maintain.renamed_routes import Renamed

COLOURS = {"ok": output.GOOD, "warning": output.WARNING, "problem": output.BAD}
LEVEL, CHECK = 9, 15
"""Columns of a finding's level, and of what was examined."""


def doctor(
    crash_test: Annotated[
        bool,
        typer.Option(
            "--crash-test", help="Also kill a daemon under load in a scratch directory on this very disk, and count."
        ),
    ] = False,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Look for what may be wrong.

    Configuration, secrets, permissions, the daemon, the journal, the nodes that share it, pauses, disk and clock, the port, what
    was refused, and what GitHub says of the webhooks, where [github.app] or a [[github.hook]] is configured. Each finding has one
    next step. Nothing is changed. Exits with 1 if there is a problem, and that no daemon runs is one; warnings alone are none.
    """
    from covenq.config.load import build
    from covenq.operate.maintain.doctor import examine
    from covenq.operate.maintain.finding import BAD, WARN, DoctorContext, Finding

    findings = []
    try:
        where = locate_in_use(data, config, say=lambda words: None)  # a finding says it
    except ConfigError as error:
        directory = known_data_dir(data, config)
        if directory is None:
            raise
        findings.append(Finding("configuration", BAD, str(error), error.hint))
        where = Location(build({}, None, {}), directory)
    asked = _ask_github(where.config)
    seen = _look(data, config, where.config, asked)
    context = DoctorContext(
        where.config,
        where.data,
        os.environ,
        seen.status,
        seen.trouble,
        seen.newest_at,
        time.time(),
        seen.damage,
        seen.secrets,
        seen.renamed,
        seen.next,
        asked,
        seen.failing,
        frozenset(seen.arrived),
    )
    findings += examine(context, command=shutil.which, configured=not findings)
    if crash_test:
        findings += [Finding("crash test", level, words, next) for level, words, next in _crash_test_findings(where)]
    worst = [finding for finding in findings if finding.level == BAD]
    with output.report_of_verdict():
        if json:
            output.emit_json({"ok": not worst, "findings": [finding.object() for finding in findings]})
        else:
            _print(findings)
    if not json:
        warned = sum(finding.level == WARN for finding in findings)
        say(f"{output.count(len(worst), 'problem')}, {output.count(warned, 'warning')}.")
    if worst:
        raise typer.Exit(1)


def _print(findings: Sequence[Finding]) -> None:
    """The gravest first, and below each what to do about it: who reads one looks for that next."""
    from covenq.operate.maintain.finding import GRAVEST_FIRST

    coloured = output.has_colour(output.stdout())
    hang = LEVEL + CHECK
    for one in sorted(findings, key=lambda one: GRAVEST_FIRST.index(one.level)):
        level = output.paint(one.level, COLOURS.get(one.level, ""), coloured) + " " * (LEVEL - len(one.level))
        output.prose(f"{level}{clean(one.check):<{CHECK}}{clean(one.words)}", hang)
        if one.next is not None:
            next = with_suggestions(clean(one.next))
            if next.startswith(("covenq ", "chmod ")) and not next.endswith(
                "."
            ):  # a command alone, which is copied whole
                next = unbroken(next)
            output.prose(f"{' ' * hang}next: {next}", hang + len("next: "))


@dataclass(slots=True)
class _Seen:
    """What was read of the daemon, or of the files, up to an error: `damage`, or `trouble` with what to do `next` about it.

    A status that was read stays: it says of what stands still why the rest can't be had.
    """

    status: Status | None = None
    newest_at: str | None = None
    secrets: list[Secret] = field(default_factory=list)
    """Only if the scope of any has repositories."""
    renamed: list[Renamed] = field(default_factory=list)
    arrived: list[str] = field(default_factory=list)
    """Events that came lately, of those that no webhook of the configuration is subscribed to."""
    failing: list[RouteMinutes] = field(default_factory=list)
    trouble: str | None = None
    next: str | None = None
    damage: str | None = None


def _ask_github(examined: Config) -> GithubSeen | None:
    """What GitHub says, where the configuration names anything of it to ask about."""
    logs = examined.github_logs
    if logs.app is None and not logs.hooks:
        return None
    from covenq.operate.maintain.github_look import look

    return look(logs, os.environ)


def _look(data: str | None, config: str | None, examined: Config, asked: GithubSeen | None) -> _Seen:
    import sqlite3

    from covenq.model.route_times import failing
    from covenq.operate.maintain.drift import ARRIVED_S, not_subscribed
    from covenq.operate.maintain.renamed_routes import renamed

    seen = _Seen()
    try:
        with source(data, config) as opened:
            seen.status = opened.status()
            typed_here(seen.status.waiting)
            items = opened.tail("", newest=1).items
            seen.newest_at = items[-1].at if items else None
            if any(one.scope.repositories for one in examined.secrets):
                seen.secrets = opened.secrets().items
            seen.renamed = list(renamed(examined.routes, partial(newest_of, opened)))
            for event in not_subscribed(asked, examined.routes):
                if newest_of(opened, f"event:{event} since:{duration(ARRIVED_S)}") is not None:
                    seen.arrived.append(event)
            seen.failing = failing(opened.throughput().routes, seen.status.waiting)
    except (JournalDamaged, Damaged) as error:
        seen.damage = str(error)
    except OSError as error:
        seen.trouble = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    except Failure as error:
        seen.trouble, seen.next = str(error), error.hint
    except sqlite3.Error as error:
        damaged = type(error) is sqlite3.DatabaseError
        seen.next = "Type it again: a damaged state.db is made anew, and nothing is lost." if damaged else None
        seen.trouble = f"state.db can't be read: {error}"
    return seen


def _crash_test_findings(where: Location) -> list[tuple[str, str, str | None]]:
    """(level, words, next) of the crash test, run on the data directory's own disk."""
    from covenq.cli.commands.demo import remove_directory, run_crash_test

    if not is_directory(where.data):
        raise CovenqError(f"{where.data} isn't there yet", hint="Start with `covenq serve`, then test its disk.")
    directory = Path(tempfile.mkdtemp(prefix=".crash-test-", dir=where.data))
    try:
        checks = run_crash_test(directory)
    finally:
        remove_directory(directory)
    broken = [check for check in checks if not check.ok]
    if not broken:
        accepted = checks[0].found
        return [
            ("ok", f"{accepted} deliveries accepted around a SIGKILL: none lost, none doubled, none ran twice", None)
        ]
    return [
        ("problem", f"{check.what}: {check.found}, and not {check.promised}", "covenq demo --keep") for check in broken
    ]
