"""What the configuration says of an installation, as CovenCave is told it."""

from __future__ import annotations

import tomllib
from typing import Any

import msgspec

from covenq.config.load import build
from covenq.routing.installation_routing import ConfiguredFamiliars

FAMILIARS = """
[[familiar]]
id = "cody"
display_name = "Cody the Fixer"
bot_username = "coven-cody[bot]"
run = ["true"]

[[familiar]]
id = "nova"
bot_username = "coven-nova[bot]"
run = ["true"]
"""
LISTED = """
[[installation]]
id = 42
account = "octo-org"
familiars = ["nova"]
lanes = { reviews = false }

[installation.repos."octo-org/hello"]
reviews = true
labels = false
[installation.repos."7"]
enabled = false

[[installation]]
id = 43
"""
OPEN = {"assignment": True, "labels": True, "commands": True, "reviews": True}


def told(text: str, installation: int) -> Any:
    return msgspec.to_builtins(_of(text).routing(installation))


def _of(text: str) -> ConfiguredFamiliars:
    return ConfiguredFamiliars(build(tomllib.loads(text), None, {}).familiars)


def test_without_a_list_every_installation_is_open_to_all() -> None:
    found = {"installationId": 42, "account": None, "familiars": ["cody", "nova"], "triggers": OPEN, "repos": {}}
    assert told(FAMILIARS, 42) == {**found, "listed": False}
    assert told("", 42) == {**found, "familiars": [], "listed": False}
    assert _of(FAMILIARS).names() == {"cody": "Cody the Fixer", "nova": "nova"}


def test_what_is_listed_has_its_lanes_and_its_repositories_theirs() -> None:
    assert told(FAMILIARS + LISTED, 42) == {
        "installationId": 42,
        "account": "octo-org",
        "familiars": ["nova"],
        "triggers": {**OPEN, "reviews": False},
        "repos": {
            "octo-org/hello": {"enabled": True, **OPEN, "labels": False},
            "7": {"enabled": False, **dict.fromkeys(OPEN, False)},
        },
        "listed": True,
    }
    assert told(FAMILIARS + LISTED, 43)["familiars"] == ["cody", "nova"]
    assert told(FAMILIARS + LISTED, 43)["triggers"] == OPEN


def test_what_is_not_on_the_list_is_closed() -> None:
    closed = {"familiars": [], "triggers": dict.fromkeys(OPEN, False), "repos": {}, "listed": False}
    assert told(FAMILIARS + LISTED, 99) == {"installationId": 99, "account": None, **closed}
