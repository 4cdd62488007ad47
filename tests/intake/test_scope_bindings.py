"""A scope's repository is its number from the first delivery on: renames stay in scope, and whoever has the name next doesn't."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from covenq.config.live import Snapshot
from covenq.config.load import Config
from covenq.config.secret_keys import Key
from covenq.config.secret_source import Scope
from covenq.intake.receive import Request, receive
from covenq.intake.scope_bindings import ScopeBindings
from covenq.model import DeliveryId
from covenq.model.scope_record import subject_of
from journal.errors import JournalClosed, JournalUnavailable
from journal.interface import Engine, Journal
from journal.records import Entry, Record
from tests.support.daemon import Daemon
from tests.support.journal_json import journal_lines
from tests.support.journals.chosen import open_chosen
from tests.support.requests import Answer, issue, signed
from tests.support.waiting import eventually

Make = Callable[..., Daemon]

APP = "the secret of the app, long enough"
OTHER = "the secret of another, long enough"
MINE, THEIRS = 5501, 6002
OUT, ELSEWHERE = (401, "signature_out_of_scope"), (401, "scope_bound_elsewhere")


def config(*repositories: str) -> str:
    return f"""
[github]
webhook_secrets = [
    {{ name = "app", value = "{APP}", repositories = {json.dumps(repositories)} }},
    {{ name = "other", value = "{OTHER}" }},
]
[[route]]
name = "all"
match = "event:issues"
run = ["true"]
"""


SCOPED = config("Octo/Hello")


def post(
    daemon: Daemon, repo: str, repo_id: int | None, event: str = "issues", *, by: str = APP, **more: Any
) -> Answer:
    payload = issue(repo=repo, **more)
    del payload["repository"]["id"]
    if repo_id is not None:
        payload["repository"]["id"] = repo_id
    return daemon.post(event, payload, secret=by)


def renamed(daemon: Daemon) -> Answer:
    changes = {"repository": {"name": {"from": "hello"}}}
    return post(daemon, "octo/renamed", MINE, "repository", action="renamed", changes=changes)


def refused(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json.get("error", "")


def bindings(daemon: Daemon, secret: str = "app") -> list[tuple[str | None, int, str | None, bool]]:
    (item,) = [one for one in daemon.cli_json("secrets")["items"] if one["name"] == secret]
    return [(one["repository"], one["repo_id"], one["present"], one["in_effect"]) for one in item["bindings"]]


def test_a_renamed_repository_stays_in_scope_and_its_rename_is_taken(make_daemon: Make) -> None:
    daemon = make_daemon(SCOPED, secret=None)
    assert post(daemon, "octo/hello", MINE).status == 202
    assert bindings(daemon) == [("octo/hello", MINE, "octo/hello", True)]
    assert renamed(daemon).status == 202
    assert post(daemon, "elsewhere/Renamed", MINE).status == 202
    assert post(daemon, "octo/hello", None).status == 202, "what has no number goes by its name"
    assert refused(post(daemon, "octo/renamed", None)) == OUT
    assert refused(post(daemon, "octo/other", THEIRS)) == OUT
    assert {one["data"]["secret"] for one in daemon.records("delivery.received")} == {"app"}
    assert len(daemon.records("ops.scope_bound")) == 1

    assert bindings(daemon) == [("octo/hello", MINE, "elsewhere/Renamed", True)]
    shown = daemon.cli("secrets").stderr.decode()
    assert "app: octo/hello is bound to repository 5501, which is elsewhere/Renamed now; for " in shown
    found = json.loads(daemon.cli("doctor", "--json", exit_code=None).stdout)["findings"]
    said = "octo/hello in the scope of app is bound to repository 5501, which is elsewhere/Renamed now: it stays in scope, "
    said += "nothing is to be done"
    assert ["secret", "ok", said, None] in [[one[key] for key in ("check", "level", "words", "next")] for one in found]


def test_whoever_has_the_name_next_is_refused_in_words_that_say_what_changes_it(make_daemon: Make) -> None:
    daemon = make_daemon(SCOPED, secret=None)
    assert post(daemon, "octo/hello", MINE).status == 202
    namesake = post(daemon, "OCTO/hello", THEIRS)
    assert refused(namesake) == ELSEWHERE
    detail = "Secret 'app' signed it, whose scope has octo/hello bound to repository 5501; this octo/hello is repository 6002."
    assert namesake.json["detail"] == detail
    line = daemon.cli_json("refused")["items"][0]
    assert (line["error"], line["detail"]) == ("scope_bound_elsewhere", detail)
    command = "covenq secrets unbind NAME OWNER/NAME"
    assert command in line["hint"]
    assert command in daemon.cli("refused").stderr.decode()
    why = daemon.cli("why", line["delivery"], exit_code=None)
    assert "scope_bound_elsewhere" in (said := (why.stdout + why.stderr).decode()) and command in said
    found = json.loads(daemon.cli("doctor", "--json", exit_code=None).stdout)["findings"]
    assert [one for one in found if "scope_bound_elsewhere" in one["words"] and command in one["next"]]
    assert post(daemon, "octo/hello", THEIRS, by=OTHER).status == 202, "the scope is that secret's alone"
    assert bindings(daemon) == [("octo/hello", MINE, "octo/hello", True)]


def test_a_binding_outlasts_kills_lost_caches_and_edits_of_the_configuration(
    make_daemon: Make, write_config: Callable[[str], Path]
) -> None:
    daemon = make_daemon(SCOPED, secret=None)
    assert post(daemon, "octo/hello", MINE).status == 202
    daemon.kill()
    for cache in (*daemon.data.glob("state.db*"), *daemon.data.glob("journal/index*")):
        cache.unlink()
    daemon.start()
    assert refused(post(daemon, "octo/hello", THEIRS)) == ELSEWHERE
    assert renamed(daemon).status == 202

    write_config(config("octo/else"))
    eventually(lambda: refused(post(daemon, "octo/renamed", MINE)) == OUT, 30, "the scope has other names")
    assert post(daemon, "octo/else", 7).status == 202
    assert bindings(daemon) == [("octo/else", 7, "octo/else", True), ("octo/hello", MINE, "octo/renamed", False)]
    write_config(config("octo/hello"))
    eventually(lambda: refused(post(daemon, "octo/else", 7)) == OUT, 30, "the first scope is back")
    assert refused(post(daemon, "octo/hello", THEIRS)) == ELSEWHERE, "the binding stays until it is unbound"
    assert post(daemon, "octo/renamed", MINE).status == 202


def test_a_binding_ends_by_command_alone_and_the_next_delivery_binds_anew(make_daemon: Make) -> None:
    daemon = make_daemon(SCOPED, secret=None)
    assert post(daemon, "octo/hello", MINE).status == 202
    unknown = daemon.cli("secrets", "unbind", "app", "octo/other", exit_code=3).stderr.decode()
    assert "octo/other is not bound in the scope of 'app'" in unknown
    unknown = daemon.cli("secrets", "unbind", "nobody", exit_code=3).stderr.decode()
    assert "nothing is bound in the scope of 'nobody'" in unknown
    asked = daemon.cli("secrets", "unbind", "app", "Octo/hello", exit_code=2).stderr.decode()
    assert "octo/hello" in asked and "5501" in asked and "--yes" in asked
    plan = daemon.cli_json("secrets", "unbind", "app", "--dry-run")
    assert [(one["secret"], one["repository"], one["repo_id"]) for one in plan["bindings"]] == [
        ("app", "octo/hello", MINE)
    ]
    assert refused(post(daemon, "octo/hello", THEIRS)) == ELSEWHERE

    done = daemon.cli_json("secrets", "unbind", "app", "Octo/HELLO", "--reason", "given away", "--yes")
    assert [one["repo_id"] for one in done["bindings"]] == [MINE]
    (record,) = daemon.records("ops.scope_unbound")
    assert record["data"]["reason"] == "given away" and record["data"]["by"].startswith("cli")
    assert bindings(daemon) == []
    assert post(daemon, "octo/hello", THEIRS).status == 202
    assert bindings(daemon) == [("octo/hello", THEIRS, "octo/hello", True)]
    assert refused(post(daemon, "octo/renamed", MINE)) == OUT
    over_http = daemon.api("/api/v1/unbind", "POST", {"secret": "app", "repo": "octo/hello"})
    assert over_http.status == 200 and over_http.json["bindings"][0]["repo_id"] == THEIRS
    assert post(daemon, "octo/hello", MINE).status == 202

    daemon.stop()
    daemon.cli("secrets", "unbind", "app", "--yes")
    daemon.start()
    assert post(daemon, "octo/hello", THEIRS).status == 202
    assert bindings(daemon) == [("octo/hello", THEIRS, "octo/hello", True)]


def test_of_two_repositories_whose_first_deliveries_come_at_once_one_is_bound(make_daemon: Make) -> None:
    names = [f"octo/r{number}" for number in range(8)]
    daemon = make_daemon(config(*names), secret=None)
    answers: dict[tuple[str, int], Answer] = {}
    barrier = threading.Barrier(4)

    def send(turn: int) -> None:
        for number, name in enumerate(names, 1):
            barrier.wait(30)
            answers[name, 100 * number + turn] = post(daemon, name, 100 * number + turn)

    senders = [threading.Thread(target=send, args=(turn,)) for turn in range(4)]
    for one in senders:
        one.start()
    for one in senders:
        one.join(60)
    bound = {one["about"]["repo"]: one["data"]["repo_id"] for one in daemon.records("ops.scope_bound")}
    assert sorted(bound) == names and len(daemon.records("ops.scope_bound")) == len(names)
    assert len(answers) == 4 * len(names)
    for (name, repo_id), answer in answers.items():
        assert refused(answer) == ((202, "") if bound[name] == repo_id else ELSEWHERE)
    assert len(daemon.records("delivery.received")) == len(names)


def test_the_binding_is_recorded_before_the_delivery_it_was_made_by_and_names_no_more_than_that(
    make_daemon: Make,
) -> None:
    daemon = make_daemon(SCOPED, secret=None)
    answer = post(daemon, "octo/hello", MINE)
    bound, received = [one for one in daemon.records() if one["kind"] in ("ops.scope_bound", "delivery.received")]
    assert (bound["seq"] + 1, received["seq"]) == (received["seq"], answer.json["seq"])
    assert set(bound["data"]) == {"secret", "repo_id", "hook", "guid"} and bound["about"] == {"repo": "octo/hello"}
    daemon.wait_all_done()

    daemon.cli("redact", "--repo", "octo/hello", "--yes")
    assert b"octo/hello" not in b"".join(journal_lines(daemon.data))
    assert refused(post(daemon, "octo/hello", THEIRS)) == ELSEWHERE, "an erased name is bound as it was"
    daemon.restart()
    assert refused(post(daemon, "octo/hello", THEIRS)) == ELSEWHERE
    assert bindings(daemon) == [("octo/hello", MINE, None, True)]
    daemon.cli("secrets", "unbind", "app", "octo/hello", "--yes")
    assert post(daemon, "octo/hello", THEIRS).status == 202


def test_a_name_beside_its_owners_wildcard_is_bound_and_the_wildcard_goes_by_the_owners_name(make_daemon: Make) -> None:
    daemon = make_daemon(config("octo/*", "acme/one"), secret=None)
    for repo_id in (MINE, THEIRS):
        assert post(daemon, "octo/hello", repo_id).status == 202
    assert refused(post(daemon, "acme/hello", MINE)) == OUT
    assert daemon.records("ops.scope_bound") == []
    assert post(daemon, "acme/one", 9).status == 202
    assert post(daemon, "moved/one", 9).status == 202
    assert refused(post(daemon, "acme/one", 10)) == ELSEWHERE


# ---- decided by the newest record, in this process


KEY = Key("app", APP.encode(), Scope(repositories=("octo/hello", "octo/two")))


@pytest.fixture
def journal(journal_engine: None, tmp_path: Path) -> Iterator[Engine]:
    with open_chosen(tmp_path) as one:
        yield one


def send(
    journal: Journal, bindings: ScopeBindings, keys: tuple[Key, ...], repo_id: int, repo: str = "octo/hello"
) -> Any:
    payload = issue(repo=repo)
    payload["repository"]["id"] = repo_id
    body, headers = signed("issues", payload, secret=APP)
    made = Request(list(headers.items()), body)
    return receive(made, journal=journal, live=Snapshot(Config(), keys), bindings=bindings, lookup=lambda id, seq: None)


def kinds(journal: Journal) -> list[str]:
    return [record.kind for record in journal.read(0) if record.kind.startswith(("ops.", "delivery."))]


def test_what_another_bound_meanwhile_decides(journal: Engine) -> None:
    keys = (KEY,)
    late, soon = ScopeBindings(journal), ScopeBindings(journal)
    assert send(journal, late, keys, 2, "octo/two").status == 202, "now it has read that octo/hello is not bound"
    assert send(journal, soon, keys, MINE).status == 202
    assert send(journal, late, keys, THEIRS).refusal == "scope_bound_elsewhere"
    assert send(journal, late, keys, MINE).status == 202
    again = ScopeBindings(journal)
    assert send(journal, again, keys, MINE, "octo/renamed").status == 202
    assert kinds(journal) == [*["ops.scope_bound", "delivery.received", "delivery.ignored"] * 2] + [
        "delivery.received", "delivery.ignored"
    ] * 2  # fmt: skip


def test_a_binding_of_the_same_number_that_another_made_meanwhile_is_no_conflict(journal: Engine) -> None:
    keys = (KEY,)
    late = ScopeBindings(journal)
    assert send(journal, late, keys, 2, "octo/two").status == 202
    assert send(journal, ScopeBindings(journal), keys, MINE).status == 202
    assert send(journal, late, keys, MINE).status == 202
    assert kinds(journal).count("ops.scope_bound") == 2


def test_of_an_append_that_a_crash_cut_short_the_binding_is_what_survives(journal: Engine) -> None:
    class Cut:
        """A journal that records the first entry of an append alone, and then has no answer, as a crash does."""

        def __getattr__(self, name: str) -> Any:
            return getattr(journal, name)

        def append(self, entries: Sequence[Entry]) -> Any:
            journal.append(entries[:1])
            raise JournalClosed("cut short")

    cut: Any = Cut()
    assert send(cut, ScopeBindings(cut), (KEY,), MINE).status == 503
    assert [record.kind for record in journal.read(0) if record.subject != "ops.journal"] == ["ops.scope_bound"]
    assert send(journal, ScopeBindings(journal), (KEY,), THEIRS).refusal == "scope_bound_elsewhere"
    assert send(journal, ScopeBindings(journal), (KEY,), MINE).status == 202
    assert kinds(journal).count("ops.scope_bound") == 1


def test_without_repositories_in_a_scope_nothing_is_read_or_recorded(journal: Engine) -> None:
    class Unread:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    unread: Any = Unread()
    bindings = ScopeBindings(unread)
    keys = (Key("all", APP.encode()), Key("hooks", APP.encode(), Scope(hooks=("7",))))
    assert bindings.ready(keys)
    assert send(journal, bindings, keys, MINE).status == 202
    assert not bindings.ready((KEY,)), "what has to be read keeps nobody else waiting"
    assert kinds(journal) == ["delivery.received", "delivery.ignored"]


def test_send_signs_a_renamed_repositorys_body_with_the_secret_it_is_bound_to(
    make_daemon: Make, tmp_path: Path
) -> None:
    daemon = make_daemon(
        f"""
        [github]
        webhook_secrets = [
            {{ name = "other", value = "{OTHER}", repositories = ["acme/*"] }},
            {{ name = "app", value = "{APP}", repositories = ["octo/hello"] }},
        ]
        """,
        secret=None,
    )
    assert post(daemon, "octo/hello", MINE).status == 202
    body = tmp_path / "body.json"
    payload = issue(repo="octo/renamed")
    payload["repository"]["id"] = MINE
    body.write_text(json.dumps(payload))
    daemon.cli("send", "issues", "--file", str(body))
    assert [one["data"]["secret"] for one in daemon.records("delivery.received")] == ["app", "app"]


class DamagedFor:
    """A journal whose newest record of one subject can't be read."""

    def __init__(self, journal: Engine, subject: str) -> None:
        self._journal, self._subject = journal, subject
        self.damaged = True

    def last(self, subject: str) -> Record | None:
        if self.damaged and subject == self._subject:
            raise JournalUnavailable("its segment is damaged")
        return self._journal.last(subject)


def test_a_name_whose_record_cannot_be_read_holds_up_no_other(journal: Engine) -> None:
    keys = [
        Key("app", b"a", Scope(repositories=("acme/app", "acme/two"))),
        Key("b", b"b", Scope(repositories=("b/b",))),
    ]
    bindings = ScopeBindings(journal)
    for key, name, number in ((keys[0], "acme/app", 1), (keys[0], "acme/two", 2), (keys[1], "b/b", 3)):
        found = bindings.admit(keys, [key], DeliveryId("9", f"g{number}"), None, name, number)
        assert isinstance(found, tuple) and found[1] is not None
        journal.append([found[1].entry])
    damaged: Any = DamagedFor(journal, subject_of("app", "acme/app"))
    bindings = ScopeBindings(damaged)
    for key, name, number in ((keys[0], "acme/two", 2), (keys[0], "acme/renamed", 2), (keys[1], "b/b", 3)):
        assert bindings.admit(keys, [key], DeliveryId("9", "g"), None, name, number) == (key.name, None)
    assert not bindings.ready(keys), "it may have to read again"
    for name in ("acme/app", "acme/whatever"):  # it may be the one that can't be read
        with pytest.raises(JournalUnavailable):
            bindings.admit(keys, [keys[0]], DeliveryId("9", "g"), None, name, 1)
    damaged.damaged = False
    assert bindings.admit(keys, [keys[0]], DeliveryId("9", "g"), None, "acme/whatever", 1) == ("app", None)


def test_the_names_of_a_binding_are_erased_when_its_deliveries_are_gone(make_daemon: Make) -> None:
    for which in (["--repo", "octo/hello"], ["--repo-id", str(MINE)]):
        daemon = make_daemon(SCOPED)
        one = post(daemon, "octo/hello", MINE).json["delivery"]
        daemon.wait_all_done()
        daemon.cli("redact", one, "--yes")
        daemon.cli("redact", *which, "--yes")
        assert daemon.stop() == 0
        assert b"octo/hello" not in b"".join(journal_lines(daemon.data)).lower()
