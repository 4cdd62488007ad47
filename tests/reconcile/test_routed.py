"""`[reconcile] fetch = "routed"`: what surely matches no route costs no request, and is never missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, free_port
from tests.support.github_log import GithubLog, app_table, github, guids
from tests.support.waiting import eventually

LOG = "/app/hook/deliveries"
HOUR = 3600.0
ROUTES = """
[[route]]
name = "fix"
match = "event:issues action:opened"
run = ["true"]

[[route]]
name = "deploy"
match = "event:push repo:octo/hello"
run = ["true"]
"""
OTHERS = {"repository": {"id": 8, "full_name": "octo/other"}}

Make = Callable[..., Daemon]


@pytest.fixture
def server() -> Iterator[GithubLog]:
    with github() as found:
        yield found


def config_of(server: GithubLog, directory: Path, *, fetch: str = "routed", every: str = "0s", routes: str = "") -> str:
    return f"""
{app_table(server, directory)}

[reconcile]
every = "{every}"
grace = "0s"
fetch = "{fetch}"
{ROUTES}
{routes}
"""


def asked_for(server: GithubLog) -> list[str]:
    return [one.split("?")[0].rpartition("/")[2] for one in server.requests(f"{LOG}/")]


def reconcile(daemon: Daemon, *args: str) -> dict[str, dict[str, Any]]:
    return {row["guid"]: row for row in daemon.cli_json("reconcile", "--since", "1d", *args)["items"]}


def test_the_command_fetches_what_may_match_in_its_order_and_leaves_the_rest(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    daemon = make_daemon(config_of(server, tmp_path))
    at = time.time() - HOUR
    wanted = [
        server.add("push", {"ref": "refs/heads/main", **OTHERS}, at=at, repository_id=8),
        server.add("issues", {"action": "opened"}, at=at + 1),
        server.add("push", {"ref": "refs/heads/main", **OTHERS}, at=at + 2, repository_id=8),
    ]
    others = [
        server.add("star", {"action": "created"}, at=at),
        server.add("issues", {"action": "closed"}, at=at),
        server.add("ping", {"zen": "Keep it logically awesome."}, at=at),
    ]
    planned = reconcile(daemon, "--dry-run")
    assert {guid for guid, row in planned.items() if row["state"] == "not_wanted"} == guids(others)
    assert {guid for guid, row in planned.items() if row["state"] == "missing"} == guids(wanted)
    server.asked.clear()
    said = daemon.cli("reconcile", "--since", "1d", "--yes")
    assert b"3 deliveries that no route can match, and not fetched: [reconcile] fetch says so." in said.stderr
    assert said.stdout.decode().count("not wanted") == 3
    assert set(asked_for(server)) >= {str(one.id) for one in wanted}
    assert not set(asked_for(server)) & {str(one.id) for one in others[1:]}
    got = [one["data"]["guid"] for one in daemon.records("delivery.received")]
    assert got == [one.guid for one in wanted], "in the order in which GitHub sent them, however sure it is of a route"
    states = {one["guid"]: one["state"] for one in daemon.cli_json("deliveries")["items"]}
    assert states[wanted[0].guid] == "ignored" and states[wanted[1].guid] != "ignored"
    again = reconcile(daemon, "--yes")
    assert {row["state"] for row in again.values()} == {"not_wanted"} and set(again) == guids(others)


def test_a_route_that_comes_later_has_what_it_may_match_fetched(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    daemon = make_daemon(config_of(server, tmp_path), start=False)
    star = server.add("star", {"action": "created"}, at=time.time() - HOUR)
    assert reconcile(daemon, "--yes")[star.guid]["state"] == "not_wanted"
    assert daemon.config is not None
    stars = '[[route]]\nname = "stars"\nmatch = "event:star sender:*"\nrun = ["true"]\n'
    daemon.config.write_text(config_of(server, tmp_path, routes=stars))
    assert reconcile(daemon, "--yes")[star.guid]["state"] == "fetched"
    other = server.add("watch", {"action": "started"}, at=time.time() - HOUR)
    daemon.config.write_text(config_of(server, tmp_path, fetch="all"))
    assert reconcile(daemon, "--yes")[other.guid]["state"] == "fetched"


def test_for_a_daemon_elsewhere_whose_routes_are_not_known_here_all_is_fetched(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    port = free_port()
    daemon = make_daemon(f'[api]\nbind = "127.0.0.1:{port}"\n{ROUTES}')
    here = tmp_path / "here.toml"
    here.write_text(config_of(server, tmp_path).replace(ROUTES, ""))
    token = daemon.cli("tokens", "new", "--name", "one", "--role", "operate").stdout.decode().strip()
    lost = server.add("issues", {"action": "opened"}, at=time.time() - HOUR)
    env = {"COVENQ_CONFIG": str(here), "COVENQ_TOKEN": token, "COVENQ_DATA": str(tmp_path / "nothing")}
    daemon.cli("reconcile", "--since", "1d", "--yes", "--url", f"http://127.0.0.1:{port}", env=env)
    assert [one["data"]["guid"] for one in daemon.records("delivery.received")] == [lost.guid]


def test_the_daemons_passes_leave_it_and_go_on(make_daemon: Make, server: GithubLog, tmp_path: Path) -> None:
    daemon = make_daemon(config_of(server, tmp_path, every="1s"))

    def last() -> Any:
        return daemon.api("/api/v1/status").json["reconcile"]["logs"][0]["last"]

    eventually(last, 60, "a pass ends")
    star = server.add("star", {"action": "created"})
    lost = server.add("issues", {"action": "opened"})
    eventually(lambda: last()["states"] == {"not_wanted": 1}, 60, "the other is held")
    assert [one["data"]["guid"] for one in daemon.records("delivery.received")] == [lost.guid]
    assert asked_for(server).count(str(star.id)) <= 1, "once at most, to learn which hook it is"
    mark = daemon.api("/api/v1/status").json["reconcile"]["logs"][0]["mark"]
    assert mark is not None
