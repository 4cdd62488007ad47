"""A pooler in front of the server: one that keeps a session for each client is as the server; another one is refused by all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest

from journal.engines import open_reader
from journal.migration import DatabaseStore, FileStore, Migration
from journal.postgres.connections import SessionsShared
from journal.postgres.engine import PostgresJournal
from journal.postgres.open import open_journal, prepare
from journal.postgres.verify import verify
from journal.records import Appended
from tests.support.journals.entries import delivery
from tests.support.postgres.pooler import Pooler
from tests.support.postgres.server import Cluster

pytestmark = pytest.mark.postgres

Opened = Callable[[], PostgresJournal]
Behind = Callable[..., str]


@pytest.fixture
def behind(servers: Cluster, tmp_path: Path) -> Iterator[Behind]:
    """behind(shared=…) → the URL of a pooler in front of the server"""
    with ExitStack() as stack:

        def make(*, shared: bool) -> str:
            stack.enter_context(closing(Pooler(tmp_path / "pooler", servers.base, servers.primary.port, shared=shared)))
            return servers.url.replace(str(servers.base), str(tmp_path / "pooler"))

        yield make


def test_one_that_keeps_sessions_is_as_the_server(opened: Opened, behind: Behind) -> None:
    opened().close()
    url = behind(shared=False)
    with open_journal(url) as journal:
        for number in range(1, 20):
            assert journal.append([delivery(number)]) == Appended((number,))
            assert journal.get(number) is not None
        head = journal.head()
    found = verify(url)
    assert found.ok and found.head == head


def test_one_that_shares_sessions_is_refused(opened: Opened, behind: Behind, servers: Cluster, tmp_path: Path) -> None:
    opened().append([delivery(1)])
    opened().close()
    url = behind(shared=True)
    database, files = DatabaseStore(url, "postgresql:"), FileStore(tmp_path / "files")
    acts: list[Callable[[], object]] = [
        lambda: open_journal(url),
        lambda: prepare(url),
        lambda: open_reader(url),
        lambda: verify(url),
        Migration(database, files).estimate,
        Migration(files, database).estimate,
    ]
    for act in acts:
        with pytest.raises(SessionsShared, match="a pooler in front of the database") as raised:
            act()
        assert raised.value.exit_code == 4 and "pool_mode = session" in raised.value.hint
    # Nothing was set in a session that others are given next.
    with psycopg.connect(url) as other:
        assert other.execute("SHOW search_path").fetchone() == ('"$user", public',)
    with open_journal(servers.url) as journal:
        assert journal.append([delivery(2)]) == Appended((2,))
