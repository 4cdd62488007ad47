"""What a node tells of its webhook secrets: whether they are the same, and next to nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from covenq.config.live import Snapshot
from covenq.config.load import Config
from covenq.config.secret_keys import Key
from covenq.daemon import secret_fingerprint
from covenq.daemon.secret_fingerprint import SecretFingerprint, fingerprint
from tests.support.waiting import eventually

JOURNAL = "0123456789abcdef" * 2
KEYS = (Key("app", b"first"), Key("old", b"second"))


def of(*keys: tuple[str, bytes], journal: str = JOURNAL) -> str:
    return fingerprint([Key(name, secret) for name, secret in keys], journal)


def test_it_is_of_names_and_contents_whatever_their_order_in_the_configuration() -> None:
    told = of(("app", b"first"), ("old", b"second"))
    assert told == of(("old", b"second"), ("app", b"first"))
    others = [
        of(("app", b"second"), ("old", b"first")),
        of(("app", b"first")),
        of(("appf", b"irst"), ("old", b"second")),
        of(("app", b"first"), ("old", b"second "), journal=JOURNAL),
        of(("app", b"first"), ("old", b"second"), journal=JOURNAL[::-1]),
    ]
    assert len({told, *others}) == 1 + len(others)


def test_neighbouring_versions_find_the_same_one() -> None:
    """By what it is made of, which no version may change: 8 hex digits of scrypt, N 16384, r 8, p 1."""
    assert of(("app", b"first"), ("old", b"\xff")) == "5d6a5772"


class Started:
    """What is to run in the background, which a test runs."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, run: Callable[[], None]) -> None:
        self.waiting.append(run)


def test_it_is_made_once_for_the_secrets_in_effect_and_nothing_waits_for_it() -> None:
    started = Started()
    told = SecretFingerprint(JOURNAL, started)
    first, again = Snapshot(Config(), KEYS), Snapshot(Config(), KEYS[:1], 2)
    assert told.of(first) is None and told.of(first) is None
    assert told.of(again) is None, "the first's may never be told for other secrets"
    begun_first, begun_again = started.waiting
    begun_again()
    begun_first()
    assert [told.of(again) for _ in range(3)] == [fingerprint(KEYS[:1], JOURNAL)] * 3
    assert len(started.waiting) == 2


def test_it_is_made_by_itself_in_the_background() -> None:
    told = SecretFingerprint(JOURNAL)
    now = Snapshot(Config(), KEYS)
    eventually(lambda: told.of(now) == fingerprint(KEYS, JOURNAL), 60, "it is made")


def test_nothing_is_told_where_nothing_is_posted_here() -> None:
    started = Started()
    assert SecretFingerprint(JOURNAL, started).of(Snapshot(replace(Config(), ingress="log"), ())) is None
    assert not started.waiting


def test_one_that_can_not_be_made_is_told_of_without_the_secrets(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(*given: object, **more: object) -> bytes:
        raise ValueError("unsupported hash")

    monkeypatch.setattr(secret_fingerprint.hashlib, "scrypt", refuses)
    started = Started()
    told = SecretFingerprint(JOURNAL, started)
    now = Snapshot(Config(), KEYS)
    assert told.of(now) is None
    with caplog.at_level(logging.WARNING):
        started.waiting[0]()
    assert told.of(now) is None and len(started.waiting) == 1
    assert "unsupported hash" in caplog.text and "first" not in caplog.text
