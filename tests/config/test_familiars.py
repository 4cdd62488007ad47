"""Familiars in the configuration: what their sections say, the routes that they make, and each mistake with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from covenq.config.familiar import AutomaticReview, TriggerKind
from covenq.config.limits import Cap, Share
from covenq.config.load import Config, build, load
from covenq.config.route import ROUTE_KEYS
from covenq.config.toml_position import locate_each
from covenq.errors import ConfigError
from covenq.routing.trigger import words

CODY = """
[[familiar]]
id = "cody"
bot_username = "coven-cody[bot]"
run = ["true"]
"""
DEVI = CODY.replace("cody", "devi")


def loaded(directory: Path, text: str) -> Config:
    path = directory / "covenq.toml"
    path.write_text(text)
    return load(path, {})


def test_a_familiar_makes_one_route_for_each_purpose_named_by_both(tmp_path: Path) -> None:
    config = loaded(
        tmp_path, '[[route]]\nname = "all"\nmatch = ""\npull = true\n' + CODY + 'commands = ["polish_it"]\n'
    )
    names = [
        "fix-issue",
        "review-pull-request",
        "address-review-comment",
        "polish-it",
        "cancel",
        "retry",
        "clarification",
    ]
    assert [route.name for route in config.routes] == ["all", *(f"cody-{name}" for name in names)]
    purposes = [route.purpose for route in config.routes]
    assert purposes == [None, *(name.replace("-", "_") for name in names)]
    assert {route.familiar for route in config.routes} == {None, "cody"}
    # What is work on an issue or a pull request is done one at a time; what answers waits for nothing.
    assert [route.key for route in config.routes[1:]] == ["{repo_id}#{number}"] * 3 + [None] * 4
    superseding = [route.name for route in config.routes if route.scheduling.supersede != "never"]
    assert superseding == ["cody-review-pull-request"]


def test_all_that_a_route_can_have_a_familiar_can(tmp_path: Path) -> None:
    more = 'contract = "coven-headless/2"\n'
    more += 'timeout = "3m"\nretry = { max = 2 }\nenv = ["HOME"]\nlimits = { memory = "1GiB" }\nkeep = "failed"\npriority = 7\n'
    config = loaded(
        tmp_path, CODY + more + 'max_age = "1d"\nmodel = "large"\nskills = ["rust"]\ndisplay_name = "Cody"\n'
    )
    for route in (one for one in config.routes if one.kind != "act"):
        assert (route.contract, route.policy["contract"]) == ("coven-headless/2", "coven-headless/2")
        assert (route.timeout_s, route.retry.max, route.env, route.keep) == (180.0, 2, ("HOME",), "failed")
        assert (route.scheduling.priority, route.max_age_s) == (7, 86400.0)
        assert route.policy["agent"] == {"display_name": "Cody", "model": "large", "skills": ["rust"]}
    other = loaded(tmp_path, CODY.replace('run = ["true"]', 'forward = "https://example.org/hook"'))
    assert {route.forward for route in other.routes} == {"https://example.org/hook", None}


def test_what_the_daemon_does_itself_has_nothing_of_the_familiars_executor(tmp_path: Path) -> None:
    config = loaded(tmp_path, CODY + 'timeout = "3m"\nenv = ["HOME"]\nretry = { max = 2 }\n')
    acts = {route.name: route for route in config.routes if route.kind == "act"}
    assert sorted(acts) == ["cody-cancel", "cody-retry"]
    for route in acts.values():
        assert (route.run, route.env, route.retry.max) == ((), (), 0)
        assert route.policy["act"] == route.purpose


def test_each_route_comes_from_the_line_of_its_familiar(tmp_path: Path) -> None:
    text = CODY + DEVI + '[[route]]\nname = "all"\nmatch = ""\npull = true\n'
    config = loaded(tmp_path, text)
    lines = {route.familiar: found for route, found in zip(config.routes, _lines(text, config), strict=True)}
    assert lines == {"cody": 2, "devi": 7, None: 11}


def _lines(text: str, config: Config) -> list[int | None]:
    return [None if one is None else one[0] for one in locate_each(text, [route.place for route in config.routes])]


def test_what_is_said_of_installations_reviews_and_commands(tmp_path: Path) -> None:
    text = (
        CODY
        + DEVI
        + """
[limits]
installation = { daily = 9 }
installations.7 = { weight = 2 }
[[installation]]
id = 42
account = "octo"
familiars = ["devi"]
lanes = { reviews = false }
limits = { concurrency = 3 }
[installation.repos."Octo/Hello"]
enabled = false
[installation.repos.0815]
reviews = true
[[installation]]
id = 43
[review]
familiar = "cody"
include_drafts = true
[review.repos."Octo/Hello"]
pull_request = true
familiar = "devi"
[commands]
associations = ["OWNER"]
"""
    )
    config = loaded(tmp_path, text)
    scope = config.familiars.scope
    one = scope.installations[42]
    assert (one.account, one.familiars, one.lanes) == ("octo", ("devi",), {TriggerKind.REVIEWS: False})
    assert {name: (repo.enabled, dict(repo.lanes)) for name, repo in one.repos.items()} == {
        "octo/hello": (False, {}),
        "815": (True, {TriggerKind.REVIEWS: True}),
    }
    assert scope.installations[43].repos == {}
    assert scope.associations == ("OWNER",)
    assert scope.review_of("octo/other", 1) == AutomaticReview(False, True, "cody")
    assert scope.review_of("OCTO/hello", 1) == AutomaticReview(True, True, "devi")
    assert config.caps.installations == {"7": Share(2, Cap(None, 9)), "42": Share(1, Cap(3, 9))}


def test_the_hash_of_the_configuration_covers_all_that_decides_and_nothing_else(tmp_path: Path) -> None:
    base = loaded(tmp_path, CODY).sha256
    for more in (
        'trigger_labels = ["x"]',
        'commands = ["x"]',
        'model = "x"',
        "[[installation]]\nid = 1",
        "[review]\npull_request = true",
        "[review]\ninclude_drafts = true",
        "[review.repos.1]\npull_request = true",
        '[commands]\nassociations = ["OWNER"]',
    ):
        assert loaded(tmp_path, f"{CODY}\n{more}\n").sha256 != base, more
    installed = loaded(tmp_path, f"{CODY}[[installation]]\nid = 1\n").sha256
    for more in ("lanes = { labels = false }", 'familiars = ["cody"]', "[installation.repos.6]\nenabled = false"):
        assert loaded(tmp_path, f"{CODY}[[installation]]\nid = 1\n{more}\n").sha256 != installed, more
    assert loaded(tmp_path, f'# moved\n\n{CODY}[[installation]]\nid = 1\naccount = "octo"\n').sha256 == installed
    # That of a configuration without familiars is what it has always been.
    plain = {"route": [{"name": "a", "match": "event:push", "run": ["x"]}]}
    assert build(plain, None, {}).sha256 == "84bbe5aa22547695616c423f5cc1e4524f99cff8ec825a596f99d76a27084216"


WRONG: list[tuple[str, str]] = [
    ('[[familiar]]\nbot_username = "x"\nrun = ["x"]', "familiar 1.id (line 1, column 1): is missing"),
    ('[[familiar]]\nid = "x"\nrun = ["x"]', "bot_username (line 1, column 1): is missing"),
    ('[[familiar]]\nid = "x y"\nbot_username = "x"', "id (line 2, column 1): 'x y' is not 1 to 64"),
    (f'[[familiar]]\nid = "{"x" * 33}"\nbot_username = "x"', "is longer than 32 characters"),
    ('[[familiar]]\nid = "x"\nbot_username = "@x"', "bot_username (line 3, column 1): '@x' is no login"),
    ('[[familiar]]\nid = "x"\nbot_username = "x"', "familiar 'x'.run (line 1, column 1): is missing"),
    ('[[familiar]]\nid = "x"\nbot_username = "x"\nrun = ["x"]\npull = true', "has run and pull: one is enough"),
    (CODY + "trigger_label = []", "familiar 'cody'.trigger_label (line 6, column 1): unknown key: did you mean trigger_labels?"),
    (CODY + 'trigger_labels = [""]', "must be one line of 1 to 200 characters"),
    (CODY + 'skills = ["a\\nb"]', "must be one line of 1 to 200 characters"),
    (CODY + f"skills = {['x'] * 65}", "has more than 64"),
    (CODY + 'timeout = "soon"', "familiar 'cody'.timeout (line 6, column 1): 'soon' is no duration"),
    (CODY + 'sign = "app"', "sign (line 6, column 1): is of forward; this route has run"),
    (CODY + 'commands = ["Dance"]', "'Dance' is not 1 to 31 of a to z"),
    (CODY + 'commands = ["cancel"]', "'cancel' has a meaning of its own"),
    (CODY + 'commands = ["fix_issue"]', "'fix_issue' has a meaning of its own"),
    (CODY + CODY.replace("coven-cody", "other"), "familiar 2.id (line 8, column 1): two familiars are named 'cody'"),
    (CODY + DEVI.replace("coven-devi[bot]", "Coven-Cody"), "'Coven-Cody' is that of cody too"),
    (CODY + '[[route]]\nname = "cody-retry"\nmatch = ""\npull = true',
     "id (line 3, column 1): two routes are named 'cody-retry'"),
    *(
        (CODY + f"{key} = 1", f"{key} (line 6, column 1): is of a [[route]]")
        for key in ("key", "concurrency", "supersede", "match")
    ),
    ("[[installation]]\nid = 1", "installation 1 (line 1, column 1): is about familiars, and there is no [[familiar]]"),
    ("[review]\npull_request = false", "review (line 1, column 1): is about familiars"),
    ("[commands]", "commands (line 1, column 1): is about familiars"),
    (CODY + "[[installation]]", "installation 1.id (line 6, column 1): is missing"),
    (CODY + "[[installation]]\nid = 0", "must be between 1 and"),
    (CODY + "[[installation]]\nid = true", "must be a whole number"),
    (CODY + "[[installation]]\nid = 1\n" * 2, "installation 1 is listed twice"),
    (CODY + '[[installation]]\nid = 1\nfamiliars = ["codi"]', "'codi' is no familiar: did you mean cody?"),
    (CODY + "[[installation]]\nid = 1\nlanes = { label = true }", "unknown key: did you mean labels?"),
    (CODY + "[[installation]]\nid = 1\nlanes = { labels = 1 }", "must be true or false"),
    (CODY + "[[installation]]\nid = 1\nlimits = { daily = 0 }", "must be between 1 and"),
    (CODY + "[[installation]]\nid = 1\nlimits = {}\n[limits.installations.1]\ndaily = 1",
     "1 is said in its [[installation]] limits too"),
    (CODY + '[[installation]]\nid = 1\n[installation.repos.hello]',
     "repos.hello (line 8, column 1): is neither owner/name nor a repository's number"),
    (CODY + '[[installation]]\nid = 1\nrepos = { "o/r" = {}, "O/R" = {} }', "is said twice"),
    (CODY + '[[installation]]\nid = 1\n[installation.repos."o/r"]\nenable = true', "unknown key: did you mean enabled?"),
    (CODY + DEVI + "[review]\npull_request = true", "familiar (line 11, column 1): is missing: which of cody, devi reviews?"),
    (CODY + DEVI + '[review.repos."o/r"]\npull_request = true', "is missing: which of cody, devi reviews?"),
    (CODY + '[review]\nfamiliar = "x"', "'x' is no familiar: there is cody"),
    (CODY + "[review]\ndrafts = true", "unknown key"),
    (CODY + "[commands]\nassociations = []", "is empty, and would let nobody command"),
    (CODY + '[commands]\nassociations = ["member"]', "'member' is nothing that GitHub says an author is: did you mean MEMBER?"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_each_mistake_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, text)
    assert words in str(raised.value)


def test_the_keys_of_a_familiar_are_those_of_a_route_but_for_what_is_made(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "max_age": '"1d"',
        "priority": 1,
        "timeout": '"1m"',
        "retry": "{}",
        "env": "[]",
        "limits": "{}",
    }
    taken = []
    for key in ROUTE_KEYS:
        try:
            loaded(tmp_path, f"{CODY}{key} = {values.get(key, 1)}\n")
            taken.append(key)
        except ConfigError as error:
            assert "unknown key" not in str(error), key
    assert sorted(taken) == sorted(values)


def test_a_route_says_in_words_what_triggers_it(tmp_path: Path) -> None:
    found = loaded(tmp_path, CODY + 'trigger_labels = ["a", "b"]\n')
    told = {route.purpose: words(route.trigger) for route in found.routes if route.trigger is not None}
    assert told["fix_issue"] == "assigned to coven-cody[bot]; labeled a or b; @coven-cody fix on an issue"
    assert told["review_pull_request"] == (
        "a pull request as [review] says; labeled a or b; @coven-cody review on a pull request"
    )
    assert told["cancel"] == "@coven-cody cancel"
    assert told["clarification"] == "@coven-cody with another word"
