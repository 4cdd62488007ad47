"""What a node that stands by is told at its start."""

from __future__ import annotations

from pathlib import Path

import pytest

from covenq.config.load import build
from covenq.daemon.start_order import unshared_secret


@pytest.mark.parametrize(
    ("github", "env", "told"),
    [
        ({}, {}, True),
        ({"webhook_secrets": [{"name": "one", "env": "ONE"}]}, {}, False),
        ({}, {"COVENQ_WEBHOOK_SECRET": "one for all of them"}, False),
    ],
)
def test_a_secret_that_other_nodes_may_not_have_is_told_of_before_this_one_leads(
    github: dict[str, object], env: dict[str, str], told: bool
) -> None:
    """Else every delivery is refused from then on: GitHub signs with one secret."""
    found = unshared_secret(build({"github": github}, None, env), Path("/data"))
    assert (found is not None and "/data/secret" in found) == told
