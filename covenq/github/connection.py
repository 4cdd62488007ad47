"""A client of GitHub's API for what the configuration names: an App with its private keys, or a hook with its token."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from covenq.config.github_api import GithubApp, GithubHook
from covenq.config.secret_keys import API_SECRET, read_value
from covenq.github.api_client import PACING, Authorization, GithubApi, Pacing, Usage, pacing_towards
from covenq.github.app_auth import AppAuth, TokenAuth
from covenq.net.outgoing import SILENCE_S, WHOLE_S, OutgoingClient


def api_of(
    owner: GithubApp | GithubHook,
    env: Mapping[str, str],
    clock: Callable[[], float],
    *,
    pacing: Pacing = PACING,
    usage: Usage | None = None,
    silence_s: float = SILENCE_S,
    whole_s: float = WHOLE_S,
) -> GithubApi:
    """Nothing is asked yet. Towards this machine `pacing` waits for nothing; `usage` is as `GithubApi` takes it.

    Raises ConfigError, ExtraMissing, UsageError.
    """
    authorization: Authorization
    if isinstance(owner, GithubApp):
        authorization = AppAuth(owner.issuer, [read_value(one, env, API_SECRET) for one in owner.keys], clock)
    else:
        authorization = TokenAuth(read_value(owner.token, env, API_SECRET))
    client = OutgoingClient(owner.api_url, env, silence_s=silence_s, whole_s=whole_s)
    return GithubApi(client, authorization, pacing_towards(client, pacing), clock, usage, owner.credentials)


def api_at(
    url: str,
    authorization: Authorization,
    env: Mapping[str, str],
    clock: Callable[[], float],
    *,
    pacing: Pacing = PACING,
    silence_s: float = SILENCE_S,
    whole_s: float = WHOLE_S,
) -> GithubApi:
    """As `api_of`, of that address."""
    client = OutgoingClient(url, env, silence_s=silence_s, whole_s=whole_s)
    return GithubApi(client, authorization, pacing_towards(client, pacing), clock)
