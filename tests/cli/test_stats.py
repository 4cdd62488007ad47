"""`covenq stats` says of each route how its attempts ended, how long its tasks waited and ran, and why they failed."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest

from covenq.cli.main import _run
from covenq.operate.inspect import route_times
from journal.file.open import open_journal
from journal.file.settings import WriteSettings
from tests.support.checkout import clean_env
from tests.support.records import moved, of, queued, received


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Ten tasks of `fix`, two of which failed, and one that waits for `late`; each waited 0.25 s and ran 90 s."""
    found = tmp_path_factory.mktemp("stats") / "data"
    found.mkdir(mode=0o700)
    at = [1_700_000_000.0]  # long past, by any clock
    with open_journal(found / "journal", settings=WriteSettings(clock=lambda: at[0])) as journal:
        for n in range(10):
            journal.append([received(f"g{n}"), queued(f"g{n}")])
            at[0] += 0.25
            journal.append([moved("claimed", of(f"g{n}"), attempt=1, worker="w")])
            at[0] += 90.0
            end = moved("completed", of(f"g{n}"), attempt=1)
            journal.append([end if n % 5 else moved("failed", of(f"g{n}"), attempt=1, category="timeout")])
        journal.append([received("late"), queued("late", route="late")])
    yield found


def _stats(data: Path, *words: str) -> tuple[str, str]:
    out, err = io.TextIOWrapper(kept := io.BytesIO(), "utf-8", write_through=True), io.StringIO()
    environment = clean_env(COVENQ_DATA=str(data))
    argv = patch("sys.argv", ["covenq", "stats", "--since", "400000d", *words])
    with patch.dict("os.environ", environment, clear=True), argv, redirect_stdout(out), redirect_stderr(err):
        assert _run() == 0
    return kept.getvalue().decode(), err.getvalue()


def test_a_routes_latency_and_failures_are_told(data: Path) -> None:
    out, err = _stats(data)
    lines = out.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("ROUTE") and "RUN P50" in line)
    assert lines[at + 1].split() == ["fix", "10", "80%", "250ms", "250ms", "1.5m", "1.5m", "timeout", "×2"]
    assert len(lines) == at + 2, "a route without an attempt has nothing to say"
    assert "spread over" not in err


def test_the_json_has_them_in_seconds(data: Path) -> None:
    found = json.loads(_stats(data, "--json")[0])
    fix, late = found["routes"]
    assert fix["times"] == {
        "attempts": 10, "completed": 8, "failed": 2, "categories": {"timeout": 2},
        "waited": {"count": 10, "p50_s": 0.25, "p95_s": 0.25}, "ran": {"count": 10, "p50_s": 90.0, "p95_s": 90.0},
    }  # fmt: skip
    assert late["times"] is None
    assert found["sampled"] is False


def test_a_sample_is_called_one(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_times, "ATTEMPTS_MAX", 5)
    monkeypatch.setattr(route_times, "PARTS", 5)
    assert "are of 5 of the attempts, spread over the whole time." in _stats(data)[1].replace("\n", " ")
    assert json.loads(_stats(data, "--json")[0])["sampled"] is True
