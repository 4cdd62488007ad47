"""covenq routes check: rules that can never match, each with the nearest word that can."""

from __future__ import annotations

from pathlib import Path

import pytest

from covenq.cli.commands.init import TEMPLATE
from covenq.config.load import build
from covenq.operate.inspect.route_check import problems
from tests.support.daemon import Daemon


def of(match: str, key: str | None = None) -> list[str]:
    route = {"name": "a", "match": match, "run": ["true"]} | ({"key": key} if key else {})
    return [problem for one in build({"route": [route]}, None, {}).routes for problem in problems(one)]


@pytest.mark.parametrize(
    ("match", "words"),
    [
        ("event:pull_requests action:opened", "did you mean event:pull_request?"),
        ("event:Issues", "did you mean event:issues?"),
        ("event:issues,pulls", "event:pulls is no event that GitHub documents"),
        ("-event:Push", "did you mean event:push?"),
        ("event:push event:issues", "no delivery is of an event that all its terms on event allow"),
        ("event:ping", "a ping is never routed"),
        ("event:push action:created", "push has no action"),
        ("event:issues action:opened,labled", "issues has no such action: did you mean action:labeled?"),
        ("event:release action:Published", "did you mean action:published?"),
        ("event:issues action:merge*", "action:merge* never holds"),
        ("event:workflow_job label:self-hosted", "did you mean payload.workflow_job.labels:self-hosted?"),
        ("event:star label:bug", "star has no label"),
        ("event:push number>3", "push has no number"),
        ("event:installation repo:o/r", "installation has no repo"),
        ("event:issues sha:c0ffee*", "issues has no head_sha"),
        ("sha:ABCDEF", "did you mean sha:abcdef*?"),
        ("sha:" + "AB" * 20, "sha:" + "ab" * 20),
        ("sha:main", "40 hexadecimal digits"),
        ("event:push ref:main", "did you mean ref:refs/heads/main?"),
        ("event:check_run ref:refs/heads/main", "did you mean ref:main?"),
        ("event:push target:branches", "did you mean target:branch?"),
        ("target:pulls", "did you mean target:pull?"),
        ("event:push target:issue", "push has branch or commit or tag"),
        ("repo:r", "did you mean repo:*/r?"),
        ("repo:https://github.com/o/r", "did you mean repo:o/r?"),
        ("repo:https://github.com/o/r.git", "did you mean repo:o/r?"),
        ("repo:git@github.com:o/r.git", "did you mean repo:o/r?"),
        ("-repo:https://github.com/o/r/pulls", "did you mean repo:o/r?"),
        ("repo:o/r/x", "write repo:owner/name"),
        ("owner:o/r", "did you mean owner:o?"),
        ("sender:@octocat", "did you mean sender:octocat?"),
    ],
)  # fmt: skip
def test_what_never_matches_is_told_with_the_nearest_word(match: str, words: str) -> None:
    (found,) = of(match)
    assert words in found


@pytest.mark.parametrize(
    "match",
    [
        "",
        "event:*",
        "event:issues,pull_request action:opened,synchronize label:bug",
        "event:pull_request* number>3 ref:fix/* sha:c0ffee*",
        "event:repository_dispatch action:deploy-now ref:main",
        "event:push repo:o/r,acme/* -repo:acme/x ref:refs/heads/main,refs/tags/v* target:commit,tag",
        "event:push,pull_request ref:main",
        "event:issue_comment target:pull label:bug",
        "-event:push -action:closed -label:wip -sender:*[bot] -number:*",
        "payload.workflow_job.labels:self-hosted",
        "repo:*infra* owner:acme sender:octocat",
    ],
)
def test_what_can_match_is_not_warned_of(match: str) -> None:
    assert of(match) == []


@pytest.mark.parametrize(
    ("match", "key", "words"),
    [
        ("event:push", "{repo}#{number}", "push has no number"),
        ("event:push,issues", "{repo}#{number}", "push has no number"),
        ("event:push,issues number:*", "{repo}#{number}", None),
        ("event:pull_request,push action:opened", "{repo}#{number}", None),
        ("event:push", "{repo}@{ref}", None),
        ("event:issue_comment", "{label}", "issue_comment has no label"),
        ("event:issues", "{label}", None),
        ("event:organization", "{repo}", "organization has no repo"),
        ("event:organization", "{owner} {sender} {event} {hook}", None),
    ],
)
def test_a_key_with_a_part_that_an_event_has_not_is_told(match: str, key: str, words: str | None) -> None:
    found = of(match, key)
    assert (found == []) if words is None else (words in found[0] and "such tasks have no key" in found[0])


def test_a_key_by_which_pushes_of_two_branches_outdate_each_other_is_told() -> None:
    def of_push(match: str, key: str, **more: str) -> list[str]:
        route = {"name": "ci", "match": f"event:push {match}", "run": ["true"], "key": key, **more}
        return [problem for one in build({"route": [route]}, None, {}).routes for problem in problems(one)]

    (found,) = of_push("", "{repo}", supersede="queued")
    assert "did you mean {repo}@{ref}?" in found
    assert of_push("ref:refs/heads/*", "{repo}", debounce="5s") == [found]
    assert of_push("", "{repo}") == [] == of_push("", "{repo}@{ref}", supersede="running")
    assert of_push("ref:refs/heads/main", "{repo}", supersede="queued") == []


def test_the_command_warns_and_the_examples_that_covenq_writes_have_nothing_to_warn_of(tmp_path: Path) -> None:
    config = tmp_path / "covenq.toml"
    config.write_text('[[route]]\nname = "a"\nmatch = "event:Issues"\nrun = ["true"]\n')
    daemon = Daemon(data=tmp_path / "data", config=config)
    (warning,) = daemon.cli_json("routes", "check")["warnings"]
    assert warning["route"] == "a" and "did you mean event:issues?" in warning["words"]
    assert b"warning: a: event:Issues is no event" in daemon.cli("routes", "check").stderr
    examples = "\n".join(line.removeprefix("# ") for line in TEMPLATE.splitlines())
    matches = [line.split(" = ", 1)[1].strip('"') for line in examples.splitlines() if line.startswith("match = ")]
    keys = [line.split(" = ", 1)[1].strip('"') for line in examples.splitlines() if line.startswith("key = ")]
    assert len(matches) == 3 and [problem for match in matches for problem in of(match)] == []
    assert of(matches[1], keys[0]) == of(matches[2], keys[1]) == []
    assert "ref:refs/heads/main target:commit" in matches[2], "a deleted branch and a tag are not deployed"
