"""What a daemon, or whatever listens in its place, answers is not trusted: a sentence, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from covenq.client.local import LocalSource
from covenq.client.open import open_source
from covenq.client.remote import RemoteSource
from covenq.config.load import Config
from covenq.errors import CovenqError
from covenq.net.http_client import error_of
from journal.file.open import open_journal
from journal.records import Entry
from tests.support.records import note, received
from tests.support.serving import serving

DEEP = "[" * 200_000


class Answering:
    """A client whose every answer is this."""

    where = "here"

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def get(self, path: str, params: object = None) -> object:
        return self.answer


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"seq": "\ud800"},
        {"\ud800": 1},
        {"seq": 1e300},
        {"seq": [[]]},
        {"tasks": None},
        5,
        None,
        "x",
        [],
        {"seq": 1 << 80},
    ],
)
def test_an_answer_of_another_shape_is_a_sentence(item: object) -> None:
    source = RemoteSource(Answering({"ok": True, "items": [item], "next": None, "count": item}))  # type: ignore[arg-type]
    for ask in (source.deliveries, source.tasks, source.latest_attempts, source.status, source.pauses, source.refused):
        with pytest.raises(CovenqError, match="not what this version takes"):
            ask()
    if not isinstance(item, int):
        with pytest.raises(CovenqError, match="not what this version takes"):
            source.count("tasks")


@pytest.mark.parametrize(
    "body",
    [
        DEEP, '{"x":' * 100_000, "", "[]", '"x"', '{"error":"filter_invalid","detail":"d","column":"x"}',
        '{"error":"filter_invalid","detail":"d","column":1e999}', '{"error":"ambiguous","detail":"d","ids":5}',
        '{"error":"ambiguous","detail":"d","ids":[]}',
    ],
)  # fmt: skip
def test_an_error_that_is_none_of_ours_is_an_error_all_the_same(body: str) -> None:
    assert isinstance(error_of(409, body.encode()), CovenqError)


def test_what_a_record_says_oddly_is_answered_alike_with_and_without_a_daemon(data: Path) -> None:
    """covenq never writes such a record, but whoever can write the journal can."""
    data.mkdir(exist_ok=True)
    with open_journal(data / "journal") as journal:
        odd = [[["a", 1], ["b", None]], 7, [["one"], 5, ["x", "y"]], {"a": "b"}]
        for number, headers in enumerate(odd):
            journal.append([received(f"g{number}", headers=headers)])
        first = journal.last("delivery.9.g0")
        assert first is not None
        gone = note(
            "redacted", "g0", received=first.seq, drops=[[first.seq, first.seq]], about=True, by=5, reason=["x"]
        )
        journal.append([Entry(gone.subject, gone.kind, gone.data)])
    local = LocalSource(data, Config())
    found = [local.delivery(f"g{number}") for number in range(len(odd))]
    assert [one.headers for one in found] == [[["a", "1"], ["b", ""]], None, [["x", "y"]], None]
    assert found[0].dropped_by is not None and (found[0].dropped_by.by, found[0].dropped_by.reason) == ("5", "['x']")
    with serving(data), open_source(data, Config()) as remote:
        assert isinstance(remote, RemoteSource)
        assert [remote.delivery(f"g{number}") for number in range(len(odd))] == found
