"""The program that a worker runs: found once, at the start, and looked for again before each claim.

A command runs in its attempt's directory, so a relative name would be looked for there, where nobody put it. It is therefore made
absolute from the directory in which the worker was started; and what can't be run is refused there, where a person reads it.

A program that goes missing later fails no task. It is this machine's fault, and no task's: a worker that reported each as failed
would drain the whole queue within seconds, and other workers could have done it. So nothing is claimed while the program is
missing, and what was claimed before is given back, which uses up no retry. The worker waits rather than ends: during an upgrade a
program is missing for a moment only, and what runs beside it at the same time should not be killed for that.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from covenq.config.executor import BRACED, PLACEHOLDERS
from covenq.errors import UsageError
from covenq.model import Category
from covenq.tasks.execution.command import not_started
from covenq.tasks.execution.scrub import scrub_text
from covenq.tasks.scheduling.outcome import Outcome
from covenq.text import one_line

LOGGED_MAX = 400
"""Characters that the log has of how an attempt ended."""
_WHOLE_PATH = "Install it, or write its whole path."


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a path is no program, in a sentence, and what to do about it."""

    words: str
    hint: str = _WHOLE_PATH


def checked_command(run: Sequence[str], environ: Mapping[str, str], directory: Path) -> tuple[str, ...]:
    """A command as argv, checked like a route's `run`, its program's path absolute. Raises UsageError.

    A name without a slash is looked for on the PATH of `environ`, one with a slash from `directory`. What holds a placeholder is
    left as it is: only an attempt can tell what it names.
    """
    if not run or not run[0] or any("\0" in word for word in run):
        raise UsageError("there is no command to run", hint="covenq worker [options] -- program argument…")
    name = run[0]
    if _has_placeholder(name):
        return tuple(run)
    if "/" in name:
        path = directory / name
        if (found := missing(str(path))) is not None:
            raise UsageError(found.words, hint=found.hint)
        return (str(path), *run[1:])
    program = shutil.which(name, path=environ.get("PATH", os.defpath))
    if program is None:
        here = missing(str(directory / name)) is None
        hint = "CMD stands for a command of yours, that does the work of one task." if name == "CMD" else _WHOLE_PATH
        hint = f"Write ./{name} for the one in this directory." if here else hint
        raise UsageError(f"{name[:200]!r} is no command that this user finds", hint=hint)
    return (str(directory / program), *run[1:])


def missing(program: str) -> Missing | None:
    """Why that absolute path is no program now; None if it is one, or if only an attempt can tell."""
    if not program.startswith("/") or _has_placeholder(program):
        return None
    try:
        mode = os.stat(program).st_mode  # noqa: PTH116 - before each claim: no Path is made
    except (FileNotFoundError, NotADirectoryError):
        return Missing(f"there is no program {program}")
    except OSError as error:
        return Missing(f"{program} can't be looked at: {error.strerror}")
    if not stat.S_ISREG(mode):
        return Missing(f"{program} is no program")
    if not os.access(program, os.X_OK):
        return Missing(f"{program} can't be executed by this user", f"chmod +x {program}")
    return None


def not_started_here(error: OSError | ValueError, program: str = "it") -> Outcome:
    """The outcome of a task that this machine couldn't start: given back. What no machine could start fails (`not_started`)."""
    outcome = not_started(error, program)
    if outcome.category is not Category.SPAWN or isinstance(error, ValueError):
        return outcome
    return Outcome(Category.INTERRUPTED, detail=f"it was given back: {outcome.detail}")


def interrupted() -> Outcome:
    """The outcome of a task that a stop of its worker came before."""
    return Outcome(Category.INTERRUPTED, detail="the worker was stopped before it began")


def words_of(outcome: Outcome) -> str:
    """Its category and detail for the log: on one line, bounded, and without tokens."""
    return one_line(scrub_text(f"{outcome.category}: {outcome.detail or 'no more is known'}"), LOGGED_MAX)


def _has_placeholder(word: str) -> bool:
    return any(name in PLACEHOLDERS for name in BRACED.findall(word))
