"""A further webhook secret in a configuration's text: in whatever style it is written, and with nothing else changed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from covenq.config.load import build
from covenq.config.secret_entry import inline, with_secrets
from covenq.config.secret_source import Scope, SecretSource

NEW = SecretSource("app-r2", file=Path("/etc/covenq/a b\"c\\d'é"), scope=Scope(("9",), (7,), ("octo/hello", "acme/*")))
ENTRY = {
    "name": "app-r2",
    "file": "/etc/covenq/a b\"c\\d'é",
    "hooks": ["9"],
    "installations": [7],
    "repositories": ["octo/hello", "acme/*"],
}
ROUTE = '\n# the end\n[[route]]\nname = "fix"\nmatch = "event:issues"\nrun = ["true"] # webhook_secrets = [\n'

STYLES = {
    "one line": '# webhook_secrets = [{}]\n[github]\nwebhook_secrets = [{ name = "app", file = "app" }] # rotate\n',
    "lines": '[github]\nhooks = ["9"]\nwebhook_secrets = [ # those\n    { name = "app", file = "app" },\n]\n',
    "lines of windows": '[github]\r\nwebhook_secrets = [\r\n  { name = "app", file = "app" },\r\n]\r\n',
    "empty": "[github]\nwebhook_secrets = []\n",
    "tables": '[[github.webhook_secrets]]\nname = "app"\nfile = "app"\n[github.app]\nid = 1\nprivate_key_file = "k"\n',
    "none": "[github]\n# nothing\n[github.app]\nid = 1\nprivate_key_file = 'k'\n",
    "no section": '[server]\nbind = "127.0.0.1:1"\n',
    "nothing at all": "",
    "dotted": 'github.webhook_secrets = [{ name = "app", file = "app" }]\n',
    "quoted": '["github"]\n"webhook_secrets" = [{ name = "app", file = "app" }]\n',
    "a table in a line": 'github = { webhook_secrets = [{ name = "app", file = "app" }], hooks = ["9"] }\n',
    "a bracket in a text": '[server]\ndata = "webhook_secrets=["\n[github]\nwebhook_secrets = [{ name = "app", file = "app" }]\n',
}


@pytest.mark.parametrize("text", STYLES.values(), ids=STYLES)
@pytest.mark.parametrize("rest", ["", ROUTE], ids=["alone", "before routes"])
def test_an_entry_is_added_and_nothing_else_changes(text: str, rest: str) -> None:
    text += rest
    written = with_secrets(text, [NEW])
    assert written is not None
    before, after = tomllib.loads(text), tomllib.loads(written)
    there = before.get("github", {}).get("webhook_secrets", [])
    secrets = after["github"].pop("webhook_secrets")
    assert sorted(secrets, key=str) == sorted([*there, ENTRY], key=str)
    before.setdefault("github", {}).pop("webhook_secrets", None)
    assert after == before
    for line in text.splitlines():  # every comment stays, and every line that isn't the list's
        assert line.split("[")[0] in written
    config = build(after, Path("/x/covenq.toml"), {})
    assert config.routes == build(before, Path("/x/covenq.toml"), {}).routes


def test_several_come_in_their_order() -> None:
    written = with_secrets("[github]\n", [SecretSource("default", file=Path("/d/secret")), NEW])
    assert written is not None
    assert [one["name"] for one in tomllib.loads(written)["github"]["webhook_secrets"]] == ["default", "app-r2"]


@pytest.mark.parametrize(
    "text",
    ["github = {}\n", "github = 3\n", "[github]\nwebhook_secrets = 3\n"],
    ids=["in a line", "a number", "no list"],
)
def test_what_can_not_be_extended_is_left_alone(text: str) -> None:
    """A table in a line can't have an array of tables behind it: the operator is told what to write."""
    assert with_secrets(text, [NEW]) is None


def test_a_text_that_looks_like_the_list_is_not_taken_for_it() -> None:
    """Both are on the line of one statement, so that the list's own place isn't known."""
    text = "github = { hooks = ['webhook_secrets = ['], webhook_secrets = [{ name = 'app', file = 'app' }] }\n"
    assert with_secrets(text, [SecretSource("app-r2", file=Path("/a"))]) is None


@pytest.mark.parametrize("name", ["a\x7fb", "\ud800"])
def test_a_path_that_toml_can_not_write_is_not_written(name: str) -> None:
    assert with_secrets("[github]\n", [SecretSource("app", file=Path(name))]) is None


def test_the_line_for_an_operator_is_toml() -> None:
    assert tomllib.loads(f"x = {inline(NEW)}")["x"] == ENTRY
    assert tomllib.loads(f"x = {inline(SecretSource('e', env='A'))}")["x"] == {"name": "e", "env": "A"}
    assert tomllib.loads(f"x = {inline(SecretSource('e', credential='a'))}")["x"] == {"name": "e", "credential": "a"}
