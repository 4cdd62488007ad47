"""Configurations of coven-github's shape and deliveries for them, by one seed: every row of its routing, and near misses of each.

A delivery begins as one that is plausible for its configuration and is then spoilt, or not, in one of the ways that a router can
get wrong: the case of a name, a handle that goes on, a bot's own words, a draft, a closed lane, somebody who may not command.
"""

from __future__ import annotations

from random import Random
from typing import Any

from tests.support.coven_reading import AUTOMATIC, VERBS, Delivery, Json

_FAMILIARS: tuple[Json, ...] = (
    {
        "id": "cody",
        "display_name": "Cody",
        "bot_username": "coven-cody[bot]",
        "trigger_labels": ["coven:fix", "coven:all"],
    },
    {
        "id": "nova",
        "display_name": "Nova",
        "bot_username": "coven-nova[bot]",
        "trigger_labels": ["coven:all", "Ask Nova"],
    },
    {
        "id": "Devi",
        "display_name": "Devi D",
        "bot_username": "Coven-Devi[bot]",
        "trigger_labels": ["DEVI"],
        "model": "m/1",
    },
    {"id": "coven", "display_name": "Coven", "bot_username": "coven", "skills": ["debugging"]},
)
"""The last one's handle begins the others'."""
_INSTALLATIONS = (42, 43, 44)
_REPOS = {"octo/hello": 101, "octo/quiet": 102, "Octo/Case": 103}
_LANES = ("assignment", "labels", "commands", "reviews")
_MAY = ("OWNER", "MEMBER", "COLLABORATOR")
_MAY_NOT = ("CONTRIBUTOR", "FIRST_TIME_CONTRIBUTOR", "FIRST_TIMER", "MANNEQUIN", "NONE")
_BEHIND_HANDLE = ("", "-x", "_x", "/x", "x", "9", "é", ",", ":", ".", "'s", " ", "\n", "\t", "\u00a0")
"""What a comment has right behind a handle; mostly nothing but the space before the verb."""
_OTHER_EVENTS = (
    ("push", None),
    ("ping", None),
    ("installation", "created"),
    ("installation", "deleted"),
    ("installation", "suspend"),
    ("marketplace_purchase", "purchased"),
    ("issues", "opened"),
    ("issues", "unlabeled"),
    ("issues", "unassigned"),
    ("issue_comment", "edited"),
    ("issue_comment", "deleted"),
    ("pull_request", "closed"),
    ("pull_request", "assigned"),
    ("pull_request", "edited"),
    ("pull_request", "review_requested"),
    ("pull_request_review", "dismissed"),
    ("pull_request_review", "edited"),
    ("pull_request_review_comment", "edited"),
    ("check_run", "rerequested"),
    ("discussion_comment", "created"),
)


def configuration(random: Random) -> Json:
    """One as its TOML gives it: `[server] [github] [worker] [[familiars]] [[installations]] [review]`."""
    familiars = [dict(one) for one in random.sample(_FAMILIARS, random.randint(1, 4))]
    ids = [one["id"] for one in familiars]
    made: Json = {
        "server": {"bind": "0.0.0.0:3000"},
        "github": {"app_id": 123456, "private_key_path": "keys/private.pem", "webhook_secret": "a secret of this test"},
        "worker": {
            "concurrency": 4,
            "coven_code_bin": "/usr/local/bin/coven-code",
            "timeout_secs": 600,
            "max_retries": 2,
        },
        "storage": {"path": "data/coven-github.db"},
        "familiars": familiars,
    }
    if random.random() < 0.6:
        listed = random.sample(_INSTALLATIONS, random.randint(1, 2))
        made["installations"] = [_an_installation(random, number, ids) for number in listed]
    if random.random() < 0.8:
        made["review"] = _review(random, ids)
    return made


def _an_installation(random: Random, number: int, ids: list[str]) -> Json:
    made: Json = {"id": number, "account": "octo"}
    if random.random() < 0.5:
        made["familiars"] = random.sample(ids, random.randint(0, len(ids)))
    if random.random() < 0.5:
        made["triggers"] = {lane: random.random() < 0.7 for lane in random.sample(_LANES, random.randint(1, 4))}
    if random.random() < 0.6:
        made["limits"] = {"max_concurrent": 2, "max_tasks_per_day": 5}
    if random.random() < 0.6:
        repos = random.sample(list(_REPOS), random.randint(1, 2))
        made["repos"] = {_misspelt(random, repo): _override(random) for repo in repos}
    return made


def _override(random: Random) -> Json:
    if random.random() < 0.3:
        return {"enabled": False, **({"reviews": True} if random.random() < 0.5 else {})}
    return {lane: random.random() < 0.5 for lane in random.sample(_LANES, random.randint(1, 4))}


def _review(random: Random, ids: list[str]) -> Json:
    made: Json = {"familiar": random.choice(ids), "pull_request": random.random() < 0.8}
    if random.random() < 0.6:
        made["include_drafts"] = random.random() < 0.7
    if random.random() < 0.5:
        made["repos"] = {
            _misspelt(random, repo): random.choice(
                (
                    {"pull_request": False},
                    {"pull_request": True},
                    {"include_drafts": True},
                    {"familiar": random.choice(ids)},
                )
            )
            for repo in random.sample(list(_REPOS), random.randint(1, 2))
        }
    return made


def _misspelt(random: Random, repo: str) -> str:
    return repo.swapcase() if random.random() < 0.15 else repo


def delivery(random: Random, config: Json) -> Delivery:
    """One that the configuration may, or may just not, make a task of."""
    if random.random() < 0.1:
        event, action = random.choice(_OTHER_EVENTS)
        payload = _whole(random, config, event)
        payload["action"] = action
        if action is None:
            del payload["action"]
    else:
        event, payload = random.choice((_assigned, _labeled, _automatic, _automatic, _comment, _comment, _comment))(
            random, config
        )
    if random.random() < 0.04:
        _spoil(random, payload)
    return Delivery(event, payload, recent=random.choice((0, 0, 0, 4, 5)))


def _assigned(random: Random, config: Json) -> tuple[str, Json]:
    payload = _whole(random, config, "issues")
    payload |= {"action": "assigned", "assignee": {"login": _login(random, config)}}
    return "issues", payload


def _labeled(random: Random, config: Json) -> tuple[str, Json]:
    event = random.choice(("issues", "pull_request"))
    payload = _whole(random, config, event)
    labels = [label for one in config["familiars"] for label in one.get("trigger_labels", [])] or ["coven:fix"]
    label = random.choice(labels)
    if random.random() < 0.35:
        label = random.choice((label.swapcase(), label.upper(), f"{label} ", f"{label}x", "bug", label[1:]))
    payload |= {"action": "labeled", "label": {"name": label}}
    return event, payload


def _automatic(random: Random, config: Json) -> tuple[str, Json]:
    payload = _whole(random, config, "pull_request")
    payload["action"] = random.choice(AUTOMATIC)
    return "pull_request", payload


def _comment(random: Random, config: Json) -> tuple[str, Json]:
    event = random.choice(("issue_comment", "issue_comment", "pull_request_review", "pull_request_review_comment"))
    payload = _whole(random, config, event)
    author = _login(random, config) if random.random() < 0.2 else "octocat"
    association = random.choice(_MAY) if random.random() < 0.75 else random.choice(_MAY_NOT)
    words = {"body": _words(random, config), "user": {"login": author}, "author_association": association}
    if event == "pull_request_review":
        payload |= {"action": "submitted", "review": words}
        if random.random() < 0.1:
            words["body"] = None
    else:
        payload |= {"action": "created", "comment": words}
    payload["sender"] = {"login": author, "id": 9}
    return event, payload


def _words(random: Random, config: Json) -> str:
    """What a comment says."""
    handle = random.choice(config["familiars"])["bot_username"].removesuffix("[bot]")
    if random.random() < 0.12:
        handle = handle.swapcase() if random.random() < 0.5 else handle.capitalize()
    if random.random() < 0.03:
        handle = "somebody-else"
    verb = random.choice(VERBS)
    if random.random() < 0.3:
        verb = random.choice(
            (verb.upper(), verb.capitalize(), f"{verb}:", f"{verb}!", "please", "fixes", "thanks", "re-view")
        )
    behind = random.choice(_BEHIND_HANDLE) if random.random() < 0.25 else ""
    text = f"@{handle}{behind} {verb}{random.choice(('', ' this one', chr(10) + 'and more', ' @coven fix'))}"
    return random.choice(
        (*[text] * 8, f"\n  {text}", f"hello {text}", f"> {text}", f"@{handle}", f"@{handle}\n", "/coven garden")
    )


def _login(random: Random, config: Json) -> str:
    """A configured bot's, or one that looks like it."""
    bot = str(random.choice(config["familiars"])["bot_username"])
    near = (bot.upper(), bot.lower(), bot.removesuffix("[bot]"), f"{bot}x", "octocat", "dependabot[bot]")
    return bot if random.random() < 0.65 else random.choice(near)


def _whole(random: Random, config: Json, event: str) -> Json:
    """What a payload of this event has whatever its action."""
    known = [one["id"] for one in config.get("installations", [])] or list(_INSTALLATIONS)
    number = random.choice(known) if random.random() < 0.85 else random.choice(_INSTALLATIONS)
    repo = random.choice(list(_REPOS))
    owner, name = repo.split("/")
    payload: Json = {
        "installation": {"id": number},
        "repository": {"id": _REPOS[repo], "full_name": repo, "name": name, "owner": {"login": owner}},
        "sender": {"login": "octocat", "id": 9},
    }
    subject = random.randint(1, 30)
    if event in ("issues", "issue_comment"):
        payload["issue"] = {"number": subject, "title": "It fails", "body": "Every time.", "user": {"login": "octocat"}}
        if event == "issue_comment" and random.random() < 0.5:
            payload["issue"]["pull_request"] = {"url": "https://api.github.com/repos/x/pulls/1"}
    else:
        author = _login(random, config) if random.random() < 0.2 else "octocat"
        payload["pull_request"] = {
            "number": subject,
            "title": "Mend it",
            "draft": random.random() < 0.4,
            "user": {"login": author},
            "head": {"sha": "a" * 40, "ref": "mend"},
        }
    return payload


def _spoil(random: Random, payload: Json) -> None:
    """Take something away that every task needs."""
    place: Any = payload
    key = random.choice([one for one in payload if one != "action"])
    if isinstance(payload[key], dict) and random.random() < 0.5 and payload[key]:
        place, key = payload[key], random.choice(list(payload[key]))
    del place[key]
