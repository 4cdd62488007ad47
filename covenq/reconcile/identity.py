"""The id of the hook whose delivery log is read: the half of a delivery's identity that the log doesn't list.

Of a repository's or organisation's hook it is configured. An App's is learnt from a delivery of its log that is held, if that
came with the App's number as its installation target, and else from what GitHub says of one: a request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from covenq.errors import CovenqError, GithubAnswerUnreadable, OutgoingFailed
from covenq.github.delivery_log import Attempt
from covenq.model import TOKEN

HELD_TRIED = 5
"""Held deliveries that are looked at."""
DETAILS_TRIED = 5
"""Details that are asked for: GitHub may have kept no headers of one, least likely of one that was answered."""

Headers = Iterable[Sequence[str]]
"""(name, value) of a request's headers."""


def hook_of_held(headers: Iterable[Headers], app_id: int | None) -> str | None:
    """The hook's id, by the headers of deliveries that are held and whose GUIDs the App's log lists; None if none tells.

    Another hook that got the same event shares the GUID, so its target must be this App. Without the App's number none can tell.
    """
    if app_id is None:
        return None
    for number, one in enumerate(headers):
        if number == HELD_TRIED:
            break
        folded = {pair[0].lower(): pair[1] for pair in one}
        target = (
            folded.get("x-github-hook-installation-target-type"),
            folded.get("x-github-hook-installation-target-id"),
        )
        if target == ("integration", str(app_id)) and (hook := _hook(folded)) is not None:
            return hook
    return None


def hook_of_details(attempts: Sequence[Attempt], headers_of: Callable[[str], Headers | None]) -> str | None:
    """The hook's id as GitHub says it; None if it says none. `headers_of` asks for an attempt's, by its id.

    One that GitHub fails to give keeps no other from telling. Raises what it was, where none tells.
    """
    trouble: CovenqError | None = None
    for one in sorted(attempts, key=lambda one: not one.accepted)[:DETAILS_TRIED]:
        try:
            headers = headers_of(one.id)
        except (GithubAnswerUnreadable, OutgoingFailed) as error:
            trouble = trouble or error
            continue
        if headers is not None and (hook := _hook({pair[0].lower(): pair[1] for pair in headers})) is not None:
            return hook
    if trouble is not None:
        raise trouble
    return None


def _hook(folded: dict[str, str]) -> str | None:
    hook = folded.get("x-github-hook-id", "")
    return hook if TOKEN.match(hook) else None
