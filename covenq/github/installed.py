"""Whether GitHub still knows an installation of the App that asks.

A 404 says so only from the GitHub that the App is at, to that App: so GitHub is asked for the App first, with the same
credentials. What answers that isn't GitHub, or not as this App, is an error, and never "gone".
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from covenq.errors import GithubAnswerUnreadable
from covenq.github.api_client import GithubApi
from covenq.github.hook_config import ANSWER_MAX

_NOT_FOUND = 404


class _Numbered(Struct):
    id: int


def is_installed(api: GithubApi, installation: int, app: int | None) -> bool:
    """Whether it is there, suspended or not. `app` is the App that it is of, as far as that is known.

    Raises what `GithubApi.get` does, and GithubAnswerUnreadable: also where the App that asks is another one.
    """
    asking = _id(api.get("/app", body_max=ANSWER_MAX).body, "/app")
    if app is not None and asking != app:
        raise GithubAnswerUnreadable(
            f"the installation is of App {app}, and [github.app] is App {asking}, which GitHub tells nothing of others"
        )
    path = f"/app/installations/{installation}"
    answer = api.get(path, body_max=ANSWER_MAX, allowed=frozenset({_NOT_FOUND}))
    if answer.status == _NOT_FOUND:
        return False
    if _id(answer.body, path) != installation:
        raise GithubAnswerUnreadable(f"GitHub's answer to {path} is of another installation")
    return True


def _id(body: bytes, path: str) -> int:
    try:
        return msgspec.json.decode(body, type=_Numbered).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise GithubAnswerUnreadable(f"GitHub's answer to {path} is not as documented") from None
