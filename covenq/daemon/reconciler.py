"""The daemon's own passes over GitHub's delivery logs: at the start, after a closed intake, and every `[reconcile] every`.

They run on a thread of their own, one log at a time: neither the intake nor the workers wait for GitHub. What goes wrong is
logged once, and shown by the status, `covenq doctor` and the metrics; it is never a reason to be unready. Nothing is asked
while the intake is closed, for what is fetched could not be taken in.

When they are made, and on what terms, `covenq.daemon.pass_schedule` says: another where deliveries come by nothing else.

Configured logs get their first record at once, also where no passes are made: by it a later pass knows what was before.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from covenq.config.github_api import GithubApp, GithubHook, GithubLogs
from covenq.config.load import Config
from covenq.config.reconcile import Reconcile
from covenq.daemon.drift import DriftWatch
from covenq.daemon.pass_schedule import PassSchedule
from covenq.errors import CovenqError, Refused
from covenq.filter.grammar import parse
from covenq.github.api_client import Pacing, Retry, Usage
from covenq.model import at_text
from covenq.model.drift import Drift
from covenq.model.rows import Delivery, OneDelivery, Page
from covenq.model.status import ReconcilePass, ReconcileStatus, RequestBudget, Unrecoverable
from covenq.operate.act.fetched import ImportRecorder
from covenq.operate.answers import Imported
from covenq.operate.daemon_context import DaemonContext
from covenq.operate.inspect import view
from covenq.operate.inspect.reconciling import budget_of, reconcile_status
from covenq.operate.log_records import read_ledger, read_state, write_ledger, write_state
from covenq.operate.maintain.drift import ARRIVED_S
from covenq.operate.operations import IMPORT
from covenq.operate.parameters import Import
from covenq.reconcile.fetch_order import surely_first
from covenq.reconcile.holdings import StoredHoldings
from covenq.reconcile.log_pass import Earlier, PassResult, PassSettings, given_up, make_pass
from covenq.reconcile.log_state import LogState, begun
from covenq.reconcile.logs import Asking, open_log
from covenq.reconcile.redeliver import Asked, redelivery_of
from covenq.reconcile.result import Row
from covenq.reconcile.wanted import wanted_by
from covenq.rounds import Loop
from covenq.text import counted, duration
from journal.errors import JournalClosed, JournalError, JournalPoisoned

TICK_S = 0.5
"""How often it is looked whether a pass is due, and whether the intake is open."""
OVERDUE_S = 900.0
"""Seconds without a round, or a request of one: a whole answer may take five minutes."""
LOST_LOGGED = 20
"""Deliveries that can't be fetched which one pass logs by themselves."""
RETRY_S = 30.0
"""Seconds after which a pass that covenq itself could not make, rather than GitHub, is tried again, if that is sooner."""
SET_BACK_S = 60.0
"""Seconds by which a baseline may be ahead of the clock, which is kept right in small steps, and not be told."""
UNRECOVERABLE_MAX = 100
"""Deliveries that can't be fetched that are named, of a pass."""

log = logging.getLogger("covenq.reconcile")


class PassEnded(Exception):
    """The daemon stops, or the intake was closed: caught by the thread."""


class Reconciler(threading.Thread):
    """The thread. `status` and `stop` may be called from any other."""

    def __init__(
        self,
        operations: DaemonContext,
        env: Mapping[str, str],
        schedule: PassSchedule,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="reconcile", daemon=True)
        self.loop = Loop("reconcile", OVERDUE_S, "what GitHub sent and never came is not fetched")
        self.fetched = 0
        """Deliveries that were fetched since the start."""
        self._operations = operations
        self._env = env
        self._schedule = schedule
        self._clock = clock
        self._monotonic = monotonic
        self._stop_asked = threading.Event()
        self._passes: dict[str, ReconcilePass] = {}
        self._told: dict[str, str] = {}
        self._usages: dict[str, Usage] = {}
        self._lists: dict[str, int] = {}
        self._first_open: dict[str, Mapping[str, int]] = {}
        """Requests of a log's newest pass before it fetched anything."""
        self._unfetched: dict[str, tuple[int, Mapping[str, Row]]] = {}
        """By the log, what the newest pass could not fetch, under the configuration of that number."""
        self._drift = DriftWatch(
            operations.live, env, self._usages, self._before_request, self._arrived, clock=clock, monotonic=monotonic
        )
        self._made_for: tuple[GithubLogs, Reconcile] | None = None
        self._was_closed = False
        self._resumed = 0
        self._next = 0.0
        self._soon: dict[str, float] = {}
        """By the log, when the next pass has something to do, in seconds since 1970."""

    @property
    def passes(self) -> Mapping[str, ReconcilePass]:
        """The newest pass of each log that is configured now."""
        names = {one.name for one in self._operations.config.github_logs.all}
        return {name: one for name, one in list(self._passes.items()) if name in names}

    @property
    def drift(self) -> Drift | None:
        """What of GitHub's settings and the configuration was found to have drifted; None where no passes are made."""
        return None if self._operations.config.reconcile.every_s is None else self._drift.found

    @property
    def budgets(self) -> Mapping[str, RequestBudget]:
        """What GitHub said of its limit, by the name of a log, of those that a pass has been made of."""
        budgets = {
            name: budget_of(usage, self._lists.get(name, 0), self._first_open.get(name, {}))
            for name, usage in list(self._usages.items())
        }
        return {name: budget for name, budget in budgets.items() if budget is not None}

    def status(self) -> ReconcileStatus | None:
        """How far the logs are compared; None where none is configured."""
        waits = None
        if self._closed():
            waits = "the intake is closed: a pass is made when it opens"
        config, now = self._operations.config, self._clock()
        found = reconcile_status(self._operations.journal, config, now, self.passes, waits, self.fetched, self.budgets)
        if found is not None:
            found.drift = self.drift
            found.follows = self._schedule.follows
            for one, told in zip(config.github_logs.all, found.logs, strict=True):
                told.following = self._schedule.status(one, told.last, now)
        return found

    def ask_stop(self) -> None:
        """Begin no request any more."""
        self._stop_asked.set()

    def stop(self, timeout: float) -> None:
        """End, and wait for that. An answer that GitHub takes its time for is left to the process's end: it changes nothing."""
        self.ask_stop()
        if self.ident is not None:
            self.join(timeout)

    def run(self) -> None:
        while not self._stop_asked.is_set():
            self.loop.done()
            try:
                self._round()
            except (PassEnded, JournalPoisoned, JournalClosed):
                pass  # the next round, if there is one, makes it anew
            if self._stop_asked.wait(TICK_S):
                break
        self._schedule.close()
        self.loop.end()

    # ---- when

    def _round(self) -> None:
        """Make the passes that are due."""
        config = self._operations.config
        wanted = (config.github_logs, config.reconcile)
        if wanted != self._made_for:  # at the start, and after a reload that changes it
            self._made_for, self._next = wanted, 0.0
            self._schedule.begin(config.github_logs)
            self._of_each(config, self._begun)
        closed = self._closed()
        resumed = self._operations.admission.resumed
        if not closed and (self._was_closed or resumed != self._resumed):
            self._next = 0.0
            self._resumed = resumed
        self._was_closed = closed
        every_s = config.reconcile.every_s
        if closed or every_s is None:
            return
        if self._is_due():
            self._soon.clear()
            whole = self._of_each(config, lambda one: self._pass(one, config))
            now, monotonic = self._clock(), self._monotonic()
            sooner_s = min([every_s if whole else RETRY_S, *(at - now for at in self._soon.values())])
            self._next = monotonic + self._schedule.wait_s(every_s, sooner_s, self._usages, now, monotonic)
        self._look()

    def _is_due(self) -> bool:
        return self._monotonic() >= self._next or self._schedule.is_due(self._clock())

    def _look(self) -> None:
        """Look for drift, if it is time to. No error may end the passes until a restart."""
        try:
            self._drift.look_if_due()
        except PassEnded:
            raise
        except Exception:
            self._require_going()
            log.exception("the webhooks' settings on GitHub could not be looked at; it is tried again")

    def _closed(self) -> bool:
        return bool(self._operations.admission.reasons())

    # ---- a log

    def _of_each(self, config: Config, work: Callable[[GithubApp | GithubHook], object]) -> bool:
        """Do it for each log; False where covenq itself, and not GitHub, was why one could not be done."""
        return [self._done(one, work) for one in config.github_logs.all].count(False) == 0

    def _done(self, one: GithubApp | GithubHook, work: Callable[[GithubApp | GithubHook], object]) -> bool:
        try:
            work(one)
        except (PassEnded, JournalPoisoned, JournalClosed):
            raise
        except (CovenqError, JournalError, OSError, sqlite3.Error) as error:
            self._require_going()
            self._failed(one.name, error)
            return False
        except Exception as error:
            # No error may end the passes until a restart.
            self._require_going()
            log.exception("%s could not be compared; it is tried again", one.name)
            self._note(
                one.name,
                None,
                [CovenqError(f"covenq itself failed ({type(error).__name__})", hint="Its log says how.")],
            )
            return False
        return True

    def _begun(self, one: GithubApp | GithubHook) -> LogState:
        """The state that a pass begins with, recorded before GitHub is asked: whatever it answers, it tells what was before."""
        journal, now = self._operations.journal, self._clock()
        self._schedule.require_alone(one)
        known = read_state(journal, one)
        state = write_state(journal, one, known, self._schedule.begun(one, begun(known, journal.epoch, now), now))
        if known is None:
            what = "taken from its log" if self._schedule.follows else "compared with what comes"
            log.info("%s: what GitHub sends from now on is %s", one.name, what)
        elif state.epoch != known.epoch:
            log.warning("%s: this journal was restored: what GitHub sent until now is fetched and not routed", one.name)
        if state.baseline > now + SET_BACK_S:
            self._tell(
                f"{one.name} baseline",
                "ahead",
                f"{one.name}: the clock was set back since its first pass: what GitHub sends until "
                f"{at_text(state.baseline)[:19]}Z counts as before us; `covenq reconcile --since 3d` fetches it",
            )
        return state

    def _pass(self, one: GithubApp | GithubHook, config: Config) -> None:
        settings, state = config.reconcile, self._begun(one)
        pacing = Pacing(self._sleep, retrying=lambda retry: self._unanswered(one.name, retry))
        asking = Asking(self._clock, pacing, self._before_request, self._usages)
        number = self._operations.live.now.number
        told_at, failed = self._unfetched.get(one.name, (number, {}))
        recorder = ImportRecorder(self._import, config.hooks, "daemon", hold_if_old=True)
        ledger = read_ledger(self._operations.journal, one)

        def restarted() -> None:
            log.info("%s: GitHub no longer takes the cursor of a page: the walk starts over", one.name)

        def record(before: LogState, after: LogState) -> LogState:
            return write_state(self._operations.journal, one, before, after)

        now = self._clock()
        redelivery = redelivery_of(config, now, record, self._clock)
        source = "import" if redelivery is None else None
        is_wanted = wanted_by(settings.fetch, config.routes, now, source)
        opening = self._schedule.opened(one, lambda: open_log(one, self._env, asking), self._monotonic())
        with opening as opened:
            result = make_pass(
                opened,
                state,
                lambda: StoredHoldings(_Stored(self._operations)),
                recorder,
                PassSettings(
                    settings.overlap_s,
                    self._schedule.grace_s(settings.grace_s),
                    is_wanted,
                    redelivery,
                    surely_first(config.routes, now, source),
                ),
                now,
                restarted,
                Earlier(failed if told_at == number else {}, ledger),
            )
        self._schedule.passed(one, state, result, self._usages, self._clock())
        self._unfetched[one.name] = number, result.failed
        if result.lists:
            self._lists[one.name], self._first_open[one.name] = result.lists, result.first_open
        if result.summary.error is None:
            write_ledger(self._operations.journal, one, ledger, result.ledger)
        write_state(self._operations.journal, one, result.asked.recorded, result.state)
        if result.asked.next_at is not None:
            self._soon[one.name] = result.asked.next_at
        self._tell_redelivery(one.name, result.asked)
        for problem in sorted(recorder.unread):
            self._tell(f"{one.name} {problem}", "secret", f"{one.name}: not tried for signatures: {problem}")
        before = given_up(failed) if told_at == number else {}
        self._tell_lost(one.name, [row for attempt, row in given_up(result.failed).items() if attempt not in before])
        self._note(one.name, result, result.troubles)

    def _arrived(self, event: str) -> bool:
        """Whether that event came lately, by whatever webhook."""
        words = [f"event:{event}", f"since:{duration(ARRIVED_S)}"]
        return bool(_Stored(self._operations).deliveries(words, limit=1).items)

    def _import(self, wanted: Import) -> Imported:
        if self._closed():
            raise PassEnded
        self.loop.progress()
        answer = IMPORT.function(self._operations, wanted)
        self.fetched += len(answer.done)
        return answer

    def _before_request(self) -> None:
        self.loop.progress()
        self._require_going()

    def _unanswered(self, name: str, retry: Retry) -> None:
        """Where nothing else brings deliveries, say what is waited for before all tries are made, which takes minutes."""
        if self._schedule.follows:
            self._tell(f"{name} try", "unanswered", f"{name}: GitHub is asked again: {retry.reason}")

    def _require_going(self) -> None:
        """Raises PassEnded where the daemon stops: what it closes then is no error."""
        if self._stop_asked.is_set():
            raise PassEnded

    def _sleep(self, seconds: float) -> None:
        if self._stop_asked.wait(seconds):
            raise PassEnded

    # ---- what is told

    def _note(self, name: str, result: PassResult | None, troubles: Sequence[CovenqError]) -> None:
        """Keep what a pass found for the status, and log it."""
        error = troubles[0] if troubles else None
        summary = None if result is None else result.summary
        rows = [] if result is None else result.rows
        states = Counter(row.state for row in rows)
        lost = [Unrecoverable(row.guid, row.reason or "") for row in rows if row.state == "unrecoverable"]
        ended_at, before = at_text(self._clock()), self._passes.get(name)
        newest_at = None if summary is None else summary.newest_at
        if newest_at is None and error is not None and before is not None:
            newest_at = before.newest_at
        self._passes[name] = ReconcilePass(
            ended_at,
            0 if summary is None else summary.listed,
            0 if summary is None else summary.held,
            0 if summary is None else summary.unreadable,
            0 if summary is None else summary.requests,
            dict(sorted(states.items())),
            None if error is None else str(error),
            None if error is None else error.hint,
            ended_at if error is None else None if before is None else before.finished_at,
            lost[:UNRECOVERABLE_MAX],
            newest_at,
            0 if result is None else result.asked.waiting,
            None if result is None else result.asked.why_not,
        )
        if states["fetched"] and not self._schedule.follows:
            log.warning("%s: fetched %s that never came", name, counted(states["fetched"], "delivery", "deliveries"))
        if states["waiting"]:
            waiting = counted(states["waiting"], "delivery", "deliveries")
            log.warning("%s: %s fetched and held back: `covenq reroute state:received reason:held`", name, waiting)
        if summary is not None and summary.unreadable:
            odd = counted(summary.unreadable, "item")
            self._tell(f"{name} list", "unreadable", f"{name}: {odd} of GitHub's list can't be read, and passed over")
        elif summary is not None:
            self._told.pop(f"{name} list", None)
        if error is not None:
            self._tell(name, type(error).__name__, f"{name}: {error}")
        elif self._is_over(name) | self._is_over(f"{name} try"):
            # Where that is how deliveries come, its end is told wherever its beginning was.
            log.log(logging.WARNING if self._schedule.follows else logging.INFO, "%s is compared again", name)

    def _tell_lost(self, name: str, rows: Sequence[Row]) -> None:
        """Log, once, what is given up: the mark moves past it, and later passes don't list it."""
        for row in rows[:LOST_LOGGED]:
            log.error("%s: %s, first sent %s, is not fetched: %s", name, row.guid, row.first_at, row.reason)
        if len(rows) > LOST_LOGGED:
            log.error("%s: nor are %s more: `covenq reconcile` lists them", name, len(rows) - LOST_LOGGED)

    def _tell_redelivery(self, name: str, asked: Asked) -> None:
        """Log what is asked for, and, once, why it isn't."""
        if asked.posted:
            log.warning("%s: asked GitHub to send %s again", name, counted(asked.posted, "delivery", "deliveries"))
        if asked.why_not is not None:
            self._tell(f"{name} redelivery", "not asked for", f"{name}: redelivery is not asked for: {asked.why_not}")
        elif asked.posted:
            self._told.pop(f"{name} redelivery", None)
        for reason in sorted(set(asked.refused)):
            self._tell(f"{name} {reason}", "refused", f"{name}: {reason}: it is fetched")

    def _failed(self, name: str, error: Exception) -> None:
        """A pass that covenq could not make: a key that can't be read, a full disk."""
        hint = getattr(error, "hint", None) or "Look at the daemon's log."
        self._note(name, None, [error if isinstance(error, CovenqError) else Refused(str(error), hint=hint)])

    def _tell(self, of: str, kind: str, words: str) -> None:
        """Log it once, until it is of another kind or over."""
        if self._told.get(of) != kind:
            self._told[of] = kind
            log.error("%s", words)

    def _is_over(self, of: str) -> bool:
        """It is told once more if it begins again; whether it was told."""
        return self._told.pop(of, None) is not None


class _Stored:
    """What the daemon holds, as `StoredHoldings` asks: everything durable is folded before."""

    def __init__(self, operations: DaemonContext) -> None:
        self._operations = operations

    def deliveries(self, filter: Sequence[str], *, limit: int) -> Page[Delivery]:
        return view.deliveries(self._operations.rows(), self._operations.journal, parse(filter), limit, None)

    def delivery(self, id: str) -> OneDelivery:
        return view.delivery(self._operations.rows(), self._operations.journal, id)
