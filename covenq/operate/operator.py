"""Who acts, for the journal: through which interface, and under which login name."""

from __future__ import annotations

BY_MAX = 64
"""Characters that are kept."""


def operator_name(interface: str) -> str:
    """`cli:mona`: the interface and the login name, or the user's number where there is no name."""
    import getpass
    import os

    try:
        return f"{interface}:{getpass.getuser()}"[:BY_MAX]
    except (KeyError, OSError):
        return f"{interface}:{os.getuid()}"
