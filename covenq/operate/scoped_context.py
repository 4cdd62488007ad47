"""The context of an operation that a token with a scope has done: the rows of the scope, and the same journal.

A plan is made of rows, and what it appends is about rows that it read: so what isn't in scope isn't counted, skipped or touched,
and named by its id it is answered as one that never was. What would be about more than the scope is refused here, before anything
is opened, in the same words whether it is there or not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from covenq.config.limits import Caps
from covenq.config.load import Config
from covenq.errors import NotFound, ScopeInsufficient
from covenq.model import parse_repo
from covenq.model.token_scope import Scope
from covenq.operate.act import pauses
from covenq.operate.operations import RESUME, Context
from covenq.operate.parameters import Parameters, Pause, Replay
from covenq.state import repositories
from covenq.state.fold_pauses import PauseTarget
from journal.interface import Journal

_NEWEST = "SELECT installation, repo_id FROM webhook_deliveries WHERE repo_id = ? ORDER BY seq DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class ScopedContext:
    """`whole` is the daemon's own; `rows` gives the connection under the scope, once everything durable is folded.

    It is a `Context` as far as operations that declare a scope need one: those of the whole machine have none of its methods.
    """

    whole: Context
    scope: Scope
    token: str
    """The token's name."""
    rows: Callable[[], sqlite3.Connection]

    @property
    def config(self) -> Config:
        return self.whole.config

    @property
    def caps(self) -> Caps:
        return self.whole.caps

    @property
    def clock(self) -> Callable[[], float]:
        return self.whole.clock

    @contextmanager
    def writing(self) -> Iterator[tuple[Journal, sqlite3.Connection]]:
        with self.whole.writing() as (journal, _):
            yield journal, self.rows()

    @contextmanager
    def pausing(self) -> Iterator[tuple[Journal, Callable[[], sqlite3.Connection]]]:
        with self.whole.pausing() as (journal, _):
            yield journal, self.rows

    def check(self, operation: str, parameters: Parameters) -> None:
        """Raises ScopeInsufficient, NotFound, UsageError."""
        if isinstance(parameters, Replay) and parameters.to is not None:
            raise ScopeInsufficient("a replay to an address goes out from this machine's own network")
        if isinstance(parameters, Pause):
            self._check_pause(parameters)
            if operation == RESUME.name:
                self._check_own(parameters)

    def _check_own(self, wanted: Pause) -> None:
        """Whoever runs the machine may have paused a tenant: that is not the tenant's to end."""
        for one in pauses.in_effect(self.rows(), wanted):
            by = str(one["by"])
            if by != f"token:{self.token}" and not by.startswith(f"token:{self.token} ("):
                raise ScopeInsufficient(
                    f"it was paused by {by}, and a token for some installations ends its own pauses alone"
                )

    def _check_pause(self, wanted: Pause) -> None:
        if wanted.what == PauseTarget.INSTALLATION:
            number = wanted.name or ""
            fits = number.isascii() and number.isdecimal() and len(number) < 19
            if self.scope.repositories is None and fits and int(number) in self.scope.installations:
                return
            raise ScopeInsufficient(f"that installation isn't one that this token is for ({self.scope})")
        if wanted.what != PauseTarget.REPO:
            raise ScopeInsufficient(
                f"intake, worker and routes are everybody's, and this token is for {self.scope} alone"
            )
        name = parse_repo(wanted.name or "")
        found = repositories.newest(self.rows(), name)
        with self.whole.pausing() as (_, rows):
            newest = None if found is None else rows().execute(_NEWEST, (found[0],)).fetchone()
        # A repository that went to another installation since is that one's to pause.
        if newest is None or not self.scope.allows_numbers(newest[0], newest[1]):
            raise NotFound(f"no delivery of {name} is known here", hint="`covenq deliveries` lists what there is.")
