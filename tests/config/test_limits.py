"""What the configuration says of limits, of turns, and of deliveries that nobody wanted."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from covenq.config.limits import Cap, Caps, RouteCap, Share
from covenq.config.load import Config, build
from covenq.errors import ConfigError

ROUTE = '[[route]]\nname = "a"\nmatch = "event:push"\nrun = ["true"]\n'
KEYED = ROUTE + 'key = "{repo}"\n'


def load(text: str) -> Config:
    return build(tomllib.loads(text), None, {})


def turns(text: str) -> Any:
    return load(text).routes[0].scheduling


def test_all_limits() -> None:
    config = load(
        "[limits]\ninstallation = { concurrency = 4, daily = 500 }\nrepo = { concurrency = 2 }\nroute = { daily = 9 }\n"
        "[limits.installations.12345]\nweight = 3\nconcurrency = 8\n"
        '[limits.installations."hook:77"]\ndaily = 5\n'
        + KEYED
        + "concurrency = 3\nkey_concurrency = 2\npriority = 9\n"
        + ROUTE.replace('"a"', '"b"')
        + "daily = 1\n"
    )
    assert config.caps == Caps(
        installation=Cap(4, 500),
        repo=Cap(2, None),
        route=Cap(None, 9),
        installations={"12345": Share(3, Cap(8, 500)), "hook:77": Share(1, Cap(4, 5))},
        routes={"a": RouteCap(Cap(3, 9), 2), "b": RouteCap(Cap(None, 1), 1)},
    )
    assert config.routes[0].scheduling.priority == 9
    assert config.caps.share("1") == Share(1, Cap(4, 500))
    assert config.caps.of_route("gone") == RouteCap(Cap(None, 9), 1)


def test_limits_are_no_part_of_what_a_task_freezes() -> None:
    plain, limited = load(KEYED), load(KEYED + "concurrency = 1\ndaily = 1\npriority = 3\nkey_concurrency = 2\n")
    assert plain.routes[0].policy == limited.routes[0].policy
    assert load(KEYED + 'supersede = "running"\norder = "newest"\n').routes[0].policy == {
        **plain.routes[0].policy,
        "supersede": "running",
        "order": "newest",
    }


def test_a_quiet_period() -> None:
    plain = turns(KEYED + 'debounce = "30s"\n')
    assert (plain.debounce_s, plain.debounce_max_s, plain.supersede) == (30.0, 300.0, "queued")
    more = turns(KEYED + 'debounce = "30s"\ndebounce_max = "40s"\nsupersede = "running"\n')
    assert (more.debounce_max_s, more.supersede) == (40.0, "running")
    assert more.policy() == {"supersede": "running", "debounce_s": 30.0, "debounce_max_s": 40.0}


def test_which_failures_are_tried_again() -> None:
    retry = load(ROUTE + 'retry = { max = 1, on = ["http", "timeout"] }\n').routes[0].policy["retry"]
    assert isinstance(retry, dict) and retry["on"] == ["http", "timeout"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (ROUTE + 'debounce = "30s"\n', "route 'a'.debounce: needs a `key`"),
        (ROUTE + 'supersede = "running"\n', "route 'a'.supersede: needs a `key`"),
        (KEYED + 'debounce_max = "30s"\n', "route 'a'.debounce_max: says how long"),
        (KEYED + 'debounce = "30s"\ndebounce_max = "29s"\n', "is shorter than the quiet period"),
        (ROUTE + 'order = "newst"\n', "did you mean newest?"),
        (ROUTE + "priority = 10\n", "route 'a'.priority: must be between 0 and 9"),
        (ROUTE + "concurrency = 0\n", "route 'a'.concurrency: must be between 1"),
        (ROUTE + 'retry = { max = 1, on = ["policy"] }\n', "route 'a'.retry.on: 'policy' is none of"),
        (ROUTE + 'retry = { max = 1, on = ["time"] }\n', "did you mean timeout?"),
        (ROUTE + 'else = ""\n', "route 'a'.else: must be one line"),
        (ROUTE + 'else = "a\\nb"\n', "route 'a'.else: must be one line"),
        ("[limits]\nrepos = {}\n", "limits.repos: unknown key: did you mean repo?"),
        ("[limits]\nrepo = { concurrency = 0 }\n", "limits.repo.concurrency: must be between 1"),
        ("[limits]\nrepo = 3\n", "limits.repo: must be a table"),
        ("[limits]\ninstallations = 3\n", "limits.installations: must be a table"),
        ("[limits.installations.octo]\nweight = 2\n", "limits.installations.octo: is neither"),
        ("[limits.installations.5]\nwait = 2\n", "limits.installations.5.wait: unknown key"),
        ("[limits.installations.5]\nweight = 0\n", "weight: must be between 1 and 1000"),
    ],
)
def test_refusals_name_the_key(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert problem in str(caught.value)
