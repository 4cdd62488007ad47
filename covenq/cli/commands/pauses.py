"""`covenq pause`, `covenq resume`: stop and continue the intake, the worker, a route, a repository or an installation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.bulk import ask, operator_name
from covenq.cli.context import source
from covenq.cli.options import (
    ConfigOption,
    DataOption,
    DryRun,
    Json,
    Jsonl,
    Reason,
    TokenFileOption,
    UrlOption,
    Yes,
    complete_paused,
    one_of,
)
from covenq.cli.output import clean, command_text, say
from covenq.errors import UsageError
from covenq.model.pause_text import pause_details, pause_subject

if TYPE_CHECKING:
    from covenq.model.status import ReconcileStatus
    from covenq.operate.answers import Paused

What = Annotated[
    str | None,
    typer.Argument(
        metavar="WHAT",
        help="intake, worker, route, repo or installation.",
        show_default=False,
        autocompletion=one_of("intake", "worker", "route", "repo", "installation"),
    ),
]
Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="The route's name, OWNER/NAME, or the installation's number.",
        show_default=False,
        autocompletion=complete_paused,
    ),
]


def pause(
    what: What = None,
    name: Name = None,
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
    """Hold the intake, the worker, or a part of the work.

    It lasts until `covenq resume`, restarts included. While the intake is paused deliveries are answered 503, and GitHub
    does not send them again by itself, so that is asked about first, or needs --yes: pause the worker, or a part of it,
    wherever that will do. Deliveries are then accepted, and their tasks wait; what runs already runs on. `covenq status`
    shows what is paused, and --dry-run how many tasks it would hold.

    \b
      covenq pause worker --reason "deploying"
      covenq pause route fix-issue
      covenq pause repo octo/hello
      covenq pause installation 2311
    """
    from covenq.operate import operations
    from covenq.operate.parameters import Pause

    wanted = _required_subject("pause", what)
    with source(data, config) as opened:
        if wanted == "intake":
            _ask_about_intake(yes or dry_run, opened.status().reconcile)
        pause = Pause(what=wanted, name=name, reason=reason, by=operator_name(), dry_run=dry_run)
        done = opened.act(operations.PAUSE, pause)
    if json:
        with output.report_of_act(not dry_run):
            output.emit_json(done)
        return
    if done.changed and dry_run:
        say(f"{_sentence_subject(done)} would be paused.")
        _say_tasks(done)
    elif done.changed:
        command = command_text("covenq", "resume", done.what, *_names(done, name))
        say(f"{_sentence_subject(done)} is paused; `{command}` ends it.")
        _say_tasks(done)
        if done.what == "repo" and done.name is None:
            say("No delivery of that repository has come yet: check the spelling.")
    else:
        say(f"{_sentence_subject(done)} was paused already, {_details(done)}.")


def resume(
    what: What = None,
    name: Name = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """End what `covenq pause` began.

    \b
      covenq resume worker
      covenq resume repo octo/hello
    """
    from covenq.operate import operations
    from covenq.operate.act import intake_pause
    from covenq.operate.parameters import Pause

    wanted = _required_subject("resume", what)
    with source(data, config) as opened:
        pause = Pause(what=wanted, name=name, reason=reason, by=operator_name(), dry_run=dry_run)
        done = opened.act(operations.RESUME, pause)
        passes = opened.status().reconcile if done.changed and wanted == "intake" and not json else None
    if json:
        with output.report_of_act(not dry_run):
            output.emit_json(done)
    elif done.changed:
        goes, was = ("would go", "it is") if dry_run else ("goes", "it was")
        say(f"{_sentence_subject(done)} {goes} on; {was} paused {_details(done)}.")
        _say_tasks(done)
        if passes is not None:
            say(intake_pause.fetched_later(passes))
    else:
        say(f"{_sentence_subject(done, name)} was not paused. `covenq status` shows what is.")


def _ask_about_intake(yes: bool, passes: ReconcileStatus | None) -> None:
    """Say what it costs, and ask. Raises typer.Exit on a no, UsageError without a terminal to ask at."""
    from covenq.operate.act import intake_pause

    for words in (intake_pause.cost(passes), intake_pause.INSTEAD, intake_pause.END):
        say(words)
    if not yes:
        ask("pause the intake", hint="Add --yes to do it, or pause the worker: `covenq pause worker`.")


def _say_tasks(done: Paused) -> None:
    """The tasks that it holds, or that go on."""
    from covenq.operate.act.plan_text import pause_lines

    for words in pause_lines(done, time.time(), clean):
        say(words)


def _names(pause: Paused, name: str | None) -> list[str]:
    """The name, as an argument."""
    known = pause.repo or pause.name or name
    return [] if known is None else [known]


def _details(done: Paused) -> str:
    return clean(pause_details(done.since, done.by, done.reason, time.time()))


def _sentence_subject(pause: Paused, name: str | None = None) -> str:
    return f"The {clean(pause_subject(pause.what, pause.repo or pause.name or name))}"


def _required_subject(verb: str, what: str | None) -> str:
    if what is None:
        raise UsageError(
            f"{verb} what?",
            hint=f"`covenq {verb}` intake, worker, route NAME, repo OWNER/NAME or installation ID; "
            "`covenq status` shows what is paused.",
        )
    return what
