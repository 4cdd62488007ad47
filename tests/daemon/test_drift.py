"""The daemon's own look at the settings of its webhooks, against the stand-in for GitHub: what is found, shown and asked."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from covenq.config.live import Live
from covenq.config.load import load
from covenq.daemon.drift import AGAIN_S, EVERY_S, DriftWatch
from covenq.github.api_client import Usage
from covenq.model.drift import KINDS, DriftFinding, drift_rows
from tests.support.daemon import Daemon
from tests.support.github_log import CLIENT_ID, Fault, GithubLog, app_table, github
from tests.support.github_settings import Hook, Installation
from tests.support.requests import issue, signed
from tests.support.waiting import eventually

APP = f"app {CLIENT_ID}"
HOOK_PATH = "/repos/octo/hello/hooks/7"
GRANTED = {"issues": "read", "metadata": "read"}
ADDRESS = 'public_url = "https://hooks.example.org"'
Make = Callable[..., Daemon]


@pytest.fixture
def server() -> Iterator[GithubLog]:
    """An App that is installed once, and subscribed to what the one route wants."""
    with github() as found:
        found.settings.installations = [Installation(5, GRANTED)]
        yield found


def config_of(
    server: GithubLog, directory: Path, *, match: str = "event:issues", every: str = "1s", more: str = ""
) -> str:
    return f"""
[server]
{ADDRESS}

{app_table(server, directory)}
{more}
[reconcile]
every = "{every}"
grace = "0s"

[[route]]
name = "fix"
match = "{match}"
run = ["true"]
"""


def reconcile_of(daemon: Daemon) -> Any:
    return daemon.api("/api/v1/status").json["reconcile"]


def drift_of(daemon: Daemon, *, after: str = "") -> Any:
    """The drift, of a look that ended after that time."""

    def found() -> Any:
        drift = reconcile_of(daemon)["drift"]
        return drift if drift is not None and drift["looked_at"] > after else None

    return eventually(found, 60, daemon.log_tail())


def kinds(drift: Any) -> set[str]:
    return {one["kind"] for one in drift["findings"] if one["warns"]}


def gauge(daemon: Daemon, name: str) -> float | None:
    found = re.search(rf"^{name} (\S+)$", daemon.api("/metrics").body.decode(), re.MULTILINE)
    return None if found is None else float(found[1])


def with_hook(server: GithubLog, **settings: Any) -> str:
    server.tokens[f"{HOOK_PATH}/deliveries"] = "a-token-of-seven"
    server.settings.hooks[HOOK_PATH] = Hook(**settings)
    return '[[github.hook]]\nid = "7"\nrepo = "octo/hello"\ntoken.env = "TOKEN_OF_SEVEN"\n'


# ---- what is found, and where it is shown


def test_each_drift_is_in_the_status_the_metrics_and_the_log(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    server.settings.app.url = "http://old.example.org/webhook"
    server.settings.app.events = ["issues", "fork"]
    server.settings.permissions = {**GRANTED, "checks": "read"}
    server.settings.installations = [
        Installation(1, {**GRANTED, "checks": "read"}, suspended_at="2026-11-20T10:00:00Z", account="acme"),
        Installation(2, GRANTED, account="octo"),
        Installation(3, GRANTED, account="hexa"),
    ]
    server.add(at=time.time() - 5400, status_code=401)
    more = with_hook(server, active=False, insecure_ssl="1")
    daemon = make_daemon(
        config_of(server, tmp_path, match="event:issues,release", more=more),
        env={"TOKEN_OF_SEVEN": "a-token-of-seven"},
    )
    drift = drift_of(daemon)
    expected = {
        "address", "clear", "certificate", "events", "inactive", "permissions", "secret", "suspended",
    }  # fmt: skip
    assert kinds(drift) == expected and expected < set(KINDS) and drift["error"] is None
    assert all(one["next"] for one in drift["findings"] if one["warns"])
    assert drift["finished_at"] == drift["looked_at"] and drift["sent_from"] == server.settings.ranges
    (unwanted,) = [one for one in drift["findings"] if not one["warns"]]
    assert (unwanted["kind"], unwanted["webhook"], unwanted["names"]) == ("unwanted", APP, ["fork"])
    number = sum(one["warns"] for one in drift["findings"])
    assert gauge(daemon, "covenq_drift_findings") == number == len(expected) + 2  # two lack permissions, two 401s
    assert daemon.get("/readyz").status == 200
    told = daemon.log_tail(20_000)
    assert all(told.count(f"{one['words']}\n") == 1 for one in drift["findings"] if one["warns"]), told
    text = daemon.cli("status", env={"COLUMNS": "80"}).stdout.decode()
    rows = [line for line in text.splitlines() if line.startswith("DRIFT")]
    assert len(rows) == len(expected) and all(len(row) <= 80 for row in rows), rows
    assert "DRIFT       not subscribed to what routes want: release" in rows
    assert "DRIFT       an installation lacks permissions (2): octo, hexa" in rows
    assert f"            subscribed to what no route wants: {APP}"[:40] in text and "fork" in text
    assert "`covenq doctor` says what to do." in text and "newest attempt listed 1h ago" in text


def test_what_fits_is_said_in_a_line_and_without_a_daemon_nothing_is(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    daemon = make_daemon(config_of(server, tmp_path))
    assert drift_of(daemon)["findings"] == [] and gauge(daemon, "covenq_drift_findings") == 0
    text = daemon.cli("status").stdout.decode()
    assert "github      asked" in text and "its settings fit this configuration" in text and "DRIFT" not in text
    assert "GitHub lists no attempt to deliver" in text
    daemon.stop()
    text = daemon.cli("status", exit_code=6).stdout.decode()
    assert "github" not in text.replace(str(tmp_path), "") and "DRIFT" not in text
    assert daemon.cli_json("status", exit_code=6)["reconcile"]["drift"] is None


def test_an_event_that_came_lately_is_not_missed(make_daemon: Make, server: GithubLog, tmp_path: Path) -> None:
    daemon = make_daemon(config_of(server, tmp_path, match="event:release,deployment"), start=False)
    body, headers = signed("release", issue(1))
    daemon.start()
    assert daemon.request("POST", "/webhook", body, headers).status == 202
    daemon.restart()
    (found,) = [one for one in drift_of(daemon)["findings"] if one["kind"] == "events"]
    assert found["names"] == ["deployment"] and found["webhook"] is None


def test_doctor_has_the_daemon_s_findings_of_what_it_can_not_ask_about(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    more = with_hook(server, active=False)
    daemon = make_daemon(config_of(server, tmp_path, more=more), env={"TOKEN_OF_SEVEN": "a-token-of-seven"})
    drift_of(daemon)
    words = "hook 7 of octo/hello is not active: GitHub delivers nothing"

    def found(**env: str) -> list[dict[str, Any]]:
        said = json.loads(daemon.cli("doctor", "--json", exit_code=None, env=env).stdout)
        return [one for one in said["findings"] if one["words"] == words]

    alone, asked = found(TOKEN_OF_SEVEN=""), found()
    assert len(alone) == len(asked) == 1 and alone[0]["level"] == "warning" and alone == asked


# ---- when it is looked


def test_a_reload_that_changes_what_it_depends_on_looks_again(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    server.settings.app.url = "https://moved.example.org/webhook"
    text = config_of(server, tmp_path)
    daemon = make_daemon(text)
    drift = drift_of(daemon)
    assert kinds(drift) == {"address"}
    assert daemon.config is not None
    asked = len(server.requests("GET /app/hook/config"))
    daemon.config.write_text(text.replace('run = ["true"]', 'run = ["false"]'))  # nothing follows from that
    eventually(lambda: daemon.api("/api/v1/status").json["reload"]["number"] == 2, 30)
    before = reconcile_of(daemon)["logs"][0]["last"]["ended_at"]
    eventually(lambda: reconcile_of(daemon)["logs"][0]["last"]["ended_at"] > before, 30)
    assert len(server.requests("GET /app/hook/config")) == asked == 1
    daemon.config.write_text(text.replace(ADDRESS, 'public_url = "https://moved.example.org"'))
    assert kinds(drift_of(daemon, after=drift["looked_at"])) == set()


def test_without_passes_nothing_is_asked(make_daemon: Make, server: GithubLog, tmp_path: Path) -> None:
    daemon = make_daemon(config_of(server, tmp_path, every="0s"))
    assert daemon.post("issues", {"action": "opened"}).status == 202
    daemon.wait_all_done()
    assert reconcile_of(daemon)["drift"] is None and server.asked == []
    assert gauge(daemon, "covenq_drift_findings") is None


# ---- GitHub away, and the budget spent


def test_what_github_does_not_tell_is_told_once_and_shown_and_the_daemon_is_ready(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    server.faults = [Fault(500, on="/app/installations") for _ in range(100)]
    server.settings.app.url = "https://old.example.org/webhook"
    daemon = make_daemon(config_of(server, tmp_path))
    drift = drift_of(daemon)
    assert "not all could be asked: 127.0.0.1 answered 500" in drift["error"] and drift["finished_at"] is None
    assert kinds(drift) == {"address"}  # what was told before
    assert daemon.get("/readyz").status == 200 and daemon.log_tail().count("not all could be asked") == 1
    assert "github      asked" in daemon.cli("status").stdout.decode()
    assert len(server.requests("/app/installations")) == 1


def test_it_stays_within_half_of_what_github_leaves(make_daemon: Make, server: GithubLog, tmp_path: Path) -> None:
    server.remaining = 5  # the pass leaves 4, of which two are for others
    daemon = make_daemon(config_of(server, tmp_path))
    drift = drift_of(daemon)
    assert "half of what 127.0.0.1 left of requests is used" in drift["error"]
    assert [one.partition("?")[0] for one in server.asked] == [
        "GET /app/hook/deliveries", "GET /app", "GET /app/hook/config",
    ]  # fmt: skip


class Watched:
    """A watch over the stand-in whose clock stands still until a test moves it."""

    def __init__(self, server: GithubLog, directory: Path) -> None:
        path = directory / "covenq.toml"
        path.write_text(config_of(server, directory))
        self.now = 1.0
        self.usages: dict[str, Usage] = {}
        self.watch = DriftWatch(
            Live(load(path, {}), ()), {}, self.usages, lambda: None, lambda event: False,
            clock=time.time, monotonic=lambda: self.now,
        )  # fmt: skip

    def after(self, seconds: float) -> set[str]:
        self.now += seconds
        self.watch.look_if_due()
        assert self.watch.found is not None
        return {one.kind for one in self.watch.found.warnings}


@pytest.fixture
def watched(server: GithubLog, tmp_path: Path) -> Watched:
    return Watched(server, tmp_path)


def test_it_is_looked_every_hour_and_sooner_while_something_drifted(server: GithubLog, watched: Watched) -> None:
    def looks() -> int:
        return len(server.requests("GET /app/hook/config"))

    assert watched.after(0) == set() and looks() == 1
    server.settings.app.url = "https://old.example.org/webhook"
    assert watched.after(EVERY_S - 1) == set() and looks() == 1
    assert watched.after(1) == {"address"} and looks() == 2
    server.settings.app.url = "https://hooks.example.org/webhook"
    assert watched.after(AGAIN_S - 1) == {"address"} and looks() == 2
    assert watched.after(1) == set() and looks() == 3
    assert watched.after(AGAIN_S) == set() and looks() == 3
    assert watched.usages[APP].requests == 12


def test_while_github_is_away_what_was_found_stays(
    server: GithubLog, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    server.settings.app.url = "https://old.example.org/webhook"
    assert watched.after(0) == {"address"}
    found = watched.watch.found
    assert found is not None and found.error is None
    for path in ("/app", "/app/installations", "/app/hook/deliveries"):
        server.faults = [Fault(500, on=path)]
        assert watched.after(AGAIN_S) == {"address"}, path
        away = watched.watch.found
        assert away is not None and away.error and away.finished_at == found.finished_at and away.looked_at
    assert caplog.text.count("not all could be asked") == 1
    server.settings.app.url = "https://hooks.example.org/webhook"
    assert watched.after(AGAIN_S) == set()
    assert watched.watch.found is not None and watched.watch.found.error is None


# ---- rows


def test_a_row_is_of_a_kind_and_names_what_it_is_about() -> None:
    found = [
        DriftFinding("suspended", "…", None, "app 1", ["acme"]),
        DriftFinding("address", "…", None, "app 1"),
        DriftFinding("suspended", "…", None, "app 1", ["octo", "acme"]),
        DriftFinding("clock", "…"),
        DriftFinding("of a newer daemon", "…", None, "hook 7"),
    ]
    assert drift_rows(found) == [
        "an installation is suspended (2): acme, octo",
        "delivers elsewhere than to public_url: app 1",
        "this machine's clock is not GitHub's",
        "of a newer daemon: hook 7",
    ]
    assert all(len(words) <= 55 for words in KINDS.values())  # there is room for a name in a line of 80 columns
