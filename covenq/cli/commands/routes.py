"""`covenq routes`: lists the routes, checks them, tries them on a payload, and compares them on stored deliveries."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from covenq.cli import output
from covenq.cli.context import Location, locate_in_use, newest_of, source
from covenq.cli.filter_words import TAKES_WORDS, FilterCommand
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl, Words
from covenq.cli.output import clean, say
from covenq.cli.progress import bar
from covenq.cli.table import Column, print_table
from covenq.errors import ConfigError, Failure, NotFound, UsageError
from covenq.model import parse_duration
from covenq.text import duration, shorten_middle
from journal.presence import is_absent

if TYPE_CHECKING:
    from covenq.cli.route_trial import Trial
    from covenq.client.interface import Source
    from covenq.config.load import Config
    from covenq.config.route import Route
    from covenq.model.rows import Delivery
    from covenq.routing.diff import DiffReport
    from covenq.routing.verdicts import Verdict

routes = typer.Typer(
    name="routes", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=False
)


@routes.callback(invoke_without_command=True)
def listing(
    ctx: typer.Context, json: Json = False, jsonl: Jsonl = False, data: DataOption = None, config: ConfigOption = None
) -> None:
    """List the routes; check them, try them, compare them.

    Without --config these are the running daemon's, whichever configuration it was started with.

    \b
      covenq routes check --config new.toml
      covenq routes test --event issues --file payload.json
      covenq routes diff --config new.toml --since 7d
    """
    if ctx.invoked_subcommand is not None:
        return
    from covenq.config.route import route_object

    loaded = locate_in_use(data, config).config
    lines = _lines(loaded)
    if json:
        path = None if loaded.path is None else str(loaded.path)
        found = [{**route_object(route), "line": line} for route, line in zip(loaded.routes, lines, strict=True)]
        output.emit_page(found, next=None, sha256=loaded.sha256, config=path)
    elif not print_table(COLUMNS, zip(loaded.routes, lines, strict=True)):
        say("There are no routes: every delivery is kept and ignored. `covenq init` writes some to start from.")


def _does(route: Route) -> str:
    age = "" if route.max_age_s is None else f"; max_age {duration(route.max_age_s)}"
    return _action_text(route) + age + ("" if route.token is None else f"; {route.token.words}")


def _action_text(route: Route) -> str:
    if route.kind == "forward":
        signed = f", signed with the secret {route.sign!r}" if route.sign is not None else ""
        return f"forwards to {route.forward}{signed}"
    if route.kind == "act":
        return (
            f"{route.purpose}s its tasks there"
            if route.purpose == "cancel"
            else "requeues what of its tasks there failed"
        )
    return " ".join(route.run) if route.kind == "run" else "waits for a worker elsewhere"


def _match_text(route: Route) -> str:
    from covenq.routing.trigger import words

    return words(route.trigger) if route.trigger is not None else route.match or "everything"


def _lines(config: Config) -> list[int | None]:
    """The line of the configuration that each route comes from; None where that can't be told."""
    from contextlib import suppress

    from covenq import given_file
    from covenq.config.load import FILE_MAX
    from covenq.config.toml_position import locate_each

    text = ""
    if config.path is not None:
        # It was read a moment ago; what it says now is another matter, and these are lines to look at, no more.
        with suppress(OSError, ValueError):
            text = given_file.read(config.path, FILE_MAX).decode("utf-8")
    found = locate_each(text, [route.place for route in config.routes])
    return [None if one is None else one[0] for one in found]


COLUMNS: list[Column[tuple[Route, int | None]]] = [
    Column("ROUTE", lambda row: row[0].name, shrink=24, cut=shorten_middle),
    Column("KIND", lambda row: row[0].kind, rank=2),
    Column("MATCH", lambda row: _match_text(row[0]), shrink=20, wraps=True),
    Column("KEY", lambda row: row[0].key or "", shrink=10, wraps=True, rank=1),
    Column("DOES", lambda row: _does(row[0]), shrink=16, wraps=True),
    Column("LINE", lambda row: "" if row[1] is None else str(row[1]), rank=3),
]


@routes.command()
def check(json: Json = False, jsonl: Jsonl = False, data: DataOption = None, config: ConfigOption = None) -> None:
    """Check the configuration: what is wrong, and what may be.

    Exits with 2 if it can't be used. Warnings are about what it says and hardly means.
    """
    from covenq.config.route import route_object

    located = locate_in_use(data, config)
    loaded = located.config
    _require_repositories(loaded)
    warnings = [*_warnings(loaded), *_renamed(located, data, config)]
    if json:
        found = [route_object(route) for route in loaded.routes]
        output.emit_json({"ok": True, "sha256": loaded.sha256, "routes": found, "warnings": warnings})
        return
    where = "the defaults, since there is no configuration" if loaded.path is None else clean(loaded.path)
    for warning in warnings:
        say(f"warning: {clean(warning['words'])}")
    output.prose(f"{where}: {output.count(len(loaded.routes), 'route')}, sha256 {loaded.sha256[:16]}")


def _require_repositories(config: Config) -> None:
    """Raises ConfigError for a route whose token is for a repository, and that takes events without one: those tasks fail."""
    from covenq.operate.inspect.route_check import token_problem

    for route in config.routes:
        if (problem := token_problem(route)) is not None:
            hint = 'Restrict its match to events of repositories, or write repositories = "all" in its token.'
            raise ConfigError(f"{route.name}: {problem}", hint=hint)


def _warnings(config: Config) -> Iterator[dict[str, str | None]]:
    """{"route", "words"} of each problem that can be found without running the routes."""
    from covenq.operate.inspect.route_check import problems

    if not config.routes:
        yield {"route": None, "words": "there are no routes: every delivery is kept and ignored"}
    seen: dict[str, str] = {}
    first = {route.place: route.name for route in reversed(config.routes)}
    for route in config.routes:
        # Those that a familiar makes run the same: one tells it for all.
        if route.kind == "run" and first[route.place] == route.name and shutil.which(route.run[0]) is None:
            yield {"route": route.name, "words": f"{route.name}: {route.run[0]!r} is no command that this user finds"}
        if not route.match.strip():
            yield {"route": route.name, "words": f"{route.name}: it has no match, so it takes everything but pings"}
        alike = route.name if route.trigger is not None else " ".join(sorted(route.match.split()))
        other = seen.setdefault(alike, route.name)
        if other != route.name:
            yield {"route": route.name, "words": f"{route.name}: it matches just what {other} matches; both will run"}
        for problem in problems(route):
            yield {"route": route.name, "words": f"{route.name}: {problem}"}


def _renamed(where: Location, data: str | None, config: str | None) -> Iterator[dict[str, str | None]]:
    """As `_warnings`, of what is known of repositories here; nothing where nothing ever came."""
    import sqlite3

    from covenq.operate.maintain.renamed_routes import names_repositories, renamed

    if not names_repositories(where.config.routes) or is_absent(where.data):
        return
    try:
        with source(data, config) as opened:
            for one in renamed(where.config.routes, partial(newest_of, opened)):
                yield {"route": one.route, "words": f"{one.route}: {one.words}: write {one.instead}"}
    except (*Failure, OSError, sqlite3.Error) as error:
        yield {"route": None, "words": f"whether a repository was renamed can't be told: {error}"}


@routes.command()
def test(
    event: Annotated[
        str | None, typer.Option("--event", metavar="NAME", help="X-GitHub-Event of a payload alone.")
    ] = None,
    file: Annotated[
        str, typer.Option("--file", "-f", metavar="PATH", help="A payload, or what `covenq export` wrote; - is stdin.")
    ] = "-",
    expected: Annotated[
        str | None,
        typer.Option("--expect", metavar="NAMES", help="Exit with 1 unless exactly these match: a,b; none for none."),
    ] = None,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Try the routes on a payload, or on exported deliveries: which match, which don't, on what term.

    Nothing is recorded, and nothing runs.

    \b
      covenq routes test --event issues --file payload.json
      covenq export 'repo:octo/hello since:1d' --output incident.jsonl
      covenq routes test --file incident.jsonl
    """
    from covenq.cli.route_trial import read, trials

    wanted = _expected_names(expected)
    loaded = locate_in_use(data, config).config
    lost: list[str] = []
    tried = [(one, _verdicts(loaded, one)) for one in trials(read(file), file, event, lost)]
    if lost and not tried:
        raise UsageError(
            f"{file}: none of its deliveries has a payload, and routes look at payloads",
            hint="They were exported after retention or an erasure had dropped it.",
        )
    answers = [_trial_object(one, found) for one, found in tried]
    if json and len(answers) + len(lost) == 1:
        output.emit_json(answers[0])
    elif json:
        output.emit_page(answers, next=None, without_payload=lost)
    else:
        for one, found in tried:
            if len(tried) + len(lost) > 1:
                output.line(f"{clean(one.id)}  {clean(one.event)}")
            _print_test(found)
    if lost:
        untried = output.count(len(lost), "delivery", "deliveries")
        say(f"{untried} without a payload could not be tried, {clean(lost[0])} for one.")
    if expected is not None:
        matching = {name for _, found in tried for name in _matching(found)}
        if wanted != matching:
            for name in sorted(wanted - {route.name for route in loaded.routes}):
                say(f"There is no route {clean(name)}.")
            say(f"expected {', '.join(sorted(wanted)) or 'none'}, and it is {', '.join(sorted(matching)) or 'none'}")
            raise typer.Exit(1)


def _expected_names(expected: str | None) -> set[str]:
    """The routes that are to match. Raises UsageError for an empty list, which is not `none`."""
    names = {name.strip() for name in (expected or "").split(",")} - {""}
    if expected is not None and not names:
        raise UsageError("--expect is empty", hint="Name routes, a,b, or say none.")
    return set() if names == {"none"} else names


_Tried = list[tuple["Verdict", str | None, float | None]]
"""The verdict of each route, the key that its task would have, and its own `max_age` in seconds."""


def _verdicts(config: Config, one: Trial) -> _Tried:
    from covenq.routing.decide import PING, key
    from covenq.routing.verdicts import verdicts

    found = [] if one.event == PING else verdicts(config.routes, one.row, lambda: one.body, now=time.time())
    by_name = {route.name: route for route in config.routes}
    tried = [(verdict, by_name[verdict.route]) for verdict in found]
    return [(verdict, key(route.key, one.row), route.max_age_s) for verdict, route in tried]


def _matching(found: _Tried) -> list[str]:
    return [verdict.route for verdict, *_ in found if verdict.matches]


def _trial_object(one: Trial, found: _Tried) -> dict[str, object]:
    return {
        "delivery": one.id,
        "event": one.event,
        "columns": one.columns,
        "state": "queued" if _matching(found) else "ignored",
        "routes": [{**msgspec.to_builtins(verdict), "key": its, "max_age_s": age} for verdict, its, age in found],
        "matching": _matching(found),
    }


def _print_test(found: _Tried) -> None:
    """Each route's verdict, in words, and how many tasks it would be."""
    from covenq.operate.inspect.story_text import verdict_words

    for verdict, its, age in found:
        held = f" (key {its})" if verdict.matches and its else ""
        if verdict.matches and age is not None:
            held += f" (held back where it is fetched more than {duration(age)} after it was sent)"
        output.prose(f"{clean(verdict.route)}  {clean(verdict_words(verdict) + held)}")
    count = len(_matching(found))
    say(f"It would make {output.count(count, 'task')}." if count else "It would be ignored.")


@routes.command(cls=FilterCommand, context_settings=TAKES_WORDS)
def diff(
    words: Words = None,
    config: Annotated[str | None, typer.Option("--config", metavar="PATH", help="The new configuration.")] = None,
    since: Annotated[str, typer.Option("--since", metavar="DURATION", help="Of what came in this time.")] = "7d",
    old: Annotated[
        str | None, typer.Option("--old", metavar="PATH", help="What it is compared with, unless the one in use.")
    ] = None,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
) -> None:
    """Show what new rules would have done with what really came.

    The rules of `--config` are held against those in use, on every stored delivery of that time, or those that a filter
    matches. If they are those in use, or none are, they are held against what was decided then. Nothing is recorded, and
    nothing runs.

    \b
      covenq routes diff --config new.toml --since 7d
      covenq routes diff --config new.toml event:issues repo:octo/hello
    """
    from covenq.config import load as configuration
    from covenq.routing.diff import Diff

    if config is None:
        raise UsageError("which is the new one?", hint="Give --config PATH; nothing is changed by looking.")
    parse_duration(since)
    new = configuration.load(Path(config).expanduser(), os.environ)
    now = locate_in_use(data, old).config
    # Rules that one names are held against, whichever file they are in; without any in use, nothing but the decisions is left.
    in_use = old is None and (now.path is None or (new.path is not None and _same_file(now.path, new.path)))
    found = Diff(None if in_use else now.routes, new.routes)
    filter = [*(words or []), f"since:{since}"]
    with source(data, old) as opened, bar("deliveries held against the rules") as update:
        for row in _each(opened, filter):
            found.add(row, _payload(opened, f"{row.hook}/{row.guid}"), partial(_decided, opened, row))
            if update is not None and found.looked_at % 100 == 0:
                update(found.looked_at, 0)
    report = found.report()
    if json:
        output.emit_json(report)
    else:
        _print_diff(report)
        if in_use:
            why = "no configuration is in use here" if now.path is None else "these are the rules in use"
            say(f"They were held against what was decided when each delivery came: {why}.")


def _each(opened: Source, filter: list[str]) -> Iterator[Delivery]:
    from covenq.client.interface import each

    return each(opened.deliveries, filter)


def _decided(opened: Source, row: Delivery) -> set[str]:
    """The routes of its tasks, also of those that a replay made."""
    return {route for id in row.tasks if (route := opened.task(id).route) is not None}


def _payload(opened: Source, id: str) -> Callable[[], object]:
    """The delivery's decoded payload, to be asked for when a rule needs it; it raises PayloadLost."""
    from covenq.github.request import decode
    from covenq.routing.diff import PayloadLost

    def payload() -> object:
        try:
            return decode(opened.payload(id))
        except NotFound as error:
            raise PayloadLost from error

    return payload


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from None


def _print_diff(report: DiffReport) -> None:
    for sign, what, counts in (
        ("+", "more", report.gained),
        ("-", "fewer", report.lost),
        ("!", "where it fails", report.fails),
    ):
        for name, number in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
            noun = output.count(number, "delivery", "deliveries") if sign == "!" else output.count(number, "task")
            output.prose(f"{sign} {clean(name)}: {noun} {what}")
            for one in report.examples.get(f"{sign} {name}", ()):
                event = f"{one.event}.{one.action}" if one.action else one.event
                target = one.repo or ""
                if one.number is not None:
                    target += f"#{one.number}"
                output.prose(f"    {clean(one.id)}  {clean(event)}  {clean(target)}".rstrip(), 8)
    for name in report.policies:
        output.prose(f"~ {clean(name)}: its tasks would be run otherwise")
    say(
        f"{output.count(report.deliveries, 'delivery', 'deliveries')}: {report.same:,} the same, "
        f"{report.changed:,} otherwise; {report.newly_taken:,} that were ignored would be taken, "
        f"{report.newly_ignored:,} that were taken would be ignored."
    )
    if report.untold:
        say(f"Of {report.untold:,} it can't be told: a rule asks for content that is no longer kept.")
