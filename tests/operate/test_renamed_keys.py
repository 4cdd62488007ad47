"""Repositories that are named as keys of what familiars share: where a rename would open one that is disabled, it is told."""

from __future__ import annotations

from covenq.config.load import build
from covenq.model.rows import Delivery
from covenq.operate.maintain.renamed_routes import Renamed, names_repositories, renamed
from tests.support.answers import blank

NAMES = {"octo/old": 5, "octo/same": 6}
PRESENT = {5: "octo/new", 6: "octo/same"}


def newest(filter: str) -> Delivery | None:
    field, _, value = filter.partition(":")
    number = NAMES.get(value) if field == "repo" else int(value)
    return None if number is None else blank(Delivery, repo_id=number, repo=PRESENT[number])


def test_a_repository_that_is_called_otherwise_now_is_told_with_its_number() -> None:
    repos = {"Octo/Old": {"enabled": False}, "octo/same": {}, "octo/unseen": {}, "5": {}}
    raw = {
        "familiar": [{"id": "cody", "bot_username": "cody", "pull": True}],
        "installation": [{"id": 42, "repos": repos}],
        "review": {"repos": {"octo/old": {"pull_request": True}}},
    }
    routes = build(raw, None, {}).routes
    assert names_repositories(routes)
    found = list(renamed(routes, newest))
    assert found == [
        Renamed("installation 42", "octo/old", "octo/new", 5, is_key=True),
        Renamed("[review]", "octo/old", "octo/new", 5, is_key=True),
    ]
    assert (found[0].where, found[0].words, found[0].instead) == (
        "installation 42",
        "octo/old is called octo/new now",
        "repos.5",
    )
    assert not names_repositories(build({"familiar": raw["familiar"]}, None, {}).routes)
