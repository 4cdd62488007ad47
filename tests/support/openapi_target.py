"""The API's document as schemathesis has it, and a daemon's API to try it on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

from covenq.config.api_tokens import create
from covenq.http.openapi.document import document
from tests.support.requests import issue, new_guid
from tests.support.serving import serving

SCHEMA = schemathesis.openapi.from_dict(document()).exclude(path="/api/v1/events")  # a stream has no end to wait for


@dataclass
class Target:
    """A daemon's API over TCP, with data of every kind, and a token for everything but claims."""

    url: str
    webhook: str
    """The port of the webhook's listener."""
    headers: dict[str, str]
    known: dict[str, list[str]]


@contextmanager
def opened() -> Iterator[Target]:
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
