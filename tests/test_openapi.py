"""The HTTP surface is what its document says: every route is there and nothing else, and schemathesis drives it from there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import falcon.inspect
import pytest
from serving import Served, serving
from support import ROOT

from covenq.http.app import make_app
from covenq.http.openapi import OPERATIONS, document


@pytest.fixture
def served(data: Path) -> Iterator[Served]:
    with serving(data) as served:
        yield served


def routes(served: Served) -> set[tuple[str, str]]:
    """(method, path) of all that the application answers, on all listeners together."""
    app = make_app(served.parts, {"webhook", "health", "api"})
    return {
        (method.method, route.path)
        for route in falcon.inspect.inspect_routes(app)
        for method in route.methods
        if not method.internal
    }


def test_every_route_is_in_the_document_and_nothing_else(served: Served) -> None:
    found = {(method, path) for method, path in routes(served) if method != "HEAD"}
    said = {(one.method, one.path) for one in OPERATIONS}
    assert said == found, "say each route in covenq/http/openapi.py: its docstring tells how"
    assert len(said) == len(OPERATIONS)


def test_what_answers_get_answers_head(served: Served) -> None:
    found = routes(served)
    assert {path for method, path in found if method == "GET"} == {path for method, path in found if method == "HEAD"}


def test_the_manual_has_the_same_document() -> None:
    kept = json.loads((ROOT / "man" / "openapi.json").read_text())
    assert kept == json.loads(json.dumps(document())), "python -m covenq.http.openapi > man/openapi.json"
