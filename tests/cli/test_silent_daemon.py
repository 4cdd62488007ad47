"""Beside a daemon that runs and doesn't answer: what commands say of it, and that none waits for it again and again."""

from __future__ import annotations

import signal
from collections.abc import Callable

from tests.support.daemon import Daemon

Make = Callable[..., Daemon]


def test_a_stopped_daemon_is_named_by_what_needs_it_and_by_doctor(make_daemon: Make) -> None:
    daemon = make_daemon()
    assert daemon.process is not None
    daemon.env["COVENQ_BIND"] = f"127.0.0.1:{daemon.port}"
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        # A webhook client alone would wait for half a minute.
        said = daemon.cli("send", "issues", exit_code=6, timeout=25).stderr.decode()
        status = daemon.cli_json("status", exit_code=6)
        found = {one["check"]: one for one in daemon.cli_json("doctor", exit_code=1)["findings"]}
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    assert f"process {daemon.pid}" in said and "doesn't answer" in said
    assert status["pid"] is None and str(daemon.pid) in status["reasons"][0]
    assert found["daemon"]["level"] == "problem" and str(daemon.pid) in found["daemon"]["words"]
    assert found["port"]["level"] == "ok" and str(daemon.pid) in found["port"]["words"]


def test_too_few_open_files_are_refused_with_what_to_raise(make_daemon: Make) -> None:
    for fewer in (30, 40):
        daemon = make_daemon(start=False, wrapper=["/bin/sh", "-c", f'ulimit -n {fewer} && exec "$@"', "sh"])
        daemon.start(wait=False)
        assert daemon.wait_exit(60) == 4
        assert f"{fewer} open files are allowed, and covenq needs" in daemon.log_tail()
        assert "LimitNOFILE" in daemon.log_tail()
