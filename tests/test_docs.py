"""The manual and the first page are true of the code: what exists is described, and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from covenq.cli.app import COMMANDS, build
from covenq.filter.grammar import FIELDS
from tests.support.checkout import ROOT, clean_env

PAGES = sorted((ROOT / "man").glob("*.[1-8]"))


def text(name: str) -> str:
    """A manual page with its roff undone, as words."""
    plain = re.sub(r"\\f.", "", (ROOT / "man" / name).read_text())
    plain = re.sub(r"\\\(lq|\\\(rq|\\\(aq", '"', plain)
    return plain.replace("\\-", "-").replace("\\e", "\\")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_each_of_its_options_is_in_the_manual(name: str) -> None:
    page = text("covenq.1")
    assert f"covenq {name}" in page
    assert re.search(rf"\b{name}\b", page.partition(".SH SYNOPSIS")[2].partition(".SH ")[0]), (
        f"{name} is in no synopsis"
    )
    command = build(name)
    for one in (command, *getattr(command, "commands", {}).values()):
        for option in one.params:
            for spelling in option.opts:
                if spelling.startswith("--"):
                    assert re.search(re.escape(spelling) + r"(?![\w-])", page), f"{name} {spelling} is not in covenq(1)"


def test_every_option_and_variable_of_the_manual_exists() -> None:
    page = text("covenq.1")
    known = {"--help", "--version", "--install-completion", "--show-completion"}
    for name in COMMANDS:
        command = build(name)
        for one in (command, *getattr(command, "commands", {}).values()):
            known |= {spelling for option in one.params for spelling in option.opts}
    assert set(re.findall(r"--[a-z][a-z-]+", page)) <= known
    code = "".join(path.read_text() for package in ("covenq", "journal") for path in (ROOT / package).rglob("*.py"))
    read = set(re.findall(r"(?<!_)\bCOVENQ_[A-Z_]+\b", code)) - {"COVENQ_OLD_SECRET"}
    given = text("covenq.toml.5")  # to commands
    both = page + given
    assert {name for name in read if not re.search(rf"(COVENQ)?{name.removeprefix('COVENQ')}\b", both)} == set()
    assert {
        name for name in re.findall(r"\bCOVENQ_[A-Z_]+\b", page) if name.removeprefix("COVENQ") not in given
    } <= read


def test_every_setting_is_in_the_manual_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    from covenq.config.load import build as read
    from covenq.config.toml_table import Table

    known: dict[str, set[str]] = {}
    only = Table.require_known

    def noted(table: Table, keys: Sequence[str]) -> None:
        known.setdefault(re.sub(r" '[^']*'| \d+", "", table.where), set()).update(key for key in keys if key != "1")
        only(table, keys)

    monkeypatch.setattr(Table, "require_known", noted)
    route = {"name": "a", "match": "event:push", "run": ["true"], "retry": {}, "limits": {}}
    limits = {"installation": {}, "repo": {}, "route": {}, "installations": {"1": {}}}
    secret = {"name": "a", "value": "x" * 32}
    whole = {"server": {}, "api": {}, "worker": {}, "log": {}, "retention": {}, "limits": limits, "route": [route]}
    app = {"id": 1, "private_key_file": "app.pem"}
    hook = {"id": 1, "repo": "o/r", "token": {"env": "T"}}
    whole["familiar"] = [{"id": "a", "bot_username": "a", "run": ["true"]}]
    whole["installation"] = [{"id": 2, "limits": {}, "repos": {"1": {}}}]
    whole |= {"review": {"repos": {"1": {}}}, "commands": {}}
    whole["notify"] = {"url": "https://a.example", "secret": {"env": "N"}, "failures": {}}
    read({**whole, "github": {"webhook_secrets": [secret], "app": app, "hook": [hook]}}, None, {})
    page = text("covenq.toml.5")
    sections = dict(re.findall(r"^\.SH \[+([a-z]+)\]+\n(.*?)(?=^\.SH)", page, re.MULTILINE | re.DOTALL))
    assert set(sections) == known.pop("")
    for section, content in sections.items():
        named = {
            word for line in re.findall(r"^\.TP\n(.*)$", content, re.MULTILINE) for word in _settings_of(line, section)
        }
        keys = known.pop(section)
        assert named <= keys, f"covenq.toml(5) has {named - keys}, which [{section}] has not"
        for key in keys - named:  # told along with another
            assert re.search(rf"\b{key}\b", content), f"[{section}] {key} is not in covenq.toml(5)"
    for where, keys in known.items():
        content = sections[where.partition(".")[0]]
        for key in keys:
            assert re.search(rf"\b{key}\b", content), f"{where} {key} is not in covenq.toml(5)"
    assert {"github.webhook_secrets", "github.app", "github.hook", "route.retry", "route.limits"} <= set(known)


def _settings_of(line: str, section: str) -> list[str]:
    """The names that a heading of the page has: `bind = ...`, `concurrency, daily`, or a table of its own."""
    own = re.match(rf"\[{section}\.(\w+)\.", line)
    return [own[1]] if own else line.partition(" = ")[0].split(", ")


def test_every_key_of_the_json_is_in_the_manual() -> None:
    from covenq.http.openapi import schemas

    page = text("covenq-http.7")
    for name, schema in schemas.all_schemas().items():
        for key in _keys(schema):
            assert re.search(rf"\b{re.escape(key)}\b", page), f"{key} of {name} is not in covenq-http(7)"


def _keys(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema.get("properties", ())
        for part in schema.values():
            yield from _keys(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _keys(part)


def test_every_command_the_documents_type_exists() -> None:
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *PAGES]:
        content = path.read_text()
        typed = re.findall(r"\.venv/bin/covenq ([a-z]+)\b|`covenq ([a-z]+)\b", content)
        blocks = re.findall(r"^\.nf\n(.*?)^\.fi|^```sh\n(.*?)^```", content, re.MULTILINE | re.DOTALL)
        for block in (text for pair in blocks for text in pair):
            typed += [(name, "") for name in re.findall(r"^(?:\\fB)?covenq ([a-z]+)", block, re.MULTILINE)]
        assert typed or path.name not in ("README.md", "CONTRIBUTING.md", "covenq.1"), f"{path.name} types no command"
        for name in (first or second for first, second in typed):
            assert name in COMMANDS, f"{path.name} types `covenq {name}`"


def test_every_field_is_in_the_manual() -> None:
    page = text("covenq-filter.7")
    for field in FIELDS:
        assert re.search(rf"^\.B[R]? {field}\b|\" , {field}\b|\b{field}\b", page, re.MULTILINE), field


def test_the_kinds_of_a_task_are_in_the_manual_of_filters() -> None:
    from covenq.cli.completion import complete_filter

    kinds = {one.removeprefix("kind:") for one in complete_filter([], "kind:")}
    told = text("covenq-filter.7").partition(".B kind\n")[2].partition(".TP")[0]
    assert kinds == {"act", "forward", "pull", "run"} and all(kind in told for kind in kinds)


def test_every_test_the_first_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/.]+)`", (ROOT / "README.md").read_text())
    assert len(named) > 4
    for name in named:
        assert (ROOT / name).exists(), name


def test_every_promise_has_tests_that_exist() -> None:
    page = text("covenq-guarantees.7").replace("\n.SH ", "\n.SS .SH ")
    promises = [part for part in page.split("\n.SS ")[1:] if not part.startswith(".SH ")]
    assert len(promises) >= 15
    for promise in promises:
        title = promise.partition("\n")[0]
        blocks = re.findall(r"^(tests/[\w/]+\.py)\n((?:  \w+\n)+)", promise, re.MULTILINE)
        assert blocks, f"no test defends: {title}"
        for file, names in blocks:
            defined = set(re.findall(r"^(?:async )?def (test_\w+)\(", (ROOT / file).read_text(), re.MULTILINE))
            assert set(names.split()) <= defined, f"{title}: {set(names.split()) - defined} of {file}"
        named = set(re.findall(r"\btest_\w+(?!\w|\.py)", promise))
        assert named == {name for _, names in blocks for name in names.split()}, (
            f"{title}: not in a list under its file"
        )
    readme = set(re.findall(r"`(tests/[\w/]+\.py)`", (ROOT / "README.md").read_text()))
    assert readme <= set(re.findall(r"^tests/\S+$", page, re.MULTILINE)), "what the first page promises is here too"


def test_every_link_of_the_documents_leads_to_a_file() -> None:
    found = 0
    for path in ROOT.glob("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text()):
            assert (ROOT / target).exists(), f"{path.name} links to {target}"
            found += 1
    assert found > 10


def test_every_module_the_house_tour_names_exists() -> None:
    named = re.findall(r"`((?:covenq|journal|tests)/[\w/.]*)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) > 40
    for name in named:
        assert (ROOT / name).exists(), name


def test_the_house_tour_names_whoever_words_a_401() -> None:
    tour = (ROOT / "CONTRIBUTING.md").read_text()
    answer = tour.partition("*Where is a 401 decided?*")[2].partition("\n- *")[0]
    worded = re.compile(r"refuse\(401, \"|OutOfScope\(\s*\"|return \"reformatted\"")
    wording = [path for path in (ROOT / "covenq" / "intake").glob("*.py") if worded.search(path.read_text())]
    assert len(wording) > 2
    assert [path.name for path in wording if f"intake/{path.name}`" not in answer] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_page_renders_without_a_warning(page: Path) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        [groff, "-man", "-ww", "-Tutf8", "-P-c", str(page)],
        env=clean_env(LC_ALL="C.UTF-8"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "warning" not in done.stderr, done.stderr
    assert page.name.split(".")[0].upper() in done.stdout.upper()


def test_exit_codes_are_those_of_the_errors() -> None:
    from covenq import errors as ours
    from journal import errors as journals

    page = text("covenq.1")
    codes = {0, 130}
    for module in (ours, journals):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Exception):
                assert f".B {value.exit_code}\n" in page, value
                codes.add(value.exit_code)
    status = page.partition(".SH EXIT STATUS")[2].partition(".SH ")[0]
    assert {int(code) for code in re.findall(r"^\.B (\d+)$", status, re.MULTILINE)} == codes


def test_the_examples_of_configuration_in_the_documents_load(tmp_path: Path) -> None:
    from covenq.cli.commands.init import TEMPLATE
    from covenq.config.load import load

    page = text("covenq.toml.5").partition(".SH EXAMPLE\n.nf\n")[2].partition(".fi")[0]
    readme = re.findall(r"```toml\n(.*?)\n *```", (ROOT / "README.md").read_text(), re.DOTALL)
    uncommented = re.sub(r"^# (?=[a-z\[])", "", TEMPLATE.partition("# Run a coding agent")[2], flags=re.MULTILINE)
    every = [
        page,
        *readme,
        TEMPLATE,
        "\n".join(line for line in uncommented.splitlines() if re.match(r"\[|\w+ =", line)),
    ]
    for number, example in enumerate(every):
        file = tmp_path / f"{number}.toml"
        file.write_text(example)
        loaded = load(file, {})
        assert loaded.routes or loaded.secrets, example


def test_every_page_is_installed_by_the_wheel() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert shared == {f"man/{page.name}": f"share/man/man{page.suffix[1:]}/{page.name}" for page in PAGES}


def test_the_pythons_that_are_supported_are_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = [one.rpartition(" ")[2] for one in project["classifiers"] if re.search(r":: 3\.\d+$", one)]
    oldest, newest = versions[0], versions[-1]
    assert versions == [f"3.{minor}" for minor in range(int(oldest[2:]), int(newest[2:]) + 1)]
    assert project["requires-python"] == f">={oldest}"
    for words in ((ROOT / "README.md").read_text(), text("covenq-production.7")):
        assert f"{oldest} to {newest}" in words
    assert f"Python {oldest} is the oldest supported, {newest} the newest" in (ROOT / "CONTRIBUTING.md").read_text()
    candidates = " ".join(["python3", *(f"python{one}" for one in reversed(versions))])
    assert f"PYTHON ?= {candidates}\n" in (ROOT / "Makefile").read_text()


def test_every_record_kind_table_and_column_is_in_the_manual_and_nothing_else() -> None:
    from covenq.model import Kind, ledger, scope_record
    from covenq.operate import log_records
    from covenq.state import fold_pauses, fold_tokens, schema, tables
    from covenq.tasks.scheduling import claim

    page = text("covenq-state.5")
    kinds = {str(kind) for kind in Kind} | {fold_pauses.PAUSED, fold_pauses.RESUMED, fold_pauses.REDACTED, claim.LATE}
    kinds |= {"ops.intake_opened", "journal.dropped", scope_record.BOUND, scope_record.UNBOUND, log_records.RECONCILED}
    kinds |= {ledger.KIND, fold_tokens.TOKEN}
    records = page.partition(".SH RECORDS")[2].partition(".PP\nOthers")[0]
    assert set(re.findall(r"\b((?:delivery|task|ops|journal)\.[a-z_]+)\b(?=\n|,)", records)) - {"ops.name"} == kinds
    sections = dict(re.findall(r"^\.SS (\w+)\n(.*?)(?=^\.S[SH])", page, re.MULTILINE | re.DOTALL))
    for table, columns in (
        ("webhook_deliveries", tables.DELIVERIES.columns),
        ("tasks", tables.TASKS.columns),
        ("task_attempts", tables.ATTEMPTS.columns),
    ):
        named = [
            name for line in re.findall(r"^\.TP\n(.*)$", sections.pop(table), re.MULTILINE) for name in line.split(", ")
        ]
        assert sorted(named) == sorted(columns), table
    import sqlite3

    conn = sqlite3.connect(":memory:", isolation_level=None)
    schema.create(conn)
    tables = {str(row[0]) for row in conn.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
    others = re.findall(r"^\.TP\n(.*)$", sections["Others"], re.MULTILINE)
    assert set(others) == tables - {"webhook_deliveries", "tasks", "task_attempts"}
    conn.close()
