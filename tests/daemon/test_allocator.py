"""glibc's malloc settings are applied, where there is a mallopt."""

from __future__ import annotations

import platform

import pytest

from covenq.daemon import allocator


def test_glibc_takes_every_setting() -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("there is no mallopt here")
    assert allocator.configure() is True
    assert allocator.configure() is True


def test_where_there_is_no_mallopt_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert allocator.configure() is False
