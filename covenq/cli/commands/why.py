"""`covenq why`: what became of a request, from its arrival to where it is now.

Its first line serves the decision whether anything is to be done, and what; the rest is the evidence.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.context import source
from covenq.cli.id_prefix import prefix_hint, whole_id
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl, TokenFileOption, UrlOption, complete_id
from covenq.cli.output import clean, say
from covenq.cli.prose import unbroken
from covenq.client.suggestion import suggested, with_suggestions
from covenq.errors import NotFound
from covenq.model.short_ids import with_short_tasks
from covenq.operate.inspect.story_text import UNPROVEN, lines, not_held_words, refused_lines

if TYPE_CHECKING:
    from covenq.model.rows import Repository
    from covenq.operate.inspect.history import StoryVerdict, Target, Why

LABEL = 20
"""Columns of a line's label; a longer label is printed before the words in parentheses."""
COLOURS = {
    "ok": output.state_colour("completed"),
    "active": output.state_colour("running"),
    "idle": output.BOLD,
    "warning": output.WARNING,
    "error": output.state_colour("failed"),
}
"""Of a verdict, by its level."""


def why(
    id: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="GUID, hook/GUID or a task's id, or how it begins; owner/name#n, or a PR's address.",
            autocompletion=complete_id,
        ),
    ],
    rules: Annotated[
        bool, typer.Option("--rules", help="Tell of all of today's rules, not only of those that match or nearly do.")
    ] = False,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Tell what became of it, and why.

    First the verdict, and the command that helps. Accepted? ignored? failed? retried? duplicated? where is it now? Then what
    happened in order, which of today's rules match it and which nearly do and on what term, and what to type next.

    \b
      covenq why 72d3162e-cc78-11e3-81ab-4c9367dc0958
      covenq why https://github.com/octo/hello/pull/7
      covenq why octo/hello#7
    """
    with source(data, config) as opened:
        answer = opened.why(whole_id(opened, id))
    if json:
        output.emit_json(answer)
    elif answer.kind == "target" and len(answer.stories) > 1:
        _print_target(answer)
    else:
        for number, story in enumerate(answer.stories):
            if number:
                output.line()
            _print_verdict(story.verdict)
            _print_lines(lines(story, all_rules=rules))
        if answer.stories and answer.refused:
            _print_lines(refused_lines(answer.refused))
    if answer.target is not None and not json:
        _say_namesakes(answer.target, answer.namesakes)
    if answer.kind == "nothing":
        _raise_not_found(answer, id, quiet=json)


def _shown(text: str) -> str:
    """Text without what a terminal would obey; on a terminal the ids of tasks in it are short, as commands take them.

    In a filter (`id:t…`) they stay whole: there the beginning is none.
    """
    text = clean(text)
    if not output.is_terminal(output.stdout()):
        return text
    return with_short_tasks(text)


def _print_verdict(verdict: StoryVerdict | None) -> None:
    """Its sentence and the command; nothing for a daemon that gives none."""
    if verdict is None:
        return
    coloured = output.has_colour(output.stdout())
    told = output.paint(with_suggestions(_shown(verdict.text)), COLOURS[verdict.level], coloured)
    if verdict.command is not None:
        command = unbroken(suggested(_shown(verdict.command)))
        told += f" {unbroken(f'· {output.paint(command, output.BOLD, coloured)}')}"
    output.prose(told)


def _print_lines(told: Iterator[tuple[str, str]]) -> None:
    coloured = output.has_colour(output.stdout())
    for label, words in told:
        label, words = _shown(label), _shown(words) if label else clean(words)  # what has no label may be quoted
        if not words:
            output.line()
            output.prose(output.paint(label, output.BOLD, coloured))
        elif label.startswith("covenq "):
            output.prose(f"  {unbroken(output.paint(suggested(label), output.BOLD, coloured))}  ({words})", 6)
        elif len(label) <= LABEL:
            words = with_suggestions(words) if label else words
            output.prose(
                f"  {output.paint(label, output.MUTED, coloured)}{' ' * (LABEL + 1 - len(label))}{words}", LABEL + 3
            )
        else:
            output.prose(f"  {label}  ({words})", 6)


def _print_target(answer: Why) -> None:
    """All of an issue's or pull request's deliveries, each with its state and its verdict."""
    target = answer.target
    if target is None:
        return
    coloured = output.has_colour(output.stdout())
    shown = output.count(len(answer.stories), "delivery", "deliveries")
    _print_verdict(answer.verdict)
    output.line()
    output.line(f"{clean(target.repo)}#{target.number}: {'the newest ' if answer.more else ''}{shown}, newest first")
    for story in answer.stories:
        delivery = story.delivery
        event = f"{delivery.event}.{delivery.action}" if delivery.action else delivery.event
        state = output.paint(clean(delivery.state), output.state_colour(delivery.state), coloured)
        output.line(f"\n{clean(story.id)}  {clean(event)}  {output.timestamp(delivery.received_at)}  {state}")
        told = story.answers.now.words if story.verdict is None else story.verdict.text  # an older daemon gives none
        output.prose(f"  {_shown(told)}", 4)
    say("`covenq why GUID` tells one of them whole.")


def _say_namesakes(target: Target, namesakes: Sequence[Repository]) -> None:
    for one in namesakes:
        if one.repo_id is None:
            say(f"Deliveries without a number had that name too: covenq deliveries repo:{target.repo} -repo_id:*")
            continue
        others = [name for name in one.names if name.lower() != target.repo.lower()]
        now = f", later {clean(others[0])}" if others else ""
        say(
            f"Another repository ({one.repo_id}{now}) had that name too: "
            f"covenq deliveries repo_id:{one.repo_id} number:{target.number}"
        )


def _raise_not_found(answer: Why, id: str, *, quiet: bool) -> None:
    """Raises NotFound, with the refusals of that id, if there were any."""
    if answer.target:
        target = answer.target
        raise NotFound(
            f"nothing that is held is about {target.repo}#{target.number}; what was refused or erased can't be found by that",
            hint="`covenq why GUID` tells of those too. `covenq deliveries repo:OWNER/NAME` shows what came from the repository, "
            "GitHub what was sent.",
        )
    refusals = answer.refused
    if answer.not_held:
        words, hint = not_held_words(answer.not_held[-1], time.time())
        for refusal in refusals if not quiet else ():
            say(f"{output.timestamp(refusal.at)}  {refusal.status} {clean(refusal.error)}: {clean(refusal.detail)}")
        raise NotFound(words, hint=hint)
    if refusals:
        for one in refusals if not quiet else ():
            say(f"{output.timestamp(one.at)}  {one.status} {clean(one.error)}: {clean(one.detail)}")
        raise NotFound(
            f"it was refused {'once' if len(refusals) == 1 else f'{len(refusals)} times'}, if it was what it said: {UNPROVEN}; "
            "nothing else of it is kept",
            hint=refusals[-1].hint or "Mend what the last refusal says, then have GitHub redeliver it.",
        )
    raise NotFound(
        "nothing of it is held, and no refusal of it is kept",
        hint=prefix_hint(id)
        or "The newest 2 MiB of refusals are kept: `covenq refused`. See on GitHub whether the hook sent it, where to and what "
        "it was answered; `covenq status` says where the webhook is.",
    )
