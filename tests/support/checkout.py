"""The checkout: its root, and an environment for processes that run from it."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def clean_env(**more: str) -> dict[str, str]:
    """This process's environment without covenq's variables but for where to listen, and with the checkout importable.

    Where nobody says another, covenq listens on, or sends to, an address on which nobody listens.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVENQ_") or name == "COVENQ_BIND"}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH", "")]))
    env["NO_COLOR"] = "1"
    env["COLUMNS"] = "200"
    env.update(more)
    return env
