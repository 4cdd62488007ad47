"""The commands that read: status, deliveries, tasks, show. They work with or without a daemon."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covenq.cli import output
from covenq.cli.common import (
    After,
    ConfigOption,
    DataOption,
    Json,
    Jsonl,
    Limit,
    Words,
    filter_words,
    one_format,
    place,
    source,
)
from covenq.cli.output import Column, clean, say
from covenq.errors import NotFound, UsageError

if TYPE_CHECKING:
    from covenq.source import Source

Item = Mapping[str, Any]

PAGE = 1000
"""Items fetched at a time: memory stays flat however many are asked for."""

TAIL_LINES = 10
TAIL_BYTES = 4096
"""How much of a failed attempt's stderr is shown."""

TASK_ID = re.compile(r"t[0-9a-f]{24}\Z")


class Pages:
    """Items page by page. After the last one, `next` is the cursor to go on from, or None: that was all."""

    def __init__(self, fetch: Callable[..., Item], words: list[str], limit: int, after: str | None) -> None:
        self._fetch, self._words, self._limit = fetch, words, limit
        self.next = after

    def __iter__(self) -> Iterator[Item]:
        left = self._limit
        while True:
            page = self._fetch(self._words, limit=min(PAGE, left) if self._limit else PAGE, after=self.next)
            self.next = page["next"]
            yield from page["items"]
            left -= len(page["items"])
            if self.next is None or (self._limit and left <= 0):
                return


def status(data: DataOption = None, config: ConfigOption = None, json: Json = False) -> None:
    """Whether it is ready, where it is, what waits."""
    with source(data, config) as opened:
        found = opened.status()
    if json:
        output.emit_json(found)
        return
    for label, text in _status_lines(found, time.time()):
        output.line(f"{label:<11} {text}".rstrip())


def _status_lines(found: Item, now: float) -> Iterator[tuple[str, str]]:
    if found["pid"] is None:
        yield "covenq", f"{clean(found['version'])}, not running: what follows is read from the files"
    else:
        ready = "ready" if found["ready"] else "NOT READY"
        since = output.age(found["started_at"], now)
        yield "covenq", f"{clean(found['version'])}, {ready}, pid {found['pid']}, up {since}"
        for reason in found["reasons"]:
            yield "", clean(reason)
    yield "data", clean(found["data"])
    if found["webhook_url"]:
        yield "webhook", clean(found["webhook_url"])
    yield "journal", _journal_words(found["journal"])
    folded = found["state"]
    lag = f", {folded['lag']} behind" if folded["lag"] else ""
    wrong = f", error: {clean(folded['error'])}" if folded["error"] else ""
    yield "state", f"seq {folded['seq']}{lag}{wrong}"
    yield "deliveries", _counts(found["deliveries"])
    yield "tasks", _counts(found["tasks"])
    worker = found["worker"]
    if worker:
        yield "worker", f"{len(worker['running'])} of {worker['concurrency']} busy"
    if found.get("pauses"):
        from covenq.cli.pausing import subject, told

        for pause in found["pauses"]:
            yield "PAUSED", f"{subject(pause)}, {told(pause, now)}"
    upkeep = found.get("upkeep") or {}
    if upkeep.get("doing"):
        yield "upkeep", "{what}: {done} of {total} segments".format(**upkeep["doing"])
    if upkeep.get("error"):
        yield "upkeep", f"waits: {clean(upkeep['error'])}"
    yield "routes", ", ".join(map(clean, found["routes"])) or "none: every delivery is kept and ignored"
    if found["refused"]:
        yield "refused", _counts(found["refused"])


def _journal_words(journal: Item) -> str:
    head = journal["head"]
    words = [
        f"seq {head['seq']}",
        f"sum {clean(head['sum'])[:16]}",
        output.count(journal["segments"], "segment"),
    ]
    words.append(output.size(journal["bytes"]))
    if journal.get("last_sync_ms") is not None:
        words.append(f"last sync {journal['last_sync_ms']:.1f} ms")
    words += [word.upper() for word in ("poisoned", "full") if journal.get(word)]
    return ", ".join(words)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{clean(word)} {number:,}" for word, number in counts.items() if number) or "none"


def deliveries(
    words: Words = None,
    limit: Limit = 50,
    after: After = None,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """List deliveries, newest first.

    \b
      covenq deliveries event:issues action:opened,labeled since:1h
      covenq deliveries state:ignored 'repo:octo/*' -sender:octocat
      covenq deliveries 72d3162e payload.issue.user.login:octocat

    Fields: id guid hook seq event action repo repo_id owner sender installation number sha label state reason route
    attempts duplicates size source secret twin age since before payload.*. A comma means either, a dash (or not:) negates,
    * globs, bare words search repo, title and ids.
    """
    _list("deliveries", "delivery", DELIVERY_COLUMNS, words, limit, after, json, jsonl, data, config)


def tasks(
    words: Words = None,
    limit: Limit = 50,
    after: After = None,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """List tasks, newest first.

    \b
      covenq tasks state:failed since:1h
      covenq tasks route:fix-issue -state:completed

    Fields: as for deliveries, and route kind worker category.
    """
    _list("tasks", "task", TASK_COLUMNS, words, limit, after, json, jsonl, data, config)


def _list(
    what: str,
    one: str,
    columns: list[Column],
    words: list[str] | None,
    limit: int,
    after: str | None,
    json: bool,
    jsonl: bool,
    data: str | None,
    config: str | None,
) -> None:
    one_format(json, jsonl)
    filter = filter_words(words)
    with source(data, config) as opened:
        pages = Pages(getattr(opened, what), filter, limit, after)
        if json:
            output.emit_items(pages, lambda: pages.next)
        elif jsonl:
            output.emit_jsonl(pages)
        else:
            shown = output.table(columns, pages)
            if not shown:
                say(_nothing(what, one, bool(filter), place(data, config).data))
            elif pages.next is not None:
                say(
                    f"{output.count(shown, one, what)} shown, there are more: --after {pages.next}, or --limit 0 for all."
                )


def _nothing(what: str, one: str, filtered: bool, data: Path) -> str:
    """Why a list is empty, and what would fill it."""
    if not (data / "journal").is_dir():
        return f"Nothing was ever received in {clean(data)}. `covenq serve` starts it; --data names another directory."
    if filtered:
        return f"No {one} matches."
    if what == "tasks":
        return "No tasks yet: a task is made when a route matches a delivery (`covenq deliveries`)."
    return "No deliveries yet. `covenq status` says where the webhook is; `covenq send issues` posts a sample to it."


def _event(item: Item) -> str:
    return f"{item['event']}.{item['action']}" if item.get("action") else str(item["event"])


def _target(item: Item) -> str:
    number = item.get("number")
    return f"{item.get('repo') or ''}#{number}" if number is not None else str(item.get("repo") or "")


def _age(field: str) -> Callable[[Item], str]:
    return lambda item: output.age(item[field], time.time())


DELIVERY_COLUMNS = [
    Column("GUID", lambda d: d["guid"]),
    Column("AGE", _age("received_at"), right=True),
    Column("EVENT", _event, shrink=8),
    Column("TARGET", _target, shrink=8),
    Column("SENDER", lambda d: d["sender"], shrink=6),
    Column("STATE", lambda d: d["state"], colour=output.state_colour),
    Column("DUP", lambda d: d["duplicates"] or "", right=True),
    Column("REASON", lambda d: d["reason"], shrink=6),
]

TASK_COLUMNS = [
    Column("TASK", lambda t: t["id"]),
    Column("AGE", _age("created_at"), right=True),
    Column("ROUTE", lambda t: t["route"], shrink=6),
    Column("TARGET", _target, shrink=8),
    Column("STATE", lambda t: t["state"], colour=output.state_colour),
    Column("ATT", lambda t: t["attempts"] or "", right=True),
    Column("REASON", lambda t: t["reason"], shrink=6),
]

ATTEMPT_COLUMNS = [
    Column("#", lambda a: a["attempt"], right=True),
    Column("STARTED", lambda a: output.when(a["started_at"])),
    Column("TOOK", lambda a: _took(a)),
    Column("OUTCOME", lambda a: a["outcome"] or "running", colour=output.state_colour),
    Column("CATEGORY", lambda a: a["category"]),
    Column("EXIT", lambda a: a["exit_code"], right=True),
    Column("PHASES", lambda a: " ".join(_phase_name(phase) for phase in a["phases"]), shrink=10),
    Column("RESULT", lambda a: a["result"]),
]


def _phase_name(phase: object) -> str:
    """A phase is [name, at], or {"name", "at"}."""
    if isinstance(phase, Mapping):
        return str(phase.get("name") or phase.get("phase"))
    return str(phase[0]) if isinstance(phase, list | tuple) and phase else str(phase)


def _took(attempt: Item) -> str:
    from datetime import datetime

    if not attempt["ended_at"] or not attempt["started_at"]:
        return ""
    seconds = (
        datetime.fromisoformat(attempt["ended_at"]) - datetime.fromisoformat(attempt["started_at"])
    ).total_seconds()
    return f"{seconds:.2f}s" if seconds < 60 else output.span(seconds)


def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="GUID, hook/GUID, or a task's id.")],
    payload: Annotated[
        bool, typer.Option("--payload", help="Write exactly the received bytes to stdout, and nothing else.")
    ] = False,
    json: Json = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Show one delivery or task, whole.

    Its headers, what became of it and why, its tasks, their attempts.
    With --json a delivery has its tasks under "task_objects" too, and a task its attempts under "attempt_objects".
    """
    if payload and json:
        raise UsageError(
            "--payload and --json can't be combined", hint="--payload writes the received bytes as they are."
        )
    with source(data, config) as opened:
        task = _find_task(opened, id)
        if payload:
            output.raw(opened.payload(f"{task['hook']}/{task['guid']}" if task else id))
            return
        found = _with_attempts(opened, task) if task else _with_tasks(opened, opened.delivery(id))
    if json:
        output.emit_json(found)
        return
    logs = place(data, config).data / "attempts"
    if task:
        _print_task(found, logs)
    else:
        _print_delivery(found, logs)


def _find_task(opened: Source, id: str) -> dict[str, Any] | None:
    """The task with that id, if it looks like a task's and there is one; a GUID may look so too."""
    if not TASK_ID.match(id):
        return None
    try:
        return opened.task(id)
    except NotFound:
        return None


def _with_attempts(opened: Source, task: dict[str, Any]) -> dict[str, Any]:
    return {**task, "attempt_objects": opened.attempts(task["id"])}


def _with_tasks(opened: Source, delivery: dict[str, Any]) -> dict[str, Any]:
    return {**delivery, "task_objects": [_with_attempts(opened, opened.task(id)) for id in delivery["tasks"]]}


def _field(label: str, value: object) -> None:
    if value not in (None, "", []):
        output.line(f"  {label:<13}{value}")


def _print_delivery(d: Item, logs: Path) -> None:
    now = time.time()
    output.line(f"delivery {clean(d['hook'])}/{clean(d['guid'])}")
    _field(
        "state", output.paint(clean(d["state"]), output.state_colour(d["state"]), output.has_colour(output.stdout()))
    )
    _field("reason", ": ".join(clean(d[key]) for key in ("reason", "detail") if d.get(key)))
    _field("event", clean(_event(d)))
    _field("received", f"{output.when(d['received_at'])} ({output.age(d['received_at'], now)} ago), seq {d['seq']}")
    _field("repository", clean(d["repo"]))
    _field("number", clean(d["number"]))
    _field("title", clean(d.get("title")))
    _field("label", clean(d["label"]))
    _field("sender", clean(d["sender"]))
    _field("head", clean(d["head_sha"]))
    _field("installation", clean(d["installation"]))
    _field("signed by", clean(d["secret"]))
    _field("came by", clean(d["source"]) if d["source"] != "http" else "")
    _field("payload", f"{output.size(d['payload_bytes'] or 0)}, sha256 {clean(d['payload_sha256'])}")
    _field("", _gone(d))
    _field("duplicates", d["duplicates"] or "")
    _field("conflicts", d.get("conflicts") or "")
    _field("replays", d.get("replays") or "")
    _field("twin of", clean(d.get("twin")))
    if d.get("headers"):
        output.line("\nheaders")
        for name, value in d["headers"]:
            output.line(f"  {clean(name)}: {clean(value)}")
    for task in d["task_objects"]:
        output.line()
        _print_task(task, logs)


def _gone(d: Item) -> str:
    """That its content is no longer kept, and why; nothing if it is."""
    by = d.get("dropped_by")
    if not by:
        return ""
    what = "ERASED, with what was read out of it" if d["redacted"] else "DROPPED"
    when = f" at {output.when(by['at'])}" if by["at"] else ""
    who = f" by {output.clean(by['by'])}" if by["by"] else ""
    why = f": {output.clean(by['reason'])}" if by["reason"] else ""
    return f"{what}{who}{when}, record {by['seq']}{why}"


def _print_task(t: Item, logs: Path) -> None:
    now = time.time()
    output.line(f"task {clean(t['id'])}")
    _field(
        "state", output.paint(clean(t["state"]), output.state_colour(t["state"]), output.has_colour(output.stdout()))
    )
    _field("reason", ": ".join(clean(t[key]) for key in ("reason", "detail") if t.get(key)))
    _field("route", clean(t["route"]) + (f" (replay {t['replay']})" if t.get("replay") else ""))
    _field("delivery", f"{clean(t['hook'])}/{clean(t['guid'])}")
    _field("target", clean(_target(t)))
    _field("key", clean(t["key"]))
    _field("runs", clean(" ".join(map(str, (t["policy"] or {}).get("run") or []))))
    _field("created", f"{output.when(t['created_at'])} ({output.age(t['created_at'], now)} ago)")
    if t["state"] == "queued" and t["not_before"]:
        _field("not before", f"{output.when(t['not_before'])} ({output.age(t['not_before'], now)})")
    _field("worker", clean(t["worker"]))
    if t["attempt_objects"]:
        output.line()
        output.table(ATTEMPT_COLUMNS, t["attempt_objects"])
        last = t["attempt_objects"][-1]
        directory = logs / t["id"] / str(last["attempt"])
        if directory.is_dir():
            output.line(f"\nits stdout, stderr and result are in {clean(directory)}")
        if last["outcome"] not in (None, "completed"):
            for text in tail(directory / "stderr"):
                output.line(f"  {clean(text)}")


def tail(path: Path) -> list[str]:
    """The last lines of a log, TAIL_LINES at most; none where it can't be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            text = file.read(TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines()[-TAIL_LINES:]]
