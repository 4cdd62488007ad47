"""The life of attempts' tokens: asked for, given, renewed, revoked when the attempt is over, and none forgotten.

Where a token is at each point of its life, so that a crash there leaves none that nobody knows of:

1. `ops.token` with state `asked` is durable before GitHub is asked. From here on there may be one, until the time in the
   record.
2. GitHub answers. Until the next step a crash leaves a token that nobody has, and nobody can revoke: record 1 tells of it,
   and it is shown as not confirmed revoked until that time. An answer that was lost, or can't be read, is recorded so at once
   (`unconfirmed`).
3. The token is in a synced file (`covenq.tasks.tokens.owed`) before anybody gets it; then `minted` is recorded. From here on
   whatever process works on this directory next finds the file and revokes it, once the attempt is over.
4. GitHub confirms that the token is of no use (204, or 401: it knows it no more). Then `revoked` is recorded, then the file
   goes: a crash in between revokes once more, which GitHub answers with 401.

The records of one attempt are appended in this order by one thread at a time, and each tells of all its tokens: the last one
is what is known. Whether an attempt is over is told by the state, as it is to the pool: it ends by whatever record moves its
task.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from covenq.errors import (
    ConfigError,
    ExtraMissing,
    GithubAnswerUnreadable,
    GithubLimited,
    GithubRefused,
    OutgoingFailed,
    UsageError,
    WorkTokenRefused,
    WorkTokenUnavailable,
)
from covenq.github.installation_token import LATE_S, LIFE_S
from covenq.model import at_text, fence, seconds_of
from covenq.paths import GITHUB_TOKENS_NAME
from covenq.rounds import Loop
from covenq.state.fold_tokens import TOKEN, TokenState, open_of
from covenq.state.progress import FoldProgress
from covenq.state.readers import Readers
from covenq.tasks.scheduling.claim import Claim
from covenq.tasks.scheduling.outcome import Task
from covenq.tasks.tokens import given
from covenq.tasks.tokens.apis import TokenApis, request_for
from covenq.tasks.tokens.holding import RENEW_S, GivenToken, Holding, end_of, renewal_of
from covenq.tasks.tokens.owed import OwedFiles, OwedToken
from journal.append import append_known
from journal.errors import JournalError
from journal.interface import Journal
from journal.records import Entry

log = logging.getLogger("covenq.tokens")

POLL_S = 5.0
"""Seconds between two looks at what is held, at most: the clock may be set."""
OVERDUE_S = 180.0
AGAIN_S, AGAIN_MAX_S = 1.0, 60.0
"""Seconds after which GitHub is asked again where it gave no answer, at first and at most."""

_OVER = "SELECT id, claim_seq FROM tasks WHERE id IN (SELECT value FROM json_each(?))"
_NOTHING_MINTED = (GithubRefused, GithubLimited, ConfigError, ExtraMissing, UsageError, WorkTokenRefused)


class TokenKeeper:
    """Holds the tokens of the attempts that run, and of those that are over until they are revoked. Methods from any thread.

    One `start` and one `stop`.
    """

    def __init__(
        self,
        journal: Journal,
        readers: Readers,
        fold: FoldProgress,
        data: Path,
        apis: TokenApis,
        *,
        node: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`data` is the data directory, `node` the name of the node whose it is."""
        self.loop = Loop("tokens", OVERDUE_S, "no token of an attempt is renewed or revoked")
        self._journal, self._readers, self._fold = journal, readers, fold
        self._directory = data.absolute() / GITHUB_TOKENS_NAME
        self._files = OwedFiles(self._directory)
        self._apis = apis
        self._node = node
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[str, Holding] = {}
        """By the claim's fence."""
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._revoke_until = 0.0
        self._judge_from: int | None = None
        """The head when what an earlier process left was read: before the state has reached it, it says nothing of that."""
        self._reported = ""
        self._thread = threading.Thread(target=self._run, name="tokens", daemon=True)

    def start(self) -> None:
        """Before any attempt is begun: the files that an earlier process's commands read are removed here."""
        given.clear(self._directory)
        self._fold.subscribe(lambda seq: self._wake.set() if self._held else None)
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End the thread, after it has revoked what can be revoked within that time; the rest is the next start's."""
        self._revoke_until = time.monotonic() + seconds
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def path_for(self, task: str, attempt: int) -> Path:
        """Where the command of that attempt reads its token. Raises ValueError."""
        return given.path_of(self._directory, task, attempt)

    def give(self, task: Task, claim: Claim, learn: Callable[[bytes], None]) -> None:
        """Get a token for a command's attempt, in the file of `path_for`, and renew it there until `release`.

        `learn` is told each token before the command can have it. Raises WorkTokenRefused, WorkTokenUnavailable, JournalError,
        and OSError where the file can't be written: what was got is revoked then.
        """
        held = self._holding(task, claim)
        held.learn, held.file = learn, self.path_for(task.id, claim.attempt)
        try:
            with held.lock:
                self._renew(held)
        except BaseException:
            self.release(claim.fence)
            raise
        finally:
            if held.released:  # meanwhile: the thread has passed it over
                self._wake.set()

    def token_for(self, task: Task, claim: Claim) -> GivenToken:
        """A token for an attempt that a worker runs elsewhere: the one that it has, while that is good for long, or a new one.

        Asked again, because an answer was lost, it is the same. Raises as `give`.
        """
        held = self._holding(task, claim)
        with held.lock:
            newest = held.owed[-1] if held.owed else None
            if newest is None or newest.expires_at - self._clock() <= RENEW_S:
                newest = self._mint(held)
            now = self._clock()
            return GivenToken(newest.token, newest.expires_at, max(0.0, renewal_of(newest, now) - now))

    def secrets(self) -> list[bytes]:
        """The tokens that may be of use to somebody: to be masked wherever one is written."""
        return [one.token.encode() for held in list(self._held.values()) for one in list(held.owed)]

    def release(self, fence: str) -> None:
        """The attempt under that claim is over: its tokens are revoked, by the thread. Of one that has none, nothing happens."""
        held = self._held.get(fence)
        if held is not None:
            held.released = True
            if held.file is not None:
                given.remove(held.file)
            self._wake.set()

    # ---- asking, with the holding's lock

    def _holding(self, task: Task, claim: Claim) -> Holding:
        """The holding of the attempt, a new one if there is none. Raises WorkTokenRefused."""
        if task.policy.token is None:
            raise WorkTokenRefused("the task's route has no token", hint="Write token in the route: covenq.toml(5).")
        request = request_for(task, task.policy.token)
        with self._lock:
            held = self._held.setdefault(claim.fence, Holding(task.id, claim.attempt, claim.fence))
            held.request = request
            return held

    def _take_over(self, held: Holding) -> None:
        """Count as lost what a node has that led before, for the same attempt, or that nobody has: it can't be revoked here."""
        found = open_of(self._readers.reader(), held.task, held.attempt)
        if found is None:
            return
        state, until = found
        mine = {at_text(one.until) for one in held.owed}
        if state == TokenState.UNCONFIRMED or until not in mine:
            held.lost_until = seconds_of(until)
        held.recorded = (TokenState(state), until)

    def _renew(self, held: Holding) -> None:
        """A new token in the command's file. Raises as `give`."""
        owed = self._mint(held)
        held.renew_at = renewal_of(owed, self._clock())
        held.renew_within = time.monotonic() + held.renew_at - self._clock()
        if held.file is not None:
            given.write(held.file, owed.token)
            if held.released:  # meanwhile
                given.remove(held.file)

    def _mint(self, held: Holding) -> OwedToken:
        assert held.request is not None
        if held.recorded is None:
            self._take_over(held)
        until = self._clock() + LIFE_S + LATE_S
        self._record(held, TokenState.UNCONFIRMED if held.lost_until else TokenState.ASKED, until)
        try:
            api_url, minted = self._apis.mint(held.request)
        except BaseException as error:
            if not isinstance(error, _NOTHING_MINTED) and not (isinstance(error, OutgoingFailed) and not error.sent):
                held.lost_until = until
            self._settle(held)
            if isinstance(error, WorkTokenRefused):
                raise
            raise _told(error, self._clock()) from error
        owed = OwedToken(held.task, held.attempt, held.fence, api_url, minted.token, minted.expires_at, until)
        held.owed.append(owed)
        held.learn(owed.token.encode())
        try:
            self._files.keep(owed)
        except OSError as error:
            # It is revoked out of memory. Where this process ends before, the record tells of it as of one that nobody has.
            raise WorkTokenUnavailable(
                f"the token can't be kept until it is revoked: {error.strerror}", hint="Free space on the disk."
            ) from None
        self._settle(held)
        return owed

    # ---- what is recorded

    def _record(self, held: Holding, state: TokenState, until: float | None) -> None:
        """Raises JournalError."""
        text = None if until is None else at_text(until)
        if held.recorded == (state, text):
            return
        data = {
            "task": held.task,
            "attempt": held.attempt,
            "fence": held.fence,
            "state": state.value,
            "until": text,
            "node": self._node,
        }
        append_known(self._journal, [Entry(TOKEN, TOKEN, data)], stopped=self._stopping.is_set)
        held.recorded = (state, text)

    def _settle(self, held: Holding) -> bool:
        """Record what is known now; whether that is done. Else the record before says no less, and the next one is tried anew."""
        lost = held.lost_until if held.lost_until is not None and held.lost_until > self._clock() else None
        until = max([one.until for one in held.owed] + ([] if lost is None else [lost]), default=None)
        if lost is not None:
            state = TokenState.UNCONFIRMED
        elif held.owed:
            state = TokenState.MINTED
        else:
            state = end_of(held)
        try:
            self._record(held, state, until)
        except JournalError as error:
            log.warning(
                "task %s attempt %d: that its token is %s is not recorded yet: %s",
                held.task,
                held.attempt,
                state,
                error,
            )
            return False
        self._remove_files(held)
        return True

    def _remove_files(self, held: Holding) -> None:
        for one in held.gone:
            self._files.remove(one)
        held.gone.clear()

    # ---- the thread

    def _run(self) -> None:
        self.loop.done()
        while True:
            if not self._stopping.is_set():
                self._wake.wait(self._next_s())
            self._wake.clear()
            try:
                if self._judge_from is None:
                    self._load()
                self._find_over()
                self._work()
                self.loop.done()
            except Exception as error:
                if self._stopping.is_set() and time.monotonic() >= self._revoke_until:
                    break  # what it needs is being closed; the next start goes on
                # No error may leave a token that is never revoked.
                self.loop.failed(error)
                self._readers.met(error)
                log.exception("the tokens of attempts could not be looked at; it is tried again")
                self._stopping.wait(AGAIN_S)
            if self._stopping.is_set():
                break
        self.loop.end()

    def _next_s(self) -> float:
        """Seconds after which to look again if nothing wakes it before."""
        now, monotonic = self._clock(), time.monotonic()
        due = [(one.again_at - monotonic if one.wait_s else one.renew_at - now) for one in list(self._held.values())]
        return max(0.0, min([POLL_S, *due]))

    def _load(self) -> None:
        """Hold what an earlier process left. Where that can't be read, it is tried in each round, and the others go on."""
        head = self._journal.head().seq
        try:
            left = self._files.all()
        except OSError as error:
            self._report(f"{self._directory} can't be read: no token that was left there is revoked: {error.strerror}")
            return
        with self._lock:
            for one in left:
                held = self._held.setdefault(one.fence, Holding(one.task, one.attempt, one.fence))
                if one not in held.owed:
                    held.owed.append(one)
            for held in self._held.values():
                held.owed.sort(key=lambda one: one.until)
        self._judge_from = head

    def _report(self, words: str) -> None:
        """Once, for as long as it stays the same."""
        if words != self._reported:
            log.error("%s", words)
        self._reported = words

    def _find_over(self) -> None:
        """Release the attempts whose task is no longer theirs, as the state tells."""
        folded = self._fold.folded
        if self._judge_from is None or folded < self._judge_from:
            return
        with self._lock:
            held = [one for one in self._held.values() if not one.released and one.claim_seq <= folded]
        if not held:
            return
        conn = self._readers.reader()
        current = dict(_claims(conn, sorted({one.task for one in held})))
        for one in held:
            claim = current.get(one.task)
            if claim is None or fence(self._journal.epoch, claim) != one.fence:
                self.release(one.fence)

    def _work(self) -> None:
        """Renew what is due, then revoke what is released; what failed waits longer each time, unless this is the last round."""
        stopping = self._stopping.is_set()
        every = list(self._held.values())
        every.sort(key=lambda one: one.released)
        for held in every:
            if stopping and time.monotonic() >= self._revoke_until:
                return
            if not stopping and time.monotonic() < held.again_at:
                continue
            if not held.lock.acquire(blocking=False):
                continue  # its token is being asked for
            try:
                self.loop.progress()
                done = self._revoke_all(held) if held.released else self._renew_if_due(held)
            finally:
                held.lock.release()
            held.wait_s = 0.0 if done else min(max(2 * held.wait_s, AGAIN_S), AGAIN_MAX_S)
            held.again_at = time.monotonic() + held.wait_s if held.wait_s else 0.0

    def _renew_if_due(self, held: Holding) -> bool:
        """False if it has to be tried again."""
        now = self._clock()
        self._revoke(held, [one for one in held.owed[:-1] if one.until <= now])  # replaced long ago
        if self._stopping.is_set() or (now < held.renew_at and time.monotonic() < held.renew_within):
            return True
        try:
            self._renew(held)
        except (WorkTokenRefused, WorkTokenUnavailable, JournalError, OSError) as error:
            log.warning("the token of task %s attempt %d is not renewed: %s", held.task, held.attempt, error)
            return False
        return True

    def _revoke_all(self, held: Holding) -> bool:
        """False if it has to be tried again."""
        if held.recorded is None:
            self._take_over(held)
        self._revoke(held, list(held.owed))
        if held.owed:
            return False
        if not self._settle(held):
            if any(one.until > self._clock() for one in held.gone):
                return False
            self._remove_files(
                held
            )  # what is recorded has run out by itself: this node may have to record nothing any more
        with self._lock:
            self._held.pop(held.fence, None)
        return True

    def _revoke(self, held: Holding, tokens: list[OwedToken]) -> None:
        """Have GitHub confirm that they are of no use. Where it doesn't, one is so when its time is over: clocks err."""
        for one in tokens:
            try:
                self._apis.revoke(one.api_url, one.token)
            except (GithubRefused, GithubLimited, OutgoingFailed, ConfigError, UsageError) as error:
                log.warning("a token of task %s attempt %d is not confirmed revoked: %s", one.task, one.attempt, error)
                if one.until > self._clock():
                    continue
                held.expired = True
            held.owed.remove(one)
            held.gone.append(one)


def _claims(conn: sqlite3.Connection, tasks: list[str]) -> Iterator[tuple[str, int | None]]:
    import json

    for row in conn.execute(_OVER, (json.dumps(tasks),)):
        yield row["id"], row["claim_seq"]


def _told(error: BaseException, now: float) -> BaseException:
    """What an attempt is told of an error of its request; any other is itself."""
    match error:
        case GithubRefused():
            return WorkTokenRefused(f"GitHub gives no token: {error}", hint=error.hint)
        case GithubLimited():
            wait = None if error.until is None else max(0.0, error.until - now)
            return WorkTokenUnavailable(f"GitHub gives no token now: {error}", hint=error.hint, retry_after_s=wait)
        case OutgoingFailed() | GithubAnswerUnreadable() | ConfigError() | ExtraMissing() | UsageError():
            return WorkTokenUnavailable(f"no token can be got: {error}", hint=error.hint)
    return error
