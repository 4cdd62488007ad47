"""GET /page: the verdict, what is wrong, what waits and for what, how many there are.

It serves one decision of who has no shell: is it covenq that the customer waits for, and whom do I tell what? So the verdict
comes first, then what is wrong, then what waits, each line with the command that an operator would type.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import falcon

from covenq.errors import CovenqError
from covenq.http.api.status import status
from covenq.http.page import links
from covenq.http.page.access import scope_of_page, session_of
from covenq.http.page.moment import Moment, moment
from covenq.http.page.render import redirect, respond_page
from covenq.http.page.sources import PageSources, only
from covenq.model.database_text import standbys_text
from covenq.model.nodes_text import nodes_text
from covenq.model.palette import STATE_TONES, Tone
from covenq.model.readiness import WELL, readiness
from covenq.model.route_times import failing, failing_text
from covenq.model.status import Status
from covenq.model.trouble import troubles
from covenq.model.waiting import TONES, WaitingTasks, cause_name, glyph, scope_name, waiting_text
from covenq.operate.inspect.throughput import MINUTES, per_minute
from covenq.text import byte_size, counted, duration, instant


@dataclass(frozen=True, slots=True)
class Wrong:
    """Something that somebody has to do something about."""

    label: str
    text: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class WaitingLine:
    """How many tasks wait for the same."""

    glyph: str
    tone: Tone | None
    count: int
    scope: str
    cause: str
    text: str
    oldest: Moment | None
    command: str | None


@dataclass(frozen=True, slots=True)
class Counted:
    """How many are in a state, the list of them, and since when the oldest of them is, where that matters."""

    state: str
    tone: Tone | None
    number: int
    href: str
    oldest: Moment | None


@dataclass(frozen=True, slots=True)
class StatusView:
    word: str
    tone: Tone
    sentence: str
    reasons: list[str]
    wrong: list[Wrong]
    waiting: list[WaitingLine]
    waiting_count: int
    deliveries: list[Counted]
    tasks: list[Counted]
    facts: list[tuple[str, str]]


class StatusPage:
    def __init__(self, sources: PageSources) -> None:
        self._sources = sources

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        only(req)
        if scope_of_page(req) is not None:
            redirect(resp, links.DELIVERIES)  # the status is the whole machine's
            return
        with self._sources.turns.one():
            found = status(self._sources.status)
        view = status_view(found, self._sources.clock(), self._failing(found))
        respond_page(resp, "status", session=session_of(req), view=view)

    on_head = on_get

    def _failing(self, found: Status) -> list[Wrong]:
        """The routes most of whose attempts fail; that they can't be counted keeps nobody from the rest of the page."""
        try:
            with self._sources.reading(None) as (conn, _):
                counted = per_minute(conn, minutes=MINUTES, now=self._sources.clock())
        except (CovenqError, sqlite3.Error) as error:
            return [Wrong("Failing", f"whether routes fail isn't known: {error}", "warning")]
        failed = failing(counted.routes, found.waiting)
        words = [f"route {one.name}: {failing_text(one, sampled=counted.sampled)}" for one in failed]
        return [Wrong("Failing", one, "warning") for one in words]


def status_view(found: Status, now: float, failed: Sequence[Wrong] = ()) -> StatusView:
    told = readiness(found)
    return StatusView(
        told.word,
        "good" if told.word in WELL else "bad",
        told.sentence,
        list(found.reasons),
        [*_wrong(found, now), *failed],
        [_waiting(one, now) for one in found.waiting],
        sum(one.count for one in found.waiting),
        _counted(found.deliveries, found.oldest.deliveries, links.DELIVERIES, now),
        _counted(found.tasks, found.oldest.tasks, links.TASKS, now),
        list(_facts(found, now)),
    )


def _wrong(found: Status, now: float) -> Iterator[Wrong]:
    """What can't be had back first."""
    for one in troubles(found, now):
        yield Wrong(one.word.capitalize(), one.text, "bad" if one.tone == "bad" else "warning")
    if found.state.left_s is not None or found.state.still_since is not None:
        yield Wrong("Behind", f"what is shown is {counted(found.state.lag, 'record')} behind the journal", "warning")


def _waiting(one: WaitingTasks, now: float) -> WaitingLine:
    return WaitingLine(
        glyph(one.cause),
        TONES.get(one.cause),
        one.count,
        scope_name(one.scope),
        cause_name(one.cause),
        waiting_text(one, now),
        moment(one.oldest, now),
        one.command,
    )


def _counted(counts: Mapping[str, int], oldest: Mapping[str, str], path: str, now: float) -> list[Counted]:
    return [
        Counted(
            state,
            STATE_TONES.get(state),
            number,
            links.listed(path, f"state:{state}"),
            moment(oldest.get(state), now),
        )
        for state, number in counts.items()
    ]


def _facts(found: Status, now: float) -> Iterator[tuple[str, str]]:
    started = instant(found.started_at)
    up = "" if started is None else f", up {duration(max(0.0, now - started))}"
    yield "covenq", f"{found.version}{up}"
    if found.worker is not None:
        waits = f"; {found.worker.waits}" if found.worker.waits else ""
        yield "workers", f"{len(found.worker.running)} of {found.worker.concurrency} busy{waits}"
    yield "routes", ", ".join(found.routes) or "none: every delivery is kept and ignored"
    if found.refused:
        yield "refused", f"{counted(sum(found.refused.values()), 'request')} since the start"
    yield "journal", f"{counted(found.journal.head.seq, 'record')}, {byte_size(found.journal.bytes, 'TiB')}"
    if found.journal.database is not None:
        yield "standbys", standbys_text(found.journal)
    if nodes := nodes_text(found.nodes, now):
        yield "nodes", nodes
    if found.disk is not None:
        yield "disk", f"{byte_size(found.disk.free, 'TiB')} free of {byte_size(found.disk.total, 'TiB')}"
