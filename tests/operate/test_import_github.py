"""GitHub's own delivery objects are imported: with a secret only where its signature fits, whatever else is in the file."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covenq.errors import UsageError
from covenq.github import samples
from covenq.model import at_text, now_text, seconds_of
from covenq.operate.act import archive, detail_file
from covenq.operate.act.fetched import ImportRecorder
from covenq.operate.act.plan import CHANGED
from covenq.operate.answers import ALREADY_HERE, Imported, Skipped
from covenq.operate.imported import ImportedDelivery, NotImported
from covenq.operate.parameters import Import
from covenq.reconcile.fetch import Detail
from tests.support.daemon import Daemon
from tests.support.delivery_details import ATTEMPT, GUID, HTML, PLAIN, STYLES, Number, Style, detail
from tests.support.requests import issue, sign
from tests.support.waiting import eventually

Make = Callable[..., Daemon]

CONFIG = '[[route]]\nname = "fix"\nmatch = "event:issues"\nrun = ["true"]\n'
ODD = Style(HTML, ascii=True, upper=True)
SEEN = Style(blank="\n  ")
FORM = "application/x-www-form-urlencoded"


def payload_of(number: int) -> dict[str, Any]:
    return {**issue(number), "odd": "\u00fcber <b>\u20ac</b> \U0001f600 \x1b \u2028"}


def delivered(number: int, guid: str, *, how: Style = ODD, **more: Any) -> tuple[bytes, bytes]:
    """GitHub's object of a delivery, and the bytes that it signed."""
    signed = how.write(payload_of(number)).encode()
    return detail(SEEN.write(payload_of(number)), signed, guid=guid, style=SEEN, **more), signed


def imported(daemon: Daemon, text: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(daemon.cli("import", "-", "--yes", "--json", input=text).stdout)
    return found


def alone(tmp_path: Path, **fields: Any) -> Daemon:
    """A data directory without a daemon."""
    config = tmp_path / "alone.toml"
    config.write_text(CONFIG)
    return Daemon(data=tmp_path / "alone", config=config, **fields)


@pytest.fixture(params=["daemon", "files"])
def here(request: pytest.FixtureRequest, make_daemon: Make, tmp_path: Path) -> Daemon:
    return make_daemon(CONFIG) if request.param == "daemon" else alone(tmp_path)


def test_what_was_signed_is_recorded_with_its_secret_and_what_was_not_without(here: Daemon, tmp_path: Path) -> None:
    good, signed = delivered(7, "good")
    other, _ = delivered(8, "other", secret="a secret that is not here")
    nothing = detail(SEEN.write(payload_of(9)), guid="nothing")
    body = b"payload=" + "".join(f"%{one:02X}" for one in b'{"number":1,"issue":{}}').replace("%31", "1").encode()
    for word in (b"number", b"issue"):
        body = body.replace("".join(f"%{one:02X}" for one in word).encode(), word)
    form = detail('{"number":1,"issue":{}}', body, guid="form", headers={"content-type": FORM})
    file = tmp_path / "github.json"
    file.write_bytes(good + other + b"\n" + nothing + form)
    dry = here.cli_json("import", str(file), "--dry-run")
    assert (dry["verified"], dry["unverified"]) == (["30/good", "30/form"], ["30/other", "30/nothing"])
    done = here.cli("import", str(file), "--yes", "--json", "--reason", "ours")
    found = json.loads(done.stdout)
    assert found["eligible"] == [one["id"] for one in found["done"]] == dry["eligible"]
    assert (found["verified"], found["unverified"]) == (dry["verified"], dry["unverified"])
    assert b"2 verified: the bytes that were signed" in done.stderr and b"2 unverified: no secret here" in done.stderr
    assert here.cli("show", "good", "--payload").stdout == signed
    assert here.cli("show", "form", "--payload").stdout == body
    assert here.cli("show", "other", "--payload").stdout == PLAIN.write(payload_of(8)).encode()
    rows = {one["guid"]: one for one in here.cli_json("deliveries")["items"]}
    assert [(rows[one]["secret"], rows[one]["source"]) for one in ("good", "form", "other", "nothing")] == [
        ("env", "import"), ("env", "import"), (None, "import"), (None, "import"),
    ]  # fmt: skip
    origin = here.cli_json("show", "good")["origin"]
    assert (origin["id"], origin["delivered_at"], origin["redelivery"], origin["body"], origin["reason"]) == (
        str(ATTEMPT), "2026-11-20T00:57:16Z", False, "verified", "ours",
    )  # fmt: skip
    shown = here.cli("show", "good").stdout.decode()
    assert f"import: GitHub's attempt {ATTEMPT} of 2026-11-20T00:57:16Z, verified" in shown and sign(signed) in shown
    assert "unverified" in here.cli("show", "other").stdout.decode()
    assert "sha256=" not in here.cli("show", "other").stdout.decode().split("headers", 1)[1]
    assert "made with the secret 'env', fits the bytes that were rebuilt" in here.cli("why", "good").stdout.decode()
    assert "no secret signed what could be rebuilt" in here.cli("why", "other").stdout.decode()
    checked = here.cli_json("verify", "--signatures", "--json")["signatures"]
    assert (checked["checked"], checked["unverified"], checked["imported"]) == (2, 2, 0)
    told = here.cli("verify", "--signatures").stderr
    assert b"2 not checked: they came out of GitHub's delivery log, without the bytes that were signed." in told
    again = here.cli("import", str(file), "--yes")
    assert b"skipped 4: it is here already" in again.stderr and b"verified" not in again.stderr
    routed = here.cli_json("reroute", "guid:good", "--yes")["done"]
    assert len(routed[0]["tasks"]) == 1


def test_every_sample_and_every_way_to_write_one_comes_back(here: Daemon, tmp_path: Path) -> None:
    """Each in each: `tests/github/test_delivery_detail.py`."""
    texts, bodies = [], {}
    for number, (event, how) in enumerate(zip(samples.SAMPLES, itertools.cycle(STYLES), strict=False)):
        payload = {
            **samples.SAMPLES[event](number % 9 + 1),
            "odd": "\u00fc<\U0001f600>\x1b\x7f\u2029",
            "n": Number("1.0e400"),
        }
        guid = f"{event}-{number}"
        bodies[guid] = how.write(payload).encode()
        seen = SEEN if number // len(STYLES) % 2 else ODD
        texts.append(detail(seen.write(payload), bodies[guid], guid=guid, event=event, style=seen))
    assert len(bodies) > 2 * len(STYLES)
    file = tmp_path / "github.json"
    file.write_bytes(b"\n".join(texts))
    found = here.cli_json("import", str(file), "--yes")
    assert (len(found["verified"]), found["unverified"], found["skipped"]) == (len(bodies), [], [])
    sha256 = {one["data"]["guid"]: one["payload_sha256"] for one in here.records("delivery.received")}
    assert sha256 == {guid: hashlib.sha256(body).hexdigest() for guid, body in bodies.items()}
    assert here.cli_json("verify", "--signatures")["signatures"]["checked"] == len(bodies)


def test_a_delivery_that_comes_by_itself_later_is_the_same_one(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon(CONFIG)
    text, signed = delivered(7, GUID)
    assert daemon.cli("import", "-", "--yes", input=text).returncode == 0
    answer = daemon.post("issues", signed, GUID, "30")
    assert (answer.status, answer.json["duplicate"]) == (200, True)


def test_signed_bytes_that_come_later_are_told_by_show_why_and_verify(make_daemon: Make) -> None:
    daemon = make_daemon(CONFIG)
    text, signed = delivered(7, GUID, how=SEEN)  # as GitHub writes nothing, so it can't be rebuilt
    assert imported(daemon, text)["unverified"] == [f"30/{GUID}"]
    assert daemon.cli_json("show", GUID)["signed_later"] is None
    for _ in range(2):
        answer = daemon.post("issues", signed, GUID, "30")
        assert (answer.status, answer.json["duplicate"]) == (200, True)
    assert imported(daemon, text)["signed_later"] == []
    sha256 = hashlib.sha256(signed).hexdigest()
    (first, _) = daemon.records("delivery.repeated")
    later = daemon.cli_json("show", GUID)["signed_later"]
    assert later == {
        "seq": first["seq"], "at": first["at"], "secret": "env", "payload_sha256": sha256, "payload_bytes": len(signed),
    }  # fmt: skip
    shown = daemon.cli("show", GUID).stdout.decode()
    assert "unverified" in shown and "signed later" in shown and f"by env: {len(signed)} B, sha256 {sha256}" in shown
    why = daemon.cli("why", GUID).stdout.decode()
    assert f"(record {first['seq']}), with its JSON: {len(signed)} bytes that the secret 'env' signed" in why
    assert why.count("it came again with the bytes that were signed, by the secret 'env': no new task") == 2
    assert "it came twice more" in why and "409" not in why
    checked = daemon.cli_json("verify", "--signatures")["signatures"]
    assert (checked["checked"], checked["unverified"], checked["signed_later"]) == (0, 1, 1)
    told = daemon.cli("verify", "--signatures").stderr
    assert b"1 held without a signature were signed: the bytes came later, and are not kept." in told
    assert daemon.cli("show", GUID, "--payload").stdout == PLAIN.write(payload_of(7)).encode()


def test_a_secret_that_is_known_later_shows_what_was_signed(tmp_path: Path) -> None:
    here = alone(tmp_path)
    assert here.config is not None
    text, _ = delivered(7, GUID, secret="another secret of the hook")
    assert imported(here, text)["unverified"] == [f"30/{GUID}"]
    here.config.write_text(
        CONFIG + '[github]\nwebhook_secrets = [{ name = "new", value = "another secret of the hook" }]\n'
    )
    again = here.cli("import", "-", "--yes", "--json", input=text)
    assert json.loads(again.stdout)["signed_later"] == [f"30/{GUID}"]
    assert b"1 held without a signature: the bytes that were signed are known now." in again.stderr
    assert b"All of it is here already" in again.stderr
    assert here.cli_json("show", GUID)["signed_later"]["secret"] == "new"


def test_several_attempts_of_one_delivery_are_one_in_any_file(here: Daemon, tmp_path: Path) -> None:
    first, signed = delivered(7, GUID)
    second, _ = delivered(7, GUID, id=ATTEMPT + 1, redelivery=True)
    file = tmp_path / "github.json"
    file.write_bytes(b"[" + first + b",\n" + second + b"]")
    dry = here.cli_json("import", str(file), "--dry-run")
    found = here.cli_json("import", str(file), "--yes")
    assert [one["id"] for one in found["done"]] == dry["eligible"] == [f"30/{GUID}"]
    assert [one["reason"] for one in found["skipped"]] == ["it is here already"]
    assert here.records("delivery.received")[0]["data"]["origin"]["id"] == str(ATTEMPT)
    assert here.cli("show", GUID, "--payload").stdout == signed


def test_a_detail_that_lacks_something_is_skipped_and_says_why(here: Daemon, tmp_path: Path) -> None:
    good, _ = delivered(7, "good")
    lacking = [
        detail("{}", guid="headless", request={"headers": None, "payload": {}}),
        detail("{}", guid="nobody", headers={"X-GitHub-Hook-ID": "no hook"}),
        detail("null", guid="empty"),
        detail("{}", guid="../../etc"),
        detail("{}", guid="listed", event="not an event"),
    ]
    file = tmp_path / "github.jsonl"
    file.write_bytes(b"\n".join(one.replace(b"\n", b" ") for one in [*lacking, good]))
    done = here.cli("import", str(file), "--yes", "--json")
    found = json.loads(done.stdout)
    assert [one["id"] for one in found["done"]] == ["30/good"]
    told = {one["id"]: one["reason"] for one in found["skipped"]}
    assert told["headless"] == "GitHub kept no headers of its request, which name its hook"
    assert "X-GitHub-Hook-ID is not" in told["nobody"]
    assert told["empty"] == "GitHub kept no payload of its request"
    assert "X-GitHub-Delivery is not" in told["../../etc"] and "X-GitHub-Event is not" in told["listed"]
    file.write_bytes(lacking[0])
    assert b"kept no headers" in here.cli("import", str(file), exit_code=4).stderr


SCOPED = """[github]
webhook_secrets = [
    { name = "app", value = "the secret of the app", repositories = ["octo/hello", "octo/two"] },
]
"""


def of_repository(guid: str, name: str, number: int, secret: str = "the secret of the app") -> bytes:
    text = PLAIN.write({"action": "opened", "repository": {"id": number, "full_name": name}})
    return detail(text, text.encode(), guid=guid, secret=secret)


@pytest.mark.parametrize("live", [True, False])
def test_the_scope_of_the_secret_is_checked_and_bound_as_at_the_webhook(
    live: bool, make_daemon: Make, tmp_path: Path
) -> None:
    daemon = make_daemon(CONFIG + SCOPED, start=live, secret=None)
    file = tmp_path / "github.json"
    deliveries = [
        of_repository("g1", "octo/hello", 1),
        of_repository("g2", "octo/hello", 2),
        of_repository("g3", "octo/other", 3),
        of_repository("g4", "octo/renamed", 1),
        of_repository("g5", "octo/two", 5),
        of_repository("g6", "octo/elsewhere", 6, "another secret"),
    ]
    file.write_bytes(b"".join(deliveries))
    found = daemon.cli_json("import", str(file), "--yes")
    assert [one["id"] for one in found["done"]] == ["30/g1", "30/g4", "30/g5", "30/g6"]
    told = {one["id"]: one["reason"] for one in found["skipped"]}
    assert "bound to repository 1; this octo/hello is repository 2" in told["g2"]
    assert "octo/other" in told["g3"]
    assert (found["verified"], found["unverified"]) == (["30/g1", "30/g4", "30/g5"], ["30/g6"])
    seqs = {one["id"]: one["seq"] for one in found["done"]}
    records = {one["seq"]: one for one in daemon.records()}
    assert all(records[seq]["subject"] == f"delivery.{id.replace('/', '.')}" for id, seq in seqs.items())
    assert "scope" in records[seqs["30/g1"] - 1]["kind"] and "scope" in records[seqs["30/g5"] - 1]["kind"]
    if live:  # the door knows it at once
        body = PLAIN.write({"action": "opened", "repository": {"id": 9, "full_name": "octo/two"}}).encode()
        assert daemon.post("issues", body, "late", "30", secret="the secret of the app").json["error"] == (
            "scope_bound_elsewhere"
        )
    again = daemon.cli_json("import", str(file), "--yes", exit_code=4)
    assert not again["done"] and len(again["skipped"]) == 6


def test_a_secret_that_cannot_be_read_is_named_where_it_may_have_signed(tmp_path: Path) -> None:
    here = alone(tmp_path)
    assert here.config is not None
    here.config.write_text(CONFIG + f'[github]\nwebhook_secrets = [{{ name = "gone", file = "{tmp_path}/gone" }}]\n')
    text, _ = delivered(7, GUID, secret="another secret of the hook")
    done = here.cli("import", "-", "--yes", "--json", input=text)
    assert "'gone'" in json.loads(done.stdout)["secrets_unread"][0]
    assert b"not tried: webhook secret 'gone': file" in done.stderr


def test_what_was_signed_earlier_says_nothing_of_the_secret_that_a_hook_has_now(make_daemon: Make) -> None:
    config = '[github]\nwebhook_secrets = [{ name = "old", value = "the secret before this one" }]\n'
    daemon = make_daemon(CONFIG + config)
    assert daemon.post("issues", issue(1), "now", "30").status == 202
    text, _ = delivered(7, GUID, secret="the secret before this one")
    daemon.cli("import", "-", "--yes", input=text)
    assert daemon.cli_json("deliveries", f"guid:{GUID}")["items"][0]["secret"] == "old"
    secrets = {one["name"]: one for one in daemon.cli_json("secrets")["items"]}
    assert (secrets["env"]["verdict"], secrets["env"]["retire"]) == ("in_use", False)
    assert (secrets["old"]["verdict"], secrets["old"]["retire"], secrets["old"]["hooks"]) == ("wait", False, 1)


def test_an_item_of_the_api_is_rebuilt_only_where_it_asks_and_claims_nothing_itself(make_daemon: Make) -> None:
    daemon = make_daemon(CONFIG)
    signed = ODD.write(payload_of(7)).encode()

    def item(guid: str, body: bytes, **more: Any) -> dict[str, Any]:
        headers = {"X-GitHub-Event": "issues", "X-GitHub-Delivery": guid, "X-GitHub-Hook-ID": "30"}
        pairs = [*headers.items(), ("X-Hub-Signature-256", sign(signed))]
        return {"headers": [*map(list, pairs)], "body64": base64.b64encode(body).decode(), **more}

    items = [
        item("exact", signed),
        item("rebuilt", SEEN.write(payload_of(7)).encode(), rebuild=True),
        item(
            "wrong", b'{"a":1}', rebuild=True, origin={"format": "github", "body": "verified", "delivered_at": "then"}
        ),
        item("nothing", b"nonsense", rebuild=True),
        item("latin", b'{"a":"\xff"}', rebuild=True),
    ]
    answer = daemon.api("/api/v1/import", "POST", {"items": items})
    assert (answer.json["verified"], answer.json["unverified"]) == (["30/rebuilt"], ["30/wrong"])
    assert [one["id"] for one in answer.json["skipped"]] == ["nothing", "latin"]
    found = {one["data"]["guid"]: one["data"] for one in daemon.records("delivery.received")}
    assert [found[one]["secret"] for one in ("exact", "rebuilt", "wrong")] == [None, "env", None]
    assert "body" not in found["exact"]["origin"]
    assert (found["wrong"]["origin"]["body"], found["wrong"]["origin"]["delivered_at"]) == ("unverified", "then")
    assert daemon.api("/api/v1/import", "POST", {"items": [item("x", b"{}", rebuild=1)]}).status == 400


# ---- files


def texts(*numbers: int) -> list[bytes]:
    return [detail(f'{{"n":{number}}}', guid=f"g{number}") for number in numbers]


def guids(file: IO[bytes]) -> list[str]:
    found = []
    for one in archive.read(file, "file"):
        assert isinstance(one, ImportedDelivery)
        found.append(dict(one.headers)["X-GitHub-Delivery"])
    return found


@pytest.mark.parametrize(
    "shape",
    [
        b"".join,
        b"\n".join,
        b" \n\n ".join,
        lambda them: b"\xef\xbb\xbf" + b"\n".join(them) + b"\n",
        lambda them: b"[" + b",".join(them) + b"]",
        lambda them: b"\n[\n " + b" ,\r\n".join(them) + b"\n]\n",
        lambda them: b"[%b][%b,%b]" % tuple(them) + b"[]",
        lambda them: b"%b[%b]\n%b" % tuple(them),
    ],
)
def test_one_or_many_come_in_any_json_of_them(
    shape: Callable[[list[bytes]], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = shape(texts(1, 2, 3))
    for piece in (1, 7, 1 << 18):
        monkeypatch.setattr(detail_file, "_PIECE", piece)
        assert guids(io.BytesIO(content)) == ["g1", "g2", "g3"]
    assert archive.has_deliveries(content)
    assert not archive.has_deliveries(b'{"request":{"payload":7}}') and not archive.has_deliveries(b'{"n":1}')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[]", "line 1: is neither"),
        (b"  \n \n", "line 1: is neither"),
        (b"%b\nnonsense" % texts(1)[0], "line 2: is neither"),
        (b"%b\n\n[7]" % texts(1)[0], "line 3, delivery 1: is neither"),
        (b"[%b,\n{}]" % texts(1)[0], "line 2, delivery 2: is neither"),
        (b"[%b%b]" % tuple(texts(1, 2)), "line 1: is neither"),
        (b"[%b,]" % texts(1)[0], "delivery 2: is neither"),
        (b"[,%b]" % texts(1)[0], "delivery 1: is neither"),
        (b"%b,%b" % tuple(texts(1, 2)), "line 1: is neither"),
        (b"[[%b]]" % texts(1)[0], "delivery 1: is neither"),
        (b"[%b" % texts(1)[0], "is cut short"),
        (b"[%b," % texts(1)[0], "is cut short"),
        (b"[", "is cut short"),
        (texts(1)[0][:-9], "is cut short"),
        (b'%b\n{"a":1}' % texts(1)[0], "line 2: is neither"),
        (b'%b\n{"a":"\xff"}' % texts(1)[0], "line 2: it is not UTF-8"),
        (b"%b\n{nonsense}" % texts(1)[0], "line 2: it is not JSON"),
        (texts(1)[0].decode().encode("utf-16"), "line 1: is UTF-16"),
        (b'{"guid":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "line 1: is nested too deeply"),
        (b'{"id":1,"guid":"g","event":"push"}', "line 1: is neither"),
        (b'["' + b"x" * 4096 + b'"]', "delivery 1: is neither"),
    ],
)
def test_what_is_no_delivery_of_githubs_is_named_with_its_line(text: bytes, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        list(archive.read(io.BytesIO(text), "file"))
    assert words in str(raised.value)
    assert raised.value.hint != UsageError.hint


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 400), st.integers(0, 40))
def test_no_file_breaks_it(noise: bytes, at: int, cut: int) -> None:
    content = b"[%b,\n%b]" % tuple(texts(1, 2))
    broken = content[:at] + noise + content[at + cut :]
    try:
        for one in archive.read(io.BytesIO(broken), "file"):
            assert isinstance(one, ImportedDelivery | NotImported)
    except UsageError as error:
        assert str(error).startswith("file")


def test_a_file_with_something_else_in_it_is_refused_whole_and_of_a_pipe_it_is_said_what_was_taken(
    here: Daemon, tmp_path: Path
) -> None:
    many = b"\n".join(texts(*range(64))) + b"\n"
    file = tmp_path / "github.jsonl"
    file.write_bytes(many + b"nonsense\n")
    told = here.cli("import", str(file), "--yes", exit_code=2).stderr
    assert b"github.jsonl, line 65: is neither a slice nor" in told
    assert here.cli_json("deliveries")["items"] == []
    told = here.cli("import", "-", "--yes", input=many + b"nonsense\n", exit_code=2).stderr
    assert b"64 deliveries imported before this:" in told and b"standard input, line 65" in told
    assert len(here.cli_json("deliveries", "--limit", "0")["items"]) == 64


def test_what_is_too_long_is_named_and_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detail_file, "OBJECT_MAX", 4096)
    monkeypatch.setattr(detail_file, "_PIECE", 512)
    long = detail('{"a":"' + "x" * 8192 + '"}')
    with pytest.raises(UsageError, match="line 2: is longer than"):
        list(archive.read(io.BytesIO(b"%b\n%b" % (texts(1)[0], long)), "file"))


class Endless(io.RawIOBase):
    """Objects in one array, made as they are read."""

    def __init__(self, count: int) -> None:
        self._texts: Iterator[bytes] = itertools.chain(
            [b"["], (text + b",\n" for number in range(count) for text in texts(number)), texts(count), [b"]"]
        )
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        self._left = self._left or next(self._texts, b"")
        text, self._left = self._left[: len(into)], self._left[len(into) :]
        into[: len(text)] = text
        return len(text)


def test_a_long_array_is_read_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = 0
    value_end = detail_file.value_end

    def measured(text: bytes, start: int) -> int | None:
        nonlocal longest
        longest = max(longest, len(text))
        return value_end(text, start)

    monkeypatch.setattr(detail_file, "value_end", measured)
    taken = archive.read(io.BufferedReader(Endless(3000)), "file")
    assert sum(1 for _ in taken) == 3001
    assert longest < 2 * detail_file._PIECE


def test_a_pipe_is_imported_as_it_comes(tmp_path: Path) -> None:
    here = alone(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text, signed = delivered(7, GUID)
    writer = threading.Thread(target=pipe.write_bytes, args=(text,))
    writer.start()
    here.cli("import", str(pipe), "--yes")
    writer.join(30)
    assert here.cli("show", GUID, "--payload").stdout == signed


def test_githubs_objects_are_what_the_routes_are_tried_on_whatever_they_were_sent_as(tmp_path: Path) -> None:
    here = alone(tmp_path)
    file = tmp_path / "github.json"
    file.write_bytes(
        delivered(7, "a", headers={"content-type": FORM})[0] + delivered(8, "b")[0] + detail("null", guid="c")
    )
    found = here.cli_json("routes", "test", "--file", str(file))
    assert [(one["delivery"], one["matching"]) for one in found["items"]] == [("30/a", ["fix"]), ("30/b", ["fix"])]
    assert found["without_payload"] == ["c"]


KEYED = CONFIG + 'key = "{repo_id}#{number}"\nsupersede = "queued"\n[worker]\nconcurrency = 1\n'


def states(here: Daemon) -> dict[str, tuple[str, str | None, str | None]]:
    tasks = here.cli_json("tasks")["items"]
    by_id = {one["id"]: one["guid"] for one in tasks}
    return {one["guid"]: (one["state"], one["reason"], by_id.get(one["superseded_by"])) for one in tasks}


@pytest.mark.parametrize("kind", ["daemon", "files"])
def test_what_comes_late_supersedes_nothing_that_github_sent_later(
    make_daemon: Make, tmp_path: Path, kind: str
) -> None:
    daemon = make_daemon(KEYED.replace('run = ["true"]', "pull = true"))
    assert daemon.post("issues", payload_of(7), "came").status == 202
    if kind == "files":
        daemon.stop()
    n = itertools.count()

    def bring(*times: tuple[str, str]) -> None:
        file = tmp_path / f"{next(n)}.json"
        file.write_bytes(b"\n".join(delivered(7, guid, delivered_at=at)[0] for guid, at in times))
        daemon.cli("import", str(file), "--route", "--yes")

    bring(("late", "2026-01-01T10:00:00Z"))
    assert states(daemon)["late"] == ("superseded", "late", "came")
    bring(("first", (begun := now_text())))  # sent after what came by webhook
    times = [at_text(seconds_of(begun) + part * (time.time() - seconds_of(begun))) for part in (0.3, 0.6, 0.9)]
    bring(("third", times[2]), ("second", times[0]))
    bring(("too-late", times[1]))
    if kind == "files":
        daemon.start()
    wanted = {"came": "newer", "late": "late", "first": "newer", "second": "newer", "third": None, "too-late": "late"}
    eventually(lambda: {guid: states(daemon)[guid][1] for guid in wanted} == wanted, 30, "each is as it was sent")
    found = states(daemon)
    assert found["third"][0] == "queued" and found["too-late"][2] == "third"
    late = next(one["id"] for one in daemon.cli_json("tasks")["items"] if one["guid"] == "late")
    daemon.cli("requeue", late)
    assert states(daemon)["late"][0] == "queued", "an operator's word counts"
    assert states(daemon)["third"][0] == "queued", "and what it runs supersedes nothing"


@pytest.mark.parametrize(("reason", "state"), [(CHANGED, "open"), (ALREADY_HERE, "held"), ("out of scope", "refused")])
def test_what_moved_while_it_was_fetched_is_no_refusal_and_stays_open(reason: str, state: str) -> None:
    def act(wanted: Import) -> Imported:
        return Imported([], [Skipped("30/moved", reason)], [])

    text, _ = delivered(7, "moved")
    found = ImportRecorder(act, [], "daemon", hold_if_old=True).record(
        [Detail("moved", text, "2026-11-20T00:57:16.000000Z", None)]
    )
    assert [one.state for one in found] == [state]
