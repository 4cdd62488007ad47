"""The wheel has what an installation needs: both packages with their data, the manual, the program; and it works installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.checkout import ROOT, clean_env

BUILD = "import sys, hatchling.build; print(hatchling.build.build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built as pip builds it, by the backend itself: nothing is fetched."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling, which builds the wheel, is not installed")
    to = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-c", BUILD, str(to)]
    built = subprocess.run(command, cwd=ROOT, env=clean_env(), capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr
    return to / built.stdout.split()[-1]


def test_it_holds_the_packages_their_data_and_the_manual(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        (entry_points,) = (opened.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    for package in ("covenq", "journal"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert path.relative_to(ROOT).as_posix() in names, path
        assert f"{package}/py.typed" in names
    shared = {name.split("/data/", 1)[1] for name in names if ".data/data/" in name}
    pages = [*(ROOT / "man").glob("*.[1-8]")]
    assert shared == {f"share/man/man{page.suffix[1:]}/{page.name}" for page in pages}
    assert "covenq = covenq.cli.main:main" in entry_points
    assert not {name for name in names if name.startswith(("tests", "man/", ".ci"))}


def test_what_is_in_it_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "site")
    env = {**clean_env(), "PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path)}
    for args, said in ((["--version"], "covenq "), (["init", "--systemd", "--user", "root"], "ListenStream=")):
        program = [sys.executable, "-m", "covenq", *args]
        done = subprocess.run(program, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
    program = [sys.executable, "-c", "import covenq.tui.app as a; print(a.__file__)"]
    done = subprocess.run(program, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(str(tmp_path / "site")), done.stderr
