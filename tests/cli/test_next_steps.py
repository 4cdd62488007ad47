"""What a command says to type next can be typed as it is printed."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.journals.chosen import open_chosen
from tests.support.records import moved, note, of, queued, received

CONFIG = '[[route]]\nname = "fix"\nmatch = "event:issues"\nrun = ["true"]\n'


@pytest.fixture
def here(data: Path, tmp_path: Path) -> Daemon:
    """A data directory without a daemon, and commands on it."""
    data.mkdir(mode=0o700)
    (tmp_path / "covenq.toml").write_text(CONFIG)
    with open_chosen(data) as journal:
        for guid in ("failed-one", "completed-one", "waiting-one"):
            journal.append([received(guid), queued(guid)])
        for guid, kind, more in (
            ("failed-one", "failed", {"category": "spawn", "detail": "x could not be started"}),
            ("completed-one", "completed", {"result": f"attempts/{of('completed-one')}/1/result"}),
        ):
            journal.append([moved("claimed", of(guid), attempt=1, worker="w")])
            journal.append([moved("phase", of(guid), attempt=1, phase="prepared")])
            journal.append([moved(kind, of(guid), attempt=1, **more)])
        for name, said in (("stdout", "it said\n"), ("stderr", "")):
            path = data / "attempts" / of("failed-one") / "1" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(said)
        journal.append([received("ignored-one", event="push"), note("ignored", "ignored-one", reason="no_match")])
    return Daemon(data=data, config=tmp_path / "covenq.toml")


@pytest.mark.parametrize(
    "subject",
    [["worker"], ["intake"], ["route", "fix"], ["repo", "octo/it's"], ["installation", "2311"]],
    ids=" ".join,
)
def test_pause_says_what_ends_it(here: Daemon, subject: list[str]) -> None:
    said = here.cli("pause", *subject, *(["--yes"] if subject == ["intake"] else [])).stderr.decode()
    command = re.search(r"`(covenq resume .*)` ends it", said)
    assert command, said
    assert "goes on" in here.cli(*shlex.split(command[1])[1:]).stderr.decode()


@pytest.mark.files("the data directory is copied with its journal")
@pytest.mark.parametrize("guid", ["failed-one", "completed-one", "waiting-one", "ignored-one"])
def test_each_next_step_of_why_is_a_command(here: Daemon, guid: str) -> None:
    said = here.cli("why", guid).stdout.decode()
    steps = re.findall(r"^  (covenq .*?)  ", said.partition("what next")[2], re.MULTILINE)
    assert steps, said
    for number, step in enumerate(steps):
        copy = here.data.with_name(f"copy-{number}")
        shutil.copytree(here.data, copy)
        _type(Daemon(data=copy, config=here.config), shlex.split(step)[1:])


@pytest.mark.files("the data directory is copied with its journal")
@pytest.mark.parametrize("guid", ["failed-one", "ignored-one"])
def test_what_why_says_to_type_finds_the_place_that_why_was_told(here: Daemon, guid: str) -> None:
    nowhere = {"COVENQ_DATA": "", "COVENQ_CONFIG": ""}
    place = ["--data", str(here.data), "--config", str(here.config)]
    said = here.cli("why", guid, *place, env=nowhere).stdout.decode()
    steps = re.findall(r"^  (covenq .*?)  ", said.partition("what next")[2], re.MULTILINE)
    steps.append(said.partition("\n")[0].partition(" · ")[2])
    assert len(steps) > 1, said
    for number, step in enumerate(steps):
        copy = here.data.with_name(f"copy-{number}")
        shutil.copytree(here.data, copy)
        words = shlex.split(step)[1:]
        assert words[-4:] == place, step
        _type(here, [str(copy) if word == str(here.data) else word for word in words], nowhere)


def _type(daemon: Daemon, words: list[str], env: dict[str, str] | None = None) -> None:
    """Run it: it does what it is for. Where no daemon is running `doctor` does, and has a problem to tell; `serve` would stay."""
    if words[0] == "serve":
        words = [*words, "--help"]
    daemon.cli(*words, env=env, exit_code=1 if words[0] == "doctor" else 0)


def test_a_task_whose_delivery_was_erased_lists_no_file(here: Daemon) -> None:
    task = of("completed-one")
    before = here.cli_json("show", task)["attempt_objects"][0]
    assert (before["result"], before["stdout"]) == (f"attempts/{task}/1/result", f"attempts/{task}/1/stdout")
    here.cli("redact", "completed-one")
    after = here.cli_json("show", task)["attempt_objects"][0]
    assert (after["result"], after["stdout"], after["stderr"]) == (None, None, None)
    assert here.cli_json("show", of("failed-one"))["attempt_objects"][0]["stdout"], "and others keep theirs"
