"""What a release has to be, checked from a clean clone: `make release-check`, and with its tag `make release-check TAG=v1.2.3`.

Not a pytest test, because it installs what it built into environments of their own, from a package index. Each step says what
it found; all of them are taken, and the exit code is 1 if any failed. Without TAG it is what every commit has to hold; the tag,
its section of the changelog and a tree without changes are asked for with TAG alone.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.support import plain_root
from tests.support.checkout import ROOT
from tests.support.daemon import Daemon, free_port
from tests.support.requests import issue
from tests.support.waiting import eventually

BUILD = "import sys, hatchling.build; print(getattr(hatchling.build, 'build_' + sys.argv[1])(sys.argv[2]))"


class Failed(Exception):
    """What a release must not have, in a sentence."""


@dataclass
class Release:
    """What is checked, and where."""

    tag: str | None
    scratch: Path

    @property
    def source(self) -> Path:
        return self.scratch / "source"

    @property
    def wheels(self) -> Path:
        return self.scratch / "wheels"

    @property
    def wheel(self) -> Path:
        return next((self.scratch / "dist").glob("*.whl"))

    @property
    def sdist(self) -> Path:
        return next((self.scratch / "dist").glob("*.tar.gz"))

    @property
    def version(self) -> str:
        return str(tomllib.loads((self.source / "pyproject.toml").read_text())["project"]["version"])


def run(command: Sequence[str | Path], *, cwd: Path | None = None, **more: str) -> str:
    """A command's stdout. Failed with what it said if it fails."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("COVENQ_", "PYTHONPATH"))}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env={**env, **more}, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise Failed(f"`{' '.join(words)}` exits with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def clean_clone(release: Release) -> str:
    """What was committed, and nothing else, is what is built."""
    changed = run(["git", "status", "--porcelain"], cwd=ROOT).splitlines()
    run(["git", "clone", "--quiet", ROOT, release.source])
    commit = run(["git", "rev-parse", "--short", "HEAD"], cwd=release.source)
    if changed and release.tag:
        raise Failed(f"{len(changed)} files are not as they are in {commit}: commit or remove them")
    return f"a clone of {commit}" + (f"; {len(changed)} changed files here are not in it" if changed else "")


def names_agree(release: Release) -> str:
    """One version: in pyproject.toml, the package, the manual; with TAG it is the changelog's newest, and the tag's."""
    version = release.version
    said = {
        "covenq/__init__.py": re.search(r'^__version__ = "(.+)"$', _text(release, "covenq/__init__.py"), re.MULTILINE)
    }
    for page in sorted((release.source / "man").glob("*.[1-8]")):
        said[f"man/{page.name}"] = re.search(r'^\.TH \S+ \d \S+ "covenq (.+?)"', page.read_text(), re.MULTILINE)
    if wrong := [name for name, found in said.items() if found is None or found[1] != version]:
        raise Failed(f"pyproject.toml says {version}, and another is in {', '.join(wrong)}")
    if release.tag is None:
        return f"{version} in {len(said) + 1} files"
    if release.tag != f"v{version}":
        raise Failed(f"the tag is to be {release.tag}, and the version is {version}")
    if fault := changelog_fault(_text(release, "CHANGELOG.md"), version):
        raise Failed(fault)
    if (at := run(["git", "tag", "--list", release.tag], cwd=ROOT)) and run(
        ["git", "tag", "--points-at"], cwd=ROOT
    ) != at:
        raise Failed(f"{release.tag} is the tag of another commit")
    return f"{version} in {len(said) + 1} files, the changelog and the tag"


def changelog_fault(changelog: str, version: str) -> str | None:
    """Why the changelog's newest section isn't this version's, with a date, and nothing unreleased above it."""
    newest, *older = changelog.split("\n## [")[1:] or [""]
    if newest.startswith("Unreleased]"):
        if newest.removeprefix("Unreleased]").strip():
            return f"CHANGELOG.md has entries under Unreleased: they belong under [{version}] - YYYY-MM-DD"
        newest = older[0] if older else ""
    if not re.match(rf"{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n", newest):
        return f"CHANGELOG.md's newest section is [{newest.partition(chr(10))[0]}, not [{version}] - YYYY-MM-DD"
    return None


def _text(release: Release, name: str) -> str:
    return (release.source / name).read_text()


def builds(release: Release) -> str:
    """The sdist is what git has, and a wheel made of it is the checkout's own, byte for byte."""
    dist = release.scratch / "dist"
    for what in ("sdist", "wheel"):
        run([sys.executable, "-c", BUILD, what, dist], cwd=release.source)
    with tarfile.open(release.sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(release.scratch / "unpacked", filter="data")
    listed = set(run(["git", "ls-files"], cwd=release.source).splitlines())
    if held - {"PKG-INFO"} != listed:
        raise Failed(f"the sdist differs from what git has: {sorted((held - {'PKG-INFO'}) ^ listed)[:10]}")
    (unpacked,) = (release.scratch / "unpacked").iterdir()
    run([sys.executable, "-c", BUILD, "wheel", release.scratch / "again"], cwd=unpacked)
    if (release.scratch / "again" / release.wheel.name).read_bytes() != release.wheel.read_bytes():
        raise Failed("the wheel that the sdist makes is another than the checkout's")
    with zipfile.ZipFile(release.wheel) as opened:
        count = len(opened.namelist())
    return f"{release.sdist.name} with {len(listed)} files, {release.wheel.name} with {count}"


def an_index_takes_it(release: Release) -> str:
    """Metadata that an index would refuse, and a description that it can't show or whose links lead nowhere."""
    run([sys.executable, "-m", "twine", "check", "--strict", release.sdist, release.wheel])
    from readme_renderer.markdown import render

    with zipfile.ZipFile(release.wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        readme = opened.read(name).decode().partition("\n\n")[2]
    shown = render(readme)
    if not shown or "<table>" not in shown:
        raise Failed("the description can't be rendered")
    targets = re.findall(r'(?:href|src)="([^"]+)"', shown)
    if wrong := [one for one in targets if not one.startswith(("https://", "#"))]:
        raise Failed(f"links of the description lead nowhere: {wrong}")
    return f"twine has nothing against it, {len(targets)} links are absolute"


def fetches(release: Release) -> str:
    """What it needs, once for all the environments below."""
    try:
        plain_root.wheelhouse(release.source, release.wheels, "pip")  # that one is pipx's
    except RuntimeError as error:
        raise Failed(str(error)) from error
    return f"{len(list(release.wheels.iterdir()))} wheels that it needs"


def _from_wheels(release: Release) -> dict[str, str]:
    """pip's variables: it takes what was fetched, from nowhere else."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(release.wheels), "PIP_NO_COMPILE": "1"}


def installs_bare(release: Release) -> str:
    """`pip install` of the wheel into an environment without anything: the program, the manual, the units, a daemon."""
    venv = release.scratch / "venv"
    run([sys.executable, "-m", "venv", venv])
    pip = [venv / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run([*pip, "install", f"{release.wheel}[github]"], **_from_wheels(release))
    run([*pip, "check"])
    covenq = venv / "bin" / "covenq"
    _is_whole(release, covenq)
    pages = sorted((release.source / "man").glob("*.[1-8]"))
    for page in pages:
        if (venv / "share" / "man" / f"man{page.suffix[1:]}" / page.name).read_bytes() != page.read_bytes():
            raise Failed(f"{page.name} is not installed as it is in the source")
    for option in ("--prometheus", "--grafana"):
        run([covenq, "init", option], cwd=release.scratch)
    _serves(release, covenq)
    return f"covenq {release.version}, {len(pages)} pages of the manual, a delivery that became a task, stopped with 0"


def _is_whole(release: Release, covenq: Path) -> None:
    if (said := run([covenq, "--version"])) != f"covenq {release.version}":
        raise Failed(f"`covenq --version` says {said}")


def _serves(release: Release, covenq: Path) -> None:
    """`covenq serve`, from what was installed alone, takes one delivery, runs its task, and ends by SIGTERM with 0."""
    data = release.scratch / "data"
    daemon = Daemon(data=data, port=free_port())
    home = {"HOME": str(release.scratch), "COVENQ_DATA": str(data), "COVENQ_BIND": f"127.0.0.1:{daemon.port}"}
    run([covenq, "init"], cwd=release.scratch, **home)
    with daemon.log.open("wb") as log:
        process = subprocess.Popen(
            [covenq, "serve"], cwd=release.scratch, env={**os.environ, **home}, stdout=log, stderr=log
        )
    try:
        eventually(lambda: daemon.get("/readyz").status == 200, 60, "ready")
        daemon.secret = (data / "secret").read_text().strip()
        if (answer := daemon.post("issues", issue(), "first")).status != 202:
            raise Failed(f"a delivery is answered {answer}")
        if '"action":"opened"' not in run([covenq, "logs", "first", "-f"], **home):
            raise Failed("the task's command did not write what it was given")
        process.send_signal(signal.SIGTERM)
        if code := process.wait(60):
            raise Failed(f"it ends with {code}:\n{daemon.log_tail()}")
    finally:
        process.kill()
        process.wait()


def installs_with_pipx(release: Release) -> str:
    """As those install it who have pipx."""
    homes = {"PIPX_HOME": "pipx", "PIPX_BIN_DIR": "bin", "PIPX_MAN_DIR": "man"}
    places = {name: str(release.scratch / "by-pipx" / where) for name, where in homes.items()}
    run([sys.executable, "-m", "pipx", "install", f"{release.wheel}[github]"], **places, **_from_wheels(release))
    _is_whole(release, release.scratch / "by-pipx" / "bin" / "covenq")
    if not (release.scratch / "by-pipx" / "man" / "man1" / "covenq.1").exists():
        raise Failed("pipx finds no manual in it")
    return "covenq and its manual are where pipx puts programs"


def containerfile_works(release: Release) -> str:
    """The Containerfile's steps, without an engine."""
    if why_not := plain_root.why_not():
        return f"skipped: its steps can't be carried out here: {why_not}"
    test = "tests/e2e/test_container.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    run(command, cwd=release.source, **_from_wheels(release))
    return "its steps make a daemon that serves with its root read-only, and stops when told"


Step = Callable[[Release], str]
MAKING: Sequence[Step] = (clean_clone, builds, fetches)
"""Without these there is nothing that the others could look at."""
LOOKING: Sequence[Step] = (names_agree, an_index_takes_it, installs_bare, installs_with_pipx, containerfile_works)


def taken(step: Step, release: Release) -> bool:
    """Take a step, and print what became of it."""
    name = step.__name__.replace("_", " ")
    try:
        said = step(release)
    except Failed as error:
        print(f"FAILED  {name}: {error}", flush=True)
        return False
    print(f"ok      {name}: {said}", flush=True)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description="Check what a release has to be.")
    parser.add_argument("--tag", help="the tag that it is to have: v1.2.3")
    tag = parser.parse_args().tag or None
    with tempfile.TemporaryDirectory(prefix="covenq-release-") as scratch, ThreadPoolExecutor(2) as two:
        release = Release(tag, Path(scratch))
        if not all(taken(step, release) for step in MAKING):
            return 1
        return 0 if all(list(two.map(taken, LOOKING, [release] * len(LOOKING)))) else 1


if __name__ == "__main__":
    sys.exit(main())
