"""`[github.app]` and `[[github.hook]]`: what is read, what is refused, and that no key or token is read with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from covenq.config.effective import effective_settings
from covenq.config.github_api import GithubApp, GithubHook, GithubLogs, require_logs
from covenq.config.load import build
from covenq.config.secret_keys import API_SECRET, read_value
from covenq.config.secret_source import SecretSource
from covenq.errors import ConfigError
from covenq.json_text import json_text

APP = {"id": 12, "private_key_file": "app.pem"}
HOOK = {"id": 7, "repo": "octo/hello", "token": {"file": "token"}}


def logs_of(**github: Any) -> GithubLogs:
    return build({"github": github}, Path("/etc/covenq/covenq.toml"), {}).github_logs


def test_an_app_and_hooks_are_read_and_their_files_start_from_the_configurations() -> None:
    hook = {"id": 8, "org": "octo", "token": {"env": "TOKEN"}, "api_url": "http://127.0.0.1:9/api/v3/"}
    logs = logs_of(app=APP | {"api_url": "https://ghe.example.org/api/v3/"}, hook=[HOOK, hook])
    key = SecretSource("app private key", file=Path("/etc/covenq/app.pem"))
    assert logs.app == GithubApp(12, None, (key,), "https://ghe.example.org/api/v3")
    assert (logs.app.issuer, logs.app.log_path) == ("12", "/app/hook/deliveries")
    token = SecretSource("token of hook 7", file=Path("/etc/covenq/token"))
    assert logs.hooks[0] == GithubHook("7", "octo/hello", None, token, "https://ghe.example.org/api/v3")
    assert [one.log_path for one in logs.hooks] == [
        "/repos/octo/hello/hooks/7/deliveries",
        "/orgs/octo/hooks/8/deliveries",
    ]
    assert logs.hooks[1].api_url == "http://127.0.0.1:9/api/v3"
    assert len(logs.sources) == 3


def test_two_keys_while_they_rotate_and_the_client_id_before_the_number() -> None:
    app = logs_of(app={"id": 1, "client_id": "Iv1.a", "private_key_file": ["a", "b"]}).app
    assert app is not None and app.issuer == "Iv1.a"
    assert [one.file for one in app.keys] == [Path("/etc/covenq/a"), Path("/etc/covenq/b")]
    mixed = logs_of(app={"id": 1, "private_key_file": "a", "private_key_credential": "b"}).app
    assert mixed is not None and [one.credential for one in mixed.keys] == [None, "b"]


def test_nothing_is_said_of_what_is_not_configured() -> None:
    assert logs_of() == GithubLogs()
    with pytest.raises(ConfigError, match="names no delivery log"):
        require_logs(logs_of())


@pytest.mark.parametrize(
    ("github", "problem"),
    [
        ({"app": {"private_key_file": "a"}}, "github.app: needs id or client_id"),
        ({"app": {"id": 0, "private_key_file": "a"}}, "github.app.id: must be between"),
        ({"app": {"id": "12", "private_key_file": "a"}}, "github.app.id: must be a whole number"),
        ({"app": {"client_id": "a b", "private_key_file": "a"}}, "is no client id"),
        ({"app": {"id": 1}}, "needs private_key_file or private_key_credential"),
        ({"app": {"id": 1, "private_key_file": ["a", "b", "c"]}}, "has 3 private keys"),
        ({"app": {"id": 1, "private_key_file": ""}}, "private_key_file: is empty"),
        ({"app": {"id": 1, "private_key_credential": "a/b"}}, "has no slash"),
        ({"app": {"id": 1, "private_key_fil": "a"}}, "did you mean private_key_file"),
        ({"app": APP | {"api_url": "http://ghe.example.org"}}, "api_url: http://ghe.example.org must be https"),
        ({"app": APP | {"api_url": "https://me:secret@ghe.example.org"}}, "a name or a password"),
        ({"app": APP | {"api_url": "ftp://ghe.example.org"}}, "is no web address"),
        ({"hook": [{**HOOK, "org": "octo"}]}, "exactly one of repo and org"),
        ({"hook": [{**HOOK, "repo": "octo"}]}, "is not owner/name"),
        ({"hook": [{**HOOK, "repo": "octo/.."}]}, "is not owner/name"),
        ({"hook": [{**HOOK, "repo": "octo/a/b"}]}, "is not owner/name"),
        ({"hook": [{"id": 7, "org": "../x", "token": {"env": "A"}}]}, "is no organisation's name"),
        ({"hook": [{**HOOK, "id": "a/b"}]}, "is not 1 to 64 letters"),
        ({"hook": [{**HOOK, "id": True}]}, "must be a whole number"),
        ({"hook": [{**HOOK, "token": {}}]}, "token: needs exactly one of"),
        ({"hook": [{**HOOK, "token": {"fil": "a"}}]}, "did you mean file"),
        ({"hook": [HOOK, HOOK]}, "two hooks have the id 7"),
    ],
)
def test_what_can_not_be_meant_is_refused(github: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        logs_of(**github)
    assert problem in str(caught.value)
    assert "me:secret" not in str(caught.value)


def test_a_token_is_read_when_it_is_needed_and_never_shown(tmp_path: Path) -> None:
    config = build({"github": {"hook": [{**HOOK, "token": {"value": "ghp_hush"}}]}}, None, {})
    (hook,) = config.github_logs.hooks
    assert read_value(hook.token, {}, API_SECRET) == b"ghp_hush"
    assert "ghp_hush" not in repr(config)
    assert "ghp_hush" not in json_text(list(effective_settings(config, tmp_path, {})))
    missing = SecretSource("token of hook 7", file=tmp_path / "none")
    with pytest.raises(ConfigError, match="token of hook 7"):
        read_value(missing, {}, API_SECRET)
