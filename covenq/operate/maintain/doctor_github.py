"""The checks of `covenq doctor` on what GitHub says: where its settings and this configuration drifted apart.

Findings are of values that `github_look` asked for. What GitHub didn't tell is said once and is no problem of its own; what
can't be said for sure isn't said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from covenq.config.load import Config
from covenq.config.route import Route
from covenq.github.api_client import DRIFT_S
from covenq.github.hook_config import HookConfig, Installation
from covenq.github.request import EVENT_NAME
from covenq.github.subscriptions import UNASKED
from covenq.model import at_text
from covenq.operate.maintain.finding import GOOD, WARN, DoctorContext, Finding
from covenq.operate.maintain.github_look import GithubSeen, WebhookSeen
from covenq.routing.wanted_events import may_match, named_events
from covenq.text import counted, one_line

_UNASKED = UNASKED | {"check_run", "check_suite", "marketplace_purchase", "meta", "security_advisory", "sponsorship"}
"""Events that come without a subscription, at least to some: nothing follows from there being none."""
SHOWN = 5
"""Installations that get a finding each, and events that are named."""
RANGES_SHOWN = 30
_EVENTS_MAX = 20
_LEVELS = {"read": 1, "write": 2, "admin": 3}
_WORD_MAX = 200


def github_findings(context: DoctorContext) -> Iterator[Finding]:
    seen = context.github
    if seen is None:
        return
    troubles = [*_troubles(seen), *_clock(seen)]
    yield from troubles
    for one in seen.webhooks:
        found = [*_address(one, context.config), *_installations(one), *_refused(one)]
        yield from found
        if not found and one.error is None and one.config is not None:
            words = f"{one.owner.name}: {counted(len(one.events or ()), 'event')}, delivered to {_word(one.config.url)}"
            yield Finding("github", GOOD, words)
        yield from _unwanted(one, context.config.routes)
    missing = [event for event in not_subscribed(seen, context.config.routes) if event not in context.arrived]
    if missing:
        words = f"routes want {_names(missing)}, and no webhook that is configured here is subscribed to it"
        yield Finding("github", WARN, words, f"Subscribe to it on GitHub: {_settings(seen.webhooks[0])}.")
    yield from _ranges(seen)


def not_subscribed(seen: GithubSeen | None, routes: Sequence[Route]) -> list[str]:
    """Events that routes name, and that no webhook is subscribed to; none where not every webhook told its subscriptions."""
    if seen is None or not seen.webhooks or seen.passed_over or any(one.events is None for one in seen.webhooks):
        return []
    subscribed = {event for one in seen.webhooks for event in one.events or ()}
    if "*" in subscribed:
        return []
    wanted = named_events([route.filter for route in routes]) - subscribed - _UNASKED
    return sorted(event for event in wanted if EVENT_NAME.match(event))[:_EVENTS_MAX]


def _unwanted(one: WebhookSeen, routes: Sequence[Route]) -> Iterator[Finding]:
    """Subscriptions that no route wants: as it may well be meant, and good to know."""
    if not routes or not one.events or "*" in one.events:
        return
    unwanted = sorted(event for event in one.events if not any(may_match(route.filter, event) for route in routes))
    if unwanted:
        words = f"{one.owner.name} is subscribed to {_names(unwanted)}, which no route wants: kept, and ignored"
        yield Finding("github", GOOD, words)


def _troubles(seen: GithubSeen) -> Iterator[Finding]:
    """Why GitHub told no more: each reason once."""
    reasons: dict[tuple[str, str | None], list[str]] = {}
    for one in seen.webhooks:
        if one.error is not None:
            reasons.setdefault((one.error, one.hint), []).append(one.owner.name)
    for (error, hint), names in reasons.items():
        what = names[0] if len(names) == 1 else f"{names[0]} and {counted(len(names) - 1, 'other')}"
        yield Finding("github", WARN, f"{what}: not all could be asked: {error}", hint)
    if seen.passed_over:
        words = f"not asked about: {counted(seen.passed_over, 'webhook')} of the configuration"
        yield Finding("github", GOOD, words)


def _clock(seen: GithubSeen) -> Iterator[Finding]:
    drift = max((one.drift_s for one in seen.webhooks), key=abs, default=0.0)
    if abs(drift) > DRIFT_S:
        words = f"GitHub's is {drift:+.0f} seconds from this machine's: a token that is dated too far off is refused"
        yield Finding("clock", WARN, words, "Set this machine's clock, and keep it with NTP.")


def _address(one: WebhookSeen, ours: Config) -> Iterator[Finding]:
    name, settings = one.owner.name, _settings(one)
    if one.active is False:
        yield Finding("github", WARN, f"{name} is not active: GitHub delivers nothing", f"Tick Active: {settings}.")
    if one.config is not None:
        yield from _of_config(name, one.config, settings)
        yield from _elsewhere(name, one.config.url, settings, ours)


def _of_config(name: str, config: HookConfig, settings: str) -> Iterator[Finding]:
    if not config.url:
        yield Finding("github", WARN, f"{name} has no address to deliver to", f"Enter one: {settings}.")
    elif not config.url.lower().startswith("https://"):
        words = f"{name} delivers to {_word(config.url)}: what it sends crosses the network in clear"
        yield Finding("github", WARN, words, f"Enter an https address: {settings}.")
    elif not config.verifies_certificates:
        words = f"{name} delivers to {_word(config.url)} without a look at its certificate"
        yield Finding("github", WARN, words, f"Enable SSL verification: {settings}.")


def _elsewhere(name: str, url: str | None, settings: str, ours: Config) -> Iterator[Finding]:
    """Whether it delivers to another address than the one under which this covenq is said to be reached."""
    if not url or ours.public_url is None:
        return
    wanted = f"{ours.public_url}{ours.webhook_path}"
    if _comparable(url) != _comparable(wanted):
        words = f"{name} delivers to {_word(url)}, and [server] public_url with the webhook's path is {wanted}"
        yield Finding("github", WARN, words, f"Correct the one that is wrong: {settings}, or public_url.")


def _comparable(url: str) -> tuple[str, str, int | None, str]:
    """What makes two addresses one to the door: neither the case of a host, nor a slash at the end, nor what is behind `?`."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return url, "", None, ""
    return parts.scheme, parts.hostname or "", port, parts.path.rstrip("/")


def _installations(one: WebhookSeen) -> Iterator[Finding]:
    if one.app is None or one.installations is None:
        return
    if not one.installations:
        words = f"{one.owner.name} is installed nowhere: GitHub delivers nothing of any repository"
        yield Finding("github", WARN, words, f"Install it: {_word(one.app.html_url)}")
        return
    asked = one.app.permissions
    found = [*map(_suspended, one.installations), *(_not_granted(item, asked) for item in one.installations)]
    findings = [finding for finding in found if finding is not None]
    yield from findings[:SHOWN]
    if len(findings) > SHOWN:
        words = f"{counted(len(findings) - SHOWN, 'more finding')} of installations of {one.owner.name}"
        yield Finding("github", WARN, words, "They are listed on the App's page, under Advanced and Install App.")


def _suspended(one: Installation) -> Finding | None:
    if one.suspended_at is None:
        return None
    words = f"the installation of {_word(one.name)} is suspended since {_word(one.suspended_at)}: nothing comes of it"
    return Finding("github", WARN, words, f"Who suspended it may unsuspend it: {_word(one.html_url)}")


def _not_granted(one: Installation, asked: dict[str, str]) -> Finding | None:
    """Permissions that the App asks for since, and that nobody there has accepted."""
    missing = sorted(
        f"{name} ({level})"
        for name, level in asked.items()
        if _LEVELS.get(level, 0) > _LEVELS.get(one.permissions.get(name, ""), 0)
    )
    if not missing:
        return None
    words = f"the installation of {_word(one.name)} lacks permissions that the App asks for: {_names(missing)}"
    return Finding("github", WARN, words, f"An owner there accepts them: {_word(one.html_url)}")


def _refused(one: WebhookSeen) -> Iterator[Finding]:
    """Whether the newest that GitHub knows of is that a delivery was answered 401, and none was accepted since."""
    listed = sorted(one.newest or (), key=lambda attempt: attempt.order)
    refused = [attempt for attempt in listed if attempt.status_code == 401]
    accepted = [attempt for attempt in listed if attempt.accepted]
    if not refused or (accepted and accepted[-1].order > refused[-1].order):
        return
    words = (
        f"{one.owner.name}: {len(refused)} of the newest {counted(len(listed), 'delivery', 'deliveries')} were answered 401, "
        f"last at {at_text(refused[-1].at)[:19]}Z, and none was accepted since: its secret is not valid here, or a proxy refuses"
    )
    next = (
        "`covenq refused` has those that came here; `covenq secrets rotate` gives GitHub a secret that is valid here."
    )
    yield Finding("github", WARN, words, next)


def _ranges(seen: GithubSeen) -> Iterator[Finding]:
    if seen.ranges_error is not None:
        yield Finding("github", GOOD, f"the networks that GitHub sends from could not be had: {seen.ranges_error}")
    elif seen.ranges:
        shown = ", ".join(_word(one) for one in seen.ranges[:RANGES_SHOWN])
        yield Finding("github", GOOD, f"webhooks are sent from {shown}: for a proxy's allow-list")


def _settings(one: WebhookSeen) -> str:
    return one.owner.settings if one.app is None else f"the settings of {_word(one.app.html_url)}"


def _names(words: Sequence[str]) -> str:
    shown = ", ".join(_word(one) for one in words[:SHOWN])
    return shown if len(words) <= SHOWN else f"{shown} and {len(words) - SHOWN} more"


def _word(text: str | None) -> str:
    return one_line(text or "", _WORD_MAX)
