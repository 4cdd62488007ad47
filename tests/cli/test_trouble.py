"""Every command in trouble: a reader that left, a disk that is full, files it may not read, a daemon that is gone, Ctrl-C.

Each is a process of its own with real descriptors, users and disks (`forking`): one sentence, a documented exit code, no
traceback, and nothing half done.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from covenq.cli.app import COMMANDS, build
from tests.support.checkout import ROOT
from tests.support.daemon import free_port
from tests.support.forking import NOBODY, Done, Forker
from tests.support.journals.chosen import open_chosen
from tests.support.records import moved, note, of, queued, received
from tests.support.waiting import eventually

CONFIG = '[[route]]\nname = "fix"\nmatch = "event:issues"\nrun = ["true"]\n'
CODES = frozenset({0, 1, 2, 3, 4, 5, 6, 130})
READS: dict[str, list[str]] = {
    "status": ["--exit-zero"],
    "info": [],
    "deliveries": [],
    "tasks": [],
    "show": ["g0"],
    "why": ["g0"],
    "logs": [of("g0")],
    "tail": [],
    "stats": [],
    "audit": [],
    "usage": [],
    "ledger": [],
    "notify": [],
    "refused": [],
    "verify": [],
    "salvage": ["--dry-run"],
    "export": [],
    "routes": [],
    "secrets": [],
    "tokens": [],
    "doctor": [],
}
ACTS: dict[str, list[str]] = {
    "replay": ["g0"],
    "reroute": ["g9"],
    "requeue": [of("g0")],
    "cancel": [of("g1")],
    "pause": ["worker"],
    "resume": ["worker"],
    "compact": [],
    "redact": ["g1"],
    "backup": ["copy"],
    "import": ["slice.jsonl", "--yes"],
    "init": ["--force", "--config", "data/new.toml"],
    "tokens new": ["--name", "a", "--role", "read"],
}
VERDICTS = {"status": 0, "doctor": 1}
"""Commands whose exit code is what they found, whoever reads the rest: without a daemon, and with --exit-zero."""
WITHOUT_DAEMON = {"doctor": 1}
"""What a command exits with because no daemon runs, if not with 0."""
OTHERS = {
    "serve",
    "listen",
    "tui",
    "worker",
    "phase",
    "send",
    "bench",
    "demo",
    "reconcile",
    "migrate",
    "handover",
    "nodes",
    "keep",
}
"""Those that run until they are stopped, or need a daemon, GitHub or a database; what they do in trouble is tested one by one."""
PRINTS = [name for name in READS if name not in ("refused", "salvage", "tokens", "ledger", "notify")]
"""Those that have something to print on this directory."""


def test_every_command_is_here() -> None:
    assert {name.split()[0] for name in (*READS, *ACTS)} | OTHERS == set(COMMANDS)


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    with Forker() as started:
        yield started


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trouble")
    data = path / "data"
    data.mkdir(mode=0o700)
    (path / "covenq.toml").write_text(CONFIG)
    with open_chosen(data) as journal:
        for n in range(4):
            journal.append([received(f"g{n}"), queued(f"g{n}")])
        journal.append([moved("claimed", of("g0"), attempt=1, worker="w")])
        journal.append([moved("failed", of("g0"), attempt=1, category="exit", exit_code=1)])
        journal.append([received("g9"), note("ignored", "g9", reason="no_match", detail="No route.")])
    attempt = data / "attempts" / of("g0") / "1"
    attempt.mkdir(parents=True)
    (attempt / "stdout").write_text("what it said\n")
    return path


class Location:
    """A directory of one's own, and commands in it."""

    def __init__(self, path: Path, forker: Forker) -> None:
        self.path, self.data, self._forker, self._port = path, path / "data", forker, free_port()

    def run(self, name: str, *more: str, env: Mapping[str, str] | None = None, **how: Any) -> Done:
        args = {**READS, **ACTS}.get(name, [])
        given = {"COVENQ_DATA": str(self.data), "COVENQ_CONFIG": str(self.path / "covenq.toml"), "LANG": "C.UTF-8"}
        given["COVENQ_BIND"] = f"127.0.0.1:{self._port}"  # a daemon of the machine's own may have the usual one
        given |= {"PATH": os.environ["PATH"], "HOME": str(self.path), "COVENQ_WEBHOOK_SECRET": "x" * 40, **(env or {})}
        return self._forker.run(*name.split(), *args, *more, env=given, cwd=self.path, **how)


@pytest.fixture
def place(template: Path, tmp_path: Path, forker: Forker) -> Location:
    return Location(_copy(template, tmp_path / "here"), forker)


def _copy(template: Path, to: Path) -> Path:
    shutil.copytree(template, to)
    (to / "slice.jsonl").write_text(
        '{"id":1,"guid":"0b989ba4-242f-11e5-81e1-c7b6966d2516","event":"issues","action":"opened","status_code":200,'
        '"request":{"headers":{"X-GitHub-Delivery":"0b989ba4-242f-11e5-81e1-c7b6966d2516","X-GitHub-Event":"issues",'
        '"Content-Type":"application/json"},"payload":{"action":"opened"}}}\n'
    )
    return to


def told_once(done: Done) -> str:
    """What it said went wrong: one sentence, and what to do about it."""
    assert done.code in CODES, done
    assert "Traceback" not in done.err, done.err
    said = [line for line in done.err.splitlines() if line.startswith("covenq: ")]
    assert len(said) == 1, done
    assert done.err.count("\nhint: ") == 1, done
    assert "[Errno" not in done.err
    return said[0]


@pytest.mark.parametrize("name", [*READS, *ACTS])
def test_a_reader_that_left_is_no_trouble_of_its_own(place: Location, name: str) -> None:
    done = place.run(name, stdout="gone")
    assert done.code in (0, 1, 4)
    assert "Traceback" not in done.err
    assert "Broken" not in done.err
    assert "Exception ignored" not in done.err
    if name in PRINTS:
        code = VERDICTS.get(name, 1)
        assert (done.code, "covenq: " in done.err) == (code, False), done
    if name in ACTS and name != "tokens new":
        assert done.code == 0, "the act is done"


def test_an_act_that_nobody_could_read_of_is_done_all_the_same(place: Location) -> None:
    env = {**os.environ, "COVENQ_DATA": str(place.data), "COVENQ_CONFIG": str(place.path / "covenq.toml")}
    act = f'exec "{sys.executable}" -m covenq requeue {of("g0")} "$@" >&-'
    for words, code in (([], 0), (["--json"], 4)):  # the second time there is nothing to requeue
        done = subprocess.run(["sh", "-c", act, "sh", *words], env=env, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert f"{1 if code == 0 else 0} task" in done.stderr


@pytest.mark.parametrize("name", [name for name in ACTS if name != "tokens new"])
def test_an_act_ends_as_it_did_whatever_becomes_of_what_it_prints(place: Location, name: str) -> None:
    took = "--force" if name == "init" else "--json"
    done = place.run(name, took, stdout="full")
    assert done.code == 0, done
    assert "covenq: " not in done.err
    assert "warning: it is done" in done.err
    assert "No space left on device" in done.err
    assert place.run("verify").code == 0


def test_an_export_that_nobody_could_be_told_of_is_there(place: Location) -> None:
    done = place.run("export", "--output", "out.jsonl", "--json", stdout="full")
    assert (done.code, "5 deliveries written to out.jsonl." in done.err) == (0, True), done
    assert place.run("export", "--output", "out-2.jsonl", "--json", closed=[1]).code == 0
    assert len((place.path / "out-2.jsonl").read_text().splitlines()) == 7


@pytest.mark.parametrize("name", ["replay", "reroute", "requeue", "cancel", "compact", "redact", "import"])
def test_what_only_shows_what_it_would_do_fails_where_that_can_not_be_written(place: Location, name: str) -> None:
    done = place.run(name, "--dry-run", "--json", stdout="full")
    assert done.code == 1
    assert "No space left on device" in told_once(done)
    assert place.run(name, "--dry-run", "--json", closed=[1]).code == 1


@pytest.mark.parametrize("name", [name for name in ACTS if name != "tokens new"])
@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]], ids=str)
def test_an_act_with_closed_descriptors_writes_no_word_where_it_does_not_belong(
    place: Location, name: str, closed: list[int]
) -> None:
    took = "--force" if name == "init" else "--json"
    done = place.run(name, took, closed=closed)
    assert (done.code, "Traceback" in done.err) == (0, False), done
    if 1 not in closed and took == "--json":
        json.loads(done.out)
    assert place.run("verify").code == 0


@pytest.mark.parametrize("name", PRINTS)
def test_a_read_without_stderr_prints_data_alone_and_one_without_stdout_fails(place: Location, name: str) -> None:
    whole = place.run(name)
    alone = place.run(name, closed=[2])
    assert (alone.code, len(alone.out.splitlines())) == (whole.code, len(whole.out.splitlines()))
    assert not (set(whole.err.splitlines()) & set(alone.out.splitlines())) - {""}
    assert place.run(name, closed=[1]).code == 1
    assert "standard output is closed" in place.run(name, closed=[1]).err


def test_what_is_exported_without_stderr_is_the_file_alone(place: Location) -> None:
    lines = [json.loads(line) for line in place.run("export", closed=[2]).out.splitlines()]
    assert lines[-1] == {"end": True, "deliveries": len(lines) - 2}


@pytest.mark.parametrize("words", [["import", "-", "--yes"], ["routes", "test", "--event", "push"], ["cancel", "-"]])
def test_a_closed_stdin_is_an_empty_one(place: Location, words: list[str]) -> None:
    done = place.run("", *words, closed=[0])
    assert done.code == 2
    assert told_once(done)


@pytest.mark.parametrize("name", PRINTS)
def test_a_full_disk_behind_stdout_is_told(place: Location, name: str) -> None:
    done = place.run(name, stdout="full")
    assert done.code == 1
    assert "No space left on device" in told_once(done)


def test_a_token_that_nobody_saw_is_taken_back(place: Location) -> None:
    for stdout in ("full", "gone"):
        assert place.run("tokens new", stdout=stdout).code == 1
        assert place.run("tokens").out == ""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that other users reach: pytest's own are closed to them."""
    with tempfile.TemporaryDirectory(prefix="covenq-open-") as made:
        Path(made).chmod(0o711)
        yield Path(made)


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[bool]:
    """A disk of 192 KiB there, if one may be mounted."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=192k,mode=700", "none", str(path)]
    mounted = shutil.which("mount") is not None and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("name", [*READS, *ACTS])
def test_a_full_disk_below_the_data_is_told_and_nothing_is_half_done(
    template: Path, tmp_path: Path, forker: Forker, name: str
) -> None:
    with small_disk(tmp_path / "disk") as mounted:
        if mounted:
            place = Location(_copy(template, tmp_path / "disk" / "here"), forker)
            with contextlib.suppress(OSError), (tmp_path / "disk" / "filler").open("wb", 0) as filler:
                while filler.write(b"x" * 4096):
                    pass
            done = place.run(name, env={"COVENQ_UNSAFE_FILESYSTEM": "1"})
        else:
            place = Location(_copy(template, tmp_path / "here"), forker)
            done = place.run(name, file_limit=4096)
        assert "Traceback" not in done.err, done.err
        assert done.code in CODES
        if done.code not in (0, 4) and name != "doctor":
            told_once(done)
        if name in ("replay", "requeue", "cancel", "redact", "backup", "import", "init", "tokens new"):
            assert done.code != 0, done
        assert {"backup": "/copy", "init": "data/new.toml", "tokens new": "tokens.json"}.get(name, "") in done.err
        before = {path.name for path in template.rglob("*")}
        left = [path.name for path in place.path.rglob("*") if path.name.endswith((".tmp", ".part"))]
        assert not set(left) - before


@pytest.mark.parametrize("name", [*READS, *ACTS, "serve", "send"])
@pytest.mark.parametrize("what", ["data", "data/journal", "data/journal/segment"])
def test_what_may_not_be_read_is_named(
    template: Path, forker: Forker, open_directory: Path, name: str, what: str
) -> None:
    place = Location(_copy(template, open_directory / "here"), forker)
    closed = [*place.data.glob("journal/*.jsonl")] if what.endswith("segment") else [place.path / what]
    user = NOBODY if os.geteuid() == 0 else None
    given_away = ["chown", "-R", f"{NOBODY}:{NOBODY}", str(place.path)]
    if user is not None and subprocess.run(given_away, capture_output=True).returncode:
        pytest.skip("files can't be given away here")
    for path in closed:
        path.chmod(0)
    try:
        done = place.run(name, user=user, swallowing=True)
    finally:
        for path in closed:
            path.chmod(0o700)
    assert "Traceback" not in done.err, done.err
    assert done.code in CODES
    if name == "doctor":
        assert done.code == 1
        assert "Permission denied" in done.out
    elif done.code != 0:
        told_once(done)
    elif what == "data":
        assert name in ("info", "routes")


@pytest.mark.parametrize("name", [*READS, *ACTS])
def test_the_socket_of_a_daemon_that_is_gone_keeps_nobody(place: Location, name: str) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(os.path.relpath(place.data / "covenq.sock"))
    done = place.run(name)
    assert done.code == WITHOUT_DAEMON.get(name, 0), done


@pytest.mark.parametrize(("name", "code"), [("send", 6), ("phase", 2), ("tui", 2)])
def test_what_needs_a_daemon_or_a_terminal_says_so(place: Location, name: str, code: int) -> None:
    done = place.run(name, "issues" if name == "send" else "x" if name == "phase" else "--read-only")
    assert done.code == code
    told_once(done)


@pytest.mark.parametrize("name", [name for name in (*READS, *ACTS) if name != "info"])
def test_a_configuration_that_is_none_is_told_with_its_place(place: Location, name: str) -> None:
    (place.path / "covenq.toml").write_text('[worker]\nconcurrency = "x"\n')
    done = place.run(name)
    if name == "init":
        assert done.code == 0
    elif name == "doctor":
        assert done.code == 1
        assert "covenq.toml" in done.out
    else:
        assert done.code == 2
        assert "covenq.toml" in told_once(done)


@pytest.mark.parametrize("name", PRINTS)
def test_ctrl_c_ends_a_command_whose_reader_does_not_read(place: Location, name: str) -> None:
    def interrupt(pid: int) -> None:
        eventually(lambda: _writes(pid), 30, "it waits for its reader")
        os.kill(pid, signal.SIGINT)

    done = place.run(name, stdout="stuck", while_running=interrupt)
    assert done.code == 130
    assert "Traceback" not in done.err, done.err


def _writes(pid: int) -> bool:
    """It waits in a write to a pipe: by the system call it is in, or, where that isn't to be seen, by its sleep."""
    try:
        words = Path(f"/proc/{pid}/wchan").read_text() + Path(f"/proc/{pid}/syscall").read_text()
    except PermissionError:
        return False
    return "pipe" in words or words.lstrip("0").startswith(("1 0x1 ", "64 0x1 "))


def test_ctrl_c_ends_what_follows(place: Location) -> None:
    done = place.run(
        "tail",
        "--follow",
        while_running=lambda pid: os.kill(eventually(lambda: _said_something(place, pid)), signal.SIGINT),
    )
    assert done.code == 130
    assert done.err == "No daemon is running: waiting for it.\n"
    assert done.out.count("\n") == 10


def _said_something(place: Location, pid: int) -> int:
    """The pid, once it has written to stderr."""
    return pid if Path(f"/proc/{pid}/fd/2").stat().st_size else 0


@pytest.mark.parametrize("name", [*READS, *ACTS])
def test_no_colour_and_no_movement_on_a_dumb_terminal(place: Location, name: str) -> None:
    done = place.run(name, stdout="terminal", env={"TERM": "dumb"})
    assert done.code == WITHOUT_DAEMON.get(name, 0), done
    assert "\x1b" not in done.out


@pytest.mark.parametrize("name", ["deliveries", "tasks", "show", "why", "tail", "doctor"])
def test_no_colour_where_none_is_wanted_and_some_where_it_helps(place: Location, name: str) -> None:
    plain = place.run(name, stdout="terminal", env={"TERM": "xterm-256color", "NO_COLOR": "1"})
    assert "\x1b[3" not in plain.out
    assert "\x1b[1m" not in plain.out
    assert "\x1b[" in place.run(name, stdout="terminal", env={"TERM": "xterm-256color"}).out


HOSTILE = ("\x1b[2J", "../../etc/passwd", "x" * 5000, "a b", "%s%n", "'; DROP TABLE tasks", "💥", "-1", "1e999", "")


@pytest.mark.parametrize(
    "words",
    [
        ["deliveries", "--after"], ["tasks", "--after"], ["tail", "--after"], ["tail", "--since"], ["stats", "--since"],
        ["verify", "--since"], ["verify", "--segment"], ["verify", "--expect"], ["tokens", "revoke"],
        ["pause", "route"], ["pause", "repo"], ["pause", "installation"], ["resume", "route"], ["refused", "--limit"],
        ["redact", "--repo"], ["redact", "--installation"], ["import"], ["show", "g0", "--path"], ["logs"], ["logs", of("g0")],
        ["replay", "g0", "--route"], ["replay", "g0", "--to"], ["serve", "--bind"], ["serve", "--log-level"],
        ["routes", "test", "--event"], ["routes", "diff", "--config"], ["send", "--url", "http://127.0.0.1:9", "--event"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_hostile_value_is_one_sentence(place: Location, words: list[str]) -> None:
    for value in HOSTILE:
        done = (
            place.run(words[0], *words[1:], value) if words[0] not in {**READS, **ACTS} else _plain(place, words, value)
        )
        assert done.code in CODES, done
        assert "Traceback" not in done.err, done.err
        assert "\x1b" not in done.err + done.out
        if done.code not in (0, 4, 5):
            assert done.err.count("covenq: ") + done.err.count("Error: ") == 1, done
            assert len(done.err) < 8000


def _plain(place: Location, words: list[str], value: str) -> Done:
    given = {"COVENQ_DATA": str(place.data), "COVENQ_CONFIG": str(place.path / "covenq.toml"), "LANG": "C.UTF-8"}
    given |= {"PATH": os.environ["PATH"], "HOME": str(place.path)}
    return place._forker.run(*words, value, env=given, cwd=place.path)


def test_every_short_option_of_the_commands_is_known() -> None:
    short = {
        (name, spelling)
        for name in COMMANDS
        for param in build(name).params
        for spelling in param.opts
        if spelling.startswith("-") and not spelling.startswith("--")
    }
    assert short == {("logs", "-f")}
