"""`show` and `why` take how an id begins, where only one begins so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from covenq.cli.id_prefix import whole_id, whole_ids
from covenq.client.open import open_source
from covenq.errors import UsageError
from tests.support.daemon import Daemon
from tests.support.journals.chosen import config_in, open_chosen
from tests.support.records import of, queued, received
from tests.support.requests import issue

ONE, OTHER = "72d3162e-cc78-11e3-81ab-4c9367dc0958", "72d3999e-cc78-11e3-81ab-4c9367dc0958"


@pytest.fixture
def here(data: Path) -> Path:
    data.mkdir(mode=0o700)
    with open_chosen(data) as journal:
        for guid in (ONE, OTHER, "short", "short-and-long"):
            journal.append([received(guid), queued(guid)])
        journal.append([received(ONE, hook="77")])
    return data


def test_the_only_one_that_begins_so_is_meant(here: Path) -> None:
    with open_source(here, config_in(here)) as source:
        assert whole_id(source, "72d3999") == f"9/{OTHER}"
        assert whole_id(source, "77/72d3") == f"77/{ONE}"
        assert whole_id(source, of(OTHER)[:8]) == of(OTHER)
        assert whole_id(source, "short") == "short", "which is one, and begins another"
        for unknown in (
            "72d4",
            "72d",
            "nobody",
            of(ONE),
            ONE,
            "octo/hello#7",
            "*",
            "https://github.com/octo/hello/pull/7",
        ):
            assert whole_id(source, unknown) == unknown


def test_several_are_listed(here: Path) -> None:
    with open_source(here, config_in(here)) as source, pytest.raises(UsageError) as caught:
        whole_id(source, "72d3162e")
    assert str(caught.value) == f"several ids begin with 72d3162e: 77/{ONE}, 9/{ONE}"


def test_what_acts_takes_one_of_its_own_kind(here: Path) -> None:
    task = of(OTHER)
    with open_source(here, config_in(here)) as source:
        assert whole_ids(source, ["72d3999", "77/72d3", "72d3999e", "nobody"], tasks=False) == [
            f"9/{OTHER}",
            f"77/{ONE}",
            "nobody",
        ]
        assert whole_ids(source, [task[:9], task, "72d3999"], tasks=True) == [task, "72d3999"]
        assert whole_ids(source, [task[:9]], tasks=False) == [task[:9]]
        with pytest.raises(UsageError, match="several ids begin with 72d3: "):
            whole_ids(source, ["72d3"], tasks=False)


def test_show_and_why_take_one_with_a_daemon_and_without(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    daemon.post("issues", issue(1), ONE)
    for _ in range(2):
        assert ONE in daemon.cli("show", "72d3").stdout.decode()
        assert daemon.cli("show", "72d3", "--path", ".issue.number").stdout == b"1\n"
        assert ONE in daemon.cli("why", "72d3").stdout.decode()
        assert b"hint: " in daemon.cli("show", "72d4", exit_code=3).stderr
        for short in ("72d", "446581321/7"):
            for command in ("show", "why"):
                assert b"from 4 characters on" in daemon.cli(command, short, exit_code=3).stderr
        daemon.kill()


def test_of_what_was_refused_show_and_logs_name_the_command_that_knows_it(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    assert daemon.post("issues", issue(1), "bad-sig", secret="another's").status == 401
    assert daemon.post("issues", issue(1), "ab", secret="another's").status == 401
    daemon.post("issues", issue(1), ONE)
    for _ in range(2):
        for command in ("show", "logs"):
            for id in ("bad-sig", "446581321/bad-sig", "ab"):
                said = daemon.cli(command, id, exit_code=3).stderr.decode()
                assert f"hint: A request that said it was that was refused: `covenq why {id}` tells why." in said, said
            said = daemon.cli(command, "bad-sign", exit_code=3).stderr.decode()
            assert "list what there is" in said
        for id in ("bad-sig", "bad-s"):
            assert "signature_wrong" in daemon.cli("why", id, exit_code=3).stderr.decode()
        assert "that was refused" not in daemon.cli("show", ONE, "--path", ".none", exit_code=3).stderr.decode()
        daemon.kill()
