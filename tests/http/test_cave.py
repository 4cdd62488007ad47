"""/api/github as CovenCave asks it: through real sockets by an independent reading of its client, and field by field."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon
import falcon.testing
import pytest

from covenq.config.api_tokens import create
from covenq.config.load import DEFAULT_API_BIND
from covenq.http.api.effective import EffectiveConfig
from covenq.http.api.github import CaveSources
from covenq.http.openapi.operations import OPERATIONS
from covenq.model.cave import STATUSES as WORDS
from covenq.model.cave import InstallationRouting, RepositoryTriggers, Triggers
from covenq.operate.inspect import cave
from covenq.state.changed_tasks import ChangedTask
from tests.support.cave_client import PATH, STATUSES, CaveClient, rows_of
from tests.support.checkout import ROOT
from tests.support.proxy import adding_proxy
from tests.support.records import moved, note, of, queued, received
from tests.support.requests import Answer, UnixConnection, ask, issue
from tests.support.scopes import Scope
from tests.support.serving import Served, serving

RUN = {"run": ["true"], "familiar": "cody"}
ROUTES = [
    {"name": "fix", "match": "event:issues", "purpose": "fix_issue", **RUN},
    {"name": "review", "match": "event:pull_request", "purpose": "review_pull_request", **RUN},
    {"name": "address", "match": "event:issue_comment", "purpose": "address_review_comment", **RUN},
    {"name": "build", "match": "event:push", "run": ["true"]},
]
FAMILIAR = {"id": "cody", "display_name": "Cody the Fixer", "bot_username": "coven-cody[bot]", "run": ["true"]}


@pytest.fixture
def served(data: Path) -> Iterator[Served]:
    with serving(data, {"route": ROUTES, "familiar": [FAMILIAR], "api": {}}) as served:
        yield served


def get(served: Served, path: str = PATH, **headers: str) -> Answer:
    """On the Unix socket."""
    connection = UnixConnection(served.socket, 30.0)
    try:
        return ask(connection, "GET", path, None, {name.replace("_", "-"): value for name, value in headers.items()})
    finally:
        connection.close()


def remote(served: Served, path: str, token: str | None) -> Answer:
    """On the listener of [api]."""
    connection = http.client.HTTPConnection("127.0.0.1", served.remote_port, timeout=30)
    try:
        return ask(connection, "GET", path, None, {} if token is None else {"Authorization": f"Bearer {token}"})
    finally:
        connection.close()


def pull(number: int) -> dict[str, Any]:
    """A pull request was opened."""
    payload = issue(number)
    del payload["issue"]
    head = {"sha": "1" * 40, "ref": "topic"}
    return {**payload, "number": number, "pull_request": {"number": number, "title": f"Change {number}", "head": head}}


def comment(number: int) -> dict[str, Any]:
    """A comment on a pull request."""
    payload = issue(number, action="created")
    payload["issue"]["pull_request"] = {"url": "https://api.github.com/x"}
    return {**payload, "comment": {"id": 1, "body": "@cody fix"}}


def make(served: Served, event: str, payload: Any, *steps: str) -> str:
    """A task, moved by these records."""
    (task,) = served.post(event, payload).json["tasks"]
    for number, kind in enumerate(steps):
        served.journal.append([moved(kind, task, attempt=1 + number // 2, worker="w", category="exit")])
    return str(task)


# ---- tasks

STATES: dict[tuple[str, ...], tuple[str, str | None]] = {
    (): ("queued", "running"),
    ("claimed",): ("running", "running"),
    ("claimed", "retry"): ("queued", "running"),
    ("claimed", "completed"): ("done", "done"),
    ("claimed", "failed"): ("failed", "failed"),
    ("cancelled",): ("cancelled", "failed"),
    ("superseded",): ("superseded", None),
    ("claimed", "failed", "requeued"): ("queued", "running"),
}
"""What a task went through: the word that is answered, and what the client shows; None: it drops the row."""


def test_the_client_shows_a_task_of_every_state_but_superseded(served: Served) -> None:
    made = {make(served, "issues", issue(n), *steps): steps for n, steps in enumerate(STATES, 1)}
    answered = {one["id"]: one["status"] for one in get(served).json["tasks"]}
    assert answered == {task: STATES[steps][0] for task, steps in made.items()}
    shown = {row.id: row.status for row in rows_of(get(served).json)}
    assert shown == {task: STATES[steps][1] for task, steps in made.items() if STATES[steps][1] is not None}


PROJECTION = [
    ("queued", None, None, "queued"),
    ("running", None, 9, "running"),
    ("superseded", None, 9, "superseded"),
    ("failed", "failure", None, "failed"),
    ("failed", "needs_input", 9, "failed"),
    ("cancelled", None, None, "cancelled"),
    ("completed", "needs_input", None, "review"),
    ("completed", "success", 9, "review"),
    ("completed", None, 9, "review"),
    ("completed", "success", None, "done"),
    ("completed", "partial", None, "done"),
    ("completed", None, None, "done"),
]
"""State, status of the result, pull request, and the word: as the reference projects them, but for cancelled."""


def test_states_are_projected_as_the_reference_does() -> None:
    assert [(*row[:3], cave.status_of(*row[:3])) for row in PROJECTION] == PROJECTION
    assert {row[3] for row in PROJECTION} == set(WORDS)
    assert set(WORDS) - set(STATUSES) == {"superseded"}, "what the client doesn't know, it drops"


FIELDS: dict[str, tuple[str, Any, Any]] = {
    # field: (type there, of an issue's task, of a pull request's)
    "id": ("string", "TASK", "TASK"),
    "repo": ("string", "octo/hello", "octo/hello"),  # here null, too: without a repository, or erased
    "issueNumber": ("number|null", 3, 9),  # there null for a pull request, whose rows its client drops
    "issueTitle": ("string", "Issue 3", "Review PR #9: Change 9"),
    "branch": ("string|null", None, "cody/9"),
    "prNumber": ("number|null", None, 12),
    "prUrl": ("string|null", None, "https://github.com/octo/hello/pull/12"),
    "status": ("string", "queued", "review"),
    "familiarId": ("string", "cody", "cody"),  # here null, too: of a route that names none
    "familiarName": ("string", "Cody the Fixer", "Cody the Fixer"),  # the id, where no familiar of it is configured
    "sessionId": ("string", "TASK", "TASK"),
    "updatedAt": ("string", "TIME", "TIME"),
    "checkRunUrl": ("string|null", None, None),
}
"""Each field of a task, beside the reference's."""


def test_each_field_of_a_task_is_the_references(served: Served) -> None:
    of_issue = make(served, "issues", issue(3))
    of_pull = make(served, "pull_request", pull(9), "claimed")
    ended = moved("completed", of_pull, attempt=1, result_status="success")._replace(about={"branch": "cody/9"})
    served.journal.append([moved("phase", of_pull, attempt=1, phase="published", pr=12), ended])
    answer = get(served)
    assert (answer.status, answer.json["ok"], answer.json["next"]) == (200, True, None)
    found = {one["id"]: one for one in answer.json["tasks"]}
    assert [row.id for row in rows_of(answer.json) if row.annotates] == [of_pull]
    for at, task in ((1, of_issue), (2, of_pull)):
        wanted = {name: row[at] for name, row in FIELDS.items()}
        wanted |= {"id": task, "sessionId": task}
        wanted["updatedAt"] = served.ask(f"/api/v1/tasks/{task}").json["updated_at"]
        assert found[task] == wanted and list(found[task]) == list(FIELDS)
    types = {"string": str, "number": int, "null": type(None)}
    for name, (there, *_) in FIELDS.items():
        for one in found.values():
            assert isinstance(one[name], tuple(types[word] for word in there.split("|"))), name


TITLES = [
    ("fix_issue", "issue", "It breaks", 7, "It breaks"),
    ("address_review_comment", "pull", "A change", 7, "Address review on PR #7"),
    ("review_pull_request", "pull", "A change", 7, "Review PR #7: A change"),
    ("review_pull_request", "pull", None, 7, "Review PR #7"),
    ("garden", "issue", "It breaks", 7, "Branch gardener run"),
    ("garden_run", None, None, None, "Branch gardener run"),
    ("cancel", "pull", "A change", 7, "Cancel queued reviews on PR #7"),
    ("cancel", "issue", "It breaks", 7, "Cancel on #7"),
    ("retry", "pull", "A change", 7, "Retry on #7"),
    ("respond_to_mention", "issue", "It breaks", 7, "It breaks"),
    ("deepen", "pull", "A change", 7, "A change"),
    (None, "commit", "fix: it", None, "fix: it"),
    (None, "issue", None, 7, "issues #7"),
    (None, None, None, None, "issues"),
]


@pytest.mark.parametrize(("purpose", "target", "title", "number", "shown"), TITLES)
def test_titles_are_the_references_and_never_empty(
    purpose: str | None, target: str | None, title: str | None, number: int | None, shown: str
) -> None:
    row = ChangedTask(
        "t", "queued", "o/r", number, title, "issues", target, "cody", purpose, "", 1, None, None, None, None
    )
    assert cave.title_of(row) == shown


def test_what_a_run_said_of_its_pull_request_is_shown() -> None:
    row = ChangedTask(
        "t",
        "completed",
        "o/r",
        3,
        "It",
        "issues",
        "issue",
        "cody",
        None,
        "2026",
        1,
        "cody/3",
        12,
        "success",
        "https://c/1",
    )
    shown = cave.task_object(row, {"cody": "Cody"}, "https://ghe.example")
    assert (shown.branch, shown.pr_number, shown.pr_url) == ("cody/3", 12, "https://ghe.example/o/r/pull/12")
    assert (shown.status, shown.familiar_name, shown.check_run_url) == ("review", "Cody", "https://c/1")


def test_no_row_is_dropped_that_has_a_number(served: Served) -> None:
    """And one that has none, of a push, is answered as it is."""
    kept = [
        make(served, event, payload) for event, payload in (("pull_request", pull(4)), ("issue_comment", comment(5)))
    ]
    pushed = make(served, "push", {**{k: v for k, v in issue().items() if k != "issue"}, "ref": "refs/heads/main"})
    assert {row.id: (row.number, row.title) for row in rows_of(get(served).json)} == {
        kept[0]: (4, "Review PR #4: Change 4"),
        kept[1]: (5, "Address review on PR #5"),
    }
    (one,) = [one for one in get(served).json["tasks"] if one["id"] == pushed]
    assert (one["issueNumber"], one["familiarId"], one["familiarName"]) == (None, None, None)
    assert one["issueTitle"]


def test_without_parameters_the_newest_500_are_answered_and_others_by_pages(served: Served) -> None:
    entries = [entry for n in range(505) for entry in (received(f"g{n}"), queued(f"g{n}", about={"number": n}))]
    served.journal.append([*entries, moved("claimed", of("g0"), attempt=1)])
    whole = get(served, f"{PATH}?limit=0").json
    assert len(whole["tasks"]) == 505 and whole["next"] is None
    answer = get(served).json
    assert answer["tasks"] == whole["tasks"][:500]
    assert [one["issueNumber"] for one in answer["tasks"][:3]] == [0, 504, 503], "the newest change is first"
    assert [one["updatedAt"] for one in whole["tasks"]] == sorted(
        (one["updatedAt"] for one in whole["tasks"]), reverse=True
    )
    rest = get(served, f"{PATH}?after={answer['next']}&limit=3").json
    last = get(served, f"{PATH}?after={rest['next']}").json
    assert [*answer["tasks"], *rest["tasks"], *last["tasks"]] == whole["tasks"]
    assert get(served, f"{PATH}?limit=x").status == get(served, f"{PATH}?page=2").status == 400


# ---- ETag


def test_an_answer_is_asked_about_by_its_etag(served: Served) -> None:
    task = make(served, "issues", issue(1))
    first = get(served)
    tag = first.headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', tag) and first.headers["cache-control"] == "private, no-cache"
    for asked in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = get(served, If_None_Match=asked)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["cache-control"] == "private, no-cache"
    for asked in ('"other"', f'W/"other", "{tag[1:5]}"', ""):
        assert get(served, If_None_Match=asked).status == 200
    assert get(served, f"{PATH}?limit=3").headers["etag"] != tag, "the parameters are part of it"
    tags = {tag}
    for steps in ("claimed", "phase", "completed"):
        served.journal.append([moved(steps, task, attempt=1, phase="p")])
        changed = get(served, If_None_Match=tag)
        assert changed.status == 200
        tags.add(changed.headers["etag"])
    assert len(tags) == 4
    served.post("star", {"action": "created"})
    assert changed.headers["etag"] == get(served).headers["etag"], "what is no task's changes nothing"
    guid = served.ask(f"/api/v1/tasks/{task}").json["guid"]
    assert served.ask("/api/v1/redact", {"ids": [guid]}).json["done"]
    (erased,) = get(served, If_None_Match=changed.headers["etag"]).json["tasks"]
    assert (erased["repo"], erased["issueTitle"]) == (None, "issues")


def test_a_head_is_answered_as_a_get(served: Served) -> None:
    make(served, "issues", issue(1))
    connection = UnixConnection(served.socket, 30.0)
    answer = ask(connection, "HEAD", PATH)
    connection.close()
    assert (answer.status, answer.headers["etag"]) == (200, get(served).headers["etag"])


# ---- the client


class Cave:
    """The client with a clock that a test moves, and connections that it counts."""

    def __init__(self, served: Served) -> None:
        self.now = 1000.0
        self.go = threading.Event()
        self.go.set()
        self.gone = False

        def connect() -> http.client.HTTPConnection:
            assert self.go.wait(30)
            if self.gone:
                raise ConnectionRefusedError
            return UnixConnection(served.socket, 30.0)

        self.client = CaveClient(connect, lambda: self.now)


def test_the_client_keeps_an_answer_for_a_minute_and_then_asks_with_its_etag(served: Served) -> None:
    one = make(served, "issues", issue(1))
    cave_of = Cave(served)
    client = cave_of.client
    shown = client.get()
    assert ([row.id for row in shown.rows], shown.cache, shown.freshness) == ([one], "miss", "fresh")
    cave_of.now += 59
    assert (client.get().freshness, client.statuses) == ("fresh", [200])
    cave_of.now += 2
    assert (client.get().freshness, client.get().cache) == ("stale", "hit")
    client.settle()
    assert client.statuses == [200, 304] and client.sent[1]["If-None-Match"]
    assert (client.get().freshness, [row.id for row in client.get().rows]) == ("fresh", [one])
    two = make(served, "issues", issue(2))
    cave_of.now += 61
    assert [row.id for row in client.get().rows] == [one], "the old one at once"
    client.settle()
    assert [row.id for row in client.get().rows] == [two, one]
    assert client.statuses == [200, 304, 200]
    assert client.post().cache == "miss" and client.statuses[-1] == 304
    cave_of.gone = True
    cave_of.now += 61
    assert len(client.post().rows) == 2, "the last good rows"
    assert not any("Authorization" in headers for headers in client.sent)


def test_many_browsers_are_one_request(served: Served) -> None:
    make(served, "issues", issue(1))
    cave_of = Cave(served)
    cave_of.go.clear()
    found: list[int] = []
    browsers = [threading.Thread(target=lambda: found.append(len(cave_of.client.get().rows))) for _ in range(8)]
    for one in browsers:
        one.start()
    cave_of.go.set()
    for one in browsers:
        one.join()
    assert (found, cave_of.client.statuses) == ([1] * 8, [200])


def test_the_client_reads_the_forms_that_its_description_allows() -> None:
    """What the reading of the client itself does, so that it isn't the test that drops or keeps a row by mistake."""
    row = {"id": "t", "repo": "o/r", "issueNumber": 1, "issueTitle": "It", "status": "done", "updatedAt": "2"}
    older = {"id": "u", "repoOwner": "o", "repoName": "r", "issue_number": 2, "title": "At", "status": "partial"}
    assert [(one.id, one.repo, one.status) for one in rows_of([older, row])] == [
        ("t", "o/r", "done"),
        ("u", "o/r", "review"),
    ]
    for name in ("id", "repo", "issueNumber", "issueTitle", "status"):
        assert rows_of({"tasks": [{**row, name: None}]}) == []
    assert rows_of([{**row, "status": "superseded"}]) == []
    assert not rows_of([{**row, "sessionId": "t"}])[0].annotates
    assert rows_of([{**row, "sessionId": "t", "prNumber": 3}])[0].annotates


# ---- usage, audit, routing


def test_usage_counts_a_task_once_however_many_attempts_it_had(served: Served) -> None:
    entries = [
        received("g1"), queued("g1", familiar="cody"), received("g2"), queued("g2", familiar="cody"),
        moved("claimed", of("g1"), attempt=1), moved("retry", of("g1"), category="exit"),
        moved("claimed", of("g1"), attempt=2), moved("completed", of("g1")),
        moved("claimed", of("g2"), attempt=1), moved("failed", of("g2"), category="exit"),
        received("g3", repo_id=7, about={"repo": "octo/other"}), queued("g3", repo_id=7, about={"repo": "octo/other"}),
    ]  # fmt: skip
    served.journal.append(entries)
    answer = get(served, "/api/github/usage")
    spent = sum(
        _seconds(one["ended_at"]) - _seconds(one["started_at"])
        for one in served.ask("/api/v1/attempts?filter=familiar:cody").json["items"]
    )
    assert answer.json == {
        "ok": True,
        "usage": [
            {"installationId": 5, "repo": "octo/hello", "familiarId": "cody", "tasks": 2, "completed": 1, "failed": 1}
            | {"runtimeSecs": int(spent)},
            {"installationId": 5, "repo": "octo/other", "familiarId": None, "tasks": 1, "completed": 0, "failed": 0}
            | {"runtimeSecs": 0},
        ],
    }


def _seconds(text: str) -> float:
    hours, minutes, seconds = text[11:-1].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def test_the_audit_has_what_was_ignored_each_attempt_and_each_pull_request(served: Served) -> None:
    served.post("star", {**issue(), "action": "created"})
    task = make(served, "issues", issue(1), "claimed", "retry", "claimed")
    served.journal.append([moved("phase", task, attempt=2, phase="published", pr=12)])
    answer = get(served, "/api/github/audit").json
    assert answer["ok"] is True
    assert [(one["kind"], one["taskId"], one["repo"]) for one in answer["events"]] == [
        ("pr_opened", task, "octo/hello"),
        ("attempt:running", task, "octo/hello"),
        ("attempt:failed", task, "octo/hello"),
        ("ignored:no_match", None, "octo/hello"),
    ]
    assert all(list(one) == ["at", "taskId", "repo", "kind", "detail"] for one in answer["events"])
    assert [one["at"] for one in answer["events"]] == sorted((one["at"] for one in answer["events"]), reverse=True)
    entries = [entry for n in range(210) for entry in (received(f"g{n}"), note("ignored", f"g{n}", reason="no_match"))]
    served.journal.append(entries)
    assert len(get(served, "/api/github/audit").json["events"]) == 200


def test_routing_is_asked_for_an_installation(served: Served) -> None:
    missing = get(served, "/api/github/routing")
    assert (missing.status, missing.json["ok"], missing.json["error"]) == (400, False, "installation_id required")
    assert get(served, "/api/github/routing?installation_id=x").status == 400
    assert get(served, "/api/github/routing?installation_id=0").status == 400
    assert get(served, "/api/github/routing?installation_id=42").json["routing"] == {
        "installationId": 42,
        "account": None,
        "familiars": ["cody"],
        "triggers": {"assignment": True, "labels": True, "commands": True, "reviews": True},
        "repos": {},
        "listed": False,
    }


# ---- who may see what


class Listed:
    """A configuration with one familiar and one installation."""

    shown = "Cody"

    def names(self) -> dict[str, str]:
        return {"cody": self.shown}

    def routing(self, installation: int) -> InstallationRouting:
        return InstallationRouting(
            installation_id=installation,
            account="octo",
            familiars=["cody"],
            triggers=Triggers(reviews=False),
            repos={"octo/hello": RepositoryTriggers(enabled=False)},
            listed=installation == 5,
        )


def test_a_scope_sees_its_own_and_its_etag_changes_with_that_alone(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.journal.append([received("g1"), queued("g1", familiar="cody")])
    served.journal.append([received("g2", installation=8), queued("g2", installation=8), moved("claimed", of("g2"))])
    app = falcon.App()
    config = EffectiveConfig(served.routes.api.config.live, served.routes.api.config.pool)
    scopes = {"five": Scope(frozenset({5})), "eight": Scope(frozenset({8})), "both": Scope(frozenset({5, 8}))}
    sources = CaveSources(
        served.storage.state, config, Listed, lambda req: scopes[req.get_header("X-Scope", required=True)]
    )
    for path, resource in sources.resources():
        app.add_route(path, resource)
    client = falcon.testing.TestClient(app)

    def asked(scope: str, what: str = "tasks", **headers: str) -> falcon.testing.Result:
        return client.simulate_get(f"/api/github/{what}", headers={"X-Scope": scope, **headers})

    five = asked("five")
    assert [(one["id"], one["familiarName"]) for one in five.json["tasks"]] == [(of("g1"), "Cody")]
    assert [one["id"] for one in asked("both").json["tasks"]] == [of("g2"), of("g1")]
    served.journal.append([moved("completed", of("g2"))])
    assert asked("five", **{"If-None-Match": five.headers["etag"]}).status_code == 304
    assert asked("eight", **{"If-None-Match": five.headers["etag"]}).status_code == 200
    monkeypatch.setattr(Listed, "shown", "Cody the Fixer")
    renamed = asked("five", **{"If-None-Match": five.headers["etag"]})
    monkeypatch.setattr("covenq.http.api.github.__version__", "9.9.9")
    assert asked("five", **{"If-None-Match": renamed.headers["etag"]}).status_code == 200, (
        "another covenq may answer otherwise"
    )
    assert (renamed.status_code, renamed.json["tasks"][0]["familiarName"]) == (200, "Cody the Fixer")
    assert [one["installationId"] for one in asked("five", "usage").json["usage"]] == [5]
    assert asked("five", "audit").json["events"] == []
    assert [one["taskId"] for one in asked("eight", "audit").json["events"]] == [of("g2")]
    own = asked("five", "routing").json["routing"]
    assert (own["installationId"], own["listed"], own["familiars"]) == (5, True, ["cody"])
    assert own["repos"]["octo/hello"]["enabled"] is own["triggers"]["reviews"] is False
    assert asked("both", "routing").status_code == 400
    foreign = [asked("five", f"routing?installation_id={number}") for number in (8, 999)]
    assert [one.status_code for one in foreign] == [404, 404]
    assert len({json.dumps(one.json).replace("999", "8") for one in foreign}) == 1, "not yours is as not there"


def test_over_tcp_it_takes_a_token_that_may_read(served: Served) -> None:
    tokens = {role: create(served.data / "tokens.json", role, role) for role in ("read", "operate", "worker")}
    for what in ("tasks", "usage", "audit", "routing?installation_id=5"):
        path = f"/api/github/{what}"
        denied = remote(served, path, None)
        assert (denied.status, denied.json["ok"], denied.json["error"]) == (401, False, "token_missing")
        assert [remote(served, path, tokens[role]).status for role in ("read", "operate", "worker")] == [200, 200, 403]


def test_clients_without_a_token_come_through_the_proxies_of_the_manual(served: Served) -> None:
    """What both recipes let through, with what they add, carried out by a proxy of ours."""
    page = (ROOT / "man" / "covenq-proxy.7").read_text().replace("\\-", "-").partition(".SH COVENCAVE")[2]
    (pattern,) = re.findall(r"location ~ (\S+) \{", page)
    (listed,) = re.findall(r"\tpath (.+)", page)
    mine = {one.path for one in OPERATIONS if one.path.startswith("/api/github/")}
    assert set(listed.split()) == mine and all(re.search(pattern, path) for path in mine)
    assert not [one.path for one in OPERATIONS if one.path not in mine and re.search(pattern, one.path)]
    assert "limit_except GET" in page and "method GET HEAD" in page
    assert page.count(DEFAULT_API_BIND) == 2, "where [api] listens unless told"

    task = make(served, "issues", issue(1))
    token = create(served.data / "tokens.json", "cave", "read")
    with adding_proxy(served.remote_port, lambda path: bool(re.search(pattern, path)), token) as port:
        client = CaveClient(lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=30), lambda: 0.0)
        assert [row.id for row in client.get().rows] == [task]
        client.post()
        assert client.statuses == [200, 304], "the tag went through, too"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for method, path in (
            ("GET", "/api/v1/tasks"),
            ("GET", "/api/github/tasks/"),
            ("POST", PATH),
            ("GET", "/metrics"),
        ):
            assert ask(connection, method, path).status == 404
        connection.close()


def test_memory_is_not_there(served: Served) -> None:
    connection = UnixConnection(served.socket, 30.0)
    for method, path in (("GET", "memory"), ("POST", "memory/revoke"), ("GET", "tasks/x")):
        answer = ask(connection, method, f"/api/github/{path}", b"{}" if method == "POST" else None)
        assert (answer.status, answer.json["ok"], answer.json["error"]) == (404, False, "path_unknown")
    connection.close()
    assert served.request("GET", PATH).status == 404, "and none of it where GitHub posts to"
