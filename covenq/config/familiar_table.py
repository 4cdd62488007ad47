"""`[[familiar]]`, `[[installation]]`, `[review]` and `[commands]` of the configuration, parsed and held against each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from covenq.config.familiar import (
    ASSOCIATIONS,
    COMMANDING,
    FIX,
    NO_SCOPE,
    OTHER_WORDS,
    REVIEW,
    AutomaticReview,
    Familiar,
    Installation,
    Purpose,
    RepoScope,
    Scope,
    TriggerKind,
)
from covenq.config.limits import SHARE_KEYS, Cap, Share, parse_share
from covenq.config.toml_table import Table, did_you_mean
from covenq.filter.tree import fold_case

_Value = TypeVar("_Value")

OWN_KEYS = ("id", "display_name", "bot_username", "trigger_labels", "model", "skills", "commands")
"""The keys of a `[[familiar]]` that aren't its routes'."""

KEYS = {
    "review": ("familiar", "pull_request", "include_drafts", "repos"),
    "commands": ("associations",),
}
"""The sections that are about all familiars, and their keys."""
_REVIEW_KEYS = KEYS["review"][:-1]

ID_MAX = 32
WORD_MAX = 31
"""Characters: a route's name is made of both, and has 64 at most."""
LINE_MAX = 200
NAME_MAX = 100
SKILLS_MAX = 64
INSTALLATION_MAX = (1 << 63) - 1

_KINDS = tuple(str(kind) for kind in TriggerKind)
_LOGIN = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z_-]{0,98}[0-9A-Za-z_])?(?:\[bot\])?\Z")
_WORD = re.compile(rf"[a-z][a-z0-9_]{{0,{WORD_MAX - 1}}}\Z")
_REPO = re.compile(r"(?:[0-9]{1,18}|[0-9A-Za-z_.-]{1,100}/[0-9A-Za-z_.-]{1,150})\Z")
_TAKEN = frozenset({FIX, REVIEW, *Purpose})
"""Words that every familiar knows, or whose routes would have the names of others."""


@dataclass(frozen=True, slots=True)
class Familiars:
    """The familiars in their order, with what they share. `shares` are the limits of listed installations, by number."""

    all: tuple[Familiar, ...] = ()
    scope: Scope = NO_SCOPE
    shares: Mapping[str, Share] = field(default_factory=dict)


NO_FAMILIARS = Familiars()


def parse_familiars(top: Table, tables: Sequence[Table], installation_cap: Cap) -> Familiars:
    """Read them; `tables` are those of `[[familiar]]`, `installation_cap` what `[limits]` has for each installation.

    Raises ConfigError.
    """
    listed = top.tables("installation")
    if not tables:
        for table in (*listed[:1], *(top.table(key, KEYS[key]) for key in KEYS if key in top.raw)):
            raise table.error("", "is about familiars, and there is no [[familiar]]")
        return NO_FAMILIARS
    familiars: list[Familiar] = []
    for table in tables:
        familiars.append(_familiar(table, familiars))
    ids = [one.id for one in familiars]
    installations: dict[int, Installation] = {}
    shares: dict[str, Share] = {}
    for table in listed:
        one, share = _installation(table, ids, installation_cap)
        if one.id in installations:
            raise table.error("id", f"installation {one.id} is listed twice")
        installations[one.id] = one
        if share is not None:
            shares[str(one.id)] = share
    review, reviews = _reviews(top, ids)
    scope = Scope(installations, _associations(top), review, reviews, frozenset(one.login for one in familiars))
    return Familiars(tuple(familiars), scope, shares)


def _familiar(table: Table, others: Sequence[Familiar]) -> Familiar:
    id = table.token("id")
    if len(id) > ID_MAX:
        raise table.error("id", f"is longer than {ID_MAX} characters; the names of its routes begin with it")
    login = table.text("bot_username")
    if not _LOGIN.match(login):
        hint = "It is the login of its account on GitHub, without @: an App's ends with [bot]."
        raise table.error("bot_username", f"{login[:80]!r} is no login", hint=hint)
    found = Familiar(
        id=id,
        display_name=_line(table, "display_name", id, NAME_MAX),
        bot_username=login,
        trigger_labels=_lines(table, "trigger_labels"),
        model=_line(table, "model") if "model" in table.raw else None,
        skills=_lines(table, "skills"),
        words=_words(table),
    )
    for one in others:
        if one.id == found.id:
            raise table.error("id", f"two familiars are named {id!r}")
        if one.handle == found.handle:
            raise table.error("bot_username", f"{login!r} is that of {one.id} too: a mention would call both")
    return found


def _words(table: Table) -> tuple[str, ...]:
    words = table.texts("commands", OTHER_WORDS)
    for word in words:
        if not _WORD.match(word):
            raise table.error(
                "commands", f"{word[:40]!r} is not 1 to {WORD_MAX} of a to z, 0 to 9 and _, a letter first"
            )
        if word in _TAKEN:
            raise table.error("commands", f"{word!r} has a meaning of its own, for every familiar; leave it out")
    return tuple(dict.fromkeys(words))


def _line(table: Table, key: str, default: str | None = None, longest: int = LINE_MAX) -> str:
    text = table.text(key, default)
    _require_line(table, key, text, longest)
    return text


def _lines(table: Table, key: str) -> tuple[str, ...]:
    texts = table.texts(key, ())
    if len(texts) > SKILLS_MAX:
        raise table.error(key, f"has more than {SKILLS_MAX}")
    for text in texts:
        _require_line(table, key, text, LINE_MAX)
    return texts


def _require_line(table: Table, key: str, text: str, longest: int) -> None:
    if not text.strip() or len(text) > longest or not text.isprintable():
        raise table.error(key, f"must be one line of 1 to {longest} characters")


# ---- where they may work


def _installation(table: Table, ids: Sequence[str], cap: Cap) -> tuple[Installation, Share | None]:
    table.require_known(("id", "account", "familiars", "lanes", "limits", "repos"))
    if "id" not in table.raw:
        raise table.error(
            "id", "is missing", hint="It is the number at the end of the installation's address on GitHub."
        )
    id = table.integer("id", 0, 1, INSTALLATION_MAX)
    table.where = f"installation {id}"
    familiars = table.texts("familiars", ())
    for one in familiars:
        _require_familiar(table, "familiars", one, ids)
    share = parse_share(table.table("limits", SHARE_KEYS), cap) if "limits" in table.raw else None
    account = _line(table, "account", None, NAME_MAX) if "account" in table.raw else None
    lanes = _kinds_said(table.table("lanes", _KINDS))
    return Installation(id, account, familiars, lanes, _by_repo(table, ("enabled", *_KINDS), _repo_scope)), share


def _repo_scope(table: Table) -> RepoScope:
    return RepoScope(table.flag("enabled", True), _kinds_said(table))


def _kinds_said(table: Table) -> Mapping[TriggerKind, bool]:
    return {kind: table.flag(kind, True) for kind in TriggerKind if str(kind) in table.raw}


def _by_repo(table: Table, known: Sequence[str], read: Callable[[Table], _Value]) -> dict[str, _Value]:
    """`repos` of a table, by the names in lower case, or the numbers."""
    given = table.raw.get("repos")
    named = table.table("repos", tuple(given) if isinstance(given, Mapping) else ())
    found: dict[str, _Value] = {}
    for name in named.raw:
        if not _REPO.match(name):
            raise named.error(name[:80], "is neither owner/name nor a repository's number")
        key = str(int(name)) if name.isdecimal() else fold_case(name)
        if key in found:
            raise named.error(name[:80], "is said twice: names of repositories are the same in either case")
        found[key] = read(named.table(name, known))
    return found


# ---- what is reviewed unasked, and who may command


def _reviews(top: Table, ids: Sequence[str]) -> tuple[AutomaticReview, dict[str, AutomaticReview]]:
    table = top.table("review", KEYS["review"])
    default = AutomaticReview(familiar=ids[0] if len(ids) == 1 else None)
    general = _review(table, default, ids)
    return general, _by_repo(table, _REVIEW_KEYS, lambda inner: _review(inner, general, ids))


def _review(table: Table, default: AutomaticReview, ids: Sequence[str]) -> AutomaticReview:
    familiar = table.text("familiar") if "familiar" in table.raw else default.familiar
    if familiar is not None:
        _require_familiar(table, "familiar", familiar, ids)
    enabled = table.flag("pull_request", default.enabled)
    if enabled and familiar is None:
        raise table.error("familiar", f"is missing: which of {', '.join(ids)} reviews?")
    return AutomaticReview(enabled, table.flag("include_drafts", default.drafts), familiar)


def _associations(top: Table) -> tuple[str, ...]:
    table = top.table("commands", KEYS["commands"])
    found = table.texts("associations", COMMANDING)
    for word in found:
        if word not in ASSOCIATIONS:
            guess = did_you_mean(word.upper(), ASSOCIATIONS) or f": they are {', '.join(ASSOCIATIONS)}"
            raise table.error("associations", f"{word[:40]!r} is nothing that GitHub says an author is{guess}")
    if not found:
        hint = "Close the lane `commands` of the installations, or leave it out."
        raise table.error("associations", "is empty, and would let nobody command", hint=hint)
    return found


def _require_familiar(table: Table, key: str, id: str, ids: Sequence[str]) -> None:
    if id not in ids:
        raise table.error(key, f"{id[:40]!r} is no familiar{did_you_mean(id, ids) or ': there is ' + ', '.join(ids)}")
