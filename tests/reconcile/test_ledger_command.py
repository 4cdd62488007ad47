"""`covenq ledger` and what it is told by, over the daemon's own passes against the stand-in for GitHub."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from covenq.cli.commands.ledger import columns
from covenq.cli.table import print_table
from covenq.config.github_api import GITHUB_API, keeps_s
from covenq.model.ledger import missing_text
from covenq.model.status import LedgerHour, Missing
from tests.support.daemon import Daemon
from tests.support.github_log import Fault, GithubLog, app_table, github
from tests.support.waiting import eventually

LOG = "/app/hook/deliveries"
STATES = ("held", "fetched", "unrecoverable", "refused", "erased", "before_us", "not_wanted", "on_its_way", "open")

Make = Callable[..., Daemon]


@pytest.fixture
def server() -> Iterator[GithubLog]:
    with github() as found:
        yield found


@pytest.fixture
def daemon(make_daemon: Make, server: GithubLog, tmp_path: Path) -> Daemon:
    server.add(at=time.time() - 30, status_code=202)
    made = make_daemon(f"""
{app_table(server, tmp_path)}

[reconcile]
every = "1s"
grace = "0s"

[[route]]
name = "fix"
match = "event:issues"
run = ["true"]
""")
    eventually(lambda: totals(made)["before_us"] == 1, 60, "a pass has counted")
    return made


def totals(daemon: Daemon) -> dict[str, int]:
    rows = daemon.cli_json("ledger")["items"]
    for row in rows:
        assert row["listed"] == sum(row[state] for state in STATES), row
    return {state: sum(row[state] for row in rows) for state in ("listed", *STATES)}


def wait_totals(daemon: Daemon, **wanted: int) -> dict[str, int]:
    def found() -> Any:
        now = totals(daemon)
        return now if {state: now[state] for state in wanted} == wanted else None

    return eventually(found, 60, f"{wanted}: {totals(daemon)}")  # type: ignore[no-any-return]


def test_the_ledger_counts_what_came_what_was_fetched_and_what_can_not_be(daemon: Daemon, server: GithubLog) -> None:
    for _ in range(3):
        one = server.add(status_code=202)
        assert daemon.request("POST", "/webhook", one.body, one.headers).status in (200, 202)
    server.add()
    lost = server.add(payload_kept=False)
    again = server.add()
    server.again(again, at=time.time(), status_code=500)
    # Whatever a pass saw first: what came while it was fetched came by webhook or was fetched, once.
    found = wait_totals(daemon, listed=7, unrecoverable=1, open=0, on_its_way=0)
    assert found["held"] + found["fetched"] == 5 and found["fetched"] >= 2
    records = len(daemon.records("ops.ledger"))
    last = daemon.api("/api/v1/status").json["reconcile"]["logs"][0]["last"]["ended_at"]

    def later() -> bool:
        return bool(daemon.api("/api/v1/status").json["reconcile"]["logs"][0]["last"]["ended_at"] != last)

    eventually(later, 60)
    assert len(daemon.records("ops.ledger")) == records, "nothing changed, and nothing is recorded"
    told = daemon.cli("why", lost.guid, exit_code=3).stderr.decode()
    assert "GitHub lists it (issues" in told and "unrecoverable" in told
    told = daemon.cli("why", server.attempts[0].guid, exit_code=3).stderr.decode()
    assert "before covenq was there" in told and "covenq reconcile --since" in told
    assert daemon.cli_json("why", lost.guid, exit_code=3)["not_held"][0]["state"] == "unrecoverable"
    table = daemon.cli("ledger")
    assert table.stdout.decode().splitlines()[0].split()[:3] == ["HOUR", "(UTC)", "LISTED"]
    assert "OPEN" not in table.stdout.decode() and "7 deliveries listed" in table.stderr.decode()
    with_daemon = daemon.cli_json("ledger")
    daemon.stop()
    assert daemon.cli_json("ledger") == with_daemon
    (daemon.data / "state.db").unlink()
    assert daemon.cli_json("ledger") == with_daemon


def test_what_can_not_be_fetched_yet_is_an_alarm_until_it_is(daemon: Daemon, server: GithubLog) -> None:
    server.faults = [Fault(403, on=f"{LOG}/") for _ in range(10_000)]
    one = server.add()
    wait_totals(daemon, open=1)
    status = daemon.cli("status").stdout.decode()
    (line,) = [text for text in status.splitlines() if text.startswith("MISSING")]
    assert "1 delivery of " in line and "GitHub forgets it in 6d: covenq reconcile" in line
    assert "is missing" in daemon.cli("doctor", exit_code=None).stdout.decode()
    assert daemon.api("/api/v1/status").json["reconcile"]["missing"]["deliveries"] == 1
    assert daemon.get("/readyz").status == 200
    metrics = daemon.api("/metrics").body.decode()
    assert re.search(r'covenq_ledger_deliveries\{hook="[^"]+",state="open"\} 1\.0', metrics)
    assert re.search(r'covenq_ledger_deliveries\{hook="[^"]+",state="before_us"\} 1\.0', metrics)
    row = daemon.cli_json("ledger")["items"][0]
    assert row["open"] == 1 and row["forgotten_at"] > row["hour"]
    assert "it is not fetched yet" in daemon.cli("why", one.guid, exit_code=3).stderr.decode()
    table = daemon.cli("ledger")
    assert "GONE IN" in table.stdout.decode() and "covenq reconcile" in table.stderr.decode()
    server.faults = []
    wait_totals(daemon, open=0, fetched=1)
    assert "MISSING" not in daemon.cli("status").stdout.decode()
    assert one.guid in daemon.cli("why", one.guid).stdout.decode()


def minutes_apart(one: str, other: str) -> int:
    """Of two times of day, HH:MM."""
    first, second = (int(text[:2]) * 60 + int(text[3:]) for text in (one, other))
    return min((first - second) % 1440, (second - first) % 1440)


def test_when_github_s_limit_lets_what_is_missing_be_fetched_is_said_everywhere(
    daemon: Daemon, server: GithubLog
) -> None:
    assert missing_of(daemon) is None
    server.reset, server.limit = int(time.time()) + 1800, 60
    server.remaining = 60  # half of what the first answer leaves is 29
    for _ in range(50):
        server.add()
    found = eventually(lambda: (one := missing_of(daemon)) and one["waits"] and one, 60, daemon.log_tail())
    budget = daemon.api("/api/v1/status").json["reconcile"]["logs"][0]["budget"]
    assert budget["limit"] == 60 and budget["kept"] == 29 and budget["remaining"] <= 29 and budget["lists"] == 1
    assert 0 < found["deliveries"] < 50 and found["too_late"] == 0
    assert server.reset < datetime.fromisoformat(found["done_at"]).timestamp() < server.reset + 3600
    words = re.compile(r"; at GitHub's limit done at about (?:\d{4}-\d\d-\d\d )?(\d\d:\d\d)Z")
    status = daemon.cli("status").stdout.decode()
    ledger = daemon.cli("ledger").stderr.decode()
    doctor = daemon.cli("doctor", exit_code=None).stdout.decode()
    at = daemon.cli_json("ledger")["missing"]["done_at"][11:16]
    said = [words.search(text) for text in (status, ledger, doctor)]
    assert all(one is not None and minutes_apart(one[1], at) <= 2 for one in said), said
    metrics = daemon.api("/metrics").body.decode()
    left = re.search(r"^covenq_reconcile_done_seconds (\S+)$", metrics, re.MULTILINE)
    assert left is not None and 1000 < float(left[1]) < 5400
    assert re.search(r"^covenq_reconcile_too_late 0\.0$", metrics, re.MULTILINE)
    server.limit = server.remaining = None
    daemon.restart()  # which knows nothing of a limit, until GitHub tells it
    wait_totals(daemon, open=0, fetched=50)
    assert missing_of(daemon) is None


def missing_of(daemon: Daemon) -> Any:
    return daemon.api("/api/v1/status").json["reconcile"]["missing"]


def test_without_a_log_in_the_configuration_there_is_none(make_daemon: Make) -> None:
    daemon = make_daemon("")
    assert daemon.cli_json("ledger") == {"items": [], "next": None, "missing": None}
    assert "No delivery log of GitHub's is configured" in daemon.cli("ledger").stderr.decode()
    assert "no time" in daemon.cli("ledger", "--since", "0s", exit_code=2).stderr.decode()


def hour(**counts: Any) -> LedgerHour:
    every = dict.fromkeys(STATES, 0) | counts
    return LedgerHour(
        log="app x",
        hook="9",
        hour="2026-11-30T14:00:00.000000Z",
        listed=sum(every.values()),
        reasons={},
        forgotten_at="2026-12-03T14:00:00Z" if every["open"] else None,
        counted_at="2026-11-30T14:30:00.000000Z",
        **every,
    )


def test_a_row_with_everything_in_it_has_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [hour(**{**dict.fromkeys(STATES, 99), "held": 9999})]
    print_table(columns(rows, 0.0), rows)
    heading, row = capsys.readouterr().out.splitlines()
    assert len(heading) <= 80 and len(row) <= 80
    rows = [hour(held=5)]
    print_table(columns(rows, 0.0), rows)
    assert capsys.readouterr().out.split() == ["HOUR", "(UTC)", "LISTED", "CAME", "2026-11-30", "14:00", "5", "5"]


def test_the_alarm_says_which_hours_and_how_long_there_is() -> None:
    one = Missing(12, "2026-11-30T14:00:00Z", "2026-11-30T15:00:00Z", "2026-12-03T14:00:00Z")
    now = 1_796_274_000.0  # 2026-12-03T05:00Z
    assert missing_text(one, now) == (
        "12 deliveries of 2026-11-30 14:00-15:00Z are missing; GitHub forgets them in 9h: covenq reconcile"
    )
    several = Missing(1, "2026-11-30T14:00:00Z", "2026-12-01T02:00:00Z", "2026-12-03T14:00:00Z")
    assert missing_text(several, now + 10 * 3600) == (
        "1 delivery of 2026-11-30 14:00Z to 2026-12-01 02:00Z is missing; GitHub begins to forget it: covenq reconcile"
    )


def test_an_enterprise_server_keeps_its_log_for_longer() -> None:
    assert keeps_s(GITHUB_API) == keeps_s("https://api.octo.ghe.com") == 3 * 86_400
    assert keeps_s("https://github.example.org/api/v3") == 7 * 86_400
