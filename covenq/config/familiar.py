"""Familiars as values: an agent's account on GitHub, where it may work, who may command it, and what triggers its routes.

`covenq.config.familiar_table` reads them, `covenq.config.familiar_routes` makes routes of them, and `covenq.routing.trigger`
decides about a delivery. Nothing but configuration and routing knows them: a task has its familiar's id and its purpose, as
that of any route may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from covenq.filter.tree import fold_case
from covenq.model import Json, JsonObject

_Value = TypeVar("_Value")

BOT_SUFFIX = "[bot]"
"""Ends the login of an App's account. A mention leaves it out."""


class TriggerKind(StrEnum):
    """What can call a familiar. Installations and repositories can have each of them closed (`lanes`)."""

    ASSIGNMENT = "assignment"
    LABELS = "labels"
    REVIEWS = "reviews"
    COMMANDS = "commands"


class Purpose(StrEnum):
    """What a familiar's task is for, where it isn't one of its other words."""

    FIX_ISSUE = "fix_issue"
    REVIEW_PULL_REQUEST = "review_pull_request"
    ADDRESS_REVIEW_COMMENT = "address_review_comment"
    CANCEL = "cancel"
    RETRY = "retry"
    CLARIFICATION = "clarification"
    """A command with a word that is none, or that needs a pull request and is on an issue."""


ASSOCIATIONS = (
    "OWNER", "MEMBER", "COLLABORATOR", "CONTRIBUTOR", "FIRST_TIMER", "FIRST_TIME_CONTRIBUTOR", "MANNEQUIN", "NONE"
)  # fmt: skip
"""What GitHub says an author is to a repository (`author_association`)."""
COMMANDING = ("OWNER", "MEMBER", "COLLABORATOR")
"""Who may command unless `[commands] associations` says so."""

FIX, REVIEW, DEEPEN = "fix", "review", "deepen"
PULL_WORDS = frozenset({REVIEW, DEEPEN})
"""Commands that need a pull request."""
OTHER_WORDS = (DEEPEN, "garden", "remember", "forget", "status")
"""The other commands that a familiar knows, unless it says which."""


@dataclass(frozen=True, slots=True)
class Familiar:
    """An agent: its account, the labels that call it, and the commands that it knows beside those that all know (`words`)."""

    id: str
    display_name: str
    bot_username: str
    trigger_labels: tuple[str, ...] = ()
    model: str | None = None
    skills: tuple[str, ...] = ()
    words: tuple[str, ...] = OTHER_WORDS
    labels: frozenset[str] = field(init=False, repr=False, compare=False)
    """`trigger_labels` as labels are compared."""
    login: str = field(init=False, repr=False, compare=False)
    """`bot_username` as logins are compared: GitHub takes either case for the same."""
    handle: str = field(init=False, repr=False, compare=False)
    """What stands after the @ of a mention, as it is compared."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", frozenset(map(fold_case, self.trigger_labels)))
        object.__setattr__(self, "login", fold_case(self.bot_username))
        object.__setattr__(self, "handle", self.login.removesuffix(BOT_SUFFIX))


@dataclass(frozen=True, slots=True)
class RepoScope:
    """What a repository has otherwise than its installation: not `enabled`, nothing triggers there, whatever `lanes` says."""

    enabled: bool = True
    lanes: Mapping[TriggerKind, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Installation:
    """An installation that is listed. Empty `familiars` are all of them; `repos` as `of_repo` takes them."""

    id: int
    account: str | None = None
    familiars: tuple[str, ...] = ()
    lanes: Mapping[TriggerKind, bool] = field(default_factory=dict)
    repos: Mapping[str, RepoScope] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AutomaticReview:
    """Whether pull requests are reviewed unasked, drafts too, and by which familiar."""

    enabled: bool = False
    drafts: bool = False
    familiar: str | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What all familiars share: where they may work, who may command, and what is reviewed unasked.

    Without `installations` each one is open; with any, one that isn't listed is closed, and so is what comes from none.
    """

    installations: Mapping[int, Installation] = field(default_factory=dict)
    associations: tuple[str, ...] = COMMANDING
    review: AutomaticReview = AutomaticReview()
    reviews: Mapping[str, AutomaticReview] = field(default_factory=dict)
    """Those of single repositories, as `of_repo` takes them."""
    bots: frozenset[str] = frozenset()
    """The logins of all familiars, as they are compared."""

    def review_of(self, repo: str | None, repo_id: int | None) -> AutomaticReview:
        return of_repo(self.reviews, repo, repo_id) or self.review

    def as_json(self) -> JsonObject:
        """All that decides, for the configuration's hash."""
        return {
            "installations": [_installation(one) for one in self.installations.values()],
            "associations": list(self.associations),
            "review": _review(self.review),
            "reviews": {name: _review(one) for name, one in self.reviews.items()},
            "bots": sorted(self.bots),
        }


NO_SCOPE = Scope()


def of_repo(found: Mapping[str, _Value], repo: str | None, repo_id: int | None) -> _Value | None:
    """What is said of a repository: by its number as a text, else by its name in lower case."""
    by_number = None if repo_id is None else found.get(str(repo_id))
    return by_number if by_number is not None or repo is None else found.get(fold_case(repo))


def _installation(one: Installation) -> JsonObject:
    repos: JsonObject = {
        name: {"enabled": repo.enabled, "lanes": {str(kind): is_open for kind, is_open in repo.lanes.items()}}
        for name, repo in one.repos.items()
    }
    lanes: JsonObject = {str(kind): is_open for kind, is_open in one.lanes.items()}
    return {"id": one.id, "familiars": list(one.familiars), "lanes": lanes, "repos": repos}


def _review(one: AutomaticReview) -> Json:
    return {"pull_request": one.enabled, "include_drafts": one.drafts, "familiar": one.familiar}


@dataclass(frozen=True, slots=True)
class Trigger:
    """What a delivery must be for a familiar's route, beside what the route's filter says.

    Event and action tell by `kinds` which kind of trigger it would be. Of commands it takes `issue_words` on an issue and
    `pull_words` on a pull request; with `unknown`, all but these.
    """

    familiar: Familiar
    kinds: Mapping[tuple[str, str], TriggerKind]
    scope: Scope
    issue_words: frozenset[str] = frozenset()
    pull_words: frozenset[str] = frozenset()
    unknown: bool = False
    before: tuple[Familiar, ...] = ()
    """The familiars listed before it that share a label with it: a label calls the first that may work there."""

    def as_json(self) -> JsonObject:
        told: JsonObject = {
            "familiar": self.familiar.id,
            "bot_username": self.familiar.bot_username,
            "on": {f"{event}.{action}": str(kind) for (event, action), kind in self.kinds.items()},
        }
        if TriggerKind.LABELS in self.kinds.values():
            told["labels"] = list(self.familiar.trigger_labels)
            if self.before:
                told["after"] = [one.id for one in self.before]
        if TriggerKind.COMMANDS in self.kinds.values():
            told["all_commands_but" if self.unknown else "commands"] = {
                "issue": sorted(self.issue_words),
                "pull_request": sorted(self.pull_words),
            }
        return told
