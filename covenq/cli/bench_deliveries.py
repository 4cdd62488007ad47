"""The configuration that `covenq bench` measures with, and the deliveries that it sends: they fit the user's routes.

The routes match as they do for the user, and each match makes the same task, but every task is one that a worker elsewhere would
have to ask for (`pull`): whatever a route runs or forwards to is not in the file at all. Nobody can ask: the daemon has no
listener but its own socket and the webhook's, no secret of the user's and no address of theirs.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field

from covenq.cli import bench_client
from covenq.cli.bench_client import Template
from covenq.config.load import Config, build
from covenq.config.route import Route
from covenq.filter.tree import And, Fields, Filter, InRange, Match, Node, Pattern, Payload
from covenq.model import DeliveryId, JsonObject

SIZE = 8192
"""Bytes of a body where there are no routes to fit."""
VARIANTS = 32
"""Deliveries made at least: of different issues and commits, so that not all tasks have one key."""
TRIES_MAX = 100
"""Kinds of deliveries, of event and action, that are tried for one route."""
FALLBACK = "bench"
NONCE = "0" * 32


@dataclass(frozen=True, slots=True)
class BenchLoad:
    """The configuration's text, and what to send: each template in its turn."""

    config: str
    templates: tuple[Template, ...]
    tasks: float
    """Tasks that a delivery makes, on average."""
    routes: int
    """The user's; 0 means that the fallback stands in for them."""
    unmatched: tuple[str, ...] = ()
    """Routes for which no delivery was found that they match."""

    @property
    def body_bytes(self) -> int:
        return sum(len(one.body) for one in self.templates) // len(self.templates)


@dataclass(slots=True)
class _Fitted:
    """The deliveries that were found, each with the number of its tasks."""

    templates: list[Template] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)


def load_for(config: Config, size: int | None) -> BenchLoad:
    """The load for the routes of `config`; without routes, one that every delivery matches. `size`: of a body, at least."""
    if not config.routes:
        text = f'[[route]]\nname = "{FALLBACK}"\nmatch = "event:issues"\npull = true\n'
        one = Template("issues", bench_client.HOOK, bench_client.body(size or SIZE).decode())
        return BenchLoad(text, (one,), 1.0, 0)
    text = scratch_config(config)
    scratch = build(tomllib.loads(text), None, {})
    found = _Fitted()
    rounds = -(-VARIANTS // len(scratch.routes))
    for route in scratch.routes:
        fitted = list(_fit(scratch, route, rounds, size or 0))
        found.templates += [template for template, _ in fitted]
        found.tasks += [tasks for _, tasks in fitted]
        if not fitted:
            found.unmatched.append(route.name)
    if not found.templates:  # they are measured by what they refuse, which they look at all the same
        found.templates = [Template("issues", _hook(scratch, None), bench_client.body(size or SIZE).decode())]
        found.tasks = [0]
    average = sum(found.tasks) / len(found.tasks)
    return BenchLoad(text, tuple(found.templates), average, len(config.routes), tuple(found.unmatched))


# ---- the configuration


def scratch_config(config: Config) -> str:
    """The configuration's text: the user's routes with `pull` for what they run, and what decides how a delivery is taken."""
    lines = ["[server]", f"threads = {config.threads}"]
    if config.hooks:
        lines += ["[github]", f"hooks = {_list(config.hooks)}", f"twins = {_text(config.twins)}"]
    lines += ["[log]", f"level = {_text(config.log_level)}", f"format = {_text(config.log_format)}"]
    for route in config.routes:
        lines += ["[[route]]", *_route_lines(route)]
    return "\n".join(lines) + "\n"


def _route_lines(route: Route) -> Iterator[str]:
    scheduling, retry = route.scheduling, route.retry
    yield f"name = {_text(route.name)}"
    yield f"match = {_text(route.match)}"
    yield "pull = true"
    yield f"timeout = {_duration(route.timeout_s)}"
    on = "" if retry.on is None else f", on = {_list(retry.on)}"
    yield f"retry = {{ max = {retry.max}, backoff = {_duration(retry.backoff_s)}, cap = {_duration(retry.cap_s)}{on} }}"
    if route.otherwise is not None:
        yield f"else = {_text(route.otherwise)}"
    if route.key is not None:
        yield f"key = {_text(route.key)}"
    yield f"supersede = {_text(scheduling.supersede)}"
    if scheduling.debounce_s is not None:
        yield f"debounce = {_duration(scheduling.debounce_s)}"
        yield f"debounce_max = {_duration(scheduling.debounce_max_s or scheduling.debounce_s)}"
    yield f"order = {_text(scheduling.order)}"
    yield f"priority = {scheduling.priority}"


def _text(text: str) -> str:
    """A TOML string. JSON's are, but for DEL, which JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(_text, texts))}]"


def _duration(seconds: float) -> str:
    return f'"{int(seconds)}s"' if seconds == int(seconds) else f'"{round(seconds * 1000)}ms"'


# ---- deliveries that fit


def _fit(config: Config, route: Route, rounds: int, size: int) -> Iterator[tuple[Template, int]]:
    """`rounds` deliveries that the route matches, each with the number of tasks that it makes of all routes; or none."""
    terms = _terms(route.filter)
    hook = _hook(config, next((_value(one) for one in terms if isinstance(one, Match) and one.field == "hook"), None))
    kinds = [(event, action) for event in _events(terms) for action in _actions(terms)]
    for event, action in kinds[:TRIES_MAX]:
        found = [_trial(terms, event, action, number, size, hook) for number in range(1, rounds + 1)]
        fitting = [one for one in found if route.filter.matches(one.fields)]
        if fitting:
            yield from ((one.template, one.tasks(config)) for one in fitting)
            return


@dataclass(frozen=True, slots=True)
class _Trial:
    """A delivery, as it would be sent and as routes look at it."""

    template: Template
    row: JsonObject
    content: JsonObject

    @property
    def fields(self) -> Fields:
        from covenq.filter.grammar import delivery_fields

        return delivery_fields(self.row, payload=self.content)

    def tasks(self, config: Config) -> int:
        """The tasks that it makes."""
        from covenq.routing import decide

        return len(decide.route(config, DeliveryId(self.template.hook, NONCE), self.row, lambda: self.content).tasks)


def _trial(terms: list[Node], event: str, action: str | None, number: int, size: int, hook: str) -> _Trial:
    """A delivery made up for the terms."""
    from covenq.github import samples
    from covenq.github.columns import columns
    from covenq.model import now_text

    content: JsonObject = {"nonce": NONCE, **deepcopy(samples.SAMPLES[event](number, action))}
    for term in terms:
        _adapt(content, term)
    content["rest"] = "x" * max(0, size - len(_compact({**content, "rest": ""})))
    body = _compact(content)
    data, about = columns(event, content)
    row: JsonObject = {
        **data,
        **about,
        "event": event,
        "hook": hook,
        "guid": NONCE,
        "source": "http",
        "secret": "default",
    }
    row |= {"payload_bytes": len(body), "received_at": now_text()}
    return _Trial(Template(event, hook, body), row, content)


def _compact(content: JsonObject) -> str:
    return json.dumps(content, separators=(",", ":"))


def _hook(config: Config, wanted: str | None) -> str:
    from covenq.github import samples

    if wanted is not None and (not config.hooks or wanted in config.hooks):
        return wanted
    return samples.hook_for(config.hooks)


def _terms(filter: Filter) -> list[Node]:
    """The terms that have to hold; what they deny is left to the trial."""
    found: list[Node] = []
    stack: list[Node] = [filter.node]
    while stack:
        node = stack.pop()
        if isinstance(node, And):
            stack.extend(reversed(node.nodes))
        else:
            found.append(node)
    return found


def _events(terms: list[Node]) -> list[str]:
    """The events that have a sample and are asked for, the first choice first."""
    from covenq.github.samples import SAMPLES

    known = ["issues", *(event for event in SAMPLES if event not in ("issues", "ping"))]
    for term in terms:
        if isinstance(term, Match) and term.field == "event":
            known = [event for event in known if any(pattern.matches(event) for pattern in term.patterns)]
    return known


def _actions(terms: list[Node]) -> list[str | None]:
    """The actions that are named, or the event's usual one."""
    for term in terms:
        if isinstance(term, Match) and term.field == "action":
            return [*map(_example, term.patterns)]
    return [None]


def _value(term: Match | Payload) -> str:
    return _example(term.patterns[0])


def _example(pattern: Pattern) -> str:
    """A text that the pattern matches."""
    return "x" if pattern.any else "".join(pattern.chunks)


def _adapt(content: JsonObject, term: Node) -> None:
    """Have the payload say what the term asks for, where that is a plain place in it."""
    if isinstance(term, Payload):
        _put(content, term.path, _value(term))
    elif isinstance(term, InRange):
        low, high = term.ranges[0]
        number = low if low is not None else high
        if number is not None:
            _adapt_number(content, term.field, number)
    elif isinstance(term, Match) and not term.patterns[0].any:
        _adapt_text(content, term.field, _value(term))


def _adapt_number(content: JsonObject, name: str, number: int) -> None:
    match name:
        case "installation":
            _put(content, ("installation", "id"), number)
        case "repo_id":
            _put(content, ("repository", "id"), number)
        case "number":
            for subject in ("issue", "pull_request", "discussion"):
                if subject in content:
                    _put(content, (subject, "number"), number)


def _adapt_text(content: JsonObject, name: str, value: str) -> None:
    match name:
        case "repo":
            owner, _, own = value.partition("/")
            _put(content, ("repository", "full_name"), value)
            _put(content, ("repository", "name"), own)
            _put(content, ("repository", "owner", "login"), owner)
        case "owner":
            _put(content, ("repository", "owner", "login"), value)
        case "sender":
            _put(content, ("sender", "login"), value)
        case "action":
            content["action"] = value
        case "label":
            _put(content, ("label", "name"), value)
        case "ref":
            for holder in ("workflow_run", "check_suite", "workflow_job"):
                if holder in content:
                    _put(content, (holder, "head_branch"), value)
            if "pull_request" in content:
                _put(content, ("pull_request", "head", "ref"), value)
            elif "ref" in content:
                content["ref"] = value


def _put(content: JsonObject, path: tuple[str, ...], value: str | int) -> None:
    """Set what is at the path; of a list on the way the first element is meant, as far as there is one."""
    at: object = content
    for name in path[:-1]:
        if isinstance(at, list):
            at = at[0] if at else None
        if not isinstance(at, dict):
            return
        if not isinstance(at.get(name), dict | list):
            at[name] = {}
        at = at[name]
    if isinstance(at, list):
        at = at[0] if at else None
    if isinstance(at, dict):
        at[path[-1]] = value
