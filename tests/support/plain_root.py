"""A Containerfile's steps without a container engine: each stage's root is a directory, in which commands run by chroot.

In place of the image that a stage begins with stand this machine's own programs and libraries, read-only, and its Python:
what is tested is what the steps do. Root and namespaces of mounts are needed: `why_not` says so where they can't be had.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.containerfile import Stage
from tests.support.waiting import eventually

TOOLS = ("unshare", "nsenter", "mount", "chroot")
_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64")

_ENTER = r"""
import json, os, subprocess, sys
given = json.loads(sys.argv[1])
root = given["root"]

def mount(*words):
    subprocess.run(["mount", *words], check=True)

mount("--bind", root, root)
for source, target, writable in given["binds"]:
    mount("--rbind", source, root + target)
    if not writable:
        mount("-o", "remount,bind,ro", root + target)
mount("-t", "proc", "proc", root + "/proc")
for name in ("null", "zero", "random", "urandom"):
    mount("--bind", "/dev/" + name, root + "/dev/" + name)
if given["readonly"]:
    mount("-o", "remount,bind,ro", root)
os.chroot(root)
os.chdir(given["cwd"])
os.setgroups([])
os.setgid(given["gid"])
os.setuid(given["uid"])
os.execvpe(given["argv"][0], given["argv"], given["env"])
"""
"""Run in new namespaces of mounts and processes: what is mounted goes with them."""


def why_not() -> str | None:
    """Why commands can't be run so here; None if they can."""
    if os.geteuid() != 0:
        return "needs root"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"{', '.join(missing)} is not installed"
    tried = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True)
    return tried.stderr.strip() or "no namespaces" if tried.returncode else None


@dataclass
class Running:
    """A command in a root: `pid` is the one that the machine knows it by; in there it is process 1."""

    process: subprocess.Popen[bytes]
    pid: int


@dataclass
class Root:
    """One stage's root, built by its steps."""

    path: Path
    stage: Stage
    wheels: Path
    """What pip installs from, in place of a package index."""
    others: dict[str, Root] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=lambda: {"PATH": "/base:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
    cwd: str = "/"
    binds: list[tuple[str, str, bool]] = field(default_factory=list)

    def prepare(self) -> None:
        """The base image: this machine's system, and its Python as `python` on PATH."""
        for name in ("base", "dev", "proc", "tmp", "opt", "var/lib", "wheels", "etc"):
            (self.path / name).mkdir(parents=True)
        for name in ("null", "zero", "random", "urandom"):
            (self.path / "dev" / name).touch()
        for name in _SYSTEM:
            there = Path("/", name)
            if there.is_symlink():
                (self.path / name).symlink_to(there.readlink())
            elif there.is_dir():
                self._bind(there)
        if not Path(sys.base_prefix).is_relative_to("/usr"):
            self._bind(Path(sys.base_prefix))
        for name in ("passwd", "group", "shadow", "gshadow", "login.defs", "nsswitch.conf", "ld.so.cache"):
            if (found := Path("/etc", name)).exists():
                shutil.copy2(found, self.path / "etc" / name)
        real = Path(sys.base_prefix, "bin", f"python3.{sys.version_info[1]}")
        (self.path / "base" / "python").symlink_to(real)
        pip = self.path / "base" / "pip"
        pip.write_text('#!/bin/sh\nexec python -m pip "$@"\n')
        pip.chmod(0o755)
        self.binds.append((str(self.wheels), "/wheels", False))

    def _bind(self, directory: Path) -> None:
        (self.path / directory.relative_to("/")).mkdir(parents=True, exist_ok=True)
        self.binds.append((str(directory), str(directory), False))

    def build(self, context: Path) -> None:
        """Carry out the steps that change files. The others say how it is run."""
        for name, rest in self.stage.steps:
            if name == "WORKDIR":
                self.cwd = rest
                self._at(rest).mkdir(parents=True, exist_ok=True)
            elif name == "COPY":
                self._copy(shlex.split(rest), context)
            elif name == "RUN":
                self._run(rest)

    def _at(self, path: str) -> Path:
        return self.path / str(Path(self.cwd, path)).lstrip("/")

    def _copy(self, words: list[str], context: Path) -> None:
        source = self.others[words.pop(0).removeprefix("--from=")].path if words[0].startswith("--from=") else context
        *names, target = words
        for name in names:
            found, to = source / name.lstrip("/"), self._at(target)
            if found.is_dir():
                shutil.copytree(
                    found, to, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
                )
            else:
                shutil.copy2(found, to / found.name if target.endswith("/") else to)

    def _run(self, script: str) -> None:
        env = {**self.env, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        command = self._command(["/bin/sh", "-c", script], env, uid=0, readonly=False, more=[])
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise RuntimeError(f"RUN {script}\n{done.stdout}{done.stderr}")

    def start(self, volume: Path, log: Path, **more: str) -> Running:
        """ENTRYPOINT and CMD as the user of USER, the root read-only but for VOLUME. `more` is what `-e` gives."""
        uid = self._user()
        volume.mkdir()
        os.chown(volume, uid, uid)
        volume.chmod(0o700)
        argv = [*self.stage.argv("ENTRYPOINT"), *self.stage.argv("CMD")]
        env = {**self.env, **self.stage.environment(), **more}
        binds = [(str(volume), self.stage.last("VOLUME"), True)]
        command = self._command(argv, env, uid=uid, readonly=True, more=binds)
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        found = eventually(lambda: process.poll() is None and children.read_text().split(), 30, "it starts")
        return Running(process, int(found[0]))

    def inside(self, running: Running, argv: Sequence[str], **more: str) -> subprocess.CompletedProcess[str]:
        """A command beside the one that runs, as a health check or `exec` is."""
        uid = self._user()
        env = {**self.env, **self.stage.environment(), **more}
        enter = f"--target={running.pid} --mount --pid --root --wd=/ --setuid={uid} --setgid={uid}".split()
        command = ["nsenter", *enter, "--", "/usr/bin/env", "-i", *(f"{k}={v}" for k, v in env.items()), *argv]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def _user(self) -> int:
        return int(self.stage.last("USER").partition(":")[0])

    def _command(
        self, argv: Sequence[str], env: dict[str, str], *, uid: int, readonly: bool, more: list[tuple[str, str, bool]]
    ) -> list[str]:
        given = {
            "root": str(self.path), "binds": [*self.binds, *more], "readonly": readonly, "cwd": self.cwd,
            "uid": uid, "gid": uid, "env": env, "argv": list(argv),
        }  # fmt: skip
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", sys.executable, "-c", _ENTER]
        return [*enter, json.dumps(given)]


def build(stages: Sequence[Stage], context: Path, wheels: Path, scratch: Path) -> Root:
    """The last stage's root, with those before it built for it."""
    built: dict[str, Root] = {}
    for number, stage in enumerate(stages):
        root = Root(scratch / f"stage{number}", stage, wheels, built)
        root.prepare()
        root.build(context)
        built[stage.name] = root
    return root


def wheelhouse(checkout: Path, to: Path, *more: str) -> None:
    """The wheels of all that the steps install, and `more`, fetched as this machine's pip fetches: a root has no index."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--wheel-dir", str(to)]
    done = subprocess.run(
        [*command, f"{checkout}[github]", "hatchling", *more], capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        raise RuntimeError(f"what the steps install can't be fetched:\n{done.stderr}")
    for own in to.glob("covenq-*.whl"):
        own.unlink()  # that one is to be built by the steps
