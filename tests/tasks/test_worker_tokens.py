"""The tokens of pull workers: asked for by the fence, the same until it is old, revoked however the attempt ends."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from covenq.tasks.remote import work_token
from covenq.tasks.remote.client import ClaimGrant, ClaimsClient
from covenq.tasks.remote.options import WorkerOptions
from covenq.tasks.remote.work_token import WorkerTokens
from covenq.tasks.remote.worker import Worker
from tests.support.github_log import CLIENT_ID, Fault, GithubLog, github
from tests.support.github_tokens import Installation
from tests.support.journal_json import records
from tests.support.requests import issue, repository_number
from tests.support.serving import Served, serving
from tests.support.waiting import eventually

ID = 4711
ROUTE = {
    "name": "p",
    "match": "event:issues",
    "pull": True,
    "retry": {"max": 1, "backoff": "10ms", "cap": "10ms"},
    "token": {"permissions": {"issues": "write"}},
}


@pytest.fixture
def server() -> Iterator[GithubLog]:
    with github() as server:
        server.work_tokens.installations[ID] = Installation(repositories={repository_number("octo/hello")})
        yield server


@pytest.fixture
def served(request: pytest.FixtureRequest, server: GithubLog, data: Path, tmp_path: Path) -> Iterator[Served]:
    """With the keys of a route that the test adds (indirectly)."""
    key = tmp_path / "app.pem"
    key.write_bytes(server.private_key)
    app = {"client_id": CLIENT_ID, "private_key_file": str(key), "api_url": server.url}
    with serving(data, {"github": {"app": app}, "route": [{**ROUTE, **getattr(request, "param", {})}]}) as served:
        yield served


def post(served: Served, number: int = 7) -> str:
    task: str = served.post("issues", issue(number, installation={"id": ID})).json["tasks"][0]
    return task


def claim(served: Served) -> tuple[str, str]:
    found = served.ask("/api/v1/claims", {"worker": "w", "lease_s": 600}).json
    return f"/api/v1/claims/{found['task']['id']}", found["fence"]


def test_the_holder_of_the_claim_gets_it_and_nobody_else(served: Served, server: GithubLog) -> None:
    task = post(served)
    path, fence = claim(served)
    for wrong in ("x", fence + "1", "0" * 16 + ".1"):
        refused = served.ask(f"{path}/token", {"fence": wrong})
        assert (refused.status, refused.json["error"]) == (409, "stale_fence")
    assert not server.work_tokens.tokens
    first = served.ask(f"{path}/token", {"fence": fence})
    (made,) = server.work_tokens.tokens
    assert first.status == 200 and first.headers["cache-control"] == "no-store"
    assert first.json.keys() == {"ok", "token", "expires_at", "renew_after_s"}
    assert first.json["token"] == made.token and 2990 < first.json["renew_after_s"] <= 3000
    assert (made.permissions, made.repositories) == ({"issues": "write"}, [repository_number("octo/hello")])
    assert served.ask(f"{path}/token", {"fence": fence}).json["token"] == made.token, "an answer may have been lost"
    assert served.ask(f"{path}/complete", {"fence": fence}).status == 200
    eventually(lambda: made.revoked and not list((served.data / "github-tokens").iterdir()))
    assert served.ask(f"{path}/token", {"fence": fence}).json["error"] == "stale_fence"
    assert [one["data"]["state"] for one in records(served.data, "ops.token")] == ["asked", "minted", "revoked"]
    whole = b"".join(one.read_bytes() for one in served.data.rglob("*") if one.is_file())
    assert made.token.encode() not in whole and task.encode() in whole


@pytest.mark.parametrize("ends", ["fail", "cancel", "lease"])
def test_it_is_revoked_however_the_attempt_ends(served: Served, server: GithubLog, ends: str) -> None:
    task = post(served)
    path, fence = claim(served)
    assert served.ask(f"{path}/token", {"fence": fence}).status == 200
    (made,) = server.work_tokens.tokens
    if ends == "fail":
        assert served.ask(f"{path}/fail", {"fence": fence}).status == 200
    elif ends == "cancel":
        assert served.ask("/api/v1/cancel", {"ids": [task]}).status == 200
    else:
        served.routes.api.claims._leases._monotonic = lambda: time.monotonic() + 1000  # type: ignore[method-assign]
    eventually(lambda: made.revoked, what="it is revoked")


def test_a_route_without_one_gives_none_and_what_github_refuses_is_final(served: Served, server: GithubLog) -> None:
    server.work_tokens.installations[ID].suspended = True
    post(served)
    path, fence = claim(served)
    refused = served.ask(f"{path}/token", {"fence": fence})
    assert (refused.status, refused.json["error"]) == (409, "token_refused")
    assert "may be suspended" in refused.json["hint"]
    server.work_tokens.installations[ID].suspended = False
    server.faults.append(Fault(500, on="access_tokens"))
    later = served.ask(f"{path}/token", {"fence": fence})
    assert (later.status, later.json["error"]) == (503, "token_unavailable") and "retry-after" in later.headers
    assert served.ask(f"{path}/token", {"fence": fence}).status == 200
    assert served.ask("/api/v1/status").json["tokens"]["attempts"] == 1, "of the 500 it isn't known"


class Work:
    """A worker in a thread."""

    def __init__(self, served: Served, work: Path, run: tuple[str, ...]) -> None:
        work.mkdir()
        options = WorkerOptions("w1", run, lease_s=600.0, keep="all", environ={"PATH": os.environ["PATH"]})
        self.worker = Worker(lambda: ClaimsClient(served.socket), options, work)
        self.thread = threading.Thread(target=self.worker.run)

    def __enter__(self) -> Worker:
        self.thread.start()
        return self.worker

    def __exit__(self, *_: object) -> None:
        self.worker.stop()
        self.thread.join(60)


def state(served: Served, task: str) -> Callable[[], Any]:
    return lambda: served.ask(f"/api/v1/tasks/{task}").json["state"] in ("completed", "failed")


def test_a_worker_puts_it_into_a_file_of_its_own_and_masks_it(
    served: Served, server: GithubLog, tmp_path: Path
) -> None:
    server.work_tokens.make = lambda: "shape/of=tomorrow~" + "a1" * 200
    task = post(served)
    script = 'cat "$COVENQ_GITHUB_TOKEN_FILE"; echo; stat -c "%a %n" "$COVENQ_GITHUB_TOKEN_FILE"; pwd; env | grep -c tomorrow'
    with Work(served, tmp_path / "work", ("sh", "-c", script + "; true")):
        eventually(state(served, task))
    (made,) = server.work_tokens.tokens
    directory = tmp_path / "work" / "attempts" / task / "1"
    masked, mode, cwd, in_environment = (directory / "stdout").read_text().split("\n")[:4]
    assert masked == "***" and in_environment == "0"
    assert mode.startswith("600 ") and not mode.split()[1].startswith(cwd)
    eventually(lambda: made.revoked)
    left = [one for one in tmp_path.rglob("*") if one.is_file() and made.token.encode() in one.read_bytes()]
    assert not left


@pytest.mark.parametrize("served", [{"contract": "coven-headless/2"}], indirect=True)
def test_a_worker_gives_it_to_a_contract_s_command_in_its_environment_too(
    served: Served, server: GithubLog, tmp_path: Path
) -> None:
    task = post(served)
    said = '{"contract_version": "2", "status": "success", "summary": "x"}'
    script = (
        f'echo \'{said}\' > "$COVENQ_RESULT"; test "$COVEN_GIT_TOKEN" = "$(cat $COVENQ_GITHUB_TOKEN_FILE)" || exit 2'
    )
    with Work(served, tmp_path / "work", ("sh", "-c", script)):
        eventually(state(served, task))
    assert served.ask(f"/api/v1/tasks/{task}").json["result_status"] == "success"
    assert len(server.work_tokens.tokens) == 1


@pytest.mark.parametrize(("suspended", "attempts"), [(True, 1), (False, 2)])
def test_a_worker_reports_that_it_got_none(
    served: Served, server: GithubLog, tmp_path: Path, suspended: bool, attempts: int
) -> None:
    server.work_tokens.installations[ID].suspended = suspended
    if not suspended:
        server.faults.append(Fault(502, on="access_tokens"))
    task = post(served)
    with Work(served, tmp_path / "work", ("true",)):
        eventually(state(served, task))
    found = sorted(served.ask(f"/api/v1/tasks/{task}/attempts").json["items"], key=lambda one: one["attempt"])
    assert [one["category"] for one in found] == ["token", None][:attempts]


class FakeClient(ClaimsClient):
    """Answers with the tokens that it is given, in turn; then not at all."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.where, self.answers = "here", list(answers)

    def report(self, grant: ClaimGrant, action: str, **more: object) -> Any:
        if not self.answers:
            raise work_token.CovenqError("gone")
        return self.answers.pop(0)


def test_a_worker_renews_it_in_the_file_and_a_failure_leaves_the_old_one(tmp_path: Path) -> None:
    now = [100.0]
    tokens = WorkerTokens(tmp_path, lambda: now[0])
    grant = ClaimGrant({"id": "t1", "policy": {"token": {}}}, 1, "e.1", "", "")
    assert tokens.path_for(grant) is None, "a policy that says none"
    grant.task["policy"] = {"token": ROUTE["token"]}
    learnt: list[bytes] = []
    client = FakeClient({"token": "one", "renew_after_s": 50}, {"token": "two", "renew_after_s": 50})
    assert tokens.get(client, grant, learnt.append).outcome is None
    path = Path(tokens.path_for(grant) or "")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("one", 0o600)
    assert path.parent.parent == tmp_path
    tokens.renew(client, "t1")
    assert path.read_text() == "two" and learnt == [b"one", b"two"]
    tokens.renew(client, "t1")
    assert path.read_text() == "two"
    tokens.remove(grant)
    assert not path.exists()
    for hostile in (
        {"token": "a b", "renew_after_s": 1},
        {"token": "x" * 5000, "renew_after_s": 1},
        {"token": "ok"},
        {},
    ):
        outcome = tokens.get(FakeClient(hostile), grant, learnt.append).outcome
        assert outcome is not None and outcome.category == "token"
    path.write_text("left by an earlier one")
    WorkerTokens(tmp_path)
    assert not path.exists()
