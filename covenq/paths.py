"""The names of the files and directories in a data directory. Code that opens one takes its name from here."""

from __future__ import annotations

CONFIG_NAME = "covenq.toml"
"""The configuration, where neither --config nor COVENQ_CONFIG names another file."""
SECRET_NAME = "secret"  # noqa: S105 - a file's name
"""The webhook secret that the first start makes."""
TOKENS_NAME = "tokens.json"
"""Hashes of the API's tokens, where [api] tokens names no other file."""

NODE_NAME = "node"
"""Which node the directory is, among those that share a journal."""

JOURNAL_NAME = "journal"
"""The directory of the log: the only thing that can't be rebuilt."""
STATE_NAME = "state.db"
"""The cache of the journal that is asked for deliveries and tasks."""
STATE_LOCK_NAME = "state.lock"
"""Beside STATE_NAME: held by the one process that folds the journal into it."""
ATTEMPTS_NAME = "attempts"
"""The directory of the attempts' own directories: ATTEMPTS_NAME/<task>/<n>."""
RUNNING_NAME = "running"
"""The directory of what is known of the commands that run: RUNNING_NAME/<task>.<n>.json."""

STANDBY_NAME = "standby"
"""The directory of what runs for another node: its notes as in RUNNING_NAME, and its commands' socket."""

SOCKET_NAME = "covenq.sock"
"""The daemon's Unix socket, while it runs."""
PHASE_SOCKET_NAME = "phase.sock"
"""The Unix socket on which the daemon's own commands report phases, while it runs."""
TAKEOVER_NAME = "takeover.sock"
"""The socket at which the daemon gives its listening sockets to the process that takes over."""

REFUSALS_NAME = "refused.jsonl"
"""The log of refused requests; the file before it has `.1` behind its name."""
UPKEEP_NAME = "upkeep.json"
"""How far erasures and retention are carried out."""
LOOKS_NAME = "log_looks.json"
"""When GitHub's delivery logs were last seen to their end, where deliveries come out of them alone."""
NOTICES_NAME = "notices.json"
"""What [notify] has told of, what is owed to whom, and what was sent last."""
BACKUPS_NAME = "backups.json"
"""Where backups were written to."""
VERIFIED_NAME = "verified.json"
"""The outcome of the newest whole verification."""
