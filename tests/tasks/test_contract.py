"""Routes with a contract, in the daemon and in a worker elsewhere: the brief, the result, and the task's end by it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq.config.contract import Agent
from covenq.config.load import build
from covenq.errors import ConfigError, UsageError
from covenq.operate.maintain.redaction import apply, plan_redact
from covenq.operate.parameters import Redact
from covenq.state.store import StateStore
from covenq.tasks.execution.brief import Brief
from covenq.tasks.execution.session_brief import SessionBrief, session_brief
from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.remote.claims import Claims, TimeSources
from covenq.tasks.remote.report_files import ReportFiles
from covenq.tasks.remote.reports import Completion
from covenq.tasks.scheduling.outcome import Policy
from tests.support.checkout import ROOT, clean_env
from tests.support.daemon import Daemon
from tests.support.pool import Harness
from tests.support.records import dump, queued, received
from tests.support.requests import issue, new_guid
from tests.support.waiting import eventually

CONTRACT = "coven-headless/2"
GOOD: dict[str, Any] = {"contract_version": "2", "status": "success", "summary": "Done.", "branch": "coven/fix-7"}
FAILURE = GOOD | {"status": "failure", "exit_reason": "git_conflict"}
PAYLOAD = {
    "action": "created",
    "issue": {"number": 7, "title": "It breaks", "body": "Often.", "pull_request": {"url": "https://x"}},
    "comment": {"body": "@cody fix this", "diff_hunk": None},
    "repository": {
        "full_name": "octo/hello",
        "default_branch": "main",
        "clone_url": "https://x/y.git",
        "private": True,
    },
}


def writes(result: object, code: int = 0) -> list[str]:
    """A command that leaves this as its result."""
    program = "import pathlib,sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2]); sys.exit(int(sys.argv[3]))"
    return [sys.executable, "-S", "-c", program, "{result}", json.dumps(result), str(code)]


@pytest.fixture
def harness(journal_engine: None, tmp_path: Path) -> Iterator[Harness]:
    one = Harness(tmp_path / "data").open()
    yield one
    one.close()


# ---- the configuration


def test_a_route_freezes_its_contract_and_what_the_agent_is() -> None:
    [route] = build({"route": [{"name": "r", "match": "", "run": ["x"], "contract": CONTRACT}]}, None, {}).routes
    assert Policy.from_record(dict(route.policy)).contract == CONTRACT
    agent = Agent("Cody", "opus", ("rust",))
    assert Agent.from_json(agent.as_json()) == agent
    assert Policy.from_record({"run": ["x"], "agent": {"skills": 5}}).run == (), "it is refused by policy"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"run": ["x"], "contract": "coven-headless/1"}, "none of coven-headless/2: did you mean"),
        ({"forward": "https://x.example", "contract": CONTRACT}, "is of commands"),
    ],
)
def test_a_contract_that_there_isnt(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build({"route": [{"name": "r", "match": "", **more}]}, None, {})


# ---- the brief


def brief(**more: Any) -> Brief:
    plain: dict[str, Any] = dict.fromkeys(Brief.__slots__)
    return Brief(
        **{**plain, "task": "t1", "attempt": 2, "fence": "e.5", "event": "issue_comment", "action": "created", **more}
    )


def told_of(payload: bytes, **more: Any) -> SessionBrief:
    return session_brief(
        brief(**more), Agent("Cody", "opus", ("rust",)), payload, AttemptDirectory(Path("/d/attempts/t1/2"))
    )


def test_the_brief_says_what_is_to_be_done_about_what_and_as_whom() -> None:
    said = told_of(json.dumps(PAYLOAD).encode(), number=7, repo="octo/hello", purpose="fix_issue", familiar="cody")
    assert (said.familiar.id, said.familiar.display_name, said.familiar.skills) == ("cody", "Cody", ["rust"])
    assert (said.task.kind, said.task.pr_number, said.task.issue_number) == ("fix_issue", 7, None)
    assert (said.task.title, said.task.comment_body, said.task.reason) == (
        "It breaks",
        "@cody fix this",
        "issue_comment.created",
    )
    assert (said.repository.default_branch, said.repository.private) == ("main", True)
    assert said.paths.result == "/d/attempts/t1/2/result"
    of_an_issue = told_of(json.dumps({"issue": {"number": 3, "title": "t"}}).encode(), number=3)
    assert (of_an_issue.task.issue_number, of_an_issue.task.pr_number) == (3, None)


_leaf = st.none() | st.integers() | st.text(max_size=5)
_odd = _leaf | st.lists(st.integers(), max_size=2) | st.dictionaries(st.text(max_size=5), st.integers())
_event = st.dictionaries(
    st.sampled_from(["issue", "pull_request", "comment", "review", "repository", "label"]),
    _odd | st.dictionaries(st.sampled_from(["title", "body", "base", "name", "private", "pull_request"]), _odd),
)


@given(_event)
def test_whatever_a_payload_holds_there_is_a_brief_of_the_schema(event: dict[str, Any]) -> None:
    said = msgspec.json.encode(told_of(json.dumps(event).encode()))
    assert msgspec.json.decode(said, type=SessionBrief).session_id == "t1"


def test_a_payload_that_is_none_has_a_brief_of_what_the_task_says() -> None:
    assert told_of(b"nonsense", number=7).task.issue_number == 7
    assert told_of(b"[1]").task.title is None


# ---- in the daemon


def test_the_result_says_how_the_task_ended_and_where_its_work_is(harness: Harness) -> None:
    program = """if True:
        import json, sys
        brief = json.load(open(sys.argv[1]))
        told = {**json.loads(sys.argv[3]), "summary": brief["session_id"] + brief["task"]["title"]}
        json.dump(told, open(sys.argv[2], "w"))
    """
    argv = [sys.executable, "-S", "-c", program, "{brief}", "{result}", json.dumps(GOOD)]
    ran = harness.add("g1", argv, contract=CONTRACT, payload=json.dumps(PAYLOAD).encode())
    asks = harness.add(
        "g2", writes(GOOD | {"status": "needs_input", "exit_reason": "ambiguous_spec"}, 3), contract=CONTRACT
    )
    harness.pool()
    row = harness.wait(ran)
    assert (row.state, row.result_status, row.branch) == ("completed", "success", "coven/fix-7")
    assert orjson.loads(harness.file(ran, "result").read_bytes())["summary"] == f"{ran}It breaks"
    row = harness.wait(asks)
    assert (row.state, row.result_status, harness.attempts(asks)[0].exit_code) == ("completed", "needs_input", 3)


def test_a_failure_that_is_reported_is_final_and_one_without_a_result_is_not(harness: Harness) -> None:
    retry = {"max": 1, "backoff_s": 0.0, "cap_s": 0.0}
    reported = harness.add("g1", writes(FAILURE, 1), contract=CONTRACT, retry=retry)
    silent = harness.add("g2", ["true"], contract=CONTRACT, retry=retry)
    broken = harness.add("g3", writes(GOOD, 2), contract=CONTRACT, retry=retry)
    harness.pool()
    row = harness.wait(reported)
    assert (row.state, row.attempts, row.category, row.result_status) == ("failed", 1, "exit", "failure")
    assert row.detail == "it reports that it failed: git conflict"
    assert harness.attempts(reported)[0].result == f"attempts/{reported}/1/result"
    row = harness.wait(silent, "failed")
    assert (row.attempts, row.category, row.result_status) == (2, "result_invalid", None)
    row = harness.wait(broken, "failed")
    assert (row.attempts, row.category, row.branch) == (2, "exit", None)


# ---- by a worker elsewhere


@pytest.fixture
def claims(harness: Harness) -> Iterator[Claims]:
    made = Claims(harness.journal, harness.store, harness.fold_thread, ReportFiles(harness.data),
                  sources=TimeSources(lambda: 1_800_000_000.0, lambda: 1000.0, random=lambda: 1.0))  # fmt: skip
    made.start()
    yield made
    made.stop()


def pulled(harness: Harness, name: str) -> str:
    """The id of a task that waits for a worker elsewhere."""
    frozen = {
        "pull": True,
        "timeout_s": 600.0,
        "retry": {"max": 3, "backoff_s": 2.0, "cap_s": 300.0},
        "contract": CONTRACT,
    }
    entry = queued(name, route="p", kind="pull", policy=frozen)
    harness.journal.append([received(name), entry])
    return entry.subject.removeprefix("task.")


def test_what_a_worker_reports_is_judged_by_the_contract(harness: Harness, claims: Claims) -> None:
    task = pulled(harness, "g1")
    grant = claims.claim("w1", 60)
    assert grant is not None and grant.task.policy is not None and grant.task.policy["contract"] == CONTRACT
    reports = claims.reports
    for wrong in (None, {}, GOOD | {"more": 1}):
        with pytest.raises(UsageError, match="result"):
            reports.complete(task, grant.fence, result=wrong, exit_code=0)
    [answer] = reports.complete_all([Completion(task, grant.fence, 0)])
    assert isinstance(answer, UsageError)
    reports.phase(task, grant.fence, "made a pull request", 12)
    with pytest.raises(UsageError, match="no pull request"):
        reports.phase(task, grant.fence, "made a pull request", 0)
    assert reports.complete(task, grant.fence, result=GOOD, exit_code=0)["state"] == "completed"
    assert reports.complete(task, grant.fence, result=GOOD, exit_code=0)["duplicate"]
    row = harness.row(task)
    assert (row.state, row.result_status, row.branch, row.pr_number) == ("completed", "success", "coven/fix-7", 12)


def test_a_failure_that_a_worker_reports_as_its_result_fails_the_task_for_good(
    harness: Harness, claims: Claims
) -> None:
    task = pulled(harness, "g1")
    grant = claims.claim("w1", 60)
    assert grant is not None
    said = claims.reports.complete(task, grant.fence, result=FAILURE, exit_code=1)
    assert (said["state"], said["duplicate"]) == ("failed", False)
    assert claims.reports.complete(task, grant.fence, result=FAILURE, exit_code=1) == {**said, "duplicate": True}
    row = harness.row(task)
    assert (row.state, row.category, row.result_status, row.attempts) == ("failed", "exit", "failure", 1)


CODE = """if True:
    import json, subprocess, sys
    brief = json.load(open(sys.argv[1]))
    assert brief["brief_version"] == 1 and brief["task"]["issue_number"] == 7, brief
    subprocess.run([sys.executable, "-m", "covenq", "phase", "--pr", "12", "made a pull request"], check=True)
    json.dump({"contract_version": "2", "status": "partial", "summary": "x", "branch": "b"}, open(sys.argv[2], "w"))
    sys.exit(1)
"""


@pytest.fixture
def run_worker(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """run_worker(daemon, *words): a `covenq worker` process, ended with the test."""
    with ExitStack() as ends:

        def run(daemon: Daemon, *words: str) -> None:
            argv = [sys.executable, "-m", "covenq", "worker", "--work", str(tmp_path / "work"), *words]
            process = ends.enter_context(subprocess.Popen(argv, env=daemon.environment(), cwd=ROOT))
            ends.callback(process.kill)

        yield run


@pytest.mark.parametrize("where", ["worker", "daemon"])
def test_a_command_keeps_it_alike_in_the_daemon_and_in_a_worker(
    make_daemon: Callable[..., Daemon], run_worker: Callable[..., None], where: str, tmp_path: Path
) -> None:
    code = tmp_path / "code.py"
    code.write_text(CODE)
    argv = [sys.executable, str(code), "{brief}", "{result}"]
    route = f'[[route]]\nname = "p"\nmatch = "event:issues"\ncontract = "{CONTRACT}"\n'
    path = clean_env(PYTHONPATH=str(ROOT))["PYTHONPATH"]
    runs = "pull = true\n" if where == "worker" else f"run = {json.dumps(argv)}\nenv = ['PYTHONPATH']\n"
    daemon = make_daemon(route + runs, env={"PYTHONPATH": path})
    guid = new_guid()
    task = daemon.post("issues", issue(7), guid).json["tasks"][0]
    if where == "worker":
        run_worker(daemon, "--env", "PYTHONPATH", "--name", "w1", "--", *argv)
    eventually(lambda: daemon.cli_json("show", task)["state"] in ("completed", "failed"), what="it ended")
    row = daemon.cli_json("show", task)
    assert (row["state"], row["result_status"], row["branch"], row["pr_number"]) == ("completed", "partial", "b", 12)
    assert b"in part" in daemon.cli("why", guid).stdout


def test_the_store_made_anew_is_the_same_after_an_erasure(harness: Harness, tmp_path: Path) -> None:
    """The branch is in the record of the end, which the erasure names too."""
    task = harness.add("g1", writes(GOOD), contract=CONTRACT)
    harness.pool()
    harness.wait(task)
    head = harness.journal.head().seq
    assert harness.fold_thread.wait_for(head, 30)
    plan = plan_redact(harness.journal, harness.store.reader(), Redact(ids=["g1"]), None)

    def fold() -> None:
        assert harness.fold_thread.wait_for(harness.journal.head().seq, 30)

    apply(plan, harness.journal, fold)
    fold()
    assert harness.row(task).branch is None
    assert not any("coven/fix-7" in json.dumps(one.about) for one in harness.journal.read(0))
    anew = StateStore(tmp_path / "anew.db", harness.journal)
    try:
        anew.catch_up()
        assert dump(anew.reader()) == dump(harness.store.reader())
    finally:
        anew.close()
