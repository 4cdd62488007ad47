"""The policy of coven-github's Python adapter, translated: JSON by the installation's number, then the repository's.

Nothing is open that isn't listed there, so every lane of an installation is closed, and a listed repository's are opened one by
one. Values in, values out, as in `covenq.config.coven`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from covenq.config.contract import HEADLESS
from covenq.config.coven import ENTRIES_MAX, LANES, PROGRAM, RETRIES, TIMEOUT_S, Fate, Translation, opened
from covenq.config.toml_table import Table
from covenq.errors import ConfigError

_LANE_OF = {
    "issue_assigned": "assignment",
    "issues.assigned": "assignment",
    "issue_label": "labels",
    "issues.labeled": "labels",
    "issue_mention": "commands",
    "issue_comment.created": "commands",
    "pr_review_comment": "commands",
    "pull_request_review_comment.created": "commands",
    "pull_request": "reviews",
    "pull_request.opened": "reviews",
}
"""By the adapter's own word, or the event and action that it is about."""
_KNOWN = ("enabled_triggers", "trigger_labels", "bot_usernames", "familiar", "publication", "default_branch")


@dataclass(slots=True)
class _Familiar:
    """One, of all the repositories that name it."""

    values: dict[str, object]
    bots: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def parse(text: str, file: str) -> Mapping[str, object]:
    """The JSON of a policy. Raises ConfigError."""
    try:
        raw = json.loads(text)
    except RecursionError:
        raise ConfigError(f"{file}: is nested too deeply") from None
    except ValueError as error:  # a number of too many digits, too; the text of an error quotes nothing of the file
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigError(f"{file}: is not JSON{where}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{file}: is no policy: a JSON object by installations")
    return raw


def translate_policy(raw: Mapping[str, object], file: str) -> Translation:
    """The translation of a policy. Raises ConfigError."""
    top, made = Table(file, "", raw), Translation()
    if raw.get("version", 1) != 1:
        raise top.error("version", "must be 1: no other is known")
    installations = opened(top, "installations") or Table(file, "", {key: raw[key] for key in raw if key != "version"})
    familiars: dict[str, _Familiar] = {}
    reviews: dict[str, object] = {}
    found, entries = [], 0
    for number in installations.raw:
        _require_number(installations, number)
        table = opened(installations, number) or installations
        repos = opened(table, "repositories") or table
        entries += len(repos.raw)
        if entries > ENTRIES_MAX:
            raise installations.error(number, f"is more than the {ENTRIES_MAX} repositories that are taken at most")
        found.append(_installation(int(number), repos, familiars, reviews, made))
    if not familiars:
        raise top.error("", "lists no repository: there is nobody to work")
    executor = {
        "run": [PROGRAM, "--headless", "--context", "{brief}", "--output", "{result}"],
        "contract": HEADLESS,
        "timeout": f"{TIMEOUT_S}s",
        "retry": {"max": RETRIES, "backoff": "2s"},
    }
    made.tables["familiar"] = [{**_merged(one, made), **executor} for one in familiars.values()]
    made.tables["installation"] = found
    if reviews:
        made.tables["review"] = {"repos": reviews}
    made.say(
        "the App and its webhook secret", Fate.TO_DO, "a policy names neither: `covenq init --github-app --existing`"
    )
    return made


def _installation(
    number: int, repos: Table, familiars: dict[str, _Familiar], reviews: dict[str, object], made: Translation
) -> dict[str, object]:
    ids: list[str] = []
    lanes_of: dict[str, dict[str, bool]] = {}
    for repo in repos.raw:
        _require_number(repos, repo)
        table = opened(repos, repo)
        if table is None:
            raise repos.error(repo, "must be an object")
        place = f"installation {number} repository {repo}"
        for key in table.raw:
            if key not in _KNOWN:
                made.say(f"{place} {key[:80]}", Fate.LEFT_OUT, "unknown")
        id = _familiar(table, familiars)
        lanes = _open_triggers(table, place, made)
        lanes_of[repo] = {lane: True for lane in LANES if lane in lanes}
        if "reviews" in lanes:
            review = {"pull_request": True, "include_drafts": True, "familiar": id}
            if reviews.setdefault(repo, review) != review:
                words = f"also listed for another familiar, in another installation: {id} doesn't review it unasked"
                made.say(place, Fate.CHANGED, words)
        if "publication" in table.raw:
            words = "what is published is up to the command that runs; with no token it can only leave its result"
            made.say(f"{place} publication", Fate.LEFT_OUT, words)
        if "default_branch" in table.raw:
            made.say(f"{place} default_branch", Fate.LEFT_OUT, "a command has it from the payload")
        ids.append(id)
    unique = list(dict.fromkeys(ids))
    if len(unique) > 1:
        words = (
            f"{', '.join(unique)} answer in each of its open repositories, for a familiar's scope is the installation"
        )
        made.say(f"installation {number}", Fate.CHANGED, words)
    made.say(
        f"installation {number}",
        Fate.TAKEN,
        f"as [[installation]] with {len(lanes_of)} repositories; all others are closed",
    )
    return {"id": number, "familiars": unique, "lanes": dict.fromkeys(LANES, False), "repos": lanes_of}


def _familiar(table: Table, familiars: dict[str, _Familiar]) -> str:
    """Note what this repository says of its familiar; the id."""
    given = table.raw.get("familiar")
    inner = opened(table, "familiar") if isinstance(given, Mapping) else None
    id = table.text("familiar") if inner is None else inner.text("id")
    values: dict[str, object] = {"id": id}
    if inner is not None:
        values |= {key: inner.text(key) for key in ("display_name", "model") if key in inner.raw}
        if skills := inner.texts("skills", ()):
            values["skills"] = list(dict.fromkeys(skills))
    one = familiars.setdefault(id, _Familiar(values))
    _add(one.bots, table.texts("bot_usernames", ()))
    _add(one.labels, table.texts("trigger_labels", ()))
    return id


def _add(found: list[str], more: Sequence[str]) -> None:
    found += [one for one in dict.fromkeys(more) if one not in found]


def _merged(one: _Familiar, made: Translation) -> dict[str, object]:
    """The [[familiar]]."""
    place = f"familiar {one.values['id']}"
    if not one.bots:
        raise ConfigError(f"{place} has no bot_usernames", hint="Name its account, and translate it again.")
    if len(one.bots) > 1:
        words = f"only {one.bots[0]} of {len(one.bots)}: a [[familiar]] has one account"
        made.say(f"{place} bot_usernames", Fate.CHANGED, words)
    made.say(place, Fate.TAKEN, "as [[familiar]]")
    labels = {"trigger_labels": one.labels} if one.labels else {}
    return {**one.values, "bot_username": one.bots[0], **labels}


def _open_triggers(table: Table, place: str, made: Translation) -> set[str]:
    triggers = table.texts("enabled_triggers", ())
    for one in triggers:
        if one not in _LANE_OF and not one.startswith("pull_request."):
            words = "nothing is made of a push" if one.startswith("push") else "unknown"
            made.say(f"{place} enabled_triggers {one[:80]}", Fate.LEFT_OUT, words)
    lanes = {_LANE_OF.get(one, "reviews") for one in triggers if one in _LANE_OF or one.startswith("pull_request.")}
    if "commands" in lanes:
        words = "of issues and of reviews alike; a comment has to begin with the mention, and with a word that is known"
        made.say(f"{place} commands", Fate.CHANGED, words)
    return lanes


def _require_number(table: Table, key: str) -> None:
    if not (key.isascii() and key.isdecimal() and len(key) <= 18 and int(key) > 0):
        raise table.error(key[:80], "is no number of GitHub's")
