"""Triggers of familiars: each row of what calls one, with the route and the purpose of its task, or why there is none."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covenq.config.load import Config, build
from covenq.github.columns import columns
from covenq.model import DeliveryId, IgnoredReason, State
from covenq.model.rows import Delivery
from covenq.routing.decide import Decision, route
from covenq.routing.diff import Diff
from covenq.routing.trigger import command_of
from covenq.routing.verdicts import Verdict, verdicts
from tests.support.answers import blank

ID = DeliveryId("9", "guid-1")
CODY, DEVI = "coven-cody[bot]", "devi"
FAMILIARS: list[dict[str, Any]] = [
    {"id": "cody", "bot_username": CODY, "trigger_labels": ["coven:fix", "shared"], "run": ["true"], "timeout": "7m"},
    {"id": "devi", "bot_username": DEVI, "trigger_labels": ["shared", "devi"], "pull": True},
]


def config(installations: list[dict[str, Any]] | None = None, /, **more: Any) -> Config:
    raw = {"familiar": FAMILIARS, "review": {"familiar": "cody", "pull_request": True}, **more}
    return build(raw if installations is None else {**raw, "installation": installations}, None, {})


OPEN = config()
LISTED_ALL = config([{"id": 42, "account": "octo"}])


def user(login: str | None) -> dict[str, Any] | None:
    return None if login is None else {"login": login, "id": 1}


def body(**more: Any) -> dict[str, Any]:
    repository = {"id": 6, "name": "hello", "full_name": "octo/hello", "owner": {"login": "octo"}}
    return {"repository": repository, "installation": {"id": 42}, "sender": {"login": "mona"}, **more}


def assigned(login: str | None, action: str = "assigned") -> tuple[str, dict[str, Any]]:
    return "issues", body(action=action, assignee=user(login), issue={"number": 7, "title": "It breaks"})


def labeled(name: str, *, pull: bool = False, by: str = "mona", draft: bool = False) -> tuple[str, dict[str, Any]]:
    what = {"pull_request": pull_object(by, draft)} if pull else {"issue": {"number": 7}}
    return "pull_request" if pull else "issues", body(action="labeled", label={"name": name}, **what)


def pull_object(by: str | None, draft: object) -> dict[str, Any]:
    return {"number": 8, "user": user(by), "draft": draft, "head": {"sha": "c0ffee" * 6 + "dead", "ref": "fix"}}


def pulled(action: str, by: str | None = "mona", draft: object = False) -> tuple[str, dict[str, Any]]:
    return "pull_request", body(action=action, number=8, pull_request=pull_object(by, draft))


def said(
    text: object, *, on: str = "issue", by: str | None = "mona", as_a: object = "MEMBER", action: str | None = None
) -> tuple[str, dict[str, Any]]:
    """A comment on an issue, on a pull request's thread, on a line of it (`line`), or with a review of it (`review`)."""
    comment = {"body": text, "user": user(by), "author_association": as_a}
    if on == "review":
        return "pull_request_review", body(
            action=action or "submitted", review=comment, pull_request=pull_object("mona", False)
        )
    if on == "line":
        event = "pull_request_review_comment"
        return event, body(action=action or "created", comment=comment, pull_request=pull_object("mona", False))
    issue = {"number": 7} if on == "issue" else {"number": 8, "pull_request": {"url": "…"}}
    return "issue_comment", body(action=action or "created", comment=comment, issue=issue)


def row_of(event: str, payload: Any) -> dict[str, Any]:
    read, about = columns(event, payload if isinstance(payload, dict) else {})
    received = "2026-11-23T02:00:00.000000Z"
    return {
        "hook": "9",
        "guid": "guid-1",
        "event": event,
        **read,
        **about,
        "payload_bytes": 100,
        "received_at": received,
    }


def decide(made: Config, what: tuple[str, Any]) -> Decision:
    event, payload = what
    return route(made, ID, row_of(event, payload), lambda: payload)


def result(made: Config, what: tuple[str, Any]) -> list[str] | str | None:
    """The routes of its tasks, or why there is none."""
    decision = decide(made, what)
    assert decision.problem is None
    return decision.reason or [entry.data["route"] for entry in decision.entries]


FIX, REVIEW, ADDRESS = "cody-fix-issue", "cody-review-pull-request", "cody-address-review-comment"
TABLE: list[tuple[tuple[str, Any], list[str] | str]] = [
    # issues.assigned
    (assigned(CODY), [FIX]),
    (assigned("Coven-Cody[bot]"), [FIX]),
    (assigned("coven-cody"), "no_match"),
    (assigned("mona"), "no_match"),
    (assigned(None), "no_match"),
    (assigned(DEVI), ["devi-fix-issue"]),
    (assigned(CODY, "unassigned"), "no_match"),
    # issues.labeled: the first familiar that has the label
    (labeled("coven:fix"), [FIX]),
    (labeled("Coven:FIX"), [FIX]),
    (labeled("shared"), [FIX]),
    (labeled("devi"), ["devi-fix-issue"]),
    (labeled("bug"), "no_match"),
    # pull_request
    (pulled("opened"), [REVIEW]),
    (pulled("synchronize"), [REVIEW]),
    (pulled("reopened"), [REVIEW]),
    (pulled("ready_for_review"), [REVIEW]),
    (pulled("closed"), "no_match"),
    (pulled("assigned"), "no_match"),
    (pulled("opened", CODY), "familiar_author"),
    (pulled("opened", "DEVI"), "familiar_author"),
    (pulled("opened", "dependabot[bot]"), [REVIEW]),
    (pulled("opened", None), "no_match"),
    (pulled("opened", draft=True), "draft"),
    (pulled("opened", draft="no"), "no_match"),
    # pull_request.labeled: also drafts
    (labeled("coven:fix", pull=True), [REVIEW]),
    (labeled("coven:fix", pull=True, draft=True), [REVIEW]),
    (labeled("coven:fix", pull=True, by=DEVI), "familiar_author"),
    (labeled("devi", pull=True), ["devi-review-pull-request"]),
    (labeled("bug", pull=True), "no_match"),
    # push and anything else
    (("push", body(ref="refs/heads/main")), "no_match"),
    (("star", body(action="created")), "no_match"),
    (("issue_comment", body(action="created")), "no_match"),
    (("pull_request", body(action="opened")), "no_match"),
    # commands on an issue
    (said("@coven-cody fix"), [FIX]),
    (said("@coven-cody fix the parser, please"), [FIX]),
    (said("  \n\t@Coven-Cody  FIX: it"), [FIX]),
    (said("@coven-cody review"), ["cody-clarification"]),
    (said("@coven-cody deepen"), ["cody-clarification"]),
    (said("@coven-cody retry"), ["cody-retry"]),
    (said("@coven-cody cancel"), ["cody-cancel"]),
    (said("@coven-cody garden"), ["cody-garden"]),
    (said("@coven-cody remember that"), ["cody-remember"]),
    (said("@coven-cody forget it"), ["cody-forget"]),
    (said("@coven-cody status"), ["cody-status"]),
    (said("@coven-cody dance"), ["cody-clarification"]),
    (said("@coven-cody :"), ["cody-clarification"]),
    (said("@coven-cody, fix"), ["cody-clarification"]),
    (said("@devi fix"), ["devi-fix-issue"]),
    # … and on a pull request: its thread, a line, a review
    *((said("@coven-cody review", on=on), [REVIEW]) for on in ("pull", "line", "review")),
    *((said("@coven-cody fix all of it", on=on), [ADDRESS]) for on in ("pull", "line", "review")),
    *((said("@coven-cody deepen", on=on), ["cody-deepen"]) for on in ("pull", "line", "review")),
    (said("@coven-cody retry", on="pull"), ["cody-retry"]),
    (said("@coven-cody cancel", on="pull"), ["cody-cancel"]),
    (said("@coven-cody status", on="review"), ["cody-status"]),
    (said("@coven-cody dance", on="line"), ["cody-clarification"]),
    # what is no command
    (said("@coven-cody"), "no_match"),
    (said("@coven-cody  \n"), "no_match"),
    (said("Ask @coven-cody fix"), "no_match"),
    (said("@coven-codyx fix"), "no_match"),
    (said("@coven-cody-2 fix"), "no_match"),
    (said("@coven-cody_2 fix"), "no_match"),
    (said("@coven-cody/team fix"), "no_match"),
    (said("@coven-cody\u00e9 fix"), "no_match"),
    (said("coven-cody fix"), "no_match"),
    (said("/coven garden"), "no_match"),
    (said(None, on="review"), "no_match"),
    (said("@coven-cody fix", action="edited"), "no_match"),
    (said("@coven-cody fix", action="deleted"), "no_match"),
    (said("@coven-cody fix", on="review", action="dismissed"), "no_match"),
    # who may command
    *((said("@coven-cody fix", as_a=one), [FIX]) for one in ("OWNER", "MEMBER", "COLLABORATOR")),
    *(
        (said("@coven-cody fix", as_a=one), "not_permitted")
        for one in ("CONTRIBUTOR", "FIRST_TIME_CONTRIBUTOR", "NONE", "owner", None, 1, ["OWNER"])
    ),
    (said("@coven-cody dance", as_a="NONE"), "not_permitted"),
    (said("@coven-cody status", as_a="NONE"), "not_permitted"),
    (said("@coven-cody fix", by=CODY), "familiar_author"),
    (said("@coven-cody fix", by=DEVI, as_a="NONE"), "familiar_author"),
    (said("@coven-cody fix", by=None), "no_match"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "wanted"), TABLE)
def test_each_row(what: tuple[str, Any], wanted: list[str] | str) -> None:
    assert result(OPEN, what) == wanted
    # An allow-list that has it changes nothing.
    assert result(LISTED_ALL, what) == wanted


def test_a_task_is_labeled_and_keyed_and_frozen_like_that_of_any_route() -> None:
    [entry] = decide(OPEN, pulled("synchronize")).entries
    assert (entry.data["purpose"], entry.data["familiar"], entry.data["kind"]) == ("review_pull_request", "cody", "run")
    assert entry.about is not None and entry.about["key"] == "6#8"
    assert entry.data["policy"]["supersede"] == "queued"
    assert (entry.data["policy"]["run"], entry.data["policy"]["timeout_s"]) == (["true"], 420.0)
    assert entry.data["policy"]["agent"] == {"display_name": "cody"}
    [entry] = decide(OPEN, said("@devi fix", on="line")).entries
    assert (entry.data["purpose"], entry.data["kind"]) == ("address_review_comment", "pull")
    assert entry.data["policy"]["supersede"] == "never"


def test_every_review_of_a_pull_request_is_of_one_route_and_key_so_that_the_newest_takes_the_others_place() -> None:
    ways = [
        pulled("opened"),
        pulled("synchronize"),
        labeled("coven:fix", pull=True),
        said("@coven-cody review", on="line"),
    ]
    made = [entry for what in ways for entry in decide(OPEN, what).entries]
    found = {(one.data["route"], (one.about or {})["key"], one.data["policy"]["supersede"]) for one in made}
    assert found == {(REVIEW, "6#8", "queued")}


LISTED: list[tuple[dict[str, Any], tuple[str, Any], list[str] | str]] = [
    ({"id": 41}, assigned(CODY), "installation_unlisted"),
    ({"id": 41}, pulled("opened"), "installation_unlisted"),
    ({"id": 41}, said("@coven-cody fix", as_a="NONE"), "installation_unlisted"),
    ({"id": 41}, assigned("mona"), "no_match"),
    ({"id": 42, "familiars": ["devi"]}, assigned(CODY), "familiar_out_of_scope"),
    ({"id": 42, "familiars": ["devi"]}, labeled("coven:fix"), "familiar_out_of_scope"),
    ({"id": 42, "familiars": ["devi"]}, labeled("shared"), ["devi-fix-issue"]),
    ({"id": 42, "familiars": ["devi"]}, pulled("opened"), "familiar_out_of_scope"),
    ({"id": 42, "familiars": []}, assigned(CODY), [FIX]),
    ({"id": 42, "lanes": {"assignment": False}}, assigned(CODY), "lane_closed"),
    ({"id": 42, "lanes": {"assignment": False}}, labeled("coven:fix"), [FIX]),
    ({"id": 42, "lanes": {"labels": False}}, labeled("coven:fix"), "lane_closed"),
    ({"id": 42, "lanes": {"labels": False}}, labeled("coven:fix", pull=True), "lane_closed"),
    ({"id": 42, "lanes": {"reviews": False}}, pulled("opened"), "lane_closed"),
    ({"id": 42, "lanes": {"reviews": False}}, labeled("coven:fix", pull=True), [REVIEW]),
    ({"id": 42, "lanes": {"commands": False}}, said("@coven-cody fix"), "lane_closed"),
    ({"id": 42, "lanes": {"commands": False}, "repos": {"Octo/Hello": {"commands": True}}}, said("@coven-cody fix"), [FIX]),
    ({"id": 42, "repos": {"octo/hello": {"commands": False}}}, said("@coven-cody fix"), "lane_closed"),
    ({"id": 42, "repos": {"octo/other": {"commands": False}}}, said("@coven-cody fix"), [FIX]),
    ({"id": 42, "repos": {"octo/hello": {"enabled": False, "assignment": True}}}, assigned(CODY), "repository_disabled"),
    ({"id": 42, "repos": {"6": {"enabled": False}, "octo/hello": {"enabled": True}}}, assigned(CODY), "repository_disabled"),
    ({"id": 42, "repos": {"6": {}, "octo/hello": {"enabled": False}}}, assigned(CODY), [FIX]),
]  # fmt: skip


@pytest.mark.parametrize(("installation", "what", "wanted"), LISTED)
def test_where_a_familiar_may_work(
    installation: dict[str, Any], what: tuple[str, Any], wanted: list[str] | str
) -> None:
    assert result(config([installation]), what) == wanted


def test_what_comes_from_no_installation_is_closed_once_one_is_listed() -> None:
    event, payload = assigned(CODY)
    del payload["installation"]
    assert result(OPEN, (event, payload)) == [FIX]
    decision = decide(config([{"id": 42}]), (event, payload))
    assert decision.reason == "installation_unlisted"
    assert decision.entries[0].data["detail"] == "No installation sent it; else cody-fix-issue would have taken it."


def test_reviews_are_off_unless_they_are_asked_for_and_each_repository_may_say_otherwise() -> None:
    assert result(config(review={}), pulled("opened")) == "no_match"
    own = {"octo/hello": {"pull_request": True, "include_drafts": True, "familiar": "devi"}}
    assert result(config(review={"repos": own}), pulled("opened", draft=True)) == ["devi-review-pull-request"]
    off = {"familiar": "cody", "pull_request": True, "include_drafts": True, "repos": {"6": {"pull_request": False}}}
    assert result(config(review=off), pulled("opened")) == "no_match"
    del off["repos"]
    assert result(config(review=off), pulled("opened", draft=True)) == [REVIEW]


def test_who_may_command_can_be_said() -> None:
    made = config(commands={"associations": ["OWNER", "CONTRIBUTOR"]})
    assert result(made, said("@coven-cody fix", as_a="CONTRIBUTOR")) == [FIX]
    decision = decide(made, said("@coven-cody fix", as_a="MEMBER"))
    assert decision.reason == "not_permitted"
    told = "The author of a command has to be OWNER or CONTRIBUTOR of the repository; else cody-fix-issue would have taken it."
    assert decision.entries[0].data["detail"] == told


def test_a_familiar_says_which_other_words_it_knows() -> None:
    familiars = [{**FAMILIARS[0], "commands": ["polish"]}]
    made = build({"familiar": familiars}, None, {})
    assert result(made, said("@coven-cody polish")) == ["cody-polish"]
    assert result(made, said("@coven-cody garden")) == ["cody-clarification"]


def test_an_ordinary_route_takes_what_a_familiar_is_refused() -> None:
    plain = {"name": "all", "match": "event:issues", "run": ["true"]}
    assert result(config([{"id": 1}], route=[plain]), assigned(CODY)) == ["all"]
    assert result(config(route=[plain]), assigned(CODY)) == ["all", FIX]


# ---- in words


def verdict(name: str, made: Config, what: tuple[str, Any], lost: dict[str, str] | None = None) -> Verdict:
    event, payload = what
    found = verdicts(made.routes, row_of(event, payload), lambda: payload, now=0.0, lost=lost)
    return next(one for one in found if one.route == name)


WORDS: list[tuple[str, tuple[str, Any], str, list[str]]] = [
    (FIX, assigned("mona"), "the assignee is coven-cody[bot]", ["mona"]),
    (FIX, labeled("bug"), "the label is coven:fix or shared", ["bug"]),
    ("devi-fix-issue", labeled("shared"), "the label doesn't call cody, which stands before it", ["cody"]),
    (FIX, said("hello there"), "it begins with @coven-cody", ["hello there"]),
    (FIX, said("@coven-cody"), "a word follows @coven-cody", []),
    (FIX, said("@coven-cody dance"), "the command is fix", ["dance"]),
    (FIX, said("@coven-cody fix", on="pull"), "it is on an issue", ["a pull request"]),
    ("cody-clarification", said("@coven-cody fix"), "the command is none of those on an issue", ["fix"]),
    (FIX, said("@coven-cody fix", by=DEVI), "no familiar wrote it", [DEVI]),
    (FIX, said("@coven-cody fix", as_a="NONE"), "its author is OWNER, MEMBER or COLLABORATOR of the repository", ["NONE"]),
    (REVIEW, pulled("opened", DEVI), "no familiar wrote the pull request", [DEVI]),
    (REVIEW, pulled("opened", draft=True), "the pull request is no draft", ["a draft"]),
    ("devi-review-pull-request", pulled("opened"), "devi is the familiar of [review]", ["cody"]),
    (FIX, ("issues", body(action="created")),
     "it is issues.assigned, issues.labeled or issue_comment.created", ["issues.created"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "what", "term", "seen"), WORDS)
def test_why_it_makes_no_task_is_told_in_words(name: str, what: tuple[str, Any], term: str, seen: list[str]) -> None:
    found = verdict(name, OPEN, what)
    assert found.matches is False
    assert [(one.text, one.seen) for one in found.terms if not one.holds] == [(f"that {term}", seen)]


@pytest.mark.parametrize(
    ("installation", "term"),
    [
        ({"id": 41}, "its installation is listed"),
        ({"id": 42, "familiars": ["devi"]}, "installation 42 has cody among its familiars"),
        ({"id": 42, "repos": {"6": {"enabled": False}}}, "installation 42 has the repository enabled"),
        ({"id": 42, "lanes": {"assignment": False}}, "the lane assignment is open"),
    ],
)
def test_where_it_may_not_work_is_told_in_words(installation: dict[str, Any], term: str) -> None:
    found = verdict(FIX, config([installation]), assigned(CODY))
    assert [one.text for one in found.terms if not one.holds] == [f"that {term}"]


def test_a_trigger_can_be_told_without_its_payload_only_where_event_and_action_exclude_it() -> None:
    lost = {"payload": "its payload was dropped"}
    found = verdict(FIX, OPEN, assigned(CODY), lost)
    assert (found.matches, found.terms[-1].problem) == (None, "its payload was dropped")
    assert verdict(REVIEW, OPEN, assigned(CODY), lost).matches is False


def test_every_decision_is_that_of_its_verdicts_and_of_the_diff() -> None:
    made = config([{"id": 42, "lanes": {"reviews": False}}])
    for what, _ in TABLE:
        event, payload = what
        row = row_of(event, payload)
        decided = [entry.data["route"] for entry in decide(made, what).entries if entry.kind == "task.queued"]
        assert [one.route for one in verdicts(made.routes, row, lambda p=payload: p, now=0.0) if one.matches] == decided
        told = {name: row[name] for name in row if name in Delivery.__struct_fields__}
        diff = Diff(None, made.routes)
        diff.add(blank(Delivery, **told), lambda p=payload: p, lambda d=decided: set(d))
        assert diff.report().same == 1, what


# ---- hostile payloads

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-5, 50)
    | st.sampled_from([CODY, "shared", "@coven-cody fix", "MEMBER", "é\0"])
)
NAMES = st.sampled_from(
    """action assignee label login name body user comment review issue pull_request draft author_association repository
    installation id number sender""".split()
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=25
)
EVENTS = st.sampled_from(
    ["issues", "issue_comment", "pull_request", "pull_request_review", "pull_request_review_comment", "push"]
)
ACTIONS = st.sampled_from(["assigned", "labeled", "created", "submitted", "opened", "synchronize"])
SCOPED = config([{"id": 42, "repos": {"octo/hello": {"reviews": False}}}])


@settings(max_examples=150, deadline=None)
@given(EVENTS, ACTIONS, st.dictionaries(NAMES, VALUES, max_size=8), st.booleans())
def test_no_shape_of_a_payload_makes_routing_fail(event: str, action: str, odd: dict[str, Any], scoped: bool) -> None:
    made = SCOPED if scoped else OPEN
    payload = {**body(), **odd, "action": action}
    decision = decide(made, (event, payload))
    assert decision.problem is None
    assert decision.state in (State.QUEUED, State.IGNORED)
    if decision.state is State.IGNORED:
        assert decision.reason in set(IgnoredReason)
    told = verdicts(made.routes, row_of(event, payload), lambda: payload, now=0.0)
    assert [term for one in told for term in one.terms if term.problem is not None] == []


@pytest.mark.parametrize("lost", ["repository", "id", "full_name", "number"])
@pytest.mark.parametrize(
    "what", [assigned(CODY), pulled("opened"), labeled("shared", pull=True), said("@coven-cody fix")]
)
def test_what_names_no_repository_or_no_number_calls_nobody(what: tuple[str, Any], lost: str) -> None:
    event, payload = what[0], copy.deepcopy(what[1])
    assert result(OPEN, (event, payload)) != "no_match"
    subject = payload.get("issue") or payload["pull_request"]
    for holder in (payload, payload["repository"], subject):
        if holder is not subject or lost == "number":
            holder.pop(lost, None)
    assert result(OPEN, (event, payload)) == "no_match"


@pytest.mark.parametrize("payload", [None, [], "text", 5, {"comment": []}, {"comment": {"user": "mona", "body": {}}}])
def test_a_payload_that_is_no_object_calls_nobody(payload: Any) -> None:
    for event, action in (("issues", "assigned"), ("issue_comment", "created"), ("pull_request", "opened")):
        row = {**row_of(event, {}), "action": action}
        assert route(OPEN, ID, row, lambda: payload).reason == "no_match"


def test_a_payload_that_cant_be_had_leaves_the_delivery_received() -> None:
    def broken() -> Any:
        raise RecursionError

    event, payload = assigned(CODY)
    decision = route(OPEN, ID, row_of(event, payload), broken)
    assert (decision.state, decision.problem) == (State.RECEIVED, "route 'cody-fix-issue' failed with RecursionError")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("@Cody Fix", ("cody", "fix")),
        ("@cody fix::", ("cody", "fix")),
        ("@cody.fix", ("cody", ".fix")),
        ("@cody", ("cody", None)),
        ("@", (None, None)),
        ("", (None, None)),
        (None, (None, None)),
        (" " * 70_000 + "@cody fix", (None, None)),
        ("@cody " + "x" * 1000, ("cody", "x" * 80)),
    ],
)
def test_how_a_command_is_read(text: str | None, found: tuple[str | None, str | None]) -> None:
    assert command_of(text) == found
