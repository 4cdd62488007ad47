"""Drift: where the settings of webhooks on GitHub and this configuration no longer fit, as the daemon found it last."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from covenq.model.rows import Time
from covenq.text import one_line

KINDS = {
    "inactive": "not active, so that nothing is delivered",
    "address": "delivers elsewhere than to public_url",
    "clear": "delivers without https",
    "certificate": "delivers without a look at the certificate",
    "content_type": "delivers a content type that isn't taken",
    "events": "not subscribed to what routes want",
    "unwanted": "subscribed to what no route wants",
    "uninstalled": "installed nowhere",
    "suspended": "an installation is suspended",
    "permissions": "an installation lacks permissions",
    "secret": "answered 401 lately, and nothing accepted since",
    "clock": "this machine's clock is not GitHub's",
}
"""Each kind of finding, in words that leave room in a line for what it is about."""
NAMES_MAX = 400
"""Characters of what a line is about."""


class DriftFinding(Struct, frozen=True):
    """One thing that drifted. `kind` is a word of KINDS, `next` what to do about it."""

    kind: str
    words: str
    next: str | None = None
    webhook: str | None = None
    """Null of what is of all of them."""
    names: list[str] = []
    """The events, or whose the installation is."""
    warns: bool = True
    """False of what may well be meant so."""


class Drift(Struct):
    """What was found when GitHub was asked last, and why not all could be asked, if it couldn't.

    Of a webhook that could not be asked about there are the findings of the time before.
    """

    looked_at: Time
    findings: list[DriftFinding]
    error: str | None = None
    hint: str | None = None
    finished_at: Time | None = None
    """When all could be asked last; null where that has not been since the start."""
    sent_from: list[str] = []
    """The networks that GitHub sends from."""

    @property
    def warnings(self) -> list[DriftFinding]:
        return [one for one in self.findings if one.warns]


def drift_rows(findings: Sequence[DriftFinding]) -> list[str]:
    """A line for each kind: what drifted, and which webhooks, events or installations it is about."""
    by_kind: dict[str, list[str]] = {}
    for one in findings:
        about = by_kind.setdefault(one.kind, [])
        about += [name for name in one.names or [one.webhook or ""] if name and name not in about]
    return [_row(kind, about) for kind, about in by_kind.items()]


def _row(kind: str, about: Sequence[str]) -> str:
    words = KINDS.get(kind, kind)
    if not about:
        return words
    number = f" ({len(about)})" if len(about) > 1 else ""
    return one_line(f"{words}{number}: {', '.join(about)}", NAMES_MAX)


def drift_text(one: DriftFinding) -> str:
    """A finding as one sentence, with what to do."""
    return one.words if one.next is None else f"{one.words}. {one.next}"
