"""Additions to a configuration's text: all that stands there stays, and what can't be added so is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq.cli.commands.init import TEMPLATE
from covenq.config.secret_entry import toml_value
from covenq.config.secret_source import SecretSource
from covenq.config.toml_edit import extended
from covenq.errors import Refused

SETTINGS = [("server", "public_url", "https://covenq.example.org")]
SECRETS = [{"name": "app-7", "file": 'a "b"\\c'}, {"name": "default", "file": "s"}]
SOURCES = [SecretSource(one["name"], file=Path(one["file"])) for one in SECRETS]
APP = {"client_id": "Iv23", "id": 7, "private_key_file": "github-app.pem"}


def added(text: str) -> dict[str, object]:
    made = extended(text, SETTINGS, SOURCES, APP)
    lines = made.splitlines(keepends=True)
    for line in text.splitlines(keepends=True):  # every line is there, in its order
        if "webhook_secrets" in line and "[" in line and not line.lstrip().startswith(("#", "[")):
            continue  # the one that got more
        while lines and lines.pop(0).rstrip("\r\n") != line.rstrip("\r\n"):
            pass
        assert lines, line
    return tomllib.loads(made)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment",
        TEMPLATE,
        TEMPLATE.replace("\n", "\r\n"),
        "[server]\nbind = '127.0.0.1:1'\n[github]\ntwins = 'mark'\n[[route]]\nname = 'a'\n",
        "  [ server ]  # here\n[log]\nlevel = 'debug'",
        "[[route]]\nname = 'a'\n\n[[github.hook]]\nid = 1\n",
        "[github]\nhooks = ['1']\nwebhook_secrets = [{ name = 'a', env = 'A' }]\n[server]\n",
        "[github]\nwebhook_secrets = [ # all\n  { name = 'a', env = 'A' },\n]\n",
        "[github]\nwebhook_secrets = []\n",
        "a = '''\nwebhook_secrets = [\n'''\n",
        "[[github.webhook_secrets]]\nname = 'a'\nenv = 'A'\n\n[[github.webhook_secrets]]\nname = 'b'\nenv = 'B'\n",
    ],
)
def test_what_stands_there_stays(text: str) -> None:
    before, after = tomllib.loads(text), added(text)
    github = after["github"]
    assert isinstance(github, dict)
    assert github.pop("app") == APP
    secrets = github.pop("webhook_secrets")
    old = before.get("github", {}).pop("webhook_secrets", [])
    assert [one for one in secrets if one in SECRETS] == SECRETS
    assert [one for one in secrets if one not in SECRETS] == old
    assert after["server"].pop("public_url") == SETTINGS[0][2]  # type: ignore[attr-defined]
    assert {key: value for key, value in after.items() if value} == {
        key: value for key, value in before.items() if value
    }


@pytest.mark.parametrize(
    "text",
    [
        "github = { twins = 'mark' }\n",
        "server = { bind = '127.0.0.1:1' }\n",
        "server.bind = '127.0.0.1:1'\n",
        "[github]\napp = { id = 1, private_key_file = 'a' }\n",
        "[server]\npublic_url = 'https://a.example'\n",
        "[github.app]\nid = 1\n",
        "[github]\nwebhook_secrets = 7\n",
        "github = 1\n",
        "a = '''\n[server]\n'''\n",
    ],
)
def test_what_can_not_be_added_so_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        extended(text, SETTINGS, SOURCES, APP)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f")))
def test_any_text_is_spelt_so_that_it_is_read_as_it_was(text: str) -> None:
    assert tomllib.loads(f"a = {toml_value(text)}")["a"] == text
