"""covenq show: a part of a payload by its path, and the request as a command that sends it again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from covenq.cli.jsonpath import pick
from covenq.errors import NotFound, UsageError
from covenq.json_text import _pieces, json_text
from tests.support.daemon import Daemon
from tests.support.journals.chosen import open_chosen
from tests.support.records import of, queued, received
from tests.support.requests import SECRET, sign

DOCUMENT = {"issue": {"title": "It breaks", "labels": [{"name": "bug"}, {"name": "a b"}], "odd key": None, "n": 1.5}}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (".", [DOCUMENT]),
        (".issue.title", ["It breaks"]),
        (".issue.labels[0].name", ["bug"]),
        (".issue.labels[-1].name", ["a b"]),
        (".issue.labels[].name", ["bug", "a b"]),
        ('.issue["odd key"]', [None]),
        ('.issue."odd key"', [None]),
        (".issue.labels.[1].name", ["a b"]),
        (".issue.n", [1.5]),
    ],
)
def test_paths(path: str, values: list[object]) -> None:
    assert list(pick(DOCUMENT, path)) == values


def test_a_path_and_a_document_of_any_depth() -> None:
    document: object = "x"
    for _ in range(100_000):
        document = [document]
    (found,) = pick(document, "[]" * 512)
    text = json_text(found)
    assert text == "[" * 99_488 + '"x"' + "]" * 99_488
    shallow: object = {"a": [{"b": {}}, [], 1.5, None, True, "\u2028ü\ud800"], "c": {"d": [[1]]}}
    for indent in (None, 2):
        separators = (",", ":") if indent is None else (",", ": ")
        expected = json.dumps(shallow, indent=indent, ensure_ascii=False, separators=separators)
        assert "".join(_pieces(shallow, indent, None)) == json_text(shallow, indent=indent) == expected


def test_what_json_has_no_word_for_is_written_by_its_default_in_any_depth() -> None:
    document: object = ({"at": Path("/a/b")}, ())
    for _ in range(100_000):
        document = [document]
    text = json_text(document, default=str)
    assert text == "[" * 100_001 + '{"at":"/a/b"},[]' + "]" * 100_001


def test_a_payload_of_a_thousand_levels_is_asked_for_and_shown(make_daemon: Callable[..., Daemon]) -> None:
    route = '[[route]]\nname = "a"\nmatch = "payload.a:x"\nrun = ["true"]\n'
    daemon = make_daemon(route)
    body = b'{"a":' + b"[" * 1000 + b'"x"' + b"]" * 1000 + b"}"
    assert daemon.post("issues", body).json["state"] == "queued"
    assert daemon.api("/api/v1/deliveries?filter=payload.a:x").status == 200
    (found,) = daemon.cli_json("deliveries", "payload.a:x")["items"]
    for extra in ([], ["--json"]):
        assert daemon.cli("show", found["guid"], "--path", ".a", *extra).stdout == body[5:-1] + b"\n"
    assert daemon.cli("show", found["guid"], "--path", ".a" + "[]" * 500).stdout == body[505:-501] + b"\n"
    assert b"payload.a:x" in daemon.cli("why", found["guid"]).stdout
    whole = daemon.cli("show", found["guid"], "--payload").stdout
    assert whole == body
    exported = daemon.cli("export", "event:issues").stdout
    daemon.stop()
    assert daemon.cli_json("deliveries", "payload.a:x")["items"][0]["guid"] == found["guid"]
    assert b"already" in daemon.cli("import", "-", "--dry-run", input=exported).stderr


@pytest.mark.parametrize(
    ("path", "error", "words", "hint"),
    [
        ("issue", UsageError, "is no path", "with a dot in front"),
        (".issue..title", UsageError, "(column 7)", ".issue.labels[0].name"),
        (".issue[x]", UsageError, "(column 7)", ".issue.labels[0].name"),
        ("." + "a" * 2000, UsageError, "too long", "1024"),
        (".issue.body", NotFound, "there is no .issue.body", ".issue has title, labels, odd key, n."),
        (".issue.labels[2]", NotFound, "there is no .issue.labels[2]", "has 2 elements"),
        (".issue.title[]", NotFound, ".issue.title is a text", "Leave out"),
        (".issue.n.x", NotFound, "there is no .issue.n.x", ".issue.n is a number."),
    ],
)
def test_what_is_wrong_with_a_path(path: str, error: type[Exception], words: str, hint: str) -> None:
    with pytest.raises(error) as raised:
        list(pick(DOCUMENT, path))
    assert words in str(raised.value)
    assert hint in raised.value.hint  # type: ignore[attr-defined]


def test_parts_of_a_payload_are_data(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    with open_chosen(data) as journal:
        journal.append([received("g1", payload=json.dumps(DOCUMENT).encode()), queued("g1")])
        journal.append([received("g2", payload=b"\xff")])
    daemon = Daemon(data=data)
    assert daemon.cli("show", "g1", "--path", ".issue.labels[].name").stdout == b"bug\na b\n"
    assert daemon.cli("show", of("g1"), "--path", ".issue.title").stdout == b"It breaks\n"
    assert daemon.cli("show", "g1", "--path", ".issue.title", "--json").stdout == b'"It breaks"\n'
    assert json.loads(daemon.cli("show", "g1", "--path", ".").stdout) == DOCUMENT
    assert b"has title, labels" in daemon.cli("show", "g1", "--path", ".issue.x", exit_code=3).stderr
    assert b"is no JSON" in daemon.cli("show", "g2", "--path", ".a", exit_code=3).stderr
    assert b"can't be combined" in daemon.cli("show", "g1", "--path", ".a", "--payload", exit_code=2).stderr


@pytest.mark.parametrize("number", [b"1e999", b"9" * 6000])
def test_a_number_beyond_a_double_is_said_to_be_one(tmp_path: Path, number: bytes) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    with open_chosen(data) as journal:
        journal.append([received("g1", payload=b'{"a":%s,"b":1}' % number), queued("g1")])
    daemon = Daemon(data=data)
    for path in (".", ".a"):
        asked = daemon.cli("show", "g1", "--path", path, exit_code=1)
        assert b"too large to be read exactly" in asked.stderr and b"--payload" in asked.stderr
        assert b"Traceback" not in asked.stderr
    assert daemon.cli("show", "g1", "--path", ".b").stdout == b"1\n"


def test_no_curl_command_is_written_of_what_is_erased(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    guid = daemon.post("issues", b'{"action":"opened"}').json["delivery"]
    daemon.cli("redact", guid, "--yes")
    told = [daemon.cli("show", guid, option, exit_code=3) for option in ("--payload", "--curl")]
    assert told[0].stderr == told[1].stderr
    assert told[1].stdout == b""


def test_the_curl_command_sends_the_same_request_and_has_no_secret(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    body = b'{"action":"opened","title":"it\'s $(touch /tmp/never) `x`"}'
    guid = daemon.post("issues", body, "72d3162e-cc78-11e3-81ab-4c9367dc0958").json["delivery"]
    command = daemon.cli("show", guid, "--curl").stdout.decode()
    assert SECRET not in command
    assert sign(body) in command
    assert command.startswith("covenq show ")
    assert command.endswith("--data-binary @-\n")
    # A shell understands it as it is meant: run with `covenq` and `curl` that show their arguments and input.
    script = 'covenq() { printf "%s\\n" BODY; }; curl() { printf "%s\\n" "$@"; cat; }\n' + command
    said = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout.decode().splitlines()
    assert f"{daemon.url}/webhook" in said
    assert f"X-GitHub-Delivery: {guid}" in said
    assert said[-2:] == ["@-", "BODY"]
