"""What a worker logs of routes for which no task will come: a mistyped name would be waited for for ever, without a word."""

from __future__ import annotations

import logging
import threading

from covenq.text import escape

log = logging.getLogger("covenq.worker")

NAMES_MAX = 400
"""Characters of routes' names in a line of the log."""


class MissingRoutes:
    """The routes that the daemon last said are no pull routes. `note` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: tuple[str, ...] = ()

    def note(self, routes: tuple[str, ...]) -> None:
        """Log them, where that has changed since it was said last: a reload may add or remove some.

        As `ClaimsClient.not_pulled` has them.
        """
        with self._lock:
            before, self._known = self._known, routes
        if routes == before:
            return
        if routes == ("*",):
            log.warning("the daemon has no pull route: no task comes until one is configured")
        elif routes:
            names = escape(", ".join(routes))[:NAMES_MAX]
            log.warning(
                "the daemon has no pull route named %s: no new task of that comes until one is configured", names
            )
        else:
            log.warning("the daemon has the routes by now: tasks may come")
