"""The entry point: run the command, and turn every failure into a sentence, a hint and an exit code.

Exit codes: 0 done; 1 failed; 2 usage; 3 not found; 4 refused by a precondition; 5 integrity damage; 6 daemon
unreachable; 130 interrupted. A traceback means a bug in covenq, never a mistake of its user.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import sys

START_OBJECTS = 100_000
"""New objects after which the garbage collector looks through them. A command imports 60,000, which are never garbage: one look
at them took a twentieth of its time. What runs for long sets a number of its own."""
INTERRUPTED = 130
REFUSED = 4
HINTS = {
    errno.ENOSPC: "Free space there; what was written is not complete.",
    errno.EDQUOT: "Free space there, or raise the quota; what was written is not complete.",
    errno.EACCES: "Run it as the user whose it is, or let this user in.",
    errno.EPERM: "Run it as the user whose it is, or let this user in.",
    errno.EROFS: "Remount it writable, or choose another place.",
    errno.ENOENT: "Check that the path exists.",
    errno.EMFILE: "Raise the limit of open files: `ulimit -n 1024`, or LimitNOFILE= in a unit.",
    errno.ENFILE: "The whole machine has no file left to open: see what uses them (/proc/sys/fs/file-nr).",
    errno.ENOMEM: "See what uses the machine's memory.",
}


def main() -> None:
    """What the `covenq` script calls. Always raises SystemExit."""
    gc.set_threshold(START_OBJECTS, 10, 10)
    try:
        code = _run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    try:
        code = _flush_without_waiting() if code == INTERRUPTED else _flush(code)
    except KeyboardInterrupt:
        code = _flush_without_waiting()
    gc.freeze()  # else the interpreter collects all of it once more when it exits
    # A Ctrl-C in code that some library gave to exec() as text (dataclasses do, as they are made) is remembered by CPython though
    # it was caught, and `python -m` then dies of the signal instead of exiting with the code. Text that ran to its end clears it.
    exec("")  # noqa: S102
    sys.exit(code)


def _run() -> int:
    _open_standard_descriptors()
    foreign = _foreign_journal()
    if foreign is not None:
        return _refuse_foreign_journal(foreign)
    from covenq.errors import Failure

    try:
        from covenq.cli.app import app

        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A title in another script must not fail the command in a terminal that can't show it.
                stream.reconfigure(errors="backslashreplace")
        app(prog_name="covenq")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except Failure as error:
        return _print_error(str(error), error.hint, error.exit_code)
    except BrokenPipeError:
        return 1  # the reader closed the pipe; commands that act tolerate it themselves (`output.report_of_act`)
    except OSError as error:
        message = error.strerror or str(error)
        hint = HINTS.get(error.errno or 0, "Check that the path exists, and that this user may use it.")
        return _print_error(f"{error.filename}: {message}" if error.filename else message, hint, 1)
    except Exception as error:
        if not _is_sqlite_error(error):
            raise
        return _print_error(f"index or state.db, the journal's caches, can't be used: {error}", _sqlite_hint(error), 1)
    return 0


def _foreign_journal() -> str | None:
    """The file that `import journal` finds if it isn't covenq's package of that name; None if it is.

    PyPI has another distribution of that name, whose package replaces ours when it is installed, as does a folder that comes
    first on the path. Found out by importing it, which every command does anyway.
    """
    try:
        import journal
    except (Exception, SystemExit):  # noqa: BLE001 - it is foreign code, and may raise anything
        from importlib.util import find_spec

        found = find_spec("journal")
        return (found.origin if found is not None else None) or "nothing"
    if getattr(journal, "DISTRIBUTION", None) == "covenq":
        return None
    return getattr(journal, "__file__", None) or str(next(iter(journal.__path__), "nothing"))


def _refuse_foreign_journal(foreign: str) -> int:
    """Print the error and the hint without `covenq.cli.output`, which imports covenq's journal package."""
    from pathlib import Path

    entry = Path(foreign).absolute().parent
    if entry.name == "journal":
        entry = entry.parent
    if foreign == "nothing" or entry == Path(__file__).absolute().parents[2]:
        hint = (
            "Another distribution replaced it: pip uninstall journal, then pip install --force-reinstall SOURCE, "
            "a checkout of covenq."
        )
    else:
        hint = f"Take {entry} out of PYTHONPATH, or start covenq from another directory."
    for line in (f"covenq: `import journal` finds {foreign}, which is not covenq's package", f"hint: {hint}"):
        print(line.encode("ascii", "backslashreplace").decode(), file=sys.stderr)
    return REFUSED


def _is_sqlite_error(error: Exception) -> bool:
    """Whether it is SQLite's, without importing sqlite3: if that raised it, it is imported."""
    sqlite3 = sys.modules.get("sqlite3")
    return sqlite3 is not None and isinstance(error, sqlite3.Error)


def _sqlite_hint(error: Exception) -> str:
    if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
        return "Free space on the data directory's disk, and try again."
    from covenq.state.readers import is_damage

    if is_damage(error):
        return (
            "Nothing is lost, and a damaged state.db is made anew: type the command again; "
            "while nothing runs there they may be removed."
        )
    return "Check the space and the permissions of the data directory; while nothing runs there they may be removed."


def _print_error(message: str, hint: str, code: int) -> int:
    from covenq.cli.output import clean, say

    say(f"covenq: {clean(message)}")
    if hint:
        say(f"hint: {clean(hint)}")
    return code


def _open_standard_descriptors() -> None:
    """Open /dev/null for each of 0, 1 and 2 that the caller closed, and make standard input and standard error of it.

    Else the next file opened, perhaps a journal segment, would get that number, and a stray message would be written into it; and
    print() takes a `sys.stderr` of None for standard output, so that words would get between the data. `sys.stdout` stays None:
    where output is what a command is for, that is an error (`output.stdout`).
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _flush_without_waiting() -> int:
    """After Ctrl-C: write out what can be written without blocking, so that a reader that doesn't read can't hold the process."""
    try:
        before = os.get_blocking(1)
        os.set_blocking(1, False)
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        finally:
            os.set_blocking(1, before)
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return INTERRUPTED


def _flush(code: int) -> int:
    """Flush stdout while a failure can still be reported as a sentence; the interpreter would report it with a traceback."""
    if sys.stdout is None:
        return code
    try:
        sys.stdout.flush()
    except OSError as error:
        # Nothing more can be written there: direct the interpreter's own flush at exit to /dev/null.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if code == 0 and not isinstance(error, BrokenPipeError):
            _print_error(f"can't write to standard output: {error.strerror}", "What was written is not complete.", 1)
        return code or 1
    return code


if __name__ == "__main__":
    main()
