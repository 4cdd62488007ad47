"""`covenq reconcile`: what GitHub sent and covenq never got, found in GitHub's delivery log and fetched from it."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.bulk import Wording, confirm, operator_name
from covenq.cli.context import locate, locate_in_use, source
from covenq.cli.options import (
    ConfigOption,
    DataOption,
    DryRun,
    Json,
    Jsonl,
    TokenFileOption,
    UrlOption,
    Words,
    Yes,
)
from covenq.cli.output import clean, say
from covenq.cli.progress import bar
from covenq.cli.remote import selected_remote
from covenq.errors import (
    CovenqError,
    Failure,
    GithubAnswerUnreadable,
    GithubLimited,
    GithubRefused,
    OutgoingFailed,
    Refused,
    UsageError,
)
from covenq.model import parse_duration

if TYPE_CHECKING:
    from covenq.cli.reconcile_report import LogSummary, Row
    from covenq.client.held import SourceHoldings
    from covenq.client.interface import Source
    from covenq.filter.tree import Filter
    from covenq.operate.imported import ImportedDelivery
    from covenq.reconcile.logs import DeliveryLog

FETCH = Wording("fetch", "fetched", "delivery", "deliveries")
SINCE_S = 3 * 86_400.0
"""How long GitHub keeps its log; an Enterprise Server 7 days."""
BATCH = 64
BATCH_BYTES = 2 << 20
"""Deliveries that are imported at once, and bytes of them."""
TROUBLE = (GithubLimited, GithubRefused, GithubAnswerUnreadable, OutgoingFailed)
"""What may keep a log from being read, and is no reason to leave the next one unread."""

Since = Annotated[
    str | None,
    typer.Option("--since", metavar="D", help="How far back, such as 6h or 2d, also before covenq was there. Else 3d."),
]


@dataclass(frozen=True, slots=True)
class _Span:
    """Since when, in seconds since 1970, and whether the operator said so."""

    since: float
    asked: bool
    now: float


def reconcile(
    words: Words = None,
    since: Since = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Fetch what GitHub sent and covenq never got.

    GitHub sends nothing twice by itself, but keeps a log for 3 days. It is compared with the journal, and what is missing
    is fetched and routed as if it had come. Without --since that is what was sent since covenq's first record. It needs
    [github.app] or a [[github.hook]] in the configuration.

    \b
      covenq reconcile --dry-run
      covenq reconcile --since 6h event:push,pull_request
    """
    from covenq.cli.reconcile_report import report
    from covenq.client.held import SourceHoldings
    from covenq.config.github_api import require_logs
    from covenq.filter.grammar import parse
    from covenq.reconcile.compare import require_listed
    from covenq.reconcile.logs import open_logs

    filter = parse(words or [])
    require_listed(filter)
    now = time.time()
    span = _Span(now - (SINCE_S if since is None else _since_s(since)), since is not None, now)
    where = locate(data, config) if selected_remote() is not None else locate_in_use(data, config)
    require_logs(where.config.github_logs)
    logs = open_logs(where.config.github_logs, os.environ, time.time)
    troubles: list[CovenqError] = []
    with source(data, config) as opened, ExitStack() as closing:
        for log in logs:
            closing.callback(log.close)
        holdings = SourceHoldings(opened)
        rows: list[Row] = []
        summaries: list[LogSummary] = []
        for log in logs:
            found, summary = _compared(log, holdings, span, filter, troubles)
            rows += found
            summaries.append(summary)
        rows.sort(key=lambda row: row.first_at)
        missing = [row for row in rows if row.state == "missing"]
        if missing and not dry_run:
            _require_open_intake(opened)
            if len(missing) > 1 and not yes:
                confirm(FETCH, len(missing), [])
            _fetch(opened, {log.name: log for log in logs}, missing, where.config.hooks, troubles)
    with output.report_of_act(not dry_run):
        report(rows, summaries, json)
    if troubles:
        for error in troubles:
            say(f"covenq: {clean(error)}")
            say(f"hint: {clean(error.hint)}")
        raise typer.Exit(troubles[0].exit_code)


def _require_open_intake(opened: Source) -> None:
    """Raises Refused where an operator paused the intake: it is paused for whatever way a delivery comes in."""
    if any(one.what == "intake" for one in opened.pauses()):
        raise Refused("an operator paused the intake: nothing is fetched", hint="covenq resume intake")


def _since_s(text: str) -> float:
    seconds = parse_duration(text)
    if not seconds:
        raise UsageError("--since 0 is no time", hint="Write how far back: 6h, 2d.")
    return seconds


def _compared(
    log: DeliveryLog, holdings: SourceHoldings, span: _Span, filter: Filter, troubles: list[CovenqError]
) -> tuple[list[Row], LogSummary]:
    """The rows of a log. What kept it from being read to its end is added to `troubles`, and then there are none."""
    from covenq.cli.reconcile_report import LogSummary, row_of, say_compared
    from covenq.reconcile.compare import Policy
    from covenq.reconcile.compare_pass import Scope, compare_log

    def restarted() -> None:
        say(f"{clean(log.name)}: GitHub no longer takes the cursor of a page: the walk through its log starts over.")

    try:
        found = compare_log(log, holdings, Scope(span.since, filter, span.now), restarted)
    except TROUBLE as error:
        troubles.append(error)
        return [], LogSummary(log.name, requests=log.requests, error=str(error))
    summary = LogSummary(log.name, found.hook, found.listed, found.held, found.unreadable, log.requests)
    say_compared(summary, found, span.since)
    first = holdings.first_record_at()
    baseline = None if span.asked else span.now if first is None else first
    policy = Policy(span.now, baseline, lambda one: holdings.is_erased(one.repo_id, one.installation, one.first_at))
    return [row_of(log.name, one, state) for one, state in found.sorted_out(policy)], summary


# ---- fetching


def _fetch(
    opened: Source,
    logs: dict[str, DeliveryLog],
    missing: Sequence[Row],
    hooks: Sequence[str],
    troubles: list[CovenqError],
) -> None:
    """Fetch each, and import it in its order; its row says what became of it. `hooks` may deliver; none: every one."""
    for row in missing:
        row.state = "open"
    batch: list[tuple[Row, ImportedDelivery]] = []
    unread: set[str] = set()
    size = 0
    with bar(FETCH.past) as update, _told_of_interruption(missing):
        for number, row in enumerate(missing, 1):
            try:
                one = _detail(logs[row.log], row, hooks)
            except TROUBLE as error:
                troubles.append(error)
                break
            if one is not None:
                if any(other.guid == row.guid for other, _ in batch):  # the same event, by another hook
                    _import(opened, batch, unread)
                    batch, size = [], 0
                batch.append((row, one))
                size += len(one.body or b"")
            if len(batch) == BATCH or size >= BATCH_BYTES:
                _import(opened, batch, unread)
                batch, size = [], 0
            if update is not None:
                update(number, len(missing))
        _import(opened, batch, unread)
    for problem in sorted(unread):
        say(f"not tried for signatures: {clean(problem)}")


def _detail(log: DeliveryLog, row: Row, hooks: Sequence[str]) -> ImportedDelivery | None:
    """The delivery as GitHub's log has it; None, and the row says why, where it can't be had."""
    from msgspec.structs import replace

    from covenq.operate.act.archive import read
    from covenq.operate.imported import NotImported

    text = log.detail(row.attempt)
    row.state = "unrecoverable"
    if text is None:
        row.reason = "GitHub has it no more"
        return None
    try:
        one = next(read(io.BytesIO(text), "GitHub's answer"))
    except (UsageError, StopIteration):
        row.reason = "GitHub's answer can't be read as a delivery"
        return None
    if isinstance(one, NotImported):
        row.reason = one.reason
        return None
    headers = {name.lower(): value for name, value in one.headers}
    if headers.get("x-github-delivery") != row.guid:
        row.reason = "what GitHub has under its id is another delivery"
        return None
    hook = headers.get("x-github-hook-id") or headers.get("x-github-hook-installation-target-id") or "-"
    if hooks and hook not in hooks:
        row.state, row.reason = "refused", "its hook is not in [github] hooks, the hooks that may deliver"
        return None
    row.state = "open"
    # When it was first sent, whichever attempt this is: by that it is told what came after it.
    return replace(one, origin={**one.origin, "delivered_at": row.first_at})


def _import(opened: Source, batch: Sequence[tuple[Row, ImportedDelivery]], unread: set[str]) -> None:
    """Record and route them, and write into each row what became of it. Why secrets were not tried is added to `unread`."""
    from covenq.operate import operations
    from covenq.operate.answers import ALREADY_HERE
    from covenq.operate.parameters import Import

    if not batch:
        return
    wanted = Import(items=[one for _, one in batch], routed=True, reason="reconcile", by=operator_name())
    answer = opened.act(operations.IMPORT, wanted)
    rows = {row.guid: row for row, _ in batch}
    verified = set(answer.verified)
    for done in answer.done:
        hook, _, guid = done.id.rpartition("/")
        row = rows[guid]
        row.state, row.hook, row.tasks, row.verified = "fetched", hook, done.tasks, done.id in verified
    for skipped in answer.skipped:
        found = rows.get(skipped.id.rpartition("/")[2])
        if found is not None and found.state == "open":
            found.state = "held" if skipped.reason == ALREADY_HERE else "refused"
            found.reason = None if found.state == "held" else skipped.reason
    if not all(row.verified for row in rows.values() if row.state == "fetched"):
        unread.update(answer.secrets_unread)


@contextmanager
def _told_of_interruption(missing: Sequence[Row]) -> Iterator[None]:
    """Say how far it came, where it is interrupted, or what was fetched can't be recorded."""
    try:
        yield
    except (KeyboardInterrupt, *Failure) as error:
        done = sum(row.state == "fetched" for row in missing)
        word = "Interrupted" if isinstance(error, KeyboardInterrupt) else "Ended"
        say(f"{word}: {done:,} of {output.count(len(missing), FETCH.one, FETCH.many)} fetched, perhaps a few more.")
        say("hint: Run it again for the rest; what is here by then is not asked for again.")
        raise
