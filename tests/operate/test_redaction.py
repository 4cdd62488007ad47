"""redact and compact on a real daemon, and without one: what is erased is nowhere, and what stays still answers."""

from __future__ import annotations

import contextlib
import http.client
import json
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from covenq.config.retention import Retention
from covenq.operate.maintain.upkeep import Upkeep
from covenq.operate.maintain.upkeep_work import redact
from covenq.operate.parameters import Redact
from covenq.state.store import StateStore
from journal.errors import JournalDamaged
from journal.file.erase import write_note
from journal.file.files import OsFiles
from journal.file.open import open_journal
from journal.file.settings import WriteSettings
from journal.records import Entry
from tests.support import chosen_engine
from tests.support.daemon import Daemon, wait_for_daily_run
from tests.support.fold_thread import FoldThread
from tests.support.journal_json import journal_lines, records, segments
from tests.support.journals.chosen import open_chosen
from tests.support.records import received
from tests.support.requests import HOOK, issue, new_guid
from tests.support.waiting import eventually

Make = Callable[..., Daemon]

ROUTE = """
[[route]]
name = "all"
match = "event:issues"
run = ["sh", "-c", "cat; cp \\"$COVENQ_PAYLOAD\\" \\"$COVENQ_RESULT\\"; echo $COVENQ_REPO >&2"]
key = "{repo}#{number}"
"""

PERSONAL = (
    b"personal-owner",
    b"personal-repo",
    b"personal title",
    b"personal body",
    b"personal-login",
    b"personal-label",
)
KEPT = b"unconcerned-repo"


def personal(number: int = 7, repo: str = "personal-owner/personal-repo") -> dict[str, Any]:
    payload = issue(number, repo=repo)
    payload["issue"] |= {"title": "personal title", "body": "personal body", "labels": [{"name": "personal-label"}]}
    payload["sender"]["login"] = "personal-login"
    return payload


def everywhere(data: Path) -> dict[str, bytes]:
    """Every file of the data directory, by its name, as bytes; and the rows, where its journal is in a database."""
    found = {}
    for path in data.rglob("*"):
        if path.is_file() and path.name != "ballast":
            found[str(path.relative_to(data))] = path.read_bytes()
    if in_a_database(data):
        found["the database"] = b"\n".join(journal_lines(data))
    return found


def in_a_database(data: Path) -> bool:
    return chosen_engine.url_of(data) is not None


def holding(data: Path, needles: tuple[bytes, ...] = PERSONAL) -> list[tuple[str, bytes]]:
    return [(name, needle) for name, content in everywhere(data).items() for needle in needles if needle in content]


def post(daemon: Daemon, payload: dict[str, Any], **options: Any) -> str:
    guid = new_guid()
    assert daemon.post("issues", payload, guid, **options).status == 202
    return guid


@pytest.mark.parametrize("running", [True, False])
def test_what_is_redacted_is_nowhere_and_its_id_is_still_known(
    make_daemon: Make, tmp_path: Path, running: bool
) -> None:
    daemon = make_daemon(ROUTE)
    guid = post(daemon, personal())
    other = post(daemon, issue(3, repo="octo/unconcerned-repo"))
    daemon.wait_all_done()
    if not in_a_database(daemon.data):
        (daemon.data / "journal" / f"{1:020d}.5.{'a' * 16}.torn").write_bytes(b"personal body")
    assert {needle for _, needle in holding(daemon.data)} == set(PERSONAL)
    backup = tmp_path / "backup"
    if not in_a_database(daemon.data):
        daemon.cli("backup", str(backup))
    if not running:
        assert daemon.stop() == 0

    plan = daemon.cli_json("redact", guid, "--dry-run")
    assert plan["eligible"] == [f"{HOOK}/{guid}"] and not plan["done"]
    done = daemon.cli("redact", guid, "--reason", "asked for")
    assert (str(backup) in done.stderr.decode()) is not in_a_database(daemon.data)
    if running:
        assert holding(daemon.data) == []
        assert daemon.stop() == 0
    assert holding(daemon.data) == []
    assert any(KEPT in content for content in everywhere(daemon.data).values())
    assert not list((daemon.data / "journal").glob("*.torn"))
    assert daemon.cli_json("verify")["ok"] is True

    row = daemon.cli_json("show", guid)
    assert (row["state"], row["event"], row["action"], row["hook"]) == ("completed", "issues", "opened", HOOK)
    assert {row[name] for name in ("repo", "owner", "sender", "number", "head_sha", "label", "title")} == {None}
    assert row["payload_bytes"] > 0 and len(row["payload_sha256"]) == 64
    [task] = row["task_objects"]
    assert {task[name] for name in ("repo", "number", "head_sha", "key")} == {None}
    assert (row["dropped_by"]["reason"], row["redacted"]) == ("asked for", row["dropped_by"]["seq"])
    daemon.cli("show", guid, "--payload", exit_code=3)
    assert "ERASED" in daemon.cli("show", guid).stdout.decode()
    assert daemon.cli_json("show", other)["repo"] == "octo/unconcerned-repo"
    [record] = daemon.records("delivery.redacted")
    assert record["data"]["received"] == row["seq"]
    assert record["data"]["about"] is True

    for name in daemon.data.glob("state.db*"):
        name.unlink()
    again = daemon.cli_json("show", guid)
    assert again == row, "folded from the log anew, it says the same"
    daemon.start()
    assert daemon.post("issues", personal(), guid).json["duplicate"] is True
    assert daemon.post("issues", personal(8), guid).status == 409
    skipped = daemon.cli_json("replay", guid, "--force", exit_code=4)["skipped"]
    assert "erased" in skipped[0]["reason"]
    skipped = daemon.cli_json("redact", guid, exit_code=4)["skipped"]
    assert "erased before" in skipped[0]["reason"]
    if not in_a_database(daemon.data):
        daemon.cli("backup", str(backup))
        assert holding(backup) == []


DEEP = '''
[[route]]
name = "deep"
match = "event:issues"
keep = "%s"
run = ["%s", "-S", "-c", """import os
os.link('payload', 'copy')
for i in range(1200):
    os.mkdir('d')
    os.chdir('d')
"""]
'''


@pytest.mark.parametrize("keep", ["all", "logs"])
def test_directories_in_directories_keep_nothing_from_being_erased(make_daemon: Make, keep: str) -> None:
    daemon = make_daemon(DEEP % (keep, sys.executable))
    guids = [post(daemon, personal(number)) for number in range(2)]
    assert list(daemon.wait_all_done().values()) == [["task.completed"]] * 2
    (first, *_) = (daemon.data / "attempts").glob("*/1")
    assert (first / "d").exists() == (keep == "all")
    daemon.cli("redact", *guids, "--yes")
    assert list((daemon.data / "attempts").iterdir()) == []
    assert not holding(daemon.data)


def test_damage_in_the_segment_of_a_name_keeps_no_other_segment_from_being_erased(tmp_path: Path) -> None:
    """The names in records of pauses go first: what holds that up is told after the deliveries are erased."""
    small = WriteSettings(segment_bytes=1500)
    with (
        open_journal(tmp_path / "journal", settings=small) as journal,
        StateStore(tmp_path / "state.db", journal) as store,
    ):
        journal.append(
            [Entry("ops.pauses", "ops.paused", {"what": "repo", "name": "6", "by": "me"}, {"repo": "octo/hello"})]
        )
        journal.append(
            [received("first", payload=b'{"pad":"%s"}' % (b"x" * 1500), about={"repo": "acme/other"}, repo_id=7)]
        )
        journal.append([received("second", payload=b'{"title":"personal title"}')])
        first, *_, last = sorted((tmp_path / "journal").glob("*.jsonl"))
        assert first != last and b"personal title" in last.read_bytes()
        first.write_bytes(first.read_bytes().replace(b'"by":"me"', b'"by":"mf"'))
        fold_thread = FoldThread(store, journal)
        fold_thread.start()
        upkeep = Upkeep(journal, store, fold_thread, tmp_path, Retention, truncate_wal=store.truncate_wal)
        try:
            with pytest.raises(JournalDamaged):
                redact(upkeep.context, None, Redact(repo="octo/hello"), None)
        finally:
            upkeep.stop(30.0)
            fold_thread.stop()
        assert b"personal title" not in b"".join(path.read_bytes() for path in (tmp_path / "journal").glob("*.jsonl"))


def test_output_that_could_not_be_removed_is_shown_to_nobody(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    guid = post(daemon, personal())
    daemon.wait_all_done()
    [task] = [path.name for path in (daemon.data / "attempts").iterdir()]
    assert b"personal" in daemon.cli("logs", task).stdout
    kept = (daemon.data / "attempts" / task / "1" / "stdout").read_bytes()
    assert daemon.cli("redact", guid, "--yes")
    directory = daemon.data / "attempts" / task / "1"
    directory.mkdir(parents=True)
    (directory / "stdout").write_bytes(kept)  # as where it could not be removed
    for running in (True, False):
        assert b"was erased" in daemon.cli("logs", task, exit_code=3).stderr
        assert b"personal" not in daemon.cli("show", guid).stdout + daemon.cli("show", guid, "--json").stdout
        if running:
            assert daemon.api(f"/api/v1/tasks/{task}/attempts/1/stdout").status == 404
            assert daemon.stop() == 0


@pytest.mark.files("a byte is damaged on disk")
def test_an_erasure_that_damage_holds_up_keeps_no_daemon_from_starting(make_daemon: Make) -> None:
    """Without one it would start: rot in old segments is verify's to find."""
    daemon = make_daemon(ROUTE)
    first, second = post(daemon, personal(1)), post(daemon, personal(2))
    daemon.wait_all_done()
    daemon.cli("redact", first)
    path = segments(daemon.data)[0]
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"personal title", b"personal tit1e"))
    assert path.name in daemon.cli("redact", second, exit_code=5).stderr.decode()
    daemon.restart()
    assert daemon.post("issues", issue(3), new_guid()).status == 202
    eventually(lambda: path.name in str(daemon.cli_json("status")["upkeep"]["error"]), 30, "it says what it waits for")
    assert daemon.post("issues", personal(2), second).json["duplicate"] is True
    assert daemon.stop() == 0
    said = daemon.cli("compact", exit_code=5).stderr.decode()
    assert path.name in said and "covenq salvage" in said
    path.write_bytes(whole)
    daemon.start()
    assert holding(daemon.data / "journal") == []
    assert daemon.cli_json("verify")["ok"] is True


def test_a_repository_and_an_installation_are_erased_after_a_question(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    mine = [post(daemon, personal(n)) for n in (1, 2)]
    mine.append(post(daemon, personal(3, repo="Personal-Owner/personal-REPO")))
    theirs = post(daemon, issue(4, repo="octo/unconcerned-repo", installation={"id": 99}))
    daemon.wait_all_done()
    daemon.cli("redact", "--repo", "personal-owner/personal-repo", exit_code=2)
    assert holding(daemon.data), "without a terminal it takes --yes"
    plan = daemon.cli_json("redact", "--repo", "personal-owner/personal-repo", "--dry-run")
    assert plan["eligible"] == [f"{HOOK}/{guid}" for guid in mine]
    done = daemon.cli_json("redact", "--repo", "personal-owner/personal-repo", "--yes")
    assert [one["id"] for one in done["done"]] == plan["eligible"]
    assert (done["segments"], done["attempts"], done["left"]) == (1, 3, [])
    assert holding(daemon.data) == []
    assert len(daemon.records("delivery.redacted")) == 3
    daemon.cli("redact", "--repo", "personal-owner/personal-repo", "--yes", exit_code=3)
    assert daemon.cli_json("redact", "--installation", "99", "--yes")["done"][0]["id"] == f"{HOOK}/{theirs}"
    assert holding(daemon.data, (KEPT,)) == []
    daemon.cli("redact", new_guid(), exit_code=3)
    assert daemon.stop() == 0
    assert daemon.cli_json("verify")["ok"] is True


def test_an_erasure_of_what_nobody_knows_is_not_found_and_a_pattern_is_no_name(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    post(daemon, {**personal(1), "installation": {"id": 77}})
    number = daemon.cli_json("deliveries")["items"][0]["repo_id"]
    for running in (True, False):
        for words, said in (
            (["--repo", "never/seen"], "nothing that is stored is of the repository never/seen"),
            (["--repo-id", "424242"], "no delivery ever came of the repository 424242"),
            (["--installation", "424242"], "no delivery ever came of the installation 424242"),
        ):
            for how in ("--yes", "--dry-run"):
                assert said in daemon.cli("redact", *words, how, exit_code=3).stderr.decode(), running
        refused = daemon.cli("redact", "--repo", "personal-owner/*", "--yes", exit_code=2).stderr.decode()
        assert "is a pattern, and --repo takes one name" in refused
        assert "covenq redact 'repo:personal-owner/*'" in refused
        assert daemon.cli_json("redact", "repo:never/*", "--yes")["done"] == [], "a filter may match nothing"
        if running:
            answer = daemon.api("/api/v1/redact", "POST", {"repo": "never/seen"})
            assert (answer.status, answer.json["error"]) == (404, "not_found")
            assert daemon.api("/api/v1/redact", "POST", {"repo": "personal-owner/*"}).status == 400
            daemon.stop()
    for words in (["--repo-id", str(number)], ["--installation", "77"]):
        daemon.cli("redact", *words, "--yes")
    for words in (["--repo-id", str(number)], ["--installation", "77"]):
        assert "0 deliveries redacted" in daemon.cli("redact", *words, "--yes").stderr.decode(), (
            "its number is known still"
        )


def test_a_name_that_only_a_pause_or_another_s_payload_has_is_known(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    post(daemon, issue(4, repo="octo/fork", forkee={"full_name": "personal-owner/listed"}))
    daemon.cli("pause", "repo", "personal-owner/paused")
    assert "names it too" in daemon.cli("redact", "--repo", "personal-owner/listed", "--yes").stderr.decode()
    daemon.cli("redact", "--repo", "personal-owner/paused", "--yes", "--dry-run")
    assert daemon.api("/api/v1/redact", "POST", {"repo": "personal-owner/paused"}).status == 200
    daemon.cli("redact", "--repo", "personal-owner/paused", "--yes", exit_code=3)
    assert b"is a pattern" in daemon.cli("pause", "repo", "octo/*", exit_code=2).stderr


def test_what_says_twice_or_too_much_what_to_erase_is_told_which(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    for words, said in (
        ([], "say what to erase"),
        (["--repo", "octo/new", "--repo-id", "11"], "--repo and --repo-id can't be combined"),
        (["g1", "--installation", "0"], "ids or a filter and --installation can't be combined"),
        (["--repo-id", "9" * 23], "--repo-id"),
        (["--installation", "9" * 23], "--installation"),
    ):
        assert said in daemon.cli("redact", *words, "--yes", exit_code=2).stderr.decode()
    both = daemon.api("/api/v1/redact", "POST", {"repo": "octo/new", "repo_id": 11})
    assert (both.status, "can't be combined" in both.json["detail"]) == (400, True)
    large = daemon.api("/api/v1/redact", "POST", {"repo_id": 10**23})
    assert (large.status, large.json["detail"]) == (400, "repo_id is too large")


def test_what_a_filter_matches_or_stdin_names_is_erased_after_a_question(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    mine = [post(daemon, personal(n)) for n in (1, 2, 3)]
    theirs = post(daemon, issue(4, repo="octo/unconcerned-repo"))
    daemon.wait_all_done()
    ids = [f"{HOOK}/{guid}" for guid in mine]
    lines = "".join(f"{guid} and more\n" for guid in mine[:2]).encode()
    for asked in (["payload.issue.title:personal*"], ["repo:personal-owner/personal-repo", "-number:2,3"]):
        plan = daemon.cli_json("redact", *asked, "--dry-run")
        assert plan["eligible"] == (ids if len(asked) == 1 else ids[:1])
        assert b"no terminal to ask at" in daemon.cli("redact", *asked, exit_code=2).stderr
    assert daemon.cli("redact", "-", "--dry-run", input=lines).stdout.decode().split() == ids[:2]
    assert b"this would redact 2 deliveries" in daemon.cli("redact", "-", input=lines, exit_code=2).stderr
    assert daemon.records("delivery.redacted") == []
    done = json.loads(daemon.cli("redact", "-", "--yes", "--json", input=lines).stdout)
    assert ([one["id"] for one in done["done"]], done["attempts"], done["skipped"]) == (ids[:2], 2, [])
    rest = daemon.cli_json("redact", "payload.issue.title:personal*", "--yes", "--reason", "asked for")
    assert ([one["id"] for one in rest["done"]], rest["left"]) == (ids[2:], [])
    assert daemon.records("delivery.redacted")[-1]["data"]["reason"] == "asked for"
    assert holding(daemon.data) == []
    again = json.loads(daemon.cli("redact", "-", "--yes", "--json", input=lines, exit_code=4).stdout)
    assert [one["id"] for one in again["skipped"]] == ids[:2]
    answer = daemon.api("/api/v1/redact", "POST", {"filter": "event:issues -repo:personal*", "dry_run": True}).json
    assert answer["eligible"][-1] == f"{HOOK}/{theirs}"
    assert daemon.stop() == 0
    assert daemon.cli_json("redact", "repo:octo/unconcerned-repo", "--yes")["done"][0]["id"] == f"{HOOK}/{theirs}"
    assert holding(daemon.data, (KEPT,)) == []


def test_what_runs_is_skipped_and_what_waits_is_cancelled(make_daemon: Make, tmp_path: Path) -> None:
    started, go_on = tmp_path / "started", tmp_path / "go_on"
    script = f"touch {started}; while ! test -e {go_on}; do sleep 0.02; done"
    config = ROUTE.partition("run =")[0] + f'run = ["sh", "-c", "{script}"]\n[worker]\nconcurrency = 1\n'
    daemon = make_daemon(config.replace("[[route]]", "", 1).join(["[[route]]", ""]))
    running = post(daemon, personal(1))
    eventually(started.exists, 30, "it runs")
    waiting = post(daemon, personal(2))
    answer = daemon.api("/api/v1/redact", "POST", {"ids": [running, waiting], "by": "test"}).json
    assert [one["id"] for one in answer["skipped"]] == [f"{HOOK}/{running}"]
    assert "running" in answer["skipped"][0]["reason"]
    assert [one["id"] for one in answer["done"]] == [f"{HOOK}/{waiting}"]
    assert daemon.cli_json("show", waiting)["state"] == "cancelled"
    go_on.touch()
    daemon.wait_all_done()
    assert daemon.cli_json("redact", running)["done"]
    assert daemon.stop() == 0
    assert holding(daemon.data) == []
    [task] = daemon.cli_json("show", waiting)["task_objects"]
    skipped = daemon.cli_json("requeue", task["id"], exit_code=4)["skipped"]
    assert "erased" in skipped[0]["reason"]


def test_what_no_route_has_seen_yet_is_erased_and_ignored(make_daemon: Make) -> None:
    daemon = make_daemon('[[route]]\nname = "all"\nmatch = "event:issues payload.issue.number:7"\nrun = ["true"]\n')
    guid = new_guid()
    daemon.post("star", personal(), guid)
    assert daemon.cli_json("redact", guid)["done"]
    assert daemon.stop() == 0
    assert holding(daemon.data) == []


@pytest.mark.files("an erasure in a database is one transaction: nothing is left of half of one")
def test_what_a_crash_cut_short_is_finished_at_the_next_start(make_daemon: Make) -> None:
    """The process dies when the record is durable, and nothing else has been done: the most that can be left."""
    daemon = make_daemon(ROUTE)
    guid = post(daemon, personal())
    daemon.wait_all_done()
    row = daemon.cli_json("show", guid)
    assert daemon.stop() == 0
    record(daemon.data, guid, row)
    assert holding(daemon.data), "nothing but the record was written"

    daemon.start()
    eventually(lambda: not holding(daemon.data), 30, "it is finished")
    assert not (daemon.data / "journal" / "erasing.json").exists()
    assert daemon.stop() == 0
    assert holding(daemon.data) == []
    assert daemon.cli_json("verify")["ok"] is True


def record(data: Path, guid: str, row: dict[str, Any]) -> None:
    """What `journal.file.erase` writes before it rewrites anything."""
    from journal.records import Appended, Entry

    drops = [[row["seq"], row["seq"]], *[[task["created_seq"]] * 2 for task in row["task_objects"]]]
    subject = f"delivery.{HOOK}.{guid}"
    with open_chosen(data) as journal:
        write_note(OsFiles(), data / "journal", journal.head().seq)
        newest = journal.last(subject)
        assert newest is not None
        entry = Entry(
            subject, "delivery.redacted", {"received": row["seq"], "drops": drops, "about": True}, expect=newest.seq
        )
        assert isinstance(journal.append([entry]), Appended)


def test_killed_at_any_moment_of_an_erasure_it_opens_and_finishes(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    guids = [post(daemon, personal(n)) for n in range(1, 13)]
    daemon.wait_all_done()
    for number, guid in enumerate(guids):
        before = len(daemon.records("delivery.redacted"))
        asked = threading.Thread(target=ask_to_redact, args=(daemon, guid))
        asked.start()
        if number % 3:
            eventually(lambda before=before: len(daemon.records("delivery.redacted")) > before, 30, "it is recorded")
        daemon.kill()
        asked.join(30)
        daemon.start()
    done = {one["subject"].split(".")[2] for one in daemon.records("delivery.redacted")}
    assert done
    rest = [guid for guid in guids if guid not in done]
    if rest:
        assert daemon.api("/api/v1/redact", "POST", {"ids": rest}).status == 200
    eventually(lambda: not holding(daemon.data), 30, "all of it is finished")
    assert daemon.stop() == 0
    assert daemon.cli_json("verify")["ok"] is True
    assert len(daemon.records("delivery.received")) == 12


def ask_to_redact(daemon: Daemon, guid: str) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):  # it is killed meanwhile
        daemon.api("/api/v1/redact", "POST", {"ids": [guid]})


# ---- compact


def test_compact_drops_what_the_policy_says_and_tells_it_clearly(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE + '[retention]\npayloads = "0s"\nattempts = "1h"\n')
    wait_for_daily_run(daemon)
    guids = [post(daemon, personal(n)) for n in (1, 2)]
    star = new_guid()
    daemon.post("star", personal(), star)
    daemon.wait_all_done()
    plan = daemon.cli_json("compact", "--dry-run")
    assert (plan["deliveries"], plan["segments"], plan["attempts"], plan["dry_run"]) == (3, 1, 0, True)
    assert plan["policy"] == {"payloads_s": 0.0, "attempts_s": 3600.0}
    assert not daemon.records("journal.dropped")
    done = daemon.cli_json("compact")
    assert (done["deliveries"], done["payload_bytes"]) == (3, plan["payload_bytes"])
    assert done["freed"] > 0
    assert holding(daemon.data, (b"personal body",)) == [
        (name, needle)
        for name, needle in holding(daemon.data, (b"personal body",))
        if name.endswith(("/stdout", "/result"))
    ], "attempts are kept longer, but for their copy of the payload"
    [dropped] = daemon.records("journal.dropped")
    assert (dropped["subject"], dropped["data"]["reason"]) == ("ops.retention", "retention")
    assert daemon.cli_json("compact")["deliveries"] == 0

    row = daemon.cli_json("show", guids[0])
    assert (row["payload_dropped"], row["redacted"], row["repo"]) == (
        dropped["seq"],
        None,
        "personal-owner/personal-repo",
    )
    assert "DROPPED" in daemon.cli("show", guids[0]).stdout.decode()
    assert b"dropped by record" in daemon.cli("show", guids[0], "--payload", exit_code=3).stderr
    skipped = daemon.cli_json("replay", guids[0], "--force", exit_code=4)["skipped"]
    assert "payload was dropped" in skipped[0]["reason"]
    assert daemon.post("issues", personal(1), guids[0]).json["duplicate"] is True
    assert daemon.stop() == 0
    assert daemon.cli_json("verify", "--signatures")["signatures"]["payload_dropped"] == 3


def test_the_received_bytes_that_a_command_got_go_with_the_payload(make_daemon: Make) -> None:
    config = ROUTE.replace('"cat; cp', '"true; cp').replace("$COVENQ_PAYLOAD", "/dev/null")
    daemon = make_daemon(config + '[retention]\npayloads = "0s"\nattempts = "1h"\n')
    wait_for_daily_run(daemon)
    form = urlencode({"payload": json.dumps(personal())}).encode()
    assert daemon.post("issues", form, content_type="application/x-www-form-urlencoded").status == 202
    daemon.wait_all_done()
    attempts = daemon.data / "attempts"
    assert {path.name for path in attempts.glob("*/1/*")} >= {"payload", "body"}
    daemon.cli("compact")
    assert not [path for name in ("payload", "body") for path in attempts.glob(f"*/1/{name}")]


def test_without_a_policy_nothing_is_dropped_and_without_a_daemon_it_works(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon(ROUTE)
    guid = post(daemon, personal())
    daemon.wait_all_done()
    assert b"no [retention]" in daemon.cli("compact").stderr
    assert daemon.stop() == 0
    daemon.config = tmp_path / "other.toml"
    daemon.config.write_text(ROUTE + '[retention]\nattempts = "0s"\n')
    done = daemon.cli_json("compact")
    assert (done["attempts"], done["deliveries"]) == (1, 0)
    assert not list((daemon.data / "attempts").iterdir())
    daemon.config.write_text(ROUTE + '[retention]\npayloads = "30d"\n')
    assert daemon.cli_json("compact")["deliveries"] == 0
    daemon.config.write_text(ROUTE + '[retention]\npayloads = "0s"\n')
    assert daemon.cli_json("compact")["deliveries"] == 1
    assert daemon.cli_json("show", guid)["payload_dropped"]
    assert daemon.cli_json("verify")["ok"] is True


def test_the_daemon_drops_by_itself_once_a_day(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    for number in range(1, 4):
        post(daemon, personal(number))
    daemon.wait_all_done()
    assert daemon.stop() == 0
    assert daemon.config is not None
    daemon.config.write_text(ROUTE + '[retention]\npayloads = "0s"\n')
    daemon.start()
    eventually(lambda: daemon.records("journal.dropped"), 30, "a run of its own")
    first = wait_for_daily_run(daemon)
    post(daemon, personal(9))
    daemon.wait_all_done()
    daemon.restart()
    assert json.loads((daemon.data / "upkeep.json").read_bytes())["retained_at"] == first
    assert len(daemon.records("journal.dropped")) == 1
    if not in_a_database(daemon.data):  # where no segment is rewritten, none is ended for that
        assert len(segments(daemon.data)) == 2


def test_state_db_frees_nothing_that_can_be_read(make_daemon: Make) -> None:
    """secure_delete is per connection: that of the daemon's writer is what counts."""
    daemon = make_daemon(ROUTE)
    guid = post(daemon, personal())
    daemon.wait_all_done()
    daemon.cli("redact", guid)
    with sqlite3.connect(daemon.data / "state.db") as conn:
        assert conn.execute("SELECT redacted IS NOT NULL FROM webhook_deliveries").fetchone() == (1,)
    conn.close()
    content = b"".join(path.read_bytes() for path in daemon.data.glob("state.db*"))
    assert not [needle for needle in PERSONAL if needle in content]
    assert len(records(daemon.data, "delivery.received")) == 1
