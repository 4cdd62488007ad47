"""A daemon on a primary with a synchronous standby, under load, while one part after another is killed, stopped, cut or promoted.

After each round all that was ever answered 2xx is looked for in the tables, by a program that shares no code with covenq.
Seeded: COVENQ_TEST_TORTURES has more seeds for the deep run, COVENQ_TEST_ROUNDS the rounds of each.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.checkout import clean_env
from tests.support.daemon import Daemon
from tests.support.postgres import audit as program
from tests.support.postgres.audit import audit
from tests.support.postgres.proxy import Proxy
from tests.support.postgres.server import Cluster
from tests.support.requests import issue, new_guid
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgres

CONFIG = """
[worker]
concurrency = 4
[[route]]
name = "all"
match = "event:issues"
run = ["true"]
retry = { max = 3, backoff = "50ms" }
"""
SENDERS = 6


class Load:
    """Senders that post new deliveries, and now and then one that was accepted again, until they are told to stop."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        self.accepted: set[str] = set()
        self._daemon = daemon
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(seed * 100 + number,)) for number in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def _send(self, seed: int) -> None:
        chance = random.Random(seed)
        known: list[str] = []
        while not self._stop.is_set():
            guid = chance.choice(known) if known and chance.random() < 0.2 else new_guid()
            number = int(guid[:6], 16)
            try:
                answer = self._daemon.post("issues", issue(number), guid)
            except OSError:
                continue
            if answer.status in (200, 202):
                self.accepted.add(guid)
                known.append(guid)
            else:
                assert answer.status == 503, answer.status

    def wait_for_more(self, count: int = 15) -> None:
        wanted = len(self.accepted) + count
        eventually(lambda: len(self.accepted) >= wanted, 120, "deliveries are accepted again")

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


class Torture:
    """One cluster and one daemon, and what can be done to them. Each act ends with everything running again."""

    def __init__(self, base: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.servers = Cluster(standby=True)
        assert self.servers.standby is not None
        self.standby = self.servers.standby
        config = base / "covenq.toml"
        config.write_text(CONFIG)
        where = self.servers.base / "proxy"
        self.proxies = [
            Proxy(where, self.servers.base, server.port, seed) for server in (self.servers.primary, self.standby)
        ]
        # Whichever of the two can be written to, each through its proxy.
        url = f"postgresql://covenq@/postgres?host={where},{where}&port=5432,5433&target_session_attrs=read-write"
        self.daemon = Daemon(base / "data", config=config, env={"COVENQ_JOURNAL_URL": url}, forked=True)

    def acts(self) -> dict[str, Callable[[], object]]:
        return {
            "kill the daemon": self.kill_daemon,
            "kill the primary": self.kill_primary,
            "kill the standby": self.kill_standby,
            "stop the standby": self.stop_standby,
            "cut connections": self.cut_connections,
            "cancel commits": self.cancel_commits,
            "cut in the middle": lambda: [proxy.cut() for proxy in self.proxies],
            "cut answers": lambda: [proxy.cut_answers() for proxy in self.proxies],
            "slow connections": self.slow_down,
        }

    def kill_daemon(self) -> None:
        self.daemon.kill()
        self.daemon.start()

    def kill_primary(self) -> None:
        self.servers.primary.kill()
        self.servers.primary.start()

    def kill_standby(self) -> None:
        self.standby.kill()
        self.standby.start()

    def stop_standby(self) -> None:
        self.standby.pause()
        self._wait_for_sync()
        self.standby.resume()

    def cut_connections(self) -> None:
        self.servers.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'covenq'")

    def slow_down(self) -> None:
        """From here on until it is slowed down again: up to that much for each piece, either way."""
        for proxy in self.proxies:
            proxy.slow_s = 0.0 if proxy.slow_s else 0.05

    def cancel_commits(self) -> None:
        """Their wait for the standby, so that they are committed here alone for a while, with a warning."""
        self.standby.pause()
        self._wait_for_sync()
        self.servers.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        self._wait_for_sync()
        self.standby.resume()

    def _wait_for_sync(self) -> None:
        """Until a commit waits for the standby."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        eventually(lambda: self.servers.sql(query) != [(0,)], 60, "a commit waits for the standby")

    def promote(self) -> None:
        """The primary is lost for good, and the standby takes its place: it has all that was answered."""
        self.servers.primary.kill()
        self.standby.run("pg_ctl", "promote", "-w", "-D", str(self.standby.data))
        self.servers.primary, self.servers.standby = self.standby, None
        self.standby.sql("ALTER SYSTEM SET synchronous_standby_names = ''")
        self.standby.sql("SELECT pg_reload_conf()")


def run(base: Path, seed: int, rounds: int) -> None:
    torture = Torture(base, seed)
    try:
        torture.daemon.start()
        load = Load(torture.daemon, seed)
        try:
            done = []
            for _ in range(rounds):
                load.wait_for_more()
                name = torture.chance.choice(sorted(torture.acts()))
                done.append(name)
                torture.acts()[name]()
            load.wait_for_more()
            torture.promote()
            load.wait_for_more()
        finally:
            load.stop()

        def ended() -> bool:
            counts = torture.daemon.api("/api/v1/status").json["tasks"]
            return set(counts) <= {"completed", "failed"}

        eventually(ended, 120, "all tasks end")
        found = audit(torture.servers.url)
        assert found["faults"] == [], (seed, done)
        lost = load.accepted - set(found["deliveries"])
        assert not lost, (seed, done, sorted(lost)[:5])
        assert found["tasks"] == len(found["deliveries"]) == found["ended"]
        by_fold = {one["guid"]: one["state"] for one in torture.daemon.cli_json("deliveries", "--limit", "0")["items"]}
        assert torture.daemon.stop() == 0
        (torture.daemon.data / "state.db").unlink()
        anew = {one["guid"]: one["state"] for one in torture.daemon.cli_json("deliveries", "--limit", "0")["items"]}
        assert by_fold == anew and set(anew) == set(found["deliveries"])
        assert torture.daemon.cli_json("verify")["ok"]
    finally:
        torture.daemon.kill()
        for proxy in torture.proxies:
            proxy.close()
        torture.servers.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path, seed: int) -> None:
    run(tmp_path, seed, rounds=4)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(100, 100 + int(os.environ.get("COVENQ_TEST_TORTURES", "10"))))
def test_nothing_is_lost_at_length(tmp_path: Path, seed: int) -> None:
    run(tmp_path, seed, rounds=int(os.environ.get("COVENQ_TEST_ROUNDS", "12")))


def test_the_audit_imports_nothing_of_covenq() -> None:
    found = "[m for m in sys.modules if m.startswith(('covenq', 'journal'))]"
    code = f"import sys, runpy; runpy.run_path({program.__file__!r}); print({found})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean_env(), check=True)
    assert done.stdout.strip() == "[]"
