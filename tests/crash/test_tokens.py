"""SIGKILL at random points of a token's life: none is forgotten. More of it: COVENQ_TEST_TOKEN_KILLS=300 make test-deep.

The stand-in for GitHub knows each token that was minted, and whether it still works. The oracle is that, the journal read as
plain JSON, and the bytes of the data directory: nothing of it is the product's.
"""

from __future__ import annotations

import http.client
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.github_log import GithubLog, app_table, github
from tests.support.github_tokens import Installation
from tests.support.journal_json import FINAL_KINDS, records
from tests.support.requests import issue, repository_number
from tests.support.waiting import eventually

ID = 4711
DEEP_KILLS = int(os.environ.get("COVENQ_TEST_TOKEN_KILLS", "40"))
REPOSITORIES = [f"octo/r{number}" for number in range(1000)]
"""One for each task: what a token is for tells whose it is."""
LATER_S = 0.08
"""Seconds after a point at which a kill comes at most: the file, the records, and a command's start and end are within that."""

ROUTES = """
[worker]
concurrency = 3

[reconcile]
every = "0s"

[[route]]
name = "run"
match = "event:issues action:opened"
run = ["sh", "-c", "cat $COVENQ_GITHUB_TOKEN_FILE; cat /proc/self/cmdline /proc/$PPID/cmdline; env; sleep 0.02"]
retry = { max = 50, backoff = "1ms", cap = "5ms" }
token = { permissions = { issues = "write" } }

[[route]]
name = "pull"
match = "event:issues action:edited"
pull = true
token = { permissions = { issues = "write" } }
"""


class Killer:
    """Kills the daemon at a point of a token's life that is drawn before: after so many more, and so much later."""

    def __init__(self, daemon: Daemon, server: GithubLog, seed: int) -> None:
        self.daemon, self.server, self.random = daemon, server, random.Random(seed)
        self.points: dict[str, int] = {}
        self._left: dict[str, int] = {}
        self._later_s = 0.0
        self._lock = threading.Lock()
        self.killed = threading.Event()
        tokens = server.work_tokens
        tokens.before_mint = lambda: self._at("asked")
        tokens.before_answer = lambda: self._at("minted")
        tokens.before_revoke = lambda: self._at("revoking")

    def arm(self) -> None:
        point = self.random.choice(["asked", "minted", "minted", "revoking"])
        self.points[point] = self.points.get(point, 0) + 1
        self._later_s = self.random.choice([0.0, self.random.uniform(0.0, LATER_S)])
        self.killed.clear()
        with self._lock:
            self._left = {point: self.random.randrange(3)}

    def _at(self, point: str) -> None:
        with self._lock:
            left = self._left.get(point)
            if left is None:
                return
            self._left = {} if left == 0 else {point: left - 1}
        if left == 0:
            if self._later_s:
                threading.Timer(self._later_s, self._kill).start()  # the answer goes out meanwhile
            else:
                self._kill()

    def _kill(self) -> None:
        self.daemon.kill()
        self.killed.set()


def outstanding(data: Path) -> set[str]:
    """The tasks of which the newest record says that a token may be of use."""
    newest: dict[tuple[str, int], dict[str, Any]] = {}
    for one in records(data, "ops.token"):
        newest[one["data"]["task"], one["data"]["attempt"]] = one["data"]
    return {task for (task, _), said in newest.items() if said["until"] is not None}


def lost_of(server: GithubLog, data: Path) -> set[str]:
    """The tasks whose tokens work."""
    tasks = {one["data"]["repo_id"]: one["subject"].removeprefix("task.") for one in records(data, "task.queued")}
    return {tasks[one.repositories[0]] for one in server.work_tokens.live() if one.repositories}


def assert_nowhere(server: GithubLog, data: Path, log: Path) -> None:
    """No token is in the journal, a log, a record, an output or state.db: in the private files of tokens alone."""
    known = [one.token.encode() for one in server.work_tokens.tokens]
    for path in [log, *(one for one in data.rglob("*") if one.is_file() and one.parent.name != "github-tokens")]:
        content = path.read_bytes()
        assert not [one for one in known if one in content], path
    for path in (data / "github-tokens").glob("*"):
        assert path.stat().st_mode & 0o777 == 0o600


def run(make_daemon: Callable[..., Daemon], tmp_path: Path, kills: int, seed: int) -> None:
    with github() as server:
        tokens = server.work_tokens
        tokens.installations[ID] = Installation(repositories={repository_number(one) for one in REPOSITORIES})
        names = iter(REPOSITORIES)
        daemon = make_daemon(config=app_table(server, tmp_path) + ROUTES)
        killer = Killer(daemon, server, seed)
        fences: dict[str, str] = {}
        left = 0

        def post(action: str) -> None:
            name = next(names)
            daemon.post("issues", issue(1, repo=name, action=action, installation={"id": ID}))

        for _ in range(kills):
            post("edited")
            claimed = daemon.api("/api/v1/claims", "POST", {"worker": "w", "lease_s": 3600}).json
            fences[claimed["task"]["id"]] = claimed["fence"]
            killer.arm()
            try:
                daemon.api(f"/api/v1/claims/{claimed['task']['id']}/token", "POST", {"fence": claimed["fence"]})
                while not killer.killed.is_set():
                    post("opened")
            except (OSError, http.client.HTTPException):
                pass  # it was killed
            assert killer.killed.wait(60)
            assert_nowhere(server, daemon.data, daemon.log)
            left += len(list((daemon.data / "github-tokens").glob("*.json")))
            daemon.start()
        for task, fence in fences.items():
            assert daemon.api(f"/api/v1/claims/{task}/complete", "POST", {"fence": fence}).status == 200
        queued = {one["subject"] for one in records(daemon.data, "task.queued")}

        def settled() -> bool:
            found = records(daemon.data)
            final = {one["subject"] for one in found if one["kind"] in FINAL_KINDS}
            live = lost_of(server, daemon.data)
            return (
                queued <= final
                and not list((daemon.data / "github-tokens").iterdir())
                and live <= outstanding(daemon.data)
            )

        eventually(settled, 120, "every task ended, and every token is revoked or told of")
        lost = lost_of(server, daemon.data)
        shown = daemon.api("/api/v1/status").json["tokens"]
        told = outstanding(daemon.data)
        assert lost <= told
        assert (0 if shown is None else shown["attempts"]) >= len(told)
        states = [one["data"]["state"] for one in records(daemon.data, "ops.token")]
        print(
            f"{kills} kills, seed {seed}, at {killer.points}: {len(tokens.tokens)} tokens, {left} left to a next start, "
            f"{len(lost)} told of as lost"
        )
        assert len(tokens.tokens) >= kills and left >= kills / 2 and states.count("revoked") > 0
        assert daemon.stop() == 0
        assert_nowhere(server, daemon.data, daemon.log)


def test_a_few_kills_forget_no_token(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """Many more in the deep tests."""
    run(make_daemon, tmp_path, kills=4, seed=1)


@pytest.mark.deep
@pytest.mark.parametrize("seed", [1000, 1001, 1002])
def test_many_kills_forget_no_token(make_daemon: Callable[..., Daemon], tmp_path: Path, seed: int) -> None:
    run(make_daemon, tmp_path, kills=DEEP_KILLS, seed=seed)
