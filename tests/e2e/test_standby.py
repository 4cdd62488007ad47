"""Two nodes with one journal: what one takes in the other shows and passes on, and when one is lost the other goes on.

Nobody sends anything twice here, as GitHub doesn't, and balancers don't repeat a POST.
"""

from __future__ import annotations

import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from covenq.paths import SECRET_NAME
from tests.support.daemon import Daemon
from tests.support.postgres.server import Cluster
from tests.support.requests import issue, new_guid
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgres

OTHER_BUILD = Path(__file__).resolve().parents[1] / "support" / "other_build.py"
CONFIG = """
[worker]
concurrency = 4
lease = "10s"
[[route]]
name = "hello"
match = "event:issues"
run = ["cat"]
"""


@pytest.fixture(scope="module")
def servers() -> Iterator[Cluster]:
    made = Cluster(standby=True)
    yield made
    made.close()


@dataclass
class Nodes:
    """Daemons, each with a data directory of its own, and one journal."""

    servers: Cluster
    base: Path
    made: list[Daemon] = field(default_factory=list)

    def add(self) -> Daemon:
        name = "abc"[len(self.made)]
        config = self.base / "covenq.toml"
        config.write_text(CONFIG)
        env = {"COVENQ_JOURNAL_URL": self.servers.url}
        self.made.append(Daemon(self.base / name, config=config, env=env, forked=True))
        return self.made[-1]


@pytest.fixture
def nodes(servers: Cluster, tmp_path: Path) -> Iterator[Nodes]:
    servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    made = Nodes(servers, tmp_path)
    yield made
    for one in made.made:
        one.kill()


def start_standby(daemon: Daemon) -> Daemon:
    daemon.start(wait=False)

    def stands_by() -> bool:
        assert daemon.running, daemon.log_tail()
        answer = daemon.get("/readyz")
        known = any(one["here"] and one["version"] for one in daemon.api("/api/v1/status").json["nodes"])
        said = answer.json["detail"]
        return known and answer.status == 503 and "stands by" in said and "leads" in said

    eventually(stands_by, 60, daemon.log_tail())
    return daemon


def wait_done(daemon: Daemon, count: int) -> None:
    def done() -> bool:
        return bool(daemon.api("/api/v1/status").json["tasks"] == {"completed": count})

    eventually(done, 60, "all tasks end")


class Load:
    """Threads that send one delivery after another to a daemon, each once."""

    def __init__(self, daemon: Daemon, senders: int = 4) -> None:
        self.daemon = daemon
        self.answers: list[tuple[str, int | str]] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(senders)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        number = 0
        while not self._over.is_set():
            guid, number = new_guid(), number + 1
            try:
                self.answers.append((guid, self.daemon.post("issues", issue(number), guid).status))
            except OSError as error:
                self.answers.append((guid, repr(error)))

    def wait_for_more(self, more: int = 20) -> None:
        wanted = len(self.answers) + more
        eventually(lambda: len(self.answers) >= wanted, 60, "more is answered")

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)


def test_a_standby_shows_what_the_other_takes_in_and_passes_on_what_comes_to_it(nodes: Nodes) -> None:
    active, standby = nodes.add().start(), start_standby(nodes.add())
    guid = new_guid()
    first, again = standby.post("issues", issue(1), guid), active.post("issues", issue(1), guid)
    assert (first.status, first.json["seq"], first.json["duplicate"]) == (202, 1, False)
    assert (again.status, again.json["duplicate"], again.json["tasks"]) == (200, True, first.json["tasks"])
    assert standby.post("issues", issue(2), guid).status == 409
    assert standby.post("issues", issue(3), secret="another").status == 401
    wait_done(active, 1)
    wait_done(standby, 1)
    shown = standby.cli_json("deliveries")["items"]
    assert shown == active.cli_json("deliveries")["items"] and [one["guid"] for one in shown] == [guid]
    assert b"Completed" in standby.cli("why", guid).stdout
    assert standby.cli_json("verify")["ok"]
    assert standby.cli("status").stdout.startswith(b"STANDBY") and standby.cli_json("status")["standby"]
    refused = standby.cli("replay", guid, "--force", "--yes", exit_code=None)
    assert refused.returncode and b"appends to the journal" in refused.stderr


def test_each_node_shows_both_and_which_of_them_leads(nodes: Nodes) -> None:
    active, standby = nodes.add().start(), start_standby(nodes.add())
    assert active.post("issues", issue(1)).status == 202
    wait_done(standby, 1)

    def both(daemon: Daemon) -> set[tuple[str, bool, bool | None]]:
        return {(one["state"], one["here"], one["other_config"]) for one in daemon.cli_json("nodes")["items"]}

    eventually(lambda: both(active) == {("leads", True, False), ("standby", False, False)}, 60, "both are seen")
    eventually(lambda: both(standby) == {("leads", False, False), ("standby", True, False)}, 60, "and by the other")
    for daemon in (active, standby):
        assert daemon.cli("nodes").stdout.count(b"\n") == 3 and b"(here)" in daemon.cli("nodes").stdout
        # How far each has folded is said once a second.
        eventually(lambda: b" leads; " in daemon.cli("status").stdout, 60, "the leader is known to be at the head")  # noqa: B023
    metrics = standby.api("/metrics").body
    assert b"covenq_leads 0.0" in metrics and b'covenq_nodes{state="leads"} 1.0' in metrics
    assert b"covenq_leads 1.0" in active.api("/metrics").body

    standby.kill()
    eventually(lambda: ("away", False, False) in both(active), 60, "it says nothing any more")
    told = active.cli("status").stdout
    assert b"has said nothing for" in told and b" away since " in told
    start_standby(standby)
    assert standby.stop() == 0
    eventually(lambda: "stopped" in {state for state, _, _ in both(active)}, 60, "it was stopped in order")
    assert b"has said nothing for" not in active.cli("status").stdout


def test_nodes_with_secrets_of_their_own_are_told_before_the_other_leads_until_one_is_copied(nodes: Nodes) -> None:
    active, standby = nodes.add(), nodes.add()
    active.secret = standby.secret = None  # each makes its own
    active.start()
    start_standby(standby)

    def others(daemon: Daemon) -> list[bool | None]:
        return [one["other_secrets"] for one in daemon.cli_json("nodes")["items"] if not one["here"]]

    for daemon, said in ((active, b"refused there once it leads"), (standby, b"refused once this one leads")):
        eventually(lambda: others(daemon) == [True], 60, "each has told")  # noqa: B023
        assert b"other secrets" in daemon.cli("nodes").stdout and said in daemon.cli("status").stdout
    shutil.copy(active.data / SECRET_NAME, standby.data / SECRET_NAME)
    for daemon in (active, standby):
        eventually(lambda: others(daemon) == [False], 60, "it is taken up, and told")  # noqa: B023
        assert b"webhook secrets" not in daemon.cli("status").stdout
    secret = (active.data / SECRET_NAME).read_text().strip()
    assert standby.post("issues", issue(1), secret=secret).status == 202


def test_a_node_that_is_killed_is_succeeded_and_nothing_is_refused_or_lost(nodes: Nodes) -> None:
    active, standby = nodes.add().start(), start_standby(nodes.add())
    load = Load(standby)
    load.wait_for_more()
    active.kill()
    load.wait_for_more()
    eventually(lambda: standby.get("/readyz").status == 200, 60, standby.log_tail())
    load.wait_for_more()
    start_standby(active)
    load.end()
    assert {status for _, status in load.answers} <= {202, 200}, load.answers
    wait_done(standby, len(load.answers))
    held = [one["guid"] for one in standby.cli_json("deliveries", "--limit", "0")["items"]]
    assert sorted(held) == sorted(guid for guid, _ in load.answers)
    assert standby.cli_json("verify")["ok"]
    wait_done(active, len(load.answers))


def test_neighbouring_builds_run_side_by_side_and_either_takes_over(nodes: Nodes, servers: Cluster) -> None:
    older, newer = nodes.add().start(), nodes.add()
    newer.wrapper = [sys.executable, str(OTHER_BUILD), "2"]
    start_standby(newer)
    assert newer.post("issues", issue(1)).status == 202
    wait_done(newer, 1)
    assert older.stop() == 0
    eventually(lambda: newer.get("/readyz").status == 200, 60, "the newer leads")
    assert newer.post("issues", issue(2)).status == 202
    assert servers.sql("SELECT floor, ceiling FROM covenq.head") == [(1, 2)]
    start_standby(older)
    wait_done(older, 2)
    assert newer.stop() == 0
    eventually(lambda: older.get("/readyz").status == 200, 60, "the older leads again")
    assert older.post("issues", issue(3)).status == 202
    wait_done(older, 3)
    newer.wrapper = [sys.executable, str(OTHER_BUILD), "4"]
    newer.start(wait=False)
    assert newer.wait_exit(60) == 4 and "in steps" in newer.log_tail()


def test_what_is_passed_to_a_node_that_is_frozen_is_taken_in_by_the_one_that_succeeds_it(nodes: Nodes) -> None:
    active, standby = nodes.add().start(), start_standby(nodes.add())
    assert standby.post("issues", issue(1)).status == 202
    assert active.process is not None
    active.process.send_signal(signal.SIGSTOP)
    try:
        guids = [new_guid() for _ in range(4)]
        with ThreadPoolExecutor(len(guids)) as senders:
            answers = list(senders.map(lambda guid: standby.post("issues", issue(2), guid), guids))
    finally:
        active.process.send_signal(signal.SIGCONT)
    assert [one.status for one in answers] == [202] * len(guids), [one.json for one in answers]
    assert active.wait_exit(60) == 1, active.log_tail()
    held = [one["guid"] for one in standby.cli_json("deliveries")["items"]]
    assert sorted(held[:-1]) == sorted(guids)


def test_a_node_that_stops_hands_over_before_it_closes_its_door(nodes: Nodes) -> None:
    active, standby = nodes.add().start(), start_standby(nodes.add())
    here, there = Load(active), Load(standby)
    here.wait_for_more()
    there.wait_for_more()
    assert active.process is not None
    active.process.send_signal(signal.SIGTERM)
    eventually(lambda: standby.get("/readyz").status == 200, 60, standby.log_tail())
    here.end()  # what it still sends finds the door open, or closed by a daemon that has ended
    assert active.wait_exit(60) == 0
    there.wait_for_more()
    there.end()
    assert "handed over" in active.log_tail()
    answered = {guid for guid, status in [*here.answers, *there.answers] if status in (200, 202)}
    refused = [status for _, status in [*here.answers, *there.answers] if status not in (200, 202)]
    assert not [one for one in refused if not isinstance(one, str)], "nothing is answered with a refusal"
    held = [one["guid"] for one in standby.cli_json("deliveries", "--limit", "0")["items"]]
    assert answered <= set(held) and len(held) == len(set(held))
    start_standby(active)
