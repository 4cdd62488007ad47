"""Tables that an older covenq made are brought up to this one's, by a role that may, and keep all that they hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from journal.errors import FormatUnknown
from journal.postgres import schema
from journal.postgres.open import open_journal
from journal.postgres.reader import open_reader
from journal.postgres.schema import SchemaForbidden, upgrade_script
from journal.postgres.verify import verify
from journal.records import Appended, Node
from tests.support.journals.entries import delivery
from tests.support.postgres.server import Cluster

pytestmark = pytest.mark.postgres

NODE = Node("a1", "alpha", "")
COLUMNS = """SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
  WHERE table_schema = 'covenq' ORDER BY table_name, column_name"""


def make_older(servers: Cluster) -> None:
    """As version 1 had them: without what `upgrade.sql` adds."""
    statements = re.sub(r"CREATE TABLE.*?;", "DROP TABLE covenq.node;", upgrade_script(), flags=re.DOTALL)
    statements = re.sub(r"ADD COLUMN (\w+)[^,;]*", r"DROP COLUMN \1", statements)
    statements = statements.replace("version = 2 WHERE version = 1", "version = 1")
    assert "ADD" not in statements
    servers.sql(statements)


def test_they_are_as_new_ones_and_hold_what_they_held(servers: Cluster) -> None:
    servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    with open_journal(servers.url) as journal:
        assert journal.append([delivery(1)]) == Appended((1,))
    made = servers.sql(COLUMNS)
    make_older(servers)
    assert servers.sql(COLUMNS) != made
    with pytest.raises(FormatUnknown, match="of version 1") as refused:
        open_reader(servers.url)
    assert "`covenq serve` brings them up" in refused.value.hint
    with open_journal(servers.url) as journal:
        assert journal.append([delivery(2)]) == Appended((2,))
    assert servers.sql(COLUMNS) == made
    assert verify(servers.url).ok


def test_a_role_that_owns_nothing_is_told_whose_it_is_to_do(servers: Cluster, tmp_path: Path) -> None:
    servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    open_journal(servers.url).close()
    servers.sql("DROP ROLE IF EXISTS tenant")
    servers.sql("CREATE ROLE tenant LOGIN")
    try:
        servers.sql(schema.grants().replace(":writer", "tenant").replace(":reader", "covenq_reader"))
        tenant = servers.url.replace("covenq@", "tenant@")
        open_journal(tenant, node=NODE).close()
        make_older(servers)
        with pytest.raises(SchemaForbidden, match="of version 1") as refused:
            open_journal(tenant, node=NODE)
        assert refused.value.lacking == "version" and "covenq init --postgres" in refused.value.hint
        servers.sql(upgrade_script())
        with pytest.raises(Exception, match="may not") as lacks:
            open_journal(tenant, node=NODE)
        assert "covenq init --postgres" in lacks.value.hint  # type: ignore[attr-defined]
        servers.sql(schema.grants().replace(":writer", "tenant").replace(":reader", "covenq_reader"))
        open_journal(tenant, node=NODE).close()
    finally:
        servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
        servers.sql("DROP OWNED BY tenant")
        servers.sql("DROP ROLE tenant")
