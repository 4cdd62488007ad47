"""Notices: what is told, unasked, of a transition, and how the telling goes.

One serves one decision, that of a person who looks at nothing of covenq's just then: whether to get up, and what to type. So it
says in one sentence what began or ended, and the command that helps.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from covenq.model.rows import Count, Time
from covenq.text import counted, duration, instant

BEGAN, ENDED, TEST = "began", "ended", "test"
STATES = (BEGAN, ENDED, TEST)
NoticeState = Annotated[str, Meta(extra_json_schema={"enum": list(STATES)})]
TargetName = Annotated[str, Meta(extra_json_schema={"enum": ["run", "url"]})]

TIMEOUT_MAX_S = 300.0
"""The longest that one try of one notice may be allowed: what hangs must not keep the others from being told."""
TEXT_MAX = 500
"""Characters of a sentence, and of what became of a try."""


class Notice(Struct, frozen=True, kw_only=True):
    """What is sent: to a command on its standard input, to an address as the body. The same bytes at every try.

    `id` is the notice's own: who gets it twice, after a crash or an answer that was lost, knows it by that.
    """

    id: str
    kind: str
    """What it is about: one of the kinds of [notify] on, or `test`."""
    state: NoticeState
    scope: str
    """What of that kind: `route NAME`, the receiver's address, `repo OWNER/NAME`, …"""
    at: Time
    """When it was decided on."""
    since: Time | None
    """Since when it holds, or held."""
    text: str
    """One sentence."""
    command: str | None
    """What to type, where a command helps."""
    host: str
    """The machine that tells it."""


class SentNotice(Struct, frozen=True, kw_only=True):
    """A notice that a target took, or that was given up."""

    notice: Notice
    to: TargetName
    ok: bool
    at: Time
    tries: Count
    detail: str | None = None
    """What the target said of it, or why it was given up."""


class OwedNotice(Struct, kw_only=True):
    """A notice that a target has still to be told."""

    notice: Notice
    to: TargetName
    tries: Count = 0
    detail: str | None = None
    """How the newest try failed."""
    next_at: Time | None = None
    """When it is tried next, where one has failed."""


class TargetStatus(Struct, kw_only=True):
    """One who is told, and how that goes."""

    to: TargetName
    owed: Count = 0
    failing_since: Time | None = None
    """When the oldest of what is owed was decided on, while no try gets through; null while they do."""
    error: str | None = None
    """How the newest try failed, while they do."""
    next_at: Time | None = None
    sent: Count = 0
    """Since the daemon's start."""
    failed: Count = 0
    """Tries since the daemon's start that got nothing through."""


class NotifyStatus(Struct, kw_only=True):
    """How [notify] goes. `error` is why what was told can't be kept, or what holds can't be looked at."""

    targets: list[TargetStatus]
    holding: Count = 0
    """Conditions that were told of, and whose end was not yet."""
    untracked: Count = 0
    """Conditions beside them that hold, and are too many to be told of one by one."""
    error: str | None = None


class Notices(Struct, kw_only=True):
    """What is owed, oldest first, and what was sent last, newest first."""

    configured: bool
    owed: list[OwedNotice]
    sent: list[SentNotice]
    status: NotifyStatus | None = None
    """Null without a daemon, and where [notify] is not configured."""


class TestedTarget(Struct, frozen=True, kw_only=True):
    """What became of a test notice, at one who is told."""

    to: TargetName
    ok: bool
    detail: str
    took_ms: float


class NotifyTest(Struct, frozen=True, kw_only=True):
    """A notice that was sent to all who are told, once, to see what becomes of it."""

    notice: Notice
    targets: list[TestedTarget]


def trouble(found: NotifyStatus, now: float) -> list[str]:
    """Why operators may not hear of what they should, a sentence each; empty where all is well."""
    said = [] if found.error is None else [found.error]
    if found.untracked:
        said.append(f"{counted(found.untracked, 'condition')} more than are told of one by one")
    for one in found.targets:
        if one.error is None:
            continue
        since, next = instant(one.failing_since), instant(one.next_at)
        age = "" if since is None else f" for {duration(max(0.0, now - since))}"
        again = "" if next is None else f"; tried again in {duration(max(0.0, next - now))}"
        said.append(f"[notify] {one.to}: {counted(one.owed, 'notice')} not told{age}: {one.error}{again}")
    return said
