"""`covenq status`: the verdict, what is wrong with the log's lines of it, then the work, the places and the journal.

It serves one decision: whether somebody has to get up now, and for what. So the first word is that, in colour and in the exit
code, and what is wrong stands before whatever is as it should be.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import asdict

from covenq.cli import output, terminal_width
from covenq.cli.context import source
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl, TokenFileOption, UrlOption
from covenq.cli.output import clean
from covenq.cli.waiting_lines import typed_here, waiting_lines
from covenq.client.suggestion import with_suggestions
from covenq.errors import CovenqError
from covenq.model import NOT_RUNNING
from covenq.model.readiness import NO_DAEMON, WELL, Readiness, readiness
from covenq.model.trouble import MENDED_LATER, troubles
from covenq.text import duration, instant
from journal.errors import JournalError

if TYPE_CHECKING:
    from covenq.client.interface import Source
    from covenq.model.drift import Drift
    from covenq.model.journal_status import JournalStatus, SyncTimes
    from covenq.model.log_ingress import FollowedLog
    from covenq.model.status import ReconcileLog, Status

LABEL = 11
"""Columns of the labels."""
LOG_SHOWN = 5
"""Lines of the daemon's log, of those that it keeps for the status."""
FAILING_MAX = 3
"""Routes that fail which are told one by one."""


def status(
    data: DataOption = None,
    config: ConfigOption = None,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit with 0 whatever it says, for a script that reads the rest.")
    ] = False,
    json: Json = False,
    jsonl: Jsonl = False,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Whether it is ready, where it is, what waits.

    Exits with 0 if it is ready or stands by, 1 if not, 5 if anything is damaged, 6 if no daemon runs or answers.
    """
    with source(data, config) as opened:
        found = opened.status()
        failing = [] if json else list(_failing_lines(opened, found))
    typed_here(found.waiting)
    told = readiness(found)
    with output.report_of_verdict():
        if json:
            output.emit_json({"ok": True, **asdict(found)})
        else:
            _print(found, told, time.time(), failing)
    if told.exit_code and not exit_zero:
        raise typer.Exit(told.exit_code)


def _print(found: Status, told: Readiness, now: float, failing: Sequence[tuple[str, str]]) -> None:
    """The verdict and what is wrong, then what is done, then where it is and what it rests on: paragraphs, the worst first."""
    coloured = output.has_colour(output.stdout())
    wrong = [*_wrong_lines(found, now), *failing]
    if wrong or told.word not in WELL:
        start = "`covenq serve` starts one. " if told.word == NO_DAEMON else ""
        wrong += [("", f"{start}`covenq doctor` says what to do."), *_log_lines(found, now)]
    first = True
    for lines in ([*_verdict_lines(found, told, now), *wrong], _work_lines(found, now), _location_lines(found, now)):
        for number, (label, text) in enumerate(lines):
            if number == 0 and not first:
                output.line()
            first = False
            padding = " " * max(1, LABEL + 1 - len(label))
            output.prose(
                f"{output.paint(label, _colour(label), coloured)}{padding}{with_suggestions(text)}".rstrip(), LABEL + 1
            )


def _colour(label: str) -> str:
    """Of what is wrong, by how bad it is, and of what is well; by weight too, for who sees no colours."""
    if label in WELL:
        return output.BOLD + output.GOOD
    if label.lower() in MENDED_LATER:
        return output.BOLD + output.WARNING
    return output.BOLD + output.BAD if label.isupper() else ""


def _verdict_lines(found: Status, told: Readiness, now: float) -> Iterator[tuple[str, str]]:
    yield told.word, told.sentence
    for reason in found.reasons:
        if reason != NOT_RUNNING:
            yield "", clean(reason)
    if found.pid is None:
        yield "covenq", clean(found.version)
    else:
        yield "covenq", f"{clean(found.version)}, pid {found.pid}, up {output.elapsed(found.started_at, now)}"


def _wrong_lines(found: Status, now: float) -> Iterator[tuple[str, str]]:
    """What somebody has to do something about: its word in capitals, unless it is only to be known."""
    for one in troubles(found, now):
        label = one.word if one.tone == "note" else one.word.upper()
        yield label, _in_a_line(one.text) if one.word == "drift" else clean(one.text)
        if one.next:
            yield "", one.next


def _failing_lines(opened: Source, found: Status) -> Iterator[tuple[str, str]]:
    """The routes most of whose attempts fail, which the status doesn't have: a daemon counts them, or the files' reader."""
    if found.pid is None and (NOT_RUNNING not in found.reasons or not found.journal.head.seq):
        return  # what holds the files is not waited for again
    from covenq.filter.explain import quoted
    from covenq.model.route_times import failing, failing_text

    try:
        counted = opened.throughput()
    except (CovenqError, JournalError) as error:
        yield "FAILING", f"not known: {clean(error)}"
        return
    routes = failing(counted.routes, found.waiting)
    for one in routes[:FAILING_MAX]:
        command = output.command_text("covenq", "tasks", f"route:{quoted(one.name or '')}", "state:failed")
        yield "FAILING", clean(f"route {one.name}: {failing_text(one, sampled=counted.sampled)}: `{command}`")
    if len(routes) > FAILING_MAX:
        yield "", f"and {output.count(len(routes) - FAILING_MAX, 'more route')}: `covenq stats`"


def _log_lines(found: Status, now: float) -> Iterator[tuple[str, str]]:
    """What the daemon logged last of trouble. It has no file of its own: without one that answers, where its log may be."""
    label = "log"
    for one in found.log[-LOG_SHOWN:]:
        yield label, f"{output.clock(one.at, now)} {clean(one.level)}: {clean(one.message)}"
        label = ""
    if found.pid is None and found.journal.head.seq:
        yield label, "what the daemon said last is where its standard error goes: `journalctl -u covenq` of systemd's"


def _work_lines(found: Status, now: float) -> Iterator[tuple[str, str]]:
    """What came, what waits, what runs."""
    for what, counts, oldest in (
        ("deliveries", found.deliveries, found.oldest.deliveries),
        ("tasks", found.tasks, found.oldest.tasks),
    ):
        ages = [f"{output.elapsed(at, now)} ago ({state})" for state, at in oldest.items()]
        yield what, _counts_text(counts) + (f"; the oldest came {', '.join(ages)}" if ages else "")
    yield from _waiting(found, now)
    if found.worker is not None:
        yield "worker", f"{len(found.worker.running)} of {found.worker.concurrency} busy"
        if found.worker.waits:
            yield "", f"waits: {clean(found.worker.waits)}"
        if found.worker.on_standby:
            problem = found.worker.standby_problem
            yield "", f"runs nothing on standby: {clean(problem)}" if problem else "runs tasks on standby, too"
    yield from _reconcile_lines(found, now)
    if found.refused:
        yield "refused", _counts_text(found.refused)
    yield "routes", ", ".join(map(clean, found.routes)) or "none: every delivery is kept and ignored"


def _location_lines(found: Status, now: float) -> Iterator[tuple[str, str]]:
    """Where it is, and what it rests on."""
    if found.node is not None:
        address = f" at {clean(found.node.address)}" if found.node.address else ""
        yield "node", f"{clean(found.node.name)}{address}"
    if len(found.nodes) > 1:
        from covenq.model.nodes_text import nodes_text

        yield "nodes", clean(nodes_text(found.nodes, now))
    if found.webhook_url:
        yield "webhook", clean(found.webhook_url)
    if found.api_url:
        yield "api", clean(found.api_url)
    if found.config is not None:
        yield "config", clean(found.config)
    yield "data", clean(found.data)
    yield "journal", _journal_text(found.journal)
    yield from _database_lines(found.journal)
    folded = found.state
    lag = f", {folded.lag:,} behind" if folded.lag else ""
    left = "" if folded.left_s is None else f", for about {duration(folded.left_s)} more"
    still = f", nothing folded since {clean(folded.still_since)[11:19]}Z" if folded.still_since else ""
    wrong = f", error: {clean(folded.error)}" if folded.error else ""
    yield "state", f"seq {folded.seq}{lag}{left}{still}{wrong}"
    if found.disk is not None:
        yield "disk", f"{output.size(found.disk.free)} free of {output.size(found.disk.total)}"
    if found.upkeep is not None and found.upkeep.doing is not None:
        doing = found.upkeep.doing
        yield "upkeep", f"{doing.what}: {doing.done} of {doing.total} segments"


def _waiting(found: Status, now: float) -> Iterator[tuple[str, str]]:
    """How many tasks wait, and for what."""
    columns = terminal_width.columns(output.stdout())
    room = None if columns is None else max(20, columns - LABEL - 1)
    label = f"waiting {sum(one.count for one in found.waiting):,}"
    if found.waiting and len(label) > LABEL:
        yield "waiting", label.removeprefix("waiting ")
        label = ""
    for line in waiting_lines(found.waiting, now, room, coloured=output.has_colour(output.stdout())):
        yield label, line
        label = ""


def _reconcile_lines(found: Status, now: float) -> Iterator[tuple[str, str]]:
    """How far GitHub's delivery logs are compared with what came, or followed."""
    passes = found.reconcile
    if passes is None:
        return
    from covenq.model.log_ingress import following_troubles

    if passes.waiting:
        waiting = output.count(passes.waiting, "delivery", "deliveries")
        yield "held back", f"{waiting}, fetched and not routed, for they may have been worked on"
        yield (
            "",
            "`covenq deliveries state:received reason:held` lists them, `covenq reroute` with the same routes them, "
            "with --ignore dismisses them",
        )
    if passes.every_s is None:
        yield "reconcile", "no passes by itself: `covenq reconcile` makes one"
        return
    for one in passes.logs:
        yield "reconcile" if one.following is None else "log", _log_text(one, now)
        if one.following is not None:
            yield from (("", f"{clean(told)}.") for told, _ in following_troubles(one.following))
        if one.last is not None and one.last.error:
            ago = output.age(one.last.ended_at, now)
            yield "", f"the pass of {ago} ago did not reach its end: {clean(one.last.error)}"
        if one.last is not None and one.last.newest_at is not None:
            yield "", f"newest attempt listed {output.elapsed(one.last.newest_at, now)} ago"
        elif one.last is not None and one.last.error is None:
            yield "", "GitHub lists no attempt to deliver"
        if one.last is not None and one.last.asked:
            yield "", f"{output.count(one.last.asked, 'redelivery', 'redeliveries')} asked for, and waited for"
        if one.last is not None and one.last.not_asked:
            yield "", f"redelivery is not asked for: {clean(one.last.not_asked)}"
    if passes.waits:
        yield "", f"waits: {clean(passes.waits)}"
    if passes.drift is not None:
        yield from _drift_lines(passes.drift, now)


def _drift_lines(drift: Drift, now: float) -> Iterator[tuple[str, str]]:
    """When the settings on GitHub were looked at, and what may well be meant as it is."""
    from covenq.model.drift import drift_rows

    ago = output.age(drift.looked_at, now)
    if drift.error is not None:
        yield "github", f"asked {ago} ago, and not told all: {clean(drift.error)}"
    else:
        number = output.count(len(drift.warnings), "thing")
        drifted = (
            f"{number} drifted; asked again after 10m" if drift.warnings else "its settings fit this configuration"
        )
        yield "github", f"asked {ago} ago: {drifted}"
    for row in drift_rows([one for one in drift.findings if not one.warns]):
        yield "", _in_a_line(row)


def _in_a_line(row: str) -> str:
    """Cut to the terminal's width, or 80 columns, beside the labels."""
    from covenq.text import shorten

    return shorten(clean(row), shutil.get_terminal_size().columns - LABEL - 1)


def _log_text(one: ReconcileLog, now: float) -> str:
    """Of a pass that didn't reach its end neither its time nor that nothing is missing: it can't know."""
    from covenq.reconcile.result import state_words

    name, last = clean(one.log), one.last
    if one.following is not None:
        return f"{name}: {_followed_text(one, one.following, now)}"
    if last is None:
        return f"{name}: not compared since the start"
    counts = _counts_text({state_words(state): number for state, number in last.states.items()})
    if last.error is None:
        found = "nothing is missing" if counts == "none" else counts
        ago = output.age(last.ended_at, now)
        return f"{name}: compared {ago} ago, {output.count(last.listed, 'attempt')} listed; {found}"
    known = "not compared yet"
    if last.finished_at is not None:
        known = f"compared {output.age(last.finished_at, now)} ago, and not to the end since"
    return f"{name}: {known}" + ("" if counts == "none" else f"; {counts}")


def _followed_text(one: ReconcileLog, following: FollowedLog, now: float) -> str:
    last = one.last
    if following.owner is not None:
        return "not followed here"
    if last is None:
        return "not looked at since the start"
    seen = "never" if last.finished_at is None else f"{output.age(last.finished_at, now)} ago"
    words = [f"followed, seen to its end {seen}"]
    if following.next_at is not None:
        left = (instant(following.next_at) or now) - now
        words.append(f"looked at again in {duration(max(0.0, left))}")
    if following.behind:
        words.append(f"{output.count(following.behind, 'delivery', 'deliveries')} still to be fetched")
    return ", ".join(words)


def _database_lines(journal: JournalStatus) -> Iterator[tuple[str, str]]:
    """What the database that keeps the journal says of itself."""
    if journal.database is None:
        return
    from covenq.model.database_text import clock_text, standbys_text

    yield "standbys", clean(standbys_text(journal))
    told = clock_text(journal.database)
    if told:
        yield "database", clean(told)


_REPLICATED = {"fsync": "", "replicated": ", replicated", "managed": ", replicated as [journal] says"}


def _journal_text(journal: JournalStatus) -> str:
    head = journal.head
    words = [
        f"seq {head.seq}",
        f"sum {clean(head.sum)[:16]}",
        output.count(journal.segments, "segment"),
    ]
    words.append(output.size(journal.bytes))
    if journal.engine == "postgres":
        words.append(f"in PostgreSQL{_REPLICATED[journal.durability]}")
    if journal.last_sync_ms is not None:
        words.append(f"last sync {journal.last_sync_ms:.1f} ms{_sync_spread(journal.recent_syncs_ms)}")
    words += [word for word, holds in (("POISONED", journal.poisoned), ("FULL", journal.full)) if holds]
    return ", ".join(words)


def _sync_spread(recent: SyncTimes | None) -> str:
    if recent is None or recent.count < 2:
        return ""
    return f" (of the last {recent.count}: half within {recent.median:.1f}, the slowest {recent.slowest:.1f})"


def _counts_text(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{clean(word)} {number:,}" for word, number in counts.items() if number) or "none"
