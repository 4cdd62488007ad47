"""The C library is told, where it can be."""

from __future__ import annotations

import platform

import pytest

from covenq.daemon import allocator


def test_glibc_takes_every_setting() -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("there is no mallopt here")
    assert allocator.give_back() is True
    assert allocator.give_back() is True


def test_where_there_is_no_mallopt_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert allocator.give_back() is False
