"""What the shell may complete: fields and values of a filter, routes, and the newest ids.

It answers while somebody presses Tab: nothing slow is asked, and nothing that goes wrong is told.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from covenq.errors import Failure

NEWEST = 200
"""Deliveries, and tasks, whose ids are offered: the newest."""
EVENTS = (
    "check_run", "check_suite", "create", "delete", "deployment", "discussion", "installation", "issue_comment", "issues",
    "merge_group", "ping", "pull_request", "pull_request_review", "pull_request_review_comment", "push", "release",
    "repository", "star", "status", "workflow_dispatch", "workflow_job", "workflow_run",
)  # fmt: skip


def of_filter(args: Sequence[str], incomplete: str) -> list[str]:
    """Terms of a filter that begin so. Where the shell has split a word at its colon, as bash does, the value alone."""
    if incomplete == ":" and args:
        return _values(args[-1], "")
    if len(args) > 1 and args[-1] == ":":
        return _values(args[-2], incomplete)
    if ":" not in incomplete and not incomplete.startswith("-") and any(char.isdigit() for char in incomplete):
        return ids(incomplete)  # no field has a digit in its name, and few ids are without
    sign = "-" if incomplete.startswith("-") else ""
    field, colon, value = incomplete.removeprefix(sign).partition(":")
    if colon:
        done, comma, last = value.rpartition(",")
        return [f"{sign}{field}:{done}{comma}{one}" for one in _values(field, last)]
    from covenq.filter import FIELDS

    return [f"{sign}{name}{'<' if name == 'age' else ':'}" for name in FIELDS if name.startswith(field)]


def _values(field: str, begun: str) -> list[str]:
    from covenq.filter import WORDS

    known: Iterator[str] | Sequence[str] = ()
    if field in WORDS:
        known = sorted(WORDS[field])
    elif field == "event":
        known = EVENTS
    elif field == "source":
        known = ("http", "import")
    elif field == "kind":
        known = ("forward", "pull", "run")
    elif field == "route":
        known = routes("")
    elif field in ("since", "before"):
        known = ("10m", "1h", "1d", "7d")
    return [one for one in known if one.startswith(begun)]


def routes(incomplete: str) -> list[str]:
    """Names of today's routes."""
    from covenq import config as configuration

    try:
        loaded = configuration.load(configuration.config_path(None, os.environ), os.environ)
    except (*Failure, OSError):
        return []
    return [route.name for route in loaded.routes if route.name.startswith(incomplete)]


def ids(incomplete: str) -> list[str]:
    """GUIDs and task ids, of the newest, that begin so."""
    return [*_newest("deliveries", "guid", incomplete), *_newest("tasks", "id", incomplete)]


def _newest(what: str, name: str, incomplete: str) -> list[str]:
    """From a daemon's socket or the files, as a command would find them."""
    from covenq.cli.common import source

    try:
        with source(None, None) as opened:
            found = getattr(opened, what)("", limit=NEWEST)["items"]
    except (*Failure, OSError):
        return []
    return list(dict.fromkeys(str(one[name]) for one in found if str(one[name]).startswith(incomplete)))
