"""The settings of a webhook at GitHub: the calls that read and change them.

The secret alone is ever changed: what a PATCH doesn't name stays as it is. GitHub shows no secret, but asterisks in its place.
"""

from __future__ import annotations

import msgspec

from covenq.config.github_api import GithubApp, GithubHook
from covenq.github.api_client import GithubApi

ANSWER_MAX = 1 << 20
"""Bytes of an answer; that of a hook's settings has a few hundred."""


def set_secret(api: GithubApi, owner: GithubApp | GithubHook, secret: str) -> None:
    """Have GitHub sign with that secret from now on. Raises what `GithubApi.patch` does."""
    api.patch(f"{owner.hook_path}/config", msgspec.json.encode({"secret": secret}), body_max=ANSWER_MAX)
