"""The daemon's question to GitHub, at the end of the grace: is that installation still there?

Made on upkeep's thread, so it is short: two requests, neither of which is repeated or waits for a limit. Upkeep asks again later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing

from covenq.config.live import Live
from covenq.github.api_client import Pacing, Usage
from covenq.github.connection import api_of
from covenq.github.installed import is_installed
from covenq.operate.maintain.uninstall_work import IsInstalled

SILENCE_S = 5.0
ANSWER_S = 10.0
"""Seconds for an answer's next byte, and for the whole of it."""
_PACING = Pacing(wait_max_s=0.0, tries=1)


def asks_github(live: Live, env: Mapping[str, str], clock: Callable[[], float] = time.time) -> IsInstalled:
    """By the App of the configuration in effect; None where there is none."""
    usages: dict[str, Usage] = {}

    def ask(installation: int, app: int | None) -> bool | None:
        owner = live.now.config.github_logs.app
        if owner is None:
            return None
        usage = usages.setdefault(owner.identity, Usage())
        with closing(
            api_of(owner, env, clock, pacing=_PACING, usage=usage, silence_s=SILENCE_S, whole_s=ANSWER_S)
        ) as api:
            return is_installed(api, installation, app)

    return ask
