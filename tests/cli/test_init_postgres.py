"""`covenq init --postgres`: tables that a daemon takes up, the configuration that names them, and SQL for roles that works."""

from __future__ import annotations

import socket
from pathlib import Path

import psycopg
import pytest

from tests.support.daemon import Daemon
from tests.support.postgres.server import cluster
from tests.support.requests import issue
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgres


@pytest.fixture
def url() -> str:
    servers = cluster(standby=False)
    servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    for role in ("covenq_writer", "covenq_reader"):
        servers.sql(f"DROP ROLE IF EXISTS {role}")
        servers.sql(f"CREATE ROLE {role} LOGIN")
    return servers.url


def as_role(url: str, role: str) -> str:
    return url.replace("covenq@", f"{role}@")


def test_what_it_makes_is_served_with_no_more_rights_than_it_prints(url: str, tmp_path: Path) -> None:
    config = tmp_path / "covenq.toml"
    daemon = Daemon(tmp_path / "data", config=config, forked=True)
    made = daemon.cli("init", "--postgres", url)
    assert b"The tables are made" in made.stderr
    assert b"GRANT pg_read_all_stats TO" in made.stdout
    grants = made.stdout.decode().replace('"covenq"', "covenq_writer")
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(grants)  # type: ignore[call-overload]
    config.write_text(config.read_text().replace(url, as_role(url, "covenq_writer")))
    try:
        daemon.start()
        assert daemon.post("issues", issue(1), "one").status == 202
        eventually(lambda: daemon.cli_json("tasks", "state:completed")["items"], 60, "its task ends")
        daemon.cli("redact", "one", "--yes", "--reason", "asked")
        assert daemon.cli_json("verify")["ok"]
        database = daemon.cli_json("status")["journal"]["database"]
        assert database["standbys"] == [] and not database["hidden"]
        daemon.stop()
        daemon.env["COVENQ_JOURNAL_URL"] = as_role(url, "covenq_reader")
        assert [one["guid"] for one in daemon.cli_json("deliveries")["items"]] == ["one"]
        assert daemon.cli_json("verify")["ok"]
        assert b"permission denied" in daemon.cli("requeue", "state:completed", "--yes", exit_code=None).stderr
    finally:
        daemon.kill()
    with psycopg.connect(as_role(url, "covenq_writer"), autocommit=True) as conn:
        for forbidden in (
            "DELETE FROM covenq.record",
            "UPDATE covenq.record SET sum = ''",
            "DELETE FROM covenq.content",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(forbidden)  # type: ignore[call-overload]


def test_a_configuration_that_is_there_is_added_to_and_not_changed_to_another_database(
    url: str, tmp_path: Path
) -> None:
    config = tmp_path / "covenq.toml"
    config.write_text("# mine\n[worker]\nconcurrency = 7\n")
    daemon = Daemon(tmp_path / "data", config=config)
    daemon.cli("init", "--postgres", url)
    assert config.read_text().startswith("# mine\n[worker]\nconcurrency = 7\n")
    assert f'url = "{url}"' in config.read_text()
    written = config.read_text()
    again = daemon.cli("init", "--postgres", url)  # as hints say, for the GRANTs
    assert b"The tables were there" in again.stderr and b"GRANT INSERT" in again.stdout
    other = daemon.cli("init", "--postgres", as_role(url, "covenq_writer"), exit_code=4)
    assert b"[journal] already" in other.stderr
    assert config.read_text() == written


@pytest.mark.parametrize(
    "bad", ["postgresql://a:hunter2@h/d", "postgresql://a@h/d?password=hunter2", "mysql://h/d", "postgresql://[x"]
)
def test_what_is_no_url_or_holds_a_password_is_refused(tmp_path: Path, bad: str) -> None:
    daemon = Daemon(tmp_path / "data", config=tmp_path / "covenq.toml")
    said = daemon.cli("init", "--postgres", bad, exit_code=2)
    assert b"hunter2" not in said.stdout + said.stderr and said.stderr.count(b"hint:") == 1
    assert not (tmp_path / "covenq.toml").exists()


def test_who_may_make_no_tables_gets_the_sql(url: str, tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "data", config=tmp_path / "covenq.toml")
    said = daemon.cli("init", "--postgres", as_role(url, "covenq_writer"), exit_code=4)
    assert b"CREATE TABLE covenq.record" in said.stdout and b"GRANT" in said.stdout
    assert not (tmp_path / "covenq.toml").exists()
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(said.stdout.decode())  # type: ignore[call-overload]
    new = daemon.data.with_name("new") / "below"  # the machine never had a covenq
    daemon.cli("init", "--postgres", as_role(url, "covenq_writer"), "--config", str(new / "covenq.toml"))
    daemon.config = new / "covenq.toml"
    try:
        daemon.start()
        assert daemon.post("issues", issue(1)).status == 202
    finally:
        daemon.kill()


def test_who_may_not_use_the_tables_gets_what_is_missing_and_no_second_journal(url: str, tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "data", config=tmp_path / "covenq.toml")
    daemon.cli("init", "--postgres", url)
    other = Daemon(tmp_path / "other", config=tmp_path / "other.toml")
    said = other.cli("init", "--postgres", as_role(url, "covenq_writer"), exit_code=4)
    assert b"are there, and this role may not use them" in said.stderr and b"run the GRANTs" in said.stderr
    assert b"CREATE TABLE" not in said.stdout and b"INSERT INTO" not in said.stdout
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(said.stdout.decode())  # type: ignore[call-overload]
        conn.execute("REVOKE SELECT ON covenq.head FROM covenq_writer")
    refused = other.cli("init", "--postgres", as_role(url, "covenq_writer"), exit_code=4).stderr
    assert b"permission denied for table head" in refused and b"run the GRANTs" in refused
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(said.stdout.decode())  # type: ignore[call-overload]
    other.cli("init", "--postgres", as_role(url, "covenq_writer"))


def test_the_printed_sql_makes_the_role_that_looks(url: str, tmp_path: Path) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("DROP ROLE covenq_reader")
    said = (
        Daemon(tmp_path / "data", config=tmp_path / "covenq.toml")
        .cli("init", "--postgres", as_role(url, "covenq_writer"), exit_code=4)
        .stdout.decode()
    )
    with psycopg.connect(url, autocommit=True) as conn:
        for _ in range(2):
            conn.execute(said)  # type: ignore[call-overload]
            said = said[said.index("COMMIT;") :] if "COMMIT;" in said else said
        conn.execute("ALTER ROLE covenq_reader LOGIN")
    looks = Daemon(tmp_path / "data", env={"COVENQ_JOURNAL_URL": as_role(url, "covenq_reader")})
    assert looks.cli_json("verify")["ok"]


def test_a_server_that_does_not_answer_is_told_of_without_a_daemon_that_tries_again(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nothing listens
        url = f"postgresql://covenq@127.0.0.1:{taken.getsockname()[1]}/covenq"
        daemon = Daemon(tmp_path / "data", config=tmp_path / "covenq.toml")
        said = daemon.cli("init", "--postgres", url, exit_code=1).stderr.decode()
    assert "the database can't be reached" in said
    assert "Does its server run, is the URL right, and may this role connect?" in said and "covenq status" not in said
