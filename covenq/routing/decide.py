"""The routing decision: which tasks a delivery becomes, by the routes' filters over its columns. Values in, entries out."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from covenq.config.load import Config
from covenq.config.route import KEY_FIELDS, Route
from covenq.filter.explain import explain
from covenq.filter.grammar import delivery_fields
from covenq.filter.tree import And, Fields, Filter, Match, Not
from covenq.model import DeliveryId, IgnoredReason, Kind, State, at_text, task_id, task_subject
from covenq.routing.trigger import Facts, refusal, triggers
from journal.records import Entry

KEY_MAX = 512
"""Characters of a task's key."""

PING = IgnoredReason.PING.value
NO_ROUTES = IgnoredReason.NO_ROUTES.value
NO_MATCH = IgnoredReason.NO_MATCH.value
"""Reasons why a delivery is `ignored`."""

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z\Z")
_BRACED = re.compile(r"\{(" + "|".join(KEY_FIELDS) + r")\}")


class Decision(NamedTuple):
    """What becomes of a delivery.

    `queued`: `entries` are its `task.queued`, `tasks` their ids. `ignored`: `entries` is its one `delivery.ignored`,
    and `reason` the word in it. `received`: a rule failed, nothing is decided, and `problem` says what happened.
    """

    state: State
    entries: tuple[Entry, ...] = ()
    tasks: tuple[str, ...] = ()
    reason: str | None = None
    problem: str | None = None


def route(
    config: Config,
    delivery: DeliveryId,
    row: Mapping[str, object],
    payload: Callable[[], object],
    *,
    delivery_seq: int | None = None,
    replay: int = 0,
    only: Collection[str] | None = None,
    now: Callable[[], float] = time.time,
) -> Decision:
    """Decide by the configuration's routes, each match one task with the route's policy frozen into it.

    `row` is the delivery by the names of the delivery object (the columns, `received_at`, …); `payload` gives the
    decoded body and is called only if a filter asks for it. `delivery_seq` is None where the delivery is appended in
    the same call. `only` leaves out every task whose id is not in it. A ping is always ignored.

    All or nothing: if one filter fails, whatever it raises, no route is taken, so that the routes are decided
    together once the rule is corrected. Never raises.
    """
    routes, config_sha256 = config.routes, config.sha256
    if row["event"] == PING:
        return _ignored(
            delivery, config_sha256, PING, "GitHub sends a ping when a hook is made; there is nothing to do."
        )
    if not routes:
        return _ignored(delivery, config_sha256, NO_ROUTES, "No routes are configured.")
    fields = delivery_fields(row, payload=_once(payload))
    moment = now()
    facts = Facts(fields)
    matched: list[Route] = []
    event = row["event"]
    for rule in routes:
        if rule.events is not None and event not in rule.events:
            continue
        try:
            if rule.condition.matches(fields, now=moment) and (rule.trigger is None or triggers(rule.trigger, facts)):
                matched.append(rule)
        except Exception as error:  # noqa: BLE001 - a rule's failure, whatever it is, must cost no delivery
            # The type alone: the text of an error may quote the payload.
            return Decision(State.RECEIVED, problem=f"route {rule.name!r} failed with {type(error).__name__}")
    if not matched:
        return _ignored(delivery, config_sha256, *_no_match_reason(routes, row, fields, facts, moment))
    if any(rule.scheduling.order == "newest" for rule in matched):
        try:
            row = {**row, "source_at": _source_at(payload())}
        except Exception as error:  # noqa: BLE001 - as above
            return Decision(State.RECEIVED, problem=f"the payload failed with {type(error).__name__}")
    ids = [task_id(delivery, rule.name, replay) for rule in matched]
    kept = [(rule, one) for rule, one in zip(matched, ids, strict=True) if only is None or one in only]
    return Decision(
        State.QUEUED,
        tuple(_queued(rule, one, config_sha256, delivery, row, delivery_seq, replay, moment) for rule, one in kept),
        tuple(one for _, one in kept),
    )


def key(template: str | None, row: Mapping[str, object]) -> str | None:
    """The task's key: the template with the delivery's columns in it, or None if one of them is absent.

    Deliveries without a number, for example, are not about the same thing just because none has one.
    """
    if template is None:
        return None
    if any(row.get(name) is None for name in _BRACED.findall(template)):
        return None
    return _BRACED.sub(lambda found: str(row[found[1]]), template)[:KEY_MAX]


def _once(payload: Callable[[], object]) -> Callable[[], object]:
    """The payload, decoded at most once however many rules ask for it."""
    found: list[object] = []

    def give() -> object:
        if not found:
            found.append(payload())
        return found[0]

    return give


def _ignored(delivery: DeliveryId, config_sha256: str, reason: str, detail: str) -> Decision:
    data = {"reason": reason, "detail": detail, "config": config_sha256}
    entry = Entry(delivery.subject, str(Kind.IGNORED), data)
    return Decision(State.IGNORED, (entry,), reason=reason)


def _no_match_reason(
    routes: Sequence[Route], row: Mapping[str, object], fields: Fields, facts: Facts, now: float
) -> tuple[str, str]:
    """(reason, sentence): why a familiar that it is meant for has no task, else the `else` of the nearest route that has one.

    The nearest is the one of which the fewest terms don't hold.
    """
    what = f"event {row['event']}" + (f", action {row['action']}" if row.get("action") else "")
    for rule in routes:
        refused = None if rule.trigger is None else refusal(rule.trigger, facts)
        if refused is not None and refused.reason is not None and rule.filter.matches(fields, now=now):
            said = f"{refused.problem[0].upper()}{refused.problem[1:]}"
            return refused.reason.value, f"{said}; else {rule.name} would have taken it."
    nearest = min(
        (rule for rule in routes if rule.otherwise is not None and _is_about_event(rule, fields, now)),
        key=lambda rule: sum(term.holds is not True for term in explain(rule.filter, fields, now=now)),
        default=None,
    )
    if nearest is not None and nearest.otherwise is not None:
        return nearest.otherwise, f"No route matches {what}; {nearest.name} came nearest."
    names = ", ".join(rule.name for rule in routes[:10]) + (", …" if len(routes) > 10 else "")
    return NO_MATCH, f"No route matches {what}; there {'is' if len(routes) == 1 else 'are'} {names}."


def _is_about_event(rule: Route, fields: Fields, now: float) -> bool:
    """Whether the route's terms on event and action match: its `else` is no reason for other events."""
    about = tuple(
        node for node in rule.filter.node.nodes if isinstance(node, Match | Not) and _field(node) in ("event", "action")
    )
    return Filter(And(about)).matches(fields, now=now)


def _field(node: Match | Not) -> str | None:
    inner = node.node if isinstance(node, Not) else node
    return inner.field if isinstance(inner, Match) else None


def _source_at(payload: object) -> str | None:
    """When the issue, pull request or discussion was last updated, as GitHub's payload has it; RFC 3339 with microseconds."""
    for name in ("pull_request", "issue", "discussion"):
        subject = payload.get(name) if isinstance(payload, dict) else None
        at = subject.get("updated_at") if isinstance(subject, dict) else None
        if isinstance(at, str) and _TIME.match(at):
            return f"{at[:19]}.{at[20:-1]:0<6}Z"
    return None


def _queued(
    rule: Route,
    one: str,
    config_sha256: str,
    delivery: DeliveryId,
    row: Mapping[str, object],
    delivery_seq: int | None,
    replay: int,
    routed_at: float,
) -> Entry:
    data: dict[str, object] = {
        "hook": delivery.hook,
        "guid": delivery.guid,
        "delivery_seq": delivery_seq,
        "route": rule.name,
        "kind": rule.kind,
        "replay": replay,
        **rule.labels,
        "priority": rule.scheduling.priority,
        "policy": rule.policy,
        "config": config_sha256,
        "installation": row.get("installation"),
        "repo_id": row.get("repo_id"),
        "event": row["event"],
        "action": row.get("action"),
        "target": row.get("target"),
    }
    about: dict[str, object] = {
        "repo": row.get("repo"),
        "number": row.get("number"),
        "head_sha": row.get("head_sha"),
        "ref": row.get("ref"),
        "key": key(rule.key, row),
    }
    if rule.scheduling.debounce_s is not None and replay == 0:
        data["not_before"] = at_text(routed_at + rule.scheduling.debounce_s)
    if rule.scheduling.order == "newest":
        about["source_at"] = row.get("source_at")
    return Entry(task_subject(one), str(Kind.QUEUED), data, about, expect=0)
