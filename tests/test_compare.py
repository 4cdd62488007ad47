"""The comparison's figures, tables, plots and page: what is made of what was measured, and what is counted as lost."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.bench.compare import page, plots, svg, table
from tests.bench.compare.losses import Loss, count, held
from tests.bench.compare.power_cut import PowerCut
from tests.bench.compare.results import Intake, Machine, Results, dump, load
from tests.bench.figures import Spread
from tests.support.checkout import ROOT, clean_env
from tests.support.contrast import ENOUGH, contrast, rgb

MAN = ROOT / "man"
SVG = "{http://www.w3.org/2000/svg}"


def made_up(*, widest: bool = False) -> Results:
    """Results of a run that never was; `widest`: of the longest words and numbers that one could have."""
    many = 123_456.0 if widest else 2000.0
    machine = Machine(
        "2026-11-30", "Some <processor> & Co", 2, 24.0, "Linux 6.1", "ext4", (512.4, 2048.0), 0.1, {"Python": "3.11.7"}
    )
    results = Results(machine, {"rounds": "3"}, took_s=600.0)
    for number, name in enumerate(table.INTAKE, 1):
        rate = [many / number, (1.5 + number / 7 * widest) * many / number, 1.2 * many / number]
        results.intake[name] = Intake(rate, [400.0] * 3, [1.0] * 3, [many if widest else 10.0] * 3)
        if name != "hmac":
            results.intake_losses[name] = Loss(5, 12_345, 0, 0)
            results.power_cuts[name] = Loss(5, 9_876, 4321, 2)
    for number, name in enumerate(table.TASKS, 1):
        results.tasks[name] = [many / number, (0.9 - number / 10 * widest) * many / number, many / number]
        results.task_losses[table.KILLED[name]] = Loss(5, 1000, 10, 3)
    for size in (1000, 100_000, 1_000_000):
        results.sizes[size] = {
            name: {measure: [0.0321 * number, 0.5 * number, many / 4 * number] for measure in table.MEASURES}
            for number, name in enumerate(table.STORES, 1)
        }
    return results


def test_a_ratio_is_taken_within_its_round_so_that_a_drift_is_in_both() -> None:
    ours, theirs = [100.0, 10.0, 400.0], [50.0, 5.0, 200.0]  # the machine's speed changes fortyfold
    assert Spread.of_ratios(ours, theirs) == (2.0, 2.0, 2.0)
    assert Spread.of_ratios([10.0, 100.0, 90.0], [10.0, 50.0, 30.0]) == (
        2.0,
        1.0,
        3.0,
    )  # not that of the medians, which is 3
    assert Spread.of([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    with pytest.raises(ValueError, match="no rounds"):
        Spread.of([])
    with pytest.raises(ValueError, match="shorter"):
        Spread.of_ratios([1.0], [])


@pytest.mark.parametrize(
    ("acknowledged", "there", "lost", "doubled"),
    [
        ("a b c", "a b c", 0, 0),
        ("a b c", "a c", 1, 0),
        ("a b c", "a b c d", 0, 0),  # d had no answer: it may be there
        ("a b c", "a a a b c d d", 0, 3),
        ("a a b", "a b", 0, 0),  # answered twice: there once
        ("", "", 0, 0),
    ],
)
def test_what_was_acknowledged_and_is_not_there_is_lost(acknowledged: str, there: str, lost: int, doubled: int) -> None:
    assert count(acknowledged.split(), there.split(), 7) == Loss(7, len(set(acknowledged.split())), lost, doubled)


def test_a_delivery_without_its_task_is_lost_and_one_with_two_is_doubled() -> None:
    there = held("a b c d".split(), "a c c d".split())
    assert sorted(there) == ["a", "c", "c", "d"]
    assert count("a b c d".split(), there, 1) == Loss(1, 4, lost=1, doubled=1)


def test_a_power_cut_takes_what_was_not_synced_and_nothing_else(tmp_path: Path) -> None:
    """Written in each way that a server may, by a process that is killed."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    power, data = PowerCut(tmp_path), tmp_path / "data"
    data.mkdir()
    program = """
import os, signal, sys
def opened(name):
    return os.open(f"{sys.argv[1]}/{name}", os.O_RDWR | os.O_CREAT)
kept, half, gone, cut, other = map(opened, ("kept", "half", "gone", "cut", "other"))
os.pwrite(kept, b"synced", 0); os.fdatasync(kept)
os.write(half, b"synced "); os.fsync(half)
os.write(half, b"not"); os.pwrite(half, b"OVER", 2); os.writev(half, [b"n", b"or this"]); os.pwrite(half, b"far", 100)
os.write(gone, b"never"); os.ftruncate(gone, 2); os.posix_fallocate(gone, 0, 50)
os.pwritev(cut, [b"long ", b"enough"], 0); os.fdatasync(cut); os.ftruncate(cut, 3); os.pwrite(cut, b"?", 5)
os.write(other, b"as it was"); os.fsync(kept)
os.kill(os.getpid(), signal.SIGKILL)
"""
    env = clean_env(**power.environment)
    assert subprocess.run([sys.executable, "-c", program, str(data)], env=env, timeout=60).returncode == -9
    assert (data / "half").stat().st_size == 103, "the kill alone takes nothing"
    assert power.cut(data) > 0
    found = {path.name: path.read_bytes() for path in data.iterdir()}
    assert found == {"kept": b"synced", "half": b"synced ", "gone": b"", "cut": b"long enough", "other": b""}
    assert power.cut(data) == 0


@pytest.mark.parametrize("widest", [False, True])
def test_no_line_of_a_table_is_longer_than_a_page_has_room_for(widest: bool) -> None:
    found = table.blocks(made_up(widest=widest))
    assert [len(block.lines) for block in found] == [6, 5, 6, *[4] * len(table.MEASURES)]
    for block in found:
        assert max(map(len, block.lines)) <= table.WIDTH, block
        assert len({len(line) for line in block.lines[1:]}) == 1 or block.title in (
            "Deliveries accepted a second",
            "Tasks done a second",
        )


def test_a_table_says_rate_ratio_and_losses_of_each() -> None:
    lines = table.intake(made_up())
    assert lines[1].split() == ["covenq", "2,400", "10", "400", "0", "0", "4,321"]
    assert lines[4].split() == ["SQLite", "FULL", "600", "4", "10", "400", "0", "0", "4,321"]
    assert table.losses(made_up())[1].split() == ["covenq", "12,345", "0", "0", "9,876", "4,321", "2"]
    uneven = made_up()
    uneven.intake["full"] = Intake([500.0, 1000.0, 600.0], [400.0], [1.0], [10.0])
    assert "4 (3–4)" in table.intake(uneven)[4]
    assert table.tasks(made_up())[3].split()[-3:] == ["1,000", "10", "3"]


def test_what_was_not_measured_is_no_figure() -> None:
    results = made_up()
    del results.intake["postgres"], results.tasks["procrastinate, PostgreSQL"], results.intake_losses["full"]
    del results.power_cuts["full"], results.power_cuts["postgres"], results.intake_losses["postgres"]
    for found in results.sizes.values():
        del found["postgres"]
    results.skipped["postgres"] = "PostgreSQL's initdb is not on the PATH"
    text = page.page(results)
    assert "PostgreSQL  " not in text.partition(".SH FIGURES")[2]
    assert "postgres: PostgreSQL\\(aqs initdb is not on the PATH" in text
    assert "\\(en" in next(line for line in text.splitlines() if line.startswith("SQLite FULL"))
    nothing = Results(results.machine, {})
    assert list(plots.plots(nothing)) == []
    assert "of nothing" not in page.page(nothing)
    assert table.blocks(nothing) == []


def test_plots_are_well_formed_and_the_same_of_the_same_figures() -> None:
    found = dict(plots.plots(made_up()))
    assert sorted(found) == sorted(["intake.svg", "tasks.svg", *(f"{name}.svg" for name in plots.BY_SIZE)])
    assert found == dict(plots.plots(made_up()))
    for name, content in found.items():
        root = ElementTree.fromstring(content)
        _, _, width, height = map(float, root.get("viewBox", "").split())
        words = [one.text or "" for one in root.iter(f"{SVG}text")]
        assert words[0] == root.findtext(f"{SVG}title")
        assert words[1] == root.findtext(f"{SVG}desc")
        assert words[1].endswith("?"), "each answers a question"
        assert any(one.startswith("covenq") for one in words), name
        for one in root.iter():
            for attribute, most in (("x", width), ("y", height), ("cx", width), ("cy", height)):
                assert 0 <= float(one.get(attribute, "0")) <= most, (name, attribute, one.attrib)
        for one in root.iter(f"{SVG}text"):
            if one.get("text-anchor") is None:  # from where it begins, some 6.4 units a letter of 12 units, 7.6 of 14
                letter = 6.4 if "small" in one.get("class", "") else 7.6
                assert float(one.get("x", "")) + letter * len(one.text or "") <= width, one.text
        places = [
            float(number)
            for one in root.iter(f"{SVG}path")
            for number in re.findall(r"[MLVH](-?[\d.]+)", one.get("d", ""))
        ]
        assert all(0 <= place <= width for place in places)


def test_words_in_a_plot_are_written_out_and_none_is_taken_for_markup() -> None:
    content = svg.bars("A < B & C", "Is it?", [svg.Bar("<b>", Spread(1.0, 1.0, 1.0), ("&",))])
    assert ElementTree.fromstring(content).findtext(f"{SVG}title") == "A < B & C"
    assert "<b>" not in content


def test_lines_that_end_at_one_place_have_names_beside_each_other() -> None:
    same = [(1000.0, Spread(1.0, 1.0, 1.0)), (10_000.0, Spread(5.0, 5.0, 5.0))]
    content = svg.lines("A", "B?", "ms", [svg.Line(name, same) for name in ("one", "two", "three")])
    ends = [float(one.get("y", "")) for one in ElementTree.fromstring(content).iter(f"{SVG}text")][-3:]
    assert min(abs(a - b) for a, b in ((ends[0], ends[1]), (ends[1], ends[2]), (ends[0], ends[2]))) >= 16


@pytest.mark.parametrize("which", [0, 1], ids=["light", "dark"])
def test_every_colour_of_a_plot_is_legible_on_its_background(which: int) -> None:
    background = rgb(svg.COLOURS["bg"][which])
    for name, both in svg.COLOURS.items():
        if name not in ("bg", "grid"):
            assert contrast(rgb(both[which]), background) >= ENOUGH, name


def test_figures_come_back_from_their_file_and_are_written_the_same(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    file.write_bytes(dump(made_up()))
    assert dump(load(file)) == file.read_bytes()
    assert load(file).sizes.keys() == {1000, 100_000, 1_000_000}


def test_the_manual_s_page_and_plots_are_of_the_figures_beside_them() -> None:
    results = load(MAN / "bench" / "figures.json")
    assert dump(results) == (MAN / "bench" / "figures.json").read_bytes()
    again = "make them again: python -m tests.bench.compare man --from man/bench/figures.json"
    assert (MAN / "covenq-bench.7").read_text() == page.page(results), again
    made = dict(plots.plots(results))
    assert {path.name for path in (MAN / "bench").glob("*.svg")} == made.keys(), again
    for name, content in made.items():
        assert (MAN / "bench" / name).read_text() == content, again


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--parts", "intake,nothing"], "--parts nothing"),
        (["--sizes", "many"], "invalid numbers value: 'many'"),
        (["--sizes", "10"], "of nothing there are no figures"),
        (["--kills", "0"], "of nothing there are no figures"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_a_comparison_of_nothing_is_refused(tmp_path: Path, words: list[str], says: str) -> None:
    done = compare(tmp_path, *words, timeout=60)
    assert done.returncode == 2
    assert says in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_fails_is_told_and_takes_no_other_s_figures_with_it() -> None:
    program = """
from pathlib import Path
from tests.bench.compare import __main__ as compare
from tests.test_compare import made_up
def failing(*given):
    raise RuntimeError("a contender accepts nothing")
results = made_up()
before = dict(results.intake)
compare.kill = failing
assert not compare.measure("kills", results, Path(), None)
assert results.skipped == {"kills": "failed: a contender accepts nothing"} and results.intake == before
"""
    done = subprocess.run([sys.executable, "-c", program], env=clean_env(), cwd=ROOT, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.deep
def test_a_small_comparison_measures_all_that_is_installed(tmp_path: Path) -> None:
    small = "--rounds 1 --seconds 1 --tasks 100 --kills 1 --killed-tasks 100 --sizes 100,200 --client python".split()
    done = compare(tmp_path, *small, timeout=900)  # not below tmp_path, which is too long for a socket's name
    assert done.returncode == 0, done.stderr
    results = load(tmp_path / "bench" / "figures.json")
    assert {"covenq", "hmac", "normal", "full"} <= results.intake.keys()
    assert results.intake_losses["covenq"].acknowledged > 50
    for name in ("covenq", "full"):
        assert results.intake_losses[name].lost == 0
        assert results.sizes[200][name].keys() >= table.MEASURES.keys()
    assert results.power_cuts["covenq"].lost == 0 or "power cut" in results.skipped
    assert results.task_losses["covenq"].lost == 0
    assert results.tasks["covenq"]
    assert (tmp_path / "covenq-bench.7").read_text() == page.page(results)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["bench", "covenq-bench.7"]


def compare(man: Path, *words: str, timeout: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.bench.compare", str(man), *words]
    return subprocess.run(command, env=clean_env(), cwd=ROOT, capture_output=True, text=True, timeout=timeout)
