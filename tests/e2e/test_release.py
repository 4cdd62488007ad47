"""What `make release-check TAG=…` takes for the changelog of a release, and the version that a checkout has at any time."""

from __future__ import annotations

import re
import tomllib

import pytest

from covenq import __version__
from tests.e2e.release import changelog_fault
from tests.support.checkout import ROOT

HEAD = "# Changelog\n\nOf covenq.\n"
DATED = "\n## [1.2.0] - 2026-12-01\n\n### Added\n\n- a thing\n"


@pytest.mark.parametrize(
    ("sections", "fault"),
    [
        (DATED, None),
        ("\n## [Unreleased]\n" + DATED, None),
        ("\n## [Unreleased]\n\n### Added\n\n- more\n" + DATED, "entries under Unreleased"),
        (DATED.replace("1.2.0", "1.1.0"), "not [1.2.0]"),
        (DATED.replace("1.2.0", "1x2y0"), "not [1.2.0]"),
        (DATED.replace(" - 2026-12-01", ""), "not [1.2.0]"),
        ("", "not [1.2.0]"),
        ("\n## [Unreleased]\n", "not [1.2.0]"),
    ],
)
def test_the_newest_section_of_the_changelog_is_the_versions(sections: str, fault: str | None) -> None:
    said = changelog_fault(HEAD + sections, "1.2.0")
    assert said is None if fault is None else said is not None and fault in said


def test_the_version_is_the_same_everywhere() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__
    for page in (ROOT / "man").glob("*.[1-8]"):
        assert re.search(rf'^\.TH \S+ \d \S+ "covenq {re.escape(__version__)}"', page.read_text()), page.name
