"""[server] public_url: https but for this machine, without what is put behind it."""

from __future__ import annotations

import pytest

from covenq.config.load import build
from covenq.errors import ConfigError


def url_of(**server: str) -> str | None:
    return build({"server": server}, None, {}).public_url


def test_an_address_is_taken_without_a_slash_at_its_end() -> None:
    assert url_of() is None
    assert url_of(public_url="https://covenq.example.org/") == "https://covenq.example.org"
    assert url_of(public_url="https://example.org:8443/covenq") == "https://example.org:8443/covenq"
    assert url_of(public_url="http://127.0.0.1:8787") == "http://127.0.0.1:8787"
    assert url_of(public_url="https://example.org/webhook", path="/hook") == "https://example.org/webhook"
    assert url_of(public_url="https://example.org/", path="/") == "https://example.org"


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"public_url": "http://covenq.example.org"}, "http://covenq.example.org must be https"),
        (
            {"public_url": "https://covenq.example.org/webhook/"},
            "https://covenq.example.org/webhook ends with /webhook",
        ),
        ({"public_url": "https://covenq.example.org/a/b", "path": "/a/b"}, "ends with /a/b"),
        ({"public_url": "https://me:hush@covenq.example.org"}, "a name or a password"),
        ({"public_url": "https://covenq.example.org?x=1"}, "no query"),
        ({"public_url": "covenq.example.org"}, "no web address"),
        ({"public_url": ""}, "no web address"),
        ({"public_url": "https://covenq.example.org/" + "x" * 500}, "over 500 characters"),
        ({"public_url": 7}, "must be a text"),
    ],
)
def test_what_is_none_is_refused(server: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        url_of(**server)
    assert "server.public_url: " in str(refused.value) and said in str(refused.value)
    assert "hush" not in str(refused.value)
