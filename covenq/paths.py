"""The names of what a data directory holds."""

from __future__ import annotations

SOCKET_NAME = "covenq.sock"


STATE_NAME = "state.db"

JOURNAL_NAME = "journal"
"""What a data directory holds."""
