"""The daemon's own passes against the stand-in for GitHub over real HTTP: nobody types a command."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from covenq.operate.inspect.story_text import when
from tests.support.daemon import Daemon
from tests.support.github_log import CLIENT_ID, Attempt, Fault, GithubLog, app_table, github
from tests.support.journal_json import journal_lines
from tests.support.passes import last_of, received, status_of, wait_received
from tests.support.waiting import eventually

LOG = "/app/hook/deliveries"
PUBLIC_URL = "https://covenq.example.org"
HOUR = 3600.0

Make = Callable[..., Daemon]


@pytest.fixture
def server() -> Iterator[GithubLog]:
    with github() as found:
        yield found


def config_of(
    server: GithubLog, directory: Path, *, every: str = "1s", reconcile: str = "", more: str = "", url: str = ""
) -> str:
    server_table = f'[server]\npublic_url = "{url}"' if url else ""
    return f"""
{server_table}
{app_table(server, directory)}

[reconcile]
every = "{every}"
grace = "0s"
{reconcile}
{more}
[[route]]
name = "fix"
match = "event:issues"
run = ["true"]
"""


@pytest.fixture
def daemon(make_daemon: Make, server: GithubLog, tmp_path: Path) -> Daemon:
    """One whose first pass has ended: what is sent from now on is its own."""
    made = make_daemon(config_of(server, tmp_path))
    wait_passes(made, 1)
    return made


def wait_passes(daemon: Daemon, number: int = 2) -> Any:
    """Wait until so many passes have ended; of two the second was begun after the call."""
    for _ in range(number):
        before = (last_of(daemon) or {}).get("ended_at")
        eventually(lambda before=before: last_of(daemon) and last_of(daemon)["ended_at"] != before, 60, "a pass ends")
    return last_of(daemon)


def post(daemon: Daemon, one: Attempt) -> int:
    return daemon.request("POST", "/webhook", one.body, one.headers).status


def marks(daemon: Daemon) -> list[dict[str, Any]]:
    return [record["data"] for record in daemon.records("ops.reconciled")]


# ---- an outage


def guid_of(server: GithubLog, asked: str) -> str:
    """Of the attempt that was asked for."""
    (guid,) = {one.guid for one in server.attempts if str(one.id) == asked.split("/")[-2]}
    return guid


def by_redelivery(daemon: Daemon, server: GithubLog) -> set[str]:
    """What was recorded of what came over HTTP once a redelivery of it had begun."""
    for thread in server.redelivered:
        thread.join()
    came = {
        record["data"]["guid"]: datetime.fromisoformat(record["at"]).timestamp()
        for record in daemon.records("delivery.received")
        if record["data"]["source"] == "http"
    }
    return {guid for guid, at in server.redelivered_at.items() if guid in came and came[guid] >= at}


@pytest.mark.parametrize("mode", ["fetch", "redeliver"])
@pytest.mark.parametrize(
    ("sent", "kills"),
    [(200, 5), pytest.param(5000, 50, marks=pytest.mark.deep)],
    ids=["a few hundred", "five thousand"],
)
def test_an_outage_ends_with_every_delivery_held_once_wherever_the_daemon_is_killed(
    make_daemon: Make, server: GithubLog, tmp_path: Path, sent: int, kills: int, mode: str
) -> None:
    """40 % are missed: what failed, what nothing answered, and what GitHub lists as accepted.

    SIGKILL comes when a detail or a redelivery is asked for. Every third redelivery never comes.
    """
    redelivers = f'mode = "{mode}"\npatience = "2s"'
    daemon = make_daemon(config_of(server, tmp_path, reconcile=redelivers, url=PUBLIC_URL))
    server.settings.app.url = f"{PUBLIC_URL}/webhook"
    wait_passes(daemon, 1)
    chosen = Random(sent)
    asked_for, killed_at = 0, chosen.randint(1, 12)

    def kill() -> None:
        nonlocal asked_for, killed_at, kills
        asked_for += 1
        if asked_for >= killed_at and kills and daemon.process is not None:
            asked_for, killed_at, kills = 0, chosen.randint(1, 12), kills - 1
            daemon.process.kill()

    def redeliver() -> None:
        never = len(server.requests("/attempts")) % 3 == 0
        server.door = None if never else f"http://127.0.0.1:{daemon.port}/webhook"
        kill()

    server.before_detail, server.before_redelivery = kill, redeliver
    wanted: set[str] = set()
    for n in range(sent):
        lost = 0 < n % 5 < 3
        status = (0, 502, 200, 408)[n % 4] if lost else 202
        one = server.add("push" if n % 10 else "issues", status_code=status, log="/not listed yet")
        wanted.add(one.guid)
        if not lost:
            try:
                assert post(daemon, one) in (200, 202)
            except OSError:
                pass  # the daemon was killed: it is missing, too, and GitHub says otherwise
        one.log = None
        if not daemon.running:
            daemon.start()

    def all_held() -> bool:
        if not daemon.running:
            daemon.start()
        return set(received(daemon)) == wanted

    eventually(all_held, 600 if sent > 1000 else 120, daemon.log_tail())
    assert kills == 0
    assert len(received(daemon)) == sent
    ends = daemon.wait_all_done(timeout=600)
    assert len(ends) == sent // 10 and all(one == ["task.completed"] for one in ends.values())
    assert eventually(lambda: wait_passes(daemon)["states"] == {}, 60)
    rows = daemon.cli_json("ledger")["items"]
    sources = Counter(record["data"]["source"] for record in daemon.records("delivery.received"))
    assert sum(row["listed"] for row in rows) == sent
    came = {state: sum(row[state] for row in rows) for state in ("held", "redelivered", "fetched")}
    assert {"http": came["held"] + came["redelivered"], "import": came["fetched"]} == sources
    assert came["redelivered"] == len(by_redelivery(daemon, server)) and (came["redelivered"] > 0) == (
        mode == "redeliver"
    )
    asked = Counter(guid_of(server, one) for one in server.requests("/attempts"))
    assert set(asked.values()) <= {1} and came["redelivered"] <= len(asked)


def test_a_delivery_by_webhook_by_redelivery_and_by_fetch_at_once_makes_one_task(
    daemon: Daemon, server: GithubLog
) -> None:
    threads: list[threading.Thread] = []

    def at_once() -> None:
        for _ in range(3):
            thread = threading.Thread(target=post, args=(daemon, one))
            thread.start()
            threads.append(thread)

    server.before_detail = at_once
    one = server.add()
    wait_received(daemon, {one.guid})
    for thread in threads:
        thread.join()
    wait_passes(daemon)
    assert threads and received(daemon) == [one.guid]
    assert list(daemon.wait_all_done().values()) == [["task.completed"]]


def test_what_is_fetched_is_verified_and_in_the_order_in_which_github_sent_it(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    daemon = make_daemon(config_of(server, tmp_path, every="1h"))
    eventually(lambda: last_of(daemon), 60, "the one pass of this hour ends")
    at = time.time()
    daemon.stop()
    missed = [server.add(at=at + n / 1000) for n in range(5)]
    server.again(missed[0], at=time.time(), status_code=500)
    daemon.start()
    wait_received(daemon, {one.guid for one in missed})
    assert received(daemon) == [one.guid for one in missed]
    assert {record["data"]["secret"] for record in daemon.records("delivery.received")} == {"env"}
    daemon.cli("verify", "--signatures")
    assert "fetched 5 deliveries that never came" in eventually(
        lambda: daemon.log_tail() if "never came" in daemon.log_tail() else ""
    )


# ---- what is never run without being asked for


def test_beside_another_receiver_nothing_runs_that_was_sent_before(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    old = [server.add(at=time.time() - 60 - n, status_code=(202, 0)[n % 2]) for n in range(4)]
    daemon = make_daemon(config_of(server, tmp_path))
    found = wait_passes(daemon)
    assert found["states"] == {"before_us": 4} and received(daemon) == []
    assert len(server.requests(f"{LOG}/")) == 1  # which hook it is
    lost = server.add()
    wait_received(daemon, {lost.guid})
    told = daemon.cli("reconcile", "--dry-run").stdout.decode()
    assert told.count("before us") == 4
    daemon.cli("reconcile", "--since", "1d", "--yes")
    assert set(received(daemon)) == {lost.guid, *(one.guid for one in old)}


def restored(daemon: Daemon, server: GithubLog, tmp_path: Path) -> tuple[list[Attempt], Attempt]:
    """A daemon on a copy of its data that lacks what came after it: what that is, and one delivery that it has."""
    first = server.add(status_code=202)
    assert post(daemon, first) in (200, 202)
    daemon.wait_all_done()
    wait_passes(daemon)
    daemon.cli("backup", str(tmp_path / "copy"))
    after = [server.add(status_code=202) for _ in range(3)]
    assert {post(daemon, one) for one in after} <= {200, 202}
    daemon.wait_all_done()
    daemon.stop()
    shutil.move(daemon.data, tmp_path / "lost")
    shutil.copytree(tmp_path / "copy", daemon.data)
    return after, first


@pytest.mark.files("a backup is put in place")
def test_after_a_restore_what_is_found_is_held_back_until_an_operator_routes_it(
    daemon: Daemon, server: GithubLog, tmp_path: Path
) -> None:
    after, first = restored(daemon, server, tmp_path)
    guids = {one.guid for one in after}
    daemon.start()
    wait_received(daemon, {first.guid, *guids})
    fresh = server.add()  # what is sent from now on is routed
    wait_received(daemon, {first.guid, *guids, fresh.guid})
    assert len(daemon.wait_all_done()) == 2
    daemon.restart()  # which routes what a crash left without tasks
    (daemon.data / "state.db").unlink()
    daemon.restart()
    wait_passes(daemon)
    held = daemon.cli_json("deliveries", "state:received", "reason:held")["items"]
    assert {one["guid"] for one in held} == guids and len(daemon.wait_all_done()) == 2
    assert {one["reason"] for one in held} == {"held"} and "before this journal was restored" in held[0]["detail"]
    why = daemon.cli("why", after[0].guid).stdout.decode()
    assert "held back" in why and f"covenq reroute {first.headers['X-GitHub-Hook-ID']}/{after[0].guid}" in why
    doctor = daemon.cli("doctor", exit_code=None).stdout.decode()
    status = daemon.cli("status").stdout.decode()
    assert "3 deliveries fetched and held back" in doctor and "held back   3 deliveries" in status
    assert "`covenq reroute` with the same" in status and "`covenq reroute state:received reason:held`" in doctor
    daemon.cli("reroute", "state:received", "reason:held", "--yes")
    assert len(daemon.wait_all_done()) == 5 and status_of(daemon)["waiting"] == 0
    assert daemon.cli_json("deliveries", "reason:held")["items"] == []


@pytest.mark.files("a backup is put in place")
def test_what_was_held_back_supersedes_nothing_that_github_sent_later(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    deploy = '[[route]]\nname = "deploy"\nmatch = "event:push"\nrun = ["true"]\nkey = "{ref}"\nsupersede = "queued"\n'
    daemon = make_daemon(config_of(server, tmp_path, more=deploy))
    wait_passes(daemon, 1)
    push = {"ref": "refs/heads/main", "after": "0" * 39 + "1"}
    restored(daemon, server, tmp_path)
    older = server.add("push", push)
    daemon.start()
    eventually(lambda: older.guid in received(daemon), 60)
    newer = server.add("push", push | {"after": "0" * 39 + "2"})
    eventually(lambda: newer.guid in received(daemon), 60)
    daemon.wait_all_done()
    daemon.cli("reroute", older.guid)
    ((superseded),) = daemon.records("task.superseded")
    (ran,) = [one for one in daemon.cli_json("tasks", "route:deploy")["items"] if one["guid"] == newer.guid]
    assert (superseded["data"]["reason"], superseded["data"]["by_task"]) == ("late", ran["id"])
    assert ran["state"] == "completed"


def test_an_older_push_that_is_fetched_runs_before_a_newer_one_of_its_key_that_waits(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    """Nothing supersedes here: each is to run, and the newest last."""
    deploy = '[[route]]\nname = "deploy"\nmatch = "event:push"\npull = true\nkey = "{ref}"\n'
    daemon = make_daemon(config_of(server, tmp_path, more=deploy))
    wait_passes(daemon, 1)
    push = {"ref": "refs/heads/main", "after": "0" * 39 + "1"}

    def claim() -> tuple[str, Callable[[], Any]]:
        got = daemon.api("/api/v1/claims", "POST", {"worker": "w", "lease_s": 600}).json
        done = {"fence": got["fence"]}
        return got["task"]["guid"], lambda: daemon.api(f"/api/v1/claims/{got['task']['id']}/complete", "POST", done)

    assert daemon.post("push", push, "runs").status == 202
    guid, complete = claim()
    assert guid == "runs"
    between = time.time()
    assert daemon.post("push", push | {"after": "0" * 39 + "2"}, "newer").status == 202
    older = server.add("push", push | {"after": "0" * 39 + "3"}, at=between)
    wait_received(daemon, {"runs", "newer", older.guid})
    assert daemon.api("/api/v1/claims", "POST", {"worker": "w", "lease_s": 600}).status == 204  # the key is in use
    complete()
    started = []
    for _ in range(2):
        guid, complete = claim()
        started.append(guid)
        complete()
    assert started == [older.guid, "newer"]
    assert not daemon.records("task.superseded")


@pytest.mark.files("a backup is put in place")
def test_the_command_holds_back_after_a_restore_too(daemon: Daemon, server: GithubLog, tmp_path: Path) -> None:
    after, _ = restored(daemon, server, tmp_path)
    words = f"{len(after)} of those will be held back".encode()
    assert words in daemon.cli("reconcile", "--since", "1h", "--dry-run").stderr
    assert words in daemon.cli("reconcile", "--since", "1h", exit_code=2).stderr  # before it asks
    listed = daemon.cli_json("reconcile", "--since", "1h", "--yes")["items"]
    assert {row["guid"]: row["state"] for row in listed} == {one.guid: "waiting" for one in after}
    assert "before this journal was restored" in listed[0]["reason"]
    daemon.start()
    wait_passes(daemon)
    assert len(daemon.wait_all_done()) == 1


def test_what_is_older_than_max_age_is_held_back(make_daemon: Make, server: GithubLog, tmp_path: Path) -> None:
    daemon = make_daemon(config_of(server, tmp_path, reconcile='max_age = "1ms"'))
    wait_passes(daemon, 1)
    one = server.add()
    wait_received(daemon, {one.guid})
    (held,) = daemon.cli_json("deliveries", "reason:held")["items"]
    assert "max_age" in held["detail"] and held["tasks"] == []
    assert "held back   1 delivery" in daemon.cli("status").stdout.decode()
    assert f"covenq reroute {held['hook']}/{one.guid} --ignore" in daemon.cli("why", one.guid).stdout.decode()
    daemon.cli("reroute", one.guid, "--ignore", "--reason", "done by hand")
    assert status_of(daemon)["waiting"] == 0 and "held back   " not in daemon.cli("status").stdout.decode()
    (daemon.data / "state.db").unlink()
    daemon.restart()
    wait_passes(daemon)
    found = daemon.cli_json("deliveries", "reason:dismissed")["items"]
    assert [(each["guid"], each["state"], each["tasks"]) for each in found] == [(one.guid, "ignored", [])]
    assert received(daemon) == [one.guid], "it is not fetched again"
    (note,) = daemon.records("delivery.rerouted")
    told = " ".join(daemon.cli("why", one.guid).stdout.decode().split())
    assert "GitHub first sent it" in told and "issues.opened was fetched from GitHub's log and made durable" in told
    assert "it was dismissed by" in told and "done by hand" in told
    assert f"Ignored since {when(note['at'])}" in told


def test_a_tenant_that_was_erased_is_not_fetched(daemon: Daemon, server: GithubLog) -> None:
    payload = {"action": "opened", "repository": {"id": 77, "full_name": "o/r"}, "installation": {"id": 5}}
    tenant = {"repository_id": 77, "installation_id": 5}
    one = server.add(payload=payload, status_code=202, **tenant)
    assert post(daemon, one) in (200, 202)
    daemon.wait_all_done()
    daemon.cli("pause", "intake", "--yes")
    lost = server.add(payload=payload, **tenant)
    daemon.cli("redact", "--repo-id", "77", "--yes")
    other = server.add(repository_id=78)
    daemon.cli("resume", "intake")
    wait_received(daemon, {one.guid, other.guid})
    assert wait_passes(daemon)["states"] == {"erased": 1}
    assert server.requests(f"{LOG}/{lost.id}") == []


# ---- when passes are made


def test_an_intake_that_was_closed_has_a_pass_made_when_it_opens(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    daemon = make_daemon(config_of(server, tmp_path, every="1h"))
    eventually(lambda: last_of(daemon), 60, "the one pass of this hour ends")
    eventually(lambda: status_of(daemon)["drift"])
    daemon.cli("pause", "intake", "--yes")
    eventually(lambda: status_of(daemon)["waits"])
    asked = list(server.asked)
    one = server.add()
    assert post(daemon, one) == 503
    assert server.asked == asked
    daemon.cli("resume", "intake")
    wait_received(daemon, {one.guid})
    assert status_of(daemon)["waits"] is None


def test_a_pause_that_ends_between_two_looks_has_a_pass_made_too(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    daemon = make_daemon(config_of(server, tmp_path, every="1h"))
    eventually(lambda: last_of(daemon), 60, "the one pass of this hour ends")
    one = server.add()
    for act in ("pause", "resume"):
        assert daemon.api(f"/api/v1/{act}", "POST", {"what": "intake"}).status == 200
    wait_received(daemon, {one.guid})


def test_a_reload_begins_passes_and_ends_them(make_daemon: Make, server: GithubLog, tmp_path: Path) -> None:
    daemon = make_daemon(config_of(server, tmp_path, every="0s"))
    assert daemon.config is not None
    eventually(lambda: marks(daemon))  # what came before is known, though no pass is made
    assert server.asked == [] and "no passes by itself" in daemon.cli("status").stdout.decode()
    one = server.add()
    daemon.config.write_text(daemon.config.read_text().replace('every = "0s"', 'every = "1h"'))
    wait_received(daemon, {one.guid})
    other = server.add()
    daemon.config.write_text(daemon.config.read_text().replace('grace = "0s"', 'grace = "0s"\noverlap = "10m"'))
    wait_received(daemon, {one.guid, other.guid})
    daemon.config.write_text(daemon.config.read_text().replace('every = "1h"', 'every = "0s"'))
    eventually(lambda: status_of(daemon)["every_s"] is None)


def test_a_pass_with_fewer_than_a_hundred_attempts_in_its_overlap_is_one_request(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    for n in range(300):
        server.add(at=time.time() - HOUR - n, status_code=202)
    daemon = make_daemon(config_of(server, tmp_path))
    wait_passes(daemon, 1)
    for _ in range(60):
        assert post(daemon, server.add(status_code=202)) in (200, 202)
    found = wait_passes(daemon)
    assert (found["requests"], found["listed"], found["held"]) == (1, 60, 60)
    asked = len(server.asked)
    records = len(marks(daemon))
    wait_passes(daemon, 3)
    assert set(server.asked[asked:]) == {f"GET {LOG}?per_page=100"}
    assert len(marks(daemon)) == records  # nothing changed, and nothing is recorded


def test_what_can_never_be_fetched_is_named_with_its_reason_and_what_to_do(daemon: Daemon, server: GithubLog) -> None:
    lost = server.add(forgotten=True)
    eventually(lambda: last_of(daemon)["unrecoverable"], 60)
    doctor = " ".join(daemon.cli("doctor", exit_code=None).stdout.decode().split())
    assert f"1 delivery can't be fetched: {lost.guid}: GitHub has it no more" in doctor
    assert "Redeliver it by its GUID" in doctor
    planned = daemon.cli_json("reconcile", "--since", "1h", "--dry-run")["items"]
    assert [row["reason"] for row in planned] == ["the daemon could not fetch it: GitHub has it no more"]


# ---- GitHub is away, or slow


def test_github_away_at_the_start_is_told_and_hinders_nothing(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    server.faults = [Fault(404) for _ in range(10_000)]
    daemon = make_daemon(config_of(server, tmp_path))
    found = wait_passes(daemon, 3)
    assert "does not let" in found["error"] and found["hint"] and found["listed"] == 0
    assert daemon.get("/readyz").status == 200 and daemon.post("issues", {"action": "opened"}).status == 202
    assert daemon.log_tail().count(f"does not let {LOG} be read") == 1
    status = daemon.cli("status").stdout.decode()
    assert "did not reach its end" in status and f"app {CLIENT_ID}: not compared yet\n" in status
    doctor = daemon.cli("doctor", exit_code=None).stdout.decode()
    assert "not compared yet; the pass of" in doctor and "did not reach its end" in doctor
    assert "nothing is missing" not in status + doctor and found["finished_at"] is None
    assert "covenq_reconcile_failing 1.0" in daemon.api("/metrics").body.decode()
    lost = server.add()
    server.faults = []
    eventually(lambda: lost.guid in received(daemon), 60)
    eventually(lambda: last_of(daemon)["error"] is None, 60)
    assert "is compared again" in daemon.log_tail()
    metrics = daemon.api("/metrics").body.decode()
    assert "covenq_reconcile_failing 0.0" in metrics and "covenq_reconcile_fetched_total 1.0" in metrics


def test_what_can_not_be_fetched_or_read_is_logged_once(daemon: Daemon, server: GithubLog) -> None:
    gone = server.add(forgotten=True)
    server.add(guid="a.b")  # no token: it could not be recorded
    eventually(lambda: last_of(daemon)["states"] == {"unrecoverable": 1} and last_of(daemon)["unreadable"] == 1, 60)
    wait_passes(daemon, 2)
    (line,) = [one for one in daemon.log_tail().splitlines() if gone.guid in one]
    assert "is not fetched: GitHub has it no more" in line
    assert daemon.log_tail().count("1 item of GitHub's list can't be read, and passed over") == 1


def test_a_log_that_can_not_be_read_keeps_no_other_from_it(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    path = "/repos/o/r/hooks/7/deliveries"
    (tmp_path / "token").write_text("github_pat_x\n")
    server.tokens[path] = "github_pat_x"
    hook = f'[[github.hook]]\nid = 7\nrepo = "o/r"\ntoken = {{ file = "{tmp_path / "token"}" }}\napi_url = "{server.url}"\n'
    server.issuers = ()  # the App's credentials are taken no more
    daemon = make_daemon(config_of(server, tmp_path, more=hook))
    eventually(lambda: [one["last"] is not None for one in status_of(daemon)["logs"]] == [True, True], 60)
    one = server.add(hook="7", log=path)
    wait_received(daemon, {one.guid})
    of_app, of_hook = status_of(daemon)["logs"]
    assert of_app["last"]["error"] and (of_hook["hook"], of_hook["last"]["error"]) == ("7", None)
    assert b"o/r" not in b"".join(journal_lines(daemon.data))
    assert daemon.take_over() == 0
    other = server.add(hook="7", log=path)
    wait_received(daemon, {one.guid, other.guid})


def test_a_walk_that_breaks_off_keeps_its_interval(daemon: Daemon, server: GithubLog) -> None:
    known = server.add()  # whose hook's id is learnt: nothing but pages is asked for then
    wait_received(daemon, {known.guid})
    missed = [server.add(log="/elsewhere") for _ in range(150)]
    wait_passes(daemon)
    before = marks(daemon)
    server.before_page = lambda number: server.faults.extend(
        [Fault(500, on="/deliveries")] * 5
    )  # of the request of the log after it: the second page
    with server.lock:
        for one in missed:
            one.log = None
    assert "answered 500" in eventually(lambda: last_of(daemon)["error"], 60)
    assert "answered 500" in wait_passes(daemon)["error"]
    assert received(daemon) == [known.guid] and marks(daemon) == before
    last, status = last_of(daemon), daemon.cli("status").stdout.decode()
    doctor = daemon.cli("doctor", exit_code=None).stdout.decode()
    assert last["finished_at"] < last["ended_at"] and f"compared at {last['finished_at'][:19]}Z; the pass of" in doctor
    assert re.search(r"compared \S+ ago, and not to the end since\n", status), status
    assert "nothing is missing" not in status + doctor
    server.before_page = lambda number: None
    server.faults = []
    wait_received(daemon, {known.guid, *(one.guid for one in missed)}, 120)


def test_a_daemon_that_waits_for_github_ends_at_once_when_it_is_asked_to(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    asked, answer = threading.Event(), threading.Event()

    def wait(number: int) -> None:
        asked.set()
        answer.wait(60)

    server.before_page = wait
    daemon = make_daemon(config_of(server, tmp_path))
    assert asked.wait(30)
    try:
        assert daemon.stop(timeout=20) == 0  # GitHub's silence is waited for longer
        assert "Traceback" not in daemon.log_tail()
    finally:
        answer.set()


def test_a_key_that_can_not_be_read_is_told_and_mended_without_a_restart(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    config = config_of(server, tmp_path)
    key = (tmp_path / "app.pem").read_bytes()
    (tmp_path / "app.pem").unlink()
    daemon = make_daemon(config)
    found = wait_passes(daemon, 1)
    assert "app.pem" in found["error"] and daemon.get("/readyz").status == 200
    (tmp_path / "app.pem").write_bytes(key)
    (tmp_path / "app.pem").chmod(0o600)
    eventually(lambda: last_of(daemon)["error"] is None, 90)
