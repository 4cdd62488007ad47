"""The live configuration: replaced whole or not at all, reread when its files change, and what it can't change said."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from covenq.config.live import FILES_PER_CHECK, Live, Snapshot, open_live
from covenq.config.load import Config, load
from tests.support.other_user import as_nobody

SECRETS = '[github]\nwebhook_secrets = [{ name = "app", file = "app" }]\n'
ROUTE = '[[route]]\nname = "a"\nmatch = "event:push since:2d"\nrun = ["true"]\n'


class Room:
    """A configuration file, its secret, and the live configuration of both."""

    def __init__(self, path: Path, text: str = SECRETS + ROUTE) -> None:
        self.path = path
        self.file = path / "covenq.toml"
        self.app = path / "app"
        self.app.write_text("the first secret of the app")
        self.file.write_text(text)
        self.env: dict[str, str] = {}
        self.live = self.open()

    def open(self) -> Live:
        live = open_live(load(self.file, self.env), self.env, self.path)
        assert live.check() is None, "the look that makes sure of the start changes nothing"
        return live

    def looked(self) -> list[bool]:
        """Look until nothing is left to do: whether each look that did something went well."""
        found, idle = [], 0
        while idle < 3:
            outcome = self.live.check()
            idle = 0 if outcome else idle + 1
            if outcome:
                found.append(outcome.ok)
        return found

    @property
    def names(self) -> list[str]:
        return [key.name for key in self.live.now.keys]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_a_reload_replaces_the_snapshot_and_leaves_the_old_one_whole(room: Room) -> None:
    before = room.live.now
    told: list[tuple[Snapshot, Snapshot]] = []
    room.live.subscribe(lambda old, new: told.append((old, new)))
    room.file.write_text(SECRETS + '[retention]\npayloads = "1d"\n')
    outcome = room.live.reload("SIGHUP")
    assert (outcome.ok, outcome.changed) == (True, True)
    assert before.config.routes and not room.live.now.config.routes
    assert room.live.now.config.retention.payloads_s == 86400
    assert told == [(before, room.live.now)]
    assert room.live.status().number == 2


def test_a_reload_of_the_same_changes_nothing(room: Room) -> None:
    before = room.live.now
    outcome = room.live.reload("SIGHUP")
    assert (outcome.ok, outcome.changed) == (True, False)
    assert room.live.now is before


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[github\n", "line 1, column 8"),
        (SECRETS + ROUTE + "tiemout = '1s'\n", "did you mean timeout?"),
        (SECRETS.replace('"app" }', '"none" }'), "can't be read"),
        (SECRETS + ROUTE + ROUTE, "two routes"),
        (SECRETS + "[worker]\nconcurrency = " + "9" * 5000 + "\n", "more digits than are read"),
        ("", "no webhook secret is left"),
    ],
)
def test_what_is_invalid_is_refused_whole_and_told(room: Room, text: str, problem: str) -> None:
    before = room.live.now
    room.file.write_text(text)
    outcome = room.live.reload("SIGHUP")
    assert not outcome.ok and problem in str(outcome.error) and str(room.file.parent) in str(outcome.error)
    assert room.live.now is before
    status = room.live.status()
    assert (status.ok, status.error, status.number) == (False, outcome.error, 1)
    room.file.write_text(SECRETS + ROUTE)
    assert room.live.reload("SIGHUP").ok
    assert room.live.status().ok


def test_an_empty_or_vanished_secret_leaves_the_one_that_was(room: Room) -> None:
    room.app.write_text("\n")
    assert "is empty" in str(room.live.reload("SIGHUP").error)
    room.app.unlink()
    assert "can't be read" in str(room.live.reload("SIGHUP").error)
    assert [key.secret for key in room.live.now.keys] == [b"the first secret of the app"]


def test_a_change_that_waits_for_the_next_start_is_said_though_nothing_else_changed(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    room.file.write_text("[server]\nthreads = 3\n" + room.file.read_text())
    with caplog.at_level(logging.INFO):
        assert not room.live.reload("SIGHUP").changed
    said = [record.getMessage() for record in caplog.records]
    assert said[0].endswith("nothing that takes effect now has changed")
    assert said[1:] == ["[server] threads takes effect at the next start"]


def test_what_can_not_change_while_it_runs_stays_and_is_said(room: Room) -> None:
    room.file.write_text('[server]\nbind = "127.0.0.1:1"\nthreads = 3\n[worker]\nconcurrency = 9\n' + SECRETS)
    outcome = room.live.reload("SIGHUP")
    config = room.live.now.config
    assert (config.bind, config.threads, config.concurrency) == (Config().bind, Config().threads, Config().concurrency)
    assert [warning.split(" takes")[0] for warning in outcome.warnings] == [
        "[server] bind",
        "[server] threads",
        "[worker] concurrency",
    ]
    assert room.live.status().warnings == list(outcome.warnings)
    assert config.routes == ()


# ---- reread on change


def test_a_changed_file_is_reread(room: Room) -> None:
    assert room.looked() == []
    room.app.write_text("the second secret of the app")
    assert room.looked() == [True]
    assert room.live.now.keys[0].secret == b"the second secret of the app"
    replacement = room.path / "new"
    replacement.write_text(SECRETS + '[retention]\nattempts = "2d"\n')
    replacement.replace(room.file)
    assert room.looked() == [True]
    assert room.live.now.config.retention.attempts_s == 2 * 86400


def test_a_file_that_is_being_written_is_left_until_it_rests(room: Room) -> None:
    """Every prefix of the file, one a look: none is read, for each look finds it changed again."""
    text = SECRETS + '[retention]\npayloads = "1d"\n' + ROUTE
    for end in range(0, len(text), 7):
        room.file.write_text(text[:end])
        os.utime(room.file, ns=(end, end))  # whatever the clock's tick
        assert room.live.check() is None
    assert room.live.now.number == 1
    room.file.write_text(text)
    assert room.looked() == [True]
    assert room.live.now.config.retention.payloads_s == 86400


def test_a_reload_that_is_asked_for_waits_until_the_file_rests_but_not_for_ever(room: Room) -> None:
    room.live.request_reload("SIGHUP")
    assert room.live.check() is not None, "nothing is being written, so it is done at once"
    room.file.write_text(SECRETS)
    room.live.request_reload("SIGHUP")
    assert room.live.check() is None
    outcome = room.live.check()
    assert outcome is not None and outcome.changed
    assert room.looked() == []
    room.live.request_reload("SIGHUP")
    for number in range(1, 20):
        os.utime(room.file, ns=(number, number))
        if room.live.check() is not None:
            break
    assert 1 < number < 15


def test_a_half_written_file_at_rest_is_refused_once_and_the_whole_one_taken(room: Room) -> None:
    room.file.write_text(SECRETS[:-5])
    assert room.looked() == [False]
    assert room.looked() == [], "the same refusal is not told again and again"
    assert room.names == ["app"]
    room.file.write_text(SECRETS)
    assert room.looked() == [True]


def test_a_secret_that_a_refused_configuration_names_is_waited_for(room: Room) -> None:
    room.file.write_text('[github]\nwebhook_secrets = [{ name = "app", file = "app" }, { name = "b", file = "b" }]\n')
    assert room.looked() == [False]
    (room.path / "b").write_text("a secret that came later than its name")
    assert room.looked() == [True]
    assert room.names == ["app", "b"]


@pytest.mark.parametrize("how", ["SIGHUP", "change"])
def test_a_change_within_one_tick_of_the_clock_is_seen_by_the_second_reading(room: Room, how: str) -> None:
    room.app.write_text("the second secret of the app")
    moment = room.app.stat()
    if how == "change":
        assert room.live.check() is None
        assert room.live.check() is not None
    else:
        room.live.reload("SIGHUP")
    stamps = room.live._seen[room.app]
    room.app.write_text("THE second secret of the app")  # the same length, and (below) the same stamp
    os.utime(room.app, ns=(moment.st_atime_ns, moment.st_mtime_ns))
    room.live._seen[room.app] = _stamp(room.app)
    assert stamps is not None
    outcome = room.live.check()
    assert outcome is not None and outcome.changed
    assert room.live.now.keys[0].secret == b"THE second secret of the app"


def _stamp(path: Path) -> tuple[int, int, int, int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def test_a_pipe_is_not_waited_for(room: Room) -> None:
    room.app.unlink()
    os.mkfifo(room.app)
    assert "no file that can be read again" in str(room.live.reload("SIGHUP").error)
    room.file.unlink()
    os.mkfifo(room.file)
    assert "no file that can be read again" in str(room.live.reload("SIGHUP").error)
    assert room.names == ["app"]


def test_a_configuration_that_vanishes_stays_in_effect(room: Room) -> None:
    room.file.unlink()
    assert room.looked() == [False]
    assert room.names == ["app"]


def test_a_configuration_that_appears_is_taken(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the data directory's own")
    live = open_live(Config(), {}, tmp_path)
    (tmp_path / "covenq.toml").write_text(ROUTE)
    outcomes = [live.check() for _ in range(4)]
    assert [outcome.changed for outcome in outcomes if outcome] == [True]
    assert [route.name for route in live.now.config.routes] == ["a"]
    assert [key.name for key in live.now.keys] == ["default"]


def test_what_the_command_line_says_stands_over_every_reading(tmp_path: Path) -> None:
    from dataclasses import replace

    room = Room(tmp_path)

    def adjust(config: Config) -> Config:
        return replace(config, bind="127.0.0.1:9")

    live = open_live(adjust(load(room.file, {})), {}, tmp_path, adjust)
    room.file.write_text(SECRETS)
    outcome = live.reload("SIGHUP")
    assert outcome.changed and outcome.warnings == []
    assert live.now.config.bind == "127.0.0.1:9"


def test_a_look_costs_the_same_however_many_secrets_and_sees_each_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = FILES_PER_CHECK * 3
    named = ", ".join(f'{{ name = "s{i}", file = "s{i}" }}' for i in range(number))
    for i in range(number):
        (tmp_path / f"s{i}").write_text(f"secret number {i} of many more")
    room = Room(tmp_path, f"[github]\nwebhook_secrets = [{named}]\n")
    asked = 0
    plain = Path.stat

    def counted(path: Path, **how: Any) -> os.stat_result:
        nonlocal asked
        asked += 1
        return plain(path, **how)

    (tmp_path / f"s{number - 1}").write_text("a new secret of the last of them all")
    monkeypatch.setattr(Path, "stat", counted)
    for _ in range(8):
        before, asked = asked, 0
        if room.live.check() is not None:
            break
        assert asked <= FILES_PER_CHECK + 2, before
    assert room.live.now.keys[-1].secret == b"a new secret of the last of them all"


def test_short_and_equal_secrets_are_warned_of_and_never_shown(room: Room) -> None:
    named = ", ".join(f'{{ name = "{name}", value = "hush" }}' for name in "ab")
    room.file.write_text(f"[github]\nwebhook_secrets = [{named}]\n")
    outcome = room.live.reload("SIGHUP")
    assert outcome.ok
    said = " ".join(outcome.warnings)
    assert "'a' is short" in said and "'b' is short" in said and "'a' and 'b' are the same" in said
    assert "hush" not in said + repr(room.live.now)
    room.file.write_text("[")
    assert not room.live.reload("SIGHUP").ok
    assert room.live.status().warnings == list(outcome.warnings), "they are of what is in effect"


CLOSED = """
data = Path(sys.argv[1]) / "data"
data.mkdir()
(data / "secret").write_text("the secret that the first start made")
live = open_live(Config(), {}, data)
data.chmod(0)
outcome = live.reload("SIGHUP")
[(source, problem)] = live.secret_status()
print(json.dumps([outcome.ok, outcome.error, [key.name for key in live.now.keys], source.name, problem]))
"""


def test_a_data_directory_that_is_closed_meanwhile_takes_no_secret_away() -> None:
    imports = "from covenq.config.live import open_live\nfrom covenq.config.load import Config"
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o777)
        ok, error, names, source, problem = as_nobody(CLOSED, made, imports=imports)
    assert not ok
    assert "Permission denied" in error
    assert names == [source] == ["default"]
    assert "Permission denied" in problem
