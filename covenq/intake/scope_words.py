"""The sentences of `signature_out_of_scope`: what of a delivery is outside a secret's scope, and what is in it.

An operator has to tell a mistyped repository from another installation without the payload, which a refused request leaves none
of. Whoever has the secret chooses what the body says, and names may be long: so all of it is escaped, cut, and bounded to what
the log of refusals keeps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from covenq.config.secret_keys import Key
from covenq.config.secret_source import Scope
from covenq.intake.refusal_log import TEXT_MAX
from covenq.text import escape

LISTED_MAX = 3
"""Entries of a scope that are named; of the others, how many they are."""
NAME_MAX = 60
"""Characters of a name that are shown."""


def out_of_scope(
    signers: Sequence[Key],
    bound: Mapping[str, Collection[int]],
    hook: str,
    installation: int | None,
    repo: str | None,
    repo_id: int | None,
) -> str:
    """A sentence for each of `signers`, as far as TEXT_MAX characters hold them; always for the first.

    `bound` has the numbers of the repositories that a scope lets in whatever they are called, by the secret's name.
    """
    said = ""
    for at, key in enumerate(signers):
        words = [
            *_outside(key.scope, hook, installation),
            *_repository(key.scope, bound.get(key.name, ()), repo, repo_id),
        ]
        sentence = _cut(f"Secret {key.name!r} signed it, and {'; '.join(words)}.", TEXT_MAX)
        if not at:
            said = sentence
            continue
        left = len(signers) - at
        more = f" {left} more signed it, also out of scope."
        if len(said) + 1 + len(sentence) + (len(more) if left > 1 else 0) > TEXT_MAX:
            return _cut(said, TEXT_MAX - len(more)) + more
        said += f" {sentence}"
    return said


def _outside(scope: Scope, hook: str, installation: int | None) -> Iterator[str]:
    if scope.hooks and hook not in scope.hooks:
        yield _not_in(f"hook {hook}", scope.hooks, "hook")
    if scope.installations and installation not in scope.installations:
        yield _not_in(
            None if installation is None else f"installation {installation}", scope.installations, "installation"
        )


def _repository(scope: Scope, bound: Collection[int], repo: str | None, repo_id: int | None) -> Iterator[str]:
    if not scope.repositories or repo_id in bound or scope.names(repo):
        return
    parts = [*([] if repo is None else [_short(repo)]), *([] if repo_id is None else [f"({repo_id})"])]
    yield _not_in(f"repository {' '.join(parts)}" if parts else None, scope.repositories, "repository")


def _not_in(what: str | None, listed: Sequence[str | int], kind: str) -> str:
    shown = ", ".join(_short(str(one)) for one in listed[:LISTED_MAX])
    shown += f" and {len(listed) - LISTED_MAX} more" if len(listed) > LISTED_MAX else ""
    return f"its body names no {kind} (in scope: {shown})" if what is None else f"{what} is not in {shown}"


def _short(text: str) -> str:
    return _cut(escape(text), NAME_MAX)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
