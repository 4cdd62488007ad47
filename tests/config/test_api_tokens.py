"""Tokens: their file, the roles they give on the listener of [api], and what is said, counted and logged of those refused."""

from __future__ import annotations

import fcntl
import http.client
import json
import logging
import multiprocessing
import os
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from covenq.config.api_tokens import PRESENTED_MAX, Role, Tokens, create, digest, find, read, revoke
from covenq.config.load import build
from covenq.errors import ConfigError, CovenqError, NotFound, Refused, UsageError
from covenq.http.openapi.operations import OPERATIONS
from covenq.model.token_scope import Scope
from tests.support.daemon import Daemon
from tests.support.requests import Answer, ask, encode, issue, new_guid
from tests.support.serving import Served, serving


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


@pytest.fixture
def served(data: Path) -> Iterator[Served]:
    with serving(data, {"api": {}}) as served:
        yield served


def remote(
    served: Served,
    path: str,
    token: str | None = None,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """A request on the listener of [api]."""
    sent = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
    connection = http.client.HTTPConnection("127.0.0.1", served.remote_port, timeout=30)
    try:
        return ask(connection, method, path, body, sent)
    finally:
        connection.close()


def token(served: Served, name: str, role: str) -> str:
    return create(served.data / "tokens.json", name, role)


# ---- the file


def test_a_token_is_kept_as_a_hash_alone_and_found_by_it(path: Path) -> None:
    first, second = create(path, "ci", "read"), create(path, "ops", "operate")
    assert len(first) > 40 and first != second
    kept = path.read_text()
    assert first not in kept and second not in kept and digest(first) in kept
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    tokens = read(path)
    assert [(one.name, one.role) for one in tokens] == [("ci", Role.READ), ("ops", Role.OPERATE)]
    assert find(tokens, first) == tokens[0] and find(tokens, second) == tokens[1]
    for wrong in ("", "x", first[:-1], first + "x", digest(first), first.upper(), "é" * 10, "\udcff", "x" * 10000):
        assert find(tokens, wrong) is None, wrong
    assert find(tokens, first + " " * PRESENTED_MAX) is None
    assert first not in repr(tokens)


def test_a_revoked_token_is_gone_and_its_name_is_free(path: Path) -> None:
    old = create(path, "ci", "read")
    with pytest.raises(Refused, match="already"):
        create(path, "ci", "operate")
    assert revoke(path, "ci").name == "ci"
    with pytest.raises(NotFound):
        revoke(path, "ci")
    create(path, "ci", "worker")
    assert find(read(path), old) is None


@pytest.mark.parametrize(
    ("name", "role"), [("", "read"), ("a b", "read"), ("x" * 65, "read"), ("ci", "root"), ("ci", "")]
)
def test_names_and_roles_are_checked(path: Path, name: str, role: str) -> None:
    with pytest.raises(UsageError):
        create(path, name, role)
    assert not path.exists()


def _scoped(format: bytes, scope: bytes) -> bytes:
    """A file with one token, right but for what its scope says."""
    token = b'{"name":"a","role":"read","sha256":"' + b"0" * 64 + b'","created_at":"",' + scope + b"}"
    return format + b',"tokens":[' + token + b"]}"


def test_a_scope_is_kept_in_a_format_that_a_covenq_from_before_refuses(path: Path) -> None:
    create(path, "all", "read")
    assert json.loads(path.read_text())["format"] == 1, "without scopes it is as it was"
    create(path, "acme", "operate", Scope((5, 7), (9,)))
    kept = json.loads(path.read_text())
    assert kept["format"] == 2 and [one["installations"] for one in kept["tokens"]] == [None, [5, 7]]
    assert [one.scope for one in read(path)] == [None, Scope((5, 7), (9,))]
    assert read(path)[1].about()["repositories"] == [9]
    revoke(path, "acme")
    assert json.loads(path.read_text())["format"] == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"format":3,"tokens":[]}',
        _scoped(b'{"format":1', b'"installations":[5],"repositories":null'),
        _scoped(b'{"format":2', b'"installations":[5]'),
        _scoped(b'{"format":2', b'"installations":null,"repositories":[5]'),
        _scoped(b'{"format":2', b'"installations":[],"repositories":null'),
        _scoped(b'{"format":2', b'"installations":["5"],"repositories":null'),
        _scoped(b'{"format":2', b'"installations":5,"repositories":null'),
        _scoped(b'{"format":2', b'"installations":[5],"repositories":[]'),
        b'{"format":1,"tokens":[{}]}',
        b'{"format":1,"tokens":[{"name":"a","role":"root","sha256":"' + b"0" * 64 + b'","created_at":""}]}',
        b'{"format":1,"tokens":[{"name":"a","role":"read","sha256":"","created_at":""}]}',
        b"[" * 100000,
    ],
)
def test_a_file_that_can_not_be_understood_lets_nobody_in_and_is_not_written_over(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(Refused, match="no file of tokens"):
        read(path)
    with pytest.raises(Refused):
        create(path, "ci", "read")
    assert path.read_bytes() == content
    assert Tokens(path).now() == ()


def test_a_file_that_others_may_write_is_not_believed(path: Path) -> None:
    create(path, "ci", "read")
    path.chmod(0o620)
    with pytest.raises(Refused, match="written by other users"):
        read(path)
    assert Tokens(path).now() == ()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_lets_nobody_in_and_holds_nobody_up(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    with pytest.raises(CovenqError, match="can't be read"):
        read(path)
    assert Tokens(path).identify("covenq_x") is None


def test_the_daemon_sees_what_changes_and_says_once_what_is_wrong(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokens = Tokens(path)
    assert tokens.now() == () and not caplog.records
    first = create(path, "ci", "read")
    found = tokens.identify(first)
    assert found is not None and found.name == "ci"
    path.chmod(0o666)
    with caplog.at_level(logging.ERROR):
        assert tokens.identify(first) is None and tokens.identify(first) is None
    assert len([one for one in caplog.records if one.levelno == logging.ERROR]) == 1
    path.chmod(0o600)
    assert tokens.identify(first) is not None
    revoke(path, "ci")
    assert tokens.identify(first) is None
    path.unlink()
    assert tokens.now() == ()


def test_commands_at_the_same_time_lose_nothing(path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.starmap(create, [(path, f"t{number}", "read") for number in range(12)])
    assert {one.name for one in read(path)} == {f"t{number}" for number in range(12)}


def test_a_lock_that_another_process_keeps_is_said_and_not_waited_for(make_daemon: Callable[..., Daemon]) -> None:
    """Whoever may enter the directory can hold it."""
    daemon = make_daemon(start=False)
    daemon.data.mkdir()
    words = ("tokens", "new", "--name", "one", "--role", "read")
    held = os.open(daemon.data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_SH)
        done = daemon.cli(*words, exit_code=4, timeout=60)
        assert f"another process holds the lock on {daemon.data}" in done.stderr.decode()
        assert not (daemon.data / "tokens.json").exists()
    finally:
        os.close(held)
    daemon.cli(*words)


def test_what_the_disk_refuses_leaves_the_old_file(path: Path) -> None:
    create(path, "ci", "read")
    before = path.read_bytes()
    path.with_name("tokens.json.new").mkdir()
    with pytest.raises(CovenqError):
        create(path, "more", "read")
    assert path.read_bytes() == before
    with pytest.raises(NotFound):
        create(path.parent / "nowhere" / "tokens.json", "ci", "read")


# ---- the listener


def test_without_a_token_there_is_nothing_to_see(served: Served) -> None:
    token(served, "ci", "read")
    for path in ("/api/v1/status", "/api/v1/deliveries", "/api/v1/nothing", "/", "/webhook", "/metrics"):
        for headers in (
            {},
            {"Authorization": ""},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer "},
            {"Authorization": "Basic Y2k6Y2k="},
            {"Authorization": "covenq_x"},
        ):
            answer = remote(served, path, headers=headers)
            assert (answer.status, answer.json["error"]) == (401, "token_missing"), (path, headers)
            assert answer.headers["www-authenticate"].startswith("Bearer")
        for wrong in ("covenq_wrong", "x" * 60000, "\u00ff"):
            answer = remote(served, path, wrong)
            assert (answer.status, answer.json["error"]) == (401, "token_wrong"), path
    assert served.refused()["token_missing"] == 36
    assert served.refused()["token_wrong"] == 18


def test_health_and_the_document_need_none(served: Served) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert remote(served, path).status == 200
        assert remote(served, path, method="HEAD").body == b""


def test_a_token_is_good_at_once_and_never_again_once_revoked(served: Served) -> None:
    path = served.data / "tokens.json"
    for number in range(3):
        one = token(served, "ci", "read")
        for scheme in ("Bearer", "bearer", "BEARER"):
            answer = remote(served, "/api/v1/status", headers={"Authorization": f"{scheme} {one}"})
            assert answer.status == 200, number
        revoke(path, "ci")
        assert remote(served, "/api/v1/status", one).status == 401


MAY = {
    "read": {"open", "read"},
    "operate": {"open", "read", "operate"},
    "worker": {"open", "worker"},
}


@pytest.mark.parametrize("role", MAY)
def test_each_role_reaches_what_is_its_own_and_nothing_else(served: Served, role: str) -> None:
    """Over every operation that there is: those that are refused are so before anything is read of them."""
    one = token(served, "x", role)
    for operation in OPERATIONS:
        if operation.path in ("/webhook", "/api/v1/events"):
            continue
        path = operation.path.replace("{one}", "7").replace("{two}", new_guid()).replace("{id}", "t" + "0" * 24)
        path = path.replace("{task}", "t" + "0" * 24)
        body = b"" if operation.method == "POST" else None
        answer = remote(served, path, one, operation.method, body)
        allowed = operation.access in MAY[role] or (role == "worker" and operation.workers)
        assert (answer.status == 403 and answer.json["error"] == "role_insufficient") != allowed, (path, answer.body)
        if not allowed:
            assert operation.access in answer.json["detail"]
    events = remote(served, "/api/v1/events", one, "HEAD")
    assert events.status == (403 if role == "worker" else 200)


def test_a_worker_reads_only_payloads_of_tasks_that_are_held(data: Path) -> None:
    with serving(data, {"api": {}, "route": [{"name": "far", "match": "event:issues", "pull": True}]}) as served:
        guids = [new_guid(), new_guid()]
        for guid in guids:
            served.post("issues", issue(), guid)
        worker, reader = token(served, "w", "worker"), token(served, "r", "read")

        def may_read() -> list[bool]:
            answers = [remote(served, f"/api/v1/deliveries/7/{guid}/payload", worker) for guid in guids]
            for answer in answers:
                assert (answer.status, answer.json.get("error")) in ((200, None), (403, "not_claimed"))
            return [answer.status == 200 for answer in answers]

        assert may_read() == [False, False]
        assert remote(served, f"/api/v1/deliveries/{guids[0]}/payload", reader).status == 200
        assert remote(served, "/api/v1/claims", reader, "POST", encode({"worker": "x"})).status == 403
        claim = remote(served, "/api/v1/claims", worker, "POST", encode({"worker": "x", "lease_s": 60})).json
        assert may_read() == [guid == claim["task"]["guid"] for guid in guids]
        assert remote(served, claim["payload_url"], worker).status == 200
        assert remote(served, f"/api/v1/tasks/{claim['task']['id']}", worker).status == 403
        done = remote(
            served, f"/api/v1/claims/{claim['task']['id']}/complete", worker, "POST", encode({"fence": claim["fence"]})
        )
        assert done.status == 200
        assert may_read() == [False, False]


def test_the_api_listener_takes_no_webhooks(served: Served) -> None:
    answer = remote(served, "/webhook", token(served, "o", "operate"), "POST", b"{}")
    assert (answer.status, answer.json["error"]) == (404, "path_unknown")


def test_a_token_in_a_query_is_refused_even_if_it_is_right(served: Served) -> None:
    one = token(served, "ci", "read")
    for name in ("access_token", "token", "TOKEN"):
        for given in (None, one):
            answer = remote(served, f"/api/v1/status?{name}={one}", given)
            assert (answer.status, answer.json["error"]) == (400, "token_in_query")


def test_no_token_is_ever_written_down(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    one = token(served, "ci", "read")
    remote(served, f"/api/v1/status?token={one}")
    remote(served, f"/api/v1/deliveries?{one}=1", one)
    remote(served, "/api/v1/replay", one, "POST", b"{}")
    remote(served, "/api/v1/status", one[:-3])
    served.intake.refusals.note("flush", 400, "x")
    for file in served.data.rglob("*"):
        if file.is_file():
            assert one[:-3].encode() not in file.read_bytes(), file
    assert one[:-3] not in caplog.text
    noted = [json.loads(line) for line in (served.data / "refused.jsonl").read_text().splitlines()]
    assert [line["error"] for line in noted] == ["token_in_query", "role_insufficient", "token_wrong", "flush"]


def test_what_is_done_is_done_in_the_name_of_the_token(served: Served) -> None:
    guid = new_guid()
    served.post("star", {"action": "created"}, guid)
    one = token(served, "deploy", "operate")
    for said, recorded in ((None, "token:deploy"), ("alice", "token:deploy (alice)")):
        body = encode({"what": "worker", "by": said, "reason": "x"})
        assert remote(served, "/api/v1/pause", one, "POST", body).status == 200
        assert served.ask("/api/v1/pauses").json["items"][0]["by"] == recorded
        assert remote(served, "/api/v1/resume", one, "POST", encode({"what": "worker"})).status == 200


def test_nothing_lets_a_web_page_of_another_place_in(served: Served) -> None:
    one = token(served, "ci", "read")
    headers = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
    for method in ("OPTIONS", "GET"):
        answer = remote(served, "/api/v1/status", one, method, headers=headers)
        assert answer.status == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert remote(served, "/api/v1/status", None, "OPTIONS", headers=headers).status == 401


def test_each_listener_has_streams_of_its_own(data: Path) -> None:
    with serving(data, {"api": {}}, threads=20) as served:
        one = token(served, "ci", "read")
        open_ones = []
        for _ in range(16):
            connection = http.client.HTTPConnection("127.0.0.1", served.remote_port, timeout=30)
            connection.request("GET", "/api/v1/events", headers={"Authorization": f"Bearer {one}"})
            response = connection.getresponse()
            assert response.status == 200 and response.readline() == b": covenq\n"
            open_ones.append((connection, response))
        answer = remote(served, "/api/v1/events", one)
        assert (answer.status, answer.json["error"], answer.headers["retry-after"]) == (503, "streams_busy", "30")
        assert remote(served, "/api/v1/status", one).status == 200
        from covenq.net.http_client import Client

        local = Client(served.socket).stream("/api/v1/events", {"after": "0"})
        local.close()
        for connection, response in open_ones:
            response.close()
            connection.close()


# ---- the configuration


def test_the_section_alone_opens_the_listener_and_absent_it_stays_closed() -> None:
    assert build({}, None, {}).api_bind is None
    opened = build({"api": {}}, None, {})
    assert (opened.api_bind, opened.token_file(Path("/data"))) == ("127.0.0.1:8788", Path("/data/tokens.json"))
    chosen = build({"api": {"bind": "[::1]:0", "tokens": "t.json"}}, Path("/etc/covenq/covenq.toml"), {})
    assert (chosen.api_bind, chosen.token_file(Path("/data"))) == ("[::1]:0", Path("/etc/covenq/t.json"))


@pytest.mark.parametrize(
    "section", [{"bind": "8788"}, {"bind": 8788}, {"bind": ""}, {"token": "x"}, {"tokens": []}, "x"]
)
def test_a_section_that_is_off_is_refused(section: object) -> None:
    with pytest.raises(ConfigError):
        build({"api": section}, None, {})


def test_a_busy_address_and_an_open_one_are_said(make_daemon: Callable[..., Daemon]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = f'[api]\nbind = "127.0.0.1:{taken.getsockname()[1]}"\n'
        daemon = make_daemon(config, start=False)
        daemon.start(wait=False)
        assert daemon.wait_exit(60) == 4
        assert "hint: Choose another in [api] bind: each section has a port of its own." in daemon.log_tail()
    daemon = make_daemon('[api]\nbind = "0.0.0.0:0"\n')
    daemon.wait_told("in clear")
    url = daemon.api("/api/v1/status").json["api_url"]
    assert url.startswith("http://127.0.0.1:")
    daemon.wait_told(url)
    told = daemon.cli("send", "issues", "--url", f"{url}/webhook", exit_code=4).stderr
    assert b"hint: That is the API's address" in told
