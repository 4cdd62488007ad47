"""Ids as they are shown where many are: by their beginning, which commands take, too.

Four bytes are as rarely the same among a million as one in five thousand; where they are, a command lists what begins so, and
does nothing.
"""

from __future__ import annotations

import re

GUID_SHORT, TASK_SHORT = 8, 9
GUID_LENGTH, TASK_LENGTH = 36, 25
"""Of GitHub's GUIDs, and of tasks' ids: what is as long is whole."""

_GUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}\Z")
_TASKS = re.compile(r"(?<![:0-9A-Za-z_-])t[0-9a-f]{24}(?![0-9A-Za-z_-])")
_TASK = re.compile(r"t[0-9a-f]{24}\Z")


def short_id(id: str) -> str:
    """A GUID, hook/GUID or task's id by its beginning; what isn't made at random, and may begin as others do, whole."""
    guid = id.rpartition("/")[2]
    if _GUID.match(guid):
        return guid[:GUID_SHORT]
    return id[:TASK_SHORT] if _TASK.match(id) else id


def with_short_tasks(text: str) -> str:
    """A sentence with the ids of tasks in it short, as commands take them, unless several of them begin alike."""
    short = {id: id[:TASK_SHORT] for id in _TASKS.findall(text)}
    if len(set(short.values())) < len(short):
        return text
    return _TASKS.sub(lambda found: short[found[0]], text)
