"""The checks of `covenq doctor` on what GitHub says: where its settings and this configuration drifted apart.

Findings are of values that `github_look` asked for. What GitHub didn't tell is said once and is no problem of its own; of that
there is what the daemon found, which may be able to ask.
"""

from __future__ import annotations

from collections.abc import Iterator

from covenq.model.drift import Drift, DriftFinding
from covenq.operate.maintain.drift import drift_of, word
from covenq.operate.maintain.finding import GOOD, WARN, DoctorContext, Finding
from covenq.operate.maintain.github_look import GithubSeen
from covenq.text import counted

RANGES_SHOWN = 30


def github_findings(context: DoctorContext) -> Iterator[Finding]:
    seen = context.github
    troubles = [] if seen is None else [*_troubles(seen)]
    found = [] if seen is None else drift_of(seen, context.config, context.arrived)
    yield from troubles
    for one in found:
        yield _finding(one)
    warned = {one.webhook for one in found if one.warns}
    for webhook in () if seen is None else seen.webhooks:
        if webhook.owner.name not in warned and webhook.error is None and webhook.config is not None:
            events = counted(len(webhook.events or ()), "event")
            yield Finding("github", GOOD, f"{webhook.owner.name}: {events}, delivered to {word(webhook.config.url)}")
    passes = None if context.status is None else context.status.reconcile
    if passes is not None and passes.drift is not None:
        told = {one.words for one in (*troubles, *map(_finding, found))}
        asked_all = seen is not None and not troubles and not seen.passed_over
        yield from (one for one in _of_daemon(passes.drift, asked_all) if one.words not in told)
    if seen is not None:
        yield from _ranges(seen)


def _finding(one: DriftFinding) -> Finding:
    return Finding("clock" if one.kind == "clock" else "github", WARN if one.warns else GOOD, one.words, one.next)


def _of_daemon(drift: Drift, asked_all: bool) -> Iterator[Finding]:
    """What the daemon found, where not all could be asked just now, and why it can't ask itself."""
    if drift.error is not None:
        yield Finding("github", WARN, f"the daemon, at {drift.looked_at[:19]}Z: {drift.error}", drift.hint)
    if not asked_all:
        yield from map(_finding, drift.findings)


def _troubles(seen: GithubSeen) -> Iterator[Finding]:
    """Why GitHub told no more: each reason once."""
    for error, hint in seen.troubles:
        yield Finding("github", WARN, error, hint)
    if seen.passed_over:
        words = f"not asked about: {counted(seen.passed_over, 'webhook')} of the configuration"
        yield Finding("github", GOOD, words)


def _ranges(seen: GithubSeen) -> Iterator[Finding]:
    if seen.ranges_error is not None:
        yield Finding("github", GOOD, f"the networks that GitHub sends from could not be had: {seen.ranges_error}")
    elif seen.ranges:
        shown = ", ".join(word(one) for one in seen.ranges[:RANGES_SHOWN])
        yield Finding("github", GOOD, f"webhooks are sent from {shown}: for a proxy's allow-list")
