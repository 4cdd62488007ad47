"""The outbox: nothing that was decided on is lost by a crash, and what is owed is sent in order, at least once, and bounded."""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covenq import atomic_file
from covenq.errors import CovenqError
from covenq.model.notices import BEGAN, ENDED, Notice, OwedNotice
from covenq.operate.notify import outbox
from covenq.operate.notify.conditions import Condition
from covenq.operate.notify.outbox import BACKOFF_MAX_S, OWED_MAX, SENT_MAX, Outbox, backoff_s, due, with_owed
from covenq.operate.notify.transitions import TRACKS_MAX, Change
from covenq.operate.notify.wording import notice_of

KINDS = ("intake", "waiting")
A, B = Condition("intake", "intake", "it is closed"), Condition("waiting", "route a key", "2 tasks wait")
NAMED = {"a": A, "b": B}


def notices() -> Callable[[Change, float], Notice]:
    numbers = itertools.count(1)
    return lambda change, now: notice_of(change, now, lambda: f"n{next(numbers)}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notices.json"


def look(box: Outbox, now: float, letters: str, make: Callable[[Change, float], Notice]) -> list[Notice]:
    return box.look([NAMED[one] for one in letters], now, 0.0, KINDS, ("run", "url"), make)


def test_what_is_owed_is_there_after_a_crash_and_what_was_taken_is_not(path: Path) -> None:
    first = Outbox(path)
    (notice,) = look(first, 10.0, "a", notices())
    assert path.stat().st_mode & 0o777 == 0o600
    again = Outbox(path)
    assert again.told().keys() == {A.key}, "it isn't told as new by the next start"
    assert look(again, 20.0, "a", notices()) == []
    owed, _ = again.due("run", 20.0)
    assert owed is not None and owed.notice == notice, "the same bytes"
    again.taken(owed, "sh took it", 21.0)
    third = Outbox(path)
    assert third.due("run", 30.0) == (None, None)
    other, _ = third.due("url", 30.0)
    assert other is not None and other.notice.id == notice.id
    assert [(one.to, one.ok, one.tries) for one in third.listing()[1]] == [("run", True, 1)]


def test_what_is_not_taken_is_tried_again_later_and_later_and_at_once_by_the_next_start(path: Path) -> None:
    box = Outbox(path)
    look(box, 0.0, "a", notices())
    now, waits = 0.0, []
    for _ in range(10):
        one, _ = box.due("url", now)
        assert one is not None
        box.refused(one, "it answered 500", now)
        assert box.due("url", now)[0] is None
        wait_s = box.due("url", now)[1]
        assert wait_s is not None
        waits.append(round(wait_s, 3))
        now += wait_s
    assert waits[:3] == [5.0, 10.0, 20.0] and waits[-1] == BACKOFF_MAX_S == backoff_s(10**6)
    one, _ = Outbox(path).due("url", now - 1.0)
    assert one is not None and (one.tries, one.detail) == (10, "it answered 500")
    assert box.due("run", now)[0] is not None, "one target's trouble is not the other's"
    assert box.due("url", now - 1e6)[0] is not None, "a clock that was set back holds nothing up"


def test_no_end_comes_before_its_beginning_and_what_is_never_taken_keeps_nothing_waiting(path: Path) -> None:
    box, make = Outbox(path), notices()
    look(box, 0.0, "a", make)
    look(box, 1.0, "", make)
    look(box, 2.0, "b", make)
    first, _ = box.due("run", 2.0)
    assert first is not None and (first.notice.kind, first.notice.state) == ("intake", BEGAN)
    box.refused(first, "no", 2.0)
    second, _ = box.due("run", 2.0)
    assert second is not None and second.notice.kind == "waiting"
    box.taken(second, "yes", 2.5)
    third, _ = box.due("run", 2.5)
    assert third is not None and third.notice.id == first.notice.id, "who took one is back: all is tried at once"
    box.taken(third, "yes", 3.0)
    last, _ = box.due("run", 3.0)
    assert last is not None and (last.notice.kind, last.notice.state) == ("intake", ENDED)


def test_of_one_condition_the_oldest_pair_is_given_up_for_a_third_and_is_kept_as_not_taken(path: Path) -> None:
    box, make = Outbox(path), notices()
    for n in range(3):
        look(box, 20_000.0 * n, "a", make)
        look(box, 20_000.0 * n + 5_000.0, "", make)
    owed, sent = box.listing()
    assert [one.notice.state for one in owed if one.to == "run"] == [BEGAN, ENDED] * 2
    assert len([one for one in owed if one.to == "run"]) == OWED_MAX
    assert [(one.ok, one.notice.id) for one in sent if one.to == "run"] == [(False, "n2"), (False, "n1")]


def test_what_was_sent_is_kept_so_far(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "SENT_MAX", 4)
    box, make = Outbox(path), notices()
    for n in range(3):
        look(box, 10_000.0 * n, "a" if n % 2 == 0 else "", make)
        for to in ("run", "url"):
            one, _ = box.due(to, 10_000.0 * n)
            assert one is not None
            box.taken(one, "yes", 10_000.0 * n)
    assert [one.notice.id for one in Outbox(path).listing()[1]] == ["n3", "n3", "n2", "n2"]
    assert SENT_MAX * 1000 + 2 * OWED_MAX * TRACKS_MAX * 2000 < outbox.FILE_MAX


def test_a_file_that_can_not_be_read_is_said_so_and_all_that_holds_is_told_anew(path: Path) -> None:
    path.write_text('{"version":2}')
    said: list[str] = []
    box = Outbox(path, said.append)
    assert box.error is not None and "version 2" in box.error and said == [box.error]
    with pytest.raises(CovenqError, match="version 2"):
        outbox.read(path)
    assert len(look(box, 0.0, "a", notices())) == 1
    assert box.error is None, "it was made anew"
    assert Outbox(path).told().keys() == {A.key}


def test_what_is_no_file_or_nests_without_end_keeps_no_daemon_from_starting(path: Path) -> None:
    os.mkfifo(path)
    assert "regular file" in str(Outbox(path).error)
    path.unlink()
    path.write_text('{"more":' + "[" * 100_000)
    assert "can't be read" in str(Outbox(path).error)


def test_where_nothing_can_be_written_it_is_owed_all_the_same_and_shown(path: Path) -> None:
    said: list[str] = []
    box = Outbox(path.parent / "gone" / "notices.json", said.append)
    look(box, 0.0, "a", notices())
    assert box.due("run", 0.0)[0] is not None
    assert box.error == said[0] == "what is told of can't be kept: notices.json: No such file or directory"
    (path.parent / "gone").mkdir()
    look(box, 5.0, "a", notices())
    assert box.error is None and Outbox(path.parent / "gone" / "notices.json").told(), "as soon as it can be"


def test_what_is_told_of_no_more_is_forgotten_with_who_is_told_no_more(path: Path) -> None:
    box, make = Outbox(path), notices()
    look(box, 0.0, "ab", make)
    assert box.look([B], 1.0, 0.0, ["waiting"], ["run"], make) == [], "no end is told of a kind that isn't told of"
    assert box.told().keys() == {B.key}
    assert {one.to for one in Outbox(path).listing()[0]} == {"run"}


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["look", "send", "refuse", "crash", "crash after sending"]), st.sampled_from(["", "a", "b", "ab"])),
    max_size=25,
)  # fmt: skip


@settings(max_examples=30)
@given(OPERATIONS)
def test_whatever_crashes_every_notice_is_taken_once_or_given_up_for_a_newer_and_twice_only_after_a_crash(
    operations: list[tuple[str, str]],
) -> None:
    with tempfile.TemporaryDirectory(prefix="cq-") as directory:
        path = Path(directory) / "notices.json"
        box, make, now = Outbox(path), notices(), 0.0
        decided: list[Notice] = []
        taken: list[str] = []
        crashes = 0

        def send(to: str, *, crash: bool = False) -> bool:
            one, _ = box.due(to, now)
            if one is not None:
                taken.append(f"{to} {one.notice.id}")
                if not crash:
                    box.taken(one, "yes", now)
            return one is not None

        for what, letters in operations:
            now += 700.0
            if what == "look":
                decided += look(box, now, letters, make)
            elif what == "send":
                send("run")
            elif what == "refuse":
                one, _ = box.due("run", now)
                if one is not None:
                    box.refused(one, "no", now)
            else:
                if what == "crash after sending":
                    crashes += send("run", crash=True)
                box = Outbox(path)
        for to in ("run", "url"):
            now += 700.0
            while send(to):
                pass
        given_up = {f"{one.to} {one.notice.id}" for one in box.listing()[1] if not one.ok}
        wanted = [f"{to} {one.id}" for to in ("run", "url") for one in decided]
        assert set(taken) | given_up == set(wanted), "none is lost, and none is invented"
        assert len(taken) - len(set(taken)) <= crashes
        for to in ("run", "url"):
            for kind in KINDS:
                order = [f"{to} {one.id}" for one in decided if one.kind == kind]
                first = sorted({*taken} & {*order}, key=taken.index)
                assert first == [one for one in order if one in first], "in the order in which it came about"


def test_the_bound_is_of_each_condition_and_each_target() -> None:
    owed: list[OwedNotice] = []
    make = notices()
    for n in range(50):
        state = BEGAN if n % 2 == 0 else ENDED
        owed, dropped = with_owed(owed, make(Change(state, A, 0.0), float(n)), ["run", "url"])
        assert len(owed) <= 2 * OWED_MAX and len(dropped) in (0, 4)
    owed, dropped = with_owed(owed, make(Change(BEGAN, B, 0.0), 50.0), ["run"])
    assert not dropped and due(owed, "run", 60.0)[0] is not None


def test_a_disk_that_hangs_keeps_nobody_from_being_told_and_what_was_told_is_kept_when_it_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    written = atomic_file.replace

    def hanging(*args: Any, **more: Any) -> None:
        goes_on.wait(30)
        written(*args, **more)

    monkeypatch.setattr(outbox.atomic_file, "replace", hanging)
    monkeypatch.setattr(outbox, "SAVE_S", 0.01)
    box, make = Outbox(path), notices()
    look(box, 0.0, "a", make)
    one, _ = box.due("run", 0.0)
    assert one is not None and box.error == "what is told of can't be kept: notices.json: the disk doesn't answer"
    box.taken(one, "yes", 1.0)
    goes_on.set()
    monkeypatch.setattr(outbox, "SAVE_S", 30.0)
    assert box._writing is not None
    box._writing.join(30)
    look(box, 5.0, "a", make)
    assert box.error is None and [one.to for one in Outbox(path).listing()[0]] == ["url"]
