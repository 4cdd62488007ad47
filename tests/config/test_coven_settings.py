"""What becomes of each setting of a coven-github configuration, and of a file that is none."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from covenq.cli.coven_setup import FILE_MAX, Made, translation
from covenq.config.coven import Fate
from covenq.config.load import Config, load
from covenq.config.work_token import WorkToken
from covenq.errors import ConfigError
from tests.config.test_coven import decided
from tests.support.coven_deliveries import delivery
from tests.support.coven_deviations import ASSOCIATIONS, NOTHING
from tests.support.coven_reading import Delivery, command, read_adapter

FAMILIAR = '[[familiars]]\nid = "cody"\nbot_username = "coven-cody[bot]"\n'
SECRETS = ("hush-the-webhook", "hush-the-service", "hush-the-tenant")


def made(tmp_path: Path, text: str) -> Made:
    source = tmp_path / "coven.toml"
    source.write_text(text)
    return translation(source, tmp_path / "covenq.toml")


def loaded(tmp_path: Path, text: str) -> Config:
    (tmp_path / "covenq.toml").write_text(made(tmp_path, text).text)
    return load(tmp_path / "covenq.toml", {})


def notes(found: Made) -> dict[str, Fate]:
    return {note.place: note.fate for note in found.notes}


@pytest.mark.parametrize(
    ("text", "place", "fate", "line"),
    [
        ('[server]\nbind = "0.0.0.0:3000"', "[server] bind", "taken", 'bind = "0.0.0.0:3000"'),
        ('[server]\ncave_base_url = "https://x"', "[server] cave_base_url", "left out", ""),
        ("[worker]\nconcurrency = 7", "[worker] concurrency", "taken", "concurrency = 7"),
        ('[worker]\ncoven_code_bin = "/c c"', "[worker] coven_code_bin", "taken", 'run = ["/c c", "--headless", "--context"'),
        ("[worker]\ntimeout_secs = 90", "[worker] timeout_secs, max_retries", "taken", 'timeout = "90s"'),
        ("[worker]\nmax_retries = 5", "[worker] timeout_secs, max_retries", "taken", "retry = { max = 5, "),
        ('[worker]\nworkspace_root = "/tmp/x"', "[worker] workspace_root", "left out", ""),
        ("[worker]\nallow_host_backend = true", "[worker] allow_host_backend", "left out", ""),
        ('[worker]\nbackend = "container"', "[worker] backend, [worker.container]", "to do", "pull = true"),
        ('[worker]\n[worker.container]\nimage = "x"', "[worker.container]", "left out", ""),
        ('[storage]\npath = "data/x.db"', "[storage] path", "left out", ""),
        ("[storage]\ntask_retention_days = 9", "[storage] task_retention_days", "changed", 'payloads = "9d"\nattempts = "9d"'),
        ('[api]\nmode = "open"', "[api] mode", "changed", ""),
        ('[api]\nmode = "token"', "[api] mode", "taken", "\n[api]\n"),
        ('[api]\nservice_token = "x"', "[api] service_token", "to do", ""),
        ('[[api.tenants]]\ntoken = "x"\ninstallation_id = 5', "[[api.tenants]] 1", "to do", ""),
        ("[memory]\nenabled = true", "[memory]", "left out", ""),
        ("[gardener]\nenabled = true", "[gardener]", "left out", ""),
        ("[billing]\nrequire_plan = true", "[billing] require_plan", "to do", ""),
        ("[[installations]]\nid = 5", "[[installations]] 5", "taken", "[[installation]]\nid = 5"),
        (
            "[[installations]]\nid = 5\nlimits = { max_concurrent = 2, max_tasks_per_day = 9 }",
            "[[installations]] 5 limits",
            "changed",
            "limits = { concurrency = 2, daily = 9 }",
        ),
        (
            "[[installations]]\nid = 5\ntriggers = { reviews = false }",
            "[[installations]] 5",
            "taken",
            "lanes = { reviews = false }",
        ),
        (
            '[[installations]]\nid = 5\n[installations.repos."o/r"]\nenabled = false',
            "[[installations]] 5",
            "taken",
            '[installation.repos."o/r"]\nenabled = false',
        ),
        ("[review]\npull_request = true", "[review]", "taken", "[review]\npull_request = true"),
        ('[review]\nmin_severity = "low"', "[review] min_severity", "left out", ""),
        ('[review]\naudit_instruction = "x"', "[review] audit_instruction", "left out", ""),
        ('[review.repos."o/r"]\npublish = "check_run"', "[review.repos.o/r] publish", "left out", ""),
        ("[review.repos.\"o/r\"]\ninclude_drafts = true", "[review]", "taken", '[review.repos."o/r"]\ninclude_drafts = true'),
        ("[telemetry]\non = true", "[telemetry]", "left out", ""),
        ("[worker]\nnice = 3", "[worker] nice", "left out", ""),
    ],
)  # fmt: skip
def test_each_setting_is_taken_or_named(tmp_path: Path, text: str, place: str, fate: str, line: str) -> None:
    found = made(tmp_path, f"{text}\n{FAMILIAR}")
    assert notes(found)[place] == fate
    assert line in found.text


def test_a_familiar_an_app_and_a_secret_are_taken_and_the_secret_is_kept_apart(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "k.pem").write_text("key")
    text = f"""
        [github]
        app_id = 7
        private_key_path = "keys/k.pem"
        webhook_secret = "{SECRETS[0]}"
        api_base_url = "https://github.example.org/api/v3"
        [api]
        mode = "token"
        service_token = "{SECRETS[1]}"
        [[api.tenants]]
        token = "{SECRETS[2]}"
        installation_id = 42
        repos = ["o/r"]
        [[familiars]]
        id = "cody"
        display_name = "Cody \\u007f"
        bot_username = "coven-cody[bot]"
        model = "a/b"
        skills = ["x", "x", "y"]
        trigger_labels = ["coven:fix"]
    """
    found = made(tmp_path, text.replace(" \\u007f", ""))
    config = loaded(tmp_path, text.replace(" \\u007f", ""))
    app = config.github_logs.app
    assert app is not None and (app.id, app.keys[0].file) == (7, tmp_path / "keys" / "k.pem")
    assert app.api_url == "https://github.example.org/api/v3"
    assert [(one.name, one.file) for one in config.secrets] == [("app-7", tmp_path / "github-app.secret")]
    assert found.secret == SECRETS[0].encode()
    said = "\n".join(map(str, found.notes))
    assert not any(secret in said + found.text + repr(found) for secret in SECRETS)
    assert "`covenq tokens new --name tenant-42 --role read --installation 42`; for its repos alone" in said
    assert 'skills = ["x", "y"]' in found.text
    tokens = [route.token for route in config.routes if route.kind == "run"]
    assert tokens and all(one == WorkToken((("contents", "write"),), "this") for one in tokens)
    with pytest.raises(ConfigError, match="display_name"):
        made(tmp_path, text)


def test_a_key_that_is_nowhere_and_a_placeholder_for_a_secret_are_to_be_done(tmp_path: Path) -> None:
    github = '[github]\napp_id = 7\nprivate_key_path = "keys/none.pem"\nwebhook_secret = "CHANGE_ME"\n'
    found = made(tmp_path, github + FAMILIAR)
    assert (notes(found)["[github] private_key_path"], notes(found)["[github] webhook_secret"]) == ("to do", "to do")
    assert found.secret is None and "webhook_secrets" not in found.text
    assert notes(made(tmp_path, FAMILIAR)) == {
        "[worker] coven_code_bin": "taken",
        "[github] the agent's token": "to do",
        "[worker] timeout_secs, max_retries": "taken",
        "[[familiars]] cody": "taken",
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "familiars"),
        (b"\xff", "UTF-8"),
        (b"[github", "not TOML"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "nested too deeply|not TOML"),
        (b"{" * 1 + b'"a":' + b"[" * 100_000, "nested too deeply|not JSON"),
        (b"x = " + b"9" * 5000, "digits"),
        (b'{"x": ' + b"9" * 5000 + b"}", "not JSON|installations|number"),
        (b"#" * (FILE_MAX + 1), "larger than 1 MiB"),
        (b"familiars = 3", "list of tables"),
        (b'[[familiars]]\nid = "a"', "bot_username"),
        (b'[[familiars]]\nid = "../a"\nbot_username = "b"', "id"),
        (b'[[familiars]]\nid = "a"\nbot_username = "b\\u0000"', "NUL"),
        (b"[[familiars]]\nid = 5", "must be a text"),
        (FAMILIAR.encode() * 2, "cody"),
        (FAMILIAR.encode() + b"[[installations]]\nid = 1\nfamiliars = ['x']", "'x' is no familiar"),
        (FAMILIAR.encode() + b"[[installations]]\nid = 0", "between 1 and"),
        (FAMILIAR.encode() + b"[[installations]]\nid = 1\n[[installations]]\nid = 1", "listed twice"),
        (FAMILIAR.encode() + b"[[installations]]\nid = 1\nlimits = { max_concurrent = 0 }", "max_concurrent"),
        (FAMILIAR.encode() + b"[[installations]]\nid = 1\ntriggers = 4", "must be a table"),
        (FAMILIAR.encode() + b"[review]\nfamiliar = 'x'", "'x' is no familiar"),
        (FAMILIAR.encode() + b"[worker]\ntimeout_secs = 0", "timeout_secs"),
        (FAMILIAR.encode() + b"[worker]\ncoven_code_bin = '{repo}'", "comes from the request"),
        (FAMILIAR.encode() + b"[github]\napi_base_url = 'http://x'\napp_id = 1\nprivate_key_path = 'k'", "https"),
        (FAMILIAR.encode() + b'[github]\nwebhook_secret = "hush\\n"', "webhook secret ends with"),
        (b'{"1": {"repositories": {"x": {}}}}', "no number"),
        (b'{"1": {"repositories": {"2": {"familiar": "cody"}}}}', "bot_usernames"),
        (b'{"version": 2}', "version"),
        (b'{"installations": {}}', "nobody to work"),
    ],
)
def test_what_is_no_such_configuration_is_refused_in_a_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    source = tmp_path / "x"
    source.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as refused:
        translation(source, tmp_path / "covenq.toml")
    assert "hush" not in str(refused.value) and len(str(refused.value)) < 600


# The adapter's policy

ROWS = ("issue_assigned", "issue_label", "issue_mention", "pr_review_comment", "pull_request", "push")


def policy(random: Random) -> dict[str, Any]:
    """Of two installations, each with repositories and a familiar of its own."""
    familiars = (
        {
            "familiar": {"id": "cody", "model": "a/b"},
            "bot_usernames": ["coven-cody[bot]"],
            "trigger_labels": ["coven:fix"],
        },
        {"familiar": {"id": "Devi"}, "bot_usernames": ["Coven-Devi[bot]"], "trigger_labels": ["DEVI"]},
    )
    return {
        "version": 1,
        "installations": {
            str(number): {
                "repositories": {
                    str(repo): {
                        **familiar,
                        "enabled_triggers": random.sample(ROWS, random.randint(0, 6)),
                        "publication": {"mode": "comment"},
                    }
                    for repo in random.sample(repos, random.randint(1, len(repos)))
                }
            }
            for number, repos, familiar in zip((42, 43), ((101, 102), (103,)), familiars, strict=True)
        },
    }


def test_a_policy_of_the_adapter_decides_as_it_did_on_rows_that_both_have_and_opens_nothing_else(
    tmp_path: Path,
) -> None:
    random = Random(5)
    known = {
        "familiars": [
            {"id": "cody", "bot_username": "coven-cody[bot]", "trigger_labels": ["coven:fix"]},
            {"id": "Devi", "bot_username": "Coven-Devi[bot]", "trigger_labels": ["DEVI"]},
        ]
    }
    met = set()
    for _ in range(15):
        given = policy(random)
        ours = loaded(tmp_path, json.dumps(given))
        for _ in range(20):
            one = delivery(random, known)
            reading, found = read_adapter(given, one), decided(ours, one)
            met.add((reading.kind, reading.reason, found == NOTHING))
            told = f"{json.dumps(given)}\n{one}\n{reading}\n{found}"
            if reading.reason == "no_policy_for_installation_repo":
                assert found == NOTHING, told
            elif reading.kind in ("fix_issue", "review_pull_request") and plain(one):
                assert (found.familiar, found.purpose, found.number) == (
                    reading.familiar,
                    reading.kind,
                    reading.number,
                ), told
            elif reading.kind == "mention" and found != NOTHING:
                assert found.familiar == reading.familiar, told
                assert begins_with_a_command(one, known["familiars"]), told
    assert {("fix_issue", "", False), ("review_pull_request", "", False), ("mention", "", False)} <= met
    assert ("ignored", "no_policy_for_installation_repo", True) in met


def plain(one: Delivery) -> bool:
    """Whether it has all fields, and no bot is its author."""
    subject = one.payload.get("issue") or one.payload.get("pull_request") or {}
    return (
        subject.get("number") is not None
        and "full_name" in one.payload["repository"]
        and (one.event == "issues" or (subject.get("user", {}).get("login") == "octocat" and "draft" in subject))
    )


def begins_with_a_command(one: Delivery, familiars: list[dict[str, Any]]) -> bool:
    words = one.payload["comment"]
    called = any(command(bot["bot_username"].lower(), words["body"].lower()) for bot in familiars)
    return called and words["author_association"] in ASSOCIATIONS


def test_a_policy_says_what_it_widens_and_what_has_no_counterpart(tmp_path: Path) -> None:
    repo = {
        "bot_usernames": ["a[bot]", "b[bot]"],
        "enabled_triggers": ["issues.labeled", "push", "issue_mention"],
        "x": 1,
    }
    given: dict[str, Any] = {
        "42": {
            "1": {**repo, "familiar": {"id": "cody", "skills": ["s"]}, "publication": {"mode": "comment"}},
            "2": {
                "familiar": "nova",
                "bot_usernames": ["nova"],
                "enabled_triggers": ["pull_request"],
                "default_branch": "main",
            },
        }
    }
    given["43"] = {"2": {"familiar": "cody", "bot_usernames": ["a[bot]"], "enabled_triggers": ["pull_request.opened"]}}
    found = made(tmp_path, json.dumps(given))
    said = {f"{note.fate}: {note.place}" for note in found.notes}
    assert said >= {
        "left out: installation 42 repository 1 enabled_triggers push",
        "left out: installation 42 repository 1 publication",
        "left out: installation 42 repository 1 x",
        "left out: installation 42 repository 2 default_branch",
        "changed: installation 42 repository 1 commands",
        "changed: installation 42",
        "changed: installation 43 repository 2",
        "changed: familiar cody bot_usernames",
        "to do: the App and its webhook secret",
    }
    assert "[installation.repos.1]\nlabels = true\ncommands = true\n" in found.text
    assert '[review.repos.2]\npull_request = true\ninclude_drafts = true\nfamiliar = "nova"\n' in found.text
    assert "lanes = { assignment = false, labels = false, commands = false, reviews = false }" in found.text
