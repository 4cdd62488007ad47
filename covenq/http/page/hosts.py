"""The allow-list of hosts: under which names a browser may ask for a page."""

from __future__ import annotations

import re
from collections.abc import Collection

from covenq.config.page import LOOPBACK

_PORT = re.compile(r":[0-9]*\Z")


def name_of(host: str | None) -> str:
    """The name in a Host field, as `[api] hosts` has it: in small letters, without the port. Empty where there is none."""
    return _PORT.sub("", (host or "").strip()).lower()


def is_allowed(host: str | None, allowed: Collection[str]) -> bool:
    return name_of(host) in allowed


def is_loopback(host: str | None) -> bool:
    return name_of(host) in LOOPBACK
