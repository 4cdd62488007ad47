"""The wheel has what an installation needs: both packages with their data, the manual, the program; and it works installed.

The source distribution has all that git has, and makes the same wheel; the description is one that a package index can show.
"""

from __future__ import annotations

import email
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.checkout import ROOT, clean_env

BUILD = "import sys, hatchling.build; print(getattr(hatchling.build, 'build_' + sys.argv[1])(sys.argv[2]))"


def build(what: str, source: Path, to: Path) -> Path:
    """A `wheel` or an `sdist` built as pip builds it, by the backend itself: nothing is fetched."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling, which builds the wheel, is not installed")
    command = [sys.executable, "-c", BUILD, what, str(to)]
    built = subprocess.run(command, cwd=source, env=clean_env(), capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr
    return to / built.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


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


def test_the_source_distribution_has_all_that_git_has_and_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = build("sdist", ROOT, tmp_path)
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = (path for path in tmp_path.iterdir() if path.is_dir())
    if shutil.which("git") is not None:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
        assert [name for name in listed.stdout.splitlines() if not (source / name).exists()] == []
    for name in (
        "SECURITY.md",
        "Containerfile",
        "Makefile",
        "hatch_build.py",
        ".ci/run",
        "man/covenq.1",
        "tests/conftest.py",
    ):
        assert (source / name).exists(), name
    (tmp_path / "again").mkdir()
    assert build("wheel", source, tmp_path / "again").read_bytes() == wheel.read_bytes()


def test_the_description_is_the_readme_with_nothing_that_leads_nowhere(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(opened.read(name))
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata.get_payload()
    assert isinstance(text, str) and "durable inbox" in text and "| promise | test |" in text
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links and all(link.startswith("https://") for link in links)
    assert "source distribution" in text and "make run" in text


def test_with_a_repositorys_address_links_and_pictures_lead_to_the_versions_files() -> None:
    pytest.importorskip("hatchling")
    from hatch_build import description

    readme = "# a\n\n![Seen](man/a.svg)\n\n[`b(1)`](man/b.1), [c](https://c.org/)\n\n```sh\n[x](y)  # as it is\n```\n"
    absolute = description(readme, "https://git.example/o/r/", "v1.2")
    assert "![Seen](https://git.example/o/r/raw/v1.2/man/a.svg)" in absolute
    assert "[`b(1)`](https://git.example/o/r/blob/v1.2/man/b.1), [c](https://c.org/)" in absolute
    assert "source distribution" not in absolute
    none = description(readme, None, "v1.2")
    assert "\n\n`b(1)`, [c](https://c.org/)\n\n```sh\n[x](y)  # as it is\n```\n" in none and "a.svg" not in none
