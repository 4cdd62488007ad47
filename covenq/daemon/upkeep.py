"""Upkeep in the daemon: what it works on, by whom GitHub is asked for it, and what stops it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

from covenq.config.live import Live
from covenq.daemon.datadir import Storage
from covenq.daemon.stop import UPKEEP_S
from covenq.daemon.uninstalled import asks_github
from covenq.operate.inspect.nodes import absent_nodes
from covenq.operate.maintain.upkeep import Upkeep


def make_upkeep(
    live: Live, storage: Storage, leads: Callable[[], bool], env: Mapping[str, str], cleanup: ExitStack
) -> Upkeep:
    """Retention and erasure. Before the workers, so that it is stopped after them.

    That may take as long as the rewrite of a segment, and claims that wait for a task are answered before.
    """
    upkeep = Upkeep(
        storage.journal,
        storage.readers,
        storage.fold,
        storage.data,
        lambda: live.now.config.retention,
        truncate_wal=storage.fold.scrub,
        reserve=storage.reserve,
    )
    upkeep.asks(asks_github(live, env))
    upkeep.share(leads, lambda: absent_nodes(storage.succession, storage.node.id))
    cleanup.callback(upkeep.stop, UPKEEP_S)
    return upkeep
