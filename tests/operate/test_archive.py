"""covenq export and import: a slice that comes back byte for byte, GitHub's own objects, and nothing run unasked."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import to_builtins
from msgspec.json import encode

from covenq import atomic_file
from covenq.cli.commands import exchange
from covenq.client.local import LocalSource
from covenq.client.local_files import LocalFiles
from covenq.errors import UsageError
from covenq.model.rows import OneDelivery
from covenq.operate.act import archive
from covenq.operate.imported import ImportedDelivery, parse_item
from covenq.operate.inspect import slices
from covenq.operate.maintain import doctor
from journal.records import Entry
from tests.support.answers import blank
from tests.support.daemon import Daemon
from tests.support.journals.chosen import config_in, open_chosen
from tests.support.records import moved, note, of, queued, received
from tests.support.requests import SECRET, issue, sign
from tests.support.waiting import eventually

CONFIG = '[[route]]\nname = "fix"\nmatch = "event:issues"\nrun = ["true"]\n'
BODIES = {
    "g0": json.dumps(issue(1)).encode(),
    "g1": b'{ "a" : 1,\n"n":1e400 }',
    "g2": '{"t":"\\ud800 é\u202e"}'.encode(),
}
GITHUB = {
    "id": 12345678,
    "guid": "0b989ba4-242f-11e5-81e1-c7b6966d2516",
    "delivered_at": "2026-11-20T00:57:16Z",
    "redelivery": False,
    "event": "issues",
    "request": {
        "headers": {
            "X-GitHub-Delivery": "0b989ba4-242f-11e5-81e1-c7b6966d2516",
            "X-GitHub-Hook-ID": "30",
            "X-Hub-Signature-256": "sha256=6dcb09b5b57875f334f61aebed695e2e4193db5e",
            "X-GitHub-Event": "issues",
            "Content-Type": "application/x-www-form-urlencoded",
        },
        "payload": issue(7),
    },
    "response": {"headers": {}, "payload": "ok"},
}


def headers(guid: str, body: bytes) -> list[list[str]]:
    return [
        ["Content-Type", "application/json"],
        ["X-GitHub-Event", "issues"],
        ["X-GitHub-Delivery", guid],
        ["X-GitHub-Hook-ID", "9"],
        ["X-Hub-Signature-256", sign(body)],
    ]


@pytest.fixture
def there(journal_engine: None, tmp_path: Path) -> Daemon:
    """A directory to export from: three deliveries with odd bytes, one of which ran, and an ignored one."""
    data = tmp_path / "there"
    data.mkdir(mode=0o700)
    with open_chosen(data) as journal:
        for guid, body in BODIES.items():
            journal.append([received(guid, payload=body, headers=headers(guid, body)), queued(guid)])
        journal.append([moved("claimed", of("g0"), attempt=1, worker="w")])
        journal.append([moved("completed", of("g0"), attempt=1)])
        star = [["X-GitHub-Event", "star"], ["X-GitHub-Delivery", "s"], ["X-GitHub-Hook-ID", "9"]]
        journal.append([received("s", event="star", headers=star), note("ignored", "s", reason="no_match", detail="-")])
    return Daemon(data=data)


def here(tmp_path: Path) -> Daemon:
    config = tmp_path / "here.toml"
    config.write_text(CONFIG)
    return Daemon(data=tmp_path / "here", config=config)


def test_a_slice_comes_back_byte_for_byte_and_runs_nothing_unasked(there: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "slice.jsonl"
    assert there.cli("export", "event:issues", "--output", str(file)).stderr.startswith(b"3 deliveries written to ")
    assert file.stat().st_mode & 0o777 == 0o600
    first, *lines, last = [json.loads(text) for text in file.read_bytes().splitlines()]
    assert (first["format"], first["filter"], last["deliveries"]) == ("covenq-slice", "event:issues", 3)
    assert [one["delivery"]["guid"] for one in lines] == ["g0", "g1", "g2"]
    assert lines[0]["tasks"][0]["attempt_objects"][0]["outcome"] == "completed"
    other = here(tmp_path)
    assert other.cli("import", str(file), exit_code=2).stderr.startswith(b"covenq: this would import 3 deliveries")
    assert other.cli_json("import", str(file), "--dry-run")["eligible"] == ["9/g0", "9/g1", "9/g2"]
    found = other.cli_json("import", str(file), "--yes", "--reason", "a test of ours")
    assert [one["id"] for one in found["done"]] == ["9/g0", "9/g1", "9/g2"]
    for guid, body in BODIES.items():
        assert other.cli("show", guid, "--payload").stdout == body
    for one in other.cli_json("deliveries")["items"]:
        assert (one["state"], one["reason"], one["source"], one["secret"]) == ("ignored", "imported", "import", None)
    (record, *_) = other.records("delivery.received")
    assert record["data"]["origin"]["received_at"] == lines[0]["delivery"]["received_at"]
    assert (record["data"]["origin"]["reason"], record["data"]["origin"]["format"]) == (
        "a test of ours",
        "covenq-slice",
    )
    assert other.cli("verify", "--signatures", env={"COVENQ_WEBHOOK_SECRET": SECRET}).returncode == 0
    told = other.cli("verify", "--signatures", env={"COVENQ_WEBHOOK_SECRET": "another" * 6}).stderr
    assert b"3 not checked: they were imported, without a signature that can be checked." in told
    assert b"None" not in told
    again = other.cli("import", str(file), "--yes")
    assert b"All of it is here already" in again.stderr
    assert b"All of it is here already" in other.cli("import", str(file), "--dry-run").stderr
    assert b"skipped 3: it is here already" in again.stderr
    rerouted = other.cli_json("reroute", "source:import", "--yes")
    assert [one["tasks"] for one in rerouted["done"]] == [[of(guid)] for guid in BODIES]


def test_a_slice_may_be_routed_at_once_and_piped(there: Daemon, tmp_path: Path) -> None:
    piped = there.cli("export", "guid:g0").stdout
    other = here(tmp_path)
    assert b"nobody to ask" in other.cli("import", "-", input=piped, exit_code=2).stderr
    done = json.loads(other.cli("import", "-", "--yes", "--route", "--json", input=piped).stdout)["done"]
    assert done[0]["tasks"] == [of("g0")]
    told = there.cli("export", "--output", "/no/such/file", exit_code=1).stderr
    assert told.startswith(b"covenq: /no/such/file: No such file or directory\nhint: ")
    assert b"is there already" in there.cli("export", "--output", str(there.data), exit_code=4).stderr


def test_what_github_gives_is_imported_without_its_signature(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = make_daemon(CONFIG)
    for number, text in enumerate([json.dumps(GITHUB), json.dumps([GITHUB], indent=2), json.dumps(GITHUB, indent=2)]):
        path = tmp_path / f"{number}.json"
        path.write_text(text)
        done = json.loads(
            daemon.cli(
                "import",
                str(path),
                "--json",
            ).stdout
        )
        assert [one["id"] for one in done["done"]] == ([] if number else [f"30/{GITHUB['guid']}"])
    (one,) = daemon.cli_json("deliveries")["items"]
    assert (one["number"], one["secret"], one["source"]) == (7, None, "import")
    shown = daemon.cli_json("show", one["guid"])
    assert "x-hub-signature-256" not in {name.lower() for name, _ in shown["headers"]}
    assert json.loads(daemon.cli("show", one["guid"], "--payload").stdout) == issue(7)
    assert "as unverified: no secret signed what could be rebuilt" in daemon.cli("why", one["guid"]).stdout.decode()
    origin = daemon.records("delivery.received")[0]["data"]["origin"]
    assert (origin["id"], origin["body"], origin["redelivery"]) == ("12345678", "unverified", False)
    # What GitHub then sends again under that id is known: another body, since these bytes were serialized again.
    assert daemon.post("issues", b'{ "action": "opened" }', str(GITHUB["guid"]), "30").status == 409


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "file: is empty"),
        (b'{"delivery":{"hook":"9"},"tasks":[],"body":"{}"}\n', "lines of a slice without its first"),
        (b"nonsense", "is neither a slice nor"),
        (b'{"id":1,"request":{"headers":{},"payload":"x"}}', "line 1: is neither"),
        (b'[{"id":1,"event":"push"}]', "delivery 1: is neither"),
        (b'{"format":"covenq-slice","version":2}\n', "a slice of version 2"),
        (b'{"format":"covenq-slice","version":1}\n', "is cut short"),
        (b'{"format":"covenq-slice","version":1}\n{"delivery":{"hook"', "is cut short"),
        (b'{"format":"covenq-slice","vers', "is cut short"),
        (b'{"format":"covenq-slice","version":1}\n{"end":true,"deliveries":3}\n', "has 0 deliveries and says 3"),
        (b'{"format":"covenq-slice","version":1}\nnonsense\n', "line 2: is no line of a slice"),
        (b'{"format":"covenq-slice","version":1}\n{"delivery":{"headers":[["a"]]}}\n', "a header is no pair"),
        (b'{"format":"covenq-slice","version":1}\n{"delivery":{"headers":[]},"body64":"?"}\n', "is no base64"),
    ],
)
def test_what_is_no_slice_is_said_so(text: bytes, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        list(archive.read(io.BytesIO(text), "file"))
    assert words in str(raised.value)
    assert raised.value.hint != UsageError.hint, "it says what to do about the file"


@pytest.mark.parametrize("body", [b"{}", b"\xff\xfe", "é".encode(), b'"\xed\xa0\x80"', b"\x00\r\n"])
def test_any_bytes_come_back(body: bytes) -> None:
    told = archive.line(encode(blank(OneDelivery, headers=[["A", "b"]])), body, b"[]")
    text = b"%b\n%b\n%b\n" % (encode(archive.header("0", "", "")), told, encode(archive.end(1)))
    (one,) = archive.read(io.BytesIO(text), "file")
    assert isinstance(one, ImportedDelivery) and one.body == body
    assert parse_item(json.loads(json.dumps(to_builtins(one)))) == one


def test_what_stands_in_the_way_of_a_file_is_named_with_what_to_do(there: Daemon, tmp_path: Path) -> None:
    told = there.cli("import", "-", "--yes", input=b"nonsense", exit_code=2).stderr
    assert told.startswith(b"covenq: standard input, line 1: is neither a slice")
    out = tmp_path / "slice.jsonl"
    limited = ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh", sys.executable, "-m", "covenq"]
    done = subprocess.run([*limited, "export", "--output", str(out)], env=there.environment(), capture_output=True)
    assert done.returncode == 1
    assert b"File too large\nhint: Raise the limit" in done.stderr
    assert not list(tmp_path.glob(".*.part")) and not out.exists()


def test_hostile_ids_in_a_file_are_skipped_and_the_rest_is_taken(there: Daemon, tmp_path: Path) -> None:
    lines = there.cli("export", "guid:g0,g1").stdout.splitlines()
    hostile = json.loads(lines[1])
    hostile["delivery"]["headers"] = [["X-GitHub-Event", "x"], ["X-GitHub-Delivery", "../../etc"]]
    other = here(tmp_path)
    file = b"\n".join([lines[0], json.dumps(hostile).encode(), *lines[2:]]) + b"\n"
    done = json.loads(other.cli("import", "-", "--yes", "--json", input=file).stdout)
    assert [one["id"] for one in done["done"]] == ["9/g1"]
    assert "X-GitHub-Delivery is not" in done["skipped"][0]["reason"]


def test_many_are_read_in_few_steps_and_are_what_each_alone_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "many"
    with open_chosen(data) as journal:
        for n in range(40):
            journal.append([received(f"g{n}", payload=b"x" * n), queued(f"g{n}")])
        journal.append([moved("claimed", of("g7"), attempt=1, worker="w")])
        journal.append([moved("completed", of("g7"), attempt=1)])
        journal.append(
            [moved("claimed", of("g8"), attempt=1, worker="w"), moved("phase", of("g8"), attempt=1, phase="prepared")]
        )
        end = {"category": "exit", "exit_code": 3, "result": "attempts/x/1/result.json", "usage": {"tokens": 7}}
        journal.append([moved("failed", of("g8"), attempt=1, detail='says "no"\x7f\u202e\n', **end)])
        odd = {"title": 'é\u202e\x7f"\\\b/', "labels": ["b\x1b", None], "ref": "\ue000"}
        journal.append(
            [received("odd", payload=b"\xff", about=odd, headers=[["A", None], "x"]), queued("odd", about=odd)]
        )
        journal.append([received("unsigned", secret=None, source="import")])
        signed = {"secret": "app", "payload_sha256": "a" * 64, "payload_bytes": 3, "source": "http"}
        journal.append([note("repeated", "unsigned", **signed)])
        seq = {guid: journal.last(f"delivery.9.{guid}").seq for guid in ("g7", "g9")}  # type: ignore[union-attr]
        for guid, about in (("g9", False), ("g7", True)):
            drops = {"drops": [[seq[guid], seq[guid] + 1]], "about": about, "by": "ann", "reason": "é"}
            journal.append([Entry("ops.retention", "journal.dropped", drops)])
    opened: list[None] = []
    reading = LocalFiles.reading

    def counted(files: LocalFiles) -> Any:
        opened.append(None)
        return reading(files)

    monkeypatch.setattr(LocalFiles, "reading", counted)
    monkeypatch.setattr(slices, "LOT", 16)
    source = LocalSource(data, config_in(data))
    lots = source.lots("-guid:g3")
    found = [one for lot in lots for one in source.exported(lot)]
    assert [len(lot) for lot in lots] == [16, 16, 9]
    assert len(opened) == 1 + len(lots)
    whole = [(json.loads(one.delivery), json.loads(one.tasks), one.body) for one in found]
    asked = exchange._asked_for(source, ["-guid:g3"])[0]
    assert whole == [(json.loads(one.delivery), json.loads(one.tasks), one.body) for one in asked]
    (odd_headers,) = [one["headers"] for one, _, _ in whole if one["guid"] == "odd"]
    assert odd_headers == [["A", ""]]
    assert [one["guid"] for one, _, _ in whole if one["signed_later"] is not None] == ["unsigned"]
    assert [one.body for one in found[:3]] == [b"", b"x", b"xx"]
    monkeypatch.setattr(slices, "LOT_BYTES", 60)
    assert [len(lot) for lot in source.lots("guid:g1*")] == [5, 3, 3], "of 1, and 10 to 19 bytes"
    monkeypatch.setattr(slices, "_SPARSE", 0)
    assert [one.body for one in source.exported([1, 9, 77])] == [b"", b"xxxx", b"x" * 38], "each looked up"


def test_a_daemons_slice_has_what_was_acknowledged_last(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(CONFIG)
    for number in range(3):
        daemon.post("issues", issue(number), f"g{number}")
        lines = daemon.cli("export").stdout.splitlines()
        assert [json.loads(one)["delivery"]["guid"] for one in lines[1:-1]] == [f"g{n}" for n in range(number + 1)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_no_part_of_a_file(there: Daemon, tmp_path: Path, number: signal.Signals) -> None:
    program = """if True:
        import signal, sys, time
        from covenq.cli import main
        from covenq.cli.commands import exchange
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # below nohup it is ignored
        exchange._write_line = lambda file, value: time.sleep(60)
        main.main()
    """
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-c", program, "export", "--output", str(out / "slice.jsonl")]
    process = subprocess.Popen(command, env=there.environment(), stderr=subprocess.PIPE)
    try:
        eventually(lambda: list(out.iterdir()), 30, "it has begun")
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, said, list(out.iterdir())) == (130, b"", [])


@pytest.mark.parametrize(
    "write",
    [
        lambda directory: exchange._file(str(directory / "slice.jsonl")).__enter__(),
        lambda directory: atomic_file.replace(directory / "note", b"x"),
        lambda directory: list(doctor.time_syncs(directory, time.monotonic)),
    ],
    ids=["export", "a small file", "doctor"],
)
def test_a_signal_between_the_open_of_a_file_and_its_first_byte_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], object]
) -> None:
    real = os.open

    def interrupted(path: str | Path, flags: int, mode: int = 0o777) -> int:
        os.close(real(path, flags, mode))
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_redelivery_in_a_file_is_here_already_and_the_rest_is_taken(tmp_path: Path) -> None:
    again = {**GITHUB, "id": 12345679, "redelivery": True}
    fresh: dict[str, Any] = json.loads(json.dumps(GITHUB).replace("0b989ba4", "1c989ba4"))
    # Over more than one request: what the first one takes, a later one has again.
    many = [json.loads(json.dumps(GITHUB).replace("0b989ba4", f"{n:08x}")) for n in range(64)]
    file = tmp_path / "github.json"
    file.write_text(json.dumps([GITHUB, again, *many, fresh, again]))
    other = here(tmp_path)
    dry = other.cli_json("import", str(file), "--dry-run")
    found = other.cli_json("import", str(file), "--yes")
    assert [one["id"] for one in found["done"]] == dry["eligible"] and len(dry["eligible"]) == 66
    assert found["skipped"] == dry["skipped"]
    assert [(one["id"], one["reason"]) for one in found["skipped"]] == [
        (f"30/{GITHUB['guid']}", "it is here already")
    ] * 2


def test_the_keys_of_an_origin_are_covenqs_own(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(CONFIG)
    item = {
        "headers": headers("g0", BODIES["g0"]),
        "body64": base64.b64encode(BODIES["g0"]).decode(),
        "origin": {',"sum":"': 1, "received_at": "2026-11-20T00:57:16Z", "<key>": "x", "id": 7, "by": "somebody else"},
    }
    answer = daemon.api("/api/v1/import", "POST", {"items": [item]})
    assert answer.status == 200 and len(answer.json["done"]) == 1
    (record,) = daemon.records("delivery.received")
    assert record["data"]["origin"] == {
        "received_at": "2026-11-20T00:57:16Z", "id": 7, "by": record["data"]["origin"]["by"], "reason": None
    }  # fmt: skip
    assert record["data"]["origin"]["by"] != "somebody else"


def test_an_exported_incident_is_what_the_routes_are_tried_on(there: Daemon, tmp_path: Path) -> None:
    one, all = tmp_path / "one.jsonl", tmp_path / "all.jsonl"
    there.cli("export", "guid:g0", "--output", str(one))
    there.cli("export", "--output", str(all))
    other = here(tmp_path)
    found = other.cli_json("routes", "test", "--file", str(one))
    assert (found["event"], found["matching"], found["delivery"]) == ("issues", ["fix"], "9/g0")
    other.cli("routes", "test", "--file", str(one), "--expect", "fix")
    items = other.cli_json("routes", "test", "--file", str(all))["items"]
    assert [(each["delivery"], each["matching"]) for each in items] == [
        ("9/g0", ["fix"]), ("9/g1", ["fix"]), ("9/g2", ["fix"]), ("9/s", []),
    ]  # fmt: skip
    assert len(other.cli("routes", "test", "--file", str(all), "--jsonl").stdout.splitlines()) == 4
    assert b"9/s" in other.cli("routes", "test", "--file", str(all)).stdout
    piped = other.cli("routes", "test", "--expect", "none", input=all.read_bytes(), exit_code=1)
    assert b"expected none, and it is fix" in piped.stderr
    github = tmp_path / "github.json"
    github.write_text(json.dumps(GITHUB))
    assert other.cli_json("routes", "test", "-f", str(github))["matching"] == ["fix"]
    headless = b"".join(all.read_bytes().splitlines(keepends=True)[1:])
    for words in (["routes", "test"], ["import", "-", "--yes"]):
        assert b"lines of a slice without its first" in other.cli(*words, input=headless, exit_code=2).stderr
    told = other.cli("routes", "test", "--event", "push", "--file", str(one), exit_code=2).stderr
    assert b"says itself which event" in told
    assert b"--event" in other.cli("routes", "test", input=json.dumps(issue(1)).encode(), exit_code=2).stderr


def test_deliveries_without_a_payload_are_counted_and_the_others_tried(there: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "slice.jsonl"
    there.cli("redact", "g1", "--yes")
    there.cli("export", "--output", str(file))
    other = here(tmp_path)
    done = other.cli("routes", "test", "--file", str(file), "--expect", "fix")
    assert b"1 delivery without a payload could not be tried, 9/g1 for one." in done.stderr
    found = other.cli_json("routes", "test", "--file", str(file))
    assert [one["delivery"] for one in found["items"]] == ["9/g0", "9/g2", "9/s"]
    assert found["without_payload"] == ["9/g1"]
    there.cli("export", "guid:g1", "--output", str(tmp_path / "gone.jsonl"))
    said = other.cli("routes", "test", "--file", str(tmp_path / "gone.jsonl"), exit_code=2).stderr
    assert b"none of its deliveries has a payload" in said


def test_a_payload_that_the_webhook_would_refuse_is_refused_in_its_words(there: Daemon) -> None:
    deep = b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}"
    said = there.cli("routes", "test", "--event", "issues", input=deep, exit_code=2).stderr.decode()
    assert "The JSON is nested too deeply." in said
    assert "body_too_deep" in said
    empty = there.cli("routes", "test", "--event", "push", "--expect", "", input=b"{}", exit_code=2).stderr
    assert b"--expect is empty" in empty and b"say none" in empty


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_import_says_how_far_it_came(there: Daemon, tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "github.jsonl"
    many = [json.dumps(GITHUB).replace("0b989ba4", f"{n:08x}") for n in range(65)]
    file.write_text("\n".join(many) + "\n")
    program = """if True:
        import sys, time
        from covenq.cli import main
        from covenq.operate.act import archive
        read = archive.read
        def slow(file, name):
            for at, one in enumerate(read(file, name)):
                if at == 64:
                    print("reached", flush=True)
                    time.sleep(60)
                yield one
        archive.read = slow
        main.main()
    """
    other = here(tmp_path)
    command = [sys.executable, "-c", program, "import", "-", "--yes"]
    with file.open("rb") as given:
        process = subprocess.Popen(
            command, env=other.environment(), stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    try:
        assert process.stdout is not None and process.stdout.readline() == b"reached\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert b"Interrupted: 64 deliveries imported, and perhaps up to 64 more." in said
    assert b"1 delivery imported." in other.cli("import", str(file), "--yes").stderr


def test_an_export_onto_a_full_disk_names_the_file(there: Daemon, tmp_path: Path) -> None:
    limit = 'ulimit -f 1; trap "" XFSZ; exec "$@"'
    command = [
        "sh",
        "-c",
        limit,
        "sh",
        sys.executable,
        "-m",
        "covenq",
        "export",
        "--output",
        str(tmp_path / "out.jsonl"),
    ]
    done = subprocess.run(command, env=there.environment(), capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{tmp_path / 'out.jsonl'} can't be written: File too large" in done.stderr
    assert list(tmp_path.glob("*.part")) == []


def test_a_payload_of_a_thousand_levels_comes_back_from_githubs_object() -> None:
    deep = b'{"a":' + b"[" * 1000 + b"]" * 1000 + b"}"
    given = {**GITHUB, "request": {"headers": {"X-GitHub-Hook-ID": "30"}, "payload": {"a": "deep"}}}
    text = json.dumps(given).encode().replace(b'{"a": "deep"}', deep)
    (one,) = archive.read(io.BytesIO(text), "file")
    assert isinstance(one, ImportedDelivery) and one.body == deep
    assert archive.has_deliveries(text)
