"""covenq stats, info and status: counts that add up, and settings that say where they come from."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from covenq.config import effective, familiar_table, limits
from covenq.config.load import build, load
from covenq.errors import UsageError
from covenq.filter.grammar import parse
from covenq.model.answers import NameStats, RouteStats
from covenq.operate.inspect.stats import stats
from covenq.state.fold import fold
from tests.support.checkout import ROOT
from tests.support.daemon import Daemon
from tests.support.journals.chosen import open_chosen
from tests.support.records import START, as_records, empty_state, moved, note, of, queued, received


def test_counts_by_event_repository_route_and_time_add_up() -> None:
    conn = empty_state()
    entries = []
    for n in range(10):
        entries += [received(f"i{n}"), queued(f"i{n}")]
    entries += [moved("failed", of(f"i{n}"), category="exit") for n in range(3)]
    entries += [received("p", event="push", about={"repo": None}), note("ignored", "p", reason="no_match", detail="-")]
    fold(conn, as_records(entries))
    found = stats(conn, parse(""), since=START, now=START + 100, buckets=10)
    assert found.deliveries == 11
    assert found.states == {"failed": 3, "queued": 7, "ignored": 1}
    assert found.events == [
        NameStats("issues", deliveries=10, failed=3, ignored=0),
        NameStats("push", deliveries=1, failed=0, ignored=1),
    ]
    assert [one.name for one in found.repos] == ["octo/hello", None]
    assert found.routes == [RouteStats("fix", tasks=10, attempts=0, states={"failed": 3, "queued": 7})]
    # Issue n came 2n + 1 seconds after START, the push 24: five, five and one to a span of ten seconds.
    assert [one.deliveries for one in found.time] == [5, 5, 1, *[0] * 7]
    assert [one.failed for one in found.time] == [3, *[0] * 9]
    assert found.time[1].at.startswith("2027-01-15T08:00:10")
    only = stats(conn, parse("event:push"), since=START, now=START + 100)
    assert (only.deliveries, only.routes) == (1, [])
    assert stats(conn, parse(""), since=START + 50, now=START + 100).deliveries == 0
    for wrong in ((parse("payload.a:1"), START), (parse(""), START + 100)):
        with pytest.raises(UsageError):
            stats(conn, wrong[0], since=wrong[1], now=START + 100)


def test_statistics_since_before_the_year_1000_have_everything() -> None:
    conn = empty_state()
    fold(conn, as_records([received(f"g{n}") for n in range(5)]))
    found = stats(conn, parse(""), since=START - 400_000 * 86_400.0, now=START + 100)
    assert found.deliveries == 5 and sum(one.deliveries for one in found.time) == 5
    assert found.since == "0931-11-17T08:00:00.000000Z"


def test_only_the_most_frequent_are_told_and_the_others_counted() -> None:
    conn = empty_state()
    fold(conn, as_records([received(f"g{n}", about={"repo": f"o/{n:02}"}) for n in range(25)]))
    found = stats(conn, parse(""), since=START, now=START + 100)
    assert (len(found.repos), found.more.repos) == (20, 5)


def test_every_key_of_the_configuration_is_told(tmp_path: Path) -> None:
    source = "".join(path.read_text() for path in (ROOT / "covenq" / "config").glob("*.py"))
    known = {
        f"{section}.{key}"
        for section, keys in re.findall(r'top\.table\(\s*"(\w+)",\s*\(([^)]*)\),?\s*\)', source)
        for key in re.findall(r'"(\w+)"', keys)
    }
    known |= {f"{section}.{key}" for section, keys in familiar_table.KEYS.items() for key in keys}
    known |= {f"limits.{key}" for key in limits._SECTION} | {"route", "familiar", "installation"}
    assert {one["name"] for one in effective.effective_settings(load(None, {}), tmp_path, {})} == known


def test_each_setting_says_who_says_so(tmp_path: Path) -> None:
    path = tmp_path / "covenq.toml"
    path.write_text(
        '[server]\nthreads = 7\ndata = "here"\n[github]\nwebhook_secrets = [{name = "app", value = "hush"}]\n'
    )
    env = {"COVENQ_BIND": "127.0.0.1:9"}
    told = {one["name"]: one for one in effective.effective_settings(load(path, env), tmp_path / "here", env)}
    assert told["server.bind"] == {
        "name": "server.bind", "value": "127.0.0.1:9", "source": "environment", "by": "COVENQ_BIND"
    }  # fmt: skip
    assert (told["server.threads"]["value"], told["server.threads"]["by"]) == (7, str(path))
    assert told["server.data"]["source"] == "file"
    assert told["worker.concurrency"]["source"] == "default"
    assert told["github.webhook_secrets"]["value"] == [{"name": "app", "from": "value", "where": None}]
    assert "hush" not in json.dumps(list(told.values()))
    nothing = build({}, None, {})
    (data,) = [
        one
        for one in effective.effective_settings(nothing, tmp_path, {}, data_option="x")
        if one["name"] == "server.data"
    ]
    assert data["by"] == "--data"


def test_the_commands(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    with open_chosen(data) as journal:
        journal.append([received("a"), queued("a")])
        journal.append([received("b", event="push")])
    daemon = Daemon(data=data)
    said = daemon.cli("stats").stdout.decode()
    assert said.startswith("2 deliveries, ")
    assert re.search(r"^issues +1 +█+$", said, re.MULTILINE)
    assert re.search(r"^fix +1 +█+ +1$", said, re.MULTILINE)
    assert daemon.cli_json("stats", "event:push", "--since", "1h")["deliveries"] == 1
    assert daemon.cli_json("stats", "event:none")["deliveries"] == 0
    info = daemon.cli_json("info")
    assert {one["name"]: one["there"] for one in info["paths"]}["journal"] is True
    assert f"server.data                 {data}" in re.sub(" {2,}", " " * 17, daemon.cli("info").stdout.decode())
    status = daemon.cli_json("status", exit_code=6)
    assert status["disk"]["free"] <= status["disk"]["total"]
    assert set(status["oldest"]["tasks"]) == {"queued"}
    assert "; the oldest came " in daemon.cli("status", exit_code=6).stdout.decode()
