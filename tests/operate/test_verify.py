"""verify, salvage and backup as an operator types them, beside a running daemon and without one."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from journal.file.open import open_journal
from journal.file.settings import WriteSettings
from tests.support.checkout import clean_env
from tests.support.daemon import Daemon, wait_for_daily_run
from tests.support.journal_json import journal_lines, records, segments
from tests.support.journals.chosen import open_chosen
from tests.support.other_user import as_nobody
from tests.support.records import received
from tests.support.requests import HOOK, SECRET, issue, new_guid
from tests.support.small_disk import mounted
from tests.support.waiting import eventually

Make = Callable[..., Daemon]

ROUTE = """
[[route]]
name = "all"
match = "event:issues"
run = ["true"]
"""


def flip(path: Path, needle: bytes) -> int:
    """Change one bit of the first `needle`; its offset."""
    content = bytearray(path.read_bytes())
    at = content.index(needle)
    content[at] ^= 1
    path.write_bytes(bytes(content))
    return at


def filled(daemon: Daemon, count: int = 4) -> list[str]:
    """Deliveries that are done; their GUIDs."""
    guids = [new_guid() for _ in range(count)]
    for number, guid in enumerate(guids, 1):
        assert daemon.post("issues", issue(number), guid).status == 202
    daemon.wait_all_done()
    return guids


def idle_record(daemon: Daemon) -> int | None:
    """The seq of the record that a journal writes when it has been idle for a moment; None before that."""
    last = daemon.records()[-1]
    return int(last["seq"]) if last["kind"] == "journal.synced" else None


def own_journal(path: Path) -> Daemon:
    """Commands on another data directory, with no daemon."""
    return Daemon(data=path)


pytestmark = pytest.mark.files(
    "damage of bytes in segments, backup and salvage: see tests/journal/postgres/test_verify.py"
)

# ---- verify


def test_the_head_noted_is_found_again_or_named_as_another_history(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    filled(daemon)
    noted = daemon.cli("verify", "--head").stdout.decode().strip()
    seq, _, total = noted.partition(":")
    told = daemon.cli_json("verify", "--head")
    assert told["sum"] and int(told["seq"]) >= int(seq), "beside a daemon that goes on"
    filled(daemon, 1)
    assert daemon.cli_json("verify", "--expect", noted)["ok"] is True
    assert daemon.stop() == 0
    assert daemon.cli_json("verify", "--expect", noted)["ok"] is True
    other = daemon.cli_json("verify", "--expect", f"{seq}:{'0' * 64}", exit_code=5)
    [finding] = other["damage"]
    assert (finding["kind"], finding["seq"], finding["segment"]) == (
        "other history",
        int(seq),
        segments(daemon.data)[0].name,
    )
    for beyond_it in (other["head"]["seq"] + 9, 1 << 63, 10**19 - 1):
        beyond = daemon.cli_json("verify", "--expect", f"{beyond_it}:{total}", exit_code=5)
        assert [one["kind"] for one in beyond["damage"]] == ["other history"]


def test_parts_are_verified_by_name_and_by_seq(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE + '[retention]\npayloads = "0s"\n')
    wait_for_daily_run(daemon)
    filled(daemon)
    daemon.cli("compact")  # ends the first segment
    filled(daemon)
    assert daemon.stop() == 0
    first, second = segments(daemon.data)
    flip(first, b'"kind":"delivery.received"')
    assert daemon.cli_json("verify", "--segment", second.name)["ok"] is True
    assert daemon.cli_json("verify", "--segment", str(int(second.stem) + 1))["ok"] is True
    assert daemon.cli_json("verify", "--since", str(int(second.stem)))["ok"] is True
    for words in ([], ["--segment", first.stem], ["--since", "2"]):
        [finding] = daemon.cli_json("verify", *words, exit_code=5)["damage"]
        assert (finding["kind"], finding["segment"]) == ("flipped", first.name), words
    daemon.cli("verify", "--segment", "nothing", exit_code=3)


def test_a_part_beyond_the_head_is_not_found(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    filled(daemon, 1)
    for _ in range(2):
        head = daemon.cli_json("verify")["head"]["seq"]
        for option in ("--since", "--segment"):
            assert daemon.cli_json("verify", option, str(head))["ok"] is True
            told = daemon.cli("verify", option, str(head + 1_000_000), "--json", exit_code=3)
            assert (told.stdout, b"there is no record 1," in told.stderr) == (b"", True)
        assert daemon.cli_json("verify", "--segment", segments(daemon.data)[0].name)["ok"] is True
        if daemon.running:
            assert daemon.stop() == 0


def test_signatures_are_checked_and_what_cannot_be_is_counted(make_daemon: Make, tmp_path: Path) -> None:
    old = "another secret"
    daemon = make_daemon(
        ROUTE + '[github]\nwebhook_secrets = [{ name = "old", env = "OLD_SECRET" }]\n', env={"OLD_SECRET": old}
    )
    filled(daemon, 2)
    assert daemon.post("issues", issue(9), secret=old).status == 202
    daemon.wait_all_done()
    assert daemon.cli_json("verify", "--signatures")["signatures"]["checked"] == 3
    daemon.cli("redact", daemon_guid(daemon, 9))
    found = daemon.cli_json("verify", "--signatures")
    assert found["ok"] is True
    assert found["signatures"] == {
        "checked": 2, "mismatched": 0, "payload_dropped": 1, "secret_unknown": 0, "unsigned": 0, "imported": 0,
        "unverified": 0, "signed_later": 0, "unread": 0, "secrets": {},
    }  # fmt: skip
    assert daemon.post("issues", issue(10), secret=old).status == 202
    daemon.wait_all_done()
    assert daemon.stop() == 0

    del daemon.env["OLD_SECRET"]
    said = daemon.cli("verify", "--signatures")
    assert b"OLD_SECRET" in said.stderr
    assert b"1 not checked: the secret named 'old' is not known here" in said.stderr
    daemon.env["OLD_SECRET"] = "not what it was"
    wrong = daemon.cli_json("verify", "--signatures", exit_code=5)
    [finding] = wrong["damage"]
    assert (finding["kind"], finding["delivery"]) == ("signature", f"{HOOK}/{daemon_guid(daemon, 10)}")
    line = next(one for one in journal_lines(daemon.data) if json.loads(one).get("seq") == finding["seq"])
    content = segments(daemon.data)[-1].read_bytes()
    assert content[finding["offset"] :].startswith(line)
    assert SECRET.encode() not in said.stdout + said.stderr


def test_signatures_are_checked_behind_damage_too(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    filled(daemon, 5)
    assert daemon.stop() == 0
    flip(segments(daemon.data)[0], b'"number":2,')
    for _ in range(2):
        found = daemon.cli_json("verify", "--signatures", exit_code=5)
        assert (found["signatures"]["checked"], found["signatures"]["unread"]) == (4, 1)
        assert len(found["damage"]) == 1
        for path in (daemon.data / "journal").glob("index.sqlite*"):
            path.unlink()
    assert b"1 line not checked: damaged" in daemon.cli("verify", "--signatures", exit_code=5).stderr


def test_damage_that_was_found_is_in_the_status_and_doctor_says_what_to_do(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    filled(daemon, 3)
    assert daemon.stop() == 0
    flip(segments(daemon.data)[0], b'"kind":"task.completed"')

    def of_journal() -> list[dict[str, str]]:
        found = json.loads(daemon.cli("doctor", "--json", exit_code=1).stdout)["findings"]
        assert {"port", "space", "processes"} <= {one["check"] for one in found}
        assert [one["level"] for one in found if one["check"] == "daemon"] == ["problem"]
        return [one for one in found if one["check"] == "journal"]

    assert b"DAMAGED" not in daemon.cli("status", exit_code=6).stdout
    daemon.cli("verify", exit_code=5)
    said = daemon.cli("status", exit_code=5).stdout.decode()
    first = daemon.cli_json("status", exit_code=5)["verified"]["first"]
    assert re.search(rf"^DAMAGED     found \d+s ago: {re.escape(first)}$", said, re.M), said
    assert said.startswith("DAMAGED     the journal, and no daemon runs")
    assert "`covenq salvage`" in said
    [finding] = of_journal()
    assert (finding["level"], finding["next"]) == ("problem", "covenq salvage")
    assert first in finding["words"]
    (daemon.data / "verified.json").unlink()
    [finding] = of_journal()
    assert finding["next"] == "covenq verify"


def daemon_guid(daemon: Daemon, number: int) -> str:
    [found] = daemon.cli_json("deliveries", f"number:{number}")["items"]
    return str(found["guid"])


def test_a_log_cut_cleanly_is_shorter_than_its_caches_and_goes_on_only_when_accepted(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    filled(daemon)
    assert daemon.stop() == 0
    [segment] = segments(daemon.data)
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(lines[:-5]))
    (daemon.data / "journal" / "closed.json").unlink()
    last = json.loads(lines[-6])["seq"]
    [finding] = daemon.cli_json("verify", exit_code=5)["damage"]
    assert finding["kind"] == "shorter than caches"
    shutil.rmtree(daemon.data / "journal" / "index.sqlite", ignore_errors=True)
    for path in (daemon.data / "journal").glob("index.sqlite*"):
        path.unlink()
    [finding] = daemon.cli_json("verify", exit_code=5)["damage"]
    assert finding["kind"] == "shorter than caches", "state.db's position is a witness as well"

    daemon.start(wait=False)
    assert daemon.wait_exit(30) == 5
    said = daemon.log_tail()
    for word in (segment.name, "at byte", f"seq {last + 1}", "covenq verify", "covenq salvage"):
        assert word in said
    assert "Traceback" not in said
    daemon.args = ["--accept-head", str(last + 3)]
    daemon.start(wait=False)
    assert daemon.wait_exit(30) == 4
    assert f"--accept-head {last}" in daemon.log_tail()
    daemon.args = ["--accept-head", str(last)]
    daemon.start()
    daemon.args = []
    assert daemon.restart().get("/readyz").status == 200
    assert daemon.cli_json("verify")["ok"] is True
    [accepted] = daemon.records("journal.accepted")
    assert accepted["data"]["head"] == last


def test_a_log_that_lost_its_end_or_all_under_a_running_daemon_is_damaged(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    filled(daemon)
    head = eventually(lambda: idle_record(daemon))
    daemon.cli_json("deliveries")  # which waits until it is folded
    [segment] = segments(daemon.data)
    content = segment.read_bytes()
    segment.write_bytes(b"".join(content.splitlines(keepends=True)[:-3]))
    [finding] = daemon.cli_json("verify", exit_code=5)["damage"]
    assert (finding["kind"], finding["segment"]) == ("shorter than caches", segment.name)
    assert f"seq {head} had been seen" in finding["detail"]
    segment.rename(segment.with_suffix(".aside"))
    [finding] = daemon.cli_json("verify", exit_code=5)["damage"]
    assert (finding["kind"], finding["seq"]) == ("gone", head)


def test_the_head_of_an_empty_journal_is_held_by_every_later_one(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    noted = daemon.cli("verify", "--head").stdout.decode().strip()
    assert noted == f"0:{'0' * 64}"
    filled(daemon)
    daemon.cli("verify", "--expect", noted)
    daemon.cli("verify", "--expect", f"0:{'1' * 64}", exit_code=5)


def test_ctrl_c_ends_a_verify_without_a_word_of_python(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon(start=False)
    big(daemon.data / "journal", 56)
    process = subprocess.Popen(
        [sys.executable, "-m", "covenq", "verify"],
        env=daemon.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    eventually(lambda: process.poll() is not None or children(process.pid), 30, "it has helpers")
    with suppress(ProcessLookupError):  # it may have ended meanwhile
        os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode in (130, 0)
    assert b"Traceback" not in err
    assert out == b"" or process.returncode == 0


def big(directory: Path, mebibytes: int) -> None:
    """A journal large enough for verify to start processes."""
    from journal.file.open import open_journal
    from journal.records import Entry

    body = b'{"text":"' + b"x" * ((1 << 20) - 100) + b'"}'
    with open_journal(directory) as journal:
        for number in range(mebibytes):
            journal.append([Entry(f"delivery.9.d{number}", "delivery.received", {"hook": "9"}, None, body, expect=0)])


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


# ---- salvage


def test_salvage_shows_a_plan_writes_beside_and_names_what_is_lost(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    guids = filled(daemon)
    healthy = daemon.cli_json("salvage")
    assert (healthy["damage"], healthy["lost"], healthy["deliveries"]) == ([], [], []), "beside a running daemon"
    daemon.cli("salvage", "--write", exit_code=4)
    assert daemon.stop() == 0
    daemon.cli("salvage", "--write", exit_code=4)

    lines = list(journal_lines(daemon.data))
    lost = next(json.loads(line) for line in lines if guids[1].encode() in line and b"delivery.received" in line)
    emptied = next(json.loads(line) for line in lines if guids[2].encode() in line and b"delivery.received" in line)
    [segment] = segments(daemon.data)
    flip(segment, f'"subject":"delivery.{HOOK}.{guids[1]}","kind":"delivery.received"'.encode())
    flip(segment, b'"title":"Issue 3"')
    before = {path.name: path.read_bytes() for path in (daemon.data / "journal").glob("*.jsonl")}

    plan = daemon.cli_json("salvage")
    assert plan["lost"] == [[lost["seq"], lost["seq"]]]
    assert plan["dropped"] == [[emptied["seq"], emptied["seq"]]]
    assert {f"{HOOK}/{guids[1]}", f"{HOOK}/{guids[2]}"} <= set(plan["deliveries"])
    assert plan["written"] is None
    assert [path.name for path in daemon.data.glob("journal*")] == ["journal"]

    daemon.start()  # what an opening has to prove is whole; rot in history is verify's to find
    assert daemon.cli_json("salvage")["lost"] == plan["lost"]
    daemon.cli("salvage", "--write", exit_code=4)
    assert daemon.stop() == 0
    before = {path.name: path.read_bytes() for path in (daemon.data / "journal").glob("*.jsonl")}
    written = daemon.cli_json("salvage", "--write")
    target = Path(written["written"])
    assert target.parent == daemon.data and target.name.startswith("journal.salvaged-")
    assert {path.name: path.read_bytes() for path in (daemon.data / "journal").glob("*.jsonl")} == before
    said = daemon.cli("salvage", "--write", "--to", str(daemon.data / "again")).stderr.decode()
    assert "covenq serve" in said and "mv " in said
    for command in written["next"][:2]:
        subprocess.run(["sh", "-c", command], check=True)
    # In another terminal, without the variables that name the directory.
    verify, serve = (shlex.split(command) for command in written["next"][2:])
    assert verify[2:] == serve[2:]
    elsewhere = {**clean_env(), "HOME": str(daemon.data / "nobody")}
    done = subprocess.run([sys.executable, "-m", "covenq", *verify[1:], "--json"], env=elsewhere, capture_output=True)
    assert json.loads(done.stdout)["ok"] is True, done.stderr
    assert daemon.cli_json("verify")["ok"] is True

    daemon.start()
    kept = {item["guid"]: item for item in daemon.cli_json("deliveries", "--limit", "0")["items"]}
    assert set(kept) == {guids[0], guids[2], guids[3]}
    assert kept[guids[0]]["state"] == "completed"
    shown = daemon.cli("show", guids[2]).stdout.decode()
    assert "ERASED" in shown
    daemon.cli("show", guids[2], "--payload", exit_code=3)
    assert daemon.post("issues", issue(1), guids[0]).json["duplicate"] is True
    again = daemon.post("issues", issue(2), guids[1])
    assert (again.status, again.json["duplicate"]) == (202, False)


def test_a_salvage_that_finds_no_room_leaves_none_of_it_in_the_way(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon()
    for number in range(20):
        daemon.post("issues", issue(number, pad="x" * 100_000))
    assert daemon.stop() == 0
    path = segments(daemon.data)[0]
    path.write_bytes(path.read_bytes().replace(b"xxxx", b"xxyx", 1))
    with mounted(tmp_path / "small", 1) as small:
        said = daemon.cli("salvage", "--write", "--to", str(small / "saved"), exit_code=1).stderr.decode()
        assert f"the salvage to {small / 'saved'} failed: No space left on device" in said
        assert "hint: " in said and "--to" in said
        assert list(small.iterdir()) == []


def test_a_backup_that_can_not_be_written_says_where_and_what_to_do(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon()
    for number in range(20):
        daemon.post("issues", issue(number, pad="x" * 100_000))
    limited = ["sh", "-c", 'ulimit -f 64; exec "$@"', "sh", sys.executable, "-m", "covenq", "backup", tmp_path / "to"]
    done = subprocess.run(limited, env=daemon.environment(), capture_output=True, text=True)
    assert done.returncode == 1
    assert f"the backup to {tmp_path / 'to' / 'journal'} failed: File too large" in done.stderr
    assert "hint: No earlier copy was touched" in done.stderr
    assert [path.name for path in (tmp_path / "to" / "journal").iterdir()] == ["backup.json"]
    daemon.cli("backup", str(tmp_path / "to"))


def _without_a_line(paths: list[Path]) -> None:
    lines = paths[1].read_bytes().splitlines(keepends=True)
    paths[1].write_bytes(b"".join(lines[:3] + lines[4:]))


def _without_content(paths: list[Path]) -> None:
    content = paths[1].read_bytes()
    at = content.index(b',"payload":{')
    paths[1].write_bytes(content[:at] + b',"dropped":9999999}' + content[content.index(b"\n", at) :])


def _one_header_copy(paths: list[Path]) -> None:
    flip(paths[1], b'"epoch"')


def _names_exchanged(paths: list[Path]) -> None:
    first, second = paths[0].read_bytes(), paths[1].read_bytes()
    paths[0].write_bytes(second)
    paths[1].write_bytes(first)


@pytest.mark.parametrize(
    "damage",
    [lambda paths: paths[1].unlink(), _without_a_line, _without_content, _one_header_copy, _names_exchanged],
    ids=["segment gone", "record gone", "content gone", "header", "names exchanged"],
)
def test_whatever_verify_finds_can_be_salvaged(data: Path, damage: Callable[[list[Path]], None]) -> None:
    with open_journal(data / "journal", settings=WriteSettings(segment_bytes=4000)) as journal:
        for number in range(12):
            journal.append([received(f"g{number}")])
    stopped = own_journal(data)
    assert len(stopped.cli_json("deliveries", "--limit", "0")["items"]) == 12
    everything = set(range(1, stopped.cli_json("verify")["head"]["seq"] + 1))
    damage(segments(data))
    found = stopped.cli_json("verify", exit_code=5)["damage"]
    plan = stopped.cli_json("salvage", "--write", "--to", str(data / "saved"))
    assert plan["damage"] == found
    lost = {seq for low, high in (*plan["lost"], *plan["dropped"]) for seq in range(low, high + 1)}
    assert plan["records"] == len(everything) - sum(high - low + 1 for low, high in plan["lost"])
    assert len(plan["deliveries"]) == len(lost), "each of these records is a delivery's, and state.db knows whose"
    (data / "journal").rename(data / "journal.old")
    (data / "saved").rename(data / "journal")
    assert stopped.cli_json("verify")["ok"] is True


def test_a_healthy_journal_needs_no_next_step(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    filled(daemon, 1)
    for _ in range(2):
        found = daemon.cli_json("salvage")
        assert (found["damage"], found["next"]) == ([], [])
        if daemon.running:
            assert daemon.stop() == 0


def test_nothing_that_verifies_is_nothing_to_salvage(make_daemon: Make) -> None:
    daemon = make_daemon(start=False)
    (daemon.data / "journal").mkdir(parents=True)
    (daemon.data / "journal" / f"{1:020d}.jsonl").write_bytes(b"no journal\n")
    done = daemon.cli("salvage", exit_code=4)
    assert b"verifies" in done.stderr
    daemon.cli("salvage", "--data", str(daemon.data / "nowhere"), exit_code=3)


# ---- backup


def test_directories_may_have_any_name(make_daemon: Make, tmp_path: Path) -> None:
    odd = tmp_path / "a\udcff"
    odd.mkdir()
    config = ROUTE.replace('["true"]', '["sh", "-c", "test -s {payload} && test -s {brief}"]')
    daemon = make_daemon(config, data=odd / "data")
    guids = filled(daemon, 2)
    assert {task["state"] for task in daemon.cli_json("tasks")["items"]} == {"completed"}
    for copy in (odd / "copy", tmp_path / "plain", odd / "copy"):
        assert daemon.cli_json("backup", str(copy))["path"] == str(copy / "journal")
    assert daemon.cli_json("status")["data"] == str(daemon.data)
    erased = daemon.cli_json("redact", guids[0], "--yes")
    assert erased["copies"] == [str(tmp_path / "plain"), str(odd / "copy")]
    assert rb"a\udcff/copy" in daemon.cli("redact", guids[1], "--yes").stderr
    for _ in range(2):
        assert daemon.cli_json("verify")["ok"] is True
        assert daemon.cli_json("status", "--exit-zero")["data"] == str(daemon.data)
        if daemon.running:
            assert daemon.stop() == 0


def test_a_backup_beside_a_daemon_verifies_opens_and_goes_on_by_itself(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon(ROUTE)
    guids = filled(daemon)
    first = daemon.cli_json("backup", str(tmp_path / "copy"))
    assert (first["ok"], first["verified"], first["copied"], first["damage"]) == (True, True, 1, [])
    at = next(r for r in daemon.records() if r["seq"] == first["head"]["seq"])
    assert at["sum"] == first["head"]["sum"]
    guids += filled(daemon, 2)
    second = daemon.cli_json("backup", str(tmp_path / "copy"))
    assert second["head"]["seq"] > first["head"]["seq"]
    third = daemon.cli_json("backup", str(tmp_path / "copy"), "--no-verify")
    assert (third["verified"], third["head"]["seq"] >= second["head"]["seq"]) == (False, True)
    said = daemon.cli("backup", str(tmp_path / "copy"))
    assert b"secret" in said.stderr and b"configuration" in said.stderr
    [noted] = json.loads((daemon.data / "backups.json").read_text())["backups"]
    assert (noted["path"], noted["seq"]) == (str(tmp_path / "copy"), int(said.stdout.split(b":")[0]))

    copy = own_journal(tmp_path / "copy")
    assert copy.cli_json("verify")["ok"] is True
    assert {item["guid"] for item in copy.cli_json("deliveries")["items"]} == set(guids)
    copy.start()
    assert copy.post("issues", issue(1), guids[0]).json["duplicate"] is True
    assert copy.post("issues", issue(77)).status == 202
    assert copy.cli_json("status")["journal"]["epoch"] != daemon.cli_json("status")["journal"]["epoch"]
    copy.stop()
    daemon.cli("backup", str(tmp_path / "copy"), exit_code=4)


def test_a_backup_put_in_place_is_what_counts_whatever_the_caches_had_seen(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon(ROUTE)
    guids = filled(daemon)
    daemon.cli("backup", str(tmp_path / "copy"))
    later = filled(daemon, 2)
    assert daemon.stop() == 0
    shutil.rmtree(daemon.data / "journal")
    shutil.copytree(tmp_path / "copy" / "journal", daemon.data / "journal")
    assert daemon.cli_json("verify")["ok"] is True
    assert daemon.cli_json("salvage")["lost"] == []
    for start in (False, True):
        if start:
            daemon.start()
        assert {item["guid"] for item in daemon.cli_json("deliveries")["items"]} == set(guids)
    assert daemon.post("issues", issue(1), guids[0]).json["duplicate"] is True
    assert daemon.post("issues", issue(1), later[0]).json["duplicate"] is False
    daemon.wait_all_done()
    assert daemon.restart().cli_json("verify")["ok"] is True


def test_a_backup_that_lost_its_end_is_damaged(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon(ROUTE)
    filled(daemon)
    head = daemon.cli_json("backup", str(tmp_path / "copy"))["head"]["seq"]
    [segment] = segments(tmp_path / "copy")
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:-2]))
    copy = own_journal(tmp_path / "copy")
    [finding] = copy.cli_json("verify", exit_code=5)["damage"]
    assert (finding["kind"], finding["seq"]) == ("shorter than caches", head - 1)
    copy.start(wait=False)
    assert copy.wait_exit(30) == 5


def test_a_copy_that_rotted_is_made_good_by_the_next_backup(data: Path, tmp_path: Path) -> None:
    with open_journal(data / "journal", settings=WriteSettings(segment_bytes=4000)) as journal:
        for number in range(12):
            journal.append([received(f"g{number}")])
    stopped = own_journal(data)
    stopped.cli("backup", str(tmp_path / "copy"))
    flip(segments(tmp_path / "copy")[1], b"It breaks")
    again = stopped.cli_json("backup", str(tmp_path / "copy"))
    assert (again["ok"], again["copied"], again["kept"]) == (True, 1, len(segments(data)) - 1)
    flip(segments(data)[1], b"It breaks")
    flip(segments(tmp_path / "copy")[1], b"It breaks")
    [finding] = stopped.cli_json("backup", str(tmp_path / "copy"), exit_code=5)["damage"]
    assert (finding["kind"], finding["segment"]) == ("payload", segments(data)[1].name)


def test_other_files_in_the_journal_are_nobodys_business(data: Path, tmp_path: Path) -> None:
    with open_chosen(data) as journal:
        journal.append([received("g")])
    (data / "journal" / "broken.jsonl").symlink_to("nowhere")
    (data / "journal" / "mine.jsonl").write_text("notes")
    stopped = own_journal(data)
    assert stopped.cli_json("status", exit_code=6)["journal"]["segments"] == 1
    for command in (["verify"], ["salvage"], ["deliveries"], ["backup", str(tmp_path / "copy")]):
        stopped.cli(*command)


def test_a_backup_without_a_daemon_and_where_it_is_refused(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon(ROUTE)
    filled(daemon)
    assert daemon.stop() == 0
    told = daemon.cli_json("backup", str(tmp_path / "copy"))
    assert told["head"] == daemon.cli_json("verify")["head"]
    unchanged = daemon.cli_json("backup", str(tmp_path / "copy"))
    assert (unchanged["copied"], unchanged["kept"]) == (0, 1)
    daemon.cli("backup", str(daemon.data), exit_code=2)
    other = tmp_path / "other"
    (other / "journal").mkdir(parents=True)
    (other / "journal" / "something").write_text("else")
    daemon.cli("backup", str(other), exit_code=4)
    flip(segments(daemon.data)[0], b"It does not work")
    (tmp_path / "held").hardlink_to(segments(daemon.data)[0])  # no other file may get its inode, by which it is known
    for copy in ("new", "copy"):
        rewritten = segments(daemon.data)[0]
        shutil.copyfile(rewritten, tmp_path / "rewritten")
        (tmp_path / "rewritten").rename(rewritten)
        said = daemon.cli("backup", str(tmp_path / copy), exit_code=5).stderr.decode()
        assert f"payload in {rewritten.name} at byte" in said and "delivery" in said, "rot in what was acknowledged"
        assert "No earlier copy was touched" in said
    assert own_journal(tmp_path / "copy").cli_json("verify")["ok"] is True


def test_a_bad_entry_hides_no_other_backup(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon(ROUTE)
    guids = filled(daemon, 1)
    assert daemon.stop() == 0
    note = daemon.data / "backups.json"
    good, later = tmp_path / "good", tmp_path / "later"
    daemon.cli("backup", str(good))
    bad: list[Any] = [{"at": "x"}, 7, {"path": "a\0b"}]
    kept = json.loads(note.read_text())["backups"]
    note.write_text(json.dumps({"backups": [bad[0], *kept, *bad[1:]]}))
    daemon.cli("backup", str(later))
    found = daemon.cli_json("redact", guids[0], "--dry-run")
    assert found["copies"] == [str(good), str(later)]
    for number, said in zip((1, 3, 4), found["copies_unread"], strict=True):
        assert said.startswith(f"{note}: entry {number} names no directory: ")
    assert "entry 3" in daemon.cli("redact", guids[0], "--dry-run").stderr.decode()
    [finding, *_] = [one for one in daemon.cli_json("doctor", exit_code=None)["findings"] if one["check"] == "backups"]
    assert "entry 1" in finding["words"] and str(note) in finding["next"]
    for whole in (b"{", b"[]", b'{"backups":5}', b"\xff", b"[" * 100_000):
        note.write_bytes(whole)
        assert str(note) in daemon.cli_json("redact", guids[0], "--dry-run")["copies_unread"][-1]
        said = daemon.cli("backup", str(later)).stderr.decode()
        assert "can't be remembered" in said and "by hand" in said
        assert note.read_bytes() == whole, "what it named may still be read by somebody"


UNSEEN = """
data = Path(sys.argv[1]) / "data"
(data / "journal-old").mkdir(parents=True)
(data / "journal.salvaged-1").symlink_to(Path(sys.argv[1]) / "closed" / "x")
(Path(sys.argv[1]) / "closed").mkdir(mode=0)
told = [copies(data), unreadable(data)]
data.chmod(0o300)
print(json.dumps([*told, copies(data), unreadable(data)]))
"""


def test_a_copy_that_can_not_be_seen_is_told() -> None:
    imports = "from covenq.operate.maintain.backup_list import copies, unreadable"
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o777)
        names, none, unseen, why = as_nobody(UNSEEN, made, imports=imports)
    assert names == [f"{made}/data/journal-old", f"{made}/data/journal.salvaged-1"]
    assert (none, unseen) == ([], [])
    assert why == [f"{made}/data can't be searched for journals put aside: Permission denied"]


@pytest.mark.parametrize("verify", [True, False])
def test_a_backup_taken_while_content_is_erased_is_whole(make_daemon: Make, tmp_path: Path, verify: bool) -> None:
    daemon = make_daemon(ROUTE)
    guids = filled(daemon, 6)
    words = [] if verify else ["--no-verify"]
    process = subprocess.Popen(
        [sys.executable, "-m", "covenq", "backup", str(tmp_path / "copy"), "--json", *words],
        env=daemon.environment(),
        stdout=subprocess.PIPE,
    )
    for guid in guids:
        assert daemon.api("/api/v1/redact", "POST", {"ids": [guid]}).status == 200
    out, _ = process.communicate(timeout=60)
    told: dict[str, Any] = json.loads(out)
    assert (process.returncode, told["ok"]) == (0, True)
    assert own_journal(tmp_path / "copy").cli_json("verify")["ok"] is True
    daemon.cli("backup", str(tmp_path / "copy"))
    content = b"".join(path.read_bytes() for path in (tmp_path / "copy" / "journal").glob("*.jsonl"))
    assert b"It does not work" not in content, "run again, it is erased there too"
    assert len(records(tmp_path / "copy", "delivery.received")) == 6
