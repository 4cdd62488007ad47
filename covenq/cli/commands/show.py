"""`covenq show`: one delivery or task, whole."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.commands.listing import event_of, target_of
from covenq.cli.context import local_data_dir, locate, source
from covenq.cli.extract import print_curl, print_part
from covenq.cli.id_prefix import whole_id, with_hint
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl, TokenFileOption, UrlOption, complete_id
from covenq.cli.output import clean
from covenq.cli.table import Column, print_table
from covenq.errors import NotFound, UsageError
from covenq.net.address import shown_address
from covenq.paths import ATTEMPTS_NAME
from covenq.text import duration
from journal.presence import is_directory

if TYPE_CHECKING:
    from covenq.client.interface import Source
    from covenq.model.answers import DeliveryHistory, TaskHistory
    from covenq.model.rows import Attempt, OneDelivery, Task

LABEL = 15
"""Columns of a field's label."""
TASK_ID = re.compile(r"t[0-9a-f]{24}\Z")

ATTEMPT_COLUMNS: list[Column[Attempt]] = [
    Column("#", lambda a: a.attempt, right=True),
    Column("STARTED", lambda a: output.timestamp(a.started_at), rank=2),
    Column("TOOK", lambda a: _took(a), rank=1),
    Column("OUTCOME", lambda a: a.outcome or "running", colour=output.state_colour),
    Column("CATEGORY", lambda a: a.category, rank=3),
    Column("EXIT", lambda a: a.exit_code, right=True, rank=4),
    Column("PHASES", lambda a: " ".join(str(name) for name, _ in a.phases), shrink=10, wraps=True, rank=5),
    Column("RESULT", lambda a: a.result, rank=6),
]
NODE_COLUMN: Column[Attempt] = Column("NODE", lambda a: a.node, rank=7)
"""Where an attempt was on another node than the task's: else the line above the table says it of all."""


def _took(attempt: Attempt) -> str:
    from datetime import datetime

    if not attempt.ended_at or not attempt.started_at:
        return ""
    seconds = (datetime.fromisoformat(attempt.ended_at) - datetime.fromisoformat(attempt.started_at)).total_seconds()
    return f"{seconds:.2f}s" if seconds < 60 else duration(seconds)


def show(
    id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="GUID, hook/GUID, or a task's id; or how it begins.", autocompletion=complete_id
        ),
    ],
    payload: Annotated[
        bool, typer.Option("--payload", help="Write exactly the received bytes to stdout, and nothing else.")
    ] = False,
    path: Annotated[
        str | None, typer.Option("--path", metavar="PATH", help="Only this part of the payload: .issue.labels[].name.")
    ] = None,
    curl: Annotated[
        bool, typer.Option("--curl", help="Write a command that sends the same request again, signature and all.")
    ] = False,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Show one delivery or task, whole.

    Its headers, what became of it and why, its tasks, their attempts.
    With --json a delivery has its tasks under "task_objects" too, and a task its attempts under "attempt_objects", and
    under "last_output" the last lines of what failed.

    \b
      covenq show 72d3162e-cc78-11e3-81ab-4c9367dc0958 --path .issue.title
      covenq show 72d3162e-cc78-11e3-81ab-4c9367dc0958 --curl
    """
    from covenq.model.answers import TaskHistory

    asked = [name for name, given in (("--payload", payload), ("--path", path is not None), ("--curl", curl)) if given]
    if len(asked) > 1 or (json and asked and asked != ["--path"]):
        raise UsageError(
            f"{' and '.join([*asked, *([output.json_option()] if json else [])])} can't be combined",
            hint="Give one of them.",
        )
    with source(data, config) as opened, with_hint(opened, id):
        id = whole_id(opened, id)
        task = _find_task(opened, id)
        delivery = f"{task.hook}/{task.guid}" if task else id
        if payload:
            output.write_bytes(opened.payload(delivery))
            return
        if path is not None:
            print_part(opened.payload(delivery), path, json)
            return
        if curl:
            opened.payload(delivery)  # raises NotFound if the body is gone: there would be nothing to send
            url = opened.status().webhook_url or locate(data, config).config.webhook_url
            print_curl(opened.delivery(delivery), url)
            return
        found = _with_attempts(opened, task) if task else _with_tasks(opened, opened.delivery(id))
    if json:
        output.emit_json(found)
        return
    where = local_data_dir(data, config)
    directory = None if where is None else where / ATTEMPTS_NAME
    if isinstance(found, TaskHistory):
        _print_task(found, directory)
    else:
        _print_delivery(found, directory)


def _find_task(opened: Source, id: str) -> Task | None:
    """The task with that id; None if there is none. A GUID may look like a task's id."""
    if not TASK_ID.match(id):
        return None
    try:
        return opened.task(id)
    except NotFound:
        return None


def _with_attempts(opened: Source, task: Task) -> TaskHistory:
    from msgspec.structs import asdict

    from covenq.model.answers import TaskHistory
    from covenq.operate.inspect.last_output import last_output

    attempts = opened.attempts(task.id)
    return TaskHistory(**asdict(task), attempt_objects=attempts, last_output=last_output(attempts, opened.log))


def _with_tasks(opened: Source, delivery: OneDelivery) -> DeliveryHistory:
    from msgspec.structs import asdict

    from covenq.model.answers import DeliveryHistory

    tasks = [_with_attempts(opened, opened.task(id)) for id in delivery.tasks]
    return DeliveryHistory(**asdict(delivery), task_objects=tasks)


def _field(label: str, value: object) -> None:
    if value not in (None, "", []):
        output.prose(f"  {label:<13}{value}", LABEL)


def _print_delivery(d: DeliveryHistory, directory: Path | None) -> None:
    now = time.time()
    output.line(f"delivery {clean(d.hook)}/{clean(d.guid)}")
    _field("state", output.paint(clean(d.state), output.state_colour(d.state), output.has_colour(output.stdout())))
    _field("reason", ": ".join(clean(part) for part in (d.reason, d.detail) if part))
    _field("event", clean(event_of(d)))
    _field("received", f"{output.timestamp(d.received_at)} ({output.age(d.received_at, now)} ago), seq {d.seq}")
    _field("repository", clean(d.repo))
    _field("number", clean(d.number))
    _field("title", clean(d.title))
    _field("label", clean(d.label))
    _field("sender", clean(d.sender))
    _field("head", clean(d.head_sha))
    _field("ref", clean(d.ref))
    _field("installation", clean(d.installation))
    _field("signed by", clean(d.secret))
    _field("came by", _way_here(d))
    _field("signed later", _signed_later(d))
    _field("payload", f"{output.size(d.payload_bytes or 0)}, sha256 {clean(d.payload_sha256)}")
    _field("", _erasure_note(d))
    _field("duplicates", d.duplicates or "")
    _field("conflicts", d.conflicts or "")
    _field("replays", d.replays or "")
    _field("twin of", clean(d.twin))
    if d.headers:
        output.line("\nheaders")
        for name, value in d.headers:
            output.prose(f"  {clean(name)}: {clean(value)}", 4)
    for task in d.task_objects:
        output.line()
        _print_task(task, directory)


def _way_here(d: OneDelivery) -> str:
    """How it came, if not by HTTP from GitHub."""
    origin = d.origin
    if d.source == "http":
        return ""
    if origin is None or origin.format != "github":
        return clean(d.source)
    told = [
        f"GitHub's attempt {clean(origin.id)}" if origin.id else "GitHub's delivery log",
        *([f"of {clean(origin.delivered_at)}"] if origin.delivered_at else []),
        *(["(a redelivery)"] if origin.redelivery else []),
    ]
    return f"{clean(d.source)}: {' '.join(told)}{f', {clean(origin.body)}' if origin.body else ''}"


def _signed_later(d: OneDelivery) -> str:
    """When the bytes that were signed came, of what is held without them."""
    later = d.signed_later
    if later is None:
        return ""
    return (
        f"by {clean(later.secret)}: {output.size(later.payload_bytes)}, sha256 {clean(later.payload_sha256)}, "
        f"came at {output.timestamp(later.at)}, record {later.seq}"
    )


def _erasure_note(d: OneDelivery) -> str:
    """When, by whom and why its content was dropped or erased; empty if it is kept."""
    by = d.dropped_by
    if not by:
        return ""
    what = "ERASED, with what was read out of it" if d.redacted else "DROPPED"
    when = f" at {output.timestamp(by.at)}" if by.at else ""
    who = f" by {output.clean(by.by)}" if by.by else ""
    why = f": {output.clean(by.reason)}" if by.reason else ""
    return f"{what}{who}{when}, record {by.seq}{why}"


def _print_task(t: TaskHistory, attempts: Path | None) -> None:
    """`attempts` is the directory of attempts' files, if it is on this machine."""
    now = time.time()
    output.line(f"task {clean(t.id)}")
    _field("state", output.paint(clean(t.state), output.state_colour(t.state), output.has_colour(output.stdout())))
    _field("reason", ": ".join(clean(part) for part in (t.reason, t.detail) if part))
    _field("route", clean(t.route) + (f" (replay {t.replay})" if t.replay else ""))
    _field("purpose", clean(t.purpose))
    _field("familiar", clean(t.familiar))
    _field("result status", clean(t.result_status))
    _field("branch", clean(t.branch))
    _field("pull request", t.pr_number)
    _field("delivery", f"{clean(t.hook)}/{clean(t.guid)}")
    _field("target", clean(target_of(t)))
    _field("key", clean(t.key))
    _field("runs", clean(" ".join(map(str, (t.policy or {}).get("run") or []))))
    forward = (t.policy or {}).get("forward")
    _field("forwards to", clean(shown_address(str(forward))) if forward else "")
    _field("created", f"{output.timestamp(t.created_at)} ({output.age(t.created_at, now)} ago)")
    if t.state == "queued" and t.not_before:
        _field("not before", f"{output.timestamp(t.not_before)} ({output.age(t.not_before, now)})")
    if t.waits:
        _field("waits", f"{clean(t.waits.word)}: {clean(t.waits.why)}")
    _field("worker", clean(t.worker))
    _field("node", clean(t.node))
    if t.attempt_objects:
        output.line()
        elsewhere = any(one.node != t.node for one in t.attempt_objects)
        print_table([*ATTEMPT_COLUMNS, NODE_COLUMN] if elsewhere else ATTEMPT_COLUMNS, t.attempt_objects)
        directory = None if attempts is None else attempts / t.id / str(t.attempt_objects[-1].attempt)
        if directory is not None and is_directory(directory):
            output.line()
            output.prose(f"its stdout, stderr and result are in {clean(directory)}")
    if t.last_output is not None:
        last = t.last_output
        if last.elsewhere is not None:
            output.line()
            output.prose(clean(last.elsewhere))
            return
        whole = f"covenq logs {clean(t.id)} {last.attempt}"
        output.line()
        output.prose(f"the last of what attempt {last.attempt} wrote to {clean(last.stream)}; all of it: {whole}")
        for text in last.lines:
            output.prose(f"  {clean(text.expandtabs())}", 4)
