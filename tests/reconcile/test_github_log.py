"""The stand-in for GitHub's delivery log checks what GitHub checks, and sends again what it is asked to."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import jwt
import pytest

from tests.support.github_log import CLIENT_ID, GithubLog, github, new_key
from tests.support.receiver import Receiver, receiving
from tests.support.requests import SECRET
from tests.support.waiting import eventually

LOG = "/app/hook/deliveries"


@pytest.fixture
def server() -> Iterator[GithubLog]:
    with github() as found:
        yield found


def ask(server: GithubLog, path: str, token: str, method: str = "GET") -> tuple[int, Any]:
    request = urllib.request.Request(server.url + path, headers={"Authorization": f"Bearer {token}"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, None


def token_of(server: GithubLog, *, key: bytes | None = None, **claims: Any) -> str:
    now = int(time.time())
    whole = {"iat": now - 60, "exp": now + 540, "iss": CLIENT_ID, **claims}
    return jwt.encode(whole, server.private_key if key is None else key, algorithm="RS256")


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({}, 200),
        ({"iss": "another"}, 401),
        ({"iat": 600}, 401),
        ({"exp": -1}, 401),
        ({"exp": 900}, 401),
    ],
    ids=["good", "issuer", "future", "over", "too long"],
)
def test_a_jwt_is_checked_as_github_checks_it(server: GithubLog, claims: dict[str, Any], status: int) -> None:
    """Times are seconds from now, as the test begins and not as it was collected."""
    now = int(time.time())
    whole = {name: now + value if isinstance(value, int) else value for name, value in claims.items()}
    assert ask(server, LOG, token_of(server, **whole))[0] == status


def test_another_key_and_another_path_are_refused(server: GithubLog) -> None:
    assert ask(server, LOG, token_of(server, key=new_key()[0]))[0] == 401
    assert ask(server, LOG, "no token")[0] == 401
    assert ask(server, "/orgs/o/hooks/1/deliveries", token_of(server))[0] == 404


def test_a_redelivery_comes_signed_and_is_an_attempt_of_its_own(server: GithubLog) -> None:
    one = server.add(at=time.time() - 60)
    with receiving(Receiver()) as door:
        door.secret = SECRET
        server.door = door.url
        assert ask(server, f"{LOG}/{one.id}/attempts", token_of(server), "POST")[0] == 202
        eventually(lambda: len(server.attempts) == 2, 10, "the redelivery is listed")
        ((headers, body, good),) = door.seen
    assert (headers["x-github-delivery"], body, good) == (one.guid, one.body, True)
    _, listed = ask(server, LOG, token_of(server))
    assert [(item["guid"], item["redelivery"], item["status_code"]) for item in listed] == [
        (one.guid, True, 200), (one.guid, False, 0),
    ]  # fmt: skip
    assert listed[0]["id"] != listed[1]["id"]


def test_a_redelivery_may_never_come(server: GithubLog) -> None:
    one = server.add()
    assert ask(server, f"{LOG}/{one.id}/attempts", token_of(server), "POST")[0] == 202
    assert len(server.attempts) == 1 and server.redelivered == []
    assert ask(server, f"{LOG}/{one.id}/attempts", token_of(server))[0] == 404
    assert ask(server, f"{LOG}/1", token_of(server))[0] == 404
