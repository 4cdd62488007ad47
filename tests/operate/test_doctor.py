"""covenq doctor: each thing that can be wrong is found, with one next step; a healthy directory has no problem."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from covenq.config.load import build
from covenq.daemon.systemd import watchdog_of
from covenq.model.journal_status import HeadStatus, JournalStatus
from covenq.model.route_times import RouteMinutes, RouteTimes
from covenq.model.status import Oldest, Reload, SecretWarning, StateStatus, Status
from covenq.operate.maintain import doctor
from covenq.operate.maintain.doctor import examine
from covenq.operate.maintain.doctor_status import status_findings
from covenq.operate.maintain.finding import BAD, GOOD, WARN, DoctorContext, Finding
from covenq.tasks.execution import running
from tests.support.answers import blank
from tests.support.daemon import Daemon
from tests.support.journals.chosen import open_chosen
from tests.support.records import received
from tests.support.terminal import InTerminal
from tests.support.waiting import eventually

NOW = 1_800_000_000.0
STATUS = blank(
    Status,
    reasons=["no daemon is running"],
    version=doctor.__version__,
    journal=blank(JournalStatus, head=HeadStatus(1, ""), segments=1),
    state=StateStatus(1, 0, None),
    oldest=Oldest({}, {}),
)
LONG = {"github": {"webhook_secrets": [{"name": "app", "value": "x" * 32}]}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    return path


def look(data: Path, config: dict[str, Any] | None = None, **more: Any) -> list[Finding]:
    given = {"server": {"bind": "127.0.0.1:0"}, **LONG, **(config or {})}
    timer: Callable[[], float] = more.pop("timer", Clock(0.001))
    command = more.pop("command", lambda name: name)
    fields = {"status": STATUS, "trouble": None, "newest_at": None, "env": {}, **more}
    context = DoctorContext(build(given, None, {}), data, fields.pop("env"), now=NOW, **fields)
    return list(examine(context, command=command, timer=timer))


class Clock:
    """Each look at it is so many seconds after the one before."""

    def __init__(self, step: float) -> None:
        self.at, self.step = 0.0, step

    def __call__(self) -> float:
        self.at += self.step
        return self.at


def of(found: list[Finding], check: str) -> list[tuple[str, str]]:
    return [(finding.level, finding.words) for finding in found if finding.check == check]


def only(found: list[Finding], check: str) -> Finding:
    (finding,) = [finding for finding in found if finding.check == check and finding.level != GOOD]
    assert finding.next
    return finding


@pytest.fixture(autouse=True)
def _on_a_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever the tests' own directory is on."""
    monkeypatch.setattr(doctor, "filesystem_of", lambda path: "ext4")
    yield


def test_a_healthy_directory_has_no_problem(data: Path) -> None:
    routes = {"route": [{"name": "a", "match": "event:push", "run": ["true"]}]}
    found = look(data, routes, status=replace(STATUS, pid=1, ready=True, reasons=[]))
    assert [finding for finding in found if finding.level != GOOD] == []
    assert of(found, "sync") == [("ok", "20 syncs of 8 KiB on ext4: half within 1.00 ms, the slowest 1.00 ms")]
    assert not list(data.iterdir())


def test_secrets(data: Path) -> None:
    short = {"github": {"webhook_secrets": [{"name": "app", "value": "hush"}, {"name": "two", "file": "/no/such"}]}}
    found = look(data, short)
    assert of(found, "secret") == [
        ("problem", "webhook secret 'two': file /no/such can't be read: No such file or directory"),
        ("problem", "webhook secret 'app' is short: 4 bytes, where 16 and more are safe"),
    ]
    quoted = {"github": {"webhook_secrets": [{"name": "app", "value": "'0123456789abcdef'"}]}}
    ((level, words),) = of(look(data, quoted), "secret")
    assert (level, words) == ("warning", "webhook secret 'app' is in quotes, which counts as part of it")
    assert "hush" not in json.dumps([finding.object() for finding in found])


def test_the_secrets_that_only_the_daemon_can_read_are_told_of_by_what_they_are(data: Path) -> None:
    weak = SecretWarning("the first of the daemon's is weak", counts=False)
    enclosed = SecretWarning("its second is in quotes", counts=True)
    other = "webhook secrets of its configuration take effect at the next start"
    warnings = [other, weak.words, enclosed.words]
    reload = Reload("2027-01-15T07:00:00.000000Z", True, None, None, 1, warnings, [weak, enclosed])
    found = look(data, status=replace(STATUS, pid=1, ready=True, reasons=[], reload=reload))
    assert of(found, "secret") == [("problem", weak.words), ("warning", enclosed.words)]
    assert [one.next for one in found if one.words == other] == ["Restart the daemon."]
    assert not {weak.words, enclosed.words} & {words for _, words in of(found, "configuration")}, "once is enough"


def test_that_no_daemon_runs_is_graver_than_that_others_may_look_into_the_directory(data: Path) -> None:
    data.chmod(0o755)
    found = look(data)
    assert only(found, "daemon") == Finding("daemon", BAD, "none is running: nothing is received", "covenq serve")
    assert only(found, "permissions").level == WARN
    data.chmod(0o770)
    assert only(look(data), "permissions").level == BAD, "they may put another journal there"
    data.chmod(0o750)
    assert of(look(data), "permissions") == [("ok", "nothing of covenq's is open to other users")]


def test_who_may_read_a_secret_may_forge_deliveries(data: Path) -> None:
    (data / "secret").write_text("x" * 40)
    (data / "secret").chmod(0o644)
    assert only(look(data, {"github": {}}), "permissions").level == BAD


def test_permissions(data: Path) -> None:
    data.chmod(0o755)
    (data / "secret").write_text("x" * 40)
    (data / "secret").chmod(0o644)
    found = look(data, {"github": {}})
    assert [finding.next for finding in found if finding.check == "permissions"] == [
        f"chmod go= {data}",
        f"chmod go= {data / 'secret'}",
    ]


def test_the_private_key_of_an_app_is_looked_at_and_never_shown(data: Path) -> None:
    key = data.parent / "app.pem"
    app = {"github": {"app": {"id": 1, "private_key_file": str(key)}}}
    missing = [words for level, words in of(look(data, app), "secret") if level == "warning"]
    assert missing == [f"app private key: {key} can't be read: No such file or directory"]
    key.write_text("hush")
    key.chmod(0o644)
    found = look(data, app)
    assert [one.next for one in found if one.check == "permissions" and str(key) in one.words] == [f"chmod go= {key}"]
    assert "hush" not in json.dumps([finding.object() for finding in found])
    key.chmod(0o600)
    assert not [one for one in look(data, app) if one.check == "permissions" and str(key) in one.words]


def test_the_token_by_which_a_node_that_stands_by_works(data: Path) -> None:
    token = data / "token"
    shared = {
        "journal": {"engine": "postgres", "url": "postgresql://db/covenq"},
        "api": {},
        "worker": {"on_standby": True, "token_file": str(token)},
    }
    found = [one for one in look(data, shared) if "token_file" in one.words]
    assert [one.level for one in found] == [WARN] and "can't be read" in found[0].words
    token.write_text("cqw_one\n")
    assert not [one for one in look(data, shared) if "token_file" in one.words]


def test_the_command_of_a_route_and_no_routes(data: Path) -> None:
    route = {"route": [{"name": "fix", "match": "event:push", "run": ["nowhere"]}]}
    assert "'nowhere' is no command" in only(look(data, route, command=lambda name: None), "configuration").words
    assert only(look(data), "configuration").next == "covenq init"


@pytest.mark.parametrize(
    ("step", "level", "words"),
    [
        (0.000001, "problem", "no disk is so fast"),
        (0.2, "warning", "deliveries wait for it"),
        (0.002, "ok", "half within"),
    ],
)
def test_the_speed_of_a_sync_tells_whether_it_is_one(data: Path, step: float, level: str, words: str) -> None:
    ((found, told),) = of(look(data, timer=Clock(step)), "sync")
    assert (found, words in told) == (level, True)


@pytest.mark.parametrize(("kind", "words"), [("tmpfs", "memory"), ("nfs4", "locks and syncs")])
def test_filesystems_that_keep_nothing(data: Path, monkeypatch: pytest.MonkeyPatch, kind: str, words: str) -> None:
    monkeypatch.setattr(doctor, "filesystem_of", lambda path: kind)
    assert words in only(look(data), "disk").words


def test_the_clock_and_the_port(data: Path) -> None:
    assert "was set back" in only(look(data, newest_at="2027-01-15T08:01:00.000000Z"), "clock").words
    assert of(look(data, newest_at="2027-01-15T07:59:00.000000Z"), "clock")[0][0] == "ok"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "Address already in use" in only(look(data, {"server": {"bind": bind}}), "port").words


def test_the_daemon_and_its_version(data: Path) -> None:
    assert only(look(data), "daemon").next == "covenq serve"
    running = replace(STATUS, pid=7, ready=True, version="0.0.1", webhook_url="http://x/webhook")
    assert "this command" in only(look(data, status=running), "version").words
    assert only(look(data, status=replace(running, ready=False, reasons=["The disk is low."])), "daemon")
    assert "can't be read" in only(look(data, status=None, trouble="it can't be read"), "daemon").words
    refused = replace(running, reload=Reload("2027-01-15T07:00:00.000000Z", False, "line 3", None, 1, []))
    found = look(data, {"route": [{"name": "a", "match": "", "run": ["true"]}]}, status=refused)
    assert only(found, "configuration").next == "covenq routes check"
    unread = Reload("2027-01-15T07:00:00.000000Z", False, "file /s/app can't be read", "Put the secret there.", 1, [])
    found = look(data, {"route": [{"name": "a", "match": "", "run": ["true"]}]}, status=replace(running, reload=unread))
    assert "/s/app" in only(found, "configuration").words
    assert only(found, "configuration").next == "Put the secret there."
    held = replace(STATUS, reasons=["/d/journal is in use by process 9, and no daemon answers"])
    found = look(data, status=held)
    assert only(found, "daemon").words == held.reasons[0]
    assert not any(one.check == "processes" for one in found), "its commands are no orphans"
    damaged = replace(STATUS, reasons=["no daemon is running", "bad sum in 1.jsonl at byte 7, seq 3: …"])
    assert only(look(data, status=damaged), "journal").next == "covenq verify"
    named = replace(STATUS, reasons=["/d at byte 7/journal is in use by process 9, and no daemon answers"])
    assert [level for level, _ in of(look(data, status=named), "journal")] == [GOOD], "a name is no damage"


def test_refusals_are_told_with_what_to_do(data: Path) -> None:
    line = {"at": "2027-01-15T07:00:00.000000Z", "error": "signature_wrong", "status": 401, "body": "reformatted"}
    old = {**line, "at": "2027-01-13T07:00:00.000000Z", "error": "busy"}
    (data / "refused.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (old, line, line)))
    finding = only(look(data), "requests")
    assert finding.words.startswith("2 refused in the last 24 hours: signature_wrong, last at 2027-01-15T07:00:00Z")
    assert "covenq-proxy(7)" in str(finding.next)


def test_commands_that_outlived_their_daemon(data: Path) -> None:
    data.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        running.note(data, "t1", 1, "fence", process.pid)
        assert str(process.pid) in only(look(data), "processes").words
        ready = replace(STATUS, pid=os.getpid(), ready=True, webhook_url="x")
        assert of(look(data, status=ready), "processes") == []
    finally:
        process.communicate()
    assert of(look(data), "processes")[0][0] == "ok"


def test_a_task_that_waits_for_long(data: Path) -> None:
    waiting = replace(STATUS, oldest=Oldest({}, {"queued": "2027-01-15T04:30:00.000000Z"}))
    assert only(look(data, status=waiting), "tasks").words == "the oldest task waits for 3 hours"


def test_a_route_that_fails_is_told_of_with_the_command_that_lists_what_failed(data: Path) -> None:
    times = RouteTimes(attempts=90, failed=80, completed=10, categories={"exit": 75, "timeout": 5})
    found = only(look(data, failing=[RouteMinutes("deploy", [90], 0, times)]), "routes")
    assert found.words == "deploy: 80 of 90 attempts of the last hour failed: exit ×75, timeout ×5"
    assert (found.level, found.next) == (WARN, "covenq tasks route:deploy state:failed")


def test_the_command_tells_of_the_routes_that_the_overview_calls_failing(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon('[[route]]\nname = "a"\nmatch = "event:push"\nrun = ["false"]\n')
    daemon.data.chmod(0o700)
    for number in range(5):
        daemon.post("push", {"number": number})
    daemon.wait_all_done()
    [found] = findings(daemon, exit_code=0)["routes"]
    assert found["words"] == "a: 5 of 5 attempts of the last hour failed: exit ×5"
    assert len(daemon.cli_json(*found["next"].split()[1:])["items"]) == 5


def test_a_backup_that_can_not_be_looked_at_hides_no_other(data: Path, tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "short" / "journal").mkdir(parents=True)
    (tmp_path / "short" / "journal" / "00000000000000000001.jsonl.tmp").touch()
    listed = [{"path": str(tmp_path / name)} for name in ("circle", "gone", "short")]
    (data / "backups.json").write_text(json.dumps({"backups": listed}))
    (data / "journal.salvaged-1").mkdir()
    found = look(data)
    [(_, unseen), (_, short)] = of(found, "backups")
    assert unseen.startswith(f"the one in {tmp_path / 'circle'} can't be looked at: Too many levels")
    assert short == f"the one in {tmp_path / 'short'} was cut short"
    assert any(words.startswith(f"{data / 'journal.salvaged-1'} was salvaged") for _, words in of(found, "journal"))


def test_the_command_exits_with_1_for_a_problem_alone(tmp_path: Path) -> None:
    data = tmp_path / "here"
    data.mkdir(mode=0o755)
    with open_chosen(data) as journal:
        journal.append([received("a")])
    daemon = Daemon(data=data, env={"COVENQ_BIND": "127.0.0.1:0"})
    found = daemon.cli_json("doctor", exit_code=1)
    assert found["ok"] is False
    assert {"check", "level", "words", "next"} == set(found["findings"][0])
    said = daemon.cli("doctor", exit_code=1)
    lines = said.stdout.decode().splitlines()
    assert lines[:2] == [
        f"{'problem':<9}{'daemon':<15}none is running: nothing is received",
        f"{'':24}next: covenq serve",
    ]
    (at,) = (number for number, line in enumerate(lines) if line.startswith("warning  permissions"))
    assert lines[at + 1] == f"{'':24}next: chmod go= {data}", "the next step stands beside its finding"
    levels = [line.split()[0] for line in lines if line[:1].strip()]
    assert levels == sorted(levels, key=["problem", "warning", "ok"].index)
    assert said.stderr.decode().startswith(f"{levels.count('problem')} problem")
    wide = InTerminal(daemon, "doctor", COLUMNS="80", NO_COLOR="1").said.splitlines()
    assert max(map(len, (line for line in wide if str(data) not in line))) <= 80


def findings(daemon: Daemon, *args: str, exit_code: int = 1) -> dict[str, list[dict[str, Any]]]:
    """What `covenq doctor` says of it, without what is well, by what was looked at."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in daemon.cli_json("doctor", *args, exit_code=exit_code)["findings"]:
        if one["level"] != "ok" and one["check"] not in ("disk", "sync", "space"):
            assert one["next"]
            found.setdefault(one["check"], []).append(one)
    return found


def test_a_daemon_that_is_paused_and_refused_its_configuration(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon('[[route]]\nname = "a"\nmatch = "event:push"\nrun = ["true"]\n')
    daemon.data.chmod(0o700)
    daemon.cli("pause", "intake", "--yes", "--reason", "moving house")
    daemon.cli("pause", "worker")
    assert daemon.config is not None
    daemon.config.write_text("[[route]]\nname = 7\n")
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: not (daemon.api("/api/v1/status").json["reload"] or {"ok": True})["ok"])
    assert daemon.request("POST", "/webhook", b"{}", {"X-Forwarded-For": "10.0.0.1", "Via": "1.1 p"}).status >= 400
    found = findings(daemon)
    assert [(one["level"], one["next"]) for one in found["pauses"]] == [
        ("problem", "covenq resume intake"),
        ("warning", "covenq resume worker"),
    ]
    assert found["pauses"][0]["words"].endswith(": moving house")
    assert "name" in found["configuration"][0]["words"]
    assert "through a proxy" in found["requests"][0]["words"]


def test_a_stopped_one_with_much_wrong(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    daemon.data.chmod(0o700)
    daemon.cli("backup", str(daemon.data.parent / "copy"))
    assert daemon.stop() == 0
    assert set(findings(daemon)) <= {"configuration", "daemon"}

    (daemon.data.parent / "copy" / "journal" / "x.tmp").touch()
    (daemon.data / "journal.salvaged-1").mkdir()
    (daemon.data / "verified.json").write_text(
        json.dumps({"at": "2026-11-23T00:00:00Z", "ok": False, "records": 1, "findings": 1, "seq": 1, "seconds": 0.1})
    )
    daemon.data.chmod(0o757)
    orphan = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    daemon.secret = "short"
    try:
        running.note(daemon.data, "t1", 1, "fence", orphan.pid)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            daemon.env["COVENQ_BIND"] = f"127.0.0.1:{taken.getsockname()[1]}"
            found = findings(daemon)
    finally:
        orphan.communicate()
    assert str(orphan.pid) in found["processes"][0]["words"]
    assert found["backups"][0]["next"] == f"covenq backup {daemon.data.parent / 'copy'}"
    assert {"the last verification, 2026-11-23T00:00:00Z, found damage: None"} <= {
        one["words"] for one in found["journal"]
    }
    assert any("journal.salvaged-1" in one["words"] for one in found["journal"])
    assert found["permissions"][0]["next"] == f"chmod go= {daemon.data}"
    assert "in use" in found["port"][0]["words"]
    assert "short: 5 bytes" in found["secret"][0]["words"]


def test_a_configuration_that_is_none_keeps_nobody_from_the_rest(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon("")
    assert daemon.config is not None
    daemon.config.write_text("[server]\nthreads = 0\n")
    found = findings(daemon)
    assert "server.threads" in found["configuration"][0]["words"]
    assert "daemon" not in found


def test_whether_systemd_watches_what_it_started(data: Path) -> None:
    def found(**env: str) -> list[Finding]:
        running = replace(STATUS, pid=7, ready=True, webhook_url="x", watchdog=watchdog_of(env, 7))
        return list(status_findings(DoctorContext(build(LONG, None, {}), data, {}, running, None, None, NOW)))

    started = {"SYSTEMD_EXEC_PID": "7", "NOTIFY_SOCKET": "@x"}
    assert only(found(**started), "systemd").next == "covenq init --systemd"
    assert only(found(SYSTEMD_EXEC_PID="7", WATCHDOG_USEC="30000000"), "systemd").level == "warning"
    assert of(found(**started, WATCHDOG_USEC="30000000"), "systemd") == [("ok", "it watches the daemon, every 30 s")]
    assert found(SYSTEMD_EXEC_PID="1", NOTIFY_SOCKET="@x") == []


@pytest.mark.deep
def test_the_crash_test_holds_this_disk_to_every_promise(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    found = json.loads(daemon.cli("doctor", "--crash-test", "--json", exit_code=None, timeout=180).stdout)
    (crash,) = [one for one in found["findings"] if one["check"] == "crash test"]
    assert crash["level"] == "ok", crash
    assert not list(daemon.data.glob(".crash-test-*"))
