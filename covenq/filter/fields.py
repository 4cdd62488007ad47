"""The fields of the grammar, from the columns of a delivery's or a task's row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence


class DeliveryFields(Mapping[str, object]):
    """A delivery as filters see it. Each field is made when it is read: a route reads one or two of thirty."""

    __slots__ = ("_payload", "_row", "_tasks")

    def __init__(self, row: Mapping[str, object], tasks: Sequence[Mapping[str, object]], payload: object) -> None:
        self._row = row
        self._tasks = tasks
        self._payload = payload

    def __getitem__(self, name: str) -> object:
        if name in _OF_ROW:
            return self._row.get(_OF_ROW[name])
        if name in _OF_TASKS:
            return [task.get(name) for task in self._tasks]
        row = self._row
        match name:
            case "id":
                return [row.get("guid"), f"{row.get('hook')}/{row.get('guid')}"]
            case "label":
                return _label(row)
            case "words":
                whole = f"{row.get('hook')}/{row.get('guid')}"
                return [_address(row), row.get("title"), whole, [task.get("id") for task in self._tasks]]
            case "payload":
                return self._payload
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter((*_OF_ROW, *_OF_TASKS, "id", "label", "words", "payload"))

    def __len__(self) -> int:
        return len(_OF_ROW) + len(_OF_TASKS) + 4


_OF_ROW = {
    name: name
    for name in """hook guid seq event action repo repo_id owner sender installation number ref target state reason
    duplicates source secret twin""".split()
} | {"sha": "head_sha", "size": "payload_bytes", "at": "received_at"}
"""The fields that are columns of the delivery."""

_OF_TASKS = frozenset({"route", "kind", "purpose", "familiar", "worker", "node", "category", "attempts"})
"""The fields that each of its tasks has."""


def delivery_fields(
    row: Mapping[str, object], tasks: Sequence[Mapping[str, object]] = (), payload: object = None
) -> Mapping[str, object]:
    """A delivery as filters see it.

    `row` has the names of the delivery object (absent is null), `tasks` those of its tasks; `payload` is the decoded body, or a
    callable that gives it.
    """
    return DeliveryFields(row, tasks, payload)


def task_fields(
    row: Mapping[str, object], delivery: Mapping[str, object] | None = None, payload: object = None
) -> dict[str, object]:
    """A task as filters see it: `row` has the names of the task object, `delivery` those of its delivery's."""
    of = delivery or {}
    own = {name: row.get(name) for name in ("id", "hook", "guid", "event", "action", "repo", "repo_id", "installation")}
    own |= {
        name: row.get(name)
        for name in "number ref target state reason route kind purpose familiar worker node category".split()
    }
    own |= {name: of.get(name) for name in ("owner", "sender", "duplicates", "source", "secret", "twin")}
    return own | {
        "attempts": row.get("attempts"),
        "seq": row.get("delivery_seq"),
        "sha": row.get("head_sha"),
        "size": of.get("payload_bytes"),
        "label": _label(of),
        "at": row.get("created_at"),
        "words": [_address(row), of.get("title"), f"{row.get('hook')}/{row.get('guid')}", row.get("id")],
        "payload": payload,
    }


def _label(row: Mapping[str, object]) -> object:
    label = row.get("label")
    return label if label is not None else row.get("labels")


def _address(row: Mapping[str, object]) -> object:
    repo, number = row.get("repo"), row.get("number")
    return repo if repo is None or number is None else f"{repo}#{number}"
