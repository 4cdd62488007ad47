"""The benchmarks say what they measured on, and end with 1 where there is less, or nothing, to measure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import ROOT, clean_env

ONE_COMMAND = """
import sys
from tests.bench import cli
cli.RUNS, cli.commands = 1, lambda count: [("deliveries", ["deliveries", *sys.argv[3:]])]
cli.main()
"""


def bench_of_commands(count: int, directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """tests/bench/cli.py, with one run of one command."""
    command = [sys.executable, "-c", ONE_COMMAND, str(count), str(directory), *words]
    return subprocess.run(command, env=clean_env(), cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_an_empty_directory_is_filled_before_it_is_measured_on(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    for _ in range(2):  # the second time it is there
        done = bench_of_commands(30, directory)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"30 deliveries in {directory}, 1 runs of each\n")
        assert "covenq deliveries" in done.stdout


def test_a_directory_with_less_than_was_asked_for_is_refused(tmp_path: Path) -> None:
    assert bench_of_commands(30, tmp_path / "data").returncode == 0
    done = bench_of_commands(31, tmp_path / "data")
    assert done.returncode == 1
    assert "has 30 deliveries and not 31" in done.stderr
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes").touch()
    assert "has 0 deliveries and not 31" in bench_of_commands(31, tmp_path / "other").stderr
    assert [one.name for one in (tmp_path / "other").iterdir()] == ["notes"]


def test_a_command_that_fails_is_no_figure(tmp_path: Path) -> None:
    done = bench_of_commands(30, tmp_path / "data", "no-such-field:1")
    assert done.returncode == 1
    assert "exits with 2, not 0" in done.stderr


def test_status_is_told_in_turn_with_the_empty_program_and_its_bar(tmp_path: Path) -> None:
    program = f"""
import sys
from tests.bench import cli
cli.RUNS = 1
sys.argv = ["cli.py", "30", {str(tmp_path / "data")!r}, "--only=status"]
cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean_env(), cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    *_, empty, status, in_turn = done.stdout.splitlines()
    assert empty.endswith("an empty Typer program")
    assert status.endswith("covenq status")
    assert "in turn with the empty one" in in_turn and in_turn.endswith("bar 1.5)")


def test_an_option_that_is_none_of_the_commands_bench_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tests" / "bench" / "cli.py"), "30", str(tmp_path / "data"), "--onyl=status"]
    done = subprocess.run(command, env=clean_env(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "--onyl: there are --days and --only" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["journal.py", "--each", "0", "--rounds", "1"], "there is nothing to measure"),
        (["growth.py", "--deliveries", "0"], "of nothing there are no figures"),
        (["tasks.py", "--tasks", "0"], "of nothing there are no figures"),
        (["tasks.py", "--starts", "0"], "of nothing there are no figures"),
        (["intake.py", "--only", "covenk", "--check"], "--only covenk"),
        (["intake.py", "--only", "covenq", "--check"], "--check has nothing to compare"),
        (["intake.py", "--rounds", "0"], "--rounds is at least 1"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_nothing_to_measure_is_said(tmp_path: Path, words: list[str], says: str) -> None:
    command = [sys.executable, str(ROOT / "tests" / "bench" / words[0]), *words[1:], "--dir", str(tmp_path)]
    done = subprocess.run(command, env=clean_env(), capture_output=True, text=True, timeout=120)
    assert done.returncode in (1, 2), done.stdout
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bar_that_could_not_be_measured_is_not_met_where_all_are_asked_for() -> None:
    program = """
from tests.bench.tasks import report
ours = {"covenq": [900.0], "covenq, one a request": [300.0]}
huey = {"huey, SQLite with fsync": [900.0], "huey, which stores their ends too": [500.0]}
missing = {"procrastinate, PostgreSQL": "not installed"}
assert report(ours | huey, missing, 5.0, check=False) == 0
assert report(ours | huey, missing, 5.0, check=True) == 1
every = ours | huey | {"procrastinate, PostgreSQL": [200.0]}
assert report(every, {}, 5.0, check=True) == 0
assert report(every | {"procrastinate, PostgreSQL": [300.0]}, {}, 5.0, check=False) == 1
assert report(every | {"huey, which stores their ends too": [700.0]}, {}, 5.0, check=False) == 1
assert report(every, {}, 11.0, check=False) == 1
assert report(ours, {}, 5.0, check=False) == 1
"""
    done = subprocess.run([sys.executable, "-c", program], env=clean_env(), cwd=ROOT, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()


def test_a_fold_that_lags_behind_wins_nothing() -> None:
    program = """
from tests.bench.intake import Fold
assert Fold(9000, 0, 0.0, 0.0).counted(1500.0) == 1500.0
assert Fold(9000, 1000, 0.22, 0.1).counted(1500.0) == 1500.0  # it rests for so long
assert Fold(9000, 4500, 1.0, 1.0).counted(1500.0) == 750.0
"""
    done = subprocess.run([sys.executable, "-c", program], env=clean_env(), cwd=ROOT, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system doesn't show processor time")
def test_the_intake_s_figures_say_how_far_the_fold_is(tmp_path: Path) -> None:
    words = ["--only", "covenq,hmac", "--rounds", "1", "--seconds", "1", "--client", "python", "--dir", str(tmp_path)]
    command = [sys.executable, str(ROOT / "tests" / "bench" / "intake.py"), *words]
    done = subprocess.run(command, env=clean_env(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "after a round the fold of covenq was " in done.stdout
    assert "covenq / Falcon, HMAC and JSON" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_syncs_that_are_no_slower_than_they_were_are_said(tmp_path: Path) -> None:
    """As where the library that makes them slower can't be loaded, which the linker only warns of."""
    program = "from tests.support import slow_sync\nslow_sync.apply(int(10e6))\nprint('measured')\n"
    env = clean_env(SLOW_SYNC_US="10000000", LD_PRELOAD=os.devnull)
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "a sync takes" in done.stderr


@pytest.mark.postgres
def test_growth_is_measured_of_both_engines(data: Path) -> None:
    # Not below pytest's directory, which nobody else may enter: the server runs as another user where root runs this.
    words = ["--deliveries", "150", "--each", "40", "--checkpoint", "100", "--dir", str(data.parent)]
    command = [sys.executable, str(ROOT / "tests" / "bench" / "growth.py"), *words]
    done = subprocess.run(command, env=clean_env(), cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "files: 150 deliveries of 8,192 bytes, 1,050 records" in done.stdout
    assert "bytes a delivery in its tables" in done.stdout and "in the write-ahead log" in done.stdout
    assert done.stdout.count("× the files'") == 4
    assert list(data.parent.iterdir()) == []
