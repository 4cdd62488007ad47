"""What a headless agent leaves as its result: which are valid, and what becomes of the attempt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covenq.model import Category
from covenq.tasks.execution.headless_result import InvalidResult, judged, parse_result
from covenq.tasks.execution.headless_schemas import schema
from covenq.tasks.scheduling.outcome import RESULT_MAX, Outcome, Reported, Usage
from tests.support.checkout import ROOT

GOOD: dict[str, Any] = {"contract_version": "2", "status": "success", "summary": "Done."}
REVIEW: dict[str, Any] = {"mode": "pull_request", "evidence_status": "complete", "reviewed_files": ["a.py"]}


def told(**more: Any) -> bytes:
    return json.dumps(GOOD | more).encode()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"status": "partial"},
        {"status": "partial", "exit_reason": "test_failure"},
        {"status": "failure", "exit_reason": "git_conflict"},
        {"status": "needs_input", "exit_reason": "ambiguous_spec"},
        {"branch": "coven/fix-12", "commits": [{"sha": "a" * 40, "message": "Fix"}], "files_changed": ["a.py"]},
        {"branch": None, "pr_body": None, "memory_used": [{"any": "thing"}]},
        {"review": {**REVIEW, "no_findings_reason": "nothing was wrong"}},
        {"review": {**REVIEW, "findings": [{"severity": "low", "file": "a.py", "line": 3, "title": "t", "body": "b"}]}},
        {"review": {"mode": "review_comment", "evidence_status": "missing"}},
        {"review": {**REVIEW, "evidence_status": "partial", "tests_run": [{"command": "make", "status": "passed"}]}},
    ],
)
def test_a_result_that_is_valid(more: dict[str, Any]) -> None:
    assert parse_result(told(**more)).status == more.get("status", "success")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is no JSON"),
        (b"\xff", "it is no JSON"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field"),
        (told(contract_version="1"), "Invalid enum value … - at `$.contract_version`"),
        (told(contract_version=2), "`$.contract_version`"),
        (told(status="done ghs_s3cret"), "Invalid enum value … - at `$.status`"),
        (told(ghs_s3cret=1), "unknown field …"),
        (told(review={"ghs_s3cret": 1}), "unknown field … - at `$.review`"),
        (told(summary=None), "`$.summary`"),
        (told(summary="x" * 65_537), "`$.summary`"),
        (told(commits=[{"sha": "HEAD", "message": ""}]), "`$.commits[0].sha`"),
        (told(exit_reason="infra_error"), "a success has no exit_reason"),
        (told(status="failure"), "the status failure needs an exit_reason"),
        (told(status="needs_input"), "the status needs_input needs an exit_reason"),
        (told(review={"mode": "pull_request"}), "not_applicable for the mode none"),
        (told(review={"evidence_status": "complete"}), "not_applicable for the mode none"),
        (told(review={**REVIEW, "reviewed_files": []}), "names its reviewed_files"),
        (told(review=REVIEW), "a no_findings_reason"),
        (told(memory_used={"a": json.loads("[" * 40 + "]" * 40)}), "nested over 32 levels"),
        (b" " * (RESULT_MAX + 1), f"more than {RESULT_MAX} bytes"),
        *(
            (told(branch=name), "branch is no name of a branch")
            for name in ("", "-x", "a..b", "a b", "a~1", "x/", "/x", "a//b", ".a", "a/.b", "a.lock", "a.lock/b", "a.", "@{u}")
        ),
        (told(branch="x" * 256), "branch is no name of a branch"),
    ],
)  # fmt: skip
def test_a_result_that_is_none_is_refused_with_what_is_wrong_and_not_with_what_is_in_it(
    content: bytes, words: str
) -> None:
    with pytest.raises(InvalidResult) as caught:
        parse_result(content)
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)


_leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
_json = st.recursive(_leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner))


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from([*GOOD, "branch", "review", "exit_reason", "commits", "other"]), _json))
def test_whatever_it_is_it_is_taken_or_refused(more: dict[str, Any]) -> None:
    try:
        parse_result(told(**more))
    except InvalidResult as error:
        assert len(str(error)) < 300


USAGE = Usage(1.0, 0.5, 1000)
BRANCH = told(branch="b1")
FAILURE = told(status="failure", exit_reason="test_failure", branch="b1")
NEEDS = told(status="needs_input", exit_reason="ambiguous_spec")


def ended(exit_code: int | None, category: Category | None = None, signal: int | None = None) -> Outcome:
    if category is None and exit_code != 0:
        category = Category.EXIT
    return Outcome(category, exit_code, signal, "as the command ended", usage=USAGE)


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_result_alone_says_how_an_attempt_with_a_final_exit_code_ended(code: int) -> None:
    done = judged(ended(code), BRANCH)
    assert (done.category, done.exit_code, done.reported) == (None, code, Reported("success", "b1"))
    assert (done.usage, done.detail) == (USAGE, None)
    assert judged(ended(code), NEEDS).reported == Reported("needs_input")
    failed = judged(ended(code), FAILURE)
    assert (failed.category, failed.final, failed.reported) == (Category.EXIT, True, Reported("failure", "b1"))
    assert failed.detail == "it reports that it failed: test failure"


@pytest.mark.parametrize("content", [None, b"{", told(extra=1)])
@pytest.mark.parametrize("code", [0, 1, 3])
def test_without_a_valid_result_it_may_be_tried_again(code: int, content: bytes | None) -> None:
    one = judged(ended(code), content)
    assert (one.category, one.exit_code, one.final, one.reported) == (Category.RESULT_INVALID, code, False, None)
    assert one.usage == USAGE


@pytest.mark.parametrize(
    "outcome",
    [
        ended(2),
        ended(4),
        ended(137),
        ended(None, Category.SIGNAL, 9),
        ended(None, Category.TIMEOUT),
        ended(None, Category.SPAWN),
        ended(None, Category.INTERRUPTED),
        ended(0, Category.TIMEOUT),
    ],
)
def test_what_ended_otherwise_ended_as_any_command_whatever_it_left(outcome: Outcome) -> None:
    assert judged(outcome, BRANCH) is outcome


def test_tokens_are_masked_in_the_branch() -> None:
    one = judged(ended(0), told(branch="ghs_" + "a" * 36))
    assert one.reported is not None and "aaaa" not in (one.reported.branch or "")


@pytest.mark.parametrize(("name", "file"), [("brief", "session-brief"), ("result", "headless-result")])
def test_the_manual_has_the_schemas(name: str, file: str) -> None:
    path: Path = ROOT / "man" / f"{file}.schema.json"
    assert json.loads(path.read_text()) == schema(name), (
        f"python -m covenq.tasks.execution.headless_schemas {name} > {path.name}"
    )
