"""A daemon on PostgreSQL: what is promised of the journal in files holds of the one in tables, through the same commands."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from journal.postgres.open import open_journal
from journal.records import Entry
from tests.support.checkout import clean_env
from tests.support.daemon import Daemon
from tests.support.own_covenq import GUARD
from tests.support.postgres.server import Cluster
from tests.support.requests import issue, new_guid
from tests.support.waiting import eventually

CONFIG = """
[worker]
concurrency = 4
[[route]]
name = "hello"
match = "event:issues"
run = ["cat"]
[[route]]
name = "broken"
match = "event:push"
run = ["false"]
"""


@pytest.fixture(scope="module")
def servers() -> Iterator[Cluster]:
    made = Cluster(standby=True)
    yield made
    made.close()


@pytest.fixture
def daemon(servers: Cluster, tmp_path: Path) -> Iterator[Daemon]:
    servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    config = tmp_path / "covenq.toml"
    config.write_text(CONFIG)
    made = Daemon(tmp_path / "data", config=config, env={"COVENQ_JOURNAL_URL": servers.url}, forked=True)
    yield made.start()
    made.kill()


@contextmanager
def stood_by(other: Daemon, daemon: Daemon) -> Iterator[Daemon]:
    """Another daemon that stands by while `daemon` leads."""
    other.start(wait=False)
    try:
        eventually(lambda: " leads." in other.get("/readyz").json["detail"], 60, "it stands by")
        yield other
    finally:
        other.kill()


def wait_done(daemon: Daemon) -> None:
    def done() -> bool:
        counts = daemon.api("/api/v1/status").json["tasks"]
        return bool(counts) and set(counts) <= {"completed", "failed"}

    eventually(done, 60, "all tasks end")


def test_it_accepts_runs_explains_and_proves(daemon: Daemon, servers: Cluster) -> None:
    guid = new_guid()
    first, again = daemon.post("issues", issue(1), guid), daemon.post("issues", issue(1), guid)
    assert (first.status, first.json["durability"], first.json["duplicate"]) == (202, "replicated", False)
    assert (again.status, again.json["durability"], again.json["duplicate"]) == (200, "replicated", True)
    assert again.json["seq"] == first.json["seq"] == 1
    assert daemon.post("issues", issue(2), guid).status == 409
    assert daemon.post("push", {"ref": "refs/heads/main"}).status == 202
    wait_done(daemon)
    assert b"Completed" in daemon.cli("why", guid).stdout
    assert [one["state"] for one in daemon.cli_json("tasks")["items"]] == ["failed", "completed"]
    status = daemon.cli_json("status")
    assert status["ready"] and status["journal"]["segments"] == 1
    [standby] = status["journal"]["database"]["standbys"]
    assert (standby["name"], standby["state"], standby["sync_state"]) == ("standby", "streaming", "sync")
    assert b"standby streaming, sync" in daemon.cli("status").stdout
    metrics = daemon.api("/metrics").body
    assert (
        b'covenq_database_standbys{sync_state="sync"} 1.0' in metrics and b"covenq_database_commits_wait 0.0" in metrics
    )
    head = daemon.cli_json("verify")
    assert head["ok"] and head["head"]["seq"] == status["journal"]["head"]["seq"]
    assert b"2 signatures right" in daemon.cli("verify", "--signatures").stderr
    daemon.cli("redact", guid, "--yes", "--reason", "asked")
    assert servers.sql("SELECT count(*) FROM covenq.content WHERE seq = 1 AND payload IS NULL AND about IS NULL") == [
        (1,)
    ]
    assert daemon.cli_json("verify")["ok"]


@pytest.mark.postgres
def test_its_lease_says_which_node_has_it_and_a_copy_of_its_data_takes_nothing(
    daemon: Daemon, servers: Cluster, tmp_path: Path
) -> None:
    node = daemon.cli_json("status")["node"]
    assert servers.sql("SELECT node, name, address FROM covenq.lease") == [
        (node["id"], node["name"], f"127.0.0.1:{daemon.port}")
    ]
    copy = tmp_path / "copied"
    copy.mkdir()
    for name in ("node", "journal/database"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes((daemon.data / name).read_bytes())
    with stood_by(Daemon(copy, config=daemon.config, env=daemon.env, forked=True), daemon) as other:
        assert other.cli_json("status")["node"]["id"] != node["id"]
        assert daemon.post("issues", issue(1)).status == 202, "it still has the journal"
        wait_done(daemon)
    assert [one["node"] for one in daemon.cli_json("tasks")["items"]] == [node["name"]]
    daemon.kill()
    assert daemon.start().cli_json("status")["node"] == node


@pytest.mark.postgres
def test_what_it_held_is_there_and_can_be_acted_on_without_a_daemon(daemon: Daemon) -> None:
    assert daemon.post("push", {"ref": "refs/heads/main"}, "push-1").status == 202
    wait_done(daemon)
    before = daemon.cli_json("deliveries")["items"]
    assert daemon.stop() == 0
    assert daemon.cli_json("deliveries")["items"] == before
    assert daemon.cli_json("verify")["ok"]
    daemon.cli("status", exit_code=6)
    daemon.cli("requeue", "state:failed", "--yes", "--data", str(daemon.data.with_name("another")))
    assert [one["state"] for one in daemon.cli_json("tasks")["items"]] == ["queued"]
    assert b"database" in daemon.cli("backup", str(daemon.data / "b"), exit_code=4).stderr
    assert b"database" in daemon.cli("salvage", exit_code=4).stderr
    daemon.start()
    wait_done(daemon)
    assert daemon.cli_json("tasks")["items"][0]["attempts"] == 2


@pytest.mark.postgres
def test_where_nothing_was_received_commands_say_so_and_only_serve_makes_a_journal(
    servers: Cluster, tmp_path: Path
) -> None:
    servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    daemon = Daemon(tmp_path / "data", env={"COVENQ_JOURNAL_URL": servers.url}, forked=True)
    assert b"none is running" in daemon.cli("doctor", exit_code=1).stdout
    assert daemon.cli_json("status", exit_code=6)["journal"]["head"]["seq"] == 0
    assert b"Nothing was ever received" in daemon.cli("deliveries").stderr
    assert b"there is no journal in that database" in daemon.cli("verify", exit_code=3).stderr
    for words in (["pause", "worker"], ["requeue", "x", "--yes"], ["redact", "x", "--yes", "--reason", "asked"]):
        assert b"nothing was ever received in that database" in daemon.cli(*words, exit_code=3).stderr
    assert servers.sql("SELECT to_regnamespace('covenq') IS NULL") == [(True,)]
    try:
        daemon.start()
        assert daemon.stop() == 0
    finally:
        daemon.kill()
    servers.sql("DROP SCHEMA covenq CASCADE")
    assert b"there is no journal in that database" in daemon.cli("deliveries", exit_code=3).stderr  # there was one


@pytest.mark.postgres
def test_a_segment_is_verified_alone_by_any_seq_in_it(daemon: Daemon, servers: Cluster) -> None:
    for number in range(3):
        assert daemon.post("issues", issue(number)).status == 202
    wait_done(daemon)
    assert daemon.stop() == 0
    with open_journal(servers.url) as journal:
        journal.begin_epoch("0123456789abcdef")
        journal.append(
            [Entry("ops.journal", "journal.epoch", {"epoch": "0123456789abcdef"})]
        )  # a segment begins with a record
    second = daemon.cli_json("verify")["head"]["seq"]
    daemon.start()
    assert daemon.post("issues", issue(9)).status == 202
    wait_done(daemon)
    head = daemon.cli_json("verify")["head"]["seq"]
    for seq, signed, records in ((2, 3, second - 1), (second + 1, 1, head - second + 1)):
        found = daemon.cli_json("verify", "--segment", str(seq), "--signatures")
        assert (found["ok"], found["records"], found["signatures"]["checked"]) == (True, records, signed)
    for name in (str(head + 1_000), "nothing"):
        daemon.cli("verify", "--segment", name, exit_code=3)


@pytest.mark.postgres
def test_killed_under_load_it_loses_and_doubles_nothing(daemon: Daemon) -> None:
    guids = [new_guid() for _ in range(120)]
    accepted: set[str] = set()

    def send(number: int) -> None:
        for _ in range(2):
            try:
                answer = daemon.post("issues", issue(number), guids[number])
            except OSError:
                continue
            if answer.status in (200, 202):
                accepted.add(guids[number])

    for round in range(3):
        with ThreadPoolExecutor(8) as pool:
            sending = [pool.submit(send, number) for number in range(40 * round, 40 * round + 40)]
            eventually(lambda sending=sending: sum(one.done() for one in sending) > 10, 60, "some are sent")
            daemon.kill()
            for one in sending:
                one.result()
        daemon.start()
        wait_done(daemon)  # a task that three kills had interrupted would have failed
    items = daemon.cli_json("deliveries", "--limit", "0")["items"]
    held = [one["guid"] for one in items]
    assert len(held) == len(set(held)) and accepted <= set(held) and len(accepted) > 30
    assert all(len(one["tasks"]) == 1 and one["state"] == "completed" for one in items)
    assert daemon.cli_json("verify")["ok"]


@pytest.mark.postgres
def test_a_database_that_fails_over_is_waited_for(daemon: Daemon, servers: Cluster) -> None:
    assert daemon.post("issues", issue(1), "before").status == 202
    began = time.monotonic()
    servers.primary.kill()
    with ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(daemon.post, "issues", issue(number), f"held-{number}") for number in range(8)]
        servers.primary.start()
        quick = time.monotonic() - began < 4  # on a busy machine a server may take longer than a request is held
        assert {one.result().status for one in sent} <= ({202} if quick else {202, 503})
    eventually(lambda: daemon.get("/readyz").status == 200, 60, "it is ready again")
    for number in range(8):
        assert daemon.post("issues", issue(number), f"held-{number}").status in (200, 202)
    wait_done(daemon)
    assert daemon.running and daemon.cli_json("verify")["ok"]


@pytest.mark.postgres
def test_of_two_daemons_one_writes_and_the_other_accepts_no_head_meanwhile(daemon: Daemon, tmp_path: Path) -> None:
    other = Daemon(tmp_path / "other", config=daemon.config, env=daemon.env, forked=True)
    with stood_by(other, daemon):
        assert daemon.post("issues", issue(1)).status == 202
    other.args = ["--accept-head", "1"]
    other.start(wait=False)
    assert other.wait_exit(60) == 4
    assert "the journal is written by" in other.log_tail()


@pytest.mark.postgres
def test_no_password_is_shown(daemon: Daemon, servers: Cluster) -> None:
    daemon.stop()
    daemon.env["COVENQ_JOURNAL_URL"] = servers.url.replace("covenq@", "covenq:hunter2@") + "&connect_timeout=1"
    daemon.start()
    said = (
        daemon.cli("status").stdout
        + daemon.cli("status", "--json").stdout
        + daemon.cli("doctor", exit_code=None).stdout
    )
    assert b"hunter2" not in said
    assert "hunter2" not in daemon.log_tail()


@pytest.mark.postgres
def test_the_password_is_taken_from_the_file_that_pgpassfile_names(
    daemon: Daemon, servers: Cluster, tmp_path: Path
) -> None:
    """By every process of the daemon, as by commands."""
    daemon.stop()
    hba = servers.primary.data / "pg_hba.conf"
    before = hba.read_text()
    servers.sql("CREATE ROLE keyed SUPERUSER LOGIN PASSWORD 'hunter2'")
    url = servers.url.replace("covenq@", "keyed@")

    def asks() -> bool:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError as error:
            return "password" in str(error)
        return False

    try:
        hba.write_text("local all keyed scram-sha-256\n" + before)
        servers.sql("SELECT pg_reload_conf()")
        eventually(asks, 60, "a password is asked for")
        daemon.env["COVENQ_JOURNAL_URL"] = url
        said = daemon.cli("verify", exit_code=1).stderr
        assert b"PGPASSFILE" in said and b"hunter2" not in said
        passwords = tmp_path / "pgpass"
        passwords.touch(0o600)
        passwords.write_text("*:*:*:keyed:hunter2\n")
        daemon.env["PGPASSFILE"] = str(passwords)
        daemon.start()
        assert daemon.post("issues", issue(1)).status == 202
        wait_done(daemon)
        assert daemon.cli_json("verify")["ok"]
    finally:
        daemon.kill()
        hba.write_text(before)
        servers.sql("SELECT pg_reload_conf()")
        servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
        servers.sql("DROP OWNED BY keyed")
        servers.sql("DROP ROLE keyed")


@pytest.mark.postgres
def test_a_dump_that_is_put_back_is_gone_on_with_where_its_end_is_accepted(daemon: Daemon, servers: Cluster) -> None:
    assert daemon.post("issues", issue(1), "kept").status == 202
    wait_done(daemon)
    assert daemon.stop() == 0
    head = daemon.cli_json("verify")["head"]["seq"]
    servers.primary.run("pg_dump", "-Fc", "-n", "covenq", "-f", "dump", "-d", servers.url)
    daemon.start()
    assert daemon.post("issues", issue(2), "lost").status == 202
    wait_done(daemon)
    assert daemon.stop() == 0
    servers.sql("DROP SCHEMA covenq CASCADE")
    servers.primary.run("pg_restore", "-d", servers.url, "dump")
    daemon.start(wait=False)
    assert daemon.wait_exit(60) == 5
    assert f"covenq serve --accept-head {head}" in daemon.log_tail()
    said = daemon.cli("verify", exit_code=5)
    assert (
        b"shorter than its caches" in said.stdout and b"--accept-head" in said.stderr and b"salvage" not in said.stderr
    )
    daemon.args = ["--accept-head", str(head)]
    daemon.start()
    daemon.args = []
    assert [one["guid"] for one in daemon.cli_json("deliveries")["items"]] == ["kept"]
    assert daemon.post("issues", issue(2), "lost").status == 202
    wait_done(daemon)
    assert daemon.stop() == 0
    daemon.start()
    assert daemon.cli_json("verify")["ok"]


@pytest.mark.postgres
def test_a_journal_in_files_moves_in_and_out_with_everything_in_it(servers: Cluster, tmp_path: Path) -> None:
    servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    config = tmp_path / "covenq.toml"
    config.write_text(CONFIG)
    daemon = Daemon(tmp_path / "data", config=config, forked=True)
    address = f"file:{daemon.data}"
    try:
        daemon.start()
        for number in range(6):
            assert daemon.post("issues", issue(number), f"g{number}").status == 202
        assert daemon.post("push", {"ref": "refs/heads/main"}, "push").status == 202
        wait_done(daemon)
        daemon.cli("redact", "g3", "--yes", "--reason", "asked")
        asked = daemon.cli_json("migrate", "--from", address, "--to", servers.url, "--dry-run")
        assert asked["copied"] == 0 and asked["records"] > 20
        said = daemon.cli("migrate", "--from", address, "--to", servers.url, "--yes", exit_code=4).stderr
        assert b"are copied, and nothing is moved yet" in said and b"Stop the daemon" in said
        assert daemon.post("issues", issue(9), "late").status == 202
        wait_done(daemon)
        before = daemon.cli_json("deliveries", "--limit", "0")["items"]
        payload = daemon.cli("show", "g1", "--payload").stdout
        daemon.stop()
        daemon.cli("migrate", "--from", address, "--to", servers.url, "--yes")
        for command in ("serve", "deliveries", "verify"):  # [journal] is forgotten
            assert b"was moved elsewhere" in daemon.cli(command, exit_code=4).stderr
        daemon.env["COVENQ_JOURNAL_URL"] = servers.url
        daemon.start()
        assert daemon.cli_json("deliveries", "--limit", "0")["items"] == before
        assert daemon.cli("show", "g1", "--payload").stdout == payload
        assert daemon.post("issues", issue(9), "late").json["duplicate"] is True
        assert daemon.cli_json("verify")["ok"]
        daemon.stop()
        daemon.cli("migrate", "--from", "postgresql:", "--to", address, "--yes")
        del daemon.env["COVENQ_JOURNAL_URL"]
        daemon.start()
        after = daemon.cli_json("deliveries", "--limit", "0")["items"]
        assert [one for one in after if one["guid"] != "late"] == [one for one in before if one["guid"] != "late"]
        assert daemon.cli_json("verify")["ok"]
    finally:
        daemon.kill()


@pytest.mark.postgres
def test_what_runs_while_the_database_is_away_for_long_is_not_given_up(daemon: Daemon, servers: Cluster) -> None:
    """Deliveries are refused after the time that GitHub waits; what runs ends once, and its end is recorded later."""
    assert daemon.config is not None
    daemon.stop()
    gate = daemon.data.parent / "gate"
    daemon.config.write_text(
        CONFIG.replace('["cat"]', f"""["sh", "-c", "while [ ! -e '{gate}' ]; do sleep 0.05; done"]""")
    )
    daemon.start()
    assert daemon.post("issues", issue(1), "runs").status == 202
    eventually(lambda: daemon.api("/api/v1/status").json["tasks"].get("running") == 1, 60, "it runs")
    servers.primary.kill()
    try:
        assert daemon.post("issues", issue(2), "late").status == 503
        gate.touch()
        eventually(lambda: not daemon.api("/api/v1/status").json["ready"], 60, "the intake is closed")
        refused = daemon.post("issues", issue(2), "late")
        assert (refused.status, refused.json["error"]) == (503, "intake_closed")
        assert refused.json["detail"].startswith("The database has not answered for")
        logged = "the intake is closed: The database has not answered"
        eventually(lambda: logged in daemon.log_tail(), 60, "it is logged")
        status = daemon.cli_json("status", exit_code=1)
        assert not status["ready"] and "database" in status["reasons"][0]
    finally:
        servers.primary.start()
    eventually(lambda: daemon.get("/readyz").status == 200, 60, "it is ready again")
    assert daemon.post("issues", issue(2), "late").status == 202
    wait_done(daemon)
    assert [one["attempts"] for one in daemon.cli_json("tasks")["items"]] == [1, 1]


WITHOUT_IT = """
import os, runpy, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].startswith("psycopg") or name.startswith("journal.postgres"):
            os.close(os.open({note!r}, os.O_CREAT | os.O_WRONLY))
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Finder())
runpy.run_path({guard!r})
"""


def test_who_has_a_journal_in_files_loads_nothing_of_it(tmp_path: Path) -> None:
    """Neither the daemon, nor its follower, nor a command: psycopg needn't be installed. Who names a database is told so."""
    note, config = tmp_path / "note", tmp_path / "covenq.toml"
    config.write_text(CONFIG)
    (tmp_path / "modules").mkdir()
    text = WITHOUT_IT.format(note=str(note), guard=str(GUARD / "sitecustomize.py"))
    (tmp_path / "modules" / "sitecustomize.py").write_text(text)
    path = f"{tmp_path / 'modules'}{os.pathsep}{clean_env()['PYTHONPATH']}"
    daemon = Daemon(tmp_path / "data", config=config, env={"PYTHONPATH": path})
    try:
        daemon.start()
        assert daemon.post("issues", issue(1), "one").status == 202
        wait_done(daemon)
        daemon.cli("status")
        assert len(daemon.cli_json("deliveries")["items"]) == 1
        daemon.cli("redact", "one", "--yes", "--reason", "asked")
        assert daemon.stop() == 0
        assert len(daemon.cli_json("deliveries")["items"]) == 1
        assert daemon.cli_json("verify")["ok"]
        assert not note.exists()
        daemon.env["COVENQ_JOURNAL_URL"] = "postgresql://covenq@/covenq"
        assert b"covenq[postgres]" in daemon.cli("verify", exit_code=None).stderr
        assert note.exists()
    finally:
        daemon.kill()


@pytest.mark.postgres
def test_a_status_does_not_wait_for_a_database_that_hangs(daemon: Daemon, servers: Cluster) -> None:
    assert daemon.post("issues", issue(1)).status == 202
    wait_done(daemon)
    servers.primary.pause()
    try:

        def away() -> bool:
            status = daemon.api("/api/v1/status").json
            return status["journal"]["database"]["away_s"] is not None and status["journal"]["bytes"] > 0

        eventually(away, 60, "it says that the database does not answer")
        assert b"covenq_database_away_seconds" in daemon.api("/metrics").body
    finally:
        servers.primary.resume()
    eventually(lambda: daemon.api("/api/v1/status").json["journal"]["database"]["away_s"] is None, 60, "it is back")


@pytest.mark.postgres
def test_an_erasure_that_no_standby_confirms_says_so_and_is_found_when_asked_again(
    daemon: Daemon, servers: Cluster
) -> None:
    assert servers.standby is not None
    assert daemon.post("issues", issue(1), "secret").status == 202
    wait_done(daemon)
    servers.standby.stop()
    try:
        said = daemon.cli("redact", "secret", "--yes", "--reason", "asked", exit_code=1).stderr
        assert b"the erasure was not confirmed in time: it may have been carried out" in said
        assert b"Give the same again" in said

        def told() -> bool:
            return b"HELD UP     commits wait for a synchronous standby" in daemon.cli("status", exit_code=None).stdout

        eventually(told, 60, "the status says what is waited for")
    finally:
        servers.standby.start()

    def found() -> bool:
        done = daemon.cli("redact", "secret", "--yes", "--reason", "asked", exit_code=None)
        return b"erased before" in done.stdout + done.stderr

    eventually(found, 60, "it had been carried out, and is found")
    assert daemon.cli_json("verify")["ok"]
    assert servers.sql("SELECT count(*) FROM covenq.record WHERE convert_from(envelope, 'UTF8') LIKE '%redacted%'") == [
        (1,)
    ]
