"""The sample deliveries: realistic, signed, and read into the right columns."""

from __future__ import annotations

import json
from typing import Any

import pytest

from covenq.config.secret_keys import Key
from covenq.errors import NotFound
from covenq.github import request, samples
from covenq.github.columns import columns
from covenq.github.signature import verify

HEAD = samples.pulls.sha("head", 3)

EXPECTED: dict[str, dict[str, Any]] = {
    "check_run": {"action": "completed", "number": 3, "head_sha": HEAD},
    "check_suite": {"action": "completed", "number": 3, "head_sha": HEAD, "sender": "lantern-ci[bot]"},
    "commit_comment": {"action": "created", "head_sha": HEAD},
    "create": {"action": None},
    "deployment": {"head_sha": HEAD},
    "deployment_status": {"head_sha": HEAD},
    "discussion": {"number": 3, "title": "Should lamps talk to each other?", "labels": ["enhancement"]},
    "discussion_comment": {"number": 3},
    "installation": {"action": "created", "repo": None, "repo_id": None, "owner": "lantern-works"},
    "installation_repositories": {"action": "added", "repo": None, "repo_id": None, "owner": "lantern-works"},
    "issue_comment": {"action": "created", "number": 3, "labels": ["bug", "needs review"], "head_sha": None},
    "issues": {"action": "opened", "number": 3, "labels": ["bug"], "label": None},
    "label": {"label": "needs review", "labels": []},
    "merge_group": {"head_sha": samples.pulls.sha("queue", 3)},
    "organization": {
        "action": "member_added",
        "repo": None,
        "repo_id": None,
        "owner": "lantern-works",
        "installation": None,
    },
    "ping": {"action": None, "installation": None},
    "pull_request": {"action": "opened", "number": 3, "head_sha": HEAD, "labels": ["enhancement"]},
    "pull_request_review": {"action": "submitted", "number": 3, "head_sha": HEAD},
    "pull_request_review_comment": {"action": "created", "number": 3, "head_sha": HEAD},
    "pull_request_review_thread": {"action": "resolved", "number": 3, "head_sha": HEAD},
    "push": {"action": None, "number": None, "head_sha": samples.code.push(3)["after"]},
    "release": {"action": "published", "title": "Beacon 2.3"},
    "star": {"sender": "visitor-3"},
    "status": {"action": None, "head_sha": HEAD},
    "workflow_job": {"head_sha": HEAD, "number": None},
    "workflow_run": {"action": "completed", "number": 3, "head_sha": HEAD},
}


@pytest.mark.parametrize("event", samples.SAMPLES)
def test_columns_of_every_sample(event: str) -> None:
    data, about = columns(event, json.loads(samples.body(event, 3)))
    expected: dict[str, Any] = {
        "repo": "lantern-works/beacon",
        "owner": "lantern-works",
        "repo_id": samples.repositories.number("repo", "lantern-works/beacon"),
        **EXPECTED.get(event, {}),
    }
    found = {**data, **about}
    assert {name: found[name] for name in expected} == expected
    assert found["sender"]


@pytest.mark.parametrize("event", samples.SAMPLES)
def test_samples_are_the_same_every_time_and_differ_by_number(event: str) -> None:
    assert samples.body(event, 5) == samples.body(event, 5)
    if event not in ("public", "watch", "repository", "installation", "gollum", "pull_request_review_thread"):
        assert samples.body(event, 5) != samples.body(event, 6)


def test_samples_are_of_a_real_ones_size() -> None:
    for event in ("issues", "issue_comment", "pull_request", "push", "check_run"):
        assert 5_000 < len(samples.body(event)) < 40_000, event


def test_actions() -> None:
    labeled = samples.SAMPLES["issues"](1, "labeled")
    _, about = columns("issues", labeled)
    assert (labeled["action"], about["label"]) == ("labeled", "coven:fix")
    assert samples.SAMPLES["issues"](1, "assigned")["assignee"]["login"]
    assert samples.SAMPLES["issues"](1, "closed")["issue"]["state"] == "closed"
    assert samples.SAMPLES["pull_request"](1, "synchronize")["after"]
    assert samples.SAMPLES["pull_request"](1, "closed")["pull_request"]["merged"] is True
    assert samples.SAMPLES["push"](1, "deleted")["after"] == "0" * 40


def test_headers_verify() -> None:
    body = samples.body("issues")
    headers = request.fold_headers(samples.headers("issues", "g-1", "9", body, b"s").items())
    assert verify([Key("s", b"s")], body, headers["x-hub-signature-256"]) == "s"
    assert str(request.identity(headers).delivery) == "9/g-1"
    assert request.is_form(headers["content-type"]) is False
    unsigned = samples.headers("issues", "g-1", None, body, None, form=True)
    assert not [name for name in unsigned if "Signature" in name or "Hook" in name]


def test_an_unknown_sample_is_named_with_those_there_are() -> None:
    with pytest.raises(NotFound) as raised:
        samples.body("isues")
    assert "issues" in raised.value.hint
