"""An id that is typed in part: the one delivery or task whose id begins so."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from covenq.errors import Failure, NotFound, UsageError
from covenq.model import TOKEN, parse_id

if TYPE_CHECKING:
    from covenq.client.interface import Source

PREFIX_MIN = 4
"""Characters that a prefix has at least."""
GUID_LENGTH = 36
"""Of GitHub's GUIDs: what is as long is whole."""
LISTED_MAX = 5
"""Ids that are listed where several begin so."""


def whole_id(opened: Source, id: str) -> str:
    """The id of the only delivery or task that begins with `id`; `id` itself where it is whole, or nothing begins so.

    Only to look at: what acts takes whole ids. Raises UsageError where several begin so.
    """
    try:
        hook, prefix = parse_id(id)
    except UsageError:
        return id  # an address, say
    if not PREFIX_MIN <= len(prefix) < GUID_LENGTH or _is_known(opened, id):
        return id
    within = f"guid:{prefix}*" if hook is None else f"hook:{hook} guid:{prefix}*"
    found = [f"{one.hook}/{one.guid}" for one in opened.deliveries(within, limit=LISTED_MAX).items]
    if hook is None:
        found += [one.id for one in opened.tasks(f"id:{prefix}*", limit=LISTED_MAX).items]
    if len(found) > 1:
        shown = ", ".join(found[:LISTED_MAX])
        raise UsageError(f"several ids begin with {prefix}: {shown}", hint="Type more of it.")
    return found[0] if found else id


@contextmanager
def with_hint(opened: Source, id: str) -> Iterator[None]:
    """Have the error about a delivery or task that isn't found say what would find it.

    That is `covenq why` where a refused request named it, and more of the id where too little was given. Of one that is there
    something else may not be found, a part of its payload: that error has a hint of its own, and keeps it.
    """
    try:
        yield
    except NotFound as error:
        if error.hint == NotFound.hint:
            error.hint = _refused_hint(opened, id) or prefix_hint(id) or error.hint
        raise


def _refused_hint(opened: Source, id: str) -> str | None:
    """The hint for an id that only refused requests named; None for others, and where that can't be told."""
    try:
        found = opened.why(id)
    except Failure:  # the error that is being told is the one that was asked for
        return None
    if not found.refused or found.kind != "nothing":
        return None
    return f"A request that said it was that was refused: `covenq why {shlex.quote(id)}` tells why."


def prefix_hint(id: str) -> str | None:
    """The hint for an id that is too short for a prefix; None for others."""
    prefix = id.rpartition("/")[2]
    if len(prefix) >= PREFIX_MIN or not TOKEN.match(prefix):
        return None
    return f"The beginning of an id will do from {PREFIX_MIN} characters on; `covenq deliveries` lists them."


def _is_known(opened: Source, id: str) -> bool:
    """Whether it is the whole id of a task or of a delivery."""
    for ask in (opened.task, opened.delivery):
        try:
            ask(id)
        except NotFound:
            continue
        except UsageError:
            pass  # of several hooks: it is whole
        return True
    return False
