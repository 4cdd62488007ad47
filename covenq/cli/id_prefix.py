"""An id that is typed in part: the one delivery or task whose id begins so."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from covenq.errors import Failure, NotFound, UsageError
from covenq.model import TOKEN, parse_id
from covenq.model.short_ids import GUID_LENGTH, TASK_LENGTH

if TYPE_CHECKING:
    from covenq.client.interface import Source

PREFIX_MIN = 4
"""Characters that a prefix has at least."""
LISTED_MAX = 5
"""Ids that are listed where several begin so."""


def whole_id(opened: Source, id: str, *, deliveries: bool = True, tasks: bool = True) -> str:
    """The id of the only delivery or task that begins with `id`; `id` itself where it is whole, or nothing begins so. Where both
    are meant, and none begins so, that of the only request that was refused.

    `deliveries` and `tasks` say which are meant. Raises UsageError where several begin so.
    """
    try:
        hook, prefix = parse_id(id)
    except UsageError:
        return id  # an address, say
    whole = GUID_LENGTH if deliveries else TASK_LENGTH
    if not PREFIX_MIN <= len(prefix) < whole or _is_known(opened, id, deliveries=deliveries, tasks=tasks):
        return id
    within = f"guid:{prefix}*" if hook is None else f"hook:{hook} guid:{prefix}*"
    found: list[str] = []
    if deliveries:
        found += [f"{one.hook}/{one.guid}" for one in opened.deliveries(within, limit=LISTED_MAX).items]
    if tasks and hook is None:
        found += [one.id for one in opened.tasks(f"id:{prefix}*", limit=LISTED_MAX).items]
    if not found and deliveries and tasks and hook is None:  # a list of refused requests shows those short, too
        found = sorted({one for each in opened.refused(limit=0) if (one := each.delivery or "").startswith(prefix)})
        found = [id] if id in found else found
    if len(found) > 1:
        shown = ", ".join(found[:LISTED_MAX])
        raise UsageError(f"several ids begin with {prefix}: {shown}", hint="Type more of it.")
    return found[0] if found else id


def whole_ids(opened: Source, ids: Iterable[str], *, tasks: bool) -> list[str]:
    """As `whole_id`, of what is acted on: of tasks, or else of deliveries. One that is given twice, is once in it.

    It is looked for by the id that is typed, which a list shows, and done to one alone: where several begin so, to none.
    """
    return list(dict.fromkeys(whole_id(opened, id, deliveries=not tasks, tasks=tasks) for id in ids))


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


def _is_known(opened: Source, id: str, *, deliveries: bool, tasks: bool) -> bool:
    """Whether it is the whole id of a task or of a delivery, of those that are meant."""
    for ask in (*([opened.task] if tasks else ()), *([opened.delivery] if deliveries else ())):
        try:
            ask(id)
        except NotFound:
            continue
        except UsageError:
            pass  # of several hooks: it is whole
        return True
    return False
