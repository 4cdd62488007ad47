"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def eventually(fn: Callable[[], T], timeout: float = 30.0, what: str = "", longest_pause: float = 0.1) -> T:
    """Call `fn` until it returns something true, and return that. Pauses grow to `longest_pause` seconds.

    An AssertionError or OSError from `fn` counts as "not yet". Past `timeout` seconds the last of them is raised
    again, or AssertionError.
    """
    deadline = time.monotonic() + timeout
    pause = 0.005
    while True:
        failure: Exception | None = None
        value: T | None = None
        try:
            value = fn()
            if value:
                return value
        except (AssertionError, OSError, http.client.HTTPException) as error:
            failure = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or fn} (last: {value!r})") from failure
        time.sleep(pause)
        pause = min(pause * 1.5, longest_pause)


def written_json(path: Path, timeout: float = 30.0) -> Any:
    """What another process writes into `path`, once it is whole: a file that it just made is there and empty."""

    def parsed() -> list[Any]:
        try:
            return [json.loads(path.read_bytes())]
        except (FileNotFoundError, json.JSONDecodeError):
            return []

    return eventually(parsed, timeout, f"JSON in {path.name}")[0]
