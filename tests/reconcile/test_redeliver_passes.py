"""`[reconcile] mode = "redeliver"` of a real daemon, whose door the stand-in for GitHub posts redeliveries to."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.github_log import Attempt, Fault, GithubLog, app_table, github
from tests.support.passes import last_of
from tests.support.waiting import eventually

PUBLIC_URL = "https://covenq.example.org"
RUN = '[[route]]\nname = "fix"\nmatch = "event:issues"\nrun = ["true"]\n'
DEPLOY = '[[route]]\nname = "deploy"\nmatch = "event:push"\nrun = ["true"]\nkey = "{ref}"\nsupersede = "queued"\n'

Make = Callable[..., Daemon]


@pytest.fixture
def server() -> Iterator[GithubLog]:
    with github() as found:
        found.settings.app.url = f"{PUBLIC_URL}/webhook"
        yield found


def config_of(server: GithubLog, directory: Path, *, patience: str = "1h", every: str = "1s", more: str = RUN) -> str:
    return f"""
[server]
public_url = "{PUBLIC_URL}"

{app_table(server, directory)}

[reconcile]
every = "{every}"
grace = "0s"
mode = "redeliver"
patience = "{patience}"
{more}
"""


@pytest.fixture
def make(make_daemon: Make, server: GithubLog, tmp_path: Path) -> Make:
    """Of a daemon whose door GitHub reaches, and which has taken something by it."""

    def made(**settings: Any) -> Daemon:
        daemon = make_daemon(config_of(server, tmp_path, **settings))
        if settings.get("every") == "0s":
            eventually(lambda: daemon.records("ops.reconciled"), 60, "what came before is known")
        else:
            eventually(lambda: last_of(daemon), 60, "a first pass ends")
        server.door = f"http://127.0.0.1:{daemon.port}/webhook"
        come(daemon, server)
        return daemon

    return made


def come(daemon: Daemon, server: GithubLog, event: str = "ping") -> Attempt:
    """A delivery that comes as it should, and is listed with what was answered."""
    one = server.add(event, status_code=500, log="/not yet")
    answer = daemon.request("POST", "/webhook", one.body, one.headers)
    assert answer.status in (200, 202)
    one.status_code, one.answer, one.log = answer.status, answer.body.decode(), None
    return one


def at_text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def wait_pass(daemon: Daemon) -> Any:
    """Wait until a pass has ended that began after the call."""
    for _ in range(2):
        before = (last_of(daemon) or {}).get("ended_at")
        eventually(lambda before=before: (last_of(daemon) or {}).get("ended_at") not in (None, before), 60)
    return last_of(daemon)


def wait_pass_by_pause(daemon: Daemon) -> Any:
    """One that begins now, whenever the next is due."""
    before = last_of(daemon)["ended_at"]
    daemon.cli("pause", "intake", "--yes")
    daemon.cli("resume", "intake")
    eventually(lambda: last_of(daemon)["ended_at"] != before, 60)
    return last_of(daemon)


def sources(daemon: Daemon) -> dict[str, str]:
    return {record["data"]["guid"]: record["data"]["source"] for record in daemon.records("delivery.received")}


def asked(server: GithubLog) -> list[str]:
    """The GUIDs of what was asked for."""
    by_id = {str(one.id): one.guid for one in server.attempts}
    return [by_id[path.split("/")[-2]] for path in server.requests("/attempts")]


def ledger(daemon: Daemon) -> dict[str, int]:
    rows = daemon.cli_json("ledger")["items"]
    states = ("listed", "held", "redelivered", "fetched", "open")
    return {state: sum(row[state] for row in rows) for state in states}


# ---- what is missed comes by the door


def test_what_was_missed_comes_as_a_redelivery_and_is_counted_as_one(make: Make, server: GithubLog) -> None:
    daemon = make()
    missed = [server.add(status_code=code) for code in (0, 502, 408)]
    eventually(lambda: set(sources(daemon)) >= {one.guid for one in missed}, 60, daemon.log_tail())
    assert set(sources(daemon).values()) == {"http"} and sorted(asked(server)) == sorted(one.guid for one in missed)
    assert wait_pass(daemon)["states"] == {}
    assert ledger(daemon) == {"listed": 4, "held": 1, "redelivered": 3, "fetched": 0, "open": 0}
    assert list(daemon.wait_all_done().values()) == [["task.completed"]] * 3
    assert "asked GitHub to send" in daemon.log_tail()
    assert "RESENT" in daemon.cli("ledger").stdout.decode()
    assert 'state="redelivered"} 3.0' in daemon.api("/metrics").body.decode()


def test_what_never_comes_is_fetched_when_the_patience_ends(make: Make, server: GithubLog) -> None:
    daemon = make(patience="8s", every="1h")
    server.door = None
    missed = server.add()
    assert wait_pass_by_pause(daemon)["asked"] == 1
    why = daemon.cli("why", missed.guid, exit_code=3).stderr.decode()
    assert "it is not fetched yet, or its redelivery is waited for" in why and ledger(daemon)["open"] == 1
    assert "1 redelivery asked for, and waited for" in daemon.cli("status").stdout.decode()
    (intent,) = daemon.records("ops.reconciled")[-1]["data"]["asked"]
    eventually(lambda: missed.guid in sources(daemon), 60, daemon.log_tail())  # though the next pass is due in an hour
    (received,) = [one for one in daemon.records("delivery.received") if one["data"]["guid"] == missed.guid]
    assert received["data"]["source"] == "import" and received["at"] > intent["at"] and asked(server) == [missed.guid]
    eventually(lambda: daemon.records("ops.reconciled")[-1]["data"]["asked"] == [], 60)
    assert wait_pass_by_pause(daemon)["states"] == {} and ledger(daemon)["fetched"] == 1


def test_by_webhook_by_redelivery_and_by_fetch_at_once_it_makes_one_task(make: Make, server: GithubLog) -> None:
    daemon = make(patience="1s")
    now = threading.Event()
    webhooks: list[threading.Thread] = []

    def at_once() -> None:
        webhook = threading.Thread(target=daemon.request, args=("POST", "/webhook", one.body, one.headers))
        webhook.start()
        webhooks.append(webhook)
        now.set()

    server.before_post = lambda: now.wait(60) and None
    server.before_detail = at_once
    one = server.add()
    eventually(lambda: one.guid in sources(daemon), 60, daemon.log_tail())
    for thread in (*webhooks, *server.redelivered):
        thread.join()
    wait_pass(daemon)
    assert (
        webhooks
        and asked(server) == [one.guid]
        and [record["data"]["guid"] for record in daemon.records("delivery.received")].count(one.guid) == 1
    )
    assert list(daemon.wait_all_done().values()) == [["task.completed"]]


# ---- killed between the record and the wish


def test_a_wish_is_recorded_before_it_is_made_and_after_a_kill_not_made_again(make: Make, server: GithubLog) -> None:
    daemon = make(patience="4s")
    server.door = None
    killed = threading.Event()

    def kill() -> None:
        if not killed.is_set():
            assert daemon.process is not None
            daemon.process.kill()
            killed.set()

    server.before_redelivery = kill
    missed = [server.add(log="/not yet") for _ in range(3)]
    for one in missed:
        one.log = None
    assert killed.wait(60)
    daemon.process.wait()  # type: ignore[union-attr]
    recorded = {one["guid"] for one in daemon.records("ops.reconciled")[-1]["data"]["asked"]}
    assert set(asked(server)) <= recorded
    daemon.start()
    eventually(lambda: set(sources(daemon)) >= {one.guid for one in missed}, 60, daemon.log_tail())
    assert len(asked(server)) == len(set(asked(server)))
    assert {sources(daemon)[guid] for guid in recorded} == {"import"}


# ---- where it may go elsewhere


def theirs(server: GithubLog, production: Daemon) -> None:
    """What production misses, and what it takes."""
    server.add()
    come(production, server)


@pytest.fixture
def another(make_daemon: Make, server: GithubLog, tmp_path: Path) -> Iterator[Make]:
    """Another covenq beside the first, with the same key."""
    with TemporaryDirectory(prefix="cq-", dir="/tmp", ignore_cleanup_errors=True) as place:

        def made(name: str, url: str = PUBLIC_URL, copy: Path | None = None) -> Daemon:
            directory = Path(place) / name
            directory.mkdir()
            if copy is not None:
                shutil.copytree(copy, directory / "data")
            (directory / "covenq.toml").write_text(config_of(server, tmp_path).replace(PUBLIC_URL, url))
            daemon = make_daemon(directory / "covenq.toml", data=directory / "data")
            eventually(lambda: last_of(daemon), 60, "a first pass ends")
            return daemon

        yield made


def not_asked(daemon: Daemon, server: GithubLog, words: str) -> None:
    """It fetches, asks for nothing, and says why."""
    missed = server.add()
    eventually(lambda: missed.guid in sources(daemon), 60, daemon.log_tail())
    assert asked(server) == [] and sources(daemon)[missed.guid] == "import"
    eventually(lambda: f"redelivery is not asked for: {words}" in daemon.log_tail(), 60, daemon.log_tail())


def test_a_staging_machine_with_the_production_key_asks_for_nothing(
    make: Make, another: Make, server: GithubLog
) -> None:
    """Neither with an address of its own, nor with production's, and whatever of production's it has fetched."""
    production = make(every="0s")
    for staging in (another("own", "https://staging.example.org"), another("same")):
        theirs(server, production)
        eventually(lambda staging=staging: len(sources(staging)) >= 2, 60, staging.log_tail())
        not_asked(staging, server, "")
    assert server.requests("/attempts") == []


@pytest.mark.files("a backup is put in place")
def test_a_copy_of_productions_data_with_its_key_and_address_asks_for_nothing(
    make: Make, another: Make, server: GithubLog, tmp_path: Path
) -> None:
    production = make()
    wait_pass(production)
    production.cli("backup", str(tmp_path / "copy"))
    production.stop()
    server.attempts[-1].answer = ""  # nor does GitHub show what was answered
    copy = another("copy", copy=tmp_path / "copy")
    not_asked(copy, server, "nothing has come by webhook since this journal was restored")
    assert production.config is not None
    production.config.write_text(production.config.read_text().replace('every = "1s"', 'every = "0s"'))
    production.start()
    theirs(server, production)
    eventually(lambda: len(sources(copy)) >= 4, 60, copy.log_tail())
    server.add()
    eventually(lambda: "something else" in str(last_of(copy)["not_asked"]), 60, copy.log_tail())
    assert server.requests("/attempts") == []


# ---- what must not be asked for


def test_what_a_superseding_route_may_match_is_fetched_and_anything_else_asked_for(
    make: Make, server: GithubLog
) -> None:
    daemon = make(more=RUN + DEPLOY)
    push = server.add("push", {"ref": "refs/heads/main"})
    issue = server.add()
    eventually(lambda: {push.guid, issue.guid} <= set(sources(daemon)), 60, daemon.log_tail())
    assert (sources(daemon)[push.guid], sources(daemon)[issue.guid]) == ("import", "http")
    assert asked(server) == [issue.guid] and last_of(daemon)["not_asked"] is None


def test_what_github_refuses_is_told_and_fetched(make: Make, server: GithubLog) -> None:
    daemon = make()
    for status, words in ((422, "GitHub makes no redelivery of it (422)"), (403, "does not let")):
        server.faults.append(Fault(status, on="/attempts"))
        missed = server.add()
        eventually(lambda missed=missed: missed.guid in sources(daemon), 60, daemon.log_tail())
        eventually(lambda words=words: words in daemon.log_tail(), 60)
        assert sources(daemon)[missed.guid] == "import"
    doctor = " ".join(daemon.cli("doctor", exit_code=None).stdout.decode().split())
    missed = server.add()  # GitHub takes it again
    eventually(lambda: missed.guid in sources(daemon), 60, daemon.log_tail())
    assert sources(daemon)[missed.guid] == "http" and "another covenq" not in doctor


def test_a_reload_turns_it_on_and_the_status_and_doctor_say_why_nothing_is_asked_for(
    make: Make, server: GithubLog
) -> None:
    daemon = make()
    assert daemon.config is not None
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace(f'public_url = "{PUBLIC_URL}"', 'path = "/webhook"'))
    eventually(lambda: last_of(daemon)["not_asked"], 60, daemon.log_tail())
    said = "redelivery is not asked for"
    for command in ("status", "doctor"):
        shown = " ".join(daemon.cli(command, exit_code=None).stdout.decode().split())
        assert said in shown and "public_url isn't set" in shown
    missed = server.add()
    eventually(lambda: missed.guid in sources(daemon), 60)
    assert sources(daemon)[missed.guid] == "import" and daemon.log_tail().count(said) == 1
    daemon.config.write_text(text)
    eventually(lambda: last_of(daemon)["not_asked"] is None, 60)
    come(daemon, server)
    missed = server.add()
    eventually(lambda: missed.guid in sources(daemon), 60)
    assert sources(daemon)[missed.guid] == "http"
    settings = {one["name"]: one["value"] for one in daemon.cli_json("info")["settings"]}
    assert (settings["reconcile.mode"], settings["reconcile.patience"]) == ("redeliver", 3600.0)


# ---- the command


def test_the_command_asks_waits_and_fetches_what_does_not_come(make: Make, server: GithubLog) -> None:
    daemon = make(every="0s", patience="6s")
    push, comes, never = server.add("push", status_code=200), server.add(), server.add()
    come(daemon, server)
    server.before_redelivery = lambda: setattr(server, "door", None) if len(asked(server)) > 1 else None
    planned = daemon.cli_json("reconcile", "--dry-run")["items"]
    reasons = {row["guid"]: row["reason"] for row in planned}
    would = "GitHub would be asked to send it again"
    assert asked(server) == [] and reasons == {comes.guid: would, never.guid: would, push.guid: None}
    found = daemon.cli("reconcile", "--yes")
    assert [sources(daemon)[one.guid] for one in (comes, never, push)] == ["http", "import", "import"]
    assert asked(server) == [comes.guid, never.guid]
    said = found.stderr.decode()
    assert "GitHub was asked to send 2 deliveries again" in said and "1 delivery sent again by GitHub" in said
    assert {one["guid"] for one in daemon.records("ops.reconciled")[-1]["data"]["asked"]} == {comes.guid, never.guid}
    assert daemon.cli_json("reconcile", "--yes")["items"] == [] and len(asked(server)) == 2


def test_the_command_waits_for_what_the_daemon_asked_for_and_asks_for_it_no_more(make: Make, server: GithubLog) -> None:
    daemon = make(every="1h", patience="3s")
    server.door = None
    missed = server.add()
    assert wait_pass_by_pause(daemon)["asked"] == 1
    (row,) = daemon.cli_json("reconcile", "--yes")["items"]
    assert (row["guid"], asked(server)) == (missed.guid, [missed.guid])
    assert row["state"] in ("fetched", "held") and sources(daemon)[missed.guid] == "import"


def test_the_command_fetches_where_no_daemon_runs_and_says_why_where_it_may_not_ask(
    make: Make, server: GithubLog
) -> None:
    daemon = make(every="0s")
    server.settings.app.url = "https://elsewhere.example.org/webhook"
    first = server.add()
    said = daemon.cli("reconcile", "--yes").stderr.decode()
    assert "redelivery is not asked for: the webhook delivers to https://elsewhere.example.org/webhook" in said
    server.settings.app.url = f"{PUBLIC_URL}/webhook"
    now = time.time()
    taken = server.add(at=now - 60)
    server.again(taken, at=now - 40, status_code=200)  # by somebody, whom the filter hides
    daemon.cli("reconcile", "--since", "1h", "--yes", f"before:{at_text(now - 50)}")
    daemon.stop()
    second = server.add()
    daemon.cli("reconcile", "--yes", f"guid:{second.guid}")
    assert {sources(daemon)[one.guid] for one in (first, taken, second)} == {"import"} and asked(server) == []


def test_wishes_are_recorded_all_or_none(make: Make, server: GithubLog) -> None:
    daemon = make(every="0s")
    (log,) = daemon.api("/api/v1/status").json["reconcile"]["logs"]
    wish = {"guid": "g1", "attempt": "5", "first_at": "2026-11-30T00:00:00Z"}

    def post(items: list[Any], name: str = log["log"]) -> Any:
        return daemon.api("/api/v1/reconcile", "POST", {"log": name, "items": items})

    assert post([wish]).json["recorded"] and [one["guid"] for one in post([]).json["asked"]] == ["g1"]
    other = {**wish, "guid": "g2"}
    assert not post([other, wish]).json["recorded"] and not post([other, other]).json["recorded"]
    assert [one["guid"] for one in post([]).json["asked"]] == ["g1"]
    assert post([], "app none").status == 404
    for odd in ({}, 5, {**wish, "guid": "a b"}, {**wish, "first_at": "soon"}, {**wish, "more": 1}):
        assert post([odd]).status == 400, odd
    assert post([{**wish, "guid": f"n{n}"} for n in range(65)]).status == 400
    for n in range(4):
        recorded = post([{**wish, "guid": f"n{n}x{m}"} for m in range(64)]).json["recorded"]
        assert recorded == (n < 3)
