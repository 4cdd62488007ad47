"""Helper process that sets a command's resource limits and executes it, with a guard beside it where it runs under a lease.

A function between fork and exec would do the same, and is not safe in a process with threads. Nothing of covenq is
imported here, and nothing in the command's environment is trusted (`python -I -S`).

    launch.py STATUS '[[resource, soft, hard], …]' CTYPE GUARD program argument…

STATUS is a descriptor: nothing is written to it if the command was started, else the error's number. CTYPE is, as JSON, the
command's LC_CTYPE or null. GUARD is empty, or `DESCRIPTOR TERM KILL`: the socket and the times of `lease_guard`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys


def main() -> None:
    status = int(sys.argv[1])
    try:
        os.set_inheritable(status, False)
        if sys.argv[4]:
            _arm(sys.argv[4].split())
        for number, soft, hard in json.loads(sys.argv[2]):
            resource.setrlimit(number, (soft, hard))
        _set_ctype(json.loads(sys.argv[3]))
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec would pass that on
            signal.signal(ignored, signal.SIG_DFL)
        os.execvp(sys.argv[5], sys.argv[5:])  # noqa: S606 - a shell is what must not be here
    except OSError as error:
        os.write(status, str(error.errno).encode())
    except ValueError:
        os.write(status, b"22")
    os._exit(127)


def _arm(words: list[str]) -> None:
    # Before the limits are set: they are the command's alone.
    directory = os.path.dirname(__file__)  # noqa: PTH120 - pathlib takes longer to import than all of this to run
    sys.path.insert(0, directory)
    import lease_guard  # type: ignore[import-not-found]  # by its place: no package is imported here

    sys.path.remove(directory)
    lease_guard.arm(int(words[0]), float(words[1]), float(words[2]))


def _set_ctype(given: str | None) -> None:
    # Python sets it to C.UTF-8 where the locale is C, even if it was given.
    if given is None:
        os.environ.pop("LC_CTYPE", None)
    else:
        os.environ["LC_CTYPE"] = given


if __name__ == "__main__":
    main()
