"""`covenq reconcile`: what GitHub sent and covenq never got, found in GitHub's delivery log and fetched from it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.bulk import Wording, confirm, operator_name
from covenq.cli.context import locate, locate_in_use, source
from covenq.cli.filter_hints import say_unknown_values
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
from covenq.cli.output import clean, command_text, say
from covenq.cli.progress import Update, bar
from covenq.cli.remote import selected_remote
from covenq.errors import CovenqError, Failure, Refused, UsageError
from covenq.model import at_text, parse_duration, seconds_of
from covenq.text import duration

if TYPE_CHECKING:
    from covenq.cli.reconcile_report import ExpectedHolds
    from covenq.cli.redelivering import Compared, Redelivering
    from covenq.client.interface import Source
    from covenq.config.github_api import GithubLogs
    from covenq.config.load import Config
    from covenq.config.reconcile import Reconcile
    from covenq.filter.tree import Filter
    from covenq.github.api_client import Retry
    from covenq.model.status import ReconcileLog, Status
    from covenq.operate.act.fetched import ImportRecorder
    from covenq.reconcile.compare import Absent
    from covenq.reconcile.fetch import Hold, IsErased
    from covenq.reconcile.holdings import StoredHoldings
    from covenq.reconcile.logs import DeliveryLog
    from covenq.reconcile.result import LogSummary, Row

TRIES = 3
SILENCE_S = 15.0
"""Times that a request is made, and seconds without a byte of its answer: somebody waits, and can type it again."""
FETCH = Wording("fetch", "fetched", "delivery", "deliveries")

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
    settings: Reconcile
    is_wanted: Callable[[Absent], bool]
    """Whether a missing delivery is fetched."""
    is_first: Callable[[Row], bool]
    """Whether it is before others."""
    redelivers: bool
    """Whether GitHub is asked for redeliveries."""
    first_at: float | None
    """When the journal's first record was made."""


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
    is fetched and routed as if it had come, or, with [reconcile] mode = "redeliver" and a daemon here, sent again by GitHub.
    Without --since that is what was sent since the daemon's first pass, or, where it makes none, since covenq's first record.
    It needs [github.app] or a [[github.hook]] in the configuration.

    \b
      covenq reconcile --dry-run
      covenq reconcile --since 6h event:push,pull_request
    """
    from covenq.cli.reconcile_report import report, say_held_back, say_plan
    from covenq.cli.redelivering import Redelivering
    from covenq.config.github_api import KEPT_S, require_logs
    from covenq.filter.grammar import parse
    from covenq.reconcile.compare import require_listed
    from covenq.reconcile.fetch_order import in_fetch_order
    from covenq.reconcile.holdings import StoredHoldings

    filter = parse(words or [])
    require_listed(filter)
    since_s = KEPT_S if since is None else _since_s(since)
    where = locate(data, config) if selected_remote() is not None else locate_in_use(data, config)
    require_logs(where.config.github_logs)
    asked = _Asked()
    logs = _open(where.config.github_logs, asked)
    troubles: list[CovenqError] = []
    with source(data, config) as opened, ExitStack() as closing:
        for log in logs:
            closing.callback(log.close)
        say_unknown_values(opened, words, "deliveries")
        status = opened.status()
        span = _span(opened, where.config, filter, since_s, since is not None, status)
        known = {} if status.reconcile is None else {one.log: one for one in status.reconcile.logs}
        holdings = StoredHoldings(opened)
        compared: list[Compared] = []
        summaries: list[LogSummary] = []
        for log in logs:
            with asked.shown(f"asking GitHub for the log of {clean(log.name)}"):
                found, summary = _compared(log, known.get(log.name), holdings, span, filter, troubles)
            compared += found
            summaries.append(summary)
        rows = sorted((row for one in compared for _, row in one.pairs), key=lambda row: row.first_at)
        missing = [row for row in rows if row.state == "missing"]
        hold = _hold_of(known)
        held_back = _expected_holds(missing, hold, where.config, span)
        redelivering = Redelivering(opened, where.config, known, hold) if span.redelivers and missing else None
        if dry_run:
            say_plan(rows, span.now, skipped=False)  # which the report says
            _explain(missing, known)
            if redelivering is not None:
                redelivering.plan(compared)
        elif missing:
            _require_open_intake(opened)
            if len(missing) > 1 and not yes:
                say_plan(rows, span.now, skipped=True)
                say_held_back(held_back)
                confirm(FETCH, len(missing))
            missing = _brought(redelivering, compared, missing)
            first, others = in_fetch_order(missing, span.is_first)
            recorder = _recorder(opened, where.config.hooks, hold_if_old=not span.asked)
            _fetch(opened, {log.name: log for log in logs}, [*first, *others], hold, recorder, troubles)
    with output.report_of_act(not dry_run):
        again = command_text("covenq", "reconcile", *(() if since is None else ("--since", since)), *(words or ()))
        report(rows, summaries, json, again, held_back)
    _exit_for(troubles)


def _span(opened: Source, config: Config, filter: Filter, since_s: float, asked: bool, status: Status) -> _Span:
    """What this run covers, from now on."""
    from covenq.reconcile.fetch_order import surely_first
    from covenq.reconcile.wanted import wanted_by

    now, settings = time.time(), config.reconcile
    # Of a daemon elsewhere the routes are not those of the configuration here.
    elsewhere = selected_remote() is not None
    routes, fetched = ((), "all") if elsewhere else (config.routes, settings.fetch)
    redelivers = not elsewhere and _redelivers(settings, filter, status)
    source_is = None if redelivers else "import"
    is_wanted = wanted_by(fetched, routes, now, source_is)
    is_first = surely_first(routes, now, source_is)
    return _Span(now - since_s, asked, now, settings, is_wanted, is_first, redelivers, _first_record_at(opened))


def _redelivers(settings: Reconcile, filter: Filter, status: Status) -> bool:
    """Whether GitHub is asked for redeliveries: not where no daemon takes them, nor where what it accepted may be hidden."""
    return settings.redelivers and status.pid is not None and "age" not in filter.fields()


def _exit_for(troubles: Sequence[CovenqError]) -> None:
    """Say what kept GitHub from being asked to the end, and exit with the first one's code; nothing where nothing did."""
    for error in troubles:
        say(f"covenq: {clean(error)}")
        say(f"hint: {clean(error.hint)}")
    if troubles:
        raise typer.Exit(troubles[0].exit_code)


def _brought(redelivering: Redelivering | None, compared: Sequence[Compared], missing: list[Row]) -> list[Row]:
    """Have GitHub send them again, if it is asked for that; those that are to be fetched."""
    if redelivering is None:
        return missing
    with _told_of_interruption(missing):
        redelivering.bring(compared)
    return [row for row in missing if row.state == "missing"]


class _Asked:
    """How many requests were made, shown to who waits at a terminal."""

    def __init__(self) -> None:
        self._requests = 0
        self._update: Update | None = None

    def count(self) -> None:
        self._requests += 1
        if self._update is not None:
            self._update(self._requests, 0)

    @contextmanager
    def shown(self, what: str) -> Iterator[None]:
        """Show them, from none, until the end of the `with`."""
        with bar(what) as self._update:
            self._requests = 0
            yield
        self._update = None


def _open(logs: GithubLogs, asked: _Asked) -> list[DeliveryLog]:
    """The logs, asked for somebody who waits."""
    from covenq.github.api_client import Pacing
    from covenq.reconcile.logs import Asking, open_logs

    pacing = Pacing(tries=TRIES, retrying=_say_retry)
    return open_logs(logs, os.environ, Asking(pacing=pacing, before=asked.count, silence_s=SILENCE_S))


def _say_retry(retry: Retry) -> None:
    wait = f" in {duration(retry.wait_s)}" if retry.wait_s >= 1.0 else ""
    say(f"GitHub is asked again{wait}, try {retry.number} of {retry.tries}: {clean(retry.reason)}.")


def _require_open_intake(opened: Source) -> None:
    """Raises Refused where an operator paused the intake: it is paused for whatever way a delivery comes in."""
    if any(one.what == "intake" for one in opened.pauses()):
        raise Refused("an operator paused the intake: nothing is fetched", hint="covenq resume intake")


def _since_s(text: str) -> float:
    seconds = parse_duration(text)
    if not seconds:
        raise UsageError("--since 0 is no time", hint="Write how far back: 6h, 2d.")
    return seconds


def _first_record_at(opened: Source) -> float | None:
    """The time of the journal's first record, in seconds since 1970; None where there is none."""
    items = opened.tail("", after=0).items
    return seconds_of(items[0].at) if items else None


def _explain(missing: Sequence[Row], known: Mapping[str, ReconcileLog]) -> None:
    """Give each that the daemon could not fetch the reason."""
    for row in missing:
        last = known[row.log].last if row.log in known else None
        for one in () if last is None else last.unrecoverable:
            if one.guid == row.guid:
                row.reason = f"the daemon could not fetch it: {one.reason}"


def _compared(
    log: DeliveryLog,
    known: ReconcileLog | None,
    holdings: StoredHoldings,
    span: _Span,
    filter: Filter,
    troubles: list[CovenqError],
) -> tuple[list[Compared], LogSummary]:
    """What was found in a log. What kept it from being read to its end is added to `troubles`, and then there is nothing."""
    from covenq.cli.reconcile_report import say_compared
    from covenq.cli.redelivering import Compared
    from covenq.reconcile.compare import Policy
    from covenq.reconcile.compare_pass import Scope, compare_log
    from covenq.reconcile.fetch import TROUBLE
    from covenq.reconcile.result import LogSummary, row_of

    def restarted() -> None:
        say(f"{clean(log.name)}: GitHub no longer takes the cursor of a page: the walk through its log starts over.")

    try:
        hook = log.hook or (None if known is None else known.hook)
        scope = Scope(span.since, filter, span.now, span.settings.overlap_s, span.settings.grace_s)
        found = compare_log(log, hook, holdings, scope, restarted)
    except TROUBLE as error:
        troubles.append(error)
        return [], LogSummary(log.name, requests=log.requests, error=str(error))
    newest_at = None if found.newest_at is None else at_text(found.newest_at)
    summary = LogSummary(
        log.name, found.hook, found.listed, found.held, found.unreadable, log.requests, newest_at=newest_at
    )
    say_compared(summary, found, span.since)
    first_at = span.now if span.first_at is None else span.first_at
    if known is not None and known.baseline is not None:
        first_at = seconds_of(known.baseline)
    baseline = None if span.asked else first_at
    policy = Policy(
        span.now,
        baseline,
        lambda one: holdings.is_erased(one.repo_id, one.installation, one.first_at),
        span.settings.grace_s,
        span.is_wanted,
    )
    pairs = [(one, row_of(log.name, one, state)) for one, state in found.sorted_out(policy)]
    return [Compared(log, found, pairs)], summary


def _hold_of(known: Mapping[str, ReconcileLog]) -> Callable[[Row], Hold | None]:
    """Why each is held back when it is fetched, whatever it is."""
    from covenq.reconcile.log_state import why_held

    def hold(row: Row) -> Hold | None:
        before = known[row.log].held_before if row.log in known else None
        return why_held(row.first_at, None if before is None else seconds_of(before))

    return hold


def _expected_holds(
    missing: Sequence[Row], hold: Callable[[Row], Hold | None], config: Config, span: _Span
) -> ExpectedHolds:
    """How many of the missing will be held back when they are fetched, as far as that can be told."""
    from covenq.cli.reconcile_report import ExpectedHolds
    from covenq.reconcile.expected_age import is_too_old

    def is_held(row: Row) -> bool | None:
        if hold(row) is not None or span.asked or selected_remote() is not None:
            return hold(row) is not None
        age_s = span.now - seconds_of(row.first_at)
        return is_too_old(row, age_s, config.routes, span.settings.max_age_s, now=span.now)

    told = Counter(map(is_held, missing))
    return ExpectedHolds(told[True], told[None])


# ---- fetching


def _recorder(opened: Source, hooks: Sequence[str], *, hold_if_old: bool) -> ImportRecorder:
    """`hooks` may deliver; none: every one. Whoever says since when has the old ones in mind: they are not held back."""
    from covenq.operate import operations
    from covenq.operate.act.fetched import ImportRecorder

    return ImportRecorder(
        lambda wanted: opened.act(operations.IMPORT, wanted), hooks, operator_name(), hold_if_old=hold_if_old
    )


def _fetch(
    opened: Source,
    logs: dict[str, DeliveryLog],
    missing: Sequence[Row],
    hold: Callable[[Row], Hold | None],
    recorder: ImportRecorder,
    troubles: list[CovenqError],
) -> None:
    """Fetch each, and import it in its order; its row says what became of it."""
    from covenq.reconcile.fetch import fetch
    from covenq.reconcile.holdings import StoredHoldings
    from covenq.reconcile.log_pass import erased_by

    if not missing:
        return
    with bar(FETCH.past) as update, _told_of_interruption(missing):

        def erased_now() -> IsErased:
            return erased_by(StoredHoldings(opened))

        def progress(done: int) -> None:
            if update is not None:
                update(done, len(missing))

        troubles += fetch(
            missing, {name: log.detail for name, log in logs.items()}, recorder, hold, erased_now, progress
        )
    for problem in sorted(recorder.unread):
        say(f"not tried for signatures: {clean(problem)}")


@contextmanager
def _told_of_interruption(missing: Sequence[Row]) -> Iterator[None]:
    """Say how far it came, where it is interrupted, or what was fetched can't be recorded."""
    try:
        yield
    except (KeyboardInterrupt, *Failure) as error:
        done = sum(row.state in ("redelivered", "fetched", "waiting") for row in missing)
        word = "Interrupted" if isinstance(error, KeyboardInterrupt) else "Ended"
        say(f"{word}: {done:,} of {output.count(len(missing), FETCH.one, FETCH.many)} fetched, perhaps a few more.")
        say("hint: Run it again for the rest; what is here by then is not asked for again.")
        raise
