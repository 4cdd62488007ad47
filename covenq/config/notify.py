"""The section `[notify]`: who is told of transitions, how, and from which thresholds on. No secret is read here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from covenq.config.executor import BRACED, checked_address, run_of
from covenq.config.resources import parse_size
from covenq.config.secret_source import SOURCES, SecretSource, parse_source
from covenq.config.toml_table import Table, did_you_mean
from covenq.errors import UsageError
from covenq.model.notices import TIMEOUT_MAX_S
from covenq.net.address import is_loopback

KINDS = ("intake", "damage", "failures", "receiver", "waiting", "ledger", "disk", "overdue", "uninstall")
"""What notices are about. What each stands for is `covenq.operate.notify.conditions`'s."""

TIMEOUT_S = 30.0
DEBOUNCE_S = 60.0
DEBOUNCE_MAX_S = 3600.0
WAITING_S = 900.0
WITHIN_S = 1800.0
WITHIN_MAX_S = 86_400.0
LEAST = 5
LEAST_MAX = 1000
SHARE = 0.5

_SHARE = re.compile(r"([0-9]{1,3})%\Z")
_SECRET_NAME = "notify"  # noqa: S105 - what it is called in errors


@dataclass(frozen=True, slots=True)
class FailureShare:
    """A route is told of when `share` of its attempts of the last `within_s` seconds failed, of `least` or more."""

    share: float = SHARE
    least: int = LEAST
    within_s: float = WITHIN_S

    @property
    def percent(self) -> str:
        return f"{self.share * 100:.0f}%"


@dataclass(frozen=True, slots=True)
class Notify:
    """The section. A command, an address, or both are told; `secret` is there with an address."""

    run: tuple[str, ...] = ()
    url: str | None = None
    secret: SecretSource | None = None
    on: tuple[str, ...] = KINDS
    timeout_s: float = TIMEOUT_S
    debounce_s: float = DEBOUNCE_S
    """For so many seconds a condition holds, or doesn't, before it is told."""
    failures: FailureShare = FailureShare()
    waiting_s: float = WAITING_S
    disk: int | None = None
    """Bytes free below which it is told; None: twice what is kept free for running tasks."""

    @property
    def targets(self) -> tuple[str, ...]:
        """The settings that name who is told."""
        return tuple(name for name, given in (("run", bool(self.run)), ("url", self.url is not None)) if given)


def parse_notify(top: Table, base: Path) -> Notify | None:
    """The section; None where there is none. Relative paths start from `base`. Raises ConfigError."""
    if "notify" not in top.raw:
        return None
    if isinstance(top.raw["notify"], list):
        raise top.error(
            "notify", "is one section, not several", hint="Write [notify] once; its command may tell several."
        )
    table = top.table("notify", ("run", "url", "secret", "on", "timeout", "debounce", "failures", "waiting", "disk"))
    if "run" not in table.raw and "url" not in table.raw:
        raise table.error("", "tells nobody", hint='Write run = ["program", …] or url = "https://…".')
    url = _url(table) if "url" in table.raw else None
    if url is not None and "secret" not in table.raw:
        hint = 'Write secret = { file = "…" }: what comes unsigned anybody could have sent.'
        raise table.error("secret", "is missing, and what is posted to url is signed with it", hint=hint)
    if url is None and "secret" in table.raw:
        raise table.error("secret", "signs what is posted to url, and there is no url")
    debounce_s = table.duration("debounce", DEBOUNCE_S)
    if debounce_s > DEBOUNCE_MAX_S:
        raise table.error("debounce", "must be 1h at most")
    return Notify(
        run=_run(table) if "run" in table.raw else (),
        url=url,
        secret=_secret(table, base) if url is not None else None,
        on=_kinds(table),
        timeout_s=_between(table, "timeout", TIMEOUT_S, TIMEOUT_MAX_S),
        debounce_s=debounce_s,
        failures=_failures(table),
        waiting_s=_between(table, "waiting", WAITING_S, None),
        disk=_disk(table),
    )


def _run(table: Table) -> tuple[str, ...]:
    argv = run_of(table)
    for word in argv:
        for name in BRACED.findall(word):
            raise table.error(
                "run",
                f"{{{name}}} stands for nothing here",
                hint="The notice is JSON on standard input; its id, kind, state and scope are in COVENQ_*.",
            )
    return argv


def _url(table: Table) -> str:
    """What is posted names repositories: so it goes over https alone, or to this machine."""
    from urllib.parse import urlsplit

    url = table.text("url")
    try:
        parts = urlsplit(checked_address(url))
    except UsageError as error:
        raise table.error("url", str(error), hint="Write it as https://example.org/notices.") from None
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise table.error("url", "is not https, and leads to another machine", hint="Write https://…")
    return url


def _secret(table: Table, base: Path) -> SecretSource:
    inner = table.table("secret", SOURCES)
    given = [kind for kind in SOURCES if kind in inner.raw]
    if len(given) != 1:
        raise table.error("secret", f"needs exactly one of {', '.join(SOURCES[:-1])} and {SOURCES[-1]}")
    return parse_source(inner, given[0], given[0], inner.text(given[0]), _SECRET_NAME, base)


def _kinds(table: Table) -> tuple[str, ...]:
    given = table.texts("on", ()) if "on" in table.raw else KINDS
    if not given:
        raise table.error("on", "is empty, and nothing would be told; leave it out to be told of everything")
    for one in given:
        if one not in KINDS:
            guess = did_you_mean(one, KINDS)
            raise table.error("on", f"{one[:40]!r} is none of {', '.join(KINDS)}{guess}")
    return tuple(kind for kind in KINDS if kind in given)


def _failures(table: Table) -> FailureShare:
    if "failures" not in table.raw:
        return FailureShare()
    inner = table.table("failures", ("share", "least", "within"))
    text = inner.text("share", f"{SHARE:.0%}")
    found = _SHARE.match(text)
    if found is None or not 1 <= int(found[1]) <= 100:
        raise inner.error("share", f"{text[:40]!r} is no share", hint='Write a number from 1 to 100 and %: "50%".')
    within_s = _between(inner, "within", WITHIN_S, WITHIN_MAX_S)
    return FailureShare(int(found[1]) / 100, inner.integer("least", LEAST, 1, LEAST_MAX), within_s)


def _between(table: Table, key: str, default: float, most: float | None) -> float:
    value = table.duration(key, default)
    if value <= 0:
        raise table.error(key, "must be longer than nothing")
    if most is not None and value > most:
        raise table.error(key, f"must be {most:g} s at most")
    return value


def _disk(table: Table) -> int | None:
    if "disk" not in table.raw:
        return None
    try:
        return parse_size(table.text("disk"))
    except UsageError as error:
        raise table.error("disk", str(error), hint=error.hint) from None
