"""[github] ingress = "log": daemons that nothing is posted to, against the stand-in for GitHub over real HTTP."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from covenq.config.load import load
from covenq.operate.log_records import read_state, write_state
from tests.support.daemon import Daemon
from tests.support.github_log import Fault, GithubLog, app_table, github
from tests.support.journals.chosen import open_chosen
from tests.support.passes import last_of, received, status_of, wait_received
from tests.support.requests import SECRET
from tests.support.waiting import eventually

LOG = "/app/hook/deliveries"
DAY = 86_400.0

Make = Callable[..., Daemon]


@pytest.fixture
def server() -> Iterator[GithubLog]:
    with github() as found:
        yield found
        assert [one for one in found.asked if not one.startswith("GET ")] == []  # nothing is ever changed at GitHub


def config_of(server: GithubLog, directory: Path, *, every: str = "1s", more: str = "", reconcile: str = "") -> str:
    return f"""
[github]
ingress = "log"

{app_table(server, directory)}

[reconcile]
every = "{every}"
{reconcile}
{more}
[[route]]
name = "fix"
match = "event:issues"
run = ["true"]
"""


@pytest.fixture
def follow(make_daemon: Make, server: GithubLog, tmp_path: Path) -> Callable[..., Daemon]:
    """A daemon that follows the log, whose first pass has ended: what is sent from now on is its own."""

    def made(config: str | None = None, **more: Any) -> Daemon:
        daemon = make_daemon(
            config or config_of(server, tmp_path), posted=False, secret=more.pop("secret", None), **more
        )
        eventually(lambda: last_of(daemon), 60, daemon.log_tail())
        return daemon

    return made


def log_of(daemon: Daemon) -> Any:
    return status_of(daemon)["logs"][0]


def tcp_listeners(pid: int) -> list[str]:
    """Addresses on which a process listens, by /proc."""
    inodes = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(one.readlink().name)
        except OSError:
            continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.append(fields[1])
    return found


# ---- what comes, and how


def test_deliveries_come_by_the_log_alone_and_their_tasks_run(
    follow: Callable[..., Daemon], server: GithubLog, tmp_path: Path
) -> None:
    server.add(at=time.time() - 60)  # before this covenq was there
    daemon = follow()
    sent = [server.add("push" if n % 2 else "issues", status_code=(0, 502, 200)[n % 3]) for n in range(6)]
    wait_received(daemon, {one.guid for one in sent})
    assert list(daemon.wait_all_done().values()) == [["task.completed"]] * 3
    assert {record["data"]["source"] for record in daemon.records("delivery.received")} == {"import"}
    assert daemon.get("/readyz").status == 200
    assert tcp_listeners(daemon.pid) == []
    one = server.add(log="/elsewhere")
    answer = daemon.api("/webhook", "POST", {})
    assert answer.status == 404 and "GitHub's log alone" in answer.json["detail"]
    assert one.guid not in received(daemon)
    assert not (daemon.data / "secret").exists()
    status = daemon.cli("status").stdout.decode()
    assert "webhook " not in status and re.search(
        r"log +app \S+: followed, seen to its end \S+ ago, looked at again", status
    )
    sent_by_hand = daemon.cli("send", "issues", exit_code=4)
    assert b"nothing is posted to this covenq" in sent_by_hand.stderr
    doctor = daemon.cli("doctor", exit_code=None).stdout.decode()
    assert "none is opened for deliveries" in doctor and "none is needed for what is taken from GitHub's log" in doctor
    assert "never came" not in daemon.log_tail()


@pytest.mark.parametrize(("secret", "name"), [(SECRET, "env"), ("another one than GitHub's", None)])
def test_a_webhook_secret_that_is_there_verifies_what_is_taken(
    follow: Callable[..., Daemon], server: GithubLog, secret: str, name: str | None
) -> None:
    daemon = follow(secret=secret)
    one = server.add()
    wait_received(daemon, {one.guid})
    (record,) = daemon.records("delivery.received")
    assert record["data"]["secret"] == name
    daemon.stop()
    daemon.cli("verify", "--signatures")


def test_what_listens_beside_the_webhook_does_and_takes_no_delivery(
    follow: Callable[..., Daemon], server: GithubLog, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    daemon = follow(config_of(server, tmp_path, more=f'[metrics]\nbind = "127.0.0.1:{port}"\n'))
    assert len(tcp_listeners(daemon.pid)) == 1
    daemon.port, daemon.posted = port, True
    assert daemon.get("/readyz").status == 200 and daemon.get("/metrics").status == 200
    assert daemon.post("issues", {"action": "opened"}).status == 404


def test_more_than_ten_thousand_attempts_in_one_minute_lose_nothing(
    follow: Callable[..., Daemon], server: GithubLog, tmp_path: Path
) -> None:
    """Most are of what came before; what is fetched is spread over all of it."""
    daemon = follow(config_of(server, tmp_path, every="1h"))
    daemon.stop()
    at = time.time()
    sent = [server.add("push", {"n": n % 7}, at=at + n / 10_200 * 59, guid=f"g{n % 40}-0") for n in range(10_200)]
    daemon.start()
    wait_received(daemon, {one.guid for one in sent}, 120)
    assert eventually(lambda: (last_of(daemon) or {}).get("listed") == 10_200, 60)


def test_cursors_that_are_refused_start_the_walk_over_and_lose_nothing(
    follow: Callable[..., Daemon], server: GithubLog
) -> None:
    daemon = follow()
    daemon.cli("pause", "intake", "--yes")
    sent = [server.add("push") for _ in range(150)]
    server.refused_cursors = 2
    daemon.cli("resume", "intake")
    wait_received(daemon, {one.guid for one in sent}, 120)
    assert "the walk starts over" in daemon.log_tail(20_000)


def test_a_tenant_that_was_erased_is_not_taken_again(follow: Callable[..., Daemon], server: GithubLog) -> None:
    payload = {"action": "opened", "repository": {"id": 77, "full_name": "o/r"}, "installation": {"id": 5}}
    tenant = {"repository_id": 77, "installation_id": 5}
    daemon = follow()
    one = server.add(payload=payload, **tenant)
    wait_received(daemon, {one.guid})
    daemon.wait_all_done()
    daemon.cli("pause", "intake", "--yes")
    lost = server.add(payload=payload, **tenant)
    daemon.cli("redact", "--repo-id", "77", "--yes")
    other = server.add(repository_id=78)
    daemon.cli("resume", "intake")
    wait_received(daemon, {one.guid, other.guid})
    assert server.requests(f"{LOG}/{lost.id}") == []


@pytest.mark.parametrize("kills", [3, pytest.param(40, marks=pytest.mark.deep)])
def test_killed_anywhere_in_a_pass_each_is_taken_once(
    follow: Callable[..., Daemon], server: GithubLog, kills: int
) -> None:
    daemon = follow()
    chosen = Random(kills)
    wanted: set[str] = set()
    for _ in range(kills):
        left = chosen.randint(1, 60)

        def kill() -> None:
            nonlocal left
            left -= 1
            if left == 0 and daemon.process is not None:
                daemon.process.kill()

        server.before_detail = kill
        wanted |= {server.add("issues" if n % 20 == 0 else "push").guid for n in range(60)}
        assert daemon.process is not None
        daemon.process.wait(60)
        server.before_detail = lambda: None
        daemon.start()
    wait_received(daemon, wanted, 120)
    ends = daemon.wait_all_done()
    assert len(ends) == 3 * kills and all(one == ["task.completed"] for one in ends.values())


def test_github_away_is_no_reason_to_be_unready_and_is_told(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    server.faults = [Fault(404) for _ in range(10_000)]
    daemon = make_daemon(config_of(server, tmp_path), posted=False)
    found = eventually(lambda: last_of(daemon), 60)
    assert "does not let" in found["error"] and daemon.get("/readyz").status == 200
    assert "did not reach its end" in daemon.cli("status").stdout.decode()
    server.faults = []
    one = server.add()
    wait_received(daemon, {one.guid})


def test_a_detail_that_github_fails_to_give_keeps_nothing_else_from_being_taken(
    follow: Callable[..., Daemon], server: GithubLog
) -> None:
    """Nor from telling whose log it is, though it would be asked first, as the one that was accepted."""
    daemon = follow()
    server.faults = [Fault(500, on=f"{LOG}/") for _ in range(10_000)]
    poison = server.add(status_code=200)
    server.faults = [Fault(500, on=f"{LOG}/{poison.id}") for _ in range(10_000)]
    one = server.add("issues")
    wait_received(daemon, {one.guid})
    assert list(daemon.wait_all_done().values()) == [["task.completed"]]


def test_a_first_pass_by_a_clock_that_was_ahead_leaves_nothing_out_in_silence(
    follow: Callable[..., Daemon], server: GithubLog
) -> None:
    daemon = follow()
    daemon.stop()
    assert daemon.config is not None and "was set back" not in daemon.log_tail()
    (log,) = load(daemon.config, {}).github_logs.all
    with open_chosen(daemon.data) as journal:
        known = read_state(journal, log)
        assert known is not None
        write_state(journal, log, known, replace(known, baseline=time.time() + 7200))
    daemon.start()
    server.add()
    eventually(lambda: "the clock was set back since its first pass" in daemon.log_tail(), 60)
    eventually(lambda: (last_of(daemon) or {}).get("states") == {"before_us": 1}, 60)
    assert daemon.log_tail().count("was set back") == 1


def test_what_github_lists_by_a_clock_that_is_ahead_is_taken_at_once(
    follow: Callable[..., Daemon], server: GithubLog
) -> None:
    server.clock = lambda: time.time() + 200
    daemon = follow()
    one = server.add()
    wait_received(daemon, {one.guid}, 60)


def test_a_reload_that_takes_the_log_away_changes_nothing_before_the_next_start(
    follow: Callable[..., Daemon], server: GithubLog, tmp_path: Path
) -> None:
    daemon = follow(secret=SECRET)
    assert daemon.config is not None
    daemon.config.write_text('[[route]]\nname = "fix"\nmatch = "event:push"\nrun = ["true"]\n')
    eventually(lambda: "ingress takes effect at the next start" in daemon.cli("status").stdout.decode(), 60)
    one = server.add("push")
    wait_received(daemon, {one.guid})
    assert list(daemon.wait_all_done().values()) == [["task.completed"]]  # by the new routes


def test_looks_become_rare_where_githubs_headers_leave_little(
    follow: Callable[..., Daemon], server: GithubLog, tmp_path: Path
) -> None:
    server.remaining, server.reset = 9, int(time.time()) + 3600
    daemon = follow(config_of(server, tmp_path, every="60s"))
    next_at = datetime.fromisoformat(log_of(daemon)["following"]["next_at"]).timestamp()
    assert next_at - time.time() > 600  # four are left of the eight, for an hour


# ---- one consumer


def test_a_second_covenq_is_told_and_takes_nothing_while_the_first_follows(
    follow: Callable[..., Daemon], make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    daemon = follow()
    second = make_daemon(daemon.config, posted=False, data=daemon.data.with_name("other"), secret=None)
    owner = eventually(lambda: log_of(second)["following"]["owner"], 60)
    assert f"process {daemon.pid}" in owner and str(daemon.data) in owner
    one = server.add()
    wait_received(daemon, {one.guid})
    eventually(lambda: last_of(second), 60)
    assert received(second) == [] and second.get("/readyz").status == 200
    for told in (second.cli("status"), second.cli("doctor", exit_code=None)):
        assert "another covenq follows this log" in " ".join(told.stdout.decode().split())
    assert second.log_tail().count("another covenq follows this log") == 1
    daemon.stop()
    eventually(lambda: log_of(second)["following"]["owner"] is None, 60)
    eventually(lambda: last_of(second)["finished_at"], 60)
    other = server.add()
    wait_received(second, {other.guid})  # and not what the first one had taken


def test_without_a_place_for_the_lock_it_follows_and_says_so(
    follow: Callable[..., Daemon], server: GithubLog, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    daemon = follow(env={"XDG_STATE_HOME": str(tmp_path / "file")})
    one = server.add()
    wait_received(daemon, {one.guid})
    assert "whether another covenq of this machine follows it can't be told" in daemon.log_tail()


def test_a_daemon_that_takes_over_goes_on_following(follow: Callable[..., Daemon], server: GithubLog) -> None:
    daemon = follow()
    one = server.add()
    wait_received(daemon, {one.guid})
    assert daemon.take_over() == 0
    other = server.add()
    wait_received(daemon, {one.guid, other.guid})


# ---- what GitHub forgot


def test_what_github_forgot_while_nobody_looked_is_shown(follow: Callable[..., Daemon], server: GithubLog) -> None:
    daemon = follow()
    assert log_of(daemon)["following"]["gap"] is None
    daemon.stop()
    looks = daemon.data / "log_looks.json"
    noted = json.loads(looks.read_text())
    for look in noted.values():
        look["gap"], look["gap_at"] = [time.time() - 9 * DAY, time.time() - 4 * DAY], time.time() - DAY
    looks.write_text(json.dumps(noted))
    daemon.start()
    one = server.add()
    wait_received(daemon, {one.guid})
    for told in (daemon.cli("status"), daemon.cli("doctor", exit_code=None)):
        assert "GitHub had forgotten what it sent from" in " ".join(told.stdout.decode().split())
