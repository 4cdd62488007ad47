"""The HTTP interface matches its document: every route is in it and nothing else, and schemathesis tests each from it."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import falcon.inspect
import pytest
import schemathesis
from hypothesis import settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from covenq.config.api_tokens import create
from covenq.http.app import make_app
from covenq.http.openapi.document import document
from covenq.http.openapi.operations import OPERATIONS
from tests.support.checkout import ROOT
from tests.support.requests import issue, new_guid
from tests.support.serving import Served, serving


@pytest.fixture
def served(data: Path) -> Iterator[Served]:
    with serving(data) as served:
        yield served


def routes(served: Served) -> set[tuple[str, str]]:
    """(method, path) of every route of the application, on all listeners together."""
    app = make_app(
        [served.routes.webhook, served.routes.health, served.routes.metrics, served.routes.api], served.intake.refusals
    )
    return {
        (method.method, route.path.rstrip("/"))  # a slash at the end of the webhook's is the same
        for route in falcon.inspect.inspect_routes(app)
        for method in route.methods
        if not method.internal
    }


def test_every_route_is_in_the_document_and_nothing_else(served: Served) -> None:
    found = {(method, path) for method, path in routes(served) if method != "HEAD"}
    said = {(one.method, one.path) for one in OPERATIONS}
    assert said == found, "add each route to covenq/http/openapi/operations.py: its docstring explains how"
    assert len(said) == len(OPERATIONS)


def test_what_answers_get_answers_head(served: Served) -> None:
    found = routes(served)
    assert {path for method, path in found if method == "GET"} == {path for method, path in found if method == "HEAD"}


def test_the_manual_has_the_same_document() -> None:
    kept = json.loads((ROOT / "man" / "openapi.json").read_text())
    assert kept == json.loads(json.dumps(document())), "python -m covenq.http.openapi.document > man/openapi.json"


def test_the_document_is_openapi_3_1() -> None:
    SCHEMA.validate()
    names = [one["operationId"] for path in document()["paths"].values() for one in path.values()]
    assert len(set(names)) == len(names)


def test_every_path_is_in_the_manual() -> None:
    page = re.sub(r"\\f.", "", (ROOT / "man" / "covenq-http.7").read_text())
    for path in {one.path for one in OPERATIONS}:
        words = re.split(r"/?\{\w+\}", path)
        for word in (words[0], *(words[-1:] if len(words) > 1 and words[-1] else ())):
            assert word in page, f"{path} is not in covenq-http(7)"


# ---- schemathesis

SCHEMA = schemathesis.openapi.from_dict(document()).exclude(path="/api/v1/events")  # a stream has no end to wait for
EXAMPLES = 12


@dataclass
class Target:
    """A daemon's API over TCP, with data of every kind, and a token for everything but claims."""

    url: str
    webhook: str
    """The port of the webhook's listener."""
    headers: dict[str, str]
    known: dict[str, list[str]]


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with tempfile.TemporaryDirectory(prefix="cq-", ignore_cleanup_errors=True) as directory:
        data = Path(directory) / "data"
        with serving(data, {"api": {}}) as served:
            known: dict[str, list[str]] = {"hook": ["7", "8"], "guid": [], "id": []}
            for number in range(4):
                guid = new_guid()
                known["guid"].append(guid)
                known["id"] += served.post("issues", issue(number), guid).json["tasks"]
                served.post("star", {"action": "created"}, guid, "8" if number else "7")
            token = create(data / "tokens.json", "fuzz", "operate")
            headers = {"Authorization": f"Bearer {token}"}
            url = "http://127.0.0.1:{}"
            yield Target(url.format(served.remote_port), url.format(served.port), headers, known)


def drive(case: schemathesis.Case, target: Target) -> None:
    for name, known in target.known.items():
        value = (case.path_parameters or {}).get(name)
        if isinstance(value, str) and len(value) % 2:  # half of them are of what there is
            case.path_parameters[name] = known[len(value) % len(known)]
    # A filter has a grammar, and a pause a name that fits: no schema says what of a text is valid.
    grammar = [positive_data_acceptance] if GRAMMAR & _fields(case) else []
    case.call_and_validate(
        base_url=target.webhook if case.path == "/webhook" else target.url,
        headers=target.headers,
        excluded_checks=grammar,
    )


GRAMMAR = {"filter", "what", "repo", "id", "items", "X-Hub-Signature-256"}


def _fields(case: schemathesis.Case) -> set[str]:
    """The names of an operation's parameters, in its query, its headers or its body."""
    one = document()["paths"][case.operation.path][case.operation.method]
    body = one.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return {asked["name"] for asked in one.get("parameters", ()) if asked["in"] != "path"} | set(
        body.get("properties", ())
    )


@SCHEMA.parametrize()
@settings(max_examples=EXAMPLES)
def test_each_operation_does_as_the_document_says(case: schemathesis.Case, target: Target) -> None:
    drive(case, target)


@pytest.mark.deep
@SCHEMA.parametrize()
@settings(max_examples=150)
def test_each_operation_does_as_the_document_says_for_longer(case: schemathesis.Case, target: Target) -> None:
    drive(case, target)
