"""The lowest versions of what covenq needs: `lowest.py pins` prints them for pip, `lowest.py page DIR` opens the dashboard.

CI installs the pins into an environment of their own, and runs `covenq demo` and this page there: a lower bound in
pyproject.toml is one that was run.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def pins() -> list[str]:
    """`name==version` of each dependency's lower bound."""
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return [re.sub(r"^([\w-]+)>=([\w.]+).*", r"\1==\2", one) for one in needed]


async def page(directory: Path) -> str:
    """The dashboard's first page over an empty directory, as text."""
    from covenq.client.open import open_source
    from covenq.config.load import Config
    from covenq.tui.app import Dashboard

    app = Dashboard(lambda: open_source(directory, Config()), directory, filters=directory / "filters.json")
    async with app.run_test(size=(80, 24)) as pilot:
        for _ in range(600):
            await pilot.pause(0.05)
            drawn = "\n".join(str(one.render()) for one in app.screen.query("*") if one.display)
            if "stopped" in drawn:
                break
        await pilot.press("q")
    return drawn


if __name__ == "__main__":
    if sys.argv[1:] == ["pins"]:
        print("\n".join(pins()))
    else:
        where = Path(sys.argv[2])
        where.mkdir(parents=True, exist_ok=True)
        found = asyncio.run(page(where))
        if "stopped" not in found or "Deliveries" not in found:
            sys.exit(f"the dashboard drew\n{found}")
        print("the dashboard opens")
