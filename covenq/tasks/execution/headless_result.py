"""The result that a headless coding agent leaves, and what becomes of its attempt: the contract coven-headless/2.

The file is whatever the command made of it, so it is taken as a request from a stranger is: bounded, of the fields that are
known, and refused with what is wrong with it. Its schema is man/headless-result.schema.json, made from the types here.

Only an attempt that ended by itself, with one of FINAL_EXITS and a valid result, has an outcome of the agent's own: it is final,
whatever that says. All else may be otherwise the next time, and is retried as the route's `retry` says.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from covenq.model import Category, JsonObject
from covenq.tasks.execution.scrub import scrub_text
from covenq.tasks.scheduling.outcome import RESULT_MAX, Outcome, Reported
from journal.payload import is_deeper

FINAL_EXITS = (0, 1, 3)
DEPTH_MAX = 32
"""Levels of brackets in a result."""
BRANCH_MAX = 255
WORDS_MAX = 200
"""Characters of what is said of a result that is none."""

Text = Annotated[str, Meta(max_length=65_536)]
"""As long as GitHub lets a comment be."""
Line = Annotated[str, Meta(max_length=4_096)]
Sha = Annotated[str, Meta(pattern="^[0-9a-f]{7,64}$")]


class Part(Struct, forbid_unknown_fields=True):
    """A part of a result. What isn't known is refused: a misspelt field would else be taken for an absent one."""


class Commit(Part):
    sha: Sha
    message: Text = ""


class Finding(Part, kw_only=True):
    severity: Literal["info", "low", "medium", "high", "critical"]
    file: Line
    line: Annotated[int, Meta(ge=0)] | None = None
    title: Line
    body: Text = ""
    recommendation: Text | None = None


class TestRun(Part):
    command: Line
    status: Literal["passed", "failed", "not_run", "unknown"]
    output_summary: Text | None = None


class Review(Part):
    mode: Literal["none", "pull_request", "review_comment"] = "none"
    evidence_status: Literal["not_applicable", "complete", "partial", "missing"] = "not_applicable"
    reviewed_files: list[Line] = []
    supporting_files: list[Line] = []
    findings: list[Finding] = []
    tests_run: list[TestRun] = []
    no_findings_reason: Text | None = None
    limitations: list[Text] | Text | None = None


class Result(Part, kw_only=True):
    """result.json."""

    contract_version: Literal["2"]
    status: Literal["success", "partial", "failure", "needs_input"]
    branch: Line | None = None
    commits: list[Commit] = []
    files_changed: list[Line] = []
    summary: Text
    pr_body: Text | None = None
    review: Review = msgspec.field(default_factory=Review)
    exit_reason: Literal["test_failure", "ambiguous_spec", "git_conflict", "infra_error"] | None = None
    memory_used: list[JsonObject] | JsonObject | None = None
    """Taken and not looked at."""


_QUOTED = re.compile(r"(?<=Invalid enum value ).*?(?= - at |\Z)|(?<=unknown field ).*?(?= - at |\Z)", re.DOTALL)
"""What a decoder quotes of the file."""


class InvalidResult(ValueError):
    """It is no result by the contract. Its text is one sentence, without what came from the file but names of fields."""


_DECODER = msgspec.json.Decoder(Result)
_BRANCH = re.compile(
    r"(?![-/]|.*(?://|/\.|\.\.|@\{|\.lock(?:/|\Z)|[/.]\Z))[^\x00-\x20\x7f~^:?*\[\\\ud800-\udfff.][^\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]*\Z"
)
"""What git takes for the name of a branch (git-check-ref-format), without a `-` that begins it."""


def parse_result(content: bytes) -> Result:
    """Raises InvalidResult."""
    if len(content) > RESULT_MAX:
        raise InvalidResult(f"its result has more than {RESULT_MAX} bytes")
    if is_deeper(content, DEPTH_MAX):
        raise InvalidResult(f"its result is nested over {DEPTH_MAX} levels")
    try:
        result = _DECODER.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidResult(f"its result is none: {_words(error)}") from None
    if (wrong := _contradiction(result)) is not None:
        raise InvalidResult(f"its result is none: {wrong}")
    return result


def judged(outcome: Outcome, content: bytes | None) -> Outcome:
    """The outcome of an attempt by what its command left: `content` is its result's; None: it left none, or too large a one."""
    if outcome.category not in (None, Category.EXIT) or outcome.exit_code not in FINAL_EXITS:
        return outcome
    if content is None:
        return _invalid(outcome, f"it left no result of {RESULT_MAX} bytes at most")
    try:
        result = parse_result(content)
    except InvalidResult as error:
        return _invalid(outcome, str(error))
    return replace(outcome_of(result, outcome.exit_code), usage=outcome.usage)


def outcome_of(result: Result, exit_code: int | None) -> Outcome:
    """The outcome that the agent reports. Tokens are masked in the branch, as in all that commands write."""
    reported = Reported(result.status, None if result.branch is None else scrub_text(result.branch))
    if result.status != "failure":
        return Outcome(None, exit_code, reported=reported)
    words = f"it reports that it failed: {(result.exit_reason or 'it gives no reason').replace('_', ' ')}"
    return Outcome(Category.EXIT, exit_code, detail=words, final=True, reported=reported)


def _invalid(outcome: Outcome, words: str) -> Outcome:
    return replace(outcome, category=Category.RESULT_INVALID, detail=words)


def _contradiction(result: Result) -> str | None:
    """What of it contradicts the rest, in words; None where nothing does."""
    review = result.review
    if result.status == "success" and result.exit_reason is not None:
        return "a success has no exit_reason"
    if result.status in ("failure", "needs_input") and result.exit_reason is None:
        return f"the status {result.status} needs an exit_reason"
    if result.branch is not None and (len(result.branch) > BRANCH_MAX or not _BRANCH.match(result.branch)):
        return "branch is no name of a branch"
    if (review.mode == "none") != (review.evidence_status == "not_applicable"):
        return "review.evidence_status is not_applicable for the mode none, and for no other"
    if review.mode != "none" and review.evidence_status != "missing" and not review.reviewed_files:
        return "a review names its reviewed_files, or its evidence_status is missing"
    if review.evidence_status == "complete" and not review.findings and not review.no_findings_reason:
        return "a complete review without findings has a no_findings_reason"
    return None


def _words(error: Exception) -> str:
    """What a decoder says, bounded; where it quotes what came from the file, only that it is wrong."""
    if isinstance(error, msgspec.ValidationError):
        return _QUOTED.sub("…", str(error))[:WORDS_MAX]
    return "it is no JSON" if isinstance(error, msgspec.DecodeError) else "it is no UTF-8"
