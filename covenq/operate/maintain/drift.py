"""What of GitHub's settings and this configuration drifted apart, by what `github_look` was told.

Values in, findings out, for `covenq doctor` and for the daemon alike. What can't be said for sure isn't said, and what GitHub
didn't tell is nothing that drifted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from urllib.parse import urlsplit

from covenq.config.ingress import UNDELIVERABLE, is_undeliverable
from covenq.config.load import Config
from covenq.config.route import Route
from covenq.github.api_client import DRIFT_S
from covenq.github.hook_config import Installation
from covenq.github.request import EVENT_NAME
from covenq.github.subscriptions import UNASKED
from covenq.model import at_text
from covenq.model.drift import DriftFinding
from covenq.operate.maintain.github_look import GithubSeen, WebhookSeen
from covenq.routing.wanted_events import may_match, named_events
from covenq.text import counted, one_line

_UNASKED = UNASKED | {"check_run", "check_suite", "marketplace_purchase", "meta", "security_advisory", "sponsorship"}
"""Events that come without a subscription, at least to some: nothing follows from there being none."""
ARRIVED_S = 30 * 86_400.0
"""An event that came since then has a webhook that sends it, though none that is configured."""
CONTENT_TYPES = frozenset({"json", "form"})
SHOWN = 5
"""Installations that get a finding each, and events that are named in one."""
_EVENTS_MAX = 20
_LEVELS = {"read": 1, "write": 2, "admin": 3}
_WORD_MAX = 200


def drift_of(seen: GithubSeen, ours: Config, arrived: Collection[str]) -> list[DriftFinding]:
    """All that drifted. `arrived` are events that came lately, of those that `not_subscribed` names."""
    found = [*_clock(seen)]
    for one in seen.webhooks:
        refused = () if ours.follows_log else _refused(one)
        found += [*_address(one, ours), *_installations(one), *refused, *_unwanted(one, ours.routes)]
    return [*found, *_missing_events(seen, ours.routes, arrived)]


def not_subscribed(seen: GithubSeen | None, routes: Sequence[Route]) -> list[str]:
    """Events that routes name, and that no webhook is subscribed to; none where not every webhook told its subscriptions."""
    if seen is None or not seen.webhooks or seen.passed_over or any(one.events is None for one in seen.webhooks):
        return []
    subscribed = {event for one in seen.webhooks for event in one.events or ()}
    if "*" in subscribed:
        return []
    wanted = named_events([route.filter for route in routes]) - subscribed - _UNASKED
    return sorted(event for event in wanted if EVENT_NAME.match(event))[:_EVENTS_MAX]


def settings_of(one: WebhookSeen) -> str:
    """Where a webhook's settings are on GitHub, for a person."""
    return one.owner.settings if one.app is None else f"the settings of {word(one.app.html_url)}"


def word(text: str | None) -> str:
    """What GitHub said, as part of a line."""
    return one_line(text or "", _WORD_MAX)


def _clock(seen: GithubSeen) -> Iterator[DriftFinding]:
    drift = max((one.drift_s for one in seen.webhooks), key=abs, default=0.0)
    if abs(drift) > DRIFT_S:
        words = f"GitHub's is {drift:+.0f} seconds from this machine's: a token that is dated too far off is refused"
        yield DriftFinding("clock", words, "Set this machine's clock, and keep it with NTP.")


# ---- events


def _missing_events(seen: GithubSeen, routes: Sequence[Route], arrived: Collection[str]) -> Iterator[DriftFinding]:
    missing = [event for event in not_subscribed(seen, routes) if event not in arrived]
    if missing:
        words = f"routes want {_listed(missing)}, and no webhook that is configured here is subscribed to it"
        yield DriftFinding(
            "events", words, f"Subscribe to it on GitHub: {settings_of(seen.webhooks[0])}.", names=missing
        )


def _unwanted(one: WebhookSeen, routes: Sequence[Route]) -> Iterator[DriftFinding]:
    """Subscriptions that no route wants: as it may well be meant, and good to know."""
    if not routes or not one.events or "*" in one.events:
        return
    unwanted = sorted(event for event in one.events if not any(may_match(route.filter, event) for route in routes))
    if unwanted:
        words = f"{one.owner.name} is subscribed to {_listed(unwanted)}, which no route wants: kept, and ignored"
        names = [word(event) for event in unwanted[:_EVENTS_MAX]]
        yield DriftFinding("unwanted", words, None, one.owner.name, names, warns=False)


# ---- the address


def _address(one: WebhookSeen, ours: Config) -> Iterator[DriftFinding]:
    name, settings = one.owner.name, settings_of(one)
    if one.active is False:
        nothing = "notes nothing in its log" if ours.follows_log else "delivers nothing"
        words = f"{name} is not active: GitHub {nothing}"
        yield DriftFinding("inactive", words, f"Tick Active: {settings}.", name)
    config = one.config
    if config is None:
        return
    if ours.follows_log:
        yield from _somewhere(name, config.url, settings, ours)
        return
    to = f"{name} delivers to {word(config.url)}"
    if not config.url:
        yield DriftFinding("address", f"{name} has no address to deliver to", f"Enter one: {settings}.", name)
    elif not config.url.lower().startswith("https://"):
        words = f"{to}: what it sends crosses the network in clear"
        yield DriftFinding("clear", words, f"Enter an https address: {settings}.", name)
    elif not config.verifies_certificates:
        words = f"{to} without a look at its certificate"
        yield DriftFinding("certificate", words, f"Enable SSL verification: {settings}.", name)
    if config.content_type is not None and config.content_type not in CONTENT_TYPES:
        words = f"{name} delivers as {word(config.content_type)}, which is answered 415"
        yield DriftFinding("content_type", words, f"Choose application/json: {settings}.", name)
    yield from _elsewhere(name, config.url, settings, ours)


def _somewhere(name: str, url: str | None, settings: str, ours: Config) -> Iterator[DriftFinding]:
    """Whether somebody may get what is to be taken from the log alone."""
    nowhere = f"{UNDELIVERABLE}{ours.webhook_path}"
    if not url:
        yield DriftFinding("address", f"{name} has no address to deliver to", f"Enter {nowhere}: {settings}.", name)
    elif not is_undeliverable(_comparable(url)[1]):
        words = f"{name} delivers to {word(url)}: whoever is there gets what is to be taken from the log alone"
        yield DriftFinding("address", words, f"Enter {nowhere}, where nobody can ever be: {settings}.", name)


def _elsewhere(name: str, url: str | None, settings: str, ours: Config) -> Iterator[DriftFinding]:
    """Whether it delivers to another address than the one under which this covenq is said to be reached."""
    if not url or ours.public_url is None:
        return
    wanted = f"{ours.public_url}{ours.webhook_path}"
    if _comparable(url) != _comparable(wanted):
        words = f"{name} delivers to {word(url)}, and [server] public_url with the webhook's path is {wanted}"
        yield DriftFinding("address", words, f"Correct the one that is wrong: {settings}, or public_url.", name)


def _comparable(url: str) -> tuple[str, str, int | None, str]:
    """What makes two addresses one to the door: neither the case of a host, nor a slash at the end, nor what is behind `?`."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return url, "", None, ""
    return parts.scheme, parts.hostname or "", port, parts.path.rstrip("/")


# ---- installations


def _installations(one: WebhookSeen) -> Iterator[DriftFinding]:
    if one.app is None or one.installations is None:
        return
    name = one.owner.name
    if not one.installations:
        words = f"{name} is installed nowhere: GitHub delivers nothing of any repository"
        yield DriftFinding("uninstalled", words, f"Install it: {word(one.app.html_url)}", name)
        return
    asked = one.app.permissions
    suspended = [found for item in one.installations if (found := _suspended(name, item)) is not None]
    lacking = [found for item in one.installations if (found := _not_granted(name, item, asked)) is not None]
    findings = [*suspended, *lacking]
    yield from findings[:SHOWN]
    if len(findings) > SHOWN:
        words = f"{counted(len(findings) - SHOWN, 'more finding')} of installations of {name}"
        next = "They are listed on the App's page, under Advanced and Install App."
        yield DriftFinding(findings[SHOWN].kind, words, next, name)


def _suspended(app: str, one: Installation) -> DriftFinding | None:
    if one.suspended_at is None:
        return None
    name = word(one.name)
    words = f"the installation of {name} is suspended since {word(one.suspended_at)}: nothing comes of it"
    next = f"Who suspended it may unsuspend it: {word(one.html_url)}"
    return DriftFinding("suspended", words, next, app, [name])


def _not_granted(app: str, one: Installation, asked: dict[str, str]) -> DriftFinding | None:
    """Permissions that the App asks for since, and that nobody there has accepted."""
    missing = sorted(
        f"{name} ({level})"
        for name, level in asked.items()
        if _LEVELS.get(level, 0) > _LEVELS.get(one.permissions.get(name, ""), 0)
    )
    if not missing:
        return None
    name = word(one.name)
    words = f"the installation of {name} lacks permissions that the App asks for: {_listed(missing)}"
    return DriftFinding("permissions", words, f"An owner there accepts them: {word(one.html_url)}", app, [name])


# ---- the log


def _refused(one: WebhookSeen) -> Iterator[DriftFinding]:
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
    yield DriftFinding("secret", words, next, one.owner.name)


def _listed(words: Sequence[str]) -> str:
    shown = ", ".join(word(one) for one in words[:SHOWN])
    return shown if len(words) <= SHOWN else f"{shown} and {len(words) - SHOWN} more"
