"""Commands for a daemon elsewhere: `--url` and its token, over plain TCP, TLS and a proxy, and what is said when it fails."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from covenq.cli import output
from covenq.cli.app import COMMANDS, build
from covenq.cli.remote import selected_remote
from covenq.cli.shared_options import taken
from covenq.client.open import open_source
from covenq.errors import CovenqError, DaemonUnreachable, Refused, UsageError
from covenq.net.address import NODES_MAX, Remote, parse_url, remotes
from covenq.net.http_client import Client
from journal.errors import JournalFull
from tests.support.daemon import Daemon, free_port
from tests.support.own_covenq import silent_address
from tests.support.raw_server import raw_server, request_of
from tests.support.requests import issue, new_guid
from tests.support.waiting import eventually

CONFIG = """
[api]
bind = "127.0.0.1:{port}"

[[route]]
name = "issues"
match = "event:issues"
run = ["true"]

[[route]]
name = "pushes"
match = "event:push"
run = ["sh", "-c", "echo its last words >&2; exit 3"]
"""


class Elsewhere:
    """A daemon with [api], and commands run against it by a user who has nothing of it but the URL and a token."""

    def __init__(self, daemon: Daemon, port: int, home: Path) -> None:
        self.daemon = daemon
        self.url = f"http://127.0.0.1:{port}"
        self.home = home
        self.tokens = {role: self.token(role) for role in ("read", "operate", "worker")}

    def token(self, role: str) -> str:
        made = self.daemon.cli("tokens", "new", "--name", f"the-{role}", "--role", role)
        return made.stdout.decode().strip()

    def cli(self, *args: str, role: str | None = "read", exit_code: int = 0, **env: str) -> tuple[str, str]:
        more = {"COVENQ_DATA": str(self.home / "nothing"), "COVENQ_CONFIG": "", "HOME": str(self.home), **env}
        if role is not None:
            more["COVENQ_TOKEN"] = self.tokens[role]
        done = self.daemon.cli(*args, "--url", self.url, env=more, exit_code=exit_code)
        assert not (self.home / "nothing").exists()
        return done.stdout.decode(), done.stderr.decode()


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    with tempfile.TemporaryDirectory(prefix="cq-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        home = directory / "home"
        home.mkdir()
        port = free_port()
        config = directory / "covenq.toml"
        config.write_text(CONFIG.format(port=port))
        daemon = Daemon(data=directory / "data", config=config).start()
        try:
            yield Elsewhere(daemon, port, home)
        finally:
            daemon.kill()


def test_reading_and_acting_work_from_elsewhere_as_they_do_here(elsewhere: Elsewhere) -> None:
    guid = new_guid()
    task = elsewhere.daemon.post("issues", issue(), guid).json["tasks"][0]
    elsewhere.daemon.wait_all_done()
    local_data_dir = elsewhere.daemon.cli_json("show", guid)
    assert json.loads(elsewhere.cli("show", guid, "--json")[0]) == local_data_dir
    assert guid in elsewhere.cli("deliveries", "event:issues")[0]
    assert json.loads(elsewhere.cli("tasks", "--json")[0])["items"][0]["id"] == task
    assert elsewhere.cli("show", guid, "--payload")[0].startswith("{")
    assert json.loads(elsewhere.cli("status", "--json")[0])["api_url"] == elsewhere.url
    assert elsewhere.url in elsewhere.cli("status")[0]
    said = elsewhere.cli("replay", guid, "--force", "--json", role="operate")[0]
    assert json.loads(said)["done"][0]["id"].endswith(guid)
    replayed = elsewhere.daemon.records("delivery.replayed")
    assert replayed[-1]["data"]["by"].startswith("token:the-operate (cli:")


def test_what_a_failed_attempt_said_last_is_shown_elsewhere_too(elsewhere: Elsewhere) -> None:
    guid = new_guid()
    elsewhere.daemon.post("push", {"ref": "refs/heads/main"}, guid)
    elsewhere.daemon.wait_all_done()
    for said in (elsewhere.cli("show", guid)[0], elsewhere.daemon.cli("show", guid).stdout.decode()):
        assert "its last words" in said
    assert "are in" not in elsewhere.cli("show", guid)[0], "its files are not on this machine"


def test_an_empty_list_says_nothing_of_this_machine(elsewhere: Elsewhere) -> None:
    assert "No delivery matches" in elsewhere.cli("deliveries", "number:987654")[1]


def test_what_a_token_may_not_do_is_refused_with_4_and_a_hint(elsewhere: Elsewhere) -> None:
    for args, role, word in (
        (("replay", new_guid()), "read", "role"),
        (("status",), "worker", "role"),
        (("status",), None, "bearer token"),
    ):
        said = elsewhere.cli(*args, role=role, exit_code=4)[1]
        assert word in said and "hint: " in said, said
    said = elsewhere.cli("status", role=None, exit_code=4, COVENQ_TOKEN="covenq_wrong")[1]
    assert "not known" in said and "covenq_wrong" not in said


def test_a_revoked_token_is_refused_without_a_restart(elsewhere: Elsewhere) -> None:
    made = elsewhere.daemon.cli("tokens", "new", "--name", "short", "--role", "read", "--json")
    token = json.loads(made.stdout)["token"]
    assert token not in made.stderr.decode()
    elsewhere.cli("status", role=None, COVENQ_TOKEN=token)
    listed = elsewhere.daemon.cli_json("tokens")["items"]
    assert {"name": "short", "role": "read"}.items() <= listed[-1].items()
    assert "short" in elsewhere.daemon.cli("tokens").stdout.decode()
    elsewhere.daemon.cli("tokens", "revoke", "short")
    elsewhere.cli("status", role=None, exit_code=4, COVENQ_TOKEN=token)
    elsewhere.daemon.cli("tokens", "revoke", "short", exit_code=3)
    misplaced = elsewhere.daemon.cli("tokens", "--data", "/nowhere", "revoke", "short", exit_code=2)
    assert "behind revoke" in misplaced.stderr.decode()
    assert token not in elsewhere.daemon.log.read_text()


def test_a_token_for_one_installation_is_made_shown_and_used(elsewhere: Elsewhere) -> None:
    words = ("tokens", "new", "--name", "acme", "--role", "operate", "--installation", "999999", "--installation", "7")
    made = json.loads(elsewhere.daemon.cli(*words, "--repository", "9", "--json").stdout)
    assert (made["installations"], made["repositories"]) == ([7, 999999], [9])
    listed = {one["name"]: one for one in elsewhere.daemon.cli_json("tokens")["items"]}
    assert (listed["acme"]["installations"], listed["acme"]["repositories"]) == ([7, 999999], [9])
    assert listed["the-read"]["installations"] is None
    assert "installation 7, 999999; repository 9" in elsewhere.daemon.cli("tokens").stdout.decode()
    for listing in ("deliveries", "tasks"):
        found, _ = elsewhere.cli(listing, "route:nobody", "--json", role=None, COVENQ_TOKEN=made["token"])
        assert json.loads(found)["items"] == []
    _, closed = elsewhere.cli("status", role=None, exit_code=4, COVENQ_TOKEN=made["token"])
    assert "about the whole machine" in closed and "without --installation" in closed
    for wrong in (("--repository", "9"), ("--installation", "0"), ("--installation", "x")):
        elsewhere.daemon.cli("tokens", "new", "--name", "b", "--role", "read", *wrong, exit_code=2)
    elsewhere.daemon.cli("tokens", "revoke", "acme")


def test_the_token_comes_from_a_file_or_the_environment_never_from_the_address(elsewhere: Elsewhere) -> None:
    file = elsewhere.home / "token"
    file.write_text(elsewhere.tokens["read"] + "\n")
    elsewhere.cli("status", "--token-file", str(file), role=None)
    elsewhere.cli("status", role=None, COVENQ_TOKEN_FILE=str(file))
    elsewhere.cli("status", "--token-file", str(elsewhere.home / "gone"), role=None, exit_code=2)
    file.write_text("two words\n")
    said = elsewhere.cli("status", "--token-file", str(file), role=None, exit_code=2)[1]
    assert "two words" not in said
    secret = "covenq_secretsecret"
    done = elsewhere.daemon.cli("status", "--url", f"http://x:{secret}@127.0.0.1:1", exit_code=2)
    assert secret not in done.stderr.decode()


def test_the_url_may_be_in_the_environment_and_data_outweighs_it(elsewhere: Elsewhere) -> None:
    env = {"COVENQ_URL": elsewhere.url, "COVENQ_TOKEN": elsewhere.tokens["read"], "COVENQ_DATA": "/nonexistent"}
    told = json.loads(elsewhere.daemon.cli("status", "--json", env=env).stdout)
    assert told["pid"] == elsewhere.daemon.pid
    local = elsewhere.daemon.cli("status", "--json", "--data", str(elsewhere.home / "other"), env=env, exit_code=None)
    assert str(elsewhere.daemon.pid) not in local.stdout.decode()
    both = elsewhere.daemon.cli("status", "--url", elsewhere.url, "--data", "/tmp", exit_code=2)
    assert "two places" in both.stderr.decode()


def test_nobody_there_exits_6_and_the_webhooks_port_is_recognised(elsewhere: Elsewhere) -> None:
    done = elsewhere.daemon.cli("status", "--url", f"http://{silent_address()}", exit_code=6)
    assert "no daemon answers at http://127.0.0.1" in done.stderr.decode()
    done = elsewhere.daemon.cli("status", "--url", elsewhere.daemon.url, exit_code=1)
    assert "[api] bind" in done.stderr.decode()


def test_events_are_followed_from_elsewhere_and_end_with_the_daemon(
    data: Path, write_config: Callable[..., Path]
) -> None:
    port = free_port()
    daemon = Daemon(data=data, config=write_config(CONFIG.format(port=port))).start()
    try:
        token = daemon.cli("tokens", "new", "--name", "x", "--role", "read").stdout.decode().strip()
        got: list[str] = []
        ended = threading.Event()
        source = open_source(data, url=Remote(f"http://127.0.0.1:{port}", token))

        def follow() -> None:
            try:
                for event in source.events(0):
                    got.append(event.kind)
            except DaemonUnreachable:
                ended.set()

        threading.Thread(target=follow, daemon=True).start()
        daemon.post("issues", issue())
        eventually(lambda: "task.completed" in got, 60)
        assert daemon.stop() == 0
        assert ended.wait(30)
        with pytest.raises(DaemonUnreachable):
            open_source(data, url=Remote(f"http://127.0.0.1:{port}", token))
    finally:
        daemon.kill()


LOCAL = frozenset(
    "serve info doctor bench routes verify salvage backup tokens send init phase demo listen migrate".split()
)
"""Commands about this machine's own files and processes: they take no remote daemon. `covenq send --url` is a webhook's."""
LOCAL_PART = ("secrets", "rotate")
"""It writes a secret's file and the configuration."""


def test_every_command_that_asks_a_source_takes_a_url_and_no_other_does() -> None:
    for name in COMMANDS:
        command = build(name)
        for one in (command, *getattr(command, "commands", {}).values()):
            names = [param.name for param in one.params]
            if name in LOCAL or (name, one.name) == LOCAL_PART:
                assert "token_file" not in names, (name, one.name)
            else:
                assert {"data", "config"} <= set(names), (name, one.name)
                assert names[-2:] == ["url", "token_file"], (name, one.name)
            assert one.help


def test_what_the_options_select_holds_while_the_command_runs_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("COVENQ_URL", "COVENQ_TOKEN", "COVENQ_TOKEN_FILE"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "token").write_text("covenq_secret\n")
    given = {"json": False, "jsonl": True, "data": None, "url": "http://192.0.2.1:1", "token_file": f"{tmp_path}/token"}
    with taken(given) as arguments:
        assert (arguments["json"], output.is_json_lines()) == (True, True)
        assert selected_remote() == Remote("http://192.0.2.1:1", "covenq_secret")
        with taken({"json": False, "jsonl": False, "url": "http://192.0.2.1:1"}):  # as of `covenq send`
            assert not output.is_json_lines()
    assert (selected_remote(), output.is_json_lines()) == (None, False)
    assert "warning: the token crosses the network in clear" in capsys.readouterr().err


# ---- addresses and tokens


@pytest.mark.parametrize("url", ["http://h", "https://h:1", "https://h/covenq/", "http://[::1]:8788", "HTTPS://H"])
def test_addresses_that_are_some(url: str) -> None:
    assert parse_url(url).hostname


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h",
        "h:8788",
        "ftp://h",
        "http://",
        "http://:1",
        "http://h:0",
        "http://h:x",
        "http://h:99999",
        "http://u@h",
        "http://u:p@h",
        "http://h/?q",
        "http://h/#f",
        "http://h/a b",
        "http://h\n",
        "http://[::1",
        "http://hé",
        "file:///etc/passwd",
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(UsageError):
        Client(url)


def test_a_token_needs_a_url_and_is_one_word() -> None:
    assert remotes([], None, {}) == ()
    assert remotes([], None, {"COVENQ_TOKEN": "x"}) == ()
    assert remotes(["http://h"], None, {"COVENQ_TOKEN": " x\n"}) == (Remote("http://h", "x"),)
    assert remotes([], None, {"COVENQ_URL": "http://h"}) == (Remote("http://h", None),)
    for bad in ("a b", "a\nb", "é", "x" * 300, " "):
        with pytest.raises(UsageError):
            remotes(["http://h"], None, {"COVENQ_TOKEN": bad})
    with pytest.raises(UsageError):
        remotes([], "/file", {})
    assert "sesame" not in repr(Remote("http://h", "sesame"))


def test_several_addresses_have_one_token_and_each_is_one() -> None:
    listed = {"COVENQ_URL": "http://a , https://b/x,y,http://a", "COVENQ_TOKEN": "t"}
    assert remotes([], None, listed) == (Remote("http://a", "t"), Remote("https://b/x,y", "t"))
    assert remotes(["http://c", "http://d"], None, listed) == (Remote("http://c", "t"), Remote("http://d", "t"))
    for bad in (["http://a", "b"], [f"http://h{n}" for n in range(NODES_MAX + 1)]):
        with pytest.raises(UsageError):
            remotes(bad, None, {})


@pytest.mark.parametrize(
    ("url", "exposed"),
    [
        ("http://h", True),
        ("https://h", False),
        ("http://127.0.0.2:1", False),
        ("http://[::1]", False),
        ("http://localhost", False),
    ],
)
def test_a_token_in_clear_is_noticed(url: str, exposed: bool) -> None:
    assert Remote(url, "x").exposed is exposed
    assert not Remote(url).exposed


# ---- TLS, and what stands in front of a daemon


@pytest.fixture(scope="module")
def certificate() -> Iterator[tuple[Path, ssl.SSLContext]]:
    """(the authority's file, a server's context with a certificate of its for localhost)."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: no certificate can be made")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)

        def openssl(*args: str) -> None:
            subprocess.run(["openssl", *args], cwd=directory, check=True, capture_output=True)

        (directory / "ext").write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
        for who in ("authority", "server"):
            openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{who}.key")
        openssl(
            *"req -x509 -new -key authority.key -days 30 -subj /CN=a -out authority.pem".split(),
            *("-addext", "keyUsage=critical,keyCertSign"),  # without it Python 3.13 trusts no authority
        )
        openssl("req", "-new", "-key", "server.key", "-subj", "/CN=s", "-out", "server.csr")
        openssl(
            *"x509 -req -in server.csr -CA authority.pem -CAkey authority.key -set_serial 2".split(),
            *"-days 30 -extfile ext -out server.pem".split(),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "server.pem", directory / "server.key")
        yield directory / "authority.pem", context


def test_a_certificate_is_checked_before_the_token_is_sent(
    certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, context = certificate
    got: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        got.append(request_of(connection))
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"ok":true}')

    with raw_server(answer, context) as port:
        client = Client(Remote(f"https://localhost:{port}/base/", "sesame"))
        with pytest.raises(DaemonUnreachable, match="certificate is not trusted") as raised:
            client.get("/api/v1/status")
        assert "SSL_CERT_FILE" in raised.value.hint
        assert got == []
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        with pytest.raises(DaemonUnreachable, match="certificate is not trusted"):
            Client(Remote(f"https://127.0.0.1:{port}", "sesame")).get("/api/v1/status")  # it is localhost's
        assert got == []
        assert client.get("/api/v1/status") == {"ok": True}
    assert got[0].startswith(b"GET /base/api/v1/status HTTP/1.1\r\n")
    assert b"Authorization: Bearer sesame\r\n" in got[0]


def test_plain_http_where_tls_is_meant_is_said(certificate: tuple[Path, ssl.SSLContext]) -> None:
    _, context = certificate
    with raw_server(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad\r\n\r\n")) as port:
        with pytest.raises(DaemonUnreachable, match="no TLS there") as raised:
            Client(f"https://localhost:{port}").get("/x")
        assert "http://" in raised.value.hint
    with raw_server(request_of, context) as port, pytest.raises(DaemonUnreachable):
        Client(f"http://localhost:{port}").get("/x")


@pytest.mark.parametrize(
    ("reply", "body", "kind", "word"),
    [
        ("502 Bad Gateway", "<html>", DaemonUnreachable, "a proxy there says 502"),
        ("503 X", "", DaemonUnreachable, "a proxy there says 503"),
        ("302 X\r\nLocation: http://127.0.0.1:1/", "", CovenqError, "not as covenq does"),
        ("200 OK", "<html>", CovenqError, "no JSON object"),
        ("401 X", '{"ok":false,"error":"token_wrong","detail":"so","hint":"y"}', Refused, "so"),
        ("503 X", '{"ok":false,"error":"journal_full","detail":"so","hint":"y"}', JournalFull, "so"),
        ("nonsense", None, DaemonUnreachable, "no daemon answers"),
        ("", None, DaemonUnreachable, "no daemon answers"),
    ],
)
def test_what_a_proxy_says_is_told_apart_from_what_a_daemon_says(
    reply: str, body: str | None, kind: type[Exception], word: str
) -> None:
    whole = reply if body is None else f"HTTP/1.1 {reply}\r\nContent-Length: {len(body)}\r\n\r\n{body}"

    def answer(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(whole.encode())

    with raw_server(answer) as port, pytest.raises(kind, match=word):
        Client(Remote(f"http://127.0.0.1:{port}", "sesame")).get("/api/v1/status")


async def test_the_dashboard_opens_on_a_daemon_elsewhere(elsewhere: Elsewhere) -> None:
    from covenq.tui.app import Dashboard

    where = Remote(elsewhere.url, elsewhere.tokens["read"])
    app = Dashboard(lambda: open_source(Path("/nonexistent"), url=where), None)
    async with app.run_test() as pilot:
        for _ in range(600):
            await pilot.pause(0.05)
            if app.status:
                break
        assert app.status is not None and app.status.pid == elsewhere.daemon.pid
        await pilot.press("v")
        await pilot.pause()
        assert len(app.screen_stack) == 1, "there is no journal here to verify"
        assert not await app.connection.daemon_is_back()
