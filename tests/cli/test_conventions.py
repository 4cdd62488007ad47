"""How every command behaves: JSON that parses and is as described, one sentence for whatever goes wrong, nothing heavy
imported, and a shell that can complete.
"""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from covenq.cli import completion, main
from covenq.cli.app import COMMANDS, build
from covenq.filter.grammar import FIELDS
from covenq.http.openapi import schemas
from tests.support.checkout import ROOT, clean_env
from tests.support.journals.chosen import open_chosen
from tests.support.records import moved, note, of, queued, received

CONFIG = '[[route]]\nname = "fix"\nmatch = "event:issues"\nrun = ["true"]\n'
NOT_HERE = frozenset(
    {"serve", "listen", "phase", "tui", "worker", "bench", "demo", "send", "init", "tokens", "secrets"}
)
"""Commands that run for long, or need what a directory alone has not: they have tests of their own."""
HOSTILE = (
    "\x1b[2J\x07",
    "../../etc/passwd",
    "x" * 5000,
    "\udcff\udcfe",
    "a b",
    "%s%n",
    "9/",
    "/",
    "'; DROP TABLE tasks",
    "💥",
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("manners")
    (path / "covenq.toml").write_text(CONFIG)
    (path / "new.toml").write_text(CONFIG.replace("issues", "push"))
    (path / "empty").mkdir(mode=0o700)
    data = path / "data"
    data.mkdir(mode=0o700)
    with open_chosen(data) as journal:
        for n in range(4):
            journal.append([received(f"g{n}"), queued(f"g{n}")])
        journal.append([moved("claimed", of("g0"), attempt=1, worker="w")])
        journal.append([moved("failed", of("g0"), attempt=1, category="exit", exit_code=1)])
        star = received("star", event="star", payload=b'{"title":"x\\u001b[2J"}', about={"title": "x\x1b[2J"})
        journal.append([star, note("ignored", "star", reason="no_match", detail="No route.")])
    attempt = data / "attempts" / of("g0") / "1"
    attempt.mkdir(parents=True)
    (attempt / "stdout").write_bytes(b"one\ntwo")
    (attempt / "stderr").write_bytes(b"")
    return path


class Said:
    """What a command said, run in this process."""

    def __init__(self, directory: Path, *args: str, data: str = "data", stdout: Any = None) -> None:
        before = sys.argv, sys.stdout, sys.stderr, sys.stdin, dict(os.environ)
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
        os.environ |= {"COVENQ_DATA": str(directory / data), "COVENQ_CONFIG": str(directory / "covenq.toml")}
        sys.argv, sys.stdout, sys.stderr = ["covenq", *args], out if stdout is None else stdout, err
        sys.stdin = io.TextIOWrapper(io.BytesIO())
        try:
            main.main()
        except SystemExit as ended:
            self.code = ended.code
        finally:
            sys.argv, sys.stdout, sys.stderr, sys.stdin = before[:4]
            os.environ.clear()
            os.environ.update(before[4])
        out.flush()
        err.flush()
        self.out, self.err = out.buffer.getvalue().decode(), err.buffer.getvalue().decode()  # type: ignore[attr-defined]


LISTS = {"deliveries", "tasks", "logs", "tail", "refused", "routes", "ledger", "usage", "audit"}
"""Commands whose answer is a list: as lines, its items."""
READS: dict[str, tuple[list[str], Any]] = {
    "status": (
        ["--exit-zero"],
        {"required": schemas.all_schemas()["status"]["required"]},
    ),  # without a daemon some of it is null
    "info": ([], {"required": ["version", "paths", "settings"]}),
    "stats": ([], schemas.all_schemas()["stats"]),
    "audit": ([], {"required": ["items", "next"]}),
    "usage": (["--month", "all"], {"required": ["items", "month", "by", "seq", "next", "total"]}),
    "ledger": ([], schemas.page("ledger_hour")),
    "notify": ([], schemas.all_schemas()["notices"]),
    "deliveries": ([], schemas.page("delivery")),
    "tasks": ([], schemas.page("task")),
    "tail": (["--after", "0"], {"required": ["items", "next"]}),
    "show": (["g0"], schemas.all_schemas()["one_delivery"]),
    "why": (["g0"], schemas.all_schemas()["why"]),
    "logs": ([of("g0")], {"required": ["items", "next"]}),
    "refused": ([], schemas.page("refusal")),
    "routes": ([], {"required": ["items", "next", "sha256"]}),
    "doctor": ([], {"required": ["ok", "findings"]}),
    "verify": ([], {"required": ["ok", "records", "head", "damage"]}),
    "salvage": (["--dry-run"], {}),
    "compact": (["--dry-run"], schemas.all_schemas()["compaction"]),
    "redact": (["g1", "--dry-run"], schemas.all_schemas()["redaction"]),
    "replay": (["g0", "--dry-run"], schemas.all_schemas()["operation"]),
    "reroute": (["star", "--dry-run"], schemas.all_schemas()["operation"]),
    "requeue": ([of("g0"), "--dry-run"], schemas.all_schemas()["operation"]),
    "cancel": ([of("g1"), "--dry-run"], schemas.all_schemas()["operation"]),
}
"""Every command that answers in JSON, with what it needs, and the schema of its answer."""
ELSEWHERE = {"backup", "export", "handover", "migrate", "import", "keep", "nodes", "pause", "reconcile", "resume"}
"""Those with --json that write, or need a database: their own tests read it."""


def validate(value: Any, schema: Any) -> None:
    """As the API's document has it, but for `ok`, which the API adds."""

    def without_ok(part: Any) -> Any:
        if isinstance(part, dict):
            kept = {name: without_ok(one) for name, one in part.items()}
            if isinstance(kept.get("required"), list):
                kept["required"] = [name for name in kept["required"] if name != "ok"]
            return kept
        return [without_ok(one) for one in part] if isinstance(part, list) else part

    whole = {**without_ok(dict(schema)), "components": {"schemas": without_ok(dict(schemas.all_schemas()))}}
    jsonschema_rs.Draft202012Validator(whole).validate(value)


def options(name: str) -> set[str]:
    return {spelling for param in build(name).params for spelling in param.opts}


def test_every_command_that_answers_in_json_is_known_here() -> None:
    with_json = {name for name in COMMANDS if "--json" in options(name)} - NOT_HERE
    assert with_json == set(READS) | ELSEWHERE


def test_whatever_answers_in_json_does_so_in_lines() -> None:
    for name in COMMANDS:
        command = build(name)
        for one in (command, *getattr(command, "commands", {}).values()):
            spellings = [spelling for param in one.params for spelling in param.opts]
            assert ("--json" in spellings) == ("--jsonl" in spellings), (name, one.name)
            if "--json" in spellings:
                assert spellings.index("--jsonl") == spellings.index("--json") + 1, (name, one.name)


@pytest.mark.parametrize("name", READS)
def test_json_parses_and_is_as_described(directory: Path, name: str) -> None:
    args, schema = READS[name]
    said = Said(directory, name, *args, "--json")
    assert said.code in (0, 1, 4), said.err
    value = json.loads(said.out)
    validate(value, schema)
    assert "\x1b" not in said.out


@pytest.mark.parametrize("name", READS)
def test_json_lines_are_the_items_of_a_list_or_the_one_object(directory: Path, name: str) -> None:
    args = [name, *READS[name][0]]
    said, document = Said(directory, *args, "--jsonl"), Said(directory, *args, "--json")
    assert said.code == document.code, said.err
    found = [json.loads(line) for line in said.out.splitlines()]
    whole = json.loads(document.out)
    expected = whole["items"] if name in LISTS else [whole]
    assert [one.keys() for one in found] == [one.keys() for one in expected]
    for one, other in zip(found, expected, strict=True):
        for key in {"id", "guid", "seq", "name", "eligible"} & one.keys():
            assert one[key] == other[key]


def test_a_document_and_lines_are_two_formats_and_what_has_no_end_is_no_document(directory: Path) -> None:
    for args in (["status"], ["routes"], ["tail"], ["show", "g0"]):
        said = Said(directory, *args, "--json", "--jsonl")
        assert (said.code, "--json and --jsonl can't be combined" in said.err) == (2, True), args
    said = Said(directory, "tail", "-f", "--json")
    assert (said.code, "hint: Use --jsonl." in said.err) == (2, True)
    said = Said(directory, "show", "g0", "--payload", "--jsonl")
    assert (said.code, "--payload and --jsonl can't be combined" in said.err) == (2, True)


@pytest.mark.parametrize("name", READS)
def test_words_have_nothing_that_a_terminal_obeys(directory: Path, name: str) -> None:
    said = Said(directory, name, *READS[name][0])
    for text in (said.out, said.err):
        assert not set(text) - {"\n"} - {c for c in text if c.isprintable()}, text


@pytest.mark.parametrize("name", READS)
def test_a_full_disk_behind_stdout_is_one_sentence(directory: Path, name: str) -> None:
    said = Said(directory, name, *READS[name][0], "--json", stdout=_Full())
    assert said.code == 1
    assert said.err.count("covenq: ") == 1, said.err
    assert "Traceback" not in said.err


class _Full(io.TextIOBase):
    """A standard output on a full disk."""

    encoding = "utf-8"

    class _Buffer(io.RawIOBase):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    buffer = _Buffer()

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def isatty(self) -> bool:
        return False

    def reconfigure(self, **how: Any) -> None:
        """As a text file's."""

    def fileno(self) -> int:
        raise OSError(9, "no such file")


@pytest.mark.parametrize("name", ["show", "why", "replay", "reroute", "requeue", "cancel", "redact"])
def test_a_hostile_id_is_one_sentence_and_a_documented_code(directory: Path, name: str) -> None:
    for id in HOSTILE:
        said = Said(directory, name, id)
        assert said.code in (2, 3), (id, said.code, said.err)
        assert said.out == ""
        assert said.err.startswith("covenq: "), said.err
        assert len(said.err) < 1000
        assert "\x1b" not in said.err


@pytest.mark.parametrize("number", [10**23, 2**63, -(2**63)])
def test_a_number_that_is_too_large_is_refused_before_anything_is_asked(directory: Path, number: int) -> None:
    for words, command in commands():
        for param in command.params:
            if param.metavar not in ("N", "SEQ", "PORT", "BYTES") or param.param_type_name != "option":
                continue
            others = {"worker": ["--", "true"], "phase": ["tests"]}.get(words, [])
            said = Said(directory, *words.split(), param.opts[0], str(number), *others)
            if (words, param.opts[0]) == ("verify", "--since") and number > 0:
                assert said.code == 3, "no such record yet, however large it is"
                continue
            assert (said.code, said.out) == (2, ""), (words, param.opts, said.err)
            assert param.opts[0] in said.err


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its words, those of groups too."""
    for name in COMMANDS:
        command = build(name)
        yield name, command
        yield from ((f"{name} {word}", one) for word, one in getattr(command, "commands", {}).items())


def _text_of(command: Any) -> list[list[str]]:
    """Arguments that give the command bytes that are no text, one parameter a time."""
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    numbers = {"N", "SEQ", "PORT", "BYTES"}
    found = []
    for param in command.params:
        if param.metavar in (None, "PATH", "DIR", "FILE", "COMMAND", *numbers):
            continue
        before = [one for one in arguments if one is not param and one.required]
        given = ["x" for one in before]
        found.append([*given, "\udcff"] if param in arguments else [*given, param.opts[0], "\udcff"])
    return found


@pytest.mark.parametrize("words", [words for words, command in commands() if _text_of(command)])
def test_what_is_no_text_is_refused_before_anything_is_done(directory: Path, words: str) -> None:
    command = dict(commands())[words]
    needed = [
        word
        for param in command.params
        if param.required and param.opts[0][:2] == "--"
        for word in (param.opts[0], "x")
    ]
    for args in _text_of(command):
        before = sorted((directory / "data").rglob("*"))
        said = Said(directory, *words.split(), *needed, *args)
        assert said.code == 2, (args, said.err)
        assert "'\\xff' is not UTF-8\nhint: " in said.err
        assert said.err.startswith("covenq: ")
        assert said.out == ""
        assert sorted((directory / "data").rglob("*")) == before


@pytest.mark.parametrize("name", READS)
def test_a_directory_in_which_nothing_ever_was_is_no_failure_to_read(directory: Path, name: str) -> None:
    said = Said(directory, name, *READS[name][0], data="empty")
    assert said.code in (0, 1, 3), said.err
    assert "Traceback" not in said.err
    assert not list((directory / "empty").iterdir())


@pytest.mark.parametrize("name", READS)
def test_a_data_directory_that_is_none_is_refused(directory: Path, name: str) -> None:
    said = Said(directory, name, *READS[name][0], data="covenq.toml")
    assert said.code == 4, said.err
    assert "is no directory" in said.err


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nsys.argv = ['covenq', '--help']\nfrom covenq.cli.main import main\n"
        "try:\n    main()\nfinally:\n"
        "    heavy = {'textual', 'falcon', 'waitress', 'rich', 'urllib3', 'jwt', 'cryptography', 'prometheus_client'}\n"
        "    heavy &= set(sys.modules)\n"
        "    print('heavy:', *sorted(heavy))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], env=clean_env(), capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert said.stdout.splitlines()[-1] == "heavy:"


# ---- completion

COMPLETE = (
    "from covenq.cli import completion, main\ncompletion.TIMEOUT_S = {}\n"
    "import sys\nsys.argv = ['covenq']\nmain.main()\n"
)
"""What a shell runs, with so many seconds for it: on a busy machine the usual one may be too short."""


@pytest.fixture
def completing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COVENQ_DATA", str(directory / "data"))
    monkeypatch.setenv("COVENQ_CONFIG", str(directory / "covenq.toml"))
    yield


@pytest.mark.parametrize(
    ("args", "incomplete", "offered"),
    [
        ([], "sta", ["state:"]),
        ([], "-sen", ["-sender:"]),
        ([], "ag", ["age<"]),
        ([], "state:su", ["state:superseded"]),
        ([], "-state:queued,fa", ["-state:queued,failed"]),
        ([], "route:f", ["route:fix"]),
        (["state", ":"], "comp", ["completed"]),
        (["route"], ":", ["fix"]),
        ([], "g3", ["g3"]),
        ([], "not:sen", ["not:sender:"]),
        ([], "not:state:su", ["not:state:superseded"]),
        (["not"], ":", [f"{name}{'<' if name == 'age' else ':'}" for name in FIELDS]),
        (["not", ":"], "sen", ["sender:"]),
        (["not", ":", "state", ":"], "su", ["superseded"]),
        (["-state", ":"], "comp", ["completed"]),
        (["event", ":", "issues", "state", ":"], "queued,comp", ["queued,completed"]),
        (["guid", ":"], "g3", ["g3"]),
        ([], "id:g3", ["id:g3"]),
    ],
)
def test_filters_are_completed(completing: None, args: list[str], incomplete: str, offered: list[str]) -> None:
    assert completion.complete_filter(args, incomplete) == offered


def test_ids_and_routes_are_completed_and_nothing_fails(completing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(completion.ids("g")) == ["g0", "g1", "g2", "g3"]
    assert completion.ids("g2") == ["g2"]
    assert completion.ids("") == completion.ids("", None, None, None) != []
    assert completion.ids("g", url="https://elsewhere.example.org") == []
    assert completion.pause_names("route", "f") == ["fix"]
    assert completion.pause_names("repo", "f") == []
    assert completion.ids(of("g1")[:12]) == [of("g1")]
    assert completion.routes("") == ["fix"]
    monkeypatch.setenv("COVENQ_CONFIG", "/no/such.toml")
    assert (completion.ids("g"), completion.routes("")) == ([], [])


def test_ids_are_completed_where_nothing_is_folded_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_chosen(tmp_path) as journal:
        journal.append([received("g1"), queued("g1")])
    monkeypatch.setenv("COVENQ_DATA", str(tmp_path))
    for prefix, offered in (("g", ["g1"]), (of("g1")[:5], [of("g1")]), ("x", [])):
        (tmp_path / "state.db").unlink(missing_ok=True)
        assert completion.ids(prefix) == offered


def test_a_shell_completes(directory: Path) -> None:
    def complete(words: str, place: int) -> list[str]:
        env = clean_env(
            COVENQ_DATA=str(directory / "data"), COVENQ_CONFIG=str(directory / "covenq.toml"),
            _COVENQ_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(place),
        )  # fmt: skip
        return subprocess.run(
            [sys.executable, "-c", COMPLETE.format(60)], env=env, capture_output=True, text=True, check=False
        ).stdout.split()

    assert complete("covenq\nreq", 1) == ["requeue"]
    assert complete("covenq\ntasks\nstate\n:\nfai", 4) == ["failed"]
    assert complete("covenq\ntasks\nroute\n:", 3) == ["fix"], "not the files of the directory"
    assert complete("covenq\ntasks\nroute:", 2) == ["route:fix"], "of a shell that doesn't split words at a colon"
    assert complete("covenq\nwhy\ng2", 2) == ["g2"]
    assert complete("covenq\ntasks\n-stat", 2) == ["-state:"]
    assert complete("covenq\nroutes\ndiff\n-stat", 3) == ["-state:"]
    assert {"--json", "-state:"} <= set(complete("covenq\ntasks\n-", 2))
    assert complete("covenq\nrequeue\n-state\n:\nfai", 4) == ["failed"]
    tasks = {of(f"g{n}") for n in range(4)}
    assert set(complete("covenq\nrequeue\nt", 2)) == {"target:", "twin:", *tasks}
    assert {"event:", *tasks} <= set(complete("covenq\ncancel\n", 2))
    assert set(complete("covenq\nredact\ng", 2)) == {"guid:", "g0", "g1", "g2", "g3"}
    assert complete("covenq\npause\nroute\n", 3) == ["fix"]
    assert complete("covenq\ndeliveries\nevent\n:\nissues,pus", 4) == ["issues,push"]
    assert complete("covenq\nsend\npus", 2) == complete("covenq\nsend\n--event\npus", 3) == ["push"]
    assert complete(f"covenq\nwhy\n--data\n{directory / 'empty'}\ng", 4) == []


def test_completion_ends_in_time_and_silently_whatever_it_waits_for(directory: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(os.path.relpath(tmp_path / "covenq.sock"))
        deaf.listen()  # it takes connections, and never answers
        env = clean_env(COVENQ_DATA=str(tmp_path), _COVENQ_COMPLETE="complete_bash")
        env |= {"COMP_WORDS": "covenq\nwhy\ng", "COMP_CWORD": "2"}
        program = [sys.executable, "-c", COMPLETE.format(0.05)]
        said = subprocess.run(program, env=env, capture_output=True, text=True, timeout=60)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
