"""The HTTP interface matches its document: every route is in it and nothing else, and schemathesis tests each from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import falcon.inspect
import pytest
import schemathesis
from hypothesis import settings

from covenq.http.app import make_app
from covenq.http.openapi.document import document
from covenq.http.openapi.operations import OPERATIONS
from tests.support.checkout import ROOT
from tests.support.openapi_target import SCHEMA, Target, drive, opened
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

EXAMPLES = 8


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with opened() as target:
        yield target


@SCHEMA.parametrize()
@settings(max_examples=EXAMPLES)
def test_each_operation_does_as_the_document_says(case: schemathesis.Case, target: Target) -> None:
    """`test_openapi_deep` has many more examples."""
    drive(case, target)
