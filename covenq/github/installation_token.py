"""Installation access tokens: minted as the App, for an installation, and revoked with themselves.

A token is good for an hour, and for what was asked for: `repository_ids` and `permissions`. Only the token itself can revoke
it (`DELETE /installation/token`), so whoever mints one has to keep it until that was answered. What GitHub answers is bounded
and checked: a token that this module doesn't take for one is an error, and then one may exist that nobody has.

Who gets a token, and who keeps it, is no matter of this module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from covenq.errors import GithubAnswerUnreadable, GithubRefused
from covenq.github.api_client import PACING, WRITE_POINTS, GithubApi
from covenq.net.outgoing import Answer

LIFE_S = 3600.0
"""Seconds for which GitHub lets a token be used."""
LATE_S = 300.0
"""Seconds that its end may be later than that: what is between the two clocks, and between a request and its answer."""
SILENCE_S = 8.0
WHOLE_S = 12.0
"""Seconds for an answer: an attempt waits for it, and so does a daemon that stops."""
ANSWER_MAX = 2 << 20
"""Bytes of an answer: it describes each repository that was asked for, and of several thousand none."""
TOKEN_MAX = 4096
"""Characters of a token. GitHub's are 40, or a few hundred in the form that has a JSON Web Token in it."""
TOKEN_PACING = replace(PACING, write_gap_s=60.0 * WRITE_POINTS / 900)
"""As many writes as the secondary limit lets through: an attempt waits for each."""

_TOKEN = re.compile(r"[0-9A-Za-z_.\-+/=~]{20,4096}\Z")


@dataclass(frozen=True, slots=True)
class InstallationToken:
    """A token, and when it expires, in seconds since 1970 by this machine's clock. Its repr doesn't show it."""

    token: str = field(repr=False)
    expires_at: float


def mint(
    api: GithubApi,
    installation: int,
    permissions: Mapping[str, str],
    repositories: Sequence[int] | None,
    clock: Callable[[], float],
) -> InstallationToken:
    """A new token of the installation, for these repositories, by their ids; None: for all that it has. `api` asks as the App.

    Nothing was minted where GithubRefused, which will not pass by itself, or GithubLimited is raised, or OutgoingFailed with
    nothing `sent`. Whether something was isn't known where another OutgoingFailed is, or GithubAnswerUnreadable.
    """
    body: dict[str, object] = {"permissions": dict(permissions)}
    if repositories is not None:
        body["repository_ids"] = list(repositories)
    path = f"/app/installations/{installation}/access_tokens"
    began = clock()
    try:
        answer = api.send(
            "POST",
            path,
            json.dumps(body).encode(),
            body_max=ANSWER_MAX,
            right=frozenset({201, 404, 422}),
            done="asked for",
        )
    except GithubRefused as error:
        if error.status == 403:
            raise GithubRefused(
                f"GitHub lets the App get no token of installation {installation} (403)",
                hint="It may be suspended: GitHub's settings, Applications (of an organisation: GitHub Apps), Configure.",
            ) from None
        raise
    if answer.status != 201:
        raise _refusal(answer, installation, permissions)
    return _read(answer, began, clock() + api.drift_s)


def revoke(api: GithubApi) -> None:
    """Revoke the token that `api` asks with. It is of no use to anybody when this returns: it was revoked, or GitHub knows none.

    Raises GithubRefused, GithubLimited and OutgoingFailed, where that isn't known.
    """
    api.send("DELETE", "/installation/token", body_max=ANSWER_MAX, right=frozenset({204, 401}), done="deleted")


def _refusal(answer: Answer, installation: int, permissions: Mapping[str, str]) -> GithubRefused:
    """In words of our own: what GitHub answered is looked at, and not quoted."""
    said = answer.body[:4096].lower()
    if answer.status == 404:
        return GithubRefused(
            f"GitHub knows no installation {installation} of the App (404)",
            hint="Was it uninstalled, or is it another App's whose deliveries come here? `covenq doctor` asks GitHub.",
        )
    if b"permission" in said:
        named = ", ".join(f"{name}: {level}" for name, level in permissions.items())
        return GithubRefused(
            f"installation {installation} has not granted the App what the route asks for ({named}) (422)",
            hint="Add the permission on the App's page, have the installation's owner accept it, or ask for less.",
        )
    if b"repositor" in said:
        return GithubRefused(
            f"installation {installation} has no such repository, or not any more (422)",
            hint="Let the installation have the repository: GitHub's settings, Applications, Configure, Repository access.",
        )
    return GithubRefused(
        f"GitHub takes what the route's token asks for as no token of installation {installation} (422)",
        hint="Are the names and levels of its permissions GitHub's? See token in covenq.toml(5).",
    )


def _read(answer: Answer, began: float, now_there: float) -> InstallationToken:
    """`now_there` is the time of GitHub's clock. Raises GithubAnswerUnreadable, which quotes nothing."""
    try:
        said = json.loads(answer.body)
        token, expires = said["token"], datetime.fromisoformat(said["expires_at"])
        life_s = expires.timestamp() - now_there
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise GithubAnswerUnreadable("GitHub's answer has no token that can be read") from None
    if not isinstance(token, str) or not _TOKEN.match(token) or expires.tzinfo is None:
        raise GithubAnswerUnreadable("what GitHub's answer has is no token")
    return InstallationToken(token, began + min(max(life_s, 0.0), LIFE_S + LATE_S))
