"""Shell completion: fields and values of a filter, names of routes, and the newest ids.

It runs while somebody presses Tab: it makes no slow request, and reports no error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from covenq.errors import Failure

NEWEST_MAX = 200
"""Deliveries, and tasks, whose ids are offered."""
TIMEOUT_S = 1.0


def complete_filter(
    args: Sequence[str],
    incomplete: str,
    data: str | None = None,
    config: str | None = None,
    url: str | None = None,
    *,
    id_kinds: Sequence[str] = (),
) -> list[str]:
    """Terms of a filter that begin with `incomplete`, and ids of `id_kinds` (deliveries, tasks).

    Where the shell has split a word at its colon, as bash does, only what comes after the colon.
    """
    if incomplete == ":" and args:
        return _after_colon(args[-1], "", config, data)
    if len(args) > 1 and args[-1] == ":":
        return _after_colon(args[-2], incomplete, config, data)
    if incomplete.startswith("-"):
        return [f"-{term}" for term in _terms(incomplete[1:], config, data)]
    if incomplete.startswith("not:"):
        return [f"not:{term}" for term in _terms(incomplete.removeprefix("not:"), config, data)]
    if ":" not in incomplete and any(char.isdigit() for char in incomplete):
        return ids(incomplete, data, config, url)  # no field has a digit in its name, and few ids have none
    return [*_terms(incomplete, config, data), *(ids(incomplete, data, config, url, id_kinds) if id_kinds else ())]


def _after_colon(word: str, prefix: str, config: str | None, data: str | None) -> list[str]:
    """Completions after `word:`."""
    if word == "not":
        return _terms(prefix, config, data)
    return _in_a_list(word.removeprefix("-"), prefix, config, data)


def _terms(prefix: str, config: str | None, data: str | None) -> list[str]:
    """Terms that are not negated."""
    from covenq.filter.completion import terms

    return terms(prefix, lambda field, typed: _known_here(field, typed, config, data))


def _in_a_list(field: str, prefix: str, config: str | None, data: str | None) -> list[str]:
    """Values of a field, of which the last one of `a,b,c` is completed."""
    from covenq.filter.completion import values_in_a_list

    return values_in_a_list(field, prefix, lambda field, typed: _known_here(field, typed, config, data))


def _known_here(field: str, prefix: str, config: str | None, data: str | None) -> list[str]:
    """Values that the configuration and the data directory have."""
    if field == "route":
        return routes("", config, data)
    if field in ("guid", "id"):
        return ids(prefix, data, config, None, ("deliveries",) if field == "guid" else ("deliveries", "tasks"))
    return []


def routes(incomplete: str, config: str | None = None, data: str | None = None) -> list[str]:
    """Names of the routes in the configuration, the running daemon's if there is one."""
    from covenq.cli.context import locate_in_use

    with _within_timeout():
        try:
            loaded = locate_in_use(data, config, say=lambda words: None).config
        except (*Failure, OSError):
            return []
    return [route.name for route in loaded.routes if route.name.startswith(incomplete)]


def samples(incomplete: str) -> list[str]:
    """Events of which `covenq send` has a sample."""
    from covenq.github.samples import SAMPLES

    return [name for name in SAMPLES if name.startswith(incomplete)]


def pause_names(what: str | None, incomplete: str, config: str | None = None, data: str | None = None) -> list[str]:
    """Completions after `covenq pause WHAT`."""
    return routes(incomplete, config, data) if what == "route" else []


def ids(
    incomplete: str,
    data: str | None = None,
    config: str | None = None,
    url: str | None = None,
    of: Sequence[str] = ("deliveries", "tasks"),
) -> list[str]:
    """The newest GUIDs and task ids that begin with `incomplete`. None for a remote daemon, which would be too slow to ask."""
    if url or (os.environ.get("COVENQ_URL") and data is None):
        return []
    import sqlite3

    with _within_timeout():
        try:
            folded = _ids_from_state(incomplete, data, config, of)
            return _ids_from_source(incomplete, data, config, of) if folded is None else folded
        except (*Failure, OSError, sqlite3.Error):
            return []


_TABLES = {"deliveries": ("webhook_deliveries", "guid", "seq"), "tasks": ("tasks", "id", "created_seq")}


def _ids_from_state(incomplete: str, data: str | None, config: str | None, of: Sequence[str]) -> list[str] | None:
    """Ids from state.db as it is: without a lock or a daemon, and by an index, however many rows. None without state.db."""
    import sqlite3
    from contextlib import closing

    from covenq.cli.context import locate
    from covenq.paths import STATE_NAME
    from journal.presence import exists

    path = locate(data, config).data / STATE_NAME
    if not exists(path):
        return None
    found: list[str] = []
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0.2)) as conn:
        for table, name, arrival in (_TABLES[one] for one in of):
            # A range, which an index answers, where LIKE would read every row. With nothing typed yet: the newest.
            last = incomplete + chr(0x10FFFF)
            order = name if incomplete else f"{arrival} DESC"
            query = f"SELECT {name} FROM {table} WHERE {name} >= ? AND {name} < ? ORDER BY {order} LIMIT ?"  # noqa: S608 - names of our own
            found += [str(row[0]) for row in conn.execute(query, (incomplete, last, NEWEST_MAX))]
    return list(dict.fromkeys(found))


def _ids_from_source(incomplete: str, data: str | None, config: str | None, of: Sequence[str]) -> list[str]:
    """Ids from the daemon or the journal, through a command's own source, for a data directory that has no state.db yet."""
    from covenq.cli.context import source

    found: list[str] = []
    with source(data, config) as opened:
        if "deliveries" in of:
            found += [delivery.guid for delivery in opened.deliveries("", limit=NEWEST_MAX).items]
        if "tasks" in of:
            found += [task.id for task in opened.tasks("", limit=NEWEST_MAX).items]
    return list(dict.fromkeys(one for one in found if one.startswith(incomplete)))


@contextmanager
def _within_timeout() -> Iterator[None]:
    """A deadline, because somebody waits after pressing Tab: after TIMEOUT_S the completing process exits and offers nothing."""
    if "_COVENQ_COMPLETE" not in os.environ:  # another process, a test's or a command's, must not be ended
        yield
        return
    import threading

    timer = threading.Timer(TIMEOUT_S, os._exit, (0,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
