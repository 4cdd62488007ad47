"""Installation tokens: what GitHub is asked for, how it answers, and what each answer means to who asked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from covenq.config import load as configuration
from covenq.config.github_api import GithubApp
from covenq.errors import CovenqError, GithubAnswerUnreadable, GithubLimited, GithubRefused, OutgoingFailed
from covenq.github import installation_token
from covenq.github.app_auth import TokenAuth
from covenq.github.connection import api_at, api_of
from covenq.github.installation_token import LATE_S, LIFE_S, InstallationToken
from tests.support.github_log import CLIENT_ID, Fault, GithubLog, github
from tests.support.github_tokens import Installation, classic, stateless

ID, REPO = 4711, 1296269


@pytest.fixture
def server() -> Iterator[GithubLog]:
    with github() as server:
        server.work_tokens.installations[ID] = Installation()
        yield server


def app_of(server: GithubLog, directory: Path) -> GithubApp:
    key = directory / "app.pem"
    key.write_bytes(server.private_key)
    key.chmod(0o600)
    table = {"client_id": CLIENT_ID, "private_key_file": str(key), "api_url": server.url}
    found = configuration.build({"github": {"app": table}}, None, {}).github_logs.app
    assert found is not None
    return found


def mint(
    server: GithubLog, directory: Path, permissions: dict[str, str] | None = None, repositories: list[int] | None = None
) -> InstallationToken:
    api = api_of(app_of(server, directory), {}, time.time)
    try:
        return installation_token.mint(api, ID, permissions or {"issues": "write"}, repositories, time.time)
    finally:
        api.close()


def revoke(server: GithubLog, token: str) -> None:
    api = api_at(server.url, TokenAuth(token.encode()), {}, time.time)
    try:
        installation_token.revoke(api)
    finally:
        api.close()


@pytest.mark.parametrize("make", [classic, stateless])
def test_a_token_is_for_what_was_asked_and_is_revoked_with_itself(server: GithubLog, tmp_path: Path, make) -> None:
    server.work_tokens.make = make
    before = time.time()
    token = mint(server, tmp_path, {"issues": "write"}, [REPO])
    (made,) = server.work_tokens.tokens
    assert (made.token, made.permissions, made.repositories) == (token.token, {"issues": "write"}, [REPO])
    assert before + LIFE_S - 5 <= token.expires_at <= time.time() + LIFE_S
    assert token.token not in repr(token)
    revoke(server, token.token)
    assert made.revoked
    revoke(server, token.token)  # GitHub knows it no more, which is as good
    assert server.asked[-2:] == ["DELETE /installation/token"] * 2


def test_all_repositories_are_asked_for_by_naming_none(server: GithubLog, tmp_path: Path) -> None:
    mint(server, tmp_path)
    assert server.work_tokens.tokens[0].repositories is None


@pytest.mark.parametrize(
    ("installation", "permissions", "repositories", "words", "hint"),
    [
        (None, {"issues": "write"}, [REPO], "no installation 4711", "uninstalled"),
        (Installation(suspended=True), {"issues": "write"}, [REPO], "no token of installation 4711 (403)", "suspended"),
        (
            Installation(),
            {"checks": "write"},
            [REPO],
            "not granted the App what the route asks for (checks: write)",
            "accept",
        ),
        (Installation(), {"issues": "admin"}, [REPO], "not granted", "accept"),
        (Installation(), {"issues": "write"}, [5], "has no such repository", "Repository access"),
    ],
)
def test_a_refusal_is_final_and_says_what_to_do(
    server: GithubLog, tmp_path: Path, installation, permissions, repositories, words: str, hint: str
) -> None:
    server.work_tokens.installations = {} if installation is None else {ID: installation}
    with pytest.raises(GithubRefused) as found:
        mint(server, tmp_path, permissions, repositories)
    assert words in str(found.value) and hint in found.value.hint
    assert not server.work_tokens.tokens


def answer(token: str, expires_at: str = "2026-12-01T00:00:00Z") -> Fault:
    return Fault(201, body=json.dumps({"token": token, "expires_at": expires_at}).encode(), on="access_tokens")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(502, on="access_tokens"), OutgoingFailed),
        (Fault(truncated=True, on="access_tokens"), OutgoingFailed),
        (Fault(403, {"Retry-After": "30"}, on="access_tokens"), GithubLimited),
        (Fault(429, on="access_tokens"), GithubLimited),
        (Fault(401, on="access_tokens"), GithubRefused),
        (Fault(302, {"Location": "https://elsewhere.example/"}, on="access_tokens"), GithubRefused),
        (Fault(201, body=b"[]", on="access_tokens"), GithubAnswerUnreadable),
        (Fault(201, body=b"[" * 100_000, on="access_tokens"), GithubAnswerUnreadable),
        (answer("short"), GithubAnswerUnreadable),
        (answer("x" * 5000), GithubAnswerUnreadable),
        (answer("ghs_0123456789012345678901", "soon"), GithubAnswerUnreadable),
        (answer("ghs_0123456789012345678901", "2026-12-01T00:00:00"), GithubAnswerUnreadable),
        (answer("ghs_0123456789012345678901\r\nX-Evil: 1"), GithubAnswerUnreadable),
    ],
)
def test_what_is_no_token_is_none(server: GithubLog, tmp_path: Path, fault: Fault, kind: type[CovenqError]) -> None:
    server.faults.append(fault)
    with pytest.raises(kind) as found:
        mint(server, tmp_path)
    assert "ghs_" not in str(found.value) and "Evil" not in str(found.value)


def test_where_nothing_listens_nothing_was_asked(server: GithubLog, tmp_path: Path) -> None:
    app = app_of(server, tmp_path)
    server.shutdown()
    server.server_close()
    api = api_of(app, {}, time.time)
    with pytest.raises(OutgoingFailed) as found:
        installation_token.mint(api, ID, {"issues": "write"}, None, time.time)
    assert not found.value.sent


@pytest.mark.parametrize("ahead", [-300.0, 50.0])
def test_an_hour_is_an_hour_whatever_this_clock_says(server: GithubLog, tmp_path: Path, ahead: float) -> None:
    """Of the two clocks GitHub's counts for the token, and this one's for who renews it."""

    def clock() -> float:
        return time.time() + ahead

    api = api_of(app_of(server, tmp_path), {}, clock)
    before = clock()
    token = installation_token.mint(api, ID, {"issues": "write"}, None, clock)
    api.close()
    assert before + LIFE_S - 3 <= token.expires_at <= clock() + LIFE_S + 3


@pytest.mark.parametrize(("life_s", "kept_s"), [(-7200.0, 0.0), (1e6, LIFE_S + LATE_S)])
def test_no_answer_makes_a_token_good_for_longer_than_an_hour(
    server: GithubLog, tmp_path: Path, life_s: float, kept_s: float
) -> None:
    server.work_tokens.life_s = life_s
    before = time.time()
    token = mint(server, tmp_path)
    assert before + kept_s <= token.expires_at <= time.time() + kept_s


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_revocation_that_is_not_confirmed_is_an_error(server: GithubLog, tmp_path: Path, status: int) -> None:
    token = mint(server, tmp_path)
    server.faults.append(Fault(status, method="DELETE"))
    with pytest.raises((GithubRefused, OutgoingFailed)):
        revoke(server, token.token)
    assert not server.work_tokens.tokens[0].revoked
