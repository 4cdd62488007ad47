"""What coven-github decides on a delivery, by a description of its behaviour: an independent reading, for tests to compare with.

It knows nothing of covenq and imports nothing of it: where both are wrong in the same way, it isn't by sharing code. A
configuration is the dict that its TOML gives (§2.5), or its Python adapter's policy (§2.14); a delivery is an event's name and a
payload. The paragraphs named are the description's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

VERBS = ("review", "fix", "deepen", "retry", "cancel", "garden", "remember", "forget", "status")
UNGATED = ("status", "unknown")
"""§2.7: what anybody may ask; a clarification is ungated too."""
AUTOMATIC = ("opened", "synchronize", "reopened", "ready_for_review")


@dataclass(frozen=True)
class Delivery:
    """An event as it came. `recent` are the tasks that its installation made within the last 24 hours."""

    event: str
    payload: Json
    recent: int = 0


@dataclass(frozen=True)
class Reading:
    """What becomes of a delivery: a task, or, where `familiar` is None, `ignored:<reason>`."""

    familiar: str | None
    kind: str
    """fix_issue, review_pull_request, address_review_comment, garden_run, command_reply, cancel_reviews; or ignored."""
    number: int | None = None
    reason: str = ""
    """Of a review, what it is made for; of a delivery that is ignored, the word."""
    why: str = ""
    """Of one that is ignored as unroutable, what there is against it, for whom the test shows it."""
    verb: str | None = None
    """Of a command, the known word, or `unknown`."""
    gated: bool = False
    """Whether the worker asks first if the commander may write."""
    supersedes: bool = False
    """Whether it outdates queued reviews of its pull request (§2.9)."""

    @property
    def ignored(self) -> bool:
        return self.familiar is None


def ignored(reason: str, why: str = "") -> Reading:
    return Reading(None, "ignored", reason=reason, why=why)


def read(config: Json, delivery: Delivery) -> Reading:
    """§2.4: what is told by the event alone, the rows of §2.6, and then the quota of §2.10."""
    payload = delivery.payload
    if delivery.event == "ping":
        return ignored("ping")
    if delivery.event == "marketplace_purchase":
        return ignored(f"marketplace_purchase:{payload.get('action')}")
    if delivery.event == "installation" and payload.get("action") == "deleted":
        return ignored("installation_deleted")
    reading = _routed(config, delivery.event, payload)
    if reading.ignored:
        return reading
    installation = _installation(config, payload)
    cap = None if installation is None else installation.get("limits", {}).get("max_tasks_per_day")
    if cap is not None and delivery.recent >= cap:
        return ignored("quota_exceeded")
    return reading


def _routed(config: Json, event: str, payload: Json) -> Reading:
    """§2.6, row by row."""
    action = payload.get("action")
    if event == "issues" and action == "assigned":
        return _assigned(config, payload)
    if event == "issues" and action == "labeled":
        return _labeled(config, payload, "issue")
    if event == "pull_request" and action == "labeled":
        return _labeled(config, payload, "pull_request")
    if event == "pull_request" and action in AUTOMATIC:
        return _automatic(config, payload)
    if (event, action) in (
        ("issue_comment", "created"),
        ("pull_request_review", "submitted"),
        ("pull_request_review_comment", "created"),
    ):
        return _commented(config, event, payload)
    return ignored("unroutable", "no row")


# Scope (§2.5, §2.6)


def _installation(config: Json, payload: Json) -> Json | None:
    number = _at(payload, "installation", "id")
    for one in config.get("installations", []):
        if one["id"] == number:
            return dict(one)
    return None


def _scope(config: Json, payload: Json) -> list[Json] | None:
    """The familiars that may be asked, in the order of the configuration; None where nothing is open."""
    familiars: list[Json] = config.get("familiars", [])
    if not config.get("installations"):
        return familiars
    installation = _installation(config, payload)
    if installation is None:
        return None
    listed = installation.get("familiars") or [one["id"] for one in familiars]
    return [one for one in familiars if one["id"] in listed]


def _open(config: Json, payload: Json, lane: str) -> bool:
    """Whether the lane is on: the repository's own word wins over the installation's, and is on by default."""
    installation = _installation(config, payload)
    if installation is None:
        return not config.get("installations")
    repo = installation.get("repos", {}).get(_at(payload, "repository", "full_name"), {})
    if repo.get("enabled") is False:
        return False
    own = repo.get(lane)
    if own is not None:
        return bool(own)
    return bool(installation.get("triggers", {}).get(lane, True))


# The rows


def _assigned(config: Json, payload: Json) -> Reading:
    number, login = _at(payload, "issue", "number"), _at(payload, "assignee", "login")
    if _lacks(payload, number, login):
        return ignored("unroutable", "a field is missing")
    scope = _scope(config, payload)
    if scope is None or not _open(config, payload, "assignment"):
        return ignored("unroutable", "closed")
    for familiar in scope:
        if familiar["bot_username"] == login:
            return Reading(familiar["id"], "fix_issue", number, reason="assigned")
    return ignored("unroutable", "assigned to somebody else")


def _labeled(config: Json, payload: Json, subject: str) -> Reading:
    number, label = _at(payload, subject, "number"), _at(payload, "label", "name")
    author = _at(payload, subject, "user", "login")
    if _lacks(payload, number, label, *([author] if subject == "pull_request" else [])):
        return ignored("unroutable", "a field is missing")
    if subject == "pull_request" and _author_is_bot(config, payload):
        return ignored("unroutable", "a configured bot's pull request")
    scope = _scope(config, payload)
    if scope is None or not _open(config, payload, "labels"):
        return ignored("unroutable", "closed")
    for familiar in scope:
        if label in familiar.get("trigger_labels", []):
            if subject == "issue":
                return Reading(familiar["id"], "fix_issue", number, reason="labeled")
            return Reading(familiar["id"], "review_pull_request", number, reason="labeled", supersedes=True)
    return ignored("unroutable", "no trigger label")


def _automatic(config: Json, payload: Json) -> Reading:
    number, draft = _at(payload, "pull_request", "number"), _at(payload, "pull_request", "draft")
    if _lacks(payload, number, _at(payload, "pull_request", "user", "login")):
        return ignored("unroutable", "a field is missing")
    if _author_is_bot(config, payload):
        return ignored("unroutable", "a configured bot's pull request")
    scope = _scope(config, payload)
    if scope is None or not _open(config, payload, "reviews"):
        return ignored("unroutable", "closed")
    policy = dict(config.get("review", {}))
    policy.update(policy.get("repos", {}).get(_at(payload, "repository", "full_name"), {}))
    if not policy.get("pull_request", False):
        return ignored("unroutable", "no automatic review")
    if draft is not False and not policy.get("include_drafts", False):
        return ignored("unroutable", "a draft")
    for familiar in scope:
        if familiar["id"] == policy.get("familiar"):
            action = payload["action"]
            return Reading(familiar["id"], "review_pull_request", number, reason=action, supersedes=True)
    return ignored("unroutable", "the reviewer is out of scope")


def _author_is_bot(config: Json, payload: Json) -> bool:
    author = _at(payload, "pull_request", "user", "login")
    return any(one["bot_username"] == author for one in config.get("familiars", []))


def _commented(config: Json, event: str, payload: Json) -> Reading:
    words = "review" if event == "pull_request_review" else "comment"
    thread = "issue" if event == "issue_comment" else "pull_request"
    on_pull_request = thread == "pull_request" or _at(payload, "issue", "pull_request") is not None
    number, body, author = (
        _at(payload, thread, "number"),
        _at(payload, words, "body"),
        _at(payload, words, "user", "login"),
    )
    if _lacks(payload, number, body, author):
        return ignored("unroutable", "a field is missing")
    scope = _scope(config, payload)
    if scope is None or not _open(config, payload, "commands"):
        return ignored("unroutable", "closed")
    for familiar in scope:
        verb = command(familiar["bot_username"], body)
        if verb is not None and familiar["bot_username"] != author:
            return _by_command(familiar["id"], number, verb, on_pull_request=on_pull_request)
    if body.split()[:2] == ["/coven", "garden"] and scope:
        return Reading(scope[0]["id"], "garden_run", number, verb="garden", reason="/coven garden", gated=True)
    return ignored("unroutable", "no command")


# The grammar (§2.7)


def command(bot_username: str, body: str) -> str | None:
    """The verb that the comment gives this bot, `unknown` for another word, None where it is no command."""
    handle = "@" + bot_username.removesuffix("[bot]")
    text = body.lstrip()
    if not text.startswith(handle):
        return None
    rest = text[len(handle) :]
    if rest and (rest[0].isalnum() or rest[0] in "-_/"):
        return None
    words = rest.split()
    if not words:
        return None
    verb = words[0].removesuffix(":").lower()
    return verb if verb in VERBS else "unknown"


def _by_command(familiar: str, number: int, verb: str, *, on_pull_request: bool) -> Reading:
    """§2.7's table."""
    gated = verb not in UNGATED
    reply = Reading(familiar, "command_reply", number, reason=verb, verb=verb, gated=gated)
    if verb in ("unknown", "status", "remember", "forget"):
        return reply
    if verb == "garden":
        return Reading(familiar, "garden_run", number, verb=verb, gated=True)
    if not on_pull_request:
        if verb in ("fix", "retry"):
            return Reading(familiar, "fix_issue", number, reason=verb, verb=verb, gated=True)
        return Reading(familiar, "command_reply", number, reason="needs a pull request", verb=verb)
    if verb == "fix":
        return Reading(familiar, "address_review_comment", number, verb=verb, gated=True)
    if verb == "cancel":
        return Reading(familiar, "cancel_reviews", number, verb=verb, gated=True)
    return Reading(
        familiar, "review_pull_request", number, reason=f"command:{verb}", verb=verb, gated=True, supersedes=True
    )


# The Python adapter (§2.14)

ADAPTER_ROWS = {
    ("issues", "assigned"): "issue_assigned",
    ("issues", "labeled"): "issue_label",
    ("issue_comment", "created"): "issue_mention",
    ("pull_request_review_comment", "created"): "pr_review_comment",
    ("pull_request", "opened"): "pull_request",
    ("pull_request", "synchronize"): "pull_request",
    ("pull_request", "reopened"): "pull_request",
    ("pull_request", "ready_for_review"): "pull_request",
}
"""Which of `enabled_triggers` each event needs; `push` makes no work that anybody else has a word for."""


def read_adapter(policy: Json, delivery: Delivery) -> Reading:
    """§2.14: nothing is open that isn't listed by installation and repository; then whether the event names its bot or label."""
    payload = delivery.payload
    installation, repo = _at(payload, "installation", "id"), _at(payload, "repository", "id")
    own = _at(policy, "installations", str(installation), "repositories", str(repo))
    if own is None:
        return ignored("no_policy_for_installation_repo")
    trigger = ADAPTER_ROWS.get((delivery.event, str(payload.get("action"))))
    if trigger is None or trigger not in own.get("enabled_triggers", []):
        return ignored("unroutable", "no trigger")
    familiar = own["familiar"]["id"]
    bots = own.get("bot_usernames", [])
    if trigger == "issue_assigned":
        named = _at(payload, "assignee", "login") in bots
        number = _at(payload, "issue", "number")
        return Reading(familiar, "fix_issue", number) if named else ignored("unroutable", "assigned to somebody else")
    if trigger == "issue_label":
        named = _at(payload, "label", "name") in own.get("trigger_labels", [])
        number = _at(payload, "issue", "number")
        return Reading(familiar, "fix_issue", number) if named else ignored("unroutable", "no trigger label")
    if trigger == "pull_request":
        return Reading(familiar, "review_pull_request", _at(payload, "pull_request", "number"))
    body, author = _at(payload, "comment", "body"), _at(payload, "comment", "user", "login")
    if author in bots or not any("@" + one.removesuffix("[bot]") in (body or "") for one in bots):
        return ignored("issue_comment_without_mention")
    thread = "issue" if trigger == "issue_mention" else "pull_request"
    return Reading(familiar, "mention", _at(payload, thread, "number"))


def _lacks(payload: Json, *fields: object) -> bool:
    """Whether one of them is missing, or what every task has: its repository, and the installation that it is of."""
    repository = (_at(payload, "repository", "full_name"), _at(payload, "repository", "id"))
    told = (*repository, _at(payload, "installation", "id"))
    return any(one is None for one in (*fields, *told))


def _at(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
