"""[node]: a name that is a word, and an address that others could reach; the environment goes before the file."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from covenq.config.effective import effective_settings
from covenq.config.load import Config, build
from covenq.daemon.listeners import bind
from covenq.errors import ConfigError


def built(env: dict[str, str] | None = None, **node: object) -> Config:
    return build({"node": node}, None, env or {})


@pytest.mark.parametrize("name", ["a", "web-1.example.org", "N_2", "x" * 64])
def test_a_name_is_a_word(name: str) -> None:
    assert built(name=name).node.name == name


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        ("10.0.0.5:8787", "10.0.0.5:8787"),
        ("node-a.example.org:80", "node-a.example.org:80"),
        ("[fd00::5]:8787", "[fd00::5]:8787"),
        ("https://node-a.example.org/", "https://node-a.example.org"),
        ("http://10.0.0.5:8080/covenq", "http://10.0.0.5:8080/covenq"),
    ],
)
def test_an_address_is_host_and_port_or_a_url(address: str, taken: str) -> None:
    assert built(address=address).node.address == taken


def test_without_the_section_there_is_neither() -> None:
    found = build({}, None, {}).node
    assert (found.name, found.address) == (None, None)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("name", "", "is not 1 to 64"),
        ("name", "x" * 65, "is not 1 to 64"),
        ("name", "node a", "'node a' is not 1 to 64"),
        ("name", "a/", "is not 1 to 64"),
        ("name", "a\n", "is not 1 to 64"),
        ("name", 7, "must be a text"),
        ("address", "", "is no address"),
        ("address", "node-a", "is no host:port"),
        ("address", "node-a:8787/webhook", "is no host:port"),
        ("address", "node-a:0", "is no address"),
        ("address", "node-a:99999", "is no address"),
        ("address", "ftp://node-a:21", "is no host:port"),
        ("address", "https://node-a?x=1", "is no address"),
        ("address", "0.0.0.0:8787", "stands for every address"),
        ("address", "http://[::]:8787", "stands for every address"),
        ("address", "https://me:hush@node-a", "a name or a password"),
        ("address", "https://node-a/" + "x" * 500, "over 500 characters"),
        ("api", "node-a:8788", "'node-a:8788' is no URL"),
        ("api", "https://[::]:8788", "stands for every address"),
        ("api", "https://me:hush@node-a", "a name or a password"),
        ("nmae", "a", "did you mean name?"),
    ],
)
def test_what_is_none_is_refused(key: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        built(**{key: value})
    assert f"node.{key}: " in str(refused.value) and said in str(refused.value)
    assert "hush" not in str(refused.value)


def test_where_its_api_is_asked_is_a_url() -> None:
    assert built(api="https://node-a.example.org:8788/").node.api == "https://node-a.example.org:8788"
    assert built({"COVENQ_NODE_API": "https://b"}, api="https://a").node.api == "https://b"


@pytest.mark.parametrize(
    ("config", "asked"),
    [
        ({}, ""),
        ({"api": {"bind": "127.0.0.1:0"}}, "http://127.0.0.1:{port}"),
        (
            {"api": {"bind": "0.0.0.0:0"}, "node": {"address": "https://node-a.example.org"}},
            "http://node-a.example.org:{port}",
        ),
        ({"api": {"bind": "0.0.0.0:0"}, "node": {"address": "[fd00::5]:8787"}}, "http://[fd00::5]:{port}"),
        ({"api": {"bind": "0.0.0.0:0"}, "server": {"bind": "0.0.0.0:0"}}, ""),
        ({"api": {"bind": "127.0.0.1:0"}, "node": {"api": "https://a"}}, "https://a"),
        ({"node": {"api": "https://a"}}, "https://a"),
    ],
)
def test_others_ask_its_api_where_it_listens(config: dict[str, Any], asked: str) -> None:
    server = {"bind": "127.0.0.1:0"} | config.get("server", {})
    found = build({**config, "server": server}, None, {})
    with ExitStack() as cleanup:
        sockets = bind(found, cleanup)
        port = None if sockets.api is None else sockets.api.getsockname()[1]
        assert sockets.node_api(found) == asked.format(port=port)


def test_the_environment_goes_before_the_file_and_is_checked_alike() -> None:
    env = {"COVENQ_NODE_NAME": "b", "COVENQ_NODE_ADDRESS": "10.0.0.6:1"}
    found = built(env, name="a", address="10.0.0.5:1").node
    assert (found.name, found.address) == ("b", "10.0.0.6:1")
    assert built({"COVENQ_NODE_NAME": ""}, name="a").node.name == "a"
    for variable, value in (("COVENQ_NODE_NAME", "b c"), ("COVENQ_NODE_ADDRESS", "b")):
        with pytest.raises(ConfigError, match=f"^{variable} '{value}' is n"):
            built({variable: value})


def test_the_settings_in_effect_say_where_they_are_from() -> None:
    def shown(config: Config, env: dict[str, str]) -> list[tuple[object, str, str | None]]:
        found = {one["name"]: one for one in effective_settings(config, Path("/d"), env)}
        return [(one["value"], one["source"], one["by"]) for one in (found["node.name"], found["node.address"])]

    env = {"COVENQ_NODE_NAME": "b"}
    assert shown(built({}), {}) == [(None, "default", None), ("127.0.0.1:8787", "default", None)]
    assert shown(built(env, address="10.0.0.5:1"), env) == [
        ("b", "environment", "COVENQ_NODE_NAME"),
        ("10.0.0.5:1", "default", None),  # there is no file that it could be found in
    ]
