"""Rotating secrets under load: what a valid secret signed is accepted, and what was accepted is stored."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.requests import ask, issue, new_guid, signed
from tests.support.waiting import eventually

CLIENTS = 6
EACH_PHASE = 60
"""Deliveries that have to be accepted before the next step."""

OLD, NEW, NEXT = "the old webhook secret", "the new webhook secret", "the secret after that"


class Load:
    """Clients that post without a pause, each signed with one of the secrets that are valid when it begins."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._lock = threading.Lock()
        self._valid: list[str] = []
        self._flying: dict[int, str] = {}
        self._stop = threading.Event()
        self.accepted: list[str] = []
        self.wrong: list[Any] = []
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def sign_with(self, *secrets: str) -> None:
        """Sign with these only, from now on: returns when nothing signed with another is in flight."""
        with self._lock:
            self._valid = list(secrets)

        def landed() -> bool:
            with self._lock:
                return all(secret in secrets for secret in self._flying.values())

        eventually(landed, what="requests signed with a secret that is to go are answered")

    def run_on(self) -> None:
        """Wait until enough of the requests that begin from now on were accepted."""
        enough = len(self.accepted) + CLIENTS + EACH_PHASE
        eventually(lambda: self.wrong or len(self.accepted) >= enough, what="the load is accepted")
        assert not self.wrong, self.wrong[0]

    def _run(self, number: int) -> None:
        connection = self._daemon.connect()
        turn = number
        while not self._stop.is_set():
            with self._lock:
                secret = self._valid[turn % len(self._valid)]
                self._flying[number] = secret
            turn += 1
            guid = new_guid()
            body, headers = signed("issues", issue(turn), guid, secret=secret)
            try:
                answer = ask(connection, "POST", "/webhook", body, headers)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
                self.wrong.append(error)
                return
            with self._lock:
                del self._flying[number]
            if answer.status == 202:
                self.accepted.append(guid)
            else:
                self.wrong.append((secret, answer.status, answer.body))
        connection.close()


def config_of(**files: str) -> str:
    named = ", ".join(f'{{ name = "{name}", file = "{file}" }}' for name, file in files.items())
    return f"[github]\nwebhook_secrets = [{named}]\n"


def replace(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".draft")
    draft.write_text(text)
    draft.replace(path)


@pytest.mark.parametrize("how", ["SIGHUP", "change"])
def test_rotation_under_load_refuses_and_loses_nothing(
    make_daemon: Callable[..., Daemon], tmp_path: Path, how: str
) -> None:
    config = tmp_path / "covenq.toml"
    (tmp_path / "a").write_text(OLD + "\n")
    config.write_text(config_of(a="a"))
    daemon = make_daemon(config, secret=None)

    def reload() -> dict[str, Any]:
        found: dict[str, Any] = daemon.api("/api/v1/status").json["reload"]
        return found

    def changed(change: Callable[[], object], *, ok: bool = True) -> None:
        """Make a change, and wait until the daemon reports it in effect, or refused."""
        before = reload()
        change()
        if how == "SIGHUP":
            os.kill(daemon.pid, signal.SIGHUP)
        eventually(lambda: (reload()["number"] > before["number"]) if ok else not reload()["ok"], what="the reload")

    load = Load(daemon)
    load.sign_with(OLD)
    with load:
        load.run_on()
        # A new secret beside the old one; both sign.
        (tmp_path / "b").write_text(NEW)
        changed(lambda: replace(config, config_of(a="a", b="b")))
        load.sign_with(OLD, NEW)
        load.run_on()
        # Half a file, and an empty secret: both doors stay open.
        changed(lambda: config.write_text(config_of(a="a", b="b")[:-4]), ok=False)
        load.run_on()
        changed(lambda: config.write_text(config_of(a="a", b="b") + "# whole\n[retention]\npayloads = '9d'\n"))
        (tmp_path / "a").write_text("")
        if how == "SIGHUP":
            os.kill(daemon.pid, signal.SIGHUP)
        eventually(lambda: "is empty" in str(reload()["error"]), what="an empty secret is refused")
        load.run_on()
        # The old one's file gets another secret in place; nobody signs with the old one any more.
        load.sign_with(NEW)
        changed(lambda: (tmp_path / "a").write_text(NEXT))
        load.sign_with(NEW, NEXT)
        load.run_on()
        # And the new one goes.
        load.sign_with(NEXT)
        changed(lambda: replace(config, config_of(a="a")))
        load.run_on()

    assert not load.wrong
    assert daemon.post("issues", issue(), secret=OLD).status == 401
    assert daemon.post("issues", issue(), secret=NEW).status == 401
    assert daemon.stop() == 0
    kept = {record["data"]["guid"]: record["data"]["secret"] for record in daemon.records("delivery.received")}
    assert kept.keys() == set(load.accepted)
    assert set(kept.values()) == {"a", "b"}
    assert daemon.cli_json("status", exit_code=6)["refused"] == {}
    log = daemon.log_tail(100_000)
    assert all(secret not in log for secret in (OLD, NEW, NEXT))


def test_sighup_never_stops_the_daemon(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()

    def told(times: int) -> bool:
        return daemon.log_tail().count("(SIGHUP)") == times

    for number in (1, 2, 3):
        os.kill(daemon.pid, signal.SIGHUP)
        eventually(partial(told, number), what="the reload is logged")
    assert daemon.post("issues", issue()).status == 202
    assert daemon.stop() == 0


def test_new_routes_apply_at_once(make_daemon: Callable[..., Daemon], write_config: Callable[[str], Path]) -> None:
    daemon = make_daemon('[[route]]\nname = "a"\nmatch = "event:push"\nrun = ["true"]\n')
    assert daemon.post("issues", issue(1)).json["state"] == "ignored"
    write_config('[[route]]\nname = "b"\nmatch = "event:issues"\nrun = ["true"]\n')
    eventually(lambda: daemon.api("/api/v1/status").json["routes"] == ["b"], what="the new route")
    answer = daemon.post("issues", issue(2)).json
    assert answer["state"] == "queued"
    daemon.wait_all_done()
