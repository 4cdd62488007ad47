"""The Typer application: the table of commands and their modules, imported lazily.

A command's module is imported only when that command runs (or when help lists them all), so that `covenq tasks`
starts in little more time than Typer itself needs. For the same reason modules here import nothing heavy at their top.
"""

from __future__ import annotations

import importlib
import keyword
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, cast

import typer
from typer.core import TyperGroup

from covenq import __version__
from covenq.errors import UsageError

if TYPE_CHECKING:
    # Typer's own copy of Click, which it exports nowhere: for types alone
    from typer._click import Command, HelpFormatter, Parameter
    from typer._click import Context as ClickContext

GROUPS: dict[str, dict[str, str]] = {
    "Run": {
        "serve": "covenq.cli.commands.serve",
        "listen": "covenq.cli.commands.listen",
        "worker": "covenq.cli.commands.worker",
        "phase": "covenq.cli.commands.worker",
    },
    "Look": {
        "status": "covenq.cli.commands.status",
        "nodes": "covenq.cli.commands.nodes",
        "tui": "covenq.cli.commands.tui",
        "deliveries": "covenq.cli.commands.listing",
        "tasks": "covenq.cli.commands.listing",
        "show": "covenq.cli.commands.show",
        "why": "covenq.cli.commands.why",
        "logs": "covenq.cli.commands.logs",
        "tail": "covenq.cli.commands.tail",
        "stats": "covenq.cli.commands.stats",
        "usage": "covenq.cli.commands.usage",
        "refused": "covenq.cli.commands.refused",
        "audit": "covenq.cli.commands.audit",
    },
    "Act": {
        "replay": "covenq.cli.commands.actions",
        "reroute": "covenq.cli.commands.actions",
        "requeue": "covenq.cli.commands.actions",
        "cancel": "covenq.cli.commands.actions",
        "pause": "covenq.cli.commands.pauses",
        "resume": "covenq.cli.commands.pauses",
    },
    "Routes": {
        "routes": "covenq.cli.commands.routes",
        "send": "covenq.cli.commands.send",
    },
    "Care": {
        "doctor": "covenq.cli.commands.doctor",
        "notify": "covenq.cli.commands.notify",
        "reconcile": "covenq.cli.commands.reconcile",
        "ledger": "covenq.cli.commands.ledger",
        "verify": "covenq.cli.commands.verify",
        "salvage": "covenq.cli.commands.salvage",
        "backup": "covenq.cli.commands.backup",
        "migrate": "covenq.cli.commands.migrate",
        "handover": "covenq.cli.commands.handover",
        "compact": "covenq.cli.commands.maintenance",
        "redact": "covenq.cli.commands.maintenance",
        "keep": "covenq.cli.commands.keep",
        "export": "covenq.cli.commands.exchange",
        "import": "covenq.cli.commands.exchange",
    },
    "Setup": {
        "init": "covenq.cli.commands.init",
        "info": "covenq.cli.commands.info",
        "secrets": "covenq.cli.commands.secrets",
        "tokens": "covenq.cli.commands.tokens",
        "bench": "covenq.cli.commands.bench",
        "demo": "covenq.cli.commands.demo",
    },
}
"""Every command, by what one does with it, and the module that has a function of its name, or a Typer with commands of its own.

In the order in which help shows them: who looks for a command knows what it is for, and not its name."""

COMMANDS = {name: module for group in GROUPS.values() for name, module in group.items()}

TAKES_FILTER = frozenset(
    "listen deliveries tasks tail audit stats usage export reconcile replay reroute requeue cancel redact".split()
)
"""Commands whose arguments are filter words: `-field:x` is a negated term for them, not an unknown option.

They have long options only, because Typer would read each letter of `-number:7` as a short option.
"""

HANDLES_SIGNALS = frozenset({"serve", "listen", "worker", "tui"})
"""Commands that set by themselves what signals do."""

BYTES_METAVARS = frozenset({"PATH", "DIR", "FILE", "COMMAND"})
"""Metavars of arguments that may be any bytes: names of files, and the words of a command to run. All others must be UTF-8."""


MAY_BE_EMPTY = frozenset({"reason", "expected"})
"""Parameters whose empty text says something, or is refused with a hint of its own."""


_UsageError = cast(type[typer.BadParameter], typer.BadParameter.__bases__[0])
"""What Typer raises for anything typed that it doesn't take: its own copy of Click's, which it exports nowhere."""


class LazyGroup(TyperGroup):
    """A command group that imports and builds a command only when it is looked up."""

    def list_commands(self, ctx: object) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> Command | None:
        if cmd_name not in self.commands:
            # For an unknown name all are built: Typer's "did you mean" compares it with each.
            for name in [cmd_name] if cmd_name in COMMANDS else COMMANDS:
                self.commands[name] = build(name)
        return self.commands.get(cmd_name)

    def invoke(self, ctx: ClickContext) -> object:
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            _wrap_message(error)
            raise

    def format_commands(self, ctx: ClickContext, formatter: HelpFormatter) -> None:
        """The commands by their groups. Each one's first sentence is whole, and wraps: one that is cut says nothing."""
        longest = max(map(len, COMMANDS))
        for heading, names in GROUPS.items():
            found = ((name, self.get_command(ctx, name)) for name in names)
            with formatter.section(heading):
                formatter.write_dl([(f"{name:<{longest}}", one.get_short_help_str(1000)) for name, one in found if one])


def _wrap_message(error: typer.BadParameter) -> None:
    """Have Typer's words about what was typed be wrapped: it prints `Error: ` before them."""
    from covenq.cli.prose import wrap
    from covenq.cli.terminal_width import columns

    lines = wrap(f"Error: {error.format_message()}", columns(sys.stderr))
    told = "\n".join(lines).removeprefix("Error: ")
    error.format_message = lambda: told  # type: ignore[method-assign]  # it is what Typer asks for its words


def build(name: str) -> Command:
    """The command of that name, from the signature of its function: that has all the options that it takes."""
    module = importlib.import_module(COMMANDS[name])
    function = getattr(module, f"{name}_" if keyword.iskeyword(name) else name)
    if isinstance(function, typer.Typer):
        return _prepared(typer.main.get_command(function))
    one = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    if name in TAKES_FILTER:
        from covenq.cli.filter_words import TAKES_WORDS, FilterCommand

        one.command(name, cls=FilterCommand, context_settings=TAKES_WORDS)(function)
    else:
        one.command(name)(function)
    return _prepared(typer.main.get_command(one))


def _prepared(command: Command) -> Command:
    """The command, and its subcommands, with what each does before its own function, once its arguments are parsed.

    It refuses arguments that aren't UTF-8, and takes the options that commands share (`covenq.cli.shared_options`).
    """
    if isinstance(command, TyperGroup):
        for one in command.commands.values():
            _prepared(one)
    metavars = {param.name: param.metavar for param in command.params if param.metavar not in BYTES_METAVARS}
    filled = {param.name: shown for param in command.params if (shown := _shown_if_filled(param)) is not None}
    function = command.callback
    assert function is not None

    def run(**given: object) -> None:
        for name, metavar in metavars.items():
            _refuse_other_than_utf8(given[name], metavar)
        for name, shown in filled.items():
            value = given[name]
            if "" in (value if isinstance(value, list | tuple) else [value]):
                raise UsageError(f"{shown} is empty", hint="Give it a value, or leave it out: a variable may be unset.")
        from covenq.cli.shared_options import taken

        with taken(given) as arguments, _interrupted_by_sigterm(command.name or ""):
            function(**arguments)

    command.callback = run
    return command


@contextmanager
def _interrupted_by_sigterm(name: str) -> Iterator[None]:
    """SIGTERM and SIGHUP end a command as Ctrl-C does: what it was writing is removed, and how far it came is said.

    Not those of HANDLES_SIGNALS, nor where a signal is ignored, as under nohup.
    """
    if name in HANDLES_SIGNALS:
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    wanted = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is signal.SIG_DFL]
    for one in wanted:
        signal.signal(one, interrupt)
    try:
        yield
    finally:
        for one in wanted:
            signal.signal(one, signal.SIG_DFL)


def _shown_if_filled(param: Parameter) -> str | None:
    """How a parameter is called that an empty text can't be meant for; None for others.

    An empty one is a variable of a script's that is unset. To take it for an option that was left out would act elsewhere than
    was meant: on this machine's daemon (`--url`), in the directory one stands in (`backup`).
    """
    if param.param_type_name == "option":
        return None if param.name in MAY_BE_EMPTY else max(param.opts, key=len)
    return param.metavar if param.metavar in BYTES_METAVARS and param.metavar != "COMMAND" else None


def _refuse_other_than_utf8(argument: object, metavar: str | None) -> None:
    """Raises UsageError if the argument, or one of several, isn't UTF-8."""
    for value in argument if isinstance(argument, list | tuple) else [argument]:
        if isinstance(value, str) and not _is_utf8(value):
            shown = os.fsencode(value[:80]).decode("utf-8", "backslashreplace")
            raise UsageError(f"{metavar} '{shown}' is not UTF-8", hint="Only names of files may be other bytes.")


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


app = typer.Typer(
    cls=LazyGroup,
    add_completion=True,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"covenq {__version__}")
        raise typer.Exit


@app.callback(
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused, 5 damage, 6 no daemon, 130 interrupted."
)
def _covenq(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say it, and stop.")
    ] = False,
) -> None:
    """The durable inbox for GitHub webhooks: fsynced before it is answered, run once, explained from a terminal."""
