"""Names, ids and headers chosen by an attacker: never a shell word, never a path outside the data directory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.requests import issue, new_guid, sign
from tests.support.waiting import eventually

Make = Callable[..., Daemon]

ENVIRONMENT = """
[[route]]
name = "all"
match = "event:*"
run = ['/bin/sh', '-c', 'printf %s "$COVENQ_REPO" > "$COVENQ_RESULT"', "x", "{brief}", "{payload}", "{task}"]
key = "{repo}#{number}"
"""


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def raw_request(body: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return b"POST /webhook HTTP/1.1\r\nHost: x\r\n" + head + b"Content-Length: %d\r\n\r\n" % len(body) + body


HOSTILE_IDS = {
    "climbing": b"../../x",
    "absolute": b"/etc/passwd",
    "10 KB": b"a" * 10_000,
    "65": b"a" * 65,
    "empty": b"",
    "NUL": b"abc\0def",
    "newline": b"abc\r\n def",
    "dots": b"..",
    "subject": b"a.b",
    "wildcard": b"*",
    "option": b"$(touch pwned)",
    "UTF-8": "é".encode(),
    "not UTF-8": b"\xff\xfe",
    "marker": b'","sum":"',
}


@pytest.mark.parametrize("header", [b"X-GitHub-Delivery", b"X-GitHub-Hook-ID"])
def test_hostile_ids_are_refused_and_leave_nothing(make_daemon: Make, header: bytes) -> None:
    daemon = make_daemon(ENVIRONMENT)
    before = tree(daemon.data.parent)
    records = daemon.records("delivery.received")
    body = json.dumps(issue()).encode()
    for name, hostile in HOSTILE_IDS.items():
        headers = {
            b"Content-Type": b"application/json",
            b"X-GitHub-Event": b"issues",
            b"X-GitHub-Delivery": new_guid().encode(),
            b"X-GitHub-Hook-ID": b"1",
            b"X-Hub-Signature-256": sign(body).encode(),
        }
        headers[header] = hostile
        answer = daemon.raw(raw_request(body, list(headers.items())))
        assert re.match(rb"HTTP/1\.[01] 4\d\d ", answer), (name, answer[:200])
    assert daemon.records("delivery.received") == records == []
    new = [path for path in tree(daemon.data.parent) if path not in before]
    assert new in ([], ["data/refused.jsonl"]), "only the log of refusals may have grown"
    assert daemon.get("/readyz").status == 200


@pytest.mark.parametrize("event", [b"../../x", b"a" * 10_000, b"is\0sues", b"$(touch pwned)", b"\xff", b""])
def test_hostile_event_names_are_refused(make_daemon: Make, event: bytes) -> None:
    daemon = make_daemon(ENVIRONMENT)
    body = json.dumps(issue()).encode()
    headers = [
        (b"Content-Type", b"application/json"),
        (b"X-GitHub-Event", event),
        (b"X-GitHub-Delivery", new_guid().encode()),
        (b"X-Hub-Signature-256", sign(body).encode()),
    ]
    assert re.match(rb"HTTP/1\.[01] 4\d\d ", daemon.raw(raw_request(body, headers)))
    assert daemon.records("delivery.received") == []


HOSTILE_NAMES = [
    "../../../../etc/passwd",
    "octo/hello; touch {canary}",
    "$(touch {canary})",
    "`touch {canary}`",
    "--upload-pack=touch {canary}",
    "octo/he\nllo\r\nX-Injected: 1",
    "octo/\x1b]0;pwned\x07\x1b[2J",
    "octo/\u202egnp.exe",
    'octo/","sum":"' + "0" * 64 + '"}',
    "octo/hel\ud800lo",
    "octo/nul\x00byte",
    "%s%n{0}{brief}{result}",
    "x" * 200_000,
]


def test_hostile_names_in_payloads_are_only_ever_data(make_daemon: Make, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    daemon = make_daemon(ENVIRONMENT)
    tasks = {}
    for number, template in enumerate(HOSTILE_NAMES):
        name = template.replace("{canary}", str(canary))
        payload = issue(number, action="opened")
        payload["repository"] = {"id": 1, "full_name": name, "name": name, "owner": {"login": name}}
        payload["sender"]["login"] = name
        payload["issue"]["title"] = name
        payload["issue"]["labels"] = [{"name": name}]
        answer = daemon.post("issues", payload)
        assert answer.status == 202, (template, answer)
        tasks[answer.json["tasks"][0]] = name
    # Types that no payload of GitHub's has.
    for odd in ([], 7, None, {"x": 1}, True, 1e999):
        payload = {"action": odd, "repository": odd, "sender": odd, "issue": odd, "installation": odd, "label": odd}
        body = json.dumps(payload).replace("Infinity", "1e400").encode()
        assert daemon.post("issues", body).status in (202, 400), odd
    ends = daemon.wait_all_done()
    assert set(map(tuple, ends.values())) == {("task.completed",)}

    assert not canary.exists()
    for path in tree(daemon.data / "attempts"):
        assert re.fullmatch(r"t[0-9a-f]{24}(/\d+(/[a-z.]+)?)?", path), path
    assert {path.split("/")[0] for path in tree(daemon.data.parent)} == {"data", "data.log"}
    plain = [task for task, name in tasks.items() if name.isprintable() and len(name) < 200]
    assert len(plain) >= 5
    for task in plain:
        assert (daemon.data / "attempts" / task / "1" / "result").read_text() == tasks[task], "given as data, untouched"

    for command in ("deliveries", "tasks"):
        said = daemon.cli(command, "--limit", "0").stdout
        assert b"\x1b" not in said
        assert b"\x07" not in said
        assert "\u202e".encode() not in said
        assert len(daemon.cli_json(command, "--limit", "0")["items"]) >= len(HOSTILE_NAMES)
    for record in daemon.records("delivery.received"):
        assert len(json.dumps(record["data"])) < 20_000, "what is never erased is small"
    assert daemon.cli_json("verify")["ok"] is True


@pytest.mark.parametrize("word", ["../../x", "a/../../b", "x" * 100, "a b", "$(id)", "-", "é"])
def test_hostile_ids_given_to_commands_are_usage_errors(make_daemon: Make, word: str) -> None:
    daemon = make_daemon(start=False)
    done = daemon.cli("show", "--", word, exit_code=None)
    assert done.returncode in (2, 3)
    assert b"Traceback" not in done.stderr


def test_hostile_headers_are_bounded_and_the_daemon_lives(make_daemon: Make) -> None:
    daemon = make_daemon()
    body = json.dumps(issue()).encode()

    def good(guid: str) -> list[tuple[bytes, bytes]]:
        return [
            (b"Content-Type", b"application/json"),
            (b"X-GitHub-Event", b"issues"),
            (b"X-GitHub-Delivery", guid.encode()),
            (b"X-Hub-Signature-256", sign(body).encode()),
        ]

    requests = [
        raw_request(body, [*good(new_guid()), (b"X-Big", b"x" * 2_000_000)]),
        raw_request(body, [*good(new_guid()), *[(b"X-GitHub-%d" % number, b"x" * 1000) for number in range(150)]]),
        raw_request(body, [*good(new_guid()), (b"X-GitHub-Delivery", new_guid().encode())]),
        raw_request(body, [*good(new_guid()), (b"Content-Length", b"1")]),
        raw_request(body, [*good(new_guid()), (b"Content-Length", b"-1")]),
        raw_request(body, [*good(new_guid()), (b"Transfer-Encoding", b"chunked")]),
        raw_request(body, good(new_guid())).replace(b"HTTP/1.1", b"HTTP/9.9"),
        raw_request(body, [*good(new_guid()), (b"X-GitHub-Nul\0", b"\0\0")]),
        b"\0\1\2\3\r\n\r\n",
        b"POST /webhook HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    for request in requests:
        answer = daemon.raw(request)
        assert not answer or re.match(rb"HTTP/1\.[01] [245]\d\d ", answer), (request[:100], answer[:100])
        assert b"Traceback" not in answer
    guid = new_guid()
    answer = daemon.raw(raw_request(body, [*good(guid), (b"X-GitHub-Evil", b'","sum":"\xff\x80')]))
    assert re.match(rb"HTTP/1\.[01] 202 ", answer)
    eventually(lambda: daemon.get("/readyz").status == 200)
    for record in daemon.records("delivery.received"):
        assert len(json.dumps(record["data"])) < 50_000, "headers kept are bounded"
    assert daemon.cli_json("show", guid)["state"] == "ignored"
    assert daemon.cli_json("verify")["ok"] is True
