"""The addresses of pages. None holds more than ids and a filter: they are pasted into tickets, and logged on their way."""

from __future__ import annotations

import re
from urllib.parse import quote, urlencode

ROOT = "/page"
LOGIN = f"{ROOT}/login"
LOGOUT = f"{ROOT}/logout"
DELIVERIES = f"{ROOT}/deliveries"
TASKS = f"{ROOT}/tasks"
LOOK_UP = f"{ROOT}/why"
NEXT_MAX = 2000

_OWN = re.compile(r"/page(?:[/?][!-\[\]-~]*)?\Z")
"""Printable ASCII without a backslash, which some browsers take for a slash."""


def listed(path: str, filter: str, after: str | None = None) -> str:
    """A list's, with what is given."""
    given = [(name, value) for name, value in (("filter", filter), ("after", after)) if value]
    return f"{path}?{urlencode(given)}" if given else path


def delivery(hook: str, guid: str) -> str:
    return f"{DELIVERIES}/{quote(hook, safe='')}/{quote(guid, safe='')}"


def login(after: str) -> str:
    """The form's, which leads to the page `after` it."""
    return LOGIN if after == ROOT else f"{LOGIN}?{urlencode({'next': after})}"


def own(given: str | None) -> str:
    """A page's address that came from outside, to be led to: never another site's. The first page for what is none."""
    if given is None or len(given) > NEXT_MAX or not _OWN.match(given):
        return ROOT
    return ROOT if given.startswith((LOGIN, LOGOUT)) else given
