"""The daemon's log on stderr: a line an event, for people or as JSON, and nothing in it that must not be.

What is logged is ids, words and counts. Behind that stands this module: every line passes through `mask`, which masks
secrets and tokens; control characters are escaped, so that no value makes one line look like two; and of an exception
only its type and place are told, since its text may quote what was received.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import IO, Any

from covenq.config.load import LOG_FORMATS, LOG_LEVELS
from covenq.text import escape

LINE_MAX = 8000
"""Characters of a message."""

Hushed = Callable[[str], str]


def configure(
    format: str = LOG_FORMATS[0],
    level: str = LOG_LEVELS[0],
    *,
    mask: Hushed = lambda text: text,
    stream: IO[str] | None = None,
) -> None:
    """Log to `stream` (stderr), in this format, from this level on. May be called again, to change either.

    Libraries are heard from `warning` on. Threads that fail, and the process itself, are logged in the same way.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines(mask) if format == "json" else Human(mask))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    for name in ("covenq", "journal"):
        logging.getLogger(name).setLevel(level.upper())
    sys.excepthook = _failed
    threading.excepthook = _thread_failed


class Human(logging.Formatter):
    """`2026-11-23T02:34:56.123Z WARNING covenq.intake.receive: the intake is closed: …`."""

    def __init__(self, mask: Hushed) -> None:
        super().__init__()
        self._hush = mask

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in fields_of(record).items())
        text = f"{at(record)} {record.levelname} {record.name}: {message_of(record)}{fields}"
        return escape(self._hush(text))


class JsonLines(logging.Formatter):
    """`{"at":…,"level":…,"logger":…,"message":…}` and the fields of the event, in ASCII."""

    def __init__(self, mask: Hushed) -> None:
        super().__init__()
        self._hush = mask

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": at(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._hush(message_of(record)),
        }
        for name, value in fields_of(record).items():
            line.setdefault(name, self._hush(value) if isinstance(value, str) else value)
        return json.dumps(line, default=str, allow_nan=False, separators=(",", ":")).replace("\x7f", "\\u007f")


def at(record: logging.LogRecord) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What was logged as `extra={"fields": {…}}`, without what is None."""
    fields = getattr(record, "fields", None)
    return {str(name): value for name, value in fields.items() if value is not None} if isinstance(fields, dict) else {}


def message_of(record: logging.LogRecord) -> str:
    """The message, bounded; of an exception, its type and where it was raised."""
    text = record.getMessage()
    if record.exc_info and record.exc_info[0] is not None:
        text += f": {record.exc_info[0].__name__} in {place_of(record.exc_info[2])}"
    return text if len(text) <= LINE_MAX else text[:LINE_MAX] + "…"


def place_of(trace: TracebackType | None) -> str:
    """file:line of where an exception was raised."""
    frames = traceback.extract_tb(trace, limit=-1)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"


def _failed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("covenq").critical("covenq failed: %s in %s", kind.__name__, place_of(trace))


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit:
        return
    name = args.thread.name if args.thread is not None else "a thread"
    logging.getLogger("covenq").critical(
        "%s failed: %s in %s", name, args.exc_type.__name__, place_of(args.exc_traceback)
    )
