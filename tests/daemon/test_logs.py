"""The log: one line per event, as text or JSON, and never a secret, a token or anything of a payload."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from covenq.config.secret_keys import Key
from covenq.daemon import logs
from covenq.daemon.log_masking import LogMask
from tests.support.daemon import Daemon, free_port
from tests.support.requests import SECRET, issue, new_guid, sign, signed
from tests.support.waiting import eventually

Make = Callable[..., Daemon]

TOKENS = {
    "github": "ghp_" + "a1B2" * 9,
    "own": "covenq_" + "Zz09" * 10 + "abc",
    "plain": "correct-horse-battery-staple-7741",
}
"""Secrets that a request, or its body, may hold. The last has no token's form: it stays out only because nothing logs it."""


@pytest.fixture
def forked() -> bool:
    return False  # its arguments and its streams are looked at


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook
    levels = {name: logging.getLogger(name).level for name in ("covenq", "journal")}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    sys.excepthook, threading.excepthook = hooks


def logged(format: str, level: str = "info", *, mask: Callable[[str], str] = lambda text: text) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(format, level, mask=mask, stream=stream)
    return stream


HOSTILE = "one\n2026-01-01T00:00:00Z CRITICAL covenq: forged\r\x1b[2J\x00\u202e\u2028\x7f\x85 two"


@pytest.mark.parametrize("format", ["human", "json"])
def test_the_newest_warnings_are_kept_for_the_status_masked_escaped_and_few(format: str) -> None:
    logged(format, mask=lambda text: text.replace("hunter2", "[masked]"))
    log = logging.getLogger("covenq.daemon")
    log.info("nothing to see")
    for number in range(logs.NEWEST + 5):
        log.warning("number %d", number)
    log.error("hunter2 \x1b[2J\nforged", extra={"fields": {"task": "t1", "none": None}})
    log.warning("x" * 10_000)
    *_, last_number, error, long = logs.newest.lines()
    assert len(logs.newest.lines()) == logs.NEWEST
    assert (last_number.level, last_number.logger, last_number.message) == (
        "warning",
        "covenq.daemon",
        f"number {logs.NEWEST + 4}",
    )
    assert (error.level, error.message) == ("error", "[masked] \\x1b[2J\\nforged task=t1")
    assert len(long.message) == logs.NEWEST_CHARACTERS


@pytest.mark.parametrize("format", ["human", "json"])
def test_no_value_makes_two_lines_of_one_or_moves_a_cursor(format: str) -> None:
    stream = logged(format)
    logging.getLogger("covenq.x").info("name %s", HOSTILE, extra={"fields": {"repo": HOSTILE, "n": 5, "none": None}})
    text = stream.getvalue()
    assert len(text.splitlines()) == 1 and text.endswith("\n")
    assert text[:-1].isprintable()
    if format == "json":
        line = json.loads(text)
        assert line["message"] == f"name {HOSTILE}" and line["repo"] == HOSTILE
        assert (line["level"], line["logger"], line["n"]) == ("info", "covenq.x", 5) and "none" not in line
        assert line["at"].endswith("Z")


@pytest.mark.parametrize("format", ["human", "json"])
def test_an_exception_is_told_by_type_and_place_not_by_its_text(format: str) -> None:
    stream = logged(format)
    try:
        raise ValueError(TOKENS["plain"])
    except ValueError:
        logging.getLogger("covenq.x").exception("it failed")

    def fail() -> None:
        raise KeyError(TOKENS["plain"])

    thread = threading.Thread(target=fail, name="a-thread")
    thread.start()
    thread.join()
    sys.excepthook(RuntimeError, RuntimeError(TOKENS["plain"]), None)
    text = stream.getvalue()
    assert TOKENS["plain"] not in text and "Traceback" not in text
    assert "ValueError in " in text and "a-thread failed: KeyError in " in text and "RuntimeError" in text
    assert len(text.splitlines()) == 3


def test_secrets_and_tokens_are_masked_wherever_they_come_from() -> None:
    mask = LogMask()
    keys = (Key("k", b"a secret of ours"),)
    for format in ("human", "json"):
        stream = logged(format, mask=mask)
        mask.use(lambda: keys)
        logging.getLogger("covenq").error(
            "x a secret of ours y %s", TOKENS["github"], extra={"fields": {"t": TOKENS["own"]}}
        )
        text = stream.getvalue()
        assert "a secret of ours" not in text and TOKENS["github"] not in text and TOKENS["own"] not in text
        assert text.count("***") == 3


def test_levels_and_libraries() -> None:
    stream = logged("human", "info")
    logging.getLogger("covenq").debug("no")
    logging.getLogger("library").info("no")
    logging.getLogger("library").warning("yes")
    logs.configure("human", "error", stream=stream)
    logging.getLogger("covenq").warning("no")
    logging.getLogger("library").warning("no")
    logs.configure("human", "debug", stream=stream)
    logging.getLogger("covenq").debug("yes")
    assert [line.rsplit(" ", 1)[1] for line in stream.getvalue().splitlines()] == ["yes", "yes"]


def test_the_daemon_writes_no_secret_token_or_payload_anywhere_it_should_not(make_daemon: Make, tmp_path: Path) -> None:
    config = tmp_path / "covenq.toml"
    config.write_text(
        '[log]\nformat = "json"\nlevel = "debug"\n[[route]]\nname = "all"\nmatch = "event:issues"\nrun = ["true"]\n'
    )
    daemon = make_daemon(config=config)
    everything = " ".join([*TOKENS.values(), SECRET])
    payload = issue(1, title=everything, comment={"body": everything})
    payload["issue"]["body"] = everything
    leaky = {
        "Authorization": f"Bearer {TOKENS['own']}",
        "Cookie": f"session={TOKENS['plain']}",
        "X_Api_Key": TOKENS["github"],
        "X_Forwarded_For": TOKENS["plain"],
        "X_Made_Up": SECRET,
    }
    guid = new_guid()
    assert daemon.post("issues", payload, guid, **leaky).status == 202
    assert daemon.post("issues", payload, guid, **leaky).status == 200
    assert daemon.post("issues", issue(2), guid).status == 409
    body, headers = signed("issues", payload, **leaky)
    for token in (*TOKENS.values(), SECRET):
        wrong = {**headers, "X-Hub-Signature-256": f"sha256={token}"}
        assert daemon.request("POST", f"/webhook?token={token.replace(' ', '+')}", body, wrong).status == 401
        odd = {**headers, "Content-Type": f"text/{token}", "User-Agent": token, "X-GitHub-Event": token}
        assert daemon.request("POST", "/webhook", body, odd).status == 415
        daemon.request("POST", "/webhook", token.encode(), {**headers, "X-Hub-Signature-256": sign(token.encode())})
    assert daemon.request("POST", f"/webhook/{TOKENS['github']}", body, headers).status == 404
    daemon.raw(f"GARBAGE {SECRET} {TOKENS['own']}\r\n\r\n".encode())
    eventually(lambda: daemon.records("task.completed"))
    places = {
        "metrics": daemon.api("/metrics").body,
        "status": daemon.api("/api/v1/status").body,
        "refused": daemon.api("/api/v1/refused?limit=0").body,
        "argv": Path(f"/proc/{daemon.pid}/cmdline").read_bytes() if Path("/proc/self/cmdline").exists() else b"",
    }
    config.write_text(config.read_text().replace('"debug"', '"warning"'))
    os.kill(daemon.pid, signal.SIGHUP)
    eventually(lambda: daemon.api("/api/v1/status").json["reload"]["number"] > 1)
    assert daemon.stop() == 0
    places["log"] = daemon.log.read_bytes()
    places["refused.jsonl"] = (daemon.data / "refused.jsonl").read_bytes()
    places["data"] = json.dumps([record["data"] for record in daemon.records()]).encode()
    for place, content in places.items():
        for name, token in {**TOKENS, "secret": SECRET}.items():
            assert token.encode() not in content, (place, name)
            assert token.replace(" ", "+").encode() not in content, (place, name)
    lines = [json.loads(line) for line in places["log"].decode().splitlines()]
    told = [line for line in lines if line["logger"] == "covenq.delivery"]
    assert [(line["status"], line["delivery"]) for line in told] == [(202, guid), (200, guid)]
    assert told[0]["tasks"] and told[0]["state"] == "queued" and told[0]["seq"] == 1
    ready = next(line for line in lines if line["message"] == "ready")
    assert ready["webhook"].endswith("/webhook") and ready["routes"] == ["all"]
    assert not any(line["level"] == "info" and "stopping" in line["message"] for line in lines), (
        "the reload took effect"
    )


def test_words_that_are_no_format_or_level_are_usage(data: Path) -> None:
    daemon = Daemon(data)
    assert b"human, json" in daemon.cli("serve", "--log-format", "xml", exit_code=2).stderr
    assert b"debug" in daemon.cli("serve", "--log-level", "loud", exit_code=2).stderr


@pytest.fixture
def stuck() -> Iterator[int]:
    """The writing end of a pipe that is full, and that nobody reads."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 1024)
    except BlockingIOError:
        os.set_blocking(write, True)
    yield write
    os.close(read)
    os.close(write)


def start_with_stderr(daemon: Daemon, stderr: int) -> Daemon:
    daemon.port = free_port()
    daemon.process = subprocess.Popen(
        daemon.command(), env=daemon.environment(), stdout=subprocess.DEVNULL, stderr=stderr
    )
    eventually(daemon.ready_or_gone, 60, "it is ready, or gone")
    assert daemon.running, f"it exited {daemon.process.returncode}"
    return daemon


@pytest.mark.parametrize("format", ["human", "json"])
def test_a_stderr_that_nobody_reads_holds_up_nothing(make_daemon: Make, stuck: int, format: str) -> None:
    config = "[[route]]\nname = 'all'\nmatch = 'event:issues'\nrun = ['true']\n"
    arguments = ["--log-level", "debug", "--log-format", format]
    daemon = start_with_stderr(make_daemon(config, start=False, args=arguments), stuck)
    assert [daemon.post("issues", issue(number)).status for number in range(50)] == [202] * 50
    daemon.wait_all_done()
    assert daemon.get("/healthz").status == 200
    assert daemon.stop() == 0


def test_a_stderr_on_a_full_disk_keeps_nothing_from_starting_and_is_counted(make_daemon: Make) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        daemon = start_with_stderr(make_daemon(start=False, args=["--log-level", "debug"]), full)
    finally:
        os.close(full)
    assert daemon.post("issues", issue()).status == 202

    def dropped() -> float:
        lines = daemon.api("/metrics").body.decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("covenq_log_dropped_lines_total"))

    assert eventually(dropped, 30, "lines are counted") >= 1
    assert daemon.stop() == 0


def test_a_worker_whose_stderr_nobody_reads_does_its_work_and_ends(
    make_daemon: Make, stuck: int, tmp_path: Path
) -> None:
    daemon = make_daemon("[[route]]\nname = 'p'\nmatch = 'event:issues'\npull = true\n")
    argv = [sys.executable, "-m", "covenq", "worker", "--work", str(tmp_path / "work"), "--", "true"]
    worker = subprocess.Popen(argv, env=daemon.environment(), stdout=subprocess.DEVNULL, stderr=stuck)
    try:
        daemon.post("issues", issue())
        daemon.wait_all_done()
        worker.terminate()
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        worker.wait()
