"""Parsing a payload once: its value for the caller, and the proof for the journal that its bytes are JSON.

A journal keeps a payload that is JSON as JSON, and has to know that it is. Whoever had to parse it anyway hands the proof on with
the entry (`Entry.parsed_json`), and the journal doesn't parse it again.
"""

from __future__ import annotations

from typing import Any

import orjson

from journal.records import ParsedJson


def parse(payload: bytes) -> tuple[Any, ParsedJson]:
    """The JSON value of these bytes, and the proof for an entry that carries them. Raises orjson.JSONDecodeError."""
    return orjson.loads(payload), ParsedJson(payload)
