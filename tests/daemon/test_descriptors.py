"""The budget of file descriptors: what is allowed at a time stays within the limit, and listeners hold as much as that says."""

from __future__ import annotations

import pytest

from covenq.daemon.descriptors import (
    CONNECTIONS_MIN,
    FEWEST,
    OF_COMMAND,
    OF_CONNECTION,
    PHASE_CONNECTIONS,
    RESERVED,
    budget,
)
from covenq.http.server.listener import CONNECTIONS


@pytest.mark.parametrize("limit", [48, 64, 256, 1024, 4096, *range(FEWEST, 3000, 37), 65_536, 1 << 20])
def test_the_parts_of_a_budget_stay_within_its_limit(limit: int) -> None:
    for concurrency in (1, 4, 1024):
        for listeners in (2, 3, 4):
            found = budget(limit, concurrency, listeners)
            assert 1 <= found.commands <= concurrency
            assert 1 <= found.phase_connections <= PHASE_CONNECTIONS
            assert found.connections * listeners + listeners - 1 >= CONNECTIONS_MIN * 2
            assert found.connections <= CONNECTIONS
            used = found.commands * OF_COMMAND + found.connections * OF_CONNECTION * listeners
            used += found.phase_connections
            assert used + (RESERVED if limit >= 200 else 0) <= limit


def test_without_a_limit_everything_is_as_configured() -> None:
    found = budget(None, 7, 2)
    assert (found.commands, found.connections, found.phase_connections) == (7, CONNECTIONS, PHASE_CONNECTIONS)
