"""The entry point: run the command, and turn every failure into a sentence, a hint and an exit code.

Exit codes: 0 done; 1 failed; 2 usage; 3 not found; 4 refused by a precondition; 5 integrity damage; 6 daemon
unreachable; 130 interrupted. A traceback is a bug of covenq's, never an answer to something a person did.
"""

from __future__ import annotations

import os
import sys

INTERRUPTED = 130


def main() -> None:
    """What the `covenq` script calls. Always raises SystemExit."""
    try:
        code = _run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(_flushed(code))


def _run() -> int:
    _open_standard_descriptors()
    from covenq.errors import Failure

    try:
        from covenq.cli.app import app

        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                # A title in another script must not fail the command in a terminal that can't show it.
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        app(prog_name="covenq")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except Failure as error:
        return _tell(str(error), error.hint, error.exit_code)
    except BrokenPipeError:
        return 1  # whoever read us has seen enough
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        return _tell(what, "Check that the path exists, and that this user may use it.", 1)
    return 0


def _tell(message: str, hint: str, code: int) -> int:
    from covenq.cli.output import clean, say

    say(f"covenq: {clean(message)}")
    if hint:
        say(f"hint: {clean(hint)}")
    return code


def _open_standard_descriptors() -> None:
    """Where 0, 1 or 2 was closed by the caller, put /dev/null: else the next file opened, a journal segment perhaps,
    would get that number, and a stray message would be written into it."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _flushed(code: int) -> int:
    """Write out what is buffered while a failure can still be told; the interpreter would do it with a traceback."""
    if sys.stdout is None:
        return code
    try:
        sys.stdout.flush()
    except OSError as error:
        # Nothing more can be written there: let the interpreter's own flush at exit go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if code == 0 and not isinstance(error, BrokenPipeError):
            _tell(f"can't write to standard output: {error.strerror}", "What was written is not complete.", 1)
        return code or 1
    return code


if __name__ == "__main__":
    main()
