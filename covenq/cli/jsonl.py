"""`--jsonl` beside every `--json`: one line for each item of a list, and one line for what is no list.

A command itself has only `json`, and prints through `covenq.cli.output`, where the choice of lines is kept.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from covenq.cli import output
from covenq.cli.signature import Command, with_options
from covenq.errors import UsageError

Jsonl = Annotated[bool | None, typer.Option("--jsonl", help="A JSON object a line: of a list, each item as it comes.")]


def with_jsonl_option(command: Command) -> Command:
    """The command, which has --json, with --jsonl added."""

    def run(**given: Any) -> None:
        lines = bool(given.pop("jsonl"))
        if lines and given["json"]:
            raise UsageError(
                "--json and --jsonl can't be combined", hint="--json is one document, --jsonl an object a line."
            )
        with output.json_lines(lines):
            command(**{**given, "json": lines or given["json"]})

    return with_options(command, run, {"jsonl": Jsonl}, behind="json")
