"""A covenq that asks another node for its state.db however short the journal is: `python eager_node.py PYTHON -m covenq …`."""

from __future__ import annotations

import runpy
import sys

from covenq.daemon import new_node

if __name__ == "__main__":
    new_node.RECORDS_MIN, new_node.FOLD_S, new_node.ASK_S = 1, 10.0, 60.0
    sys.argv = ["covenq", *sys.argv[4:]]
    runpy.run_module("covenq", run_name="__main__", alter_sys=True)
