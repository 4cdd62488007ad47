"""The alerts for Prometheus and the dashboard for Grafana: each asks for metrics that are there, by labels they have."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from covenq.cli.app import COMMANDS
from covenq.cli.monitoring import ALERTS, DASHBOARD
from covenq.http.metric_table import METRICS
from covenq.intake.refusal_hints import HINTS
from covenq.model import Category, State
from covenq.model.nodes_text import NodeState
from tests.support.checkout import clean_env
from tests.support.commands import run_command

SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}
KNOWN = {name + suffix: spec for name, spec in METRICS.items() for suffix in SUFFIXES[spec.kind]}
OF_EVERY_TARGET = {"instance", "job"}
WORDS: dict[tuple[str, str], set[str]] = {
    ("covenq_tasks", "state"): set(State),
    ("covenq_tasks_oldest_age_seconds", "state"): set(State),
    ("covenq_attempts_ended_total", "outcome"): set(State),
    ("covenq_attempts_ended_total", "category"): set(Category),
    ("covenq_attempt_seconds_count", "outcome"): {"completed", "failed"},
    ("covenq_nodes", "state"): set(get_args(NodeState)),
    ("covenq_webhook_refused_total", "reason"): {one.partition("/")[0] for one in HINTS},
}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.text())["groups"]
    return list(group["rules"])


def panels() -> list[dict[str, Any]]:
    return list(json.loads(DASHBOARD.text())["panels"])


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    yield from (target["expr"] for panel in panels() for target in panel.get("targets", ()))


EXPRESSIONS = sorted(set(expressions()))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_asked_for_is_there(expression: str) -> None:
    asked = re.findall(r"\b((?:covenq|process)_\w+)(?:\{([^}]*)\})?", expression)
    assert asked
    labels: set[str] = set()
    for name, matchers in asked:
        if name.startswith("covenq_"):
            assert name in KNOWN, name
            labels |= set(KNOWN[name].labels) | ({"le"} if name.endswith("_bucket") else set())
        for label, operator, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', matchers):
            if label in OF_EVERY_TARGET:
                continue
            assert label in KNOWN[name].labels, (name, label)
            words = WORDS[name, label]
            wanted = value if operator == "=~" else re.escape(value)
            for one in wanted.split("|"):
                assert any(re.fullmatch(one, word) for word in words), (name, label, one)
    for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
        assert {label.strip() for label in grouped.split(",")} <= labels | OF_EVERY_TARGET, grouped


def test_an_alert_says_what_to_do_with_words_that_are_there() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) and all(name.startswith("Covenq") for name in names)
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        said = " ".join(rule["annotations"].values())
        assert set(rule["annotations"]) == {"summary", "description"}
        for command in re.findall(r"`covenq (\w+)", said):
            assert command in COMMANDS, command
        grouped = {label for found in re.findall(r"\bby \(([^)]*)\)", rule["expr"]) for label in found.split(", ")}
        known = grouped or {label for name in re.findall(r"covenq_\w+", rule["expr"]) for label in KNOWN[name].labels}
        assert set(re.findall(r"\$labels\.(\w+)", said)) <= known | OF_EVERY_TARGET, rule["alert"]


def test_no_panel_is_upon_another_and_each_says_what_it_shows() -> None:
    found = panels()
    assert len({panel["id"] for panel in found}) == len(found)
    taken: set[tuple[int, int]] = set()
    for panel in found:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"] and panel["targets"]
            for command in re.findall(r"`covenq (\w+)", panel["description"]):
                assert command in COMMANDS
    shown = {name for one in expressions() for name in re.findall(r"covenq_\w+", one)}
    alerts = {name for rule in rules() for name in re.findall(r"covenq_\w+", rule["expr"])}
    assert shown >= alerts


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus' promtool is not installed")
def test_prometheus_takes_them(tmp_path: Path) -> None:
    asked = [{"record": f"a:b{n}", "expr": one.replace("$__rate_interval", "5m")} for n, one in enumerate(EXPRESSIONS)]
    (tmp_path / "asked.yml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": asked}]}))
    (tmp_path / "alerts.yml").write_text(ALERTS.text())
    for name in ("asked.yml", "alerts.yml"):
        subprocess.run(["promtool", "check", "rules", str(tmp_path / name)], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus' promtool is not installed")
@pytest.mark.parametrize(
    ("alert", "series", "after"),
    [
        ("CovenqIntakeClosed", {"covenq_intake_open": "0x20"}, "3m"),
        (
            "CovenqNotReady",
            {
                'covenq_ready{instance="a"}': "1 1 0x20",
                'covenq_leads{instance="a"}': "1x20",
                'covenq_ready{instance="b"}': "0x20",
                'covenq_leads{instance="b"}': "0x20",
            },
            "6m",
        ),
        (
            "CovenqNoneLeads",
            {'covenq_leads{instance="a"}': "1 1 0x20", 'covenq_leads{instance="b"}': "0x20"},
            "6m",
        ),
        ("CovenqNodeAway", {'covenq_nodes{state="away"}': "1x20", 'covenq_nodes{state="leads"}': "1x20"}, "12m"),
        ("CovenqCommitsWait", {"covenq_database_commits_wait": "0 1x20"}, "4m"),
        ("CovenqDatabaseAway", {"covenq_database_away_seconds": "0 60x20"}, "2m"),
        ("CovenqDiskFillsUp", {"covenq_disk_free_bytes": "150x20", "covenq_disk_reserve_bytes": "100x20"}, "16m"),
        (
            "CovenqTasksFail",
            {
                'covenq_attempts_ended_total{outcome="failed", category="exit"}': "0+1x40",
                'covenq_attempts_ended_total{outcome="completed", category=""}': "7x40",
            },
            "30m",
        ),
        (
            "CovenqRouteFails",
            {
                'covenq_attempt_seconds_count{route="a", outcome="failed"}': "0+1x40",
                'covenq_attempt_seconds_count{route="b", outcome="completed"}': "0+100x40",
            },
            "30m",
        ),
        (
            "CovenqRouteWaits",
            {
                'covenq_task_wait_seconds_bucket{route="a", le="900.0"}': "0x80",
                'covenq_task_wait_seconds_bucket{route="a", le="3600.0"}': "0+1x80",
                'covenq_task_wait_seconds_bucket{route="a", le="+Inf"}': "0+1x80",
            },
            "40m",
        ),
    ],
)
def test_an_alert_fires_when_it_has_to(tmp_path: Path, alert: str, series: dict[str, str], after: str) -> None:
    (tmp_path / "alerts.yml").write_text(ALERTS.text())
    given = [{"series": name, "values": values} for name, values in series.items()]
    expected = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
    tests = {
        "rule_files": ["alerts.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": given,
                "promql_expr_test": [
                    {"expr": expected, "eval_time": "0m", "exp_samples": []},
                    {"expr": expected, "eval_time": after, "exp_samples": [{"labels": "{}", "value": 1}]},
                ],
            }
        ],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    done = subprocess.run(["promtool", "test", "rules", str(tmp_path / "tests.yml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def init(*args: str, exit_code: int = 0) -> tuple[str, str]:
    done = run_command(["init", *args], clean_env())
    assert done.returncode == exit_code, done.stderr
    return done.stdout.decode(), done.stderr.decode()


def test_init_writes_each_whole_or_not_at_all(tmp_path: Path) -> None:
    for option, shipped in (("--prometheus", ALERTS), ("--grafana", DASHBOARD)):
        assert init(option) == (shipped.text(), f"{shipped.next}\n")
        path = tmp_path / shipped.name
        assert init(option, "--to", str(path))[0] == f"{path}\n" and path.read_text() == shipped.text()
        elsewhere = tmp_path / "no" / shipped.name
        assert (
            "no is no directory" in init(option, "--to", str(elsewhere), exit_code=4)[1]
            and not elsewhere.parent.exists()
        )
        assert "is there already" in init(option, "--to", str(path), exit_code=4)[1]
        for other in ("--systemd", "--config=x", "--github-app"):
            assert "can't be combined" in init(option, other, exit_code=2)[1]
    assert "can't be combined" in init("--prometheus", "--grafana", exit_code=2)[1]
