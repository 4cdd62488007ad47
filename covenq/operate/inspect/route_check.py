"""What a route's filter and key hardly mean: words that no delivery of GitHub's has, each with the nearest that one has.

Warnings, not errors: the table of events (`covenq.github.events`) is that of a day, and GitHub may send more.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches

from covenq.config.executor import BRACED
from covenq.config.route import Route
from covenq.config.work_token import THIS
from covenq.filter.explain import node_text
from covenq.filter.tree import InRange, Match, Node, Not, Pattern
from covenq.github.events import ACTIONS, ANY, COLUMNS, EVENTS, TARGETS
from covenq.model import Target

PING = "ping"
NAMES_SHOWN = 4

_COLUMN_OF = {name: name for name in ("repo", "repo_id", "number", "ref", "target", "label")} | {"sha": "head_sha"}
"""Fields of filters whose column some events never have."""
_OWN_LABEL = frozenset({"discussion", "issues", "label", "pull_request"})
"""Events that can have the column `label`; others have the labels of what they are about, which only a filter looks at."""
_WHOLE_REFS = frozenset({"code_scanning_alert", "merge_group", "push", "workflow_dispatch"})
"""Events whose ref begins with `refs/`; that of others is the branch's name."""
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_HEX = re.compile(r"[0-9A-Fa-f]{1,64}\Z")
_URL = re.compile(
    r"(?:https?://|ssh://|git@)?(?:[^/@]*@)?(?:www\.)?github\.com[/:]([^/\s]+)/([^/\s?#]+?)(?:\.git)?(?:[/?#].*)?\Z"
)


def problems(route: Route) -> Iterator[str]:
    """A sentence for each term that never holds, or never excludes anything, and each part of the key that is never there."""
    nodes = route.filter.node.nodes
    yield from _unknown_events(nodes)
    events = _events(nodes)
    if not events:
        if not any(_unknown_events(nodes)):
            yield "no delivery is of an event that all its terms on event allow; a ping is never routed"
        return
    for node in nodes:
        yield from _of_term(node, events)
    matching = _matching(nodes, events)
    yield from _of_key(route, matching)
    if "push" in matching:
        yield from _of_branches(route, nodes)


def token_problem(route: Route) -> str | None:
    """Why a token for the delivery's repository can't be had for all that the route takes; None where it can."""
    if route.token is None or route.token.repositories != THIS:
        return None
    nodes = route.filter.node.nodes
    without = _matching(nodes, _events(nodes)) - COLUMNS["repo_id"]
    if not without:
        return None
    return f"its token is for the delivery's repository, and {_names(without)} {_has(without)} none"


# ---- which events


def _events(nodes: Iterable[Node]) -> frozenset[str]:
    """The events that the terms on event allow."""
    return frozenset(one for one in EVENTS - {PING} if all(_allows(node, "event", (one,)) for node in nodes))


def _matching(nodes: Iterable[Node], events: Collection[str]) -> frozenset[str]:
    """Those of the events that the other terms can hold of, as far as the table tells."""
    found = set()
    for event in events:
        actions = ACTIONS[event]
        columns = (_column(node) for node in nodes)
        if all(column is None or event in COLUMNS[column] for column in columns) and all(
            ANY in actions or _allows(node, "action", actions) for node in nodes
        ):
            found.add(event)
    return frozenset(found)


def _allows(node: Node, field: str, values: Collection[str]) -> bool:
    """Whether a term on that field can hold of one of the values; True for any other term."""
    match node:
        case Match(name, patterns) if name == field:
            return any(pattern.matches(value) for pattern in patterns for value in values)
        case Not(Match(name, patterns)) if name == field:
            return not values or any(not any(p.matches(value) for p in patterns) for value in values)
        case _:
            return True


def _column(node: Node) -> str | None:
    """The column that an event must have for the term to hold."""
    return _COLUMN_OF.get(node.field) if isinstance(node, Match | InRange) else None


def _unknown_events(nodes: Iterable[Node]) -> Iterator[str]:
    for match in _matches(nodes, "event"):
        for word in _literals(match):
            if word not in EVENTS:
                yield f"event:{word} is no event that GitHub documents{_nearest(word, EVENTS, 'event')}"


# ---- one term


def _of_term(node: Node, events: frozenset[str]) -> Iterator[str]:
    column = _column(node)
    if column is not None and not events & COLUMNS[column]:
        yield f"{node_text(node)} never holds: {_names(events)} {_has(events)} no {column}{_instead(node, events)}"
        return
    for match in _matches((node,), "action"):
        yield from _of_actions(match, events)
    for match in _matches((node,), "repo"):
        yield from (f"repo:{word} is no owner/name{nearest}" for word in _literals(match) if (nearest := _repo(word)))
    for name in ("owner", "sender"):
        for match in _matches((node,), name):
            for word in _literals(match):
                if word.startswith("@") or "/" in word:
                    yield f"{name}:{word} is no login: did you mean {name}:{word.lstrip('@').split('/')[0]}?"
    for match in _matches((node,), "sha"):
        yield from (f"sha:{text} is no commit's{nearest}" for text, nearest in _shas(match))
    for match in _matches((node,), "ref"):
        yield from _of_refs(match, events)
    for match in _matches((node,), "target"):
        possible = frozenset(target for event in events for target in _targets(event))
        for word in _literals(match):
            if word not in possible and word not in set(Target):
                yield f"target:{word} is no target{_nearest(word, set(Target), 'target')}"
            elif word not in possible:
                yield f"target:{word} never holds: {_names(events)} {_has(events)} {' or '.join(sorted(possible))}"


def _of_actions(match: Match, events: frozenset[str]) -> Iterator[str]:
    known = frozenset(action for event in events for action in ACTIONS[event])
    if ANY in known:
        return
    for pattern in match.patterns:
        if any(pattern.matches(action) for action in known) or (pattern.any and known):
            continue
        text = node_text(Match("action", (pattern,)))
        if not known:
            yield f"{text} never holds: {_names(events)} {_has(events)} no action"
        else:
            nearest = _nearest(pattern.literal or "", known, "action")
            yield f"{text} never holds: {_names(events)} {_has(events)} no such action{nearest}"


def _of_refs(match: Match, events: frozenset[str]) -> Iterator[str]:
    having = events & COLUMNS["ref"]
    for pattern in match.patterns:
        start = pattern.chunks[0]
        text = node_text(Match("ref", (pattern,)))
        if having <= _WHOLE_REFS and start and not (start.startswith("refs/") or "refs/".startswith(start)):
            better = node_text(Match("ref", (Pattern((f"refs/heads/{start}", *pattern.chunks[1:])),)))
            yield f"{text} never holds: the ref of {_names(having)} begins with refs/: did you mean {better}?"
        elif not having & _WHOLE_REFS and start.startswith("refs/heads/"):
            better = node_text(Match("ref", (Pattern((start.removeprefix("refs/heads/"), *pattern.chunks[1:])),)))
            yield f"{text} never holds: the ref of {_names(having)} is the branch's name: did you mean {better}?"


def _shas(match: Match) -> Iterator[tuple[str, str]]:
    """(the text, what to write instead) of each pattern that no commit's hash matches."""
    for pattern in match.patterns:
        text = node_text(Match("sha", (pattern,))).removeprefix("sha:")
        word = pattern.literal
        if word is None:
            if text != text.lower():
                yield text, f": they are in lower case, sha:{text.lower()}"
        elif not _SHA.match(word):
            lower = word.lower()
            if _SHA.match(lower):
                yield text, f": they are in lower case, sha:{lower}"
            elif _HEX.match(word):
                yield text, f", which has 40 digits: did you mean sha:{lower}*?"
            else:
                yield text, ": those are 40 hexadecimal digits"


def _repo(word: str) -> str | None:
    """What to write instead of a text that is no repository's; None if it is one's."""
    if found := _URL.match(word):
        return f": did you mean repo:{found[1]}/{found[2]}?"
    owner, slash, name = word.partition("/")
    if owner and slash and name and "/" not in name and ":" not in word:
        return None
    return f": did you mean repo:*/{word}?" if word and not slash else ": write repo:owner/name"


def _targets(event: str) -> Collection[str]:
    match event:
        case "create" | "delete":
            return Target.BRANCH.value, Target.TAG.value
        case "push":
            return Target.COMMIT.value, Target.BRANCH.value, Target.TAG.value
        case "issue_comment":
            return Target.ISSUE.value, Target.PULL.value
        case _:
            return (TARGETS[event],) if event in TARGETS else ()


# ---- the key


def _of_key(route: Route, events: frozenset[str]) -> Iterator[str]:
    for column in dict.fromkeys(BRACED.findall(route.key or "")):
        having = _OWN_LABEL if column == "label" else COLUMNS.get(column)
        lacking = frozenset() if having is None else events - having
        if lacking:
            yield (
                f"key {route.key}: {_names(lacking)} {_has(lacking)} no {column}, so "
                "such tasks have no key, and none of them waits for, or supersedes, another"
            )


def _of_branches(route: Route, nodes: Iterable[Node]) -> Iterator[str]:
    """Pushes of several branches with one key, of which each outdates the others."""
    parts = BRACED.findall(route.key or "")
    one_branch = any(len(match.patterns) == 1 and match.patterns[0].literal for match in _positive(nodes, "ref"))
    if route.scheduling.supersede != "never" and parts and not {"ref", "head_sha"} & {*parts} and not one_branch:
        yield f"key {route.key}: a push supersedes those of other branches too: did you mean {route.key}@{{ref}}?"


# ---- words


def _positive(nodes: Iterable[Node], field: str) -> Iterator[Match]:
    return (node for node in nodes if isinstance(node, Match) and node.field == field)


def _matches(nodes: Iterable[Node], field: str) -> Iterator[Match]:
    """The terms on that field, negated ones too: a word that nothing has excludes nothing."""
    for node in nodes:
        inner = node.node if isinstance(node, Not) else node
        if isinstance(inner, Match) and inner.field == field:
            yield inner


def _literals(match: Match) -> Iterator[str]:
    return (pattern.literal for pattern in match.patterns if pattern.literal is not None)


def _nearest(word: str, known: Collection[str], field: str) -> str:
    same = [one for one in known if one == word.lower()]
    near = same or get_close_matches(word.lower(), sorted(known), n=1)
    return f": did you mean {field}:{near[0]}?" if near else ""


def _names(events: Collection[str]) -> str:
    if len(events) == len(EVENTS - {PING}):
        return "GitHub's deliveries"
    shown = ", ".join(sorted(events)[:NAMES_SHOWN])
    return shown if len(events) <= NAMES_SHOWN else f"{shown} and {len(events) - NAMES_SHOWN} more events"


def _has(events: Collection[str]) -> str:
    return "has" if len(events) == 1 else "have"


def _instead(node: Node, events: frozenset[str]) -> str:
    if events == {"workflow_job"} and isinstance(node, Match) and node.field == "label":
        labels = node_text(node).replace("label:", "labels:", 1)
        return f". Its labels are the runner's: did you mean payload.workflow_job.{labels}?"
    return ""
