"""What GitHub says of the webhooks of the configuration, for `covenq doctor` and the daemon: asked once, within bounds, and never
an error.

Each webhook is asked with few requests, none of which is repeated or waits for a limit, and all of them within `WHOLE_S`. What
can't be had is a reason beside what was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from covenq.config import secret_source
from covenq.config.github_api import GithubApp, GithubHook, GithubLogs
from covenq.errors import CovenqError, OutgoingFailed
from covenq.github import hook_config
from covenq.github.api_client import GithubApi, Pacing, Usage
from covenq.github.app_auth import NoAuth
from covenq.github.connection import api_at, api_of
from covenq.github.delivery_log import Attempt
from covenq.github.hook_config import INSTALLATIONS_PAGE, AppSettings, HookConfig, Installation
from covenq.text import counted

WHOLE_S = 20.0
"""Seconds after which nothing more is asked."""
SILENCE_S = 5.0
ANSWER_S = 10.0
"""Seconds for an answer's next byte, and for the whole of it."""
PAGES_MAX = 3
"""Pages of installations."""
HOOKS_MAX = 20
"""Hooks of repositories and organisations that are asked about."""
_PACING = Pacing(wait_max_s=0.0, tries=1)


@dataclass(slots=True)
class WebhookSeen:
    """A webhook, as far as GitHub told of it. `error` is why it told no more, with its hint."""

    owner: GithubApp | GithubHook
    config: HookConfig | None = None
    active: bool | None = None
    """Of an App's that isn't known."""
    events: list[str] | None = None
    app: AppSettings | None = None
    installations: list[Installation] | None = None
    more_installations: bool = False
    newest: tuple[Attempt, ...] | None = None
    """Of its delivery log, newest first."""
    drift_s: float = 0.0
    """Seconds that GitHub's clock is ahead of this one."""
    error: str | None = None
    hint: str | None = None


@dataclass(slots=True)
class GithubSeen:
    """What was asked for. `ranges` are the networks that GitHub sends from."""

    webhooks: list[WebhookSeen] = field(default_factory=list)
    passed_over: int = 0
    """Webhooks that were not asked about: hooks beyond HOOKS_MAX, and what is authorised by a secret that can't be read here."""
    ranges: list[str] = field(default_factory=list)
    ranges_error: str | None = None

    @property
    def troubles(self) -> list[tuple[str, str | None]]:
        """Why GitHub told no more, and what helps: each reason once."""
        reasons: dict[tuple[str, str | None], list[str]] = {}
        for one in self.webhooks:
            if one.error is not None:
                reasons.setdefault((one.error, one.hint), []).append(one.owner.name)
        return [
            (f"{_and_others(names)}: not all could be asked: {error}", hint) for (error, hint), names in reasons.items()
        ]


def look(
    logs: GithubLogs,
    env: Mapping[str, str],
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    *,
    usages: dict[str, Usage] | None = None,
    before: Callable[[], None] = lambda: None,
) -> GithubSeen:
    """Ask. Nothing is asked where no App and no hook is configured, nor with what can't be read here.

    `usages` has what was asked before of each webhook, by its name, so that all stays within half of what GitHub leaves;
    `before` is called before each request, and may raise to end it all.
    """
    usages = {} if usages is None else usages
    seen = GithubSeen(passed_over=max(0, len(logs.hooks) - HOOKS_MAX))
    deadline = monotonic() + WHOLE_S
    owners: list[GithubApp | GithubHook] = [*([] if logs.app is None else [logs.app]), *logs.hooks[:HOOKS_MAX]]
    for owner in owners:
        sources = owner.keys if isinstance(owner, GithubApp) else (owner.token,)
        if any(secret_source.problem(one, env) is not None for one in sources):
            seen.passed_over += 1  # another check says why
            continue
        one = WebhookSeen(owner)
        seen.webhooks.append(one)
        try:
            _require_time(deadline, monotonic)
            usage = usages.setdefault(owner.name, Usage())
            with closing(
                api_of(owner, env, clock, pacing=_PACING, usage=usage, silence_s=SILENCE_S, whole_s=ANSWER_S)
            ) as api:
                try:
                    before()
                    for _ in _steps(one, api):
                        _require_time(deadline, monotonic)
                        before()
                finally:
                    one.drift_s = api.drift_s
        except CovenqError as error:
            one.error, one.hint = str(error), error.hint
    answered = [one for one in seen.webhooks if one.error is None]
    if answered:
        url = answered[0].owner.api_url
        try:
            _require_time(deadline, monotonic)
            before()
            with closing(
                api_at(url, NoAuth(), env, clock, pacing=_PACING, silence_s=SILENCE_S, whole_s=ANSWER_S)
            ) as api:
                seen.ranges = hook_config.sending_ranges(api)
        except CovenqError as error:
            seen.ranges_error = str(error)
    return seen


def _steps(one: WebhookSeen, api: GithubApi) -> Iterator[None]:
    """Each request, and what it told, written into `one`; it yields between two."""
    owner = one.owner
    if isinstance(owner, GithubHook):
        settings = hook_config.hook_settings(api, owner)
        one.config, one.active, one.events = settings.config, settings.active, settings.events
        yield
    else:
        one.app = hook_config.app_settings(api)
        one.events = one.app.events
        yield
        one.config = hook_config.app_config(api, owner)
        yield
        found: list[Installation] = []
        for page in range(1, PAGES_MAX + 1):
            listed = hook_config.installations(api, page)
            found += listed
            one.more_installations = len(listed) >= INSTALLATIONS_PAGE
            yield
            if not one.more_installations:
                break
        one.installations = found
    one.newest = hook_config.newest_attempts(api, owner).attempts


def _and_others(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {counted(len(names) - 1, 'other')}"


def _require_time(deadline: float, monotonic: Callable[[], float]) -> None:
    if monotonic() > deadline:
        raise OutgoingFailed(f"GitHub's answers took more than {WHOLE_S:g} seconds, and nothing more was asked")
