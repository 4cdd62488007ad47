"""covenq doctor on the nodes that share a journal: what is wrong with any, and whether each is reached where it says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from covenq.config.load import build
from covenq.model.journal_status import DatabaseStatus
from covenq.model.status import KnownNode
from covenq.operate.maintain import doctor_nodes
from covenq.operate.maintain.doctor import examine
from covenq.operate.maintain.doctor_nodes import EXAMINED_MAX, TRIED_MAX, node_findings, unhealthy
from covenq.operate.maintain.finding import BAD, GOOD, WARN, DoctorContext, Finding
from tests.support.answers import AGO, NOW, STATUS
from tests.support.raw_server import head_of, ok, raw_server

ALPHA = KnownNode("a1", "alpha", "10.0.0.5:8787", "leads", True, AGO, AGO, "1.0", 0, False)
BETA = KnownNode("b1", "beta", "10.0.0.6:8787", "standby", False, AGO, AGO, "1.0", 0, False)


class Asked:
    """What is asked in the place of nodes: which answers, all but those of `silent`."""

    def __init__(self, silent: Mapping[str, str] | None = None) -> None:
        self.urls: list[str] = []
        self._silent = silent or {}

    def __call__(self, url: str) -> str | None:
        self.urls.append(url)
        return self._silent.get(url)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_nodes, "ASK_S", 60.0)
    monkeypatch.setattr(doctor_nodes, "GIVEN_UP_S", 60.0)


def found(*nodes: KnownNode, ask: Callable[[str], str | None] | None = None) -> list[Finding]:
    return list(node_findings(replace(STATUS, nodes=list(nodes)), NOW, ask or Asked()))


def bad(*nodes: KnownNode, ask: Callable[[str], str | None] | None = None) -> list[str]:
    """What is warned of."""
    return [one.words for one in found(*nodes, ask=ask) if one.level == WARN]


def beta(**given: Any) -> KnownNode:
    return replace(BETA, **given)


def test_one_node_or_none_is_no_finding() -> None:
    asked = Asked()
    assert not found(ask=asked) and not found(ALPHA, ask=asked) and not list(node_findings(None, NOW, asked))
    assert not asked.urls


def test_nodes_with_which_all_is_well_are_one_line() -> None:
    asked = Asked()
    assert found(BETA, ALPHA, ask=asked) == [Finding("nodes", GOOD, "2 nodes: alpha (here) leads")]
    assert asked.urls == ["http://10.0.0.5:8787", "http://10.0.0.6:8787"]


def test_that_none_leads_is_a_problem() -> None:
    [one] = found(replace(ALPHA, state="standby"), BETA)
    assert (one.level, one.words, one.next) == (BAD, "2 nodes: none leads, so nothing is received", "covenq nodes")


def test_a_node_that_is_away_is_a_warning_and_one_that_was_stopped_is_not_and_neither_is_tried() -> None:
    asked = Asked()
    _, one = found(ALPHA, beta(state="away"), beta(id="c1", name="gamma", state="stopped"), ask=asked)
    assert one.level == WARN and one.words == "node beta has said nothing for 5m"
    assert one.next is not None and "covenq serve there" in one.next and "forgotten after 30 days" in one.next
    assert asked.urls == ["http://10.0.0.5:8787"]


def test_while_the_database_is_away_it_is_told_how_old_that_is_what_is_known() -> None:
    journal = replace(STATUS.journal, database=DatabaseStatus(away_s=120.0))
    [one] = node_findings(replace(STATUS, nodes=[ALPHA, BETA], journal=journal), NOW, Asked())
    assert one.words == "2 nodes as they were seen 2m ago, when the database last answered: alpha (here) leads"


def test_another_configuration_is_a_warning() -> None:
    _, one = found(ALPHA, beta(other_config=True))
    assert one.words == "node beta runs with another configuration than this one" and "SIGHUP" in (one.next or "")


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8787", "localhost:8787", "[::1]:8787", "169.254.3.4:8787", "[fe80::1]:80"]
)
def test_an_address_of_one_machine_alone_is_a_warning_beside_others(address: str) -> None:
    asked = Asked()
    _, one = found(ALPHA, beta(address=address), ask=asked)
    assert one.words == f"node beta is reached at {address}, it says, where no other machine reaches it"
    assert one.next is not None and "[node] address" in one.next and "[server] bind" in one.next
    assert asked.urls == ["http://10.0.0.5:8787"]


def test_nodes_that_are_all_of_one_machine_are_tried() -> None:
    here, other = replace(ALPHA, address="127.0.0.1:1"), beta(address="127.0.0.1:2")
    assert not bad(here, other)
    [words] = bad(here, other, ask=Asked({"http://127.0.0.1:2": "Connection refused"}))
    assert words.startswith("node beta doesn't answer at 127.0.0.1:2")


def test_two_that_say_the_same_address_are_told_once_and_one_that_was_stopped_is_not_meant() -> None:
    [words] = bad(ALPHA, beta(address="http://10.0.0.5:8787"))
    assert words.startswith("nodes alpha and beta say the same address, http://10.0.0.5:8787")
    assert not bad(ALPHA, beta(address=ALPHA.address, state="stopped"))


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("0.0.0.0:8787", "stands for every address"),
        ("file:///etc/passwd", "is no host:port"),
        ("http://10.0.0.6:99999", "is no address that other nodes could reach"),
        ("10.0.0.6:8787/\x1b[2J", "is no address"),
        ("10.0.0.6:8787\r\nX: y", "is no address"),
        ("http://user:secret@10.0.0.6", "is an address with a name or a password in it"),
        ("a" * 100_000, "is of over 500 characters"),
    ],
)
def test_what_is_no_address_is_told_and_not_tried(address: str, words: str) -> None:
    asked = Asked()
    [told] = bad(ALPHA, beta(address=address), ask=asked)
    assert told.startswith("node beta: its address ") and words in told
    assert told.isprintable() and len(told) < 300 and "secret" not in told
    assert asked.urls == ["http://10.0.0.5:8787"]


def test_a_node_that_does_not_answer_is_a_warning() -> None:
    _, one = found(ALPHA, BETA, ask=Asked({"http://10.0.0.6:8787": "it took too long"}))
    assert one.level == WARN and one.next is not None and "[node] address" in one.next and "[server] bind" in one.next
    assert (
        one.words == "node beta doesn't answer at 10.0.0.6:8787, where others pass deliveries to it: it took too long"
    )


def test_a_node_that_starts_or_that_nothing_is_posted_to_is_not_tried() -> None:
    asked = Asked()
    assert not bad(ALPHA, beta(version=None, behind=None), beta(id="c1", address=None), ask=asked)
    assert asked.urls == ["http://10.0.0.5:8787"]


def test_few_are_tried_and_names_are_bounded() -> None:
    asked = Asked()
    many = [
        beta(id=str(at), name="n" * 10_000, address=f"10.0.1.{at % 250}:{at + 1}", other_config=True)
        for at in range(500)
    ]
    first, *others = found(*many, ALPHA, ask=asked)
    assert first.words == f"501 nodes, of which {EXAMINED_MAX} are looked at: alpha (here) leads"
    assert len(asked.urls) == TRIED_MAX and len(others) == EXAMINED_MAX - 1
    assert all(len(one.words) < 200 for one in others)


def test_what_an_absent_node_owes_is_told_of_a_bounded_address() -> None:
    told = bad(ALPHA, beta(state="away", owes=2, address="a" * 100_000))
    assert len(told) == 2 and "has to remove" in told[1] and len(told[1]) < 1000


def test_doctor_tells_of_nodes(tmp_path: Path) -> None:
    asked = Asked({"http://10.0.0.6:8787": "it took too long"})
    config = build({"server": {"bind": "127.0.0.1:0"}}, None, {})
    context = DoctorContext(config, tmp_path, {}, replace(STATUS, nodes=[ALPHA, BETA]), None, None, NOW)
    told = [one for one in examine(context, command=lambda name: name, ask=asked) if one.check == "nodes"]
    assert [one.level for one in told] == [GOOD, WARN]


def test_a_listener_that_answers_is_healthy_whatever_else_it_says() -> None:
    heads: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        heads.append(head_of(connection))
        connection.sendall(ok(b"\x1b[2J"))

    with raw_server(answer) as port:
        assert unhealthy(f"http://127.0.0.1:{port}") is None
        assert unhealthy(f"http://127.0.0.1:{port}/below") is None
    assert [head.split(b"\r\n")[0] for head in heads] == [b"GET /healthz HTTP/1.1", b"GET /below/healthz HTTP/1.1"]


def test_what_else_a_listener_answers_is_told_in_own_words() -> None:
    def redirect(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(
            b"HTTP/1.1 302 \x1b[2JSECRET\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 6\r\n\r\nSECRET"
        )

    def noise(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"\x1b[2JSECRET\r\n\r\n")

    with raw_server(redirect) as port:
        assert unhealthy(f"http://127.0.0.1:{port}") == "it answers GET /healthz with 302"
    with raw_server(noise) as port:
        said = unhealthy(f"http://127.0.0.1:{port}")
    assert said is not None and said.startswith("it does not speak HTTP") and "SECRET" not in said


def test_where_nobody_listens_the_connection_is_refused() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert unhealthy(f"http://127.0.0.1:{bound.getsockname()[1]}") == "Connection refused"


def test_a_listener_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_nodes, "ASK_S", 0.05)
    done = threading.Event()

    def silent(connection: socket.socket) -> None:
        done.wait(30)

    with raw_server(silent) as port:
        assert unhealthy(f"http://127.0.0.1:{port}") == "it took too long"
        done.set()


def test_what_never_comes_back_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the look-up of a name, which nothing ends."""
    done = threading.Event()

    def hangs(url: str) -> None:
        done.wait(30)

    monkeypatch.setattr(doctor_nodes, "GIVEN_UP_S", 0.05)
    monkeypatch.setattr(doctor_nodes, "_asked", hangs)
    assert unhealthy("http://node-b.example.org") == "it took too long"
    done.set()
