"""Where covenq decides otherwise than coven-github, and why: the table of the manual, as functions.

A deviation changes what is read (a comparison without case: both sides are put into lower case and read again), or what is made
of it (a command of somebody who may not give it). Together they turn coven-github's reading into what covenq decides, exactly.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tests.support.coven_reading import Delivery, Json, Reading, read

ASSOCIATIONS = ("OWNER", "MEMBER", "COLLABORATOR")


@dataclass(frozen=True)
class Decision:
    """What covenq makes of a delivery: a task of this familiar, for this purpose; or nothing."""

    familiar: str | None = None
    purpose: str | None = None
    number: int | None = None
    supersedes: bool = False


NOTHING = Decision()


@dataclass(frozen=True)
class Deviation:
    name: str
    manual: str
    """What covenq-familiars(7) has it under, with the reason."""
    before: Callable[[Json, Delivery], tuple[Json, Delivery]] | None = None
    """What is read instead."""
    after: Callable[[Json, Delivery, Reading, Decision], Decision] | None = None
    """What is made of the reading instead."""


def expected(config: Json, delivery: Delivery, without: str | None = None) -> Decision:
    """What covenq has to decide; `without` leaves one deviation out, to see whether it makes a difference."""
    used = [one for one in DEVIATIONS if one.name != without]
    for one in used:
        if one.before is not None:
            config, delivery = one.before(config, delivery)
    reading = read(config, delivery)
    decision = in_our_words(reading)
    for one in used:
        if one.after is not None and decision != NOTHING:
            decision = one.after(config, delivery, reading, decision)
    return decision


def in_our_words(reading: Reading) -> Decision:
    """The same decision: a reply and the work that the adapter did itself are tasks whose purpose is the command's word."""
    if reading.ignored:
        return NOTHING
    purpose = reading.kind
    if reading.kind == "command_reply":
        purpose = reading.verb if reading.verb in ("status", "remember", "forget") else "clarification"
    elif reading.kind == "garden_run":
        purpose = "garden"
    elif reading.kind == "cancel_reviews":
        purpose = "cancel"
    return Decision(reading.familiar, purpose, reading.number, reading.supersedes)


def _labels_without_case(config: Json, delivery: Delivery) -> tuple[Json, Delivery]:
    config, payload = copy.deepcopy(config), copy.deepcopy(delivery.payload)
    for familiar in config["familiars"]:
        familiar["trigger_labels"] = [label.lower() for label in familiar.get("trigger_labels", [])]
    _change(payload, str.lower, "label", "name")
    return config, replace(delivery, payload=payload)


def _names_without_case(config: Json, delivery: Delivery) -> tuple[Json, Delivery]:
    """Logins, and the handle that a comment begins with."""
    config, payload = copy.deepcopy(config), copy.deepcopy(delivery.payload)
    for familiar in config["familiars"]:
        familiar["bot_username"] = familiar["bot_username"].lower()
    for path in (("assignee",), ("pull_request", "user"), ("comment", "user"), ("review", "user")):
        _change(payload, str.lower, *path, "login")
    for path in ("comment", "review"):
        _change(payload, _handle_in_lower_case, path, "body")
    return config, replace(delivery, payload=payload)


def _handle_in_lower_case(body: str) -> str:
    [first] = body.split(maxsplit=1)[:1] or [""]
    return body.replace(first, first.lower(), 1) if first.startswith("@") else body


def _repositories_without_case(config: Json, delivery: Delivery) -> tuple[Json, Delivery]:
    config, payload = copy.deepcopy(config), copy.deepcopy(delivery.payload)
    for holder in (*config.get("installations", []), config.get("review", {})):
        if "repos" in holder:
            holder["repos"] = {name.lower(): value for name, value in holder["repos"].items()}
    _change(payload, str.lower, "repository", "full_name")
    return config, replace(delivery, payload=payload)


def _any_hook(config: Json, delivery: Delivery) -> tuple[Json, Delivery]:
    """A payload without an installation is read with one that nobody lists."""
    if config.get("installations") or (delivery.payload.get("installation") or {}).get("id") is not None:
        return config, delivery
    return config, replace(delivery, payload={**delivery.payload, "installation": {"id": 1}})


def _quota_waits(config: Json, delivery: Delivery) -> tuple[Json, Delivery]:
    return config, replace(delivery, recent=0)


def _by_association(config: Json, delivery: Delivery, reading: Reading, decision: Decision) -> Decision:
    return (
        decision if reading.verb is None or _words_of(delivery).get("author_association") in ASSOCIATIONS else NOTHING
    )


def _never_by_a_bot(config: Json, delivery: Delivery, reading: Reading, decision: Decision) -> Decision:
    if reading.verb is None:
        return decision
    author = _words_of(delivery).get("user", {}).get("login")
    return NOTHING if author in [one["bot_username"] for one in config["familiars"]] else decision


def _retry_as_an_operator(config: Json, delivery: Delivery, reading: Reading, decision: Decision) -> Decision:
    return replace(decision, purpose="retry", supersedes=False) if reading.verb == "retry" else decision


def _cancel_as_an_operator(config: Json, delivery: Delivery, reading: Reading, decision: Decision) -> Decision:
    return replace(decision, purpose="cancel") if reading.verb == "cancel" else decision


def _deepen_by_name(config: Json, delivery: Delivery, reading: Reading, decision: Decision) -> Decision:
    on_pull_request = reading.kind == "review_pull_request"
    return replace(decision, purpose="deepen") if reading.verb == "deepen" and on_pull_request else decision


def _no_slash_command(config: Json, delivery: Delivery, reading: Reading, decision: Decision) -> Decision:
    return NOTHING if reading.reason == "/coven garden" else decision


EITHER_CASE = "Either case"
TASKS = "cancel and retry are an operator's"
DEVIATIONS = (
    Deviation("labels without case", EITHER_CASE, before=_labels_without_case),
    Deviation("names without case", EITHER_CASE, before=_names_without_case),
    Deviation("repositories without case", EITHER_CASE, before=_repositories_without_case),
    Deviation("a hook without an App", "A hook of a repository calls, too", before=_any_hook),
    Deviation("a quota holds back", "A limit makes wait", before=_quota_waits),
    Deviation("who may command", "Who may command is decided before there is a task", after=_by_association),
    Deviation("no bot commands another", "No familiar calls a familiar", after=_never_by_a_bot),
    Deviation("retry", TASKS, after=_retry_as_an_operator),
    Deviation("cancel on an issue", TASKS, after=_cancel_as_an_operator),
    Deviation("deepen", "deepen is a purpose of its own", after=_deepen_by_name),
    Deviation(
        "/coven garden", "A word that nobody knows, or that needs a pull request, is a task", after=_no_slash_command
    ),
)
LATER = (
    "A review supersedes those of the same familiar",
    "One at a time",
)
"""What the manual lists beside them: it is about tasks that are there, and no decision about a delivery."""


def _words_of(delivery: Delivery) -> Json:
    return delivery.payload.get("comment") or delivery.payload.get("review") or {}


def _change(payload: Json, change: Callable[[str], str], *path: str) -> None:
    """Change a text of the payload, if it is there."""
    *most, last = path
    place: Any = payload
    for key in most:
        place = place.get(key) if isinstance(place, dict) else None
    if isinstance(place, dict) and isinstance(place.get(last), str):
        place[last] = change(place[last])
