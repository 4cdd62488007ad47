"""A token for one installation: each operation in the table answers each id of another's as it answers one that never was.

Over both engines: `pytest --engine postgres` has the journal in a database. The tenants are `MINE` and `THEIRS`; what is theirs
has a mark in it where it is free to have one, so that a leak is found by reading answers from end to end.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from covenq.config.api_tokens import create
from covenq.http.guard import _is_scoped
from covenq.http.openapi.operation import Operation
from covenq.http.openapi.operations import OPERATIONS
from covenq.intake import read_log
from covenq.model import task_subject
from covenq.model.token_scope import Scope
from journal.records import Appended, Entry
from tests.support.requests import Answer, ask, encode, issue, new_guid, repository_number
from tests.support.serving import Served, serving

MINE, THEIRS, NEVER = 5111, 6222, 7333
MARK = "zzforeign"
ROUTES = [
    {"name": "pulled", "match": "event:issues", "pull": True},
    {"name": "own", "match": "event:issue_comment", "run": ["true"]},
]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")


@dataclass(frozen=True)
class Ids:
    """All by which something of a tenant is named; each text is as long as the other tenants'."""

    hook: str
    guid: str
    shared: str
    """A GUID that two hooks have."""
    task: str
    ended: str
    """A task that completed, with outputs and a result."""
    fence: str
    repo: str
    number: int
    installation: int
    seq: int


@dataclass(frozen=True)
class Tenants:
    served: Served
    mine: Ids
    theirs: Ids
    never: Ids
    both: str
    """A GUID that a hook of mine and one of theirs have."""
    tokens: Mapping[str, str]
    """By role."""

    def ask(self, token: str, method: str, path: str, body: object = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.served.remote_port, timeout=30)
        headers = {"Authorization": f"Bearer {self.tokens[token]}", "Content-Type": "application/json"}
        try:
            return ask(connection, method, path, None if body is None else encode(body), headers)
        finally:
            connection.close()


def comment(number: int, repo: str, installation: int) -> dict[str, Any]:
    return issue(number, repo=repo, installation={"id": installation}, comment={"id": 1, "body": "work"})


def fill(served: Served, installation: int, hook: str, repo: str, number: int) -> Ids:
    """A tenant with a waiting task, a claimed one, a completed one, an ignored delivery, and a GUID that two hooks have."""
    at = {"repo": repo, "installation": {"id": installation}}

    def post(event: str, payload: dict[str, Any], on: str = hook, guid: str | None = None) -> tuple[str, str]:
        guid = guid or new_guid()
        said = served.post(event, payload, guid, on)
        assert said.status == 202, said.body
        return guid, (said.json.get("tasks") or [""])[0]

    guid, task = post("issue_comment", comment(number, repo, installation))
    post("issues", issue(number, **at))
    claimed = served.ask("/api/v1/claims", {"worker": f"w-{installation}", "lease_s": 600}).json
    post("issues", issue(number + 1, **at))
    ended = served.ask("/api/v1/claims", {"worker": f"w-{installation}", "lease_s": 600}).json
    done = {"fence": ended["fence"], "result": {"said": repo}, "stdout": f"out {repo}", "stderr": f"err {repo}"}
    assert served.ask(f"/api/v1/claims/{ended['task']['id']}/complete", done).status == 200
    post("star", {"action": "created", **issue(number, **at), "issue": None})
    shared, _ = post("issue_comment", comment(number, repo, installation))
    post("issue_comment", comment(number, repo, installation), f"{hook}9", shared)
    seq = served.ask(f"/api/v1/tasks/{task}").json["created_seq"]
    done_task, held = ended["task"]["id"], claimed["fence"]
    assert {one["task"]["installation"] for one in (claimed, ended)} == {installation}
    return Ids(hook, guid, shared, claimed["task"]["id"], done_task, held, repo, number, installation, seq)


@contextmanager
def tenants_in(data: Path) -> Iterator[Tenants]:
    with serving(data, {"api": {"page": True}, "route": ROUTES}) as served:
        mine = fill(served, MINE, "11", "octo/mine-hello1", 41)
        theirs = fill(served, THEIRS, "22", f"octo/{MARK}-1", 51)
        both = new_guid()
        for hook, ids in ((theirs.hook, theirs), (mine.hook, mine)):
            waiting = issue(ids.number + 2, repo=ids.repo, installation={"id": ids.installation})
            served.post("issues", waiting, hook=hook)
            served.post("issue_comment", comment(ids.number, ids.repo, ids.installation), both, hook)
        served.ask("/api/v1/pause", {"what": "installation", "name": str(THEIRS), "reason": MARK})
        served.ask("/api/v1/pause", {"what": "repo", "name": theirs.repo, "reason": MARK})
        fence = "9" * len(theirs.fence)
        made_up, ended = "t" + "0f" * 12, "t" + "0e" * 12
        never = Ids("33", new_guid(), new_guid(), made_up, ended, fence, "octo/neverwas-01", 61, NEVER, 1)
        assert len(never.repo) == len(theirs.repo)
        tokens = {}
        for role in ("read", "operate", "worker"):
            tokens[role] = create(served.data / "tokens.json", f"mine-{role}", role, Scope((MINE,)))
            tokens[f"all-{role}"] = create(served.data / "tokens.json", f"all-{role}", role)
        yield Tenants(served, mine, theirs, never, both, tokens)


@pytest.fixture(scope="module")
def tenants(journal_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    """What the tests of this fixture do moves nothing of anybody's."""
    with tenants_in(tmp_path_factory.mktemp("tenants")) as found:
        yield found


Request = tuple[str, object]
"""A path with its query, and a body, None without one."""
Requests = Callable[[Ids], list[Request]]


def _filters(path: str) -> Requests:
    def requests(ids: Ids) -> list[Request]:
        terms = (
            f"guid:{ids.guid}", f"repo:{ids.repo}", f"number:{ids.number}", f"installation:{ids.installation}",
            f"owner:octo repo:{ids.repo}", f"hook:{ids.hook}", f"repo_id:{repository_number(ids.repo)}", f"id:{ids.task}",
            f'payload.repository.full_name:"{ids.repo}"', f"-repo:octo/mine-hello1 number:{ids.number}",
        )  # fmt: skip
        glue = "&" if "?" in path else "?"
        return [(f"{path}{glue}filter={quote(term)}", None) for term in terms]

    return requests


def _selections(path: str, *, of: str) -> Requests:
    """An action on ids and on filters, planned and done."""

    def requests(ids: Ids) -> list[Request]:
        named = [ids.task, ids.ended] if of == "tasks" else [ids.guid, f"{ids.hook}/{ids.guid}", ids.shared]
        other = [ids.guid, ids.shared] if of == "tasks" else [ids.task]
        bodies: list[dict[str, object]] = [
            {"ids": [one], "dry_run": dry} for one in (*named, *other) for dry in (True, False)
        ]
        bodies += [{"filter": f"repo:{ids.repo}", "dry_run": dry} for dry in (True, False)]
        bodies += [{"filter": f"guid:{ids.guid}", "dry_run": True, "limit": 5}]
        return [(path, body) for body in bodies]

    return requests


def _pauses(path: str) -> Requests:
    def requests(ids: Ids) -> list[Request]:
        named = [("installation", str(ids.installation)), ("repo", ids.repo), ("worker", None), ("route", "own")]
        return [(path, {"what": what, "name": name, "dry_run": dry}) for what, name in named for dry in (True, False)]

    return requests


def _report(action: str, more: Mapping[str, object]) -> Requests:
    return lambda ids: [
        (f"/api/v1/claims/{task}/{action}", {"fence": fence, **more})
        for task in (ids.task, ids.ended)
        for fence in (ids.fence, "x.1")
    ]


def _log(stream: str) -> Requests:
    return lambda ids: [
        (f"/api/v1/tasks/{task}/attempts/{attempt}/{stream}{query}", None)
        for task in (ids.task, ids.ended)
        for attempt in (1, 2)
        for query in ("", "?offset=0", "?last=4")
    ]


LISTS = ("/api/v1/deliveries", "/api/v1/tasks", "/api/v1/attempts")
REQUESTS: dict[tuple[str, str], Requests] = {
    **{("GET", path): _filters(path) for path in LISTS},
    ("GET", "/api/v1/count"): lambda ids: [
        one
        for what in ("deliveries", "tasks", "attempts")
        for one in _filters(f"/api/v1/count?what={what}")(ids)
        if "payload" not in one[0]
    ],
    ("GET", "/api/v1/stats"): lambda ids: [one for one in _filters("/api/v1/stats")(ids) if "payload" not in one[0]],
    ("GET", "/api/v1/usage"): lambda ids: [
        (f"/api/v1/usage?month=all&filter={quote(term)}", None)
        for term in (f"repo:{ids.repo}", f"installation:{ids.installation}", f"repo_id:{repository_number(ids.repo)}")
    ],
    ("GET", "/api/v1/tail"): _filters("/api/v1/tail?after=0"),
    ("GET", "/api/v1/deliveries/{one}"): lambda ids: [
        (f"/api/v1/deliveries/{one}", None) for one in (ids.guid, ids.shared)
    ],
    ("GET", "/api/v1/deliveries/{one}/{two}"): lambda ids: [
        (f"/api/v1/deliveries/{hook}/{one}", None) for hook in (ids.hook, "11") for one in (ids.guid, ids.shared)
    ],
    ("GET", "/api/v1/deliveries/{one}/payload"): lambda ids: [
        (f"/api/v1/deliveries/{one}/payload{query}", None)
        for one in (ids.guid, ids.shared)
        for query in ("", "?decoded=1")
    ],
    ("GET", "/api/v1/deliveries/{one}/{two}/payload"): lambda ids: [
        (f"/api/v1/deliveries/{ids.hook}/{one}/payload", None) for one in (ids.guid, ids.shared)
    ],
    ("GET", "/api/v1/tasks/{id}"): lambda ids: [(f"/api/v1/tasks/{one}", None) for one in (ids.task, ids.ended)],
    ("GET", "/api/v1/tasks/{id}/attempts"): lambda ids: [
        (f"/api/v1/tasks/{one}/attempts", None) for one in (ids.task, ids.ended)
    ],
    **{
        ("GET", f"/api/v1/tasks/{{id}}/attempts/{{attempt}}/{one}"): _log(one) for one in ("stdout", "stderr", "result")
    },
    ("GET", "/api/v1/why"): lambda ids: [
        (f"/api/v1/why?id={quote(one)}", None)
        for one in (
            ids.guid,
            ids.shared,
            f"{ids.hook}/{ids.guid}",
            ids.task,
            ids.ended,
            f"{ids.repo}#{ids.number}",
            f"https://github.com/{ids.repo}/issues/{ids.number}",
        )
    ],
    ("GET", "/api/v1/pauses"): lambda ids: [("/api/v1/pauses", None)],
    ("GET", "/api/github/tasks"): lambda ids: [("/api/github/tasks", None), ("/api/github/tasks?limit=2", None)],
    ("GET", "/api/github/usage"): lambda ids: [("/api/github/usage", None)],
    ("GET", "/api/github/audit"): lambda ids: [("/api/github/audit", None)],
    ("GET", "/api/github/routing"): lambda ids: [(f"/api/github/routing?installation_id={ids.installation}", None)],
    ("POST", "/api/v1/replay"): lambda ids: [
        *_selections("/api/v1/replay", of="deliveries")(ids),
        ("/api/v1/replay", {"ids": [ids.guid], "force": True}),
        ("/api/v1/replay", {"ids": [ids.guid], "to": "https://example.org/x"}),
        ("/api/v1/replay", {"ids": [ids.guid], "route": "own", "force": True}),
    ],
    ("POST", "/api/v1/reroute"): _selections("/api/v1/reroute", of="deliveries"),
    ("POST", "/api/v1/requeue"): _selections("/api/v1/requeue", of="tasks"),
    ("POST", "/api/v1/cancel"): _selections("/api/v1/cancel", of="tasks"),
    ("POST", "/api/v1/pause"): _pauses("/api/v1/pause"),
    ("POST", "/api/v1/resume"): _pauses("/api/v1/resume"),
    ("POST", "/api/v1/claims"): lambda ids: [
        ("/api/v1/claims", {"worker": "w", "routes": [f"r{ids.installation}"]}),
        ("/api/v1/claims", {"worker": "w", "routes": ["own"], "node": "n"}),
    ],
    ("POST", "/api/v1/claims/completed"): lambda ids: [
        ("/api/v1/claims/completed", {"done": [{"task": task, "fence": fence}]})
        for task in (ids.task, ids.ended)
        for fence in (ids.fence, "x.1")
    ],
    ("POST", "/api/v1/claims/{task}/renew"): _report("renew", {"lease_s": 60}),
    ("POST", "/api/v1/claims/{task}/phase"): _report("phase", {"phase": "x"}),
    ("POST", "/api/v1/claims/{task}/complete"): _report("complete", {"result": 1, "stdout": "x"}),
    ("POST", "/api/v1/claims/{task}/token"): _report("token", {}),
    ("POST", "/api/v1/claims/{task}/fail"): _report("fail", {"detail": "x"}),
    ("GET", "/api/v1/events"): lambda ids: [],
}
"""What is asked of each operation that respects a scope. The stream is read in a test of its own."""


def role_of(operation: Operation) -> str:
    return "worker" if operation.access == "worker" else "operate" if operation.access == "operate" else "read"


def told(answer: Answer, ids: Ids) -> tuple[int, dict[str, str], bytes]:
    """An answer with the names of what was asked for, and the time, taken out."""
    body = TIME.sub("<time>", answer.body.decode())
    for name, value in {**asdict(ids), "repo_id": repository_number(ids.repo)}.items():
        if name != "seq":
            body = re.sub(rf"\b{re.escape(str(value))}\b", f"<{name}>", body)
    headers = {name: one for name, one in answer.headers.items() if name not in ("date", "content-length")}
    return answer.status, headers, body.encode()


def recorded(tenants: Tenants) -> list[int]:
    return [one.seq for one in tenants.served.journal.read(0, payloads=False) if one.kind != "journal.synced"]


# ---- the table


def test_every_operation_says_what_a_scope_means_for_it() -> None:
    silent = [f"{one.method} {one.path}" for one in OPERATIONS if one.scoped is None]
    assert not silent, "say in covenq/http/openapi/operations.py what a token with a scope gets: scoped="
    asked = {(one.method, one.path) for one in OPERATIONS if one.scoped in ("filter", "one")}
    assert asked == set(REQUESTS), "add what has to be asked of it to REQUESTS"
    assert {one.path for one in OPERATIONS if one.scoped == "open"} == {
        one.path for one in OPERATIONS if one.access == "open"
    }


def test_what_says_nothing_of_scopes_is_closed_to_them() -> None:
    (known,) = [one for one in OPERATIONS if one.path == "/api/v1/tasks"]
    assert _is_scoped(known, "GET")
    assert not _is_scoped(replace(known, scoped=None), "GET")
    assert not _is_scoped(None, "GET")


@pytest.mark.parametrize(
    "operation",
    [one for one in OPERATIONS if one.scoped in ("filter", "one")],
    ids=lambda one: f"{one.method} {one.path}",
)
def test_what_is_theirs_is_answered_as_what_never_was(tenants: Tenants, operation: Operation) -> None:
    role = role_of(operation)
    before = recorded(tenants)
    of_theirs, of_never = (REQUESTS[operation.method, operation.path](ids) for ids in (tenants.theirs, tenants.never))
    for (path, body), (other_path, other_body) in zip(of_theirs, of_never, strict=True):
        found = tenants.ask(role, operation.method, path, body)
        other = tenants.ask(role, operation.method, other_path, other_body)
        assert told(found, tenants.theirs) == told(other, tenants.never), (path, body)
        assert len(found.body) == len(other.body), (path, body)
        assert found.status != 500 and MARK.encode() not in found.body.replace(tenants.theirs.repo.encode(), b""), path
        if operation.method == "GET":
            heads = [tenants.ask(role, "HEAD", one) for one in (path, other_path)]
            assert told(heads[0], tenants.theirs) == told(heads[1], tenants.never)
    assert recorded(tenants) == before, "nothing was recorded of what isn't in scope"


@pytest.mark.parametrize(
    "operation", [one for one in OPERATIONS if one.scoped == "never"], ids=lambda one: f"{one.method} {one.path}"
)
def test_what_is_the_whole_machines_is_closed(tenants: Tenants, operation: Operation) -> None:
    answer = tenants.ask(
        role_of(operation), operation.method, operation.path, None if operation.method == "GET" else {}
    )
    assert (answer.status, answer.json["error"]) == (403, "scope_insufficient")
    assert MARK not in answer.body.decode()


def test_the_same_requests_show_what_is_theirs_to_who_may_see_it(tenants: Tenants) -> None:
    """So the comparison above can fail: for a token without a scope it would, for each of these."""
    shown = set()
    for (method, path), requests in REQUESTS.items():
        if method == "GET":
            for (asked, _), (other, _) in zip(requests(tenants.theirs), requests(tenants.never), strict=True):
                found, absent = tenants.ask("all-read", "GET", asked), tenants.ask("all-read", "GET", other)
                if told(found, tenants.theirs) != told(absent, tenants.never):
                    shown.add(path)
    assert shown == {path for method, path in REQUESTS if method == "GET"} - {
        "/api/v1/events",
        "/api/github/routing",  # which says of an installation that never was what the configuration says of all
    }


def test_what_is_mine_is_shown_whole_and_nothing_else(tenants: Tenants) -> None:
    mine, theirs = tenants.mine, tenants.theirs
    secret = {
        theirs.guid,
        theirs.shared,
        theirs.task,
        theirs.ended,
        theirs.fence,
        theirs.repo,
        MARK,
        str(THEIRS),
        "7333",
    }
    for (method, path), requests in REQUESTS.items():
        asked = [one for one, _ in requests(mine)] if method == "GET" else []
        for one in (
            *asked,
            *({path} & {*LISTS, "/api/v1/stats", "/api/v1/count", "/api/v1/pauses"}),
            "/api/v1/tail?after=0",
        ):
            if path == "/api/v1/events":
                continue
            answer = tenants.ask("read", "GET", one)
            assert answer.status in (200, 400, 404, 409), (one, answer.body)
            assert not [word for word in secret if word in answer.body.decode()], one
            if answer.status == 200 and path.endswith(("/{one}", "/{two}")) and "?" not in one:
                assert answer.json["installation"] == MINE
    sums = tenants.ask("read", "GET", "/api/v1/usage?month=all").json
    assert sums == tenants.ask("all-read", "GET", f"/api/v1/usage?month=all&filter=installation:{MINE}").json
    assert sums["total"]["accepted"] and not [word for word in secret if word in json.dumps(sums)]
    for path in LISTS:
        whole = tenants.ask("all-read", "GET", f"{path}?limit=0").json["items"]
        own = tenants.ask("read", "GET", f"{path}?limit=0").json["items"]
        wanted = [one for one in whole if one.get("repo") == mine.repo]
        for one in (*own, *wanted):
            one.pop("waits", None)
        assert own == wanted and own and len(own) < len(whole)
    assert (
        tenants.ask("read", "GET", f"/api/v1/tasks/{mine.ended}/attempts/1/stdout").body == f"out {mine.repo}".encode()
    )


def test_of_a_guid_that_both_have_mine_alone_is_there(tenants: Tenants) -> None:
    assert tenants.ask("all-read", "GET", f"/api/v1/deliveries/{tenants.both}").status == 409
    for path in (f"/api/v1/deliveries/{tenants.both}", f"/api/v1/deliveries/11/{tenants.both}"):
        assert tenants.ask("read", "GET", path).json["hook"] == tenants.mine.hook
    assert tenants.ask("read", "GET", f"/api/v1/why?id={tenants.both}").json["stories"][0]["delivery"]["hook"] == "11"
    assert tenants.ask("read", "GET", f"/api/v1/deliveries/22/{tenants.both}").status == 404


def test_a_cursor_is_a_place_in_my_list_alone(tenants: Tenants) -> None:
    for path in LISTS:
        whole = tenants.ask("read", "GET", f"{path}?limit=0").json["items"]
        found: list[Any] = []
        after = ""
        while after is not None:
            page = tenants.ask("read", "GET", f"{path}?limit=2&after={after}").json
            found += page["items"]
            after = page["next"]
        assert found == whole
        # A cursor of another token's list is a number: what it leads to is what any number there would.
        theirs = tenants.theirs.seq
        near = [tenants.ask("read", "GET", f"{path}?limit=0&after={seq}").body for seq in (theirs, theirs + 1)]
        assert near[0] == near[1]


def test_a_stream_has_the_records_of_mine_alone(tenants: Tenants) -> None:
    deliveries, tasks = (tenants.ask("read", "GET", f"{path}?limit=0").json["items"] for path in LISTS[:2])
    own = {f"delivery.{one['hook']}.{one['guid']}" for one in deliveries} | {f"task.{one['id']}" for one in tasks}
    subjects: set[str] = set()
    connection = http.client.HTTPConnection("127.0.0.1", tenants.served.remote_port, timeout=60)
    headers = {"Authorization": f"Bearer {tenants.tokens['read']}"}
    connection.request("GET", "/api/v1/events?after=0", headers=headers)
    response = connection.getresponse()
    while not subjects >= own:
        line = response.readline().decode()
        assert line, "the stream ended"
        if line.startswith("data:"):
            subjects.add(json.loads(line[5:])["subject"])
    response.close()
    connection.close()
    assert subjects == own


# ---- what moves something


@pytest.fixture
def alone(data: Path) -> Iterator[Tenants]:
    with tenants_in(data) as found:
        yield found


def states(tenants: Tenants, repo: str) -> dict[str, str]:
    found = tenants.served.ask(f"/api/v1/tasks?limit=0&filter=repo:{repo}").json["items"]
    return {one["id"]: one["state"] for one in found}


def test_actions_count_and_touch_mine_alone_and_say_whose_token_it_was(alone: Tenants) -> None:
    before = states(alone, alone.theirs.repo)
    planned = alone.ask("operate", "POST", "/api/v1/cancel", {"filter": "", "dry_run": True}).json
    own = states(alone, alone.mine.repo)
    assert set(planned["eligible"]) | {one["id"] for one in planned["skipped"]} == set(own)
    done = alone.ask("operate", "POST", "/api/v1/cancel", {"filter": "", "by": "mona", "reason": "enough"}).json
    assert {one["id"] for one in done["done"]} == {id for id, state in own.items() if state in ("queued", "running")}
    assert states(alone, alone.theirs.repo) == before
    record = alone.served.journal.last(task_subject(done["done"][0]["id"]))
    assert record.kind == "task.cancelled" and record.data["by"] == "token:mine-operate (mona)"
    again = alone.ask("operate", "POST", "/api/v1/requeue", {"filter": ""}).json
    assert {one["id"] for one in again["done"]} == {one["id"] for one in done["done"]}
    replayed = alone.ask("operate", "POST", "/api/v1/replay", {"filter": "", "force": True}).json
    rerouted = alone.ask("operate", "POST", "/api/v1/reroute", {"filter": ""}).json
    hooks = {
        one["id"].partition("/")[0] for answer in (replayed, rerouted) for one in (*answer["done"], *answer["skipped"])
    }
    assert hooks == {"11", "119"}
    assert states(alone, alone.theirs.repo) == before


def test_one_pauses_what_is_ones_own(alone: Tenants) -> None:
    for what, name in (("installation", str(MINE)), ("repo", alone.mine.repo)):
        said = alone.ask("operate", "POST", "/api/v1/pause", {"what": what, "name": name})
        assert said.status == 200 and said.json["changed"], said.body
    shown = alone.ask("read", "GET", "/api/v1/pauses").json["items"]
    assert [(one["what"], one["name"]) for one in shown] == [
        ("installation", str(MINE)),
        ("repo", str(repository_number(alone.mine.repo))),
    ]
    assert len(alone.served.ask("/api/v1/pauses").json["items"]) == 4
    # What whoever runs the machine paused is not the tenant's to end.
    for what, name in (("installation", str(MINE)), ("repo", alone.mine.repo)):
        assert alone.ask("operate", "POST", "/api/v1/resume", {"what": what, "name": name}).json["changed"]
        alone.served.ask("/api/v1/pause", {"what": what, "name": name, "by": "ops", "reason": "unpaid"})
        said = alone.ask("operate", "POST", "/api/v1/resume", {"what": what, "name": name})
        assert (said.status, said.json["error"]) == (403, "scope_insufficient") and "paused by ops" in said.json[
            "detail"
        ]
    # The repository goes to another installation: it is that one's to pause, and to resume.
    moved = comment(1, alone.mine.repo, THEIRS)
    assert alone.served.post("issue_comment", moved, hook="22").status == 202
    for operation in ("pause", "resume"):
        said = alone.ask("operate", "POST", f"/api/v1/{operation}", {"what": "repo", "name": alone.mine.repo})
        assert said.status == 404
    assert len(alone.ask("read", "GET", "/api/v1/pauses").json["items"]) == 1


def test_a_worker_gets_tasks_of_its_scope_alone(alone: Tenants) -> None:
    claim = {"worker": "w", "max": 64, "lease_s": 600}
    first = alone.ask("worker", "POST", "/api/v1/claims", claim)
    assert first.status == 200
    got = [first.json, *first.json["more"]]
    assert {one["task"]["installation"] for one in got} == {MINE} and len(got) == 1
    assert alone.ask("worker", "POST", "/api/v1/claims", claim).status == 204
    left = alone.ask("all-worker", "POST", "/api/v1/claims", {"worker": "w"})
    assert left.status == 204, "theirs are paused"
    url, fence = got[0]["payload_url"], got[0]["fence"]
    assert alone.ask("worker", "GET", url).status == 200
    for action, more in (("renew", {}), ("phase", {"phase": "x"}), ("fail", {"detail": "x"})):
        path = f"/api/v1/claims/{got[0]['task']['id']}/{action}"
        assert alone.ask("worker", "POST", path, {"fence": fence, **more}).status == 200, action
    done = {
        "done": [
            {"task": alone.mine.task, "fence": alone.mine.fence},
            {"task": alone.theirs.task, "fence": alone.theirs.fence},
        ]
    }
    said = alone.ask("worker", "POST", "/api/v1/claims/completed", done).json["items"]
    assert [(one["ok"], one.get("error")) for one in said] == [(True, None), (False, "not_found")]
    assert alone.served.ask(f"/api/v1/tasks/{alone.theirs.task}").json["state"] == "running"


def test_a_worker_that_waits_gets_mine_and_lets_theirs_be(alone: Tenants) -> None:
    alone.served.ask("/api/v1/resume", {"what": "installation", "name": str(THEIRS)})
    alone.served.ask("/api/v1/resume", {"what": "repo", "name": alone.theirs.repo})
    assert alone.ask("worker", "POST", "/api/v1/claims", {"worker": "w", "max": 64}).status == 200
    scoped = Scope((THEIRS,), (repository_number("octo/other"),))
    narrow = create(alone.served.data / "tokens.json", "narrow", "worker", scoped)
    others = replace(alone, tokens={**alone.tokens, "narrow": narrow})
    assert others.ask("narrow", "POST", "/api/v1/claims", {"worker": "w"}).status == 204
    alone.served.post("issues", issue(1, repo="octo/other", installation={"id": THEIRS}), hook="22")
    found = others.ask("narrow", "POST", "/api/v1/claims", {"worker": "w", "max": 64, "wait_s": 20}).json
    assert [one["task"]["repo"] for one in (found, *found["more"])] == ["octo/other"]


def test_what_superseded_mine_is_not_named_where_it_is_theirs(alone: Tenants) -> None:
    mine = next(id for id, state in states(alone, alone.mine.repo).items() if state == "queued")
    newest = alone.served.journal.last(task_subject(mine))
    entry = Entry(
        task_subject(mine),
        "task.superseded",
        {"by_task": alone.theirs.task, "reason": "a newer one"},
        expect=newest.seq,
    )
    assert isinstance(alone.served.journal.append([entry]), Appended)
    assert alone.served.ask(f"/api/v1/tasks/{mine}").json["superseded_by"] == alone.theirs.task
    for path in (
        f"tasks/{mine}",
        "tasks",
        f"why?id={mine}",
        "tail?after=0",
        f"tasks?filter=superseded_by:{alone.theirs.task}",
    ):
        assert alone.theirs.task not in alone.ask("read", "GET", f"/api/v1/{path}").body.decode().replace(
            f"filter=superseded_by:{alone.theirs.task}", ""
        ), path
    row = alone.ask("read", "GET", f"/api/v1/tasks/{mine}").json
    assert (row["state"], row["superseded_by"], row["detail"]) == ("superseded", None, None)
    delivery = alone.ask("read", "GET", f"/api/v1/deliveries/{row['hook']}/{row['guid']}").json
    assert (delivery["state"], delivery["detail"]) == ("superseded", None)
    # One that is superseded by another of mine says by which.
    own = alone.mine.task
    last = alone.served.journal.last(task_subject(own)).seq
    entry = Entry(task_subject(own), "task.superseded", {"by_task": alone.mine.ended, "reason": "newer"}, expect=last)
    assert isinstance(alone.served.journal.append([entry]), Appended)
    row = alone.ask("read", "GET", f"/api/v1/tasks/{own}").json
    assert (row["superseded_by"], row["detail"]) == (alone.mine.ended, f"by task {alone.mine.ended}")
    for path in ("tail?after=0", f"why?id={own}", f"deliveries/{row['hook']}/{row['guid']}"):
        assert alone.mine.ended in alone.ask("read", "GET", f"/api/v1/{path}").body.decode(), path


def test_what_a_task_waits_for_is_told_by_its_own_row(alone: Tenants) -> None:
    own = next(id for id, state in states(alone, alone.mine.repo).items() if state == "queued")
    alone.served.ask("/api/v1/pause", {"what": "worker", "reason": MARK})
    waits = alone.ask("read", "GET", f"/api/v1/tasks/{own}").json["waits"]
    assert (waits["why"], waits["position"]) == ("ready, until its turn comes", None)
    assert MARK in alone.ask("all-read", "GET", f"/api/v1/tasks/{own}").json["waits"]["why"]


def test_a_repository_can_narrow_it(alone: Tenants) -> None:
    alone.served.post("issues", issue(1, repo="octo/second", installation={"id": MINE}), hook="11")
    scope = Scope((MINE,), (repository_number("octo/second"),))
    tokens = {**alone.tokens, "narrow": create(alone.served.data / "tokens.json", "narrow", "operate", scope)}
    narrow = replace(alone, tokens=tokens)
    for path in LISTS[:2]:
        assert {one["repo"] for one in narrow.ask("narrow", "GET", path).json["items"]} == {"octo/second"}
    assert narrow.ask("narrow", "GET", f"/api/v1/tasks/{alone.mine.task}").status == 404
    routing = [f"/api/github/routing?installation_id={one}" for one in (MINE, NEVER)]
    assert [narrow.ask("narrow", "GET", one).status for one in routing] == [404, 404]
    assert alone.ask("read", "GET", routing[0]).status == 200
    whole = narrow.ask("narrow", "POST", "/api/v1/pause", {"what": "installation", "name": str(MINE)})
    assert (whole.status, whole.json["error"]) == (403, "scope_insufficient")
    assert narrow.ask("narrow", "POST", "/api/v1/pause", {"what": "repo", "name": "octo/second"}).status == 200


def test_what_came_without_an_installation_is_in_no_scope(alone: Tenants) -> None:
    guid = new_guid()
    payload = issue(1, repo=alone.mine.repo)
    del payload["installation"]
    assert alone.served.post("issues", payload, guid, "11").status == 202
    assert alone.ask("read", "GET", f"/api/v1/deliveries/{guid}").status == 404
    assert alone.ask("all-read", "GET", f"/api/v1/deliveries/{guid}").status == 200


def test_what_is_asked_with_a_token_is_kept(alone: Tenants) -> None:
    for _ in range(3):
        alone.ask("read", "GET", "/api/v1/tasks?filter=repo:octo/mine-hello1")
    alone.ask("read", "GET", f"/api/v1/tasks/{alone.theirs.task}")
    alone.ask("read", "GET", "/api/v1/status")
    alone.ask("all-read", "GET", "/nothing-here")
    alone.served.routes.api.reads.flush()
    kept = list(read_log.by_minute(read_log.read(alone.served.data)))
    counts: dict[tuple[str, str | None, int, bool], int] = {}
    for one in kept:
        key = (one.token, one.path, one.status, one.installations == [MINE])
        counts[key] = counts.get(key, 0) + one.count
    assert counts == {
        ("mine-read", "/api/v1/tasks", 200, True): 3,
        ("mine-read", "/api/v1/tasks/{id}", 404, True): 1,
        ("mine-read", "/api/v1/status", 403, True): 1,
        ("all-read", None, 404, False): 1,
    }
    text = (alone.served.data / "reads.jsonl").read_text()
    assert alone.theirs.task not in text and "octo" not in text and "nothing-here" not in text
