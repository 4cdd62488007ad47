"""`covenq logs`: what an attempt of a task wrote, or a receiver answered, whole or as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.log_reader import LogReader, Piece
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl, TokenFileOption, UrlOption, complete_id
from covenq.cli.output import clean, say
from covenq.errors import UsageError

if TYPE_CHECKING:
    from covenq.client.interface import Stream


def logs(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", help="A task's id or its delivery's, or how it begins.", autocompletion=complete_id
        ),
    ],
    attempt: Annotated[
        int | None, typer.Argument(metavar="N", min=1, help="Which attempt; else the newest.", show_default=False)
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as it writes, until the attempt N, or the task, has ended.")
    ] = False,
    stdout: Annotated[bool, typer.Option("--stdout", help="Only what it wrote to stdout.")] = False,
    stderr: Annotated[bool, typer.Option("--stderr", help="Only what it wrote to stderr.")] = False,
    result: Annotated[
        bool, typer.Option("--result", help="What it left as its result, and not what it wrote.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="To a terminal too the bytes as they are, which it may obey.")
    ] = False,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Print what an attempt of a task wrote: its stdout, then its stderr.

    Of a worker elsewhere it is the last 64 KiB of each, sent when the attempt ends; of a forward the receiver's answer, on
    stdout. A file or a pipe gets the bytes as they are; on a terminal, what it would obey is escaped.

    \b
      covenq logs t1a16a5b5370bec87bf6eb816
      covenq logs t1a16 2 --stderr
      covenq logs t1a16 -f
      covenq logs t1a16 --result
    """
    if raw and json:
        raise UsageError(f"--raw and {output.json_option()} can't be combined", hint="Give one of them.")
    if result and (stdout or stderr):
        raise UsageError("--result is neither --stdout nor --stderr", hint="Give one of them.")
    streams: list[Stream] = ["result"] if result else ["stdout", "stderr"]
    if stdout != stderr:
        streams = ["stdout"] if stdout else ["stderr"]
    reader = LogReader(task, attempt, streams, follow, data, config)
    if json and not output.is_json_lines():
        output.emit_items((item for piece in reader for item in _items(reader, piece)), lambda: None)
        return
    shown: tuple[int, Stream] | None = None
    to_person = output.is_terminal(output.stdout()) and not raw
    for piece in reader:
        if json:
            output.emit_jsonl(_items(reader, piece))
        elif to_person:
            if shown != (shown := (piece.attempt, piece.stream)) and (follow or len(streams) > 1):
                say(f"{piece.stream} of attempt {piece.attempt}:")
            for line in _lines(piece):
                output.line(clean(line.expandtabs()))
        else:
            output.write_bytes(piece.content)
        output.flush()
    if reader.silence and not json:
        say(clean(reader.silence))


def _lines(piece: Piece) -> Iterator[str]:
    for line in piece.content.splitlines():  # of bytes: at newlines and returns alone
        yield line.decode("utf-8", "replace")


def _items(reader: LogReader, piece: Piece) -> Iterator[dict[str, object]]:
    for line in _lines(piece):
        yield {"task": reader.task, "attempt": piece.attempt, "stream": piece.stream, "text": line}
