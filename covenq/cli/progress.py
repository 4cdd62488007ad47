"""A progress bar on stderr, if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from covenq.cli import output

Update = Callable[[int, int], None]


@contextmanager
def bar(what: str, *, bytes: bool = False) -> Iterator[Update | None]:
    """A function to call with (done, total; 0 if that is unknown), or None if stderr is no terminal.

    The bar disappears at the end of the `with`.
    """
    if not output.is_terminal(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = DownloadColumn(binary_units=True) if bytes else MofNCompleteColumn()
    console = Console(stderr=True, no_color=not output.has_colour(sys.stderr))
    with Progress(
        TextColumn(what), BarColumn(), count, TimeRemainingColumn(), console=console, transient=True
    ) as progress:
        task = progress.add_task(what, total=None)

        def update(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total or None)

        yield update
