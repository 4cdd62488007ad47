"""Helper process that sets a command's resource limits and executes it, with a guard beside it where it runs under a lease.

A function between fork and exec would do the same, and is not safe in a process with threads. Nothing of covenq is
imported here, and nothing in the command's environment is trusted (`python -I -S`). Nor is what takes long to import, as json and
signal do: every command waits for it.

    launch.py STATUS 'RESOURCE,SOFT,HARD …' CTYPE GUARD program argument…

STATUS is a descriptor: nothing is written to it if the command was started, else the error's number. CTYPE is the command's
LC_CTYPE after `=`, or empty where it has none. GUARD is empty, or `DESCRIPTOR TERM KILL`, the socket and
the times of `lease_guard`.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what signal is made of, without its enumerations: they take time and memory
import os
import resource
import sys


def main() -> None:
    status = int(sys.argv[1])
    try:
        os.set_inheritable(status, False)
        if sys.argv[4]:
            _arm(sys.argv[4].split())
        for number, soft, hard in (map(int, limit.split(",")) for limit in sys.argv[2].split()):
            resource.setrlimit(number, (soft, hard))
        _set_ctype(sys.argv[3])
        for ignored in (_signal.SIGPIPE, _signal.SIGXFSZ):  # Python ignores them, and exec would pass that on
            _signal.signal(ignored, _signal.SIG_DFL)
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


def _set_ctype(given: str) -> None:
    # Python sets it to C.UTF-8 where the locale is C, even if it was given.
    if given:
        os.environ["LC_CTYPE"] = given[1:]
    else:
        os.environ.pop("LC_CTYPE", None)


if __name__ == "__main__":
    main()
