"""What a refused request said it was is kept whatever it was refused for, as said and not proven, and `why` finds it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.requests import Answer, issue, new_guid, signed
from tests.support.serving import Served, serving
from tests.support.waiting import eventually

LIMIT = 8192
ODD = ("a-b_c.d e", '"72d3162e-cc78-11e3-81ab-4c9367dc0958"', "x" * 70, "../../etc", "72D3162E_GUID-of-a-test")


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Daemon:
    return make_daemon(f"[server]\nbody_limit = {LIMIT}\n")


def newest(served: Served) -> dict[str, object]:
    found: dict[str, object] = served.ask("/api/v1/refused?limit=1").json["items"][0]
    return found


def told(served: Served) -> tuple[object, ...]:
    found = newest(served)
    return tuple(found.get(name) for name in ("error", "delivery", "hook", "event", "github", "verified"))


def sent(served: Served, raw: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


def test_what_the_server_itself_refuses_keeps_its_identity(data: Path) -> None:
    with serving(data, {"server": {"body_limit": LIMIT}}) as served:
        body, headers = signed("issues", issue(more="x" * LIMIT), "g-413", "9")
        assert served.request("POST", "/webhook", body, headers).status == 413
        assert told(served) == ("body_too_large", "g-413", "9", "issues", True, False)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
        start = b"POST /webhook HTTP/1.1\r\nHost: x\r\n" + lines
        for raw, word in (
            (start + b"Transfer-Encoding: chunked\r\n\r\nffffff\r\n", "body_too_large"),
            (start + b"Transfer-Encoding: gzip\r\n\r\n", "transfer_encoding"),
            (start + b"no header\r\nContent-Length: 0\r\n\r\n", "request_malformed"),
            (b"POST /webhook HTTP/1.1\r\nno header\r\n" + lines + b"\r\n", "request_malformed"),
            (start + b"Host: y\r\n\r\n", "request_malformed"),
            (start + b"X: " + b"y" * 70_000 + b"\r\n\r\n", "headers_too_large"),
        ):
            sent(served, raw)
            assert told(served) == (word, "g-413", "9", "issues", True, False)
        body, headers = signed("issues", issue())
        for one in ODD:
            answer = served.request(
                "POST", "/webhook", body, {**headers, "X-GitHub-Delivery": one, "Content-Type": "a/b"}
            )
            assert (answer.status, newest(served)["delivery"]) == (415, one)
        del headers["X-GitHub-Hook-ID"]
        served.request("POST", "/webhook", body, {**headers, "X-GitHub-Event": "new_one", "Content-Type": "a/b"})
        assert told(served)[2:4] == ("79929171", "new_one"), "the hook is what the delivery would be filed under"


def test_a_request_that_never_ended_keeps_its_identity(data: Path) -> None:
    with serving(data, {"server": {"body_timeout": "200ms", "header_timeout": "200ms"}}) as served:
        _, headers = signed("issues", issue(), "g-408", "9")
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
        for end in (b"Content-Length: 9\r\n\r\n{", b"X-Un"):
            with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
                connection.sendall(b"POST /webhook HTTP/1.1\r\nHost: x\r\n" + lines + end)
                assert b" 408 " in connection.recv(4096)
            assert told(served)[:4] == ("request_timeout", "g-408", "9", "issues")


def test_a_fault_of_covenq_keeps_its_identity(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from covenq.http.webhook import Webhook

    def broken(self: Webhook, *args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Webhook, "_answer", broken)
    with serving(data) as served:
        body, headers = signed("issues", issue(more="x" * 70_000), "g-500", "9")
        assert served.request("POST", "/webhook", body, headers).status == 500
        assert told(served)[:4] == ("internal", "g-500", "9", "issues")


def test_a_fault_of_covenq_and_a_want_of_descriptors_say_where_to_look(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from covenq.http import app
    from covenq.http.webhook import Webhook

    def broken(self: Webhook, *args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Webhook, "_answer", broken)
    with serving(data) as served:
        body, headers = signed("issues", issue(more="x" * 70_000), "g-500", "9")
        answer = served.request("POST", "/webhook", body, headers)
        assert (answer.status, answer.json["error"]) == (500, "internal")
        assert "log" in answer.json["hint"]
        # SQLite, for one, doesn't say that this is why.
        monkeypatch.setattr(app, "no_descriptor_left", lambda: "this process has no file descriptors left (EMFILE)")
        answer = served.request("POST", "/webhook", body, headers)
        assert (answer.status, answer.json["error"]) == (503, "internal")
        assert "no file descriptors left" in answer.json["detail"] and "LimitNOFILE" in answer.json["hint"]


def refuse(daemon: Daemon, guid: str, **options: str) -> Answer:
    return daemon.post("issues", issue(), guid, "9", **options)


def test_why_finds_what_was_refused_and_never_says_that_it_did_not_come(daemon: Daemon) -> None:
    daemon.request("POST", "/webhook", *signed("issues", issue(more="x" * LIMIT), "g-413", "9"))
    for guid in (*ODD, "g-401"):
        assert refuse(daemon, guid, secret="another").status == 401
    for guid in ("g-413", "9/g-413", *ODD, "9/g-401"):
        said = daemon.cli("why", guid, exit_code=3).stderr.decode()
        assert "it was refused once" in said and "never" not in said, said
        assert "nothing proves" in said
        assert json.loads(daemon.cli("why", guid, "--json", exit_code=3).stdout)["refused"][0]["verified"] is False
    assert "nothing proves" in daemon.cli("refused").stderr.decode()
    unknown = daemon.cli("why", new_guid(), exit_code=3).stderr.decode()
    assert "no refusal of it is kept" in unknown


def test_what_the_journal_holds_comes_first_and_is_not_altered_by_refusals(daemon: Daemon) -> None:
    assert refuse(daemon, "g1", secret="another").status == 401
    before = daemon.cli("why", "g1", exit_code=3)
    assert not before.stdout
    assert daemon.post("issues", issue(), "g1", "9").status == 202
    held = eventually(lambda: daemon.cli_json("why", "g1"))
    assert (held["kind"], [one["error"] for one in held["refused"]]) == ("delivery", ["signature_wrong"])
    assert refuse(daemon, "g1", secret="another").status == 401
    told = daemon.cli("why", "9/g1").stdout.decode()
    assert told.index("accepted?") < told.index("what happened") < told.index("refused requests")
    assert told.count("401 signature_wrong") == 2 and "nothing proves" in told
    assert daemon.cli_json("why", "g1")["stories"] == held["stories"]


def test_of_what_was_erased_it_does_not_say_that_nothing_came(daemon: Daemon) -> None:
    assert daemon.post("issues", issue(7), "g1", "9").status == 202
    daemon.cli("redact", "g1", "--yes")
    assert "its content was erased" in daemon.cli("why", "g1").stdout.decode()
    said = daemon.cli("why", "octo/hello#7", exit_code=3).stderr.decode()
    assert "arrived" not in said and "erased" in said
