"""systemd's protocol, over real sockets: true readiness, a reload, a stop, and a watchdog fed only with evidence."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from covenq.daemon.systemd import Notifier
from tests.support.daemon import Daemon
from tests.support.requests import issue, signed
from tests.support.service_manager import manager
from tests.support.waiting import eventually

Make = Callable[..., Daemon]


def test_it_tells_ready_reloading_status_and_stopping(make_daemon: Make, data: Path, tmp_path: Path) -> None:
    with manager(str(data.parent / "notify")) as heard:
        config = tmp_path / "c.toml"
        config.write_text("")
        daemon = make_daemon(config=config, env={"NOTIFY_SOCKET": str(data.parent / "notify")}, start=False)
        daemon.start(wait=False)
        ready = heard.until("READY=1")
        assert daemon.get("/readyz").status == 200, "not sooner than it is so"
        assert f"STATUS=receiving on http://127.0.0.1:{daemon.port}/webhook" in ready
        os.kill(daemon.pid, signal.SIGHUP)
        reloading = heard.until("RELOADING=1")
        assert int(reloading.partition("MONOTONIC_USEC=")[2]) > 0
        heard.until("READY=1")
        daemon.cli("pause", "intake", "--yes")
        assert "STATUS=NOT READY: An operator paused the intake." in heard.until("STATUS=")
        assert daemon.stop() == 0
        heard.until("STOPPING=1")
        assert not any("WATCHDOG" in one for one in heard.heard), "nobody asked for it"


def test_a_hung_sync_stops_the_watchdogs_food_and_its_end_brings_it_back(
    make_daemon: Make, data: Path, faults: Path
) -> None:
    name = f"covenq-test-{uuid.uuid4().hex}"
    with manager(b"\0" + name.encode()) as heard:
        env = {"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "2000000"}
        daemon = make_daemon(env=env, faults=faults)
        heard.until("READY=1")
        heard.until("WATCHDOG=1")
        heard.until("WATCHDOG=1")
        (faults / "fdatasync").write_text("HANG")
        connection = daemon.connect(timeout=60)
        body, headers = signed("issues", issue(1))
        connection.request("POST", "/webhook", body, headers)
        # What was on its way before the hang may still be heard; after it, four intervals of silence.
        eventually(lambda: heard.listen(3.0) is None, 60.0, "silence")
        assert daemon.get("/healthz").status == 200, "the process is alive, and yet it isn't fed"
        (faults / "fdatasync").unlink()
        heard.until("WATCHDOG=1")
        assert connection.getresponse().status == 202
        connection.close()


def test_the_watchdog_is_fed_in_time_by_a_beat_that_moves_and_by_no_other(tmp_path: Path) -> None:
    now = 0.0
    with manager(str(tmp_path / "s")) as heard:
        env = {"NOTIFY_SOCKET": str(tmp_path / "s"), "WATCHDOG_USEC": "8000000", "WATCHDOG_PID": "77"}
        notifier = Notifier(env, pid=77, monotonic=lambda: now)
        assert notifier.watchdog_enabled
        assert not notifier.feed(1.0), "it isn't time"
        now = 2.0
        assert notifier.feed(1.0)
        now = 100.0
        assert not notifier.feed(1.0), "the same beat proves nothing new"
        assert notifier.feed(1.5)
        assert [heard.listen(1.0), heard.listen(1.0)] == ["WATCHDOG=1"] * 2
        assert not Notifier(env, pid=78).watchdog_enabled, "meant for another process"
        assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "s"), "WATCHDOG_USEC": "soon"}).watchdog_enabled


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234"])
def test_without_a_socket_it_does_nothing(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"})
    notifier.ready("x")
    assert not notifier.watchdog_enabled


def test_a_manager_that_is_gone_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    notifier.ready("a\nSTOPPING=1")
    notifier.stopping()
    assert len(caplog.records) == 1


def test_a_status_is_one_line_whatever_is_in_it(tmp_path: Path) -> None:
    with manager(str(tmp_path / "s")) as heard:
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "s")})
        notifier.ready("fine\nSTOPPING=1")
        notifier.status("fine\nSTOPPING=1")
        notifier.status("other")
        assert [heard.listen(1.0), heard.listen(1.0)] == ["READY=1\nSTATUS=fine STOPPING=1", "STATUS=other"]
