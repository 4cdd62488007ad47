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
