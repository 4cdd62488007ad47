"""The lock on a followed log, the notes of looks, and what the ingress makes of passes: clocks passed in."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from covenq.config.github_api import GithubApp, GithubHook, GithubLogs
from covenq.config.secret_source import SecretSource
from covenq.daemon import log_lock
from covenq.daemon.log_ingress import LOCK_RETRY_S, REOPEN_S, LogIngress
from covenq.daemon.log_lock import LogLocks, lock_directory
from covenq.daemon.log_looks import TOLD_S, LogLooks
from covenq.errors import GithubLimited, Refused
from covenq.github.api_client import Usage
from covenq.model.ledger import Ledger
from covenq.reconcile.log_pass import PassResult
from covenq.reconcile.log_state import LogState, Mark
from covenq.reconcile.redeliver import Asked
from covenq.reconcile.result import LogSummary

DAY = 86_400.0
KEPT = 3 * DAY
APP = GithubApp(7, "Iv1", (SecretSource("key", value="x"),))
LOGS = GithubLogs(APP)


def test_the_lock_is_where_the_user_keeps_state() -> None:
    assert lock_directory({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == Path("/s/covenq-followed")
    assert lock_directory({"XDG_STATE_HOME": "s", "HOME": "/h"}) == Path("/h/.local/state/covenq-followed")
    assert lock_directory({}) is None


def test_of_two_one_has_a_log_and_the_other_is_told_whose_it_is(tmp_path: Path) -> None:
    first, second = LogLocks(tmp_path / "locks", Path("/one")), LogLocks(tmp_path / "locks", Path("/two"))
    assert first.take("d", "app") is None and first.take("d", "app") is None
    held = second.take("d", "app")
    assert held is not None and held.endswith("(data /one)") and "process" in held
    assert second.take("other", "app") is None
    first.keep(["d"])
    assert second.take("d", "app") is not None
    first.keep([])
    assert second.take("d", "app") is None


def test_who_can_not_say_whose_data_it_is_is_not_taken_for_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, other = LogLocks(tmp_path, Path("/one")), LogLocks(tmp_path, Path("/two"))
    assert before.take("d", "app") is None
    before.keep([])

    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(log_lock.atomic_file, "replace", no_room)
    assert other.take("d", "app") is None
    held = LogLocks(tmp_path, Path("/one"))
    assert held.take("d", "app") is not None and not held.is_ending("d")


# ---- what GitHub forgot


def test_a_gap_is_a_time_without_looks_that_is_longer_than_github_keeps_a_log(tmp_path: Path) -> None:
    now = 100 * DAY
    looks = LogLooks(tmp_path)
    assert looks.looked("d", now, now - DAY, KEPT) is None
    assert (
        looks.looked("d", now + KEPT - 1, now - DAY, KEPT) is None
    )  # a log in which nothing happened, looked at all the time
    now += KEPT - 1
    found = LogLooks(tmp_path).looked("d", now + KEPT + DAY, now - DAY, KEPT)  # another process, later
    assert found is not None
    assert (found.since, found.until) == ("1970-04-13T23:59:59.000000Z", "1970-04-14T23:59:59.000000Z")
    again = LogLooks(tmp_path)
    assert again.gap("d", now + 5 * DAY) == found and again.gap("d", now + KEPT + DAY + TOLD_S + 1) is None
    assert again.looked("d", now + 5 * DAY, now, KEPT) is None  # told once


def test_without_the_note_what_was_settled_counts(tmp_path: Path) -> None:
    now = 100 * DAY
    assert LogLooks(tmp_path).looked("d", now, now - KEPT + 1, KEPT) is None
    (tmp_path / "log_looks.json").write_text("no JSON")
    assert LogLooks(tmp_path).looked("d", now, now - KEPT - 1, KEPT) is not None


def test_a_note_that_can_not_be_written_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    looks = LogLooks(tmp_path / "gone")
    assert looks.looked("d", 10.0, 5.0, KEPT) is None
    assert "can't be written" in caplog.text


# ---- the ingress


def state(mark: float | None = None) -> LogState:
    return LogState(epoch="e", baseline=0.0, mark=None if mark is None else Mark(mark, "1"))


def result(after: LogState, *troubles: GithubLimited, lists: int = 1) -> PassResult:
    return PassResult(after, LogSummary(APP.name), [], list(troubles), Ledger(0.0), Asked(after, after), lists=lists)


def test_a_look_that_found_something_is_followed_by_one_soon(tmp_path: Path) -> None:
    ingress = LogIngress(tmp_path, None)
    ingress.begin(LOGS)
    told = []
    for n in range(5):
        ingress.passed(APP, state(), result(state()), {APP.name: Usage()}, 1000.0 + n)
        told.append(ingress.wait_s(60.0, 60.0, {}, 1000.0 + n, 100.0 * n))
    ingress.passed(APP, state(), result(state(5.0)), {APP.name: Usage()}, 1005.0)
    told.append(ingress.wait_s(60.0, 60.0, {}, 1005.0, 500.0))
    assert told == [2, 4, 8, 16, 32, 2]
    assert ingress.status(APP, None, 1005.0).next_at == "1970-01-01T00:16:47.000000Z"


def test_a_machine_that_slept_looks_at_once(tmp_path: Path) -> None:
    """The monotonic clock stood still meanwhile, and the other one did not."""
    ingress = LogIngress(tmp_path, None)
    ingress.begin(LOGS)
    assert not ingress.is_due(1000.0)
    ingress.passed(APP, state(), result(state()), {APP.name: Usage()}, 1000.0)
    wait = ingress.wait_s(60.0, 60.0, {}, 1000.0, 0.0)
    assert not ingress.is_due(1000.0 + wait - 0.1)
    assert ingress.is_due(1000.0 + 8 * 3600)


def test_a_longer_overlap_and_a_limit_of_githubs_make_looks_rarer(tmp_path: Path) -> None:
    ingress = LogIngress(tmp_path, None)
    ingress.begin(LOGS)
    usage = Usage(remaining=2000, reset=2000.0, floor=1000)
    ingress.passed(APP, state(), result(state(1.0), lists=10), {APP.name: usage}, 1000.0)
    assert (
        ingress.wait_s(60.0, 60.0, {APP.name: usage}, 1000.0, 0.0) == 10
    )  # ten requests a look, a thousand a thousand seconds
    ingress.passed(APP, state(), result(state(), GithubLimited("later", until=1600.0)), {APP.name: usage}, 1000.0)
    assert ingress.wait_s(60.0, 60.0, {APP.name: usage}, 1000.0, 0.0) == 600


def test_what_another_one_took_is_before_us_when_this_one_begins(tmp_path: Path) -> None:
    first, second = LogIngress(tmp_path / "a", tmp_path / "locks"), LogIngress(tmp_path / "b", tmp_path / "locks")
    first.begin(LOGS)
    first.require_alone(APP)
    assert first.begun(APP, state(9.0), 50.0) == state(9.0)
    second.begin(LOGS)
    with pytest.raises(Refused, match="another covenq follows this log: process"):
        second.require_alone(APP)
    assert second.wait_s(60.0, 60.0, {}, 0.0, 0.0) <= LOCK_RETRY_S
    owner = second.status(APP, None, 0.0).owner
    assert owner is not None and str(tmp_path / "a") in owner
    first.close()
    second.require_alone(APP)
    begun = second.begun(APP, state(9.0), 50.0)
    assert (begun.baseline, begun.mark) == (50.0, None)
    assert second.begun(APP, begun, 60.0) == begun and second.status(APP, None, 0.0).owner is None


def test_what_the_one_before_had_left_is_taken_by_the_next_on_the_same_data_though_it_still_has_the_lock(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It was told to stop while GitHub kept it waiting, and its process takes a moment to end."""
    ending, other = LogIngress(tmp_path / "a", tmp_path / "locks"), LogIngress(tmp_path / "b", tmp_path / "locks")
    ending.begin(LOGS)
    ending.require_alone(APP)
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    following = LogIngress(tmp_path / "link", tmp_path / "locks")
    for one in (following, other):
        one.begin(LOGS)
        with pytest.raises(Refused):
            one.require_alone(APP)
    ending.close()
    following.require_alone(APP)
    assert following.begun(APP, state(9.0), 50.0) == state(9.0) and caplog.text == ""
    following.close()
    other.require_alone(APP)
    assert other.begun(APP, state(9.0), 50.0).baseline == 50.0
    assert "what GitHub sent since 1970-01-01T00:00:09.000000Z" in caplog.text  # nothing is left out in silence


def test_a_log_that_another_one_has_makes_no_look_at_the_others_sooner(tmp_path: Path) -> None:
    hook = GithubHook("7", "o/r", None, SecretSource("token", value="x"))
    first, second = LogIngress(tmp_path / "a", tmp_path / "locks"), LogIngress(tmp_path / "b", tmp_path / "locks")
    first.begin(LOGS)
    first.require_alone(APP)
    second.begin(GithubLogs(APP, (hook,)))
    with pytest.raises(Refused):
        second.require_alone(APP)
    second.require_alone(hook)
    usage = Usage(remaining=10, reset=1000.0)
    second.passed(hook, state(), result(state()), {hook.name: usage}, 0.0)
    assert second.wait_s(60.0, 60.0, {hook.name: usage}, 0.0, 0.0) == 100  # what the hook's token has left


def test_hooks_with_one_token_share_what_it_leaves_and_are_no_others_to_each_other(tmp_path: Path) -> None:
    hooks = tuple(GithubHook(id, "o/r", None, SecretSource(f"token of hook {id}", env="T")) for id in ("7", "8"))
    ingress = LogIngress(tmp_path, None)
    ingress.begin(GithubLogs(None, hooks))
    usages = {one.name: Usage(remaining=4000, reset=1e6) for one in hooks}
    for minute in range(30):
        now = 60.0 * minute
        for one in hooks:
            usages[one.name].requests += 1
            usages[one.name].remaining = 4000 - 2 * minute - hooks.index(one) - 1
            ingress.passed(one, state(), result(state()), usages, now)
    assert [ingress.status(one, None, now).others for one in hooks] == [0, 0]
    for one in usages.values():
        one.remaining, one.reset = 100, now + 1000.0
    assert ingress.wait_s(60.0, 60.0, usages, now, 0.0) == 20


# ---- a log that is kept open


class Opened:
    """Stands for a DeliveryLog of which only that it is open counts."""

    closed = False

    def begin(self) -> None:
        assert not self.closed

    def close(self) -> None:
        self.closed = True


def test_a_log_is_kept_open_over_passes_and_opened_anew_after_a_while_an_error_or_a_reload(tmp_path: Path) -> None:
    ingress, made = LogIngress(tmp_path, None), list[Opened]()
    ingress.begin(LOGS)

    def open() -> Any:
        made.append(Opened())
        return made[-1]

    def passed(monotonic: float, *troubles: GithubLimited) -> None:
        with ingress.opened(APP, open, monotonic) as one:
            assert one is made[-1]
        ingress.passed(APP, state(), result(state(), *troubles), {APP.name: Usage()}, 0.0)

    passed(0.0)
    passed(REOPEN_S - 1)
    assert len(made) == 1 and not made[0].closed
    passed(REOPEN_S)
    assert len(made) == 2 and made[0].closed
    passed(REOPEN_S + 1, GithubLimited("later"))
    assert made[1].closed
    with pytest.raises(ValueError, match="a bug"), ingress.opened(APP, open, REOPEN_S + 2):
        raise ValueError("a bug")
    assert len(made) == 3 and made[2].closed
    passed(REOPEN_S + 3)
    ingress.begin(LOGS)
    assert made[3].closed
    passed(REOPEN_S + 4)
    ingress.close()
    assert len(made) == 5 and made[4].closed
