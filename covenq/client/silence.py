"""What is said of an attempt of which there is no output: that it wrote nothing and how it ended, or why none of it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from covenq.errors import NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from covenq.client.interface import Source, Stream
    from covenq.model.rows import Task


def wrote_nothing(opened: Source, task: str, number: int, streams: Sequence[Stream]) -> str:
    """Of an attempt that wrote nothing: that, and how it ended."""
    from covenq.operate.inspect.story_text import ENDED, cause

    words = f"attempt {number} of {task} wrote nothing" + (f" to {streams[0]}" if len(streams) == 1 else "")
    attempt = next((one for one in opened.attempts(task) if one.attempt == number), None)
    if attempt is None or attempt.outcome is None:
        return f"{words} yet"
    how = f": {cause(attempt)}" if attempt.category or attempt.detail else ""
    return f"{words}; it {ENDED.get(attempt.outcome, attempt.outcome)}{how}"


def no_result(opened: Source, task: Task, number: int, *, ended: bool) -> NotFound:
    """Why there is no result of an attempt."""
    attempt = next((one for one in opened.attempts(task.id) if one.attempt == number), None)
    if not ended or attempt is None or attempt.result is not None or _erased(opened, task):
        return not_kept(opened, task, number, ended=ended)
    return NotFound(f"attempt {number} of {task.id} left no result", hint="A command writes one to COVENQ_RESULT.")


def _erased(opened: Source, task: Task) -> int | None:
    """The record by which the task's delivery was erased, if it was."""
    try:
        return opened.delivery(f"{task.hook}/{task.guid}").redacted
    except (NotFound, UsageError):
        return None


def not_kept(opened: Source, task: Task, number: int, *, ended: bool) -> NotFound:
    """Why nothing is kept of what an attempt wrote."""
    what = f"attempt {number} of {task.id}"
    if erased := _erased(opened, task):
        return NotFound(
            f"what {what} wrote was erased with its delivery, by record {erased}", hint=f"`covenq show {task.id}`"
        )
    if task.kind == "pull":
        worker = next((one.worker for one in opened.attempts(task.id) if one.attempt == number), None)
        if not ended:
            return NotFound(
                f"{what} runs at worker {worker}, and what it writes is sent when it ends",
                hint=f"`covenq logs {task.id} {number} -f` waits for it.",
            )
        return NotFound(
            f"nothing that {what} wrote is kept: worker {worker} has sent nothing, or retention has removed it",
            hint="A worker sends it with its report: one whose lease ran out sends none, and an older covenq doesn't.",
        )
    if not ended:
        return NotFound(f"{what} is only beginning", hint=f"`covenq logs {task.id} {number} -f` waits for it.")
    return NotFound(
        f"nothing that {what} wrote is kept",
        hint="Retention may have removed it, or it never began: see `covenq show`.",
    )
