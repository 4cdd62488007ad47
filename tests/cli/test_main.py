"""The command line without a daemon: help, usage, streams that are closed, and what it imports. Real processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from covenq import __version__
from covenq.cli.app import COMMANDS, GROUPS, TAKES_FILTER, build
from covenq.cli.commands.init import TEMPLATE
from covenq.config.load import build as build_config
from covenq.config.load import load
from tests.support.checkout import ROOT, clean_env
from tests.support.commands import run_command

COVENQ = [sys.executable, "-m", "covenq"]


def run(*args: str, exit_code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    raw = run_command(args, clean_env(**env))
    done = subprocess.CompletedProcess(args, raw.returncode, raw.stdout.decode(), raw.stderr.decode())
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom covenq.cli.main import main\nsys.argv = ['covenq', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'textual', 'falcon', 'waitress', 'rich', 'sqlite3'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=clean_env(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout
    lines = done.stdout.splitlines()
    assert [one for one in lines if one.endswith(":")] == ["Options:", *(f"{heading}:" for heading in GROUPS)]
    for heading, names in GROUPS.items():
        group = lines[lines.index(f"{heading}:") + 1 :]
        listed = [one.split()[0] for one in group[: (*group, "").index("")] if not one.startswith("   ")]
        assert listed == list(names)
    assert "..." not in done.stdout.partition("Options:")[2], "no sentence is cut"
    assert max(map(len, lines)) <= 80 and "\x1b" not in done.stdout
    assert "─" not in done.stdout, "no boxes"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_plain_help(name: str) -> None:
    said = run(name, "--help").stdout
    assert said.startswith(f"Usage: covenq {name}")
    assert "─" not in said


def test_a_command_imports_only_what_it_needs() -> None:
    code = (
        "import sys\nfrom covenq.cli.main import main\nsys.argv = ['covenq', 'tasks', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(*sorted(name for name in sys.modules if name.startswith('covenq.cli.commands.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=clean_env(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "covenq.cli.commands.listing"


READS = (["deliveries"], ["tasks"], ["why", "octo/hello#1"], ["tail"], ["stats"])


@pytest.mark.parametrize("words", READS, ids=lambda words: words[0])
def test_a_command_that_reads_files_begins_lightly(words: list[str], tmp_path: Path) -> None:
    """No garbage is looked for in what was imported, and neither what acts nor what asks others is."""
    code = (
        "import atexit, gc, sys\nlooked = []\ngc.callbacks.append(lambda *_: looked.append(1))\n"
        "def end():\n"
        "    others = ('covenq.net.http', 'covenq.net.outgoing', 'covenq.tasks.execution.command', 'covenq.reconcile.')\n"
        "    print(len(looked), *(name for name in sys.modules if name.startswith(others)))\n"
        "atexit.register(end)\nfrom covenq.cli.main import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--data", str(tmp_path)],
        env=clean_env(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (0, 3), done.stderr
    assert done.stdout.splitlines()[-1] == "0"


def test_commands_that_take_a_filter_have_no_short_options() -> None:
    # Each letter of `-number:7` is looked up as one.
    for name in TAKES_FILTER:
        for option in build(name).params:
            assert all(not spelling.startswith("-") or spelling.startswith("--") for spelling in option.opts), (
                option.opts
            )


def test_version_is_that_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert run("--version").stdout == f"covenq {project['version']}\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["taks"], "tasks"),
        (["tasks", "--jsn"], "--json"),
        (["tasks", "-j"], "no option -j"),
        (["tasks", "--forse"], "`--help` lists the options"),
        (["replay", "--forse", "state:failed"], "Did you mean --force?"),
        (["deliveries", "--since", "1h"], "Write it as a filter word: since:1h"),
        (["replay", "--state=failed"], "Write it as a filter word: state:failed"),
        (["routes", "diff", "--ol", "x"], "Did you mean --old?"),
        (["deliveries", "--", "--limit", "3"], "Write --limit before the --"),
        (["worker", "--name", "a b", "--", "true"], "'a b' is no name of a worker"),
        (["worker", "--route", "a b", "--", "true"], "'a b' is no name of a route"),
        (["worker", "--", ""], "no command to run"),
        (["tasks", "--json", "--jsonl"], "combined"),
        (["tasks", "--limit", "-1"], "limit"),
        (["requeue"], "which tasks?"),
        (["replay"], "which deliveries?"),
        (["replay", "guid", "state:failed"], "combined"),
        (["show"], "ID"),
        (["show", "x", "--payload", "--json"], "combined"),
        (["verify", "--expect", "abc"], "no head"),
        (["verify", "--since", "3", "--segment", "1"], "combined"),
        (["salvage", "--write", "--dry-run"], "combined"),
        (["backup"], "DIR"),
        (["redact"], "what to erase"),
        (["redact", "guid", "--repo", "octo/hello"], "what to erase"),
        (["redact", "guid", "event:push"], "can't be combined"),
        (["redact", "--sender", "octocat"], "Write it as a filter word: sender:octocat"),
        (["redact", "--repo", "octo"], "OWNER/NAME"),
        (["send"], "which event?"),
        (["send", "isues"], "issues"),
        (["send", "issues", "--event", "push"], "two events"),
        (["send", "issues", "--file", "x", "--action", "labeled"], "samples"),
        (
            ["send", "issues", "--guid", "a\r\nX: b", "--secret-file", __file__, "--url", "http://127.0.0.1:9/"],
            "--guid",
        ),
        (["serve", "--bind", "nonsense"], "host:port"),
        (["serve", "--concurrency", "0"], "concurrency"),
        (["tui"], "terminal"),
        (["deliveries", "--config", "/nowhere/covenq.toml"], "/nowhere/covenq.toml"),
    ],
)
def test_a_wrong_call_is_told_in_words_and_exits_2(args: list[str], words: str) -> None:
    done = run_command(args, clean_env())
    assert (done.returncode, done.stdout) == (2, b"")
    assert words in done.stderr.decode() and b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["backup", ""], "DIR"),
        (["verify", "--expect", ""], "--expect"),
        (["status", "--url", ""], "--url"),
        (["cancel", "t1", "--url", ""], "--url"),
        (["send", "issues", "--url", ""], "--url"),
        (["serve", "--data", ""], "--data"),
        (["status", "--config", ""], "--config"),
        (["routes", "diff", "--config", ""], "--config"),
        (["init", "--systemd", "--user", ""], "--user"),
        (["init", "--config", ""], "--config"),
        (["import", ""], "FILE"),
        (["export", "--output", ""], "--output"),
        (["salvage", "--to", ""], "--to"),
        (["worker", "--route", "a", "--route", "", "--", "true"], "--route"),
        (["worker", "--name", "", "--", "true"], "--name"),
        (["deliveries", "--after", ""], "--after"),
        (["replay", "state:failed", "--route", ""], "--route"),
    ],
)
def test_an_unset_variable_is_no_option_that_was_left_out(
    words: list[str], shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_command(words, clean_env())
    assert (done.returncode, f"covenq: {shown} is empty\n" in done.stderr.decode()) == (2, True), done
    assert list(tmp_path.iterdir()) == []


def test_a_hostile_word_is_told_without_its_controls() -> None:
    done = run("replay", "\x1b[2Jid", "state:failed", exit_code=2)
    assert "\x1b" not in done.stderr


# Streams


def test_a_reader_that_has_seen_enough_is_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*COVENQ, "send", "--list"], env=clean_env(), stdout=write, stderr=subprocess.PIPE, timeout=60
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_full_disk_behind_stdout_is_one_sentence() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COVENQ, "send", "--list"], env=clean_env(), stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 1
    assert b"can't write to standard output" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr


@pytest.mark.parametrize("closed", ["<&- >&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_never_taken_for_files(tmp_path: Path, closed: str) -> None:
    target = tmp_path / "covenq.toml"
    line = f'"$0" -m covenq init --config "$1" {closed}'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, str(target)], env=clean_env(), capture_output=True, timeout=60
    )
    assert target.read_text() == TEMPLATE
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0, "it is written, whether that can be told or not"


def test_another_locale_does_not_fail_a_command(tmp_path: Path) -> None:
    path = tmp_path / "ünïcödé.toml"
    done = subprocess.run(
        [*COVENQ, "init", "--config", str(path)],
        env=clean_env(PYTHONIOENCODING="ascii"),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert path.exists()


# init


def test_init_writes_a_configuration_that_loads_and_refuses_to_overwrite_it(data: Path) -> None:
    path = data / "covenq.toml"
    assert run("init", "--data", str(data)).stdout == f"{path}\n"
    assert data.stat().st_mode & 0o777 == 0o700
    config = load(path, {})
    assert [route.name for route in config.routes] == ["hello"]
    path.write_text("# mine\n")
    assert "there already" in run("init", "--data", str(data), exit_code=4).stderr
    assert path.read_text() == "# mine\n"
    path.chmod(0o600)
    kept = data / "covenq.toml.old"
    assert f"is kept in {kept}" in run("init", "--data", str(data), "--force").stderr
    assert (path.read_text(), kept.read_text()) == (TEMPLATE, "# mine\n")
    assert {one.stat().st_mode & 0o777 for one in (path, kept)} == {0o600}
    assert sorted(entry.name for entry in data.iterdir()) == ["covenq.toml", "covenq.toml.old"]
    assert "kept" not in run("init", "--data", str(data), "--force").stderr, "nothing is lost by that"
    assert kept.read_text() == "# mine\n"


def test_init_writes_where_config_says(tmp_path: Path) -> None:
    path = tmp_path / "conf" / "c.toml"
    run("init", COVENQ_CONFIG=str(path))
    assert path.read_text() == TEMPLATE


def test_every_example_of_the_template_is_valid() -> None:
    kept = []
    for line in TEMPLATE.splitlines():
        bare = line.removeprefix("# ")
        setting = bare.split(" = ")[0].isidentifier() and " = " in bare
        kept.append(bare if setting or bare.startswith("[[") else line)
    raw = tomllib.loads("\n".join(kept))
    config = build_config(raw, None, {})
    assert [route.name for route in config.routes] == ["hello", "fix-issue", "deploy"]
    assert len(config.secrets) == 2
    default = build_config({}, None, {})
    assert (config.bind, config.body_limit, config.concurrency) == (
        default.bind,
        default.body_limit,
        default.concurrency,
    )


def test_an_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("init", "--config", str(tmp_path / "file" / "c.toml"), exit_code=1)
    assert done.stderr.count("\n") == 2
    assert str(tmp_path) in done.stderr


def test_the_help_of_the_lists_names_every_field() -> None:
    from covenq.filter.grammar import FIELDS

    said = run("deliveries", "--help").stdout + run("tasks", "--help").stdout
    words = {word.strip(".,:") for word in said.split()}
    assert set(FIELDS) <= words


@pytest.mark.parametrize("command", ["status", "deliveries", "tasks", "verify", "serve"])
def test_a_data_directory_that_is_something_else_is_refused(command: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    said = run(command, "--data", str(path), exit_code=4)
    assert "is no directory" in said.stderr
    assert said.stdout == ""


def test_ctrl_c_anywhere_exits_with_130(tmp_path: Path) -> None:
    """Also within text that is executed, as a dataclass is made for one: `python -m` would die of the signal."""
    (tmp_path / "interrupted.py").write_text(
        "from covenq.cli import main\n\n\ndef run() -> int:\n    exec('raise KeyboardInterrupt')\n    return 0\n\n\n"
        "main._run = run\nmain.main()\n"
    )
    for how in (["-m", "interrupted"], ["interrupted.py"], ["-c", "import interrupted"]):
        done = subprocess.run([sys.executable, *how], env=clean_env(), cwd=tmp_path, capture_output=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (130, b"", b""), how


def test_it_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "covenq", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"covenq {__version__}\n")


@pytest.mark.parametrize("text", ["", "raise SystemError('not for this Python')\n"])
@pytest.mark.parametrize("name", ["journal.py", "journal/__init__.py"])
def test_another_journal_on_the_path_is_named(tmp_path: Path, name: str, text: str) -> None:
    stranger = tmp_path / name
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*COVENQ, "tasks"], capture_output=True, text=True, env=environment, cwd=ROOT.parent)
    assert (done.returncode, done.stdout) == (4, "")
    first, second = done.stderr.splitlines()
    assert first == f"covenq: `import journal` finds {stranger}, which is not covenq's package"
    assert f"Take {tmp_path} out of PYTHONPATH" in second


def test_another_distribution_that_replaced_journal_is_named(tmp_path: Path) -> None:
    """What `pip install journal` does: a file of ours is overwritten, the others stay."""
    for package in ("covenq", "journal"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "journal" / "__init__.py").write_text("")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*COVENQ, "tasks"], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (4, "")
    assert str(tmp_path / "journal" / "__init__.py") in done.stderr
    assert "pip uninstall journal" in done.stderr
