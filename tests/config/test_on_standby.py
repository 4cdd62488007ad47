"""`[worker] on_standby` and `token_file`: where they say something, and what is said where they can't."""

from __future__ import annotations

from pathlib import Path

import pytest

from covenq.config.load import build
from covenq.errors import ConfigError
from tests.support.serving import serving

TOML = Path("/etc/covenq/covenq.toml")
JOURNAL = {"engine": "postgres", "url": "postgresql://db/covenq"}
WORKER = {"on_standby": True, "token_file": "token"}


def test_the_file_of_the_token_is_beside_the_configuration() -> None:
    assert build({"journal": JOURNAL, "api": {}, "worker": WORKER}, TOML, {}).on_standby == Path("/etc/covenq/token")
    by_variable = {"COVENQ_JOURNAL_URL": JOURNAL["url"]}
    assert build({"api": {}, "worker": WORKER}, TOML, by_variable).on_standby == Path("/etc/covenq/token")
    for worker in ({}, {"on_standby": False}):
        assert build({"journal": JOURNAL, "api": {}, "worker": worker}, TOML, {}).on_standby is None


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"api": {}, "worker": WORKER}, "for nodes that share a journal"),
        ({"journal": JOURNAL, "worker": WORKER}, "needs an [api] section"),
        ({"journal": JOURNAL, "api": {}, "worker": {"on_standby": True}}, "needs token_file"),
        ({"journal": JOURNAL, "api": {}, "worker": {"token_file": "token"}}, "is for on_standby = true"),
    ],
)
def test_what_could_never_work_is_refused(raw: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("[", "\\[")):
        build(raw, TOML, {})


def test_a_node_without_it_gives_its_commands_to_no_other(data: Path) -> None:
    with serving(data) as served:
        asked = {"worker": "w", "node": "b"}
        named = served.ask("/api/v1/claims", {**asked, "routes": ["r"]})
        assert (named.status, named.json["error"]) == (409, "refused") and "on_standby" in named.json["hint"]
        assert served.ask("/api/v1/claims", asked).status == 400
