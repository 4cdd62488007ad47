"""Running one command: real processes, real files."""

from __future__ import annotations

import json
import os
import secrets
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from covenq.config.resources import NO_LIMITS, ResourceLimits
from covenq.model import Category
from covenq.tasks.execution import running
from covenq.tasks.execution.brief import command_line, environment
from covenq.tasks.execution.command import Command, StopEvent, not_started
from covenq.tasks.execution.process_tree import (
    ProcessIdentity,
    ProcessMarks,
    forget,
    identity_of,
    kill_leftovers,
    pipe_name,
    starting,
)
from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.scheduling.outcome import Outcome
from tests.support.waiting import eventually

EPOCH = secrets.token_hex(8)  # of this process alone: leftovers are looked for on the whole machine
FENCE = f"{EPOCH}.7"


@pytest.fixture
def stop() -> Iterator[StopEvent]:
    stop = StopEvent()
    yield stop
    stop.close()


@pytest.fixture
def directory(tmp_path: Path) -> AttemptDirectory:
    directory = AttemptDirectory.for_attempt(tmp_path, "t1", 1)
    directory.prepare(b'{"hello": "w\xc3\xb6rld"}', {})
    return directory


def env(**more: str) -> dict[str, str]:
    return environment(os.environ, (), {"FENCE": FENCE}) | more


def run(
    directory: AttemptDirectory,
    code: str,
    stop: StopEvent,
    *,
    timeout: float = 30.0,
    grace: float = 5.0,
    limit: int = 10000,
    fence: str = FENCE,
) -> Outcome:
    command = Command([sys.executable, "-S", "-c", code], env(COVENQ_FENCE=fence), directory, limit)
    return command.wait(timeout, grace, stop)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def pid_in(path: Path) -> int:
    return eventually(lambda: path.exists() and path.read_text().endswith("\n") and int(path.read_text()))


def test_payload_is_stdin_and_output_is_kept(directory: AttemptDirectory, stop: StopEvent) -> None:
    code = "import sys; sys.stdout.write(sys.stdin.read()); sys.stderr.write('words'); open('result', 'w').write('{}')"
    assert run(directory, code, stop) == Outcome(None, 0)
    assert directory.stdout.read_bytes() == b'{"hello": "w\xc3\xb6rld"}'
    assert directory.stderr.read_bytes() == b"words"
    assert directory.collect()


def test_everything_is_private(directory: AttemptDirectory, stop: StopEvent, tmp_path: Path) -> None:
    code = "import os; os.mkdir('d'); open('f', 'w').close(); open('result', 'w').close(); os.chmod('result', 0o666)"
    assert run(directory, code, stop).category is None
    directory.collect()
    for path in [tmp_path / "attempts", *(tmp_path / "attempts").rglob("*")]:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_exit_code_and_signal(directory: AttemptDirectory, stop: StopEvent) -> None:
    assert run(directory, "import sys; sys.exit(3)", stop) == Outcome(Category.EXIT, 3, None, "it exited with 3")
    ended = run(directory, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", stop)
    assert ended == Outcome(Category.SIGNAL, None, signal.SIGSEGV, "it was ended by SIGSEGV")


@pytest.mark.parametrize("argv", [["/nonexistent/program"], ["/etc/passwd"], ["a\0b"], [""]])
def test_what_can_not_be_started(directory: AttemptDirectory, argv: list[str]) -> None:
    with pytest.raises((OSError, ValueError)) as caught:
        Command(argv, env(), directory)
    outcome = not_started(caught.value, argv[0])  # type: ignore[arg-type]
    assert outcome.category is Category.SPAWN
    assert outcome.detail is not None
    shown = argv[0].replace("\0", "") or "''"
    assert outcome.detail.startswith(f"{shown} could not be started: ")


def test_no_shell_sees_the_words(directory: AttemptDirectory, stop: StopEvent, tmp_path: Path) -> None:
    hostile = "$(touch owned); `touch owned` | touch owned & {task}\n"
    argv = command_line(["printf", "%s", hostile], {"task": "t1"})
    assert Command(argv, env(), directory).wait(30.0, 5.0, stop) == Outcome(None, 0)
    assert directory.stdout.read_text() == hostile.replace("{task}", "t1")
    assert not list(tmp_path.rglob("owned"))


def test_placeholders_are_put_in_once() -> None:
    values = {"brief": "{task}", "result": "r", "payload": "p", "task": "t", "attempt": "2"}
    words = ["--x={brief}", "{result}{payload}", "{attempt}", "{repo}", "{}", "{{task}}"]
    assert command_line(words, values) == ["--x={task}", "rp", "2", "{repo}", "{}", "{t}"]


def test_environment_holds_what_was_allowed_and_nothing_else(directory: AttemptDirectory, stop: StopEvent) -> None:
    base = {"PATH": os.environ["PATH"], "HOME": "/h", "LANG": "C", "TZ": "UTC", "TOKEN": "x", "SECRET": "s"}
    own = {"REPO": "octo/\x00\nhello\ud800" + "a" * 5000, "ACTION": None, "ATTEMPT": 2}
    made = environment(base, ["TOKEN", "ABSENT"], own)
    command = Command(
        [sys.executable, "-S", "-c", "import json, os; print(json.dumps(dict(os.environ)))"], made, directory
    )
    assert command.wait(30.0, 5.0, stop) == Outcome(None, 0)
    seen = json.loads(directory.stdout.read_bytes())
    seen.pop("LC_CTYPE", None)  # set by the Python that was run
    assert seen.pop("COVENQ_REPO") == "octo/hello" + "a" * 4086
    assert seen == {
        **{name: base[name] for name in ("PATH", "HOME", "LANG", "TZ", "TOKEN")},
        "COVENQ_ACTION": "",
        "COVENQ_ATTEMPT": "2",
    }


@pytest.mark.parametrize(
    "given", [{}, {"LC_CTYPE": "C"}, {"LC_CTYPE": "C.UTF-8"}, {"LANG": "C"}, {"LC_ALL": "C", "LC_CTYPE": "\udcff"}]
)
@pytest.mark.parametrize("limits", [NO_LIMITS, ResourceLimits(open_files=64)], ids=["no limits", "limits"])
def test_limits_change_nothing_about_the_environment(
    directory: AttemptDirectory, stop: StopEvent, given: dict[str, str], limits: ResourceLimits
) -> None:
    made = {"PATH": os.environ["PATH"], "HOME": "/h", **given}
    assert Command(["env", "-0"], made, directory, limits=limits).wait(30.0, 5.0, stop) == Outcome(None, 0)
    assert dict(line.split("=", 1) for line in os.fsdecode(directory.stdout.read_bytes()).split("\0")[:-1]) == made


def test_timeout_ends_a_group_that_ignores_sigterm(directory: AttemptDirectory, stop: StopEvent) -> None:
    code = """if True:
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0 and os.fork() == 0:
            open('grandchild', 'w').write(f'{os.getpid()}\\n')
        time.sleep(600)
    """
    command = Command([sys.executable, "-S", "-c", code], env(), directory)
    grandchild = pid_in(directory.path / "grandchild")
    assert command.wait(0.2, 0.1, stop) == Outcome(Category.TIMEOUT, None, signal.SIGKILL, "it ran longer than 0.2 s")
    eventually(lambda: not alive(grandchild))


def test_timeout_lets_a_command_end_itself(directory: AttemptDirectory, stop: StopEvent) -> None:
    code = """if True:
        import os, signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        open('ready', 'w').write(f'{os.getpid()}\\n')
        time.sleep(600)
    """
    command = Command([sys.executable, "-S", "-c", code], env(), directory)
    pid_in(directory.path / "ready")
    outcome = command.wait(0.2, 60.0, stop)
    assert (outcome.category, outcome.exit_code, outcome.signal) == (Category.TIMEOUT, 0, None)


def test_a_stopped_command_is_ended_too(directory: AttemptDirectory, stop: StopEvent) -> None:
    outcome = run(directory, "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", stop, timeout=0.3, grace=60.0)
    assert outcome.category is Category.TIMEOUT
    assert outcome.signal == signal.SIGTERM


def test_what_the_leader_left_in_its_group_is_killed(directory: AttemptDirectory, stop: StopEvent) -> None:
    code = """if True:
        import os, signal, time
        r, w = os.pipe()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            open('straggler', 'w').write(f'{os.getpid()}\\n')
            os.write(w, b'x')
            time.sleep(600)
        os.read(r, 1)
    """
    assert run(directory, code, stop) == Outcome(None, 0)
    pid = pid_in(directory.path / "straggler")
    eventually(lambda: not alive(pid))


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="what left the group is found by Linux's /proc")
def test_timeout_finds_what_left_the_group(directory: AttemptDirectory, stop: StopEvent) -> None:
    code = """if True:
        import os, signal, time
        if os.fork() == 0:
            os.setsid()
            open('escaped', 'w').write(f'{os.getpid()}\\n')
        time.sleep(600)
    """
    command = Command([sys.executable, "-S", "-c", code], env(), directory)
    threading.Thread(target=lambda: (pid_in(directory.path / "escaped"), stop.set(0.1))).start()
    assert command.wait(600.0, 5.0, stop).category is Category.INTERRUPTED
    eventually(lambda: not alive(pid_in(directory.path / "escaped")))


def test_stop_ends_all_that_run(directory: AttemptDirectory, tmp_path: Path, stop: StopEvent) -> None:
    other = AttemptDirectory.for_attempt(tmp_path, "t2", 1)
    other.prepare(b"", {})
    outcomes: list[Outcome] = []
    sleep = "import time; time.sleep(600)"
    threads = [
        threading.Thread(target=lambda p=p, n=n: outcomes.append(run(p, sleep, stop, fence=f"{EPOCH}.{n}")))
        for n, p in enumerate((directory, other), 8)
    ]
    for thread in threads:
        thread.start()
    stop.set(30.0)
    for thread in threads:
        thread.join(60)
    assert [outcome.category for outcome in outcomes] == [Category.INTERRUPTED] * 2


def test_output_is_cut_at_the_limit_and_the_command_lives(directory: AttemptDirectory, stop: StopEvent) -> None:
    code = "import sys; sys.stdout.write('x' * 1_000_000 + 'the end.'); sys.stderr.write('done')"
    assert run(directory, code, stop, limit=1000) == Outcome(None, 0)
    said = directory.stdout.read_text()
    head, _, tail = said.partition("\n[covenq: ")
    note, _, tail = tail.partition("]\n")
    assert head == "x" * 500
    assert 250 <= len(tail) <= 500
    assert tail == "x" * (len(tail) - 8) + "the end."
    assert note == f"{1_000_008 - 500 - len(tail)} bytes were dropped here: the limit is 1000"
    assert [path.name for path in directory.path.glob("stdout*")] == ["stdout"]
    assert directory.stderr.read_text() == "done"


def test_an_escaped_process_that_holds_the_pipe_holds_nobody_up(directory: AttemptDirectory, stop: StopEvent) -> None:
    code = """if True:
        import os, time
        r, w = os.pipe()
        if os.fork() == 0:
            os.setsid()
            open('escaped', 'w').write(f'{os.getpid()}\\n')
            os.write(w, b'x')
            time.sleep(600)
        os.read(r, 1)
        print('last words')
    """
    assert run(directory, code, stop) == Outcome(None, 0)
    assert directory.stdout.read_text() == "last words\n"
    pid = pid_in(directory.path / "escaped")
    assert alive(pid), "a command that ended well may leave something running on purpose"
    assert kill_leftovers([ProcessMarks(FENCE)]) == [pid]


def test_output_files_are_not_written_through_links(directory: AttemptDirectory, tmp_path: Path) -> None:
    directory.stdout.unlink()
    directory.stdout.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="stdout"):
        Command(["true"], env(), directory)
    assert not (tmp_path / "elsewhere").exists()


def test_a_result_is_a_plain_file(directory: AttemptDirectory, tmp_path: Path) -> None:
    assert not directory.collect()
    (tmp_path / "elsewhere").write_text("secret")
    directory.result.symlink_to(tmp_path / "elsewhere")
    assert not directory.collect()
    directory.result.unlink()
    os.mkfifo(directory.result)
    assert not directory.collect()
    directory.result.unlink()
    directory.result.mkdir()
    assert not directory.collect()


@pytest.mark.parametrize(("task", "attempt"), [("../x", 1), ("", 1), ("a/b", 1), ("a\n", 1), ("t", 0), ("t" * 65, 1)])
def test_no_path_from_anything_but_a_plain_id(tmp_path: Path, task: str, attempt: int) -> None:
    with pytest.raises(ValueError, match="names no directory"):
        AttemptDirectory.for_attempt(tmp_path, task, attempt)


def test_a_directory_in_the_way_is_moved_aside(directory: AttemptDirectory) -> None:
    directory.stdout.write_text("of another history")
    directory.prepare(b"new", {})
    assert directory.payload.read_bytes() == b"new"
    assert directory.stdout.read_bytes() == b""
    kept = [path for path in directory.path.parent.iterdir() if path != directory.path]
    assert [(path / "stdout").read_text() for path in kept] == ["of another history"]


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux shows a process's start")


def sleeper(**more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"], env={"PATH": os.environ["PATH"], **more}, start_new_session=True)


@needs_proc
def test_leftovers_are_known_by_their_fence() -> None:
    ours, others = sleeper(COVENQ_FENCE=f"{EPOCH}.1"), sleeper(COVENQ_FENCE=f"{EPOCH}.11")
    try:
        assert kill_leftovers([ProcessMarks(f"{EPOCH}.1"), ProcessMarks(f"{EPOCH}.2")]) == [ours.pid]
        assert ours.wait(30) == -signal.SIGKILL
        assert others.poll() is None
    finally:
        others.kill()
        others.wait()
        ours.kill()
        ours.wait()


@needs_proc
def test_a_command_that_holds_anothers_pipe_as_it_starts_is_not_taken_for_its_leftover() -> None:
    """Between its fork and its exec it has all that this process has."""
    reads, writes = os.pipe()
    mark = ProcessMarks(f"{EPOCH}.1", pipes=frozenset({pipe_name(writes)}))
    with starting() as running:
        other = subprocess.Popen(["sleep", "600"], pass_fds=(writes,))
        running[other.pid] = ProcessMarks(f"{EPOCH}.2")
    os.close(writes)
    try:
        assert kill_leftovers([mark]) == []
        assert other.poll() is None
        forget(other.pid)
        assert kill_leftovers([mark]) == [other.pid]
    finally:
        other.kill()
        other.wait()
        os.close(reads)


@needs_proc
def test_leftovers_are_known_by_the_recorded_process(tmp_path: Path) -> None:
    bare = sleeper()
    try:
        running.note(tmp_path, "t1", 1, f"{EPOCH}.1")
        assert running.noted(tmp_path) == [ProcessMarks(f"{EPOCH}.1")]
        running.note(tmp_path, "t1", 1, f"{EPOCH}.1", bare.pid)
        assert running.noted(tmp_path) == [ProcessMarks(f"{EPOCH}.1", identity_of(bare.pid))]
        assert kill_leftovers(running.noted(tmp_path)) == [bare.pid]
        assert bare.wait(30) == -signal.SIGKILL
    finally:
        bare.kill()
        bare.wait()


@needs_proc
def test_a_recycled_pid_is_left_alone() -> None:
    stranger = sleeper()
    try:
        identity = identity_of(stranger.pid)
        assert identity is not None
        assert (
            kill_leftovers(
                [ProcessMarks(f"{EPOCH}.1", ProcessIdentity(identity.pid, identity.start - 1, identity.boot))]
            )
            == []
        )
        assert (
            kill_leftovers([ProcessMarks(f"{EPOCH}.1", ProcessIdentity(identity.pid, identity.start, "another boot"))])
            == []
        )
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


UNREADABLE = [
    b"",
    b"{",
    b"[]",
    b'{"pid": 1}',
    b'{"fence": ""}',
    b'{"fence": "f", "pid": "x"}',
    b'{"fence": "f", "pid": 1e999}',
    b'{"fence": "f", "pid": -1}',
    b'{"fence": "f", "more": ' + b"[" * 4000,
    b'{"fence": "' + b"f" * 5000 + b'"}',
]


def test_a_note_that_can_not_be_read_names_nobody_and_holds_up_nobody(tmp_path: Path) -> None:
    running.note(tmp_path, "good", 1, f"{EPOCH}.1")
    notes = tmp_path / "running"
    for number, content in enumerate(UNREADABLE):
        (notes / f"bad.{number}.json").write_bytes(content)
    os.mkfifo(notes / "pipe.1.json")
    (notes / "zero.1.json").symlink_to("/dev/zero")
    (notes / "directory.1.json").mkdir()
    (notes / "another").write_text("{}")
    assert running.noted(tmp_path) == [ProcessMarks(f"{EPOCH}.1")]
    running.clear(tmp_path)
    assert running.noted(tmp_path) == []
    assert {path.name for path in notes.iterdir()} == {"directory.1.json", "another"}
    assert running.noted(tmp_path / "absent") == []
