"""The daemon and an uninstalled installation: what GitHub is asked and taken to say, and a daemon from the webhook to the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from covenq.config.live import Live
from covenq.config.load import load
from covenq.daemon.uninstalled import asks_github
from covenq.errors import CovenqError
from covenq.model.pending_status import Uninstall
from covenq.model.uninstall_text import LINES_MAX, uninstall_lines, uninstall_text
from covenq.operate.maintain.uninstall_work import IsInstalled
from tests.support.daemon import Daemon
from tests.support.github_log import APP_ID, Fault, GithubLog, app_table, github
from tests.support.github_settings import Installation
from tests.support.requests import issue
from tests.support.waiting import eventually

Make = Callable[..., Daemon]
GONE = 2311
"""The installation of the deliveries of `tests.support.requests`."""


@pytest.fixture
def server() -> Iterator[GithubLog]:
    with github("/api/v3") as found:
        found.settings.installations = [Installation(5, {}), Installation(6, {}, suspended_at="2026-11-01T00:00:00Z")]
        yield found


@pytest.fixture
def ask(server: GithubLog, tmp_path: Path) -> IsInstalled:
    path = tmp_path / "covenq.toml"
    path.write_text(app_table(server, tmp_path))
    path.chmod(0o600)
    return asks_github(Live(load(path, {}), ()), {})


def test_github_says_whether_it_is_there(ask: IsInstalled, server: GithubLog) -> None:
    assert ask(5, APP_ID) is True and ask(5, None) is True
    assert ask(6, APP_ID) is True, "suspended is not gone"
    assert ask(7, APP_ID) is False and ask(7, None) is False
    assert server.requests("/app/installations/7") and len(server.requests("/app/installations")) == 5


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (Fault(401), "401"),
        (Fault(403), "403"),
        (Fault(404, on="/app", whole=True), "404"),
        (Fault(500, on="/installations/7"), "500"),
        (Fault(403, on="/installations/7"), "403"),
        (Fault(302, {"Location": "/elsewhere"}, on="/installations/7"), "redirect"),
        (Fault(200, body=b'{"id": 8}', on="/installations/7"), "another installation"),
        (Fault(200, body=b"[]", on="/installations/7"), "not as documented"),
        (Fault(200, body=b"<html>", on="/app", whole=True), "not as documented"),
    ],
    ids=str,
)
def test_whatever_else_is_answered_is_not_gone(ask: IsInstalled, server: GithubLog, fault: Fault, word: str) -> None:
    server.faults.append(fault)
    with pytest.raises(CovenqError, match=word):
        ask(7, APP_ID)


def test_another_app_s_installation_is_not_asked_for(ask: IsInstalled, server: GithubLog) -> None:
    with pytest.raises(CovenqError, match=f"App 7, and .* App {APP_ID}"):
        ask(7, 7)
    assert not server.requests("/app/installations")


def test_without_an_app_nobody_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "covenq.toml"
    path.write_text("")
    assert asks_github(Live(load(path, {}), ()), {})(7, None) is None


@pytest.mark.parametrize(
    ("left_s", "words"),
    [(6 * 86400 + 3 * 3600 + 59, "erased in 6d 3h"), (3600, "erased in 1h 0m"), (59.9, "erased in 59s")],
)
def test_the_line_says_what_is_left(left_s: float, words: str) -> None:
    one = Uninstall(9001, "waiting", "2026-12-01T00:00:00.000000Z", "2026-12-08T00:00:00.000000Z")
    due = 1_796_688_000.0
    assert uninstall_text(one, due - left_s) == f"installation 9001 uninstalled, {words}"
    assert "it is looked whether" in uninstall_text(one, due + 1)
    assert len(list(uninstall_lines([one] * (LINES_MAX + 2), due))) == LINES_MAX + 1


ROUTE = """
[retention]
on_uninstall = "erase"
uninstall_grace = "{grace}"

[[route]]
name = "all"
match = "event:issues"
pull = true
"""


def deletion(number: int) -> dict[str, Any]:
    account = {"login": "the-one-that-left", "id": 3}
    return {"action": "deleted", "installation": {"id": GONE, "app_id": 2, "account": account}, "number": number}


def test_from_the_webhook_to_the_end(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE.format(grace="7d"))
    assert daemon.post("issues", issue(1), "of-it").status == 202
    assert daemon.post("installation", deletion(1), "first").status == 202

    def shown() -> list[dict[str, Any]]:
        return list(daemon.cli_json("status")["uninstalls"])

    eventually(lambda: [one["installation"] for one in shown()] == [GONE], 30, "it is noticed")
    said = daemon.cli("status").stdout.decode()
    assert f"installation {GONE} uninstalled, erased in 6d 23h" in said and f"covenq keep {GONE}" in said
    plan = daemon.cli_json("redact", "--installation", str(GONE), "--dry-run")
    assert len(plan["eligible"]) == 2
    assert 'covenq_uninstalls{state="waiting"} 1.0' in daemon.api("/metrics").body.decode()
    assert daemon.cli_json("keep", str(GONE), "--dry-run")["dry_run"] and shown()
    daemon.cli("keep", str(GONE), "--reason", "they come back")
    daemon.cli("keep", str(GONE), exit_code=3)
    assert not shown()
    why = daemon.cli("why", "first").stdout.decode()
    assert "the grace began" in why and "is kept" in why and "they come back" in why

    assert daemon.stop() == 0
    assert daemon.config is not None
    daemon.config.write_text(daemon.config.read_text().replace('"7d"', '"0s"'))
    daemon.start()
    assert daemon.post("installation", deletion(2), "second").status == 202
    eventually(lambda: bool(daemon.records("uninstall.done")), 30, "it is erased")
    (done,) = daemon.records("uninstall.done")
    assert (done["data"]["deliveries"], done["data"]["tasks"]) == (3, 1)
    assert "the-one-that-left" not in json.dumps(daemon.records())
    assert [one["state"] for one in daemon.cli_json("tasks")["items"]] == ["cancelled"]
    assert "was erased: 3 deliveries with 1 task" in daemon.cli("why", "second").stdout.decode()
    assert daemon.post("issues", issue(1), "of-it").json["duplicate"], "its id is known"
    daemon.cli("keep", str(GONE), exit_code=4)
    assert daemon.cli_json("verify")["ok"] is True
