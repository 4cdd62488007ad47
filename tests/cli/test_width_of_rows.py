"""Every command that prints for people, over generated rows: no line is cut in mid-word, and none loses the state or `#n`.

The commands are those of the application itself: a new one without a case fails here.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from covenq.cli.app import COMMANDS, build
from covenq.intake.refusal_log import Refusals
from covenq.model import State
from covenq.paths import REFUSALS_NAME
from covenq.text import width
from journal.file.open import open_journal
from journal.records import Entry
from tests.support.in_process import Said, run_on_terminal
from tests.support.records import moved, note, of, queued, received

WIDTHS = (80, 100, 160)
GUIDS = [f"72d3162e-cc78-11e3-81ab-{n:012}" for n in range(4)]
ROUTE = "fix-every-issue-that-is-labeled-and-then-say-so-to-all-who-asked"
assert len(ROUTE) == 64, "the longest that there may be"
CONFIG = f"""
[github]
webhook_secrets = [{{ name = "the-one-of-the-app", env = "COVENQ_OTHER" }}]
[[route]]
name = "{ROUTE}"
match = "event:issues action:assigned,labeled,opened label:coven:fix -sender:*[bot] payload.issue.user.login:octocat"
run = ["coven-code", "--headless", "--context", "{{brief}}", "--output", "{{result}}"]
key = "{{repo_id}}#{{number}}"
[[route]]
name = "m"
match = "event:push"
forward = "http://127.0.0.1:9/some/long/path/to/a/receiver/of/the/mirrored/events"
"""
ID, TASK = f"9/{GUIDS[0]}", of(GUIDS[0], route=ROUTE)

OF_ROWS: Mapping[str, list[str]] = {
    "status": [""],
    "deliveries": ["", "state:failed,queued", "route:m repo:none/such"],
    "tasks": ["", "state:running"],
    "show": ["ID", "TASK"],
    "why": ["ID --rules", "TASK", "octo/hello#12"],
    "logs": ["TASK"],
    "tail": ["", "--after 1"],
    "stats": ["", "--since 30d", "state:failed"],
    "audit": ["", "--who sender", "since:1d"],
    "usage": ["", "--month all", "--by familiar"],
    "refused": [""],
    "replay": ["state:failed --dry-run", "ID"],
    "reroute": ["state:ignored --dry-run", "state:failed"],
    "requeue": ["state:failed --dry-run", "state:failed", "TASK --dry-run"],
    "cancel": ["state:queued --dry-run", "state:queued,running"],
    "pause": ["", "repo none/such --dry-run", "route m --reason LONG"],
    "resume": ["", "route nightly", "route m"],
    "doctor": [""],
    "reconcile": ["--dry-run", ""],
    "ledger": [""],
    "redact": ["repo:octo/hello --dry-run", "--repo octo/hello --dry-run", ""],
    "compact": ["--dry-run"],
    "export": ["--output FILE state:failed"],
}
"""Commands whose output has rows of deliveries, tasks and the rest in it."""
OTHERS: Mapping[str, list[str]] = {
    "serve": ["--bind nonsense", "--data /dev/null/x", "--concurrency 0"],
    "listen": ["state", "event:isues --concurrency 0"],
    "worker": ["", "--route m --concurrency nonsense -- true"],
    "phase": ["building-the-container-image"],
    "tui": ["--url nonsense"],
    "routes": [""],
    "routes check": [""],
    "routes test": ["--event issues --file PAYLOAD", "--event push --file /nonexistent/PAYLOAD"],
    "routes diff": ["", "/nonexistent/configuration/that/is/not/there.toml"],
    "send": ["--list", "issues --action labeled --url http://127.0.0.1:9/webhook", "isues"],
    "verify": ["", "--since 2020-01-01T00:00:00Z", "--segment 77"],
    "salvage": [""],
    "backup": ["COPY", ""],
    "handover": [""],
    "keep": ["9001", "no-number-but-words"],
    "nodes": [""],
    "migrate": ["", "--from file:/nonexistent/where/no/journal/is --to file:COPY", "--from nonsense --to nonsense"],
    "import": ["PAYLOAD --dry-run", "/nonexistent/where/no/export/is.jsonl"],
    "init": ["", "--systemd", "--prometheus --to COPY", "--github-app --org octo --name nonsense"],
    "info": [""],
    "notify": [""],
    "notify test": ["", "none-of-that-name"],
    "secrets": [""],
    "secrets rotate": [
        "the-one-of-the-app and what follows it, which is not one name but many words of a sentence",
        "x",
    ],
    "secrets unbind": ["the-one-of-the-app octo/hello", "none-of-that-name"],
    "tokens": [""],
    "tokens new": ["the-token-of-the-nightly-job --scope nonsense", "the-token-of-the-nightly-job-of-all-teams"],
    "tokens revoke": ["none-of-that-name"],
    "bench": ["--seconds 0", "--size nonsense"],
    "demo": ["--keep nonsense"],
}

NASTY = st.sampled_from(
    [
        "octo/hello",
        "umbrella-corporation-international/infrastructure-as-code-modules-of-日本",
        "e\u0301" * 60,
        "日本語" * 30,
        "\u202eolleh/\u202dotco",
        "مرحبا/שלום-עולם",
        "a\u200bb\ufeff/c\x1b[31md\x07",
        "👩‍👩‍👧‍👦/" + "🏳️‍🌈" * 20,
        "x" * 300,
        "`covenq redact` " * 9,
        "",
    ]
)
WORDS = st.text(st.sampled_from("ab-_./ 日e\u0301\u202e\u200b`#"), max_size=120)
TEXT = NASTY | WORDS
ABOUT = st.fixed_dictionaries(
    {
        "repo": st.none() | TEXT,
        "owner": TEXT,
        "title": TEXT | st.just("It breaks, and nobody knows why " * 40),
        "sender": TEXT,
        "label": st.none() | TEXT,
        "number": st.sampled_from([None, 0, 12, 2**53, 10**18, 2**63 - 1]),
        "key": TEXT,
        "ref": TEXT,
    }
)
FATES = st.sampled_from(
    ["queued", "delayed", "running", "leased", "failed", "completed", "retry", "ignored", "received"]
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "about": ABOUT,
            "fate": FATES,
            "route": st.sampled_from([ROUTE, "m"]),
            "event": st.sampled_from(["push", "issues", "pull_request_review_comment", "x" * 64]),
            "detail": TEXT | st.just("it exited with 75, and said that nobody would ever know " * 20),
            "worker": TEXT,
        }
    ),
    max_size=len(GUIDS),
)
PAUSES = st.lists(st.tuples(st.sampled_from(["worker", "intake", "route", "repo", "installation"]), TEXT), max_size=2)
WORST = [
    {
        "about": {
            "repo": repo,
            "owner": "umbrella",
            "title": "It breaks " * 40,
            "sender": "x" * 39,
            "label": "bug",
            "number": number,
            "key": "k" * 200,
            "ref": "refs/heads/" + "y" * 200,
        },
        "fate": fate,
        "route": ROUTE,
        "event": "pull_request_review_comment",
        "detail": "it exited with 75, and said that nobody would ever know " * 20,
        "worker": "a-worker-elsewhere-of-that-name." * 8,
    }
    for repo, number, fate in (
        ("umbrella-corporation-international/infrastructure-as-code-modules-of-日本", 10**18, "failed"),
        ("日本語" * 30, 12, "running"),
        ("\u202eolleh/" + "e\u0301" * 60, 2**53, "queued"),
        ("`x` " * 40, 7, "delayed"),
    )
]


def named() -> Iterator[str]:
    """Every command, and every command of a group."""
    for name in COMMANDS:
        yield name
        yield from (f"{name} {one}" for one in getattr(build(name), "commands", {}))


def test_every_command_has_a_case() -> None:
    assert {*OF_ROWS, *OTHERS} == {*named()}
    assert not OF_ROWS.keys() & OTHERS.keys()


def entries(number: int, row: Mapping[str, Any]) -> Iterator[Entry]:
    guid, route, about = GUIDS[number], row["route"], row["about"]
    yield received(guid, about=about, event=row["event"])
    if row["fate"] in ("ignored", "received"):
        if row["fate"] == "ignored":
            yield note("ignored", guid, reason="no_match", detail=row["detail"])
        return
    yield queued(guid, route=route, about=about, event=row["event"], kind="pull" if row["fate"] == "leased" else "run")
    task = of(guid, route=route)
    if row["fate"] == "delayed":
        yield moved("delayed", task, not_before="2100-01-01T00:00:00Z", since="2027-01-15T08:00:00Z")
    if row["fate"] in ("running", "leased", "failed", "completed", "retry"):
        lease = {"lease_until": "2027-01-15T08:00:00Z"} if row["fate"] == "leased" else {}
        yield moved("claimed", task, attempt=1, worker=row["worker"], **lease)
        yield moved("phase", task, phase=row["worker"][:60])
    if row["fate"] == "failed":
        yield moved("failed", task, attempt=1, category="exit", exit_code=75, detail=row["detail"])
    if row["fate"] == "completed":
        yield moved("completed", task, attempt=1, result=row["detail"])
    if row["fate"] == "retry":
        yield moved(
            "retry", task, attempt=1, category="timeout", detail=row["detail"], not_before="2100-01-01T00:00:00Z"
        )


def directory(root: Path, rows: list[dict[str, Any]], pauses: list[tuple[str, str]]) -> None:
    (root / "data").mkdir(mode=0o700)
    (root / "covenq.toml").write_text(CONFIG)
    (root / "payload.json").write_text('{"action": "opened", "issue": {"number": 1}}')
    made = [one for number, row in enumerate(rows) for one in entries(number, row)]
    for what, name in pauses:
        words = {"name": name, "repo": name} if what == "repo" else {}
        data = {"what": what, "name": None if what == "repo" else name, "by": "cli:root"}
        made.append(Entry("ops.pauses", "ops.paused", data, {**words, "reason": name * 3}))
    with open_journal(root / "data" / "journal") as journal:
        if made:
            journal.append(made)
    refusals = Refusals(root / "data" / REFUSALS_NAME)
    for row in rows:
        text = row["detail"][:400]
        refusals.note("signature_wrong", 401, text, event=row["event"], delivery=text, client="192.0.2.7", path=text)


def run(root: Path, command: str, columns: int) -> Said:
    places = {
        "ID": ID, "TASK": TASK, "PAYLOAD": str(root / "payload.json"), "COPY": str(root / f"copy{columns}"),
        "FILE": str(root / f"x{columns}"), "LONG": "the receiver is being replaced, and nobody knows for how long " * 4,
    }  # fmt: skip
    words = [places.get(word, word) for word in shlex.split(command)]
    environment = {
        "COVENQ_DATA": str(root / "data"),
        "COVENQ_CONFIG": str(root / "covenq.toml"),
        "COVENQ_OTHER": "0123456789abcdef0123456789abcdef",
        "HOME": str(root),
    }
    return run_on_terminal(words, environment, columns)


def check_lines(said: Said, command: str, columns: int) -> None:
    for line in said.lines:
        assert width(line) <= columns or " " not in line.strip(), f"{command} at {columns}: {line!r}"


def check_rows(root: Path, rows: list[dict[str, Any]], pauses: list[tuple[str, str]], columns: int) -> None:
    directory(root, rows, pauses)
    for name, cases in OF_ROWS.items():
        for case in cases:
            said = run(root, f"{name} {case}", columns)
            assert "covenq.toml: " not in said.err.text(), said.err.text()
            check_lines(said, f"{name} {case}", columns)
            assert any(said.lines) or not rows, f"{name} {case} says something"
            if name in ("deliveries", "tasks") and not case:
                check_states(said, name, rows)
            if name in ("show", "why") and case.startswith("ID") and rows:
                check_told(said, f"{name} {case}", rows[0])


def check_told(said: Said, command: str, row: Mapping[str, Any]) -> None:
    """What is told of the first delivery names its state and its number."""
    words = said.out.text()
    state = {"leased": "running", "delayed": "queued", "retry": "queued"}.get(row["fate"], row["fate"])
    assert state in words.lower(), f"{command}: {words}"
    number = row["about"]["number"]
    if row["about"]["repo"] and number is not None:
        assert f"#{number}" in words or f"number       {number}" in words, f"{command}: {words}"


def check_states(said: Said, name: str, rows: list[dict[str, Any]]) -> None:
    """The newest row stands first. Each has its state, and its number where it has a repository."""
    shown = [row for row in rows if name == "deliveries" or row["fate"] not in ("ignored", "received")]
    states = {state.value for state in State}
    for row, line in zip(reversed(shown), said.out.lines()[1:], strict=False):
        assert states & set(line.split()), line
        number = row["about"]["number"]
        if row["about"]["repo"] and number is not None and number < 2**63:
            assert any(word.endswith(f"#{number}") for word in line.split()), line


@example(rows=WORST, pauses=[("route", ROUTE), ("repo", "x" * 300)], columns=80)
@example(rows=[], pauses=[("worker", "")], columns=80)
@settings(max_examples=1)
@given(rows=ROWS, pauses=PAUSES, columns=st.sampled_from(WIDTHS))
def test_no_line_of_a_command_with_rows_is_cut(
    rows: list[dict[str, Any]], pauses: list[tuple[str, str]], columns: int
) -> None:
    with tempfile.TemporaryDirectory() as root:
        check_rows(Path(root), rows, pauses, columns)


@pytest.mark.deep
@settings(max_examples=300)
@given(rows=ROWS, pauses=PAUSES, columns=st.integers(80, 200))
def test_no_line_of_a_command_with_rows_is_cut_deep(
    rows: list[dict[str, Any]], pauses: list[tuple[str, str]], columns: int
) -> None:
    with tempfile.TemporaryDirectory() as root:
        check_rows(Path(root), rows, pauses, columns)


@pytest.mark.parametrize("name", OTHERS)
def test_no_line_of_another_command_is_cut(tmp_path: Path, name: str) -> None:
    directory(tmp_path, WORST[:1], [])
    for columns in WIDTHS[:1]:
        for case in OTHERS[name]:
            check_lines(run(tmp_path, f"{name} {case}", columns), f"{name} {case}", columns)


@pytest.mark.parametrize("columns", WIDTHS)
def test_no_line_of_any_help_is_cut(tmp_path: Path, columns: int) -> None:
    for name in ("", *named()):
        check_lines(run(tmp_path, f"{name} --help", columns), f"{name} --help", columns)


def test_the_longest_name_of_a_route_leaves_room_for_what_it_matches(tmp_path: Path) -> None:
    directory(tmp_path, [], [])
    said = run(tmp_path, "routes", 80).out.text()
    for word in ("event:issues", "label:coven:fix", "-sender:*[bot]", "coven-code"):
        assert word in said.split(), said


@pytest.mark.parametrize("what", ["data", "data/journal"])
@pytest.mark.parametrize("in_place", ["a link that leads nowhere", "a file"])
def test_what_is_not_mounted_is_not_taken_for_empty(tmp_path: Path, what: str, in_place: str) -> None:
    """An export of nothing would be written, a backup be of nothing, and a status say that nothing ever came."""
    directory(tmp_path, WORST[:1], [])
    gone = tmp_path / what
    gone.rename(tmp_path / "elsewhere")
    if in_place == "a file":
        gone.write_text("?")
    else:
        gone.symlink_to(tmp_path / "unmounted")
    for command in (
        "status",
        "tasks",
        "export --output FILE",
        "verify",
        "backup COPY",
        "doctor",
        "pause intake",
        "serve",
    ):
        said = run(tmp_path, command, 80)
        words = " ".join(said.err.text().split())
        assert (said.code, said.out.text()) == (4, ""), command
        assert str(gone) in words and "hint: " in words, command
        assert ("is no directory" if in_place == "a file" else "unmounted, where nothing is") in words
    assert not (tmp_path / "x80").exists() and not (tmp_path / "copy80").exists()
