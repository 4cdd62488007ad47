"""The checkout: its root, and an environment for processes that run from it."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def clean_env(**more: str) -> dict[str, str]:
    """This process's environment without covenq's variables, and with the checkout importable."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVENQ_")}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH", "")]))
    env["NO_COLOR"] = "1"
    env["COLUMNS"] = "200"
    env.update(more)
    return env
