"""A covenq that pretends to be of another build, for nodes that share a journal: `python other_build.py N PYTHON -m covenq …`."""

from __future__ import annotations

import runpy
import sys

from journal.postgres import builds

if __name__ == "__main__":
    number = int(sys.argv[1])
    builds.THIS = builds.Build(number, goes_on_from=number - 1, read_by=number - 1)
    sys.argv = ["covenq", *sys.argv[5:]]
    runpy.run_module("covenq", run_name="__main__", alter_sys=True)
