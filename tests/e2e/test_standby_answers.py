"""Everything that reads works on every node: one that stands by answers fifty questions as the one that leads does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.in_process import run_piped
from tests.support.journal_json import records
from tests.support.postgres.journals import cluster
from tests.support.questions import QUESTIONS, Answer, alike, golden_data
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgres

OF_A_NODE = {"logs", "refused", "--curl"}
"""What lies on the node that ran it, or that refused it; and the address that is asked."""


def test_a_node_that_stands_by_answers_as_the_one_that_leads(tmp_path: Path) -> None:
    servers = cluster(standby=False)
    servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    leads = golden_data(tmp_path / "a", tmp_path)
    leads.cli("pause", "worker", "--reason", "questions are asked")
    newest = records(leads.data)[-1]
    leads.cli("migrate", "--from", f"file:{leads.data}", "--to", servers.url, "--yes")
    leads.env["COVENQ_JOURNAL_URL"] = servers.url
    stands_by = Daemon(tmp_path / "b", config=leads.config, secret=leads.secret, env=leads.env, forked=True)
    try:
        leads.start()
        stands_by.start(wait=False)
        given = {"config": str(leads.config), "head": f"{newest['seq']}:{newest['sum']}"}
        asked = [one for one in QUESTIONS if not OF_A_NODE & set(one.split())]
        assert len(asked) >= 50

        def answers(node: Daemon) -> dict[str, Answer]:
            return {one: alike(one, run_piped(one.format(**given).split(), node.environment())) for one in asked}

        def folded(node: Daemon) -> bool:
            return bool(node.cli_json("status")["state"]["lag"] == 0)

        eventually(lambda: folded(leads) and folded(stands_by), 60, "both have folded all")
        assert stands_by.get("/readyz").status == 503 and "leads" in stands_by.get("/readyz").json["detail"]
        here, there = answers(leads), answers(stands_by)
        assert {one: answer for one, answer in there.items() if answer != here[one]} == {}
        for command in ("doctor", "info", "routes", "secrets", "nodes", "status"):
            assert stands_by.cli(command, exit_code=None).stdout, command
    finally:
        stands_by.kill()
        leads.kill()
