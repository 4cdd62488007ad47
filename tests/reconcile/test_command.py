"""`covenq reconcile` against the stand-in for GitHub over real HTTP, with a daemon and without."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support.checkout import ROOT, clean_env
from tests.support.daemon import Daemon
from tests.support.github_log import APP_ID, CLIENT_ID, Fault, GithubLog, app_table, github, guids, new_key
from tests.support.requests import HOOK
from tests.support.terminal import InTerminal

LOG = "/app/hook/deliveries"
HOUR = 3600.0
GOLDEN = ROOT / "tests" / "e2e" / "golden" / "data-0.1.0.tar.xz"


@pytest.fixture(params=["", "/api/v3"], ids=["github.com", "enterprise"])
def server(request: pytest.FixtureRequest) -> Iterator[GithubLog]:
    with github(request.param) as found:
        yield found


@pytest.fixture
def plain() -> Iterator[GithubLog]:
    with github() as found:
        yield found


def config_of(server: GithubLog, directory: Path, *, more: str = "", key: bytes | None = None) -> str:
    return f"""
{app_table(server, directory, key)}
{more}
[reconcile]
every = "0s"
[[route]]
name = "fix"
match = "event:issues"
run = ["true"]
"""


Make = Callable[..., Daemon]


@pytest.fixture
def made(make_daemon: Make, plain: GithubLog, tmp_path: Path) -> Daemon:
    """A daemon that holds one delivery of the App's, which GitHub lists."""
    daemon = make_daemon(config_of(plain, tmp_path))
    held(daemon, plain)
    return daemon


def held(daemon: Daemon, server: GithubLog) -> str:
    one = server.add(at=time.time() - HOUR, status_code=202)
    assert daemon.request("POST", "/webhook", one.body, one.headers).status == 202
    return one.guid


def rows(daemon: Daemon, *args: str, exit_code: int = 0) -> dict[str, dict[str, Any]]:
    said = daemon.cli_json("reconcile", *args, exit_code=exit_code)
    return {row["guid"]: row for row in said["items"]}


def test_what_was_missed_comes_back_and_runs_as_if_it_had_come(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    daemon = make_daemon(config_of(server, tmp_path))
    here = held(daemon, server)
    missed = [server.add(at=time.time() - HOUR + n, status_code=(0, 502, 200)[n % 3]) for n in range(7)]
    server.again(missed[0], at=time.time() - HOUR + 99, status_code=500)
    planned = rows(daemon, "--since", "1d", "--dry-run")
    assert set(planned) == guids(missed) and {one["state"] for one in planned.values()} == {"missing"}
    assert planned[missed[0].guid]["attempts"] == 2 and planned[missed[0].guid]["hook"] == HOOK
    assert len(daemon.records("delivery.received")) == 1
    done = rows(daemon, "--since", "1d", "--yes")
    assert {one["state"] for one in done.values()} == {"fetched"} and all(one["tasks"] for one in done.values())
    assert all(one["verified"] for one in done.values())
    assert {record["data"]["secret"] for record in daemon.records("delivery.received")} == {"env"}
    ends = daemon.wait_all_done()
    assert len(ends) == 8 and all(one == ["task.completed"] for one in ends.values())
    received = [record["data"]["guid"] for record in daemon.records("delivery.received")]
    assert received == [here, *(one.guid for one in missed)]  # in the order in which GitHub first sent them
    again = daemon.cli("reconcile", "--since", "1d", "--yes")
    assert again.stdout == b"" and b"Nothing is missing." in again.stderr
    assert len(daemon.records("delivery.received")) == 8


def test_the_files_are_written_where_no_daemon_runs(made: Daemon, plain: GithubLog) -> None:
    made.stop()
    missed = [plain.add(at=time.time() - HOUR) for _ in range(3)]
    done = rows(made, "--since", "1d", "--yes")
    assert {guid: one["state"] for guid, one in done.items()} == dict.fromkeys(guids(missed), "fetched")
    made.start()
    assert len(made.wait_all_done()) == 4


def test_the_first_day_sets_nothing_running_that_was_sent_before_covenq_was_there(
    made: Daemon, plain: GithubLog
) -> None:
    old = plain.add(at=time.time() - HOUR)
    fresh = plain.add()
    listed = rows(made, "--yes")
    assert {guid: one["state"] for guid, one in listed.items()} == {old.guid: "before_us", fresh.guid: "on_its_way"}
    assert len(made.records("delivery.received")) == 1
    assert rows(made, "--since", "2h", "--yes")[old.guid]["state"] == "fetched"


@pytest.mark.files("a journal of files of an older version")
def test_without_a_time_what_was_sent_since_the_first_record_is_missing(
    make_daemon: Make, plain: GithubLog, tmp_path: Path
) -> None:
    """On a journal whose records are days old: the one of version 0.1.0 that is kept for ever."""
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(tmp_path / "golden", filter="data")
    daemon = make_daemon(config_of(plain, tmp_path), start=False, data=tmp_path / "golden" / "data")
    (first, *_) = daemon.records()
    since = datetime.fromisoformat(first["at"]).timestamp()
    now = time.time()
    lost = plain.add(at=now - HOUR)
    rows_now = rows(daemon, "--dry-run")
    assert {guid: one["state"] for guid, one in rows_now.items()} == {lost.guid: "missing"}
    ago = int((now - since) // 86_400) + 1
    before = plain.add(at=since - 60)
    assert rows(daemon, "--dry-run", "--since", f"{ago + 1}d")[before.guid]["state"] == "missing"
    assert before.guid not in rows(daemon, "--dry-run") or now - since < 3 * 86_400


def test_a_directory_in_which_nothing_ever_was_takes_nothing(
    make_daemon: Make, plain: GithubLog, tmp_path: Path
) -> None:
    daemon = make_daemon(config_of(plain, tmp_path), start=False)
    old = plain.add(at=time.time() - HOUR)
    assert rows(daemon, "--yes")[old.guid]["state"] == "before_us"
    assert not (daemon.data / "journal").exists()


def test_what_was_erased_is_never_fetched(made: Daemon, plain: GithubLog) -> None:
    (first,) = made.records("delivery.received")
    tenant = {"repository_id": 77, "installation_id": 5}
    payload = {"action": "opened", "repository": {"id": 77, "full_name": "o/r"}, "installation": {"id": 5}}
    one = plain.add(payload=payload, at=time.time() - HOUR, status_code=202, **tenant)
    assert made.request("POST", "/webhook", one.body, one.headers).status == 202
    made.wait_all_done()
    lost = plain.add(payload=payload, at=time.time() - HOUR + 1, **tenant)
    of_others = plain.add(at=time.time() - HOUR + 2, repository_id=78)
    made.cli("redact", first["data"]["guid"])
    made.cli("redact", "--repo-id", "77", "--yes")
    listed = rows(made, "--since", "1d", "--yes")
    assert {guid: row["state"] for guid, row in listed.items()} == {lost.guid: "erased", of_others.guid: "fetched"}
    assert plain.requests(f"{LOG}/{lost.id}") == []


def test_without_the_hooks_id_nothing_counts_as_held_and_nothing_comes_twice(
    made: Daemon, plain: GithubLog, tmp_path: Path
) -> None:
    for one in plain.attempts:
        one.headers_kept = False
    # The client id alone says nothing of what is held.
    config = made.config
    assert config is not None
    config.write_text(config.read_text().replace(f"id = {APP_ID}\n", "", 1))
    said = made.cli_json("reconcile", "--since", "1d", "--dry-run")
    assert [row["state"] for row in said["items"]] == ["missing"] and said["logs"][0]["hook"] is None
    plain.attempts[0].headers_kept = True
    plain.attempts[0].status_code = 202
    said = made.cli_json("reconcile", "--since", "1d", "--dry-run")
    assert said["items"] == [] and said["logs"][0]["requests"] == 2
    assert len(made.records("delivery.received")) == 1


def test_a_filter_and_a_time_choose(made: Daemon, plain: GithubLog) -> None:
    plain.add("push", {"ref": "refs/heads/main"}, at=time.time() - 5 * HOUR)
    push = plain.add("push", {"ref": "refs/heads/main"}, at=time.time() - 2 * HOUR)
    plain.add("issues", at=time.time() - 2 * HOUR)
    assert set(rows(made, "--since", "3h", "--dry-run", "event:push")) == {push.guid}
    assert set(rows(made, "--since", "3h", "--dry-run", "-event:issues")) == {push.guid}
    said = made.cli("reconcile", "repo:o/r", exit_code=2)
    assert b"says nothing of repo" in said.stderr and b"repo_id" in said.stderr
    made.cli("reconcile", "--since", "soon", exit_code=2)
    made.cli("reconcile", "--since", "0s", exit_code=2)


def test_what_can_not_be_recovered_is_told_with_its_reason_and_is_no_failure(made: Daemon, plain: GithubLog) -> None:
    at = time.time() - HOUR
    cases = {
        plain.add(at=at, headers_kept=False).guid: "headers",
        plain.add(at=at, payload_kept=False).guid: "payload",
        plain.add(at=at, forgotten=True).guid: "has it no more",
    }
    good = plain.add(at=at + 1)
    done = rows(made, "--since", "1d", "--yes")
    for guid, words in cases.items():
        assert done[guid]["state"] == "unrecoverable" and words in done[guid]["reason"]
    assert done[good.guid]["state"] == "fetched"
    said = made.cli("reconcile", "--since", "1d", "--yes").stderr.decode()
    assert "3 deliveries can't be recovered" in said and "GitHub has it no more" in said


def test_several_are_asked_about_and_one_is_not(made: Daemon, plain: GithubLog) -> None:
    at = time.time() - HOUR
    first = plain.add(at=at)
    assert rows(made, "--since", "1d")[first.guid]["state"] == "fetched"
    plain.add(at=at)
    plain.add(at=at)
    said = made.cli("reconcile", "--since", "1d", exit_code=2)
    assert b"fetch 2 deliveries" in said.stderr and b"--dry-run" in said.stderr
    plan = said.stderr.decode()
    assert "eligible  2 deliveries; the oldest was first sent 1h ago\n  2  " in plan, (
        "by event and answer, before the question"
    )
    assert plan.index("eligible") < plan.index("fetch 2 deliveries")
    eligible = plan[plan.index("eligible") :].splitlines()[:2]
    assert "\n".join(eligible) in made.cli("reconcile", "--since", "1d", "--dry-run").stderr.decode()
    assert len(made.records("delivery.received")) == 2


def test_a_table_and_lines_say_the_same(made: Daemon, plain: GithubLog) -> None:
    one = plain.add(at=time.time() - HOUR)
    (line,) = made.cli("reconcile", "--since", "1d", "--dry-run", "--jsonl").stdout.decode().splitlines()
    assert (json.loads(line)["guid"], json.loads(line)["state"]) == (one.guid, "missing")
    head, row = made.cli("reconcile", "--since", "1d", "--dry-run").stdout.decode().splitlines()
    assert head.startswith("FIRST SENT") and one.guid in row and row.endswith("missing")
    said = made.cli_json("reconcile", "--since", "1d", "--dry-run")
    newest_at = said["logs"][0].pop("newest_at")
    assert abs(datetime.fromisoformat(newest_at).timestamp() - max(each.at for each in plain.attempts)) < 1
    assert said["logs"][0] == {
        "log": f"app {CLIENT_ID}", "hook": HOOK, "listed": 2, "held": 1, "unreadable": 0, "requests": 1, "error": None,
    }  # fmt: skip


def test_hooks_of_repositories_are_read_by_their_tokens(make_daemon: Make, plain: GithubLog, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("github_pat_x\n")
    path = f"/repos/o/r/hooks/{HOOK}/deliveries"
    plain.tokens[path] = "github_pat_x"
    daemon = make_daemon(
        f'[[github.hook]]\nid = {HOOK}\nrepo = "o/r"\ntoken = {{ file = "{token}" }}\napi_url = "{plain.url}"\n'
        '[reconcile]\nevery = "0s"\n'
    )
    one = plain.add(at=time.time() - HOUR)
    assert rows(daemon, "--since", "1d")[one.guid]["state"] == "fetched"
    assert [asked.split("?")[0] for asked in plain.asked] == [f"GET {path}", f"GET {path}/{one.id}"]
    plain.tokens[path] = "another"
    said = daemon.cli("reconcile", exit_code=4)
    assert f"token ({token}) of the hook of o/r" in said.stderr.decode()
    assert b"did not take the credentials" in said.stderr and b"github_pat" not in said.stderr + said.stdout


def test_what_no_secret_here_signed_is_taken_and_said_to_be_unverified(made: Daemon, plain: GithubLog) -> None:
    one = plain.add(at=time.time() - HOUR)
    one.headers["X-Hub-Signature-256"] = "sha256=" + "0" * 64
    said = made.cli("reconcile", "--since", "1d", "--jsonl")
    assert json.loads(said.stdout)["verified"] is False and b"1 of those unverified" in said.stderr
    assert made.records("delivery.received")[-1]["data"]["secret"] is None
    why = made.cli("why", one.guid).stdout.decode()
    assert "shown by no signature" in why and "vouches" not in why


def test_what_the_door_would_not_let_in_is_refused_with_its_reason(
    make_daemon: Make, plain: GithubLog, tmp_path: Path
) -> None:
    more = '[github]\nhooks = ["7"]\n'
    daemon = make_daemon(more + config_of(plain, tmp_path), start=False)
    other, good = plain.add(at=time.time() - HOUR), plain.add(at=time.time() - HOUR, hook="7")
    done = rows(daemon, "--since", "1d", "--yes")
    assert (done[other.guid]["state"], done[good.guid]["state"]) == ("refused", "fetched")
    assert "[github] hooks" in done[other.guid]["reason"]


def test_nothing_is_fetched_while_the_intake_is_paused(made: Daemon, plain: GithubLog) -> None:
    one = plain.add(at=time.time() - HOUR)
    said = made.cli("pause", "intake", "--yes").stderr.decode()
    assert "`covenq reconcile` fetches from its delivery log once the intake is open" in said and "is lost" not in said
    assert made.post("issues", {"action": "opened"}).status == 503
    assert "It is fetched from GitHub's delivery log" in made.cli_json("refused")["items"][0]["hint"]
    assert rows(made, "--since", "1d", "--dry-run")[one.guid]["state"] == "missing"
    said = made.cli("reconcile", "--since", "1d", "--yes", exit_code=4)
    assert b"paused the intake" in said.stderr and plain.requests(f"{LOG}/") == []
    assert b"`covenq reconcile` fetches" in made.cli("resume", "intake").stderr
    assert rows(made, "--since", "1d", "--yes")[one.guid]["state"] == "fetched"


# ---- an outage, and commands that end in the middle


@pytest.mark.parametrize(
    ("sent", "kills"),
    [(250, 3), pytest.param(5000, 50, marks=pytest.mark.deep)],
    ids=["a few hundred", "five thousand"],
)
def test_an_outage_ends_with_every_delivery_held_once_wherever_a_run_is_killed(
    made: Daemon, plain: GithubLog, sent: int, kills: int
) -> None:
    """40 % are missed: what failed, what nothing answered, and what GitHub lists as accepted. A run is killed at a detail."""
    at = time.time() - HOUR
    missed: list[str] = []
    for n in range(sent):
        lost = n % 5 < 2
        one = plain.add(
            "push" if n % 10 else "issues", at=at + n / 10, status_code=(0, 502, 200, 408)[n % 4] if lost else 202
        )
        if lost:
            missed.append(one.guid)
        else:
            assert made.post(one.headers["X-GitHub-Event"], one.body, one.guid).status == 202
    chosen = Random(sent)
    details = 0
    for killed_at in [chosen.randint(1, 100) for _ in range(kills)]:  # 64 are recorded at once
        process = subprocess.Popen(
            [sys.executable, "-m", "covenq", "reconcile", "--since", "1d", "--yes"],
            env=made.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT,
        )  # fmt: skip
        details = 0

        def kill(process: subprocess.Popen[bytes] = process, killed_at: int = killed_at) -> None:
            nonlocal details
            details += 1
            if details == killed_at:
                process.kill()

        plain.before_detail = kill
        assert process.wait(120) == (-9 if details >= killed_at else 0)
    plain.before_detail = lambda: None
    done = rows(made, "--since", "1d", "--yes")
    assert set(done) <= set(missed) and {one["state"] for one in done.values()} == {"fetched"}
    received = [record["data"]["guid"] for record in made.records("delivery.received")]
    assert len(received) == len(set(received)) == sent + 1 and set(missed) <= set(received)
    ends = made.wait_all_done(timeout=600)
    assert len(ends) == sent // 10 + 1 and all(one == ["task.completed"] for one in ends.values())
    assert rows(made, "--since", "1d", "--yes") == {}


def test_an_interrupted_fetch_says_how_far_it_came_and_the_next_run_does_the_rest(
    made: Daemon, plain: GithubLog
) -> None:
    missed = [plain.add(at=time.time() - HOUR + n, payload={"n": n, "pad": "x" * 1_100_000}) for n in range(5)]
    process = subprocess.Popen(
        [sys.executable, "-m", "covenq", "reconcile", "--since", "1d", "--yes"],
        env=made.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    asked: list[int] = []

    def interrupt() -> None:
        asked.append(1)
        if len(asked) == 4:  # two of these are a batch
            process.send_signal(signal.SIGINT)
            process.wait(60)

    plain.before_detail = interrupt
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and b"Interrupted: 2 of 5 deliveries fetched" in said
    plain.before_detail = lambda: None
    assert len(rows(made, "--since", "1d", "--yes")) == 3
    received = [record["data"]["guid"] for record in made.records("delivery.received")]
    assert received[1:] == [one.guid for one in missed]


def test_one_event_by_two_hooks_is_two_deliveries(make_daemon: Make, plain: GithubLog, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("github_pat_x\n")
    path = "/repos/o/r/hooks/7/deliveries"
    plain.tokens[path] = "github_pat_x"
    hook = f'[[github.hook]]\nid = 7\nrepo = "o/r"\ntoken = {{ file = "{token}" }}\n'
    daemon = make_daemon(config_of(plain, tmp_path, more=hook), start=False)
    of_app = plain.add(at=time.time() - HOUR, log=LOG)
    of_hook = plain.add(guid=of_app.guid, at=time.time() - HOUR, hook="7", log=path)
    said = daemon.cli_json("reconcile", "--since", "1d", "--yes")
    assert sorted((row["hook"], row["state"]) for row in said["items"]) == [("446581321", "fetched"), ("7", "fetched")]
    assert of_hook.guid == of_app.guid and len(daemon.records("delivery.received")) == 2
    assert daemon.cli_json("reconcile", "--since", "1d")["items"] == []


# ---- GitHub is slow, away, or out of patience


def test_a_walk_that_does_not_reach_its_end_says_nothing_of_what_is_missing(made: Daemon, plain: GithubLog) -> None:
    for _ in range(150):
        plain.add(at=time.time() - HOUR)
    plain.faults += [Fault(404, on="never")]
    faults = [Fault(500, on="/deliveries", whole=True)] * 3
    plain.before_page = lambda number: plain.faults.extend(faults) if number == 0 else None
    said = made.cli("reconcile", "--since", "1d", "--yes", exit_code=1)
    assert said.stdout == b"" and b"answered 500, 3 times" in said.stderr
    assert len(made.records("delivery.received")) == 1
    told = [line for line in said.stderr.decode().splitlines() if ", try " in line]
    assert told == [
        f"GitHub is asked again in {wait}, try {number} of 3: 127.0.0.1 answered 500."
        for number, wait in ((2, "1s"), (3, "2s"))
    ]


def test_where_github_is_away_each_try_is_told_and_there_are_three(made: Daemon, plain: GithubLog) -> None:
    asked = len(plain.asked)
    plain.server_close()
    said = made.cli("reconcile", "--since", "1d", exit_code=1).stderr.decode()
    assert said.count("GitHub is asked again in ") == 2 and "try 3 of 3: 127.0.0.1 takes no connection.\n" in said
    assert len(plain.asked) == asked


def test_at_a_terminal_it_shows_what_is_asked(made: Daemon, plain: GithubLog) -> None:
    for _ in range(250):
        plain.add(at=time.time() - HOUR, status_code=202)
    seen = InTerminal(made, "reconcile", "--since", "1d", "--dry-run", COLUMNS="140")
    assert seen.code == 0 and f"asking GitHub for the log of app {CLIENT_ID}" in seen.said
    assert "asking GitHub" not in made.cli("reconcile", "--since", "1d", "--dry-run").stderr.decode()


def test_cursors_that_are_refused_start_the_walk_over_and_say_so(made: Daemon, plain: GithubLog) -> None:
    missed = [plain.add(at=time.time() - HOUR) for _ in range(250)]
    plain.refused_cursors = 2
    said = made.cli("reconcile", "--since", "1d", "--dry-run", "--jsonl")
    assert {json.loads(line)["guid"] for line in said.stdout.splitlines()} == guids(missed)
    assert said.stderr.count(b"starts over") == 2


def test_what_comes_between_two_pages_hides_nothing_and_what_is_listed_late_comes_with_the_next_pass(
    made: Daemon, plain: GithubLog
) -> None:
    missed = [plain.add(at=time.time() - HOUR) for _ in range(250)]
    late = plain.add(at=time.time() - HOUR - 1, listed_after=10)
    plain.before_page = lambda number: [plain.add(at=time.time() - HOUR + 9) for _ in range(3)] and None
    assert guids(missed) <= set(rows(made, "--since", "1d", "--dry-run")) and plain.listed == 3
    plain.listed = 10
    assert late.guid in rows(made, "--since", "1d", "--dry-run")


def test_the_link_is_never_followed_to_another_host(made: Daemon, plain: GithubLog) -> None:
    missed = [plain.add(at=time.time() - HOUR) for _ in range(150)]
    with github() as other:
        plain.link_host = other.url
        assert set(rows(made, "--since", "1d", "--dry-run")) == guids(missed)
        assert other.asked == []


def test_the_budget_ends_a_fetch_and_the_next_run_does_the_rest(made: Daemon, plain: GithubLog) -> None:
    missed = [plain.add(at=time.time() - HOUR + n) for n in range(12)]
    plain.remaining = 16
    done = rows(made, "--since", "1d", "--yes", exit_code=1)
    states = [done[one.guid]["state"] for one in missed]
    assert states == ["fetched"] * 8 + ["open"] * 4
    assert len(made.records("delivery.received")) == 9
    plain.remaining = None
    done = rows(made, "--since", "1d", "--yes")
    assert len(done) == 4 and {one["state"] for one in done.values()} == {"fetched"}


def test_what_a_route_surely_matches_is_fetched_first_with_what_was_sent_before_in_its_repository(
    made: Daemon, plain: GithubLog
) -> None:
    now = time.time()
    events = [("fork", 1), ("fork", 2), ("issues", 1), ("fork", 1), ("fork", 3), ("issues", 4)]
    missed = [
        plain.add(event, at=now - HOUR + n, repository_id=repo).guid for n, (event, repo) in enumerate(events * 2)
    ]
    plain.remaining = 16
    done = rows(made, "--since", "1d", "--yes", exit_code=1)
    assert [n for n, guid in enumerate(missed) if done[guid]["state"] == "open"] == [4, 7, 9, 10]
    assert [one["data"]["guid"] for one in made.records("delivery.received")[1:]] == [
        missed[n] for n in (0, 2, 3, 5, 6, 8, 11, 1)
    ]


def test_a_delivery_that_came_since_it_was_planned_is_held_once(made: Daemon, plain: GithubLog) -> None:
    one = plain.add(at=time.time() - HOUR)
    assert rows(made, "--since", "1d", "--dry-run")[one.guid]["state"] == "missing"
    posted: list[int] = []
    # It comes by webhook when its detail is asked for: after the comparison, and before it is imported.
    plain.before_detail = lambda: posted.append(made.request("POST", "/webhook", one.body, one.headers).status)
    assert rows(made, "--since", "1d", "--yes")[one.guid]["state"] == "held"
    assert posted == [202] and len(made.records("delivery.received")) == 2
    assert len(made.wait_all_done()) == 2


# ---- what is said where it can't work


def test_people_read_held_of_what_is_held_back_alone(made: Daemon, plain: GithubLog) -> None:
    """JSON says `held` of what is here, and `waiting` of what is held back."""
    one = plain.add(at=time.time() - HOUR)
    plain.before_detail = lambda: made.request("POST", "/webhook", one.body, one.headers) and None
    said = made.cli("reconcile", "--since", "1d", "--yes")
    text = (said.stdout + said.stderr).decode()
    assert re.search(rf"{one.guid} +in the journal\n", text) and "1 delivery in the journal already." in text
    assert "1 of deliveries in the journal" in text and "held" not in text


def test_a_dry_run_says_the_command_that_fetches_the_same(made: Daemon, plain: GithubLog) -> None:
    plain.add("push", {"ref": "refs/heads/main"}, at=time.time() - HOUR)
    said = made.cli("reconcile", "--since", "2h", "--dry-run", "event:push").stderr.decode()
    assert "1 delivery missing: `covenq reconcile --since 2h event:push` fetches" in said
    assert b"Nothing is missing." in made.cli("reconcile", "event:issues", "--dry-run").stderr


def test_what_is_not_configured_is_said_with_what_to_write(make_daemon: Make) -> None:
    daemon = make_daemon("[log]\n", start=False)
    said = daemon.cli("reconcile", exit_code=2)
    assert b"names no delivery log" in said.stderr and b"covenq init --github-app" in said.stderr


def test_another_apps_key_is_refused_and_nothing_shows_it(make_daemon: Make, plain: GithubLog, tmp_path: Path) -> None:
    pem, _ = new_key()
    daemon = make_daemon(config_of(plain, tmp_path, key=pem), start=False)
    said = daemon.cli("reconcile", "--json", exit_code=4)
    shown = said.stdout + said.stderr
    assert b"did not take the credentials" in said.stderr
    assert f"the App's id ({CLIENT_ID}) and private key ({tmp_path / 'app.pem'})" in said.stderr.decode()
    assert b"eyJ" not in shown and pem.splitlines()[1] not in shown and b"Bearer" not in shown


def test_without_the_extra_one_sentence_says_what_to_install(plain: GithubLog, tmp_path: Path) -> None:
    config = tmp_path / "covenq.toml"
    config.write_text(config_of(plain, tmp_path))
    program = (
        "import sys\nsys.modules['cryptography'] = None\nsys.argv = ['covenq', 'reconcile']\n"
        "from covenq.cli.main import main\nmain()\n"
    )
    env = clean_env(COVENQ_CONFIG=str(config), COVENQ_DATA=str(tmp_path / "data"))
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 4 and "Traceback" not in done.stderr
    assert "not installed" in done.stderr and "covenq[github]" in done.stderr


def test_no_record_and_no_log_has_what_authorises(made: Daemon, plain: GithubLog) -> None:
    plain.add(at=time.time() - HOUR)
    said = made.cli("reconcile", "--since", "1d")
    made.stop()
    tokens = {seen["authorization"] for seen in plain.seen_headers}
    assert tokens and all(one.startswith("Bearer eyJ") for one in tokens)
    kept = b"".join(path.read_bytes() for path in made.data.rglob("*") if path.is_file())
    kept += made.log.read_bytes() + said.stdout + said.stderr
    assert not [one for one in tokens if one.encode() in kept or one.removeprefix("Bearer ").encode()[:60] in kept]
    for word in (b"Bearer", b"eyJhbGciOi"):
        assert word not in kept, kept[kept.index(word) - 200 :][:400]
    assert plain.private_key.splitlines()[1] not in kept


# ---- how much it costs


def test_five_thousand_are_compared_in_few_requests_and_little_of_a_processor(made: Daemon, plain: GithubLog) -> None:
    at = time.time() - HOUR
    for n in range(5000):
        plain.add(at=at + n / 100)
    said = made.cli_json("reconcile", "--since", "1d", "--dry-run")
    assert len(said["items"]) == 5000
    assert said["logs"][0]["requests"] <= 60


def test_a_pass_with_fewer_than_a_hundred_attempts_is_one_request(made: Daemon, plain: GithubLog) -> None:
    for _ in range(80):
        plain.add(at=time.time() - HOUR)
    assert made.cli_json("reconcile", "--since", "1d", "--dry-run")["logs"][0]["requests"] == 1
    assert len(plain.asked) == 1
