"""Every event that GitHub documents: accepted unchanged, and read into the right columns (`events.CASES`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from covenq.github import samples
from covenq.github.columns import columns
from covenq.github.events import ACTIONS, ANY, COLUMNS, EVENTS
from tests.support.events import CASES, Case
from tests.support.requests import new_guid
from tests.support.serving import Served, serving

DOCUMENTED = """
branch_protection_configuration branch_protection_rule check_run check_suite code_scanning_alert commit_comment create
custom_property custom_property_values delete dependabot_alert deploy_key deployment deployment_protection_rule
deployment_review deployment_status discussion discussion_comment fork github_app_authorization gollum installation
installation_repositories installation_target issue_comment issue_dependencies issues label marketplace_purchase member
membership merge_group meta milestone org_block organization package page_build personal_access_token_request ping project
project_card project_column projects_v2 projects_v2_item projects_v2_status_update public pull_request pull_request_review
pull_request_review_comment pull_request_review_thread push registry_package release repository repository_advisory
repository_dispatch repository_import repository_ruleset repository_vulnerability_alert secret_scanning_alert
secret_scanning_alert_location secret_scanning_scan security_advisory security_and_analysis sponsorship star status sub_issues
team team_add watch workflow_dispatch workflow_job workflow_run
""".split()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("events") / "data", routes=False) as served:
        yield served


def test_there_is_a_case_of_every_documented_event_and_of_every_sample() -> None:
    cases = {case.event for case in CASES}
    assert set(DOCUMENTED) <= cases
    assert set(samples.SAMPLES) <= cases
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_columns_of_every_action(case: Case) -> None:
    for action in case.actions:
        data, about = columns(case.event, case.made(action))
        expected = case.columns(action)
        del expected["event"]
        found: dict[str, Any] = {**data, **about}
        assert {name: found[name] for name in expected} == expected, action


REFS = [
    ("push", {"ref": "refs/heads/main"}, "refs/heads/main"),
    ("push", {"ref": "refs/tags/v1"}, "refs/tags/v1"),
    ("pull_request", {"pull_request": {"head": {"ref": "fix"}}}, "fix"),
    ("pull_request_review", {"pull_request": {"head": {"ref": "fix"}}}, "fix"),
    ("workflow_run", {"workflow_run": {"head_branch": "main"}}, "main"),
    ("workflow_job", {"workflow_job": {"head_branch": "main"}}, "main"),
    ("check_suite", {"check_suite": {"head_branch": "main"}}, "main"),
    ("check_run", {"check_run": {"check_suite": {"head_branch": "main"}}}, "main"),
    ("merge_group", {"merge_group": {"head_ref": "refs/heads/q"}}, "refs/heads/q"),
    ("deployment_status", {"deployment": {"ref": "main"}, "deployment_status": {}}, "main"),
    ("create", {"ref": "v1", "ref_type": "tag"}, "v1"),
    ("workflow_dispatch", {"ref": "refs/heads/main"}, "refs/heads/main"),
    ("repository_dispatch", {"action": "go", "branch": "main"}, "main"),
    ("issues", {"issue": {"number": 1}}, None),
    ("push", {"ref": ["refs/heads/main"]}, None),
]


@pytest.mark.parametrize(("event", "payload", "ref"), REFS)
def test_the_ref_is_spelled_as_the_payload_does(event: str, payload: dict[str, Any], ref: str | None) -> None:
    assert columns(event, payload)[1]["ref"] == ref


@pytest.mark.parametrize(
    ("event", "payload", "target"),
    [
        ("issues", {"issue": {"number": 1}}, "issue"),
        ("issue_comment", {"issue": {"number": 1}}, "issue"),
        ("issue_comment", {"issue": {"number": 1, "pull_request": {"url": "x"}}}, "pull"),
        ("pull_request_review_thread", {"pull_request": {}}, "pull"),
        ("discussion_comment", {}, "discussion"),
        ("push", {"ref": "refs/heads/x", "deleted": False}, "commit"),
        ("push", {"ref": "refs/heads/x", "deleted": True}, "branch"),
        ("push", {"ref": "refs/tags/x", "deleted": True}, "tag"),
        ("create", {"ref": "x", "ref_type": "branch"}, "branch"),
        ("delete", {"ref": "x", "ref_type": "tag"}, "tag"),
        ("create", {"ref": "x", "ref_type": ["tag"]}, None),
        ("release", {"release": {}}, "release"),
        ("workflow_job", {"workflow_job": {}}, "commit"),
        ("team", {}, None),
        ("a_new_event", {"issue": {}}, None),
    ],
)
def test_the_target_is_the_kind_of_thing(event: str, payload: dict[str, Any], target: str | None) -> None:
    assert columns(event, payload)[0]["target"] == target


@pytest.mark.parametrize(
    ("event", "payload", "title"),
    [
        ("merge_group", {"merge_group": {"head_commit": {"message": "Light it\n\nmore"}}}, "Light it"),
        ("check_suite", {"check_suite": {"head_commit": {"message": "Light it"}}}, "Light it"),
        ("status", {"name": "o/r", "commit": {"commit": {"message": "Light it\nmore"}}}, "Light it"),
        ("milestone", {"milestone": {"title": "Autumn"}}, "Autumn"),
        ("package", {"package": {"name": "lamp"}}, "lamp"),
        ("projects_v2", {"projects_v2": {"title": "Harbour"}}, "Harbour"),
        ("security_advisory", {"security_advisory": {"summary": "Sparks"}}, "Sparks"),
        ("package", {"package": {"name": "lamp", "description": "It shines"}}, "lamp"),
        ("dependabot_alert", {"alert": {"security_advisory": {"summary": "Sparks"}}}, "Sparks"),
        ("code_scanning_alert", {"alert": {"rule": {"name": "a/b", "description": "Open flame"}}}, "Open flame"),
        ("secret_scanning_alert", {"alert": {"secret_type_display_name": "Key of the tower"}}, "Key of the tower"),
        ("gollum", {"pages": [{"title": "Home"}, {"title": "Other"}]}, "Home"),
        ("release", {"release": {"name": None, "tag_name": "v1"}}, "v1"),
        ("star", {}, None),
    ],
)
def test_titles(event: str, payload: dict[str, Any], title: str | None) -> None:
    assert columns(event, payload)[1]["title"] == title


def test_the_table_of_events_has_every_action_and_every_column_of_every_case() -> None:
    for case in CASES:
        if case.event not in EVENTS:
            continue
        known = ACTIONS[case.event]
        for action in case.actions:
            assert ANY in known or (action in known if action is not None else not known), (case.name, action)
            data, about = columns(case.event, case.made(action))
            found: dict[str, Any] = {**data, **about, "label": about["label"] or about["labels"] or None}
            for name, events in COLUMNS.items():
                assert found[name] is None or case.event in events, (case.name, name)
    assert {case.event for case in CASES} - EVENTS == {"a_new_event"}


def bodies(payload: Any) -> dict[str, bytes]:
    """The same payload as GitHub writes it, and as others do; and as a form."""
    compact = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
    return {
        "json": compact,
        "escaped": json.dumps(payload, indent=2).encode() + b"\n",
        "form": b"payload=" + quote_plus(compact).encode(),
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_delivery_is_accepted_unchanged_and_shown_with_its_columns(served: Served, case: Case) -> None:
    for form, body in bodies(case.made(case.actions[0])).items():
        guid = new_guid()
        kind = "application/x-www-form-urlencoded" if form == "form" else "application/json"
        answer = served.post(case.event, body, guid, content_type=kind)
        assert answer.status == (200 if case.event == "ping" else 202), answer
        path = f"/api/v1/deliveries/7/{guid}"
        assert served.ask(f"{path}/payload").body == body
        shown = served.ask(path).json
        expected = case.columns(case.actions[0])
        assert {name: shown[name] for name in expected} == expected
        assert shown["payload_sha256"] == hashlib.sha256(body).hexdigest()
        assert shown["payload_bytes"] == len(body)
        assert shown["guid"] == guid
        assert shown["hook"] == "7"


def test_what_was_accepted_is_found_by_its_columns(data: Path) -> None:
    with serving(data, routes=False) as fresh:
        for case in CASES:
            assert fresh.post(case.event, case.made(case.actions[-1])).status in (200, 202)
        for case in CASES:
            wanted = case.columns(case.actions[-1])
            terms = [
                f"{'sha' if name == 'head_sha' else name}:{_quoted(value)}" for name, value in wanted.items() if value
            ]
            items = fresh.ask(f"/api/v1/deliveries?limit=0&filter={quote_plus(' '.join(terms))}").json["items"]
            found = [{name: item[name] for name in wanted} for item in items]
            assert wanted in found, (terms, found)


def _quoted(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
