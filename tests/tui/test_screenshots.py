"""The README's pictures are of the dashboard as it is, and come out the same each time."""

from __future__ import annotations

import html
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tests.support.checkout import ROOT, clean_env

KEPT = ROOT / "man" / "screenshots"


def words(svg: str) -> str:
    """The text of a picture, in the order it is drawn."""
    found = re.findall(r"<text [^>]*>(.*?)</text>", svg)
    return html.unescape(" ".join(found)).replace("\xa0", " ")


def test_the_pictures_are_made_from_the_dashboard(tmp_path: Path) -> None:
    # In a process of its own: its wall clock stands still.
    command = [sys.executable, str(ROOT / "tests" / "support" / "screenshots.py"), str(tmp_path)]
    done = subprocess.run(command, env=clean_env(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    made = {path.name: path.read_text() for path in tmp_path.glob("*.svg")}
    assert set(made) == {path.name for path in KEPT.glob("*.svg")}, "make screenshots"
    for svg in [*made.values(), *(path.read_text() for path in KEPT.glob("*.svg"))]:
        ElementTree.fromstring(svg)
        assert str(tmp_path) not in svg
        assert "/tmp/" not in svg
    assert "90 deliveries" in words(made["deliveries.svg"])
    assert "eligible" in words(made["replay.svg"])
    assert "X-GitHub-Event" in words(made["delivery.svg"])
    assert "bug" in words(made["payload.svg"])
    assert "slots busy" in words(made["overview.svg"])
    assert "Segments" in words(made["journal.svg"])
