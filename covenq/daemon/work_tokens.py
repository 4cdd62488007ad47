"""The keeper of attempts' tokens in a daemon, which asks as the App of the configuration in effect; and what masks them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from covenq.config.live import Live
from covenq.daemon.datadir import Storage
from covenq.tasks.execution.scrub import Scrubber
from covenq.tasks.tokens.apis import TokenApis
from covenq.tasks.tokens.keeper import TokenKeeper


def token_keeper(live: Live, storage: Storage, env: Mapping[str, str]) -> TokenKeeper:
    """Not started."""
    apis = TokenApis(lambda: live.now.config.github_logs.app, env, time.time)
    node = storage.node.name or None
    return TokenKeeper(storage.journal, storage.readers, storage.fold, storage.data, apis, node=node)


def scrubber_of(live: Live, tokens: TokenKeeper) -> Callable[[Sequence[bytes]], Scrubber]:
    """Makes the scrubber of an output: it masks webhook secrets and all attempts' tokens, beside a command's own secrets."""

    def scrubber(secrets: Sequence[bytes]) -> Scrubber:
        known = [*secrets, *(key.secret for key in live.now.keys), *tokens.secrets()]
        return Scrubber(live.now.config.scrub, known)

    return scrubber
