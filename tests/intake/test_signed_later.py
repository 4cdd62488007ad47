"""Signed bytes that come for a delivery that is held without its signature: by webhook, by import, and both at once."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from covenq.config.secret_keys import Key
from covenq.intake.answer import Answer
from covenq.intake.receive import Request
from covenq.intake.resume import resume
from covenq.intake.scope_bindings import ScopeBindings
from covenq.model import DeliveryId, task_id
from covenq.model.rows import Delivery
from covenq.operate.act.archive import read
from covenq.operate.act.importing import SigningSecrets, import_deliveries
from covenq.operate.answers import ALREADY_HERE, OTHER_BODY, Imported
from covenq.operate.imported import ImportedDelivery
from covenq.operate.inspect import view
from covenq.operate.inspect.why import why
from covenq.operate.parameters import Import
from journal.records import Entry
from tests.support.delivery_details import PLAIN, Number, Style, detail
from tests.support.intake import FORM, SECRETS, House
from tests.support.journal_json import journal_lines
from tests.support.requests import issue, sign

ID = DeliveryId("30", "g-1")
ODD = Style(blank=" ")
"""No way in which GitHub writes, so that what it signed can't be rebuilt."""
PAYLOAD = {**issue(7), "odd": "über <b>", "n": Number("1.50")}
SIGNED = ODD.write(PAYLOAD).encode()
TASKS = [task_id(ID, name, 0) for name in ("r0", "r1")]


def nothing(id: DeliveryId, seq: int) -> Delivery | None:
    """A state that isn't there."""
    return None


@pytest.fixture
def house(journal_engine: None, tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path).open()
    yield made
    made.close()


def listed(payload: Any = PAYLOAD, signed: bytes = SIGNED, **more: Any) -> list[ImportedDelivery]:
    """A delivery as GitHub's log has it."""
    text = detail(PLAIN.write(payload), signed, guid="g-1", **more)
    return [one for one in read(io.BytesIO(text), "GitHub's answer") if isinstance(one, ImportedDelivery)]


def take(
    house: House,
    items: Sequence[ImportedDelivery] | None = None,
    *,
    keys: Sequence[Key] = SECRETS,
    journal: Any = None,
    **more: Any,
) -> Imported:
    def rows() -> Any:
        house.store.catch_up()
        return house.store.reader()

    wanted = Import(items=list(listed() if items is None else items), **{"routed": True, **more})
    to = house.journal if journal is None else journal
    secrets = SigningSecrets(keys, ScopeBindings(house.journal))
    return import_deliveries(to, house.config, secrets, rows, wanted, lambda: 1_800_000_000.0)


def webhook(body: bytes = SIGNED, **headers: str) -> Request:
    named = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "issues",
        "X-GitHub-Delivery": "g-1",
        "X-GitHub-Hook-ID": "30",
        "X-Hub-Signature-256": sign(body),
    }
    return Request(list({**named, **headers}.items()), body)


def noted(secret: str = "test", body: bytes = SIGNED, source: str = "http", received: int = 1) -> dict[str, object]:
    sha256 = hashlib.sha256(body).hexdigest()
    told = {"received": received, "payload_sha256": sha256, "payload_bytes": len(body)}
    return {**told, "secret": secret, "source": source}


FORM_BODY = b"payload=" + quote_plus(SIGNED).encode()
REORDERED = json.dumps(dict(reversed(json.loads(SIGNED).items()))).encode()


@pytest.mark.parametrize("lookup", [None, nothing], ids=["folded", "fold_stopped"])
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (SIGNED, {}),
        (PLAIN.write(PAYLOAD).encode(), {}),
        (REORDERED, {}),
        (FORM_BODY, {"Content-Type": FORM}),
    ],
    ids=["blanks", "as_held", "other_order", "form"],
)
def test_signed_bytes_of_what_is_held_without_are_a_duplicate_and_noted(
    house: House, lookup: Any, body: bytes, headers: dict[str, str]
) -> None:
    assert take(house, keys=()).unverified == ["30/g-1"]
    more = {} if lookup is None else {"lookup": lookup}
    for _ in range(2):
        answer = house.send(webhook(body, **headers), **more)
        assert (answer.status, answer.body["duplicate"], answer.body["seq"]) == (200, True, 1)
        assert (answer.body["state"], answer.body["tasks"]) == ("queued", TASKS)
    kinds = ["delivery.received", "task.queued", "task.queued", "delivery.repeated", "delivery.repeated"]
    assert house.kinds() == kinds
    assert [one.data for one in house.records()[-2:]] == [noted(body=body)] * 2
    row = house.row("g-1", "30")
    assert (row.secret, row.duplicates, row.conflicts) == (None, 2, 0)


@pytest.mark.parametrize("lookup", [None, nothing], ids=["folded", "fold_stopped"])
@pytest.mark.parametrize(
    "payload",
    [{**PAYLOAD, "n": Number("1.51")}, {**PAYLOAD, "more": None}, {"action": "opened"}],
)
def test_another_json_is_a_conflict_as_ever(house: House, lookup: Any, payload: Any) -> None:
    take(house)
    more = {} if lookup is None else {"lookup": lookup}
    answer = house.send(webhook(ODD.write(payload).encode()), **more)
    assert (answer.status, answer.refusal) == (409, "delivery_conflict")
    assert house.kinds()[3:] == ["delivery.conflicted"]


def test_so_is_the_same_json_for_what_is_held_with_its_signature(house: House) -> None:
    assert house.send(webhook()).status == 202
    assert house.send(webhook(PLAIN.write(PAYLOAD).encode())).refusal == "delivery_conflict"
    found = take(house)
    assert [one.reason for one in found.skipped] == [ALREADY_HERE] and not found.signed_later
    assert house.kinds()[3:] == ["delivery.conflicted"]


@pytest.mark.parametrize("about", [False, True], ids=["dropped", "erased"])
def test_where_the_payload_is_gone_its_hash_tells_and_what_it_can_not_tell_is_a_conflict(
    house: House, about: bool
) -> None:
    seq = take(house, keys=()).done[0].seq
    kind = "delivery.redacted" if about else "ops.retention"
    subject = ID.subject if about else "ops.retention"
    drops: dict[str, Any] = {"received": seq, "drops": [[seq, seq]], "about": about}
    house.journal.erase([Entry(subject, kind, drops)])
    received = house.journal.get(seq)
    assert received is not None and received.payload is None
    assert house.send(webhook()).status == 200
    assert house.send(webhook(), lookup=nothing).status == 200
    assert house.send(webhook(REORDERED)).refusal == "delivery_conflict"
    assert b"odd" not in b"".join(journal_lines(house.path))


def test_an_import_of_what_was_signed_notes_it_once(house: House) -> None:
    body = PLAIN.write(PAYLOAD).encode()
    items = listed(signed=body)
    assert take(house, items, keys=()).unverified == ["30/g-1"]
    assert not take(house, items, keys=()).signed_later
    assert take(house, items, dry_run=True).signed_later == ["30/g-1"]
    assert house.kinds()[3:] == []
    again = take(house, items)
    assert again.signed_later == ["30/g-1"] and [one.reason for one in again.skipped] == [ALREADY_HERE]
    assert [one.data for one in house.records()[3:]] == [noted(body=body, source="import")]
    assert take(house, items).signed_later == take(house, items, dry_run=True).signed_later == []
    assert house.send(webhook(body)).status == 200
    assert house.kinds()[3:] == ["delivery.repeated"] * 2


def test_an_import_of_another_body_that_was_signed_is_told_and_noted_once(house: House) -> None:
    take(house)
    other = {**PAYLOAD, "n": 2}
    body = PLAIN.write(other).encode()
    for reason in (OTHER_BODY, ALREADY_HERE):
        found = take(house, listed(other, body))
        assert not found.signed_later and [one.reason for one in found.skipped] == [reason]
    assert house.kinds()[3:] == ["delivery.conflicted"]
    expected = noted(body=body, source="import")
    del expected["secret"]
    assert house.records()[-1].data == expected
    house.store.catch_up()
    (story,) = why(
        house.store.reader(), house.journal, house.config, "30/g-1", now=0.0,
        waiting=lambda *_: None, refused=list, read_log=lambda *_: b"",
    ).stories  # fmt: skip
    (told,) = (one.words for one in story.events if one.word == "conflicted")
    assert told == "it was imported again with another body, that was signed: refused"


def test_of_one_import_the_second_may_bring_what_was_signed(house: House) -> None:
    body = PLAIN.write(PAYLOAD).encode()
    unsigned = listed(signed=body, headers={"X-Hub-Signature-256": "sha256=" + "0" * 64})
    found = take(house, [*unsigned, *listed(signed=body)])
    assert (found.unverified, found.signed_later) == (["30/g-1"], ["30/g-1"])
    assert house.kinds() == ["delivery.received", "task.queued", "task.queued", "delivery.repeated"]


def test_what_a_crash_left_of_an_import_is_completed_though_the_signed_bytes_came(house: House) -> None:
    take(house)
    entries = [Entry(r.subject, r.kind, r.data, r.about, r.payload, expect=0) for r in house.journal.read(0)]
    other = House(house.path / "other")
    (house.path / "other").mkdir()
    other.open()
    try:
        other.journal.append(entries[:2])  # the delivery and the first of its tasks
        resume(other.journal, other.config)
        assert other.send(webhook()).body["tasks"] == TASKS
        assert other.send(webhook(), lookup=nothing).body["tasks"] == TASKS
        assert sorted(other.kinds()) == ["delivery.received", *["delivery.repeated"] * 2, *["task.queued"] * 2]
    finally:
        other.close()


# ---- at the same moment


class Interrupted:
    """A journal, and what happens just before one of its calls."""

    def __init__(self, journal: Any, at: int, action: Callable[[], object]) -> None:
        self._journal, self._left, self._action = journal, at, action

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._journal, name)
        if name not in ("append", "last", "get", "head"):
            return found

        def call(*args: Any) -> Any:
            self._left -= 1
            if self._left == -1:
                self._action()
            return found(*args)

        return call

    @property
    def happened(self) -> bool:
        return self._left < 0


def require_one(house: House, answers: Sequence[Answer], imports: Sequence[Imported]) -> None:
    """One delivery and each of its tasks once, told alike to all that brought it."""
    kinds = house.kinds()
    assert kinds.count("delivery.received") == 1 and kinds.count("task.queued") == 2
    assert "delivery.conflicted" not in kinds
    done = sum(len(one.done) for one in imports)
    new = [one for one in answers if one.status == 202]
    assert done + len(new) == 1 and all(one.status in (200, 202) for one in answers)
    assert all(one.body["tasks"] == TASKS for one in answers)
    received = next(one for one in house.records() if one.kind == "delivery.received")
    unsigned = received.data["secret"] is None
    repeated = [one.data for one in house.records() if one.kind == "delivery.repeated"]
    expected = noted(received=received.seq) if unsigned else {"received": received.seq}
    assert repeated == [expected] * (len(answers) - len(new))


@pytest.mark.parametrize("first", ["import", "webhook"])
def test_whichever_is_first_at_every_step_of_the_other_it_is_one_delivery(first: str, tmp_path: Path) -> None:
    """The whole of one happens before each call of the other to the journal, one after another."""
    for step in range(20):
        (tmp_path / str(step)).mkdir()
        house = House(tmp_path / str(step)).open()
        answers, imports = list[Answer](), list[Imported]()

        def post(journal: Any) -> None:
            answers.append(house.send(webhook(), journal=journal))  # noqa: B023 - called in this round

        def fetch(journal: Any) -> None:
            imports.append(take(house, journal=journal))  # noqa: B023

        outer, inner = (fetch, post) if first == "import" else (post, fetch)
        between = Interrupted(house.journal, step, lambda: inner(house.journal))  # noqa: B023
        outer(between)
        if not between.happened:
            inner(house.journal)
        require_one(house, answers, imports)
        house.close()
        if not between.happened:
            break
    assert step >= (2 if first == "import" else 1), "there was nothing to interrupt"


def test_many_at_once_are_one_delivery(tmp_path: Path) -> None:
    for round in range(10):
        (tmp_path / str(round)).mkdir()
        house = House(tmp_path / str(round)).open()
        barrier = threading.Barrier(8)

        def one(number: int) -> Answer | Imported:
            barrier.wait(30)  # noqa: B023 - called in this round
            return take(house) if number % 2 else house.send(webhook())  # noqa: B023

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(one, range(8)))
        require_one(
            house,
            [one for one in found if isinstance(one, Answer)],
            [one for one in found if isinstance(one, Imported)],
        )
        assert view.delivery(house.store.reader(), house.journal, "30/g-1").hook == "30"
        house.close()
