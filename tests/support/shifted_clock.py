"""A covenq whose machine's clock is off: `python shifted_clock.py SECONDS PYTHON -m covenq …`. Durations are as they are."""

from __future__ import annotations

import runpy
import sys
import time

if __name__ == "__main__":
    true, off = time.time, float(sys.argv[1])
    time.time = lambda: true() + off  # before covenq is imported, whose functions have it as a default
    sys.argv = ["covenq", *sys.argv[5:]]
    runpy.run_module("covenq", run_name="__main__", alter_sys=True)
