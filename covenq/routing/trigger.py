"""Whether a delivery triggers a familiar's route: what the filter grammar can't say, decided from columns and payload alone.

A trigger is a list of conditions, all of which have to hold. First those that say it is meant for the familiar at all (the
assignee, the label, how the comment begins); then who wrote it, where the familiar may work, and who may command. The order is
what makes a reason of the first that fails: what nobody meant for a familiar has none.

The network is never asked. Any shape of payload is an answer: what isn't there, or is of another type, holds of nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from covenq.config.familiar import Familiar, Installation, Trigger, TriggerKind, of_repo
from covenq.filter.explain import SEEN_MAX, VALUE_MAX, Term
from covenq.filter.tree import Fields, comparable, fold_case
from covenq.model import IgnoredReason

_MENTION = re.compile(r"\s*@([0-9A-Za-z_-]+)")
"""How a command begins: a login, without `[bot]`."""
SAID_MAX = 65_536
"""Characters of a comment that are looked at: GitHub lets none be longer."""


class Condition(NamedTuple):
    """One condition, in words; the values it looked at; and, where it refuses what was meant for the familiar, why."""

    text: str
    holds: bool
    seen: tuple[str | None, ...] = ()
    reason: IgnoredReason | None = None
    problem: str = ""
    """With `reason`: that reason in a sentence, which names nothing out of a payload."""


class Facts:
    """What triggers look at of one delivery, read once however many ask. `fields` are as `delivery_fields` makes them.

    Only `body`, and what is read of it, raises: what the payload's callable does.
    """

    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    @cached_property
    def on(self) -> tuple[str, str]:
        """Its event and action."""
        return _text(self._fields.get("event")) or "", _text(self._fields.get("action")) or ""

    @property
    def event(self) -> str:
        return self.on[0]

    @cached_property
    def body(self) -> object:
        body = self._fields.get("payload")
        return body() if callable(body) else body

    @cached_property
    def installation(self) -> int | None:
        return _number(self._fields.get("installation"))

    @cached_property
    def repo(self) -> tuple[str | None, int | None]:
        """Its name and its number."""
        return _text(self._fields.get("repo")), _number(self._fields.get("repo_id"))

    @property
    def number(self) -> int | None:
        return _number(self._fields.get("number"))

    @cached_property
    def said(self) -> str | None:
        return self.text(_said_in(self.event), "body")

    @cached_property
    def command(self) -> tuple[str | None, str | None]:
        return command_of(self.said)

    def text(self, *path: str) -> str | None:
        return _text(self.at(*path))

    def at(self, *path: str) -> object:
        value = self.body
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        return value


def triggers(trigger: Trigger, facts: Facts) -> bool:
    """Whether all its conditions hold of a delivery. Raises as Facts."""
    return _is_about(trigger, facts) and all(condition.holds for condition in _conditions(trigger, facts))


def refusal(trigger: Trigger, facts: Facts) -> Condition | None:
    """The condition that refuses a delivery which is meant for the familiar; None where it isn't meant for it, or triggers."""
    if not _is_about(trigger, facts):
        return None
    failed = next((one for one in _conditions(trigger, facts) if not one.holds), None)
    return failed if failed is not None and failed.reason is not None else None


def _is_about(trigger: Trigger, facts: Facts) -> bool:
    """False for what most deliveries fail by: the event and action, and a comment that calls nobody, or another."""
    kind = trigger.kinds.get(facts.on)
    return kind is not None and (kind is not TriggerKind.COMMANDS or facts.command[0] == trigger.familiar.handle)


def terms(trigger: Trigger, facts: Facts, lost: str | None = None) -> Iterator[Term]:
    """The conditions as terms of an explanation, up to the first that fails. `lost` says why the payload is gone, if it is."""
    if lost is not None and facts.on in trigger.kinds:
        yield Term("what triggers it", None, problem=lost)
        return
    try:
        for one in _conditions(trigger, facts):
            seen = [value if len(value) <= VALUE_MAX else value[: VALUE_MAX - 1] + "…" for value in one.seen if value]
            yield Term(f"that {one.text}", one.holds, seen[:SEEN_MAX])
            if not one.holds:
                return
    except Exception as error:  # noqa: BLE001 - as in routing: whatever the payload's callable raises is reported
        yield Term("what triggers it", None, problem=f"it fails with {type(error).__name__}")


def words(trigger: Trigger) -> str:
    """What triggers it, for people."""
    familiar, told = trigger.familiar, []
    kinds = set(trigger.kinds.values())
    if TriggerKind.ASSIGNMENT in kinds:
        told.append(f"assigned to {familiar.bot_username}")
    if TriggerKind.REVIEWS in kinds:
        told.append("a pull request as [review] says")
    if TriggerKind.LABELS in kinds and familiar.trigger_labels:
        told.append(f"labeled {_either(familiar.trigger_labels)}")
    if TriggerKind.COMMANDS in kinds and trigger.unknown:
        told.append(f"@{familiar.handle} with another word")
    elif TriggerKind.COMMANDS in kinds:
        both = trigger.issue_words & trigger.pull_words
        where = "" if both else f" on {'an issue' if trigger.issue_words else 'a pull request'}"
        told.append(f"@{familiar.handle} {_either(sorted(trigger.issue_words | trigger.pull_words))}{where}")
    return "; ".join(told)


def _conditions(trigger: Trigger, facts: Facts) -> Iterator[Condition]:
    """The conditions in their order."""
    kind = trigger.kinds.get(facts.on)
    if kind is None:  # the filter says which events and which actions, and not which of these for which
        named = _either([f"{event}.{action}" for event, action in trigger.kinds])
        yield Condition(f"it is {named}", False, (".".join(facts.on),))
        return
    event = facts.event
    match kind:
        case TriggerKind.ASSIGNMENT:
            yield from _assignment(trigger, facts)
        case TriggerKind.LABELS:
            yield from _label(trigger, facts)
        case TriggerKind.REVIEWS:
            yield from _review(trigger, facts)
        case TriggerKind.COMMANDS:
            yield from _command(trigger, facts)
    yield _subject(facts)
    if event == "pull_request":
        yield _author(trigger, facts.text("pull_request", "user", "login"), "the pull request")
    elif kind is TriggerKind.COMMANDS:
        yield _author(trigger, facts.text(_said_in(event), "user", "login"), "it")
    yield from _scope(trigger, facts, kind)
    if kind is TriggerKind.REVIEWS:
        yield from _draft(trigger, facts)
    elif kind is TriggerKind.COMMANDS:
        yield _permission(trigger, facts)


# ---- whether it is meant for the familiar


def _assignment(trigger: Trigger, facts: Facts) -> Iterator[Condition]:
    login = facts.text("assignee", "login")
    yield Condition(f"the assignee is {trigger.familiar.bot_username}", _is(login, trigger.familiar.login), (login,))


def _label(trigger: Trigger, facts: Facts) -> Iterator[Condition]:
    name = facts.text("label", "name")
    label = None if name is None else fold_case(name)
    labels = trigger.familiar.trigger_labels
    text = f"the label is {_either(labels)}" if labels else f"{trigger.familiar.id} has trigger labels"
    yield Condition(text, label in trigger.familiar.labels, (name,))
    if trigger.before:
        installation = trigger.scope.installations.get(facts.installation or 0)
        taken = [one.id for one in trigger.before if label in one.labels and _may_work(trigger, one, installation)]
        text = f"the label calls neither {' nor '.join(one.id for one in trigger.before)}, which stand before it"
        if len(trigger.before) == 1:
            text = f"the label doesn't call {trigger.before[0].id}, which stands before it"
        yield Condition(text, not taken, tuple(taken))


def _review(trigger: Trigger, facts: Facts) -> Iterator[Condition]:
    wanted = trigger.scope.review_of(*facts.repo)
    yield Condition("[review] pull_request is true for the repository", wanted.enabled, (facts.repo[0],))
    text = f"{trigger.familiar.id} is the familiar of [review]"
    yield Condition(text, wanted.familiar == trigger.familiar.id, (wanted.familiar,))


def _command(trigger: Trigger, facts: Facts) -> Iterator[Condition]:
    familiar, said = trigger.familiar, facts.said
    mention, word = facts.command
    begins = None if said is None else said[:VALUE_MAX]
    yield Condition(f"it begins with @{familiar.handle}", mention == familiar.handle, (begins,))
    yield Condition(f"a word follows @{familiar.handle}", word is not None)
    on_pull = facts.event != "issue_comment" or isinstance(facts.at("issue", "pull_request"), dict)
    words = trigger.pull_words if on_pull else trigger.issue_words
    thread = "a pull request" if on_pull else "an issue"
    if not words:
        yield Condition(f"it is on {'an issue' if on_pull else 'a pull request'}", False, (thread,))
        return
    text = f"the command is {'none of those on ' + thread if trigger.unknown else _either(sorted(words))}"
    yield Condition(text, (word in words) is not trigger.unknown, (word,))


def _subject(facts: Facts) -> Condition:
    """Without them nobody knows what to work on, and its key would be none: nothing would supersede it, or wait for it."""
    known = None not in facts.repo and facts.number is not None
    return Condition("it names a repository and a number", known)


def command_of(said: str | None) -> tuple[str | None, str | None]:
    """(whom it mentions, the word after that) of a text that begins with a mention, both in lower case; None where there is none.

    The mention ends where the login does: what goes on with `/` is another. A colon at the word's end doesn't count.
    """
    looked_at = (said or "")[:SAID_MAX]
    found = _MENTION.match(looked_at)
    if found is None:
        return None, None
    rest = looked_at[found.end() :]
    if rest[:1] == "/" or rest[:1].isalnum():
        return None, None
    word = rest.split(None, 1)
    return fold_case(found[1]), (word[0].rstrip(":").lower()[:VALUE_MAX] if word else None)


# ---- who wrote it, where, and whether they may


def _author(trigger: Trigger, login: str | None, what: str) -> Condition:
    is_bot = login is not None and fold_case(login) in trigger.scope.bots
    reason = IgnoredReason.FAMILIAR_AUTHOR if is_bot else None
    return Condition(
        f"no familiar wrote {what}", login is not None and not is_bot, (login,), reason, "a familiar wrote it"
    )


def _scope(trigger: Trigger, facts: Facts, kind: TriggerKind) -> Iterator[Condition]:
    if not trigger.scope.installations:
        return
    number = facts.installation
    found = None if number is None else trigger.scope.installations.get(number)
    told = "no installation sent it" if number is None else f"the installation {number} is not listed"
    seen = ("none" if number is None else str(number),)
    yield Condition("its installation is listed", found is not None, seen, IgnoredReason.INSTALLATION_UNLISTED, told)
    if found is None:
        return
    familiar = trigger.familiar
    told = f"the familiar {familiar.id} is not among those of installation {found.id}"
    yield Condition(
        f"installation {found.id} has {familiar.id} among its familiars",
        _may_work(trigger, familiar, found),
        found.familiars,
        IgnoredReason.FAMILIAR_OUT_OF_SCOPE,
        told,
    )
    repo = of_repo(found.repos, *facts.repo)
    if repo is not None:
        told = f"the repository is not enabled in installation {found.id}"
        text = f"installation {found.id} has the repository enabled"
        yield Condition(text, repo.enabled, ("disabled",), IgnoredReason.REPOSITORY_DISABLED, told)
    is_open = found.lanes.get(kind, True) if repo is None else repo.lanes.get(kind, found.lanes.get(kind, True))
    told = f"the lane {kind} is closed in installation {found.id}{'' if repo is None else ', or in the repository'}"
    yield Condition(f"the lane {kind} is open", is_open, ("closed",), IgnoredReason.LANE_CLOSED, told)


def _draft(trigger: Trigger, facts: Facts) -> Iterator[Condition]:
    if trigger.scope.review_of(*facts.repo).drafts:
        return
    draft = facts.at("pull_request", "draft")
    reason = IgnoredReason.DRAFT if draft is True else None
    seen = ("a draft",) if draft is True else ()
    yield Condition("the pull request is no draft", draft is False, seen, reason, "it is a draft")


def _permission(trigger: Trigger, facts: Facts) -> Condition:
    association = facts.text(_said_in(facts.event), "author_association")
    allowed = trigger.scope.associations
    return Condition(
        f"its author is {_either(allowed)} of the repository",
        association in allowed,
        (association,),
        IgnoredReason.NOT_PERMITTED,
        f"the author of a command has to be {_either(allowed)} of the repository",
    )


def _may_work(trigger: Trigger, familiar: Familiar, found: Installation | None) -> bool:
    """Whether a familiar is in scope at an installation; None: one that isn't listed."""
    if found is None:
        return not trigger.scope.installations
    return not found.familiars or familiar.id in found.familiars


# ---- values


def _said_in(event: str) -> str:
    """The part of the payload that holds what was said, its author, and what that is to the repository."""
    return "review" if event == "pull_request_review" else "comment"


def _is(login: str | None, other: str) -> bool:
    return login is not None and fold_case(login) == other


def _text(value: object) -> str | None:
    return comparable(value) if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _either(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
