"""The daemon tells of transitions: a real command and a real receiver, a daemon killed in between, and one that can't start."""

from __future__ import annotations

import errno
import itertools
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from covenq.config.live import Live
from covenq.config.load import build
from covenq.config.notify import Notify
from covenq.config.secret_keys import Key
from covenq.daemon.notifier import Notifier, Observer
from covenq.errors import Refused
from covenq.model.notices import Notice, NotifyStatus, trouble
from covenq.operate.notify.conditions import Condition, LeftAlone, Observed, conditions
from covenq.operate.notify.outbox import Outbox
from covenq.operate.notify.send import Said, Sender
from tests.support.answers import NOW, STATUS
from tests.support.daemon import Daemon
from tests.support.receiver import Receiver, receiving
from tests.support.requests import SECRET, issue
from tests.support.serving import serving
from tests.support.waiting import eventually

CLOSED = replace(STATUS, ready=False, reasons=["It is paused."])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver()) as server:
        yield server


class Watched:
    """A notifier with the looks of a test: each is of what `seen` is then."""

    def __init__(self, path: Path, receiver: Receiver, **more: Any) -> None:
        section = {"url": receiver.url, "secret": {"env": "NOTIFY_SECRET"}, "debounce": "0s", **more}
        config = build({"notify": section}, None, {})
        self.live = Live(config, (Key("a", SECRET.encode()),))
        self.now = NOW
        self.seen: Observed | Exception = Observed(STATUS, NOW)
        self.looks = 0
        self.notifier = Notifier(self.live, {"NOTIFY_SECRET": SECRET}, path, clock=lambda: self.now, every_s=0.005)

    def observe(self, notify: Notify) -> Observed:
        self.looks += 1
        if isinstance(self.seen, Exception):
            raise self.seen
        return self.seen

    def start(self) -> Watched:
        self.notifier.start(self.observe)
        return self

    def look(self, seen: Observed | Exception | None = None) -> None:
        """Have it look at this, once at least."""
        if seen is not None:
            self.seen = seen
        before = self.looks
        eventually(lambda: self.looks >= before + 2, 20, "it looks")

    @property
    def status(self) -> NotifyStatus:
        found = self.notifier.status()
        assert found is not None
        return found


@pytest.fixture
def watched(tmp_path: Path, receiver: Receiver) -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def make(seen: Observed | None = None, **more: Any) -> Watched:
        made.append(Watched(tmp_path / "notices.json", receiver, **more))
        made[-1].seen = seen or made[-1].seen
        return made[-1].start()

    yield make
    for one in made:
        one.notifier.stop(10.0)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("notify")]


def texts(receiver: Receiver) -> list[str]:
    return [f"{one['kind']} {one['state']}" for one in (json.loads(body) for _, body, _ in receiver.seen)]


def test_transitions_are_told_once_signed_and_what_was_told_is_known_after_a_restart(
    watched: Callable[..., Watched], receiver: Receiver
) -> None:
    one = watched()
    one.look(Observed(CLOSED, NOW))
    eventually(lambda: len(receiver.seen) == 1)
    one.look()
    one.notifier.stop(10.0)
    again = watched(Observed(CLOSED, NOW))
    again.look()
    assert texts(receiver) == ["intake began"], "it is the same that holds"
    again.look(Observed(STATUS, NOW))
    eventually(lambda: [(target.sent, target.owed) for target in again.status.targets] == [(1, 0)])
    assert texts(receiver) == ["intake began", "intake ended"] and all(good for _, _, good in receiver.seen)
    assert again.status.holding == 0
    assert [one.notice.state for one in again.notifier.notices().sent] == ["ended", "began"]


def test_a_receiver_that_refuses_is_asked_again_and_shown_and_nothing_waits_for_it(
    watched: Callable[..., Watched], receiver: Receiver
) -> None:
    receiver.answer = lambda number: (500 if number < 3 else 200, {}, b"")
    one = watched()
    one.look(Observed(CLOSED, NOW))
    for tries in (1, 2):
        eventually(lambda tries=tries: [target.failed for target in one.status.targets] == [tries])
        (target,) = one.status.targets
        assert (target.owed, target.error) == (1, "127.0.0.1 answered 500") and target.next_at is not None
        assert trouble(one.status, one.now)[0].startswith(
            f"[notify] url: 1 notice not told for {('0s', '1m')[tries - 1]}: 127.0.0.1 answered 500; tried again in"
        )
        one.now += 60.0
        one.look()
        one.notifier._wake.acquire()
        one.notifier._wake.notify_all()  # the clock is the test's: nobody else says that it went on
        one.notifier._wake.release()
    eventually(lambda: [(target.owed, target.error) for target in one.status.targets] == [(0, None)])
    assert len({body for _, body, _ in receiver.seen}) == 1 and trouble(one.status, one.now) == []
    (sent,) = one.notifier.notices().sent
    assert (sent.ok, sent.tries) == (True, 3)


def test_whatever_a_look_meets_is_shown_and_looked_at_again(
    watched: Callable[..., Watched], receiver: Receiver
) -> None:
    one = watched()
    one.look(ValueError("a payload's text"))
    assert one.status.error == "what holds can't be looked at: ValueError"
    one.look(Observed(CLOSED, NOW))
    eventually(lambda: texts(receiver) == ["intake began"])
    assert one.status.error is None


def test_whatever_a_try_meets_is_shown_and_tried_again(
    watched: Callable[..., Watched], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, tries = Sender.send, itertools.count(1)

    def failing(self: Sender, to: str, notice: Notice) -> Said:
        if next(tries) == 1:
            raise OSError(errno.EMFILE, "a secret's text")
        return send(self, to, notice)

    monkeypatch.setattr(Sender, "send", failing)
    one = watched()
    one.look(Observed(CLOSED, NOW))
    eventually(lambda: [target.error for target in one.status.targets] == ["a try failed: OSError"])
    one.now += 60.0
    one.look(Observed(STATUS, NOW))
    eventually(lambda: texts(receiver) == ["intake began", "intake ended"])


def test_where_no_thread_can_be_had_it_is_told_when_one_can(
    watched: Callable[..., Watched], receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    start, without = threading.Thread.start, ["notify url"]

    def failing(self: threading.Thread) -> None:
        if any(name in self.name for name in without):
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", failing)
    one = watched(Observed(CLOSED, NOW))
    eventually(lambda: one.notifier.status() is not None and one.status.error is not None)
    assert one.status.error == "what holds can't be looked at: RuntimeError"
    without[:] = ["_write"]
    eventually(lambda: texts(receiver) == ["intake began"])
    one.look(Observed(STATUS, NOW))
    eventually(lambda: texts(receiver) == ["intake began", "intake ended"])
    eventually(lambda: [(target.owed, one.status.error) for target in one.status.targets] == [(0, None)])
    assert [each.notice.state for each in one.notifier.notices().sent] == ["ended", "began"]
    assert Outbox(tmp_path / "notices.json").told() == {}, "it is written without one"


def test_secrets_are_in_no_notice(watched: Callable[..., Watched], receiver: Receiver) -> None:
    why = f"http://a failed 5 times in a row ({SECRET} ghp_{'a' * 36})"
    watched().look(Observed(STATUS, NOW, [LeftAlone("http://a", why, ("r",))]))
    eventually(lambda: len(receiver.seen) == 1)
    assert json.loads(receiver.seen[0][1])["text"].startswith(
        "http://a failed 5 times in a row (*** ghp_***): it is left"
    )


def test_a_reload_changes_who_is_told_of_what(watched: Callable[..., Watched], receiver: Receiver) -> None:
    one = watched(on=["disk"])
    one.look(Observed(CLOSED, NOW))
    assert texts(receiver) == [] and one.notifier.sender().notify.on == ("disk",)
    nobody = build({}, None, {})
    one.live._now = type(one.live.now)(nobody, ())
    assert one.notifier.status() is None and not one.notifier.notices().configured
    with pytest.raises(Refused, match=r"no \[notify\]"):
        one.notifier.sender()


def test_what_is_owed_is_forgotten_where_nobody_is_told_any_more(
    watched: Callable[..., Watched], receiver: Receiver, tmp_path: Path
) -> None:
    receiver.answer = lambda number: (500, {}, b"")
    one = watched(Observed(CLOSED, NOW))
    eventually(lambda: [target.failed for target in one.status.targets] == [1])
    section = one.live.now.config
    one.live._now = type(one.live.now)(build({}, None, {}), ())
    eventually(lambda: one.notifier.notices().owed == [])
    kept = Outbox(tmp_path / "notices.json")
    assert (kept.listing()[0], kept.told()) == ([], {}), "also after a restart"
    receiver.answer = lambda number: (200, {}, b"")
    one.live._now = type(one.live.now)(section, ())
    one.notifier._look_now.set()  # as a reload does
    eventually(lambda: texts(receiver)[1:] == ["intake began"])
    assert one.status.holding == 1


def test_a_process_that_is_about_to_end_tells_at_once_and_owes_what_it_could_not(
    tmp_path: Path, receiver: Receiver
) -> None:
    ending = Watched(tmp_path / "notices.json", receiver, debounce="1h")
    ending.notifier.tell([Condition("intake", "intake", "Nothing is received: a sync failed")])
    ending.notifier.stop(1.0)
    assert receiver.seen == []
    next_start = Watched(tmp_path / "notices.json", receiver).start()
    next_start.look(Observed(STATUS, NOW))
    eventually(lambda: texts(receiver) == ["intake began", "intake ended"])
    next_start.notifier.stop(10.0)


# ---- what a daemon looks at


def test_a_receiver_is_told_of_until_it_answers_and_what_failed_for_it_fails_no_route(data: Path) -> None:
    route = {"name": "app", "match": "event:push", "forward": "https://x.example/hook"}
    with serving(data, {"route": [route]}) as served:
        sources = served.routes.api.status
        observe, breakers = Observer(sources), sources.pool.breakers
        target, notify = "https://x.example:443", Notify(run=("true",))
        assert (observe(notify).receivers, observe(notify).unknown) == ([], {target}), "it has not answered yet"
        breakers.report(target, ok=True)
        assert observe(notify).unknown == set()
        for _ in range(5):
            for other in (target, "https://gone.example:443"):
                assert breakers.admit(other, "app")
                breakers.report(other, ok=False, answer="HTTP 500")
        observe._failures._minutes["app"] = deque([["9999-01-01T00:00", 9, 9]])
        seen = observe(notify)
        words = f"{target} failed 5 times in a row (HTTP 500)"
        assert seen.receivers == [LeftAlone(target, words, ("app",))], "and no route leads to the other any more"
        assert seen.unknown == {target} and seen.ended == {} and observe(notify).ended == {}
        assert [one.key for one in conditions(seen, notify, {})] == [("receiver", target)]
        breakers.report(target, ok=True)
        assert (observe(notify).receivers, observe(notify).unknown) == ([], set())
        room = served.intake.admission.room()
        assert room is not None and observe(notify).reserve == room[0].kept


# ---- a whole daemon


def config_of(receiver: Receiver, out: Path) -> str:
    return f"""
        [[route]]
        name = "fix"
        match = "event:issues"
        run = ["false"]
        [notify]
        run = ["sh", "-c", "cat >> {out}"]
        url = "{receiver.url}"
        secret = {{ env = "NOTIFY_SECRET" }}
        debounce = "0s"
        failures = {{ least = 2 }}
    """


def lines(out: Path) -> Sequence[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def test_a_daemon_tells_by_command_and_by_address_and_what_it_owed_when_it_was_killed(
    make_daemon: Callable[..., Daemon], receiver: Receiver, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    daemon = make_daemon(config_of(receiver, out), env={"NOTIFY_SECRET": SECRET})
    assert daemon.cli_json("notify") | {"status": None} == {"configured": True, "owed": [], "sent": [], "status": None}
    tested = daemon.cli_json("notify", "test")
    assert [(one["to"], one["ok"]) for one in tested["targets"]] == [("run", True), ("url", True)]
    assert lines(out) == [tested["notice"]] == [json.loads(receiver.seen[0][1])] and receiver.seen[0][2]
    receiver.answer = lambda number: (503, {}, b"")
    for number in range(2):
        daemon.post("issues", issue(number))
    daemon.wait_all_done()
    eventually(lambda: len(lines(out)) == 2 and len(receiver.seen) == 2, 30, daemon.log_tail())
    assert (lines(out)[1]["kind"], lines(out)[1]["text"]) == (
        "failures",
        "2 of 2 attempts of route fix failed within 30m",
    )
    eventually(lambda: b'covenq_notices_failing{to="url"} 1.0' in daemon.api("/metrics").body)
    assert b'covenq_notices_owed{to="run"} 0.0' in daemon.api("/metrics").body
    said = daemon.cli("status", exit_code=0).stdout.decode()
    assert "UNTOLD" in said and "127.0.0.1 answered 503" in said
    assert b"[notify] url: 1 notice not told" in daemon.cli("doctor", exit_code=None).stdout
    assert daemon.cli("notify", "test", exit_code=1).stdout.decode().splitlines()[1].startswith("FAILED url  127.0.0.1")
    daemon.kill()
    found = daemon.cli_json("notify")
    assert [(one["to"], one["notice"]["kind"]) for one in found["owed"]] == [("url", "failures")]
    receiver.answer = lambda number: (200, {}, b"")
    seen = len(receiver.seen)
    daemon.start()
    eventually(lambda: len(receiver.seen) > seen, 30, daemon.log_tail())
    assert receiver.seen[seen][1] == receiver.seen[1][1], "the same bytes, with the same id"
    eventually(lambda: daemon.cli_json("notify")["owed"] == [])
    assert len(lines(out)) == 3, "and the test: what the command took isn't told to it again"
    assert daemon.stop() == 0


def test_a_start_that_damage_prevents_is_told_once(
    make_daemon: Callable[..., Daemon], receiver: Receiver, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    daemon = make_daemon(config_of(receiver, out), env={"NOTIFY_SECRET": SECRET})
    for number in range(2):
        daemon.post("pull_request", issue(number))
    assert daemon.stop() == 0
    (segment,) = sorted((daemon.data / "journal").glob("*.jsonl"))
    content = bytearray(segment.read_bytes())
    content[content.index(b"t does not work.") - 1] ^= 1
    segment.write_bytes(content)
    for path in daemon.data.rglob("index*"):
        path.unlink()
    for _ in range(2):
        daemon.start(wait=False)
        assert daemon.wait_exit(60) == 5
    (told,) = lines(out)
    assert (told["kind"], told["state"], told["command"]) == ("damage", "began", "covenq verify")
    assert told["text"].startswith("The journal is damaged, and the daemon does not start: ")
    assert [json.loads(body) for _, body, _ in receiver.seen] == [told]


def test_a_failed_sync_is_told_as_the_process_ends_or_by_the_next(
    make_daemon: Callable[..., Daemon], receiver: Receiver, faults: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    daemon = make_daemon(config_of(receiver, out), env={"NOTIFY_SECRET": SECRET}, faults=faults)
    (faults / "fdatasync").touch()
    daemon.post("push", {})
    assert daemon.wait_exit(30) == 1
    assert json.loads((daemon.data / "notices.json").read_text())["tracks"][0]["told"] is True
    (faults / "fdatasync").unlink()
    daemon.start()
    eventually(lambda: len(lines(out)) >= 1, 30, daemon.log_tail())
    told = lines(out)[0]
    assert (told["kind"], told["state"]) == ("intake", "began") and "The disk failed" in told["text"]


def test_without_a_section_a_test_is_refused_and_without_a_daemon_it_is_sent_from_here(
    make_daemon: Callable[..., Daemon], receiver: Receiver, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    daemon = make_daemon(config_of(receiver, out), env={"NOTIFY_SECRET": SECRET}, start=False)
    assert b"No daemon runs: it was sent from here." in daemon.cli("notify", "test").stderr
    assert len(lines(out)) == len(receiver.seen) == 1
    assert b"options stand behind test" in daemon.cli("notify", "--json", "test", exit_code=2).stderr
    assert daemon.config is not None
    daemon.config.write_text("")
    done = daemon.cli("notify", "test", exit_code=4)
    assert b"the configuration has no [notify]" in done.stderr and b"covenq.toml(5)" in done.stderr
    assert b"Nobody is told of anything" in daemon.cli("notify").stderr
