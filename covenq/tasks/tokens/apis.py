"""How GitHub is asked for an attempt's token, and told to revoke it: a client for each request, as the App or as the token.

Several threads may ask at once. They share what GitHub said is left of requests, and when the newest write began; a race over
those figures costs pace and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from covenq.config.github_api import GithubApp
from covenq.config.work_token import THIS, WorkToken
from covenq.errors import WorkTokenRefused
from covenq.github import installation_token
from covenq.github.api_client import Usage
from covenq.github.app_auth import TokenAuth
from covenq.github.connection import api_at, api_of
from covenq.github.installation_token import SILENCE_S, TOKEN_PACING, WHOLE_S, InstallationToken
from covenq.tasks.scheduling.outcome import Task


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What is asked for: an installation's token, for a repository or, None, for all that the installation has."""

    installation: int
    permissions: Mapping[str, str]
    repository: int | None


def request_for(task: Task, wanted: WorkToken) -> TokenRequest:
    """Raises WorkTokenRefused where the delivery doesn't say what the token would be for."""
    if task.installation is None:
        raise WorkTokenRefused(
            "no token can be got: the delivery names no installation of the App",
            hint="A token is for what the App's own webhook delivers: restrict the route's match to that.",
        )
    if wanted.repositories == THIS and task.repo_id is None:
        raise WorkTokenRefused(
            "no token can be got: the delivery names no repository, and the route's token is for that alone",
            hint='Restrict the match to events of repositories, or write repositories = "all". `covenq routes check` finds it.',
        )
    return TokenRequest(
        task.installation, dict(wanted.permissions), task.repo_id if wanted.repositories == THIS else None
    )


class TokenApis:
    """`app` is the App of the configuration as it is now, or None."""

    def __init__(self, app: Callable[[], GithubApp | None], env: Mapping[str, str], clock: Callable[[], float]) -> None:
        self._app = app
        self._env = env
        self._clock = clock
        self._usages: dict[object, Usage] = {}

    def mint(self, request: TokenRequest) -> tuple[str, InstallationToken]:
        """The address of the API that gave it, and the token.

        Raises as `installation_token.mint` does, and before anything was asked WorkTokenRefused where there is no App any more,
        ConfigError, ExtraMissing.
        """
        app = self._app()
        if app is None:
            raise WorkTokenRefused(
                "no token can be got: the configuration has no [github.app] any more", hint="Write it again."
            )
        usage = self._usages.setdefault(app.limited_as, Usage())
        api = api_of(
            app, self._env, self._clock, pacing=TOKEN_PACING, usage=usage, silence_s=SILENCE_S, whole_s=WHOLE_S
        )
        repositories = None if request.repository is None else [request.repository]
        try:
            minted = installation_token.mint(api, request.installation, request.permissions, repositories, self._clock)
        finally:
            api.close()
        return app.api_url, minted

    def revoke(self, api_url: str, token: str) -> None:
        """Raises as `installation_token.revoke` does, and ConfigError, UsageError."""
        api = api_at(
            api_url,
            TokenAuth(token.encode()),
            self._env,
            self._clock,
            pacing=TOKEN_PACING,
            silence_s=SILENCE_S,
            whole_s=WHOLE_S,
        )
        try:
            installation_token.revoke(api)
        finally:
            api.close()
