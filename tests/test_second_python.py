"""`.ci/second-python`: which Python it takes, what it says where none is to be had, and whose failures count."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.checkout import ROOT

TOOLS = "bash sh env tar mkdir mktemp rm cp chmod sed grep dirname tail cat".split()
SCRIPT = ROOT / ".ci" / "second-python"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="a source distribution has no .ci")


class Machine:
    """A checkout whose Python is 3.11, and a PATH with the shell's tools and what is put there."""

    def __init__(self, path: Path) -> None:
        self.checkout, self.bin, self.temporary = path / "checkout", path / "bin", path / "tmp"
        for directory in (self.checkout / ".ci", self.checkout / ".venv" / "bin", self.bin, self.temporary):
            directory.mkdir(parents=True)
        shutil.copy(SCRIPT, self.checkout / ".ci")
        shutil.copy(ROOT / "pyproject.toml", self.checkout)
        for name in TOOLS:
            found = shutil.which(name)
            assert found, name
            (self.bin / name).symlink_to(found)
        self.put("id", "echo 0")
        self._write(self.checkout / ".venv" / "bin" / "python", "echo 11")

    def put(self, name: str, script: str) -> None:
        self._write(self.bin / name, script)

    def _write(self, path: Path, script: str) -> None:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def run(self, *words: str) -> tuple[int, str]:
        """Its exit code, and what it said; nothing of it may be left."""
        done = subprocess.run(
            ["bash", self.checkout / ".ci" / "second-python", *words],
            env={"PATH": str(self.bin), "HOME": str(self.checkout), "TMPDIR": str(self.temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        assert list(self.temporary.iterdir()) == []
        return done.returncode, done.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_newest_python_of_the_path_that_works_runs_the_suite_in_a_copy(machine: Machine) -> None:
    for name, script in (("python3.12", "exit 0"), ("python3.14", "exit 0"), ("python3.15", "exit 127")):
        machine.put(name, script)
    machine.put("make", 'echo "make $*"; ls -a "$2"')
    (machine.bin / "ls").symlink_to(shutil.which("ls") or "")
    code, said = machine.run("ARGS=-x")
    assert code == 0
    assert "test PYTHON=python3.14 ARGS=-x" in said
    assert "pyproject.toml" in said and ".venv" not in said, "the environment of the checkout stays its own"
    assert "passed on Python 3.14" in said


@pytest.mark.parametrize(
    ("version", "code", "words"),
    [
        ("3.14", 2, "FAILED on Python 3.14\n"),
        ("3.39", 0, "FAILED on Python 3.39, which pyproject.toml doesn't claim yet"),
    ],
)
def test_a_failure_counts_on_a_python_that_is_claimed(machine: Machine, version: str, code: int, words: str) -> None:
    machine.put(f"python{version}", "exit 0")
    machine.put("make", "exit 2")
    ended, said = machine.run()
    assert ended == code
    assert words in said


@pytest.mark.parametrize(
    ("stubs", "words"),
    [
        ({"id": "echo 1000"}, "only root makes a root of Debian"),
        ({"apt-get": "exit 100"}, "debootstrap, which makes a root of Debian, is not to be had"),
        ({"debootstrap": "exit 1", "apt-get": "exit 100"}, "apt knows no mirror of Debian"),
        (
            {"debootstrap": "exit 1", "apt-get": "echo mirror", "unshare": "exit 1"},
            "no namespaces can be made for a root of Debian",
        ),
        (
            {"debootstrap": "echo E: no network; exit 1", "apt-get": "echo mirror", "unshare": "exit 0"},
            "no root of Debian could be made with one",
        ),
    ],
)
def test_where_none_is_to_be_had_it_says_so_and_nothing_fails(
    machine: Machine, stubs: dict[str, str], words: str
) -> None:
    for name, script in stubs.items():
        machine.put(name, script)
    code, said = machine.run()
    assert code == 0
    assert "second-python: NOT RUN on a Python above 3.11: PATH has none, and " in said
    assert words in said
    if "echo E:" in stubs.get("debootstrap", ""):
        assert "Debian testing can't be installed: E: no network" in said
