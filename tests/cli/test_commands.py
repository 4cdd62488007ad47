"""The commands on a real daemon, and on what it left behind: reading, acting, sending, verifying. Real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.journal_json import records, segments
from tests.support.journals.chosen import open_chosen
from tests.support.records import received
from tests.support.requests import HOOK, issue, new_guid
from tests.support.terminal import InTerminal
from tests.support.waiting import eventually

Make = Callable[..., Daemon]

CONFIG = """
[[route]]
name = "issues"
match = "event:issues"
run = ["sh", "-c", "test ! -e \\"$0\\"", "BROKEN"]

[[route]]
name = "pushes"
match = "event:push"
run = ["cat"]
"""

HOSTILE = "\x1b[2J\x1b]0;owned\x07 \u202etxt.exe \x9b31m"


@pytest.fixture(scope="module")
def past(journal_engine: None) -> Iterator[Daemon]:
    """A stopped daemon's directory: 12 issues (number 3 failed), a push that came twice, an unwanted star."""
    with tempfile.TemporaryDirectory(prefix="cq-") as name:
        directory = Path(name)
        config = directory / "covenq.toml"
        config.write_text('[[route]]\nname = "issues"\nmatch = "event:issues"\n' + FAILS_ON_3 + PUSHES)
        daemon = Daemon(data=directory / "data", config=config).start()
        try:
            for number in range(1, 13):
                title = HOSTILE if number == 5 else f"Issue {number}"
                payload = issue(number)
                payload["issue"]["title"] = title
                payload["sender"]["login"] = HOSTILE if number == 5 else "octocat"
                assert daemon.post("issues", payload).status == 202
            guid = new_guid()
            for _ in range(2):
                daemon.post(
                    "push", {"ref": "refs/heads/main", "repository": {"id": 1, "full_name": "octo/hello"}}, guid
                )
            daemon.post("star", {"action": "created", "repository": {"id": 1, "full_name": "octo/hello"}})
            daemon.wait_all_done()
            assert daemon.stop() == 0, daemon.log_tail()
            yield daemon
        finally:
            daemon.kill()


FAILS_ON_3 = """run = ["sh", "-c", "if grep -q '\\"number\\":3,'; then printf 'no \\\\033[2Jthree' >&2; exit 1; fi"]
"""
PUSHES = '[[route]]\nname = "pushes"\nmatch = "event:push"\nrun = ["cat"]\n'


def items(daemon: Daemon, *args: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.cli_json(*args)["items"]
    return found


def failed_task(daemon: Daemon) -> dict[str, Any]:
    [task] = items(daemon, "tasks", "state:failed")
    return task


# Reading


def test_lists_as_a_table_as_json_and_as_json_lines_say_the_same(past: Daemon) -> None:
    for command, count in (("deliveries", 14), ("tasks", 13)):
        found = items(past, command)
        assert len(found) == count
        lines = past.cli(command, "--jsonl").stdout.splitlines()
        assert [json.loads(line) for line in lines] == found
        rows = past.cli(command).stdout.decode().splitlines()
        assert [row.split()[0] for row in rows[1:]] == [item.get("id") or item["guid"] for item in found]


def test_words_of_a_filter_reach_it_a_dash_before_them_too(past: Daemon) -> None:
    assert [task["number"] for task in items(past, "tasks", "route:issues", "state:failed")] == [3]
    assert len(items(past, "tasks", "-state:failed")) == 12
    assert len(items(past, "tasks", "not:state:failed", "-number:7")) == 11
    assert [one["event"] for one in items(past, "deliveries", "-event:issues,push")] == ["star"]
    assert items(past, "deliveries", "event:issues", "-label:bug") == []
    assert len(past.cli("deliveries", "--jsonl", "--", "-event:star").stdout.splitlines()) == 13
    done = past.cli("deliveries", "evnt:push", exit_code=2)
    assert b"event" in done.stderr
    assert b"column 1" in done.stderr


def test_pages_are_walked_with_next_and_limit_0_is_all(past: Daemon) -> None:
    whole = past.cli_json("deliveries", "--limit", "0")
    assert whole["next"] is None
    assert len(whole["items"]) == 14
    walked: list[dict[str, Any]] = []
    after: list[str] = []
    while True:
        page = past.cli_json("deliveries", "--limit", "5", *after)
        walked += page["items"]
        if page["next"] is None:
            break
        after = ["--after", page["next"]]
    assert walked == whole["items"]
    assert b"--after" in past.cli("deliveries", "--limit", "5").stderr


def test_nothing_that_matches_is_said_and_is_no_failure(past: Daemon) -> None:
    done = past.cli("deliveries", "event:release")
    assert done.stdout == b""
    assert b"No delivery matches" in done.stderr
    assert past.cli_json("deliveries", "event:release") == {"items": [], "next": None}
    assert past.cli("deliveries", "event:release", "--jsonl").stdout == b""


def test_show_tells_a_delivery_its_tasks_and_their_attempts(past: Daemon) -> None:
    task = failed_task(past)
    guid = task["guid"]
    shown = past.cli_json("show", guid)
    assert (shown["guid"], shown["number"], shown["state"], shown["tasks"]) == (guid, 3, "failed", [task["id"]])
    assert ["X-GitHub-Event", "issues"] in [[name, value] for name, value in shown["headers"]]
    [attempt] = shown["task_objects"][0]["attempt_objects"]
    assert (attempt["category"], attempt["exit_code"]) == ("exit", 1)
    words = past.cli("show", f"{HOOK}/{guid}").stdout.decode()
    for word in (guid, task["id"], "X-GitHub-Event: issues", "octo/hello", "failed", "issues", "octocat", "exit"):
        assert word in words
    assert "no \\x1b[2Jthree" in words, "what it said on stderr, harmless"
    assert past.cli_json("show", task["id"]) == shown["task_objects"][0]
    assert f"delivery     {HOOK}/{guid}" in past.cli("show", task["id"]).stdout.decode()


def test_show_payload_is_the_received_bytes_and_nothing_else(past: Daemon) -> None:
    task = failed_task(past)
    [line] = [record for record in records(past.data, "delivery.received") if record["data"]["guid"] == task["guid"]]
    for id in (task["guid"], task["id"]):
        body = past.cli("show", id, "--payload").stdout
        assert json.loads(body) == line["payload"]
        assert len(body) == line["payload_bytes"]


def test_what_is_not_there_exits_3_and_what_is_no_id_2(past: Daemon) -> None:
    assert b"no delivery" in past.cli("show", new_guid(), exit_code=3).stderr
    past.cli("show", "t" + "0" * 24, exit_code=3)
    past.cli("show", "../../etc/passwd", exit_code=2)
    past.cli("replay", new_guid(), exit_code=3)
    past.cli("requeue", "t" + "0" * 24, exit_code=3)


def test_hostile_text_moves_no_terminal(past: Daemon) -> None:
    [hostile] = items(past, "deliveries", "number:5")
    assert hostile["sender"] == HOSTILE
    for args in (
        ["deliveries"],
        ["tasks"],
        ["show", hostile["guid"]],
        ["deliveries", "--json"],
        ["show", hostile["guid"], "--json"],
    ):
        shown = InTerminal(past, *args)
        assert shown.code == 0
        plain = re.sub(r"\x1b\[[0-9;]+m", "", shown.said)  # our own colours
        assert not set(plain) & {"\x1b", "\x07", "\x9b", "\u202e"}, args


def test_colours_come_with_a_terminal_alone(past: Daemon) -> None:
    assert "\x1b[1;91mfailed" in InTerminal(past, "tasks").said, "bright red, and bold"
    assert "\x1b" not in InTerminal(past, "tasks", NO_COLOR="1").said
    assert "\x1b" not in InTerminal(past, "tasks", TERM="dumb").said
    assert b"\x1b" not in past.cli("tasks", env={"NO_COLOR": ""}).stdout


def test_a_pipe_that_closes_early_is_no_traceback(past: Daemon) -> None:
    read, write = os.pipe()
    os.close(read)
    for args in (
        ["deliveries"],
        ["deliveries", "--jsonl", "--limit", "0"],
        ["status"],
        ["show", failed_task(past)["guid"], "--payload"],
    ):
        command = [sys.executable, "-m", "covenq", *args]
        done = subprocess.run(command, env=past.environment(), stdout=write, stderr=subprocess.PIPE, timeout=60)
        code = 6 if args == ["status"] else 1  # whose code is what it found, whoever reads it
        assert (done.returncode, done.stderr) == (code, b""), args
    os.close(write)


def test_status_without_a_daemon_reads_the_files(past: Daemon) -> None:
    found = past.cli_json("status", exit_code=6)
    assert (found["ready"], found["pid"]) == (False, None)
    assert sum(found["deliveries"].values()) == 14
    words = past.cli("status", exit_code=6).stdout.decode()
    assert words.startswith("NO DAEMON   no daemon runs")
    assert past.cli("status", "--exit-zero").stdout.decode().startswith("NO DAEMON")
    assert past.cli_json("status", "--exit-zero")["pid"] is None
    assert "completed 12, failed 1" in words


def test_status_with_a_daemon_says_where_and_how_it_is(make_daemon: Make) -> None:
    daemon = make_daemon()
    found = daemon.cli_json("status")
    assert (found["ready"], found["pid"], found["webhook_url"]) == (True, daemon.pid, f"{daemon.url}/webhook")
    words = daemon.cli("status").stdout.decode()
    assert words.startswith("READY ")
    for word in (
        str(daemon.pid),
        f"{daemon.url}/webhook",
        str(daemon.data),
        "none: every delivery is kept and ignored",
    ):
        assert word in words


# Verifying


def test_verify_proves_the_journal_and_the_head_noted_before(past: Daemon) -> None:
    found = past.cli_json("verify")
    assert (found["ok"], found["damage"]) == (True, [])
    assert found["records"] == found["head"]["seq"]
    head = past.cli("verify", "--head").stdout.decode().strip()
    assert head == f"{found['head']['seq']}:{found['head']['sum']}"
    assert past.cli("verify", "--expect", head).stdout.decode().startswith("ok, ")
    other = past.cli("verify", "--expect", f"{found['head']['seq']}:{'0' * 64}", exit_code=5)
    assert b"not the one noted" in other.stdout
    past.cli("verify", "--expect", f"{found['head']['seq'] + 1}:{'0' * 64}", exit_code=5)


@pytest.mark.files("a byte is damaged on disk")
def test_verify_names_damage_and_exits_5(make_daemon: Make) -> None:
    daemon = make_daemon()
    guid = new_guid()
    daemon.post("issues", issue(), guid)
    daemon.post("issues", issue(8))
    assert daemon.cli_json("verify")["ok"] is True, "beside a running daemon"
    assert daemon.stop() == 0
    [segment] = segments(daemon.data)
    content = bytearray(segment.read_bytes())
    content[content.index(b"It does not work")] ^= 1
    segment.write_bytes(bytes(content))
    report = daemon.cli_json("verify", exit_code=5)
    assert report["ok"] is False
    [damage, *_] = report["damage"]
    assert (damage["segment"], damage["delivery"]) == (segment.name, f"{HOOK}/{guid}")
    words = daemon.cli("verify", exit_code=5)
    assert segment.name.encode() in words.stdout
    assert guid.encode() in words.stdout
    assert segment.read_bytes() == bytes(content), "nothing is mended unasked"


def test_where_nothing_ever_was_is_told_with_its_path(make_daemon: Make) -> None:
    daemon = make_daemon(start=False)
    assert b"no journal" in daemon.cli("verify", exit_code=3).stderr
    for args in (["deliveries"], ["tasks", "state:failed"]):
        done = daemon.cli(*args)
        assert done.stdout == b""
        assert f"Nothing was ever received in {daemon.data}" in done.stderr.decode()
    assert not daemon.data.exists(), "looking makes nothing"


# Acting


@pytest.fixture
def acted(make_daemon: Make, tmp_path: Path) -> Daemon:
    """A running daemon on which three issues failed, because a file is there, and one push completed."""
    broken = tmp_path / "broken"
    broken.touch()
    daemon = make_daemon(CONFIG.replace("BROKEN", str(broken)))
    for number in (1, 2, 3):
        daemon.post("issues", issue(number))
    daemon.post("push", {"ref": "refs/heads/main", "repository": {"id": 1, "full_name": "octo/hello"}})
    daemon.wait_all_done()
    broken.unlink()
    return daemon


def test_what_is_no_text_is_refused_and_not_sent(acted: Daemon) -> None:
    for words in (
        ["why"], ["show"], ["deliveries"], ["tasks"], ["tail"], ["stats"], ["tasks", "--after"], ["cancel"], ["replay"],
        ["requeue", "state:failed", "--yes", "--reason"], ["pause", "route"],
    ):  # fmt: skip
        told = acted.cli(*words, "a\udcff", exit_code=2).stderr
        assert told.startswith(b"covenq: "), told
        assert told.count(b"\n") == 2
        assert rb"'a\xff' is not UTF-8" in told
    assert not acted.records("task.requeued")


def states(daemon: Daemon) -> list[str]:
    return sorted(task["state"] for task in items(daemon, "tasks", "--limit", "0"))


def completed(daemon: Daemon, count: int) -> None:
    eventually(lambda: states(daemon) == ["completed"] * count, 30, f"{count} completed tasks")


@pytest.mark.parametrize("running", [True, False], ids=["daemon", "files"])
def test_one_id_acts_at_once_and_is_kept_with_its_reason(acted: Daemon, running: bool) -> None:
    if not running:
        assert acted.stop() == 0
    [task] = items(acted, "tasks", "number:1")
    done = acted.cli("requeue", task["id"], "--reason", "mended")
    assert done.stdout.decode().split()[0] == task["id"]
    assert b"1 task requeued" in done.stderr
    [record] = acted.records("task.requeued")
    assert record["data"]["reason"] == "mended"
    assert record["data"]["by"]
    [push] = items(acted, "deliveries", "event:push")
    refused = acted.cli("replay", push["guid"], exit_code=4)
    assert refused.stdout == b""
    assert b"skipped 1" in refused.stderr
    answer = acted.cli_json("replay", push["guid"], "--force")
    [made] = answer["done"][0]["tasks"]
    if not running:
        acted.start()
    eventually(lambda: [t["state"] for t in items(acted, "tasks", f"id:{made}")] == ["completed"])
    eventually(lambda: [t["state"] for t in items(acted, "tasks", "number:1")] == ["completed"])
    assert acted.cli_json("show", made)["replay"] == 1


def test_several_are_asked_about_and_without_a_terminal_it_takes_yes(acted: Daemon) -> None:
    refused = acted.cli("requeue", "state:failed", exit_code=2)
    assert b"3 tasks" in refused.stderr
    assert b"--yes" in refused.stderr
    ids = [task["id"] for task in items(acted, "tasks", "state:failed")]
    acted.cli("requeue", *ids, exit_code=2)
    dry = acted.cli("requeue", "state:failed", "--dry-run")
    assert sorted(dry.stdout.decode().split()) == sorted(ids)
    assert b"would be requeued" in dry.stderr
    plan = acted.cli_json("requeue", "route:issues,pushes", "--dry-run")
    assert (len(plan["eligible"]), len(plan["skipped"]), plan["done"]) == (3, 1, [])
    assert acted.records("task.requeued") == [], "nothing was done yet"
    done = acted.cli("requeue", "state:failed", "--yes")
    assert len(done.stdout.splitlines()) == 3
    completed(acted, 4)
    assert b"0 tasks requeued" in acted.cli("requeue", "state:failed").stderr, "nothing to do is nothing to ask"


def test_at_a_terminal_the_answer_decides(acted: Daemon) -> None:
    no = InTerminal(acted, "requeue", "state:failed", typed=b"n\n")
    assert "Requeue 3 tasks? [y/N]" in no.said
    assert (no.code, "Nothing was done" in no.said) == (1, True)
    assert states(acted).count("failed") == 3
    yes = InTerminal(acted, "requeue", "state:failed", typed=b"y\n")
    assert yes.code == 0
    assert "3 tasks requeued" in yes.said
    completed(acted, 4)


def test_a_replay_by_filter_makes_new_tasks(acted: Daemon) -> None:
    done = acted.cli("replay", "event:issues", "since:1h", "--yes", "--json")
    answer = json.loads(done.stdout)
    assert len(answer["done"]) == 3
    eventually(lambda: states(acted) == ["completed"] * 4 + ["failed"] * 3)
    assert {one["state"] for one in items(acted, "deliveries")} == {"completed"}


# Sending


def test_a_sent_sample_is_accepted_and_its_id_can_be_shown(make_daemon: Make) -> None:
    daemon = make_daemon()
    guid = daemon.cli("send", "issues").stdout.decode().strip()
    assert daemon.cli_json("show", guid)["event"] == "issues"
    assert b"200 duplicate" in daemon.cli("send", "issues", "--guid", guid).stderr, "the same id is the same body"
    conflict = daemon.cli("send", "issues", "--guid", guid, "--action", "labeled", exit_code=4).stderr
    assert b"409 delivery_conflict" in conflict
    assert b"--guid" in conflict, "the hint is about the id"
    elsewhere = daemon.cli("send", "issues", "--url", f"{daemon.url}/hook", exit_code=4).stderr
    assert b"right address" in elsewhere
    for option in ("--file", "--secret-file"):
        missing = daemon.cli("send", "issues", option, "/nope", exit_code=2).stderr
        assert missing.startswith(b"covenq: /nope: can't be read: No such file or directory\nhint: ")
    for name in ("push", "pull_request", "ping"):
        answer = daemon.cli_json("send", name)
        assert (answer["ok"], answer["duplicate"]) == (True, False)


def test_a_sent_file_arrives_byte_for_byte(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon()
    body = b'{ "action" :\t"opened", "n": 1.50 }\n'
    (tmp_path / "body.json").write_bytes(body)
    guid = new_guid()
    daemon.cli("send", "--event", "issues", "--file", str(tmp_path / "body.json"), "--guid", guid, "--hook", "77")
    assert daemon.cli("show", f"77/{guid}", "--payload").stdout == body
    said = daemon.cli("send", "issues", "--file", "-", "--guid", guid, "--hook", "77", input=body).stderr
    assert b"200 duplicate" in said


def test_a_secret_comes_from_where_the_daemon_has_it_or_from_a_file(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon(secret=None)
    daemon.cli("send", "push")
    (tmp_path / "other").write_text("a guess\n")
    refused = daemon.cli("send", "push", "--secret-file", str(tmp_path / "other"), exit_code=4)
    assert b"401" in refused.stderr
    assert b"--secret-file" in refused.stderr
    right = tmp_path / "right"
    right.write_bytes((daemon.data / "secret").read_bytes())
    daemon.cli("send", "push", "--secret-file", str(right), "--url", f"{daemon.url}/webhook")
    (tmp_path / "empty").touch()
    daemon.cli("send", "push", "--secret-file", str(tmp_path / "empty"), exit_code=2)


def test_nobody_there_exits_6(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon(start=False)
    daemon.port = 9  # discard: nobody listens there
    done = daemon.cli("send", "push", "--url", f"{daemon.url}/webhook", exit_code=6)
    assert b"no answer" in done.stderr
    daemon.cli("send", "push", "--url", "ftp://example.org", exit_code=2)


# Pausing


def test_closing_the_intake_says_what_it_costs_and_asks(make_daemon: Make) -> None:
    daemon = make_daemon()
    done = daemon.cli("pause", "intake", exit_code=2)
    assert b"GitHub does not send it again by itself" in done.stderr
    assert b"covenq resume intake" in done.stderr
    assert b"--yes" in done.stderr
    daemon.cli("pause", "intake", "--json", exit_code=2)
    no = InTerminal(daemon, "pause", "intake", typed=b"n\n")
    assert no.code == 1
    assert "Pause the intake? [y/N]" in no.said
    assert "Nothing was done." in no.said
    assert daemon.cli_json("status")["pauses"] == []
    yes = InTerminal(daemon, "pause", "intake", typed=b"y\n")
    assert yes.code == 0
    assert "`covenq resume intake` ends it" in yes.said
    assert [one["what"] for one in daemon.cli_json("status", exit_code=1)["pauses"]] == ["intake"]
    daemon.cli("resume", "intake")
    assert json.loads(daemon.cli("pause", "intake", "--yes", "--json").stdout)["changed"] is True
    worker = daemon.cli("pause", "worker")
    assert b"`covenq resume worker` ends it" in worker.stderr, "nothing is lost by that: it is not asked about"


# Serving


def test_ctrl_c_ends_the_daemon_in_order(make_daemon: Make) -> None:
    daemon = make_daemon()
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.wait_exit(30) in (0, 130)
    assert "Traceback" not in daemon.log_tail()
    assert daemon.cli_json("verify")["ok"] is True


def test_options_come_before_the_configuration(make_daemon: Make) -> None:
    daemon = make_daemon("[worker]\nconcurrency = 1\n", args=("--concurrency", "3"))
    assert daemon.cli_json("status")["worker"]["concurrency"] == 3


def test_a_tail_that_matches_nothing_says_how_far_it_looked(data: Path) -> None:
    data.mkdir(mode=0o700)
    with open_chosen(data) as journal:
        journal.append([received("old")])
        journal.append([received(f"g{number}") for number in range(1000)])
    daemon = Daemon(data)
    said = daemon.cli("tail", "guid:old")
    assert (said.stdout, said.stderr) == (
        b"",
        b"None of the last 1,000 records matches; --since or --after begins earlier.\n",
    )
    assert daemon.cli("tail", "guid:old", "--after", "0").stdout.count(b"received") == 1
    assert daemon.cli("tail", "guid:g999").stderr == b""
