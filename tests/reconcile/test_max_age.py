"""`max_age` of a route, and of [reconcile]: what is fetched too late for a route that wants it is held back whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq.config.load import Config, build
from covenq.errors import ConfigError, UsageError
from covenq.github import samples
from covenq.github.columns import columns
from covenq.model import DeliveryId
from covenq.operate.imported import ImportedDelivery, parse_item
from covenq.reconcile.expected_age import is_too_old
from covenq.routing.decide import Decision, route
from covenq.routing.diff import Diff
from covenq.routing.held import SENTENCES, held_of, late_data
from covenq.routing.max_age import TooOld, too_old
from tests.reconcile.test_command import config_of as command_config
from tests.reconcile.test_daemon_passes import config_of, wait_passes, wait_received
from tests.reconcile.test_wanted import EVENTS, MATCHES, listed
from tests.support.daemon import Daemon
from tests.support.github_log import GithubLog, github
from tests.support.requests import issue
from tests.support.waiting import eventually

NOW = 1_800_000_000.0
HOUR = 3600.0

Make = Callable[..., Daemon]


@pytest.fixture
def server() -> Iterator[GithubLog]:
    with github() as found:
        yield found


def routes_of(*routes: tuple[str, str | None]) -> Config:
    """Routes of these filters and limits, r0, r1, …"""
    made = [
        {"name": f"r{n}", "match": match, "run": ["true"]} | ({} if age is None else {"max_age": age})
        for n, (match, age) in enumerate(routes)
    ]
    return build({"route": made}, None, {})


def decided(config: Config, event: str, payload: dict[str, Any]) -> Decision:
    data, about = columns(event, payload)
    told = {"hook": "9", "guid": "g1", "event": event, "secret": "app", "source": "import", "twin": None}
    row = {**told, **data, **about, "payload_bytes": len(json.dumps(payload))}
    return route(config, DeliveryId("9", "g1"), row, lambda: payload, now=lambda: NOW)


# ---- which limit counts


@pytest.mark.parametrize(
    ("routes", "limit", "held"),
    [
        ([("event:issues", None)], None, False),
        ([("event:issues", "5m")], None, TooOld("r0")),
        ([("event:issues", "1h")], None, False),
        ([("event:issues", "1h")], 300.0, False),  # its own beats the other
        ([("event:issues", None)], 300.0, TooOld(None)),
        ([("event:issues", "1h"), ("event:issues", "5m")], None, TooOld("r1")),  # one is enough
        ([("event:issues", "1h"), ("event:issues", None)], 300.0, TooOld(None)),
        ([("event:issues", "1h"), ("event:push", "5m")], None, False),  # that one doesn't want it
        ([("event:push", "5m")], None, False),
        ([("event:push", "1h")], 300.0, TooOld(None)),  # none wants it
        ([], 300.0, TooOld(None)),
    ],
)
def test_of_the_routes_that_want_it_each_limit_counts(
    routes: list[tuple[str, str | None]], limit: float | None, held: TooOld | bool
) -> None:
    config, payload = routes_of(*routes), samples.SAMPLES["issues"](1)
    assert too_old(decided(config, "issues", payload), config.routes, limit, 600.0) == (held or None)
    assert too_old(decided(config, "issues", payload), config.routes, limit, 300.0) is None
    assert too_old(decided(config, "ping", {}), config.routes, limit, 600.0) is None


def test_where_a_rule_fails_each_limit_counts() -> None:
    config = routes_of(("event:push", "5m"), ("event:issues", None))
    failed = Decision(decided(config, "issues", {}).state.RECEIVED, problem="route 'r1' failed with KeyError")
    assert too_old(failed, config.routes, None, 600.0) == TooOld("r0")
    assert too_old(failed, config.routes, None, 60.0) is None


AGES = st.sampled_from([None, None, "1m", "10m", "1h"])


@given(
    st.lists(st.tuples(MATCHES, AGES), max_size=3),
    st.sampled_from([None, 60.0, 3600.0]),
    st.sampled_from([30.0, 300.0, 1800.0, 7200.0]),
    st.sampled_from([*EVENTS, "issues", "push", "ping"]),
    st.data(),
)
def test_what_is_expected_by_the_list_is_what_is_decided(
    routes: list[tuple[str, str | None]], limit: float | None, age_s: float, event: str, data: st.DataObject
) -> None:
    payload = {} if event == "ping" else dict(samples.SAMPLES[event](3))
    forgotten = data.draw(st.lists(st.sampled_from(["hook", "action", "installation", "repo_id"]), max_size=2))
    config = routes_of(*routes)
    expected = is_too_old(listed(event, payload, **dict.fromkeys(forgotten)), age_s, config.routes, limit, now=NOW)
    decision = decided(config, event, payload)
    if expected is not None and decision.problem is None:
        assert (too_old(decision, config.routes, limit, age_s) is not None) is expected


def test_what_the_list_does_not_tell_is_not_expected() -> None:
    config = routes_of(("event:issues sender:mona", "5m"))
    one = listed("issues", {"action": "opened"})
    assert is_too_old(one, 600.0, config.routes, None, now=NOW) is None
    assert is_too_old(one, 60.0, config.routes, None, now=NOW) is False
    assert is_too_old(one, 600.0, config.routes, 60.0, now=NOW) is True
    assert is_too_old(listed("push", {}), 600.0, config.routes, None, now=NOW) is False


# ---- what is written down


def test_the_record_says_which_limit_it_was_and_what_is_odd_in_it_is_left_out() -> None:
    assert held_of(late_data(None)) == SENTENCES["late"]
    assert "of the route deploy " in (held_of(late_data("deploy")) or "")
    assert (
        held_of({"held": "late", "held_route": "\x1b[31m"})
        == held_of({"held": "late", "held_route": 7})
        == SENTENCES["late"]
    )
    assert held_of({"held": "restored", "held_route": "deploy"}) == SENTENCES["restored"]
    assert held_of({"held_route": "deploy"}) is None


def test_a_limit_is_a_duration_and_part_of_what_a_configuration_says() -> None:
    for wrong in ("soon", 3, "-1h"):
        with pytest.raises(ConfigError, match="max_age"):
            build({"route": [{"name": "r", "match": "", "run": ["true"], "max_age": wrong}]}, None, {})
    without, an_hour, a_day = (routes_of(("event:push", age)) for age in (None, "1h", "1d"))
    assert an_hour.routes[0].max_age_s == HOUR and without.routes[0].max_age_s is None
    assert len({one.sha256 for one in (without, an_hour, a_day)}) == 3
    assert Diff(an_hour.routes, a_day.routes).report().policies == ["r0"]


def test_an_item_of_an_import_may_ask_for_it() -> None:
    assert parse_item({"headers": [], "hold_if_old": True}).hold_if_old
    assert not parse_item({"headers": [], "hold_if_old": None}).hold_if_old
    with pytest.raises(UsageError, match="hold_if_old must be true or false"):
        parse_item({"headers": [], "hold_if_old": 1})
    plain = msgspec.to_builtins(ImportedDelivery((), b""))
    assert "hold_if_old" not in plain, "an older daemon, which doesn't know it, is asked nothing new"


# ---- through the daemon, and the command

DEPLOY = """
[[route]]
name = "deploy"
match = "event:issues sender:mona"
run = ["true"]
max_age = "1ms"

[[route]]
name = "patient"
match = "event:push"
run = ["true"]
max_age = "1h"
"""


def by(login: str) -> dict[str, Any]:
    return {"action": "opened", "sender": {"login": login}}


def test_a_pass_holds_back_what_is_too_old_for_a_route_and_an_operator_routes_it(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    """Who the sender is, GitHub's list doesn't say: it is decided when the detail is there."""
    daemon = make_daemon(config_of(server, tmp_path, more=DEPLOY))
    wait_passes(daemon, 1)
    assert daemon.post("issues", {**issue(7), **by("mona")}, "by-webhook").status == 202
    late, other = server.add("issues", by("mona")), server.add("issues", by("lisa"))
    wait_received(daemon, {"by-webhook", late.guid, other.guid})
    assert len(daemon.wait_all_done()) == 3  # two routes of the one that came, one of the other's
    (held,) = daemon.cli_json("deliveries", "reason:held")["items"]
    assert (held["guid"], held["state"], held["tasks"]) == (late.guid, "received", [])
    why = daemon.cli("why", late.guid).stdout.decode()
    assert "held back" in why and "max_age of the route deploy" in why
    assert "held back   1 delivery" in daemon.cli("status").stdout.decode()
    daemon.restart()
    wait_passes(daemon)
    assert daemon.cli_json("deliveries", "reason:held")["items"] != []
    daemon.cli("reroute", late.guid)
    assert len(daemon.wait_all_done()) == 5


def test_a_routes_limit_beats_the_other(make_daemon: Make, server: GithubLog, tmp_path: Path) -> None:
    daemon = make_daemon(config_of(server, tmp_path, reconcile='max_age = "1ms"', more=DEPLOY))
    wait_passes(daemon, 1)
    push, one = server.add("push", {"ref": "refs/heads/main"}), server.add("issues", by("lisa"))
    wait_received(daemon, {push.guid, one.guid})
    states = {row["guid"]: (row["state"], row["detail"]) for row in daemon.cli_json("deliveries")["items"]}
    assert states[one.guid] == ("received", SENTENCES["late"])
    eventually(
        lambda: [task["route"] for task in daemon.cli_json("tasks", "state:completed")["items"]] == ["patient"], 30
    )


@pytest.mark.parametrize("running", [True, False])
def test_the_command_says_what_it_will_hold_back_and_does_unless_a_time_is_given(
    make_daemon: Make, server: GithubLog, tmp_path: Path, running: bool
) -> None:
    config = command_config(server, tmp_path).replace('every = "0s"', 'every = "0s"\ngrace = "0s"')
    daemon = make_daemon(config + DEPLOY)
    assert daemon.post("issues", issue(1), "first").status == 202
    daemon.wait_all_done()
    mona, lisa = server.add("issues", by("mona")), server.add("issues", by("lisa"))
    if not running:
        daemon.stop()
    planned = daemon.cli("reconcile", "--dry-run").stderr.decode()
    assert "2 of those may be held back: they are too old for some route that may want them." in planned
    done = {row["guid"]: row for row in daemon.cli_json("reconcile", "--yes")["items"]}
    assert done[lisa.guid]["state"] == "fetched" and done[mona.guid]["state"] == "waiting"
    assert "max_age of the route deploy" in done[mona.guid]["reason"]
    other = server.add("issues", by("mona"))
    assert "held back" not in daemon.cli("reconcile", "--since", "1h", "--dry-run").stderr.decode()
    asked = {row["guid"]: row for row in daemon.cli_json("reconcile", "--since", "1h", "--yes")["items"]}
    assert asked[other.guid]["state"] == "fetched" and len(asked[other.guid]["tasks"]) == 2


def test_routes_shows_it(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon(DEPLOY, start=False)
    found = {one["name"]: one.get("max_age_s") for one in daemon.cli_json("routes")["items"]}
    assert found == {"deploy": 0.001, "patient": HOUR}
    assert "; max_age 1h" in daemon.cli("routes").stdout.decode()
    said = daemon.cli("routes", "test", "--event", "push", input=b"{}").stdout.decode()
    assert "patient  matches" in said and "held back where it is fetched more than 1h after it was sent" in said
    tried = json.loads(daemon.cli("routes", "test", "--event", "push", "--json", input=b"{}").stdout)["routes"]
    assert {one["route"]: one["max_age_s"] for one in tried} == {"deploy": 0.001, "patient": HOUR}
