"""The daemon's log on stderr: one line per event, as text or as JSON, without secrets.

Callers log ids, words and counts only. As a second line of defence every line passes through `mask`, which masks
secrets and tokens; control characters are escaped, so that no value makes one line look like two; and of an exception
only its type and location are logged, since its text may quote what was received.

Lines are written by a thread of their own (`covenq.log_writer`), so that no thread waits for whoever reads them. The newest
warnings are kept for the status too: whoever asks why something is wrong need not know where the log goes.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import IO

from covenq import log_writer
from covenq.config.load import LOG_FORMATS, LOG_LEVELS
from covenq.log_writer import LogWriter
from covenq.model.status import LogLine
from covenq.text import escape

LINE_MAX = 8000
"""Characters of a message."""
NEWEST = 20
NEWEST_CHARACTERS = 500
"""Warnings that are kept for the status, and characters of each: a status stays small."""

Mask = Callable[[str], str]


def configure(
    format: str = LOG_FORMATS[0],
    level: str = LOG_LEVELS[0],
    *,
    mask: Mask = lambda text: text,
    stream: IO[str] | None = None,
) -> None:
    """Log to `stream` (stderr, by its writer), in this format, from this level on. May be called again, to change either.

    Libraries are logged from `warning` on, but urllib3, whose warnings quote whole addresses, from `error` on. Uncaught
    exceptions, of threads too, are logged in the same way.
    """
    handler = QueueingHandler(log_writer.stderr) if stream is None else logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(mask) if format == "json" else TextFormatter(mask))
    log_writer.stderr.note = lambda dropped: handler.format(_dropped_record(dropped))
    root = logging.getLogger()
    newest.mask = mask
    root.handlers[:] = [handler, newest]
    root.setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    for name in ("covenq", "journal"):
        logging.getLogger(name).setLevel(level.upper())
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_thread_uncaught


class QueueingHandler(logging.Handler):
    """Formats a record in the thread that logs it, and queues the line."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - as logging's own handlers: a record that can't be formatted fails nobody's work
            self.handleError(record)
        else:
            self._writer.put(line)

    def handleError(self, record: logging.LogRecord) -> None:
        """Say so in the log. logging's own would write to stderr, and wait there."""
        self._writer.put(f"a line of {record.name} in {record.pathname}:{record.lineno} could not be formatted")


class NewestWarnings(logging.Handler):
    """The newest warnings and errors, masked and escaped as the log's own lines are."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.mask: Mask = lambda text: text
        self._lines: deque[LogLine] = deque(maxlen=NEWEST)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = "".join(f" {name}={value}" for name, value in fields_of(record).items())
            words = escape(self.mask(message_of(record) + fields))
        except Exception:  # noqa: BLE001 - the other handler says that it could not be formatted
            return
        if len(words) > NEWEST_CHARACTERS:
            words = words[: NEWEST_CHARACTERS - 1] + "…"
        self._lines.append(LogLine(timestamp(record), record.levelname.lower(), record.name, words))

    def lines(self) -> list[LogLine]:
        """Oldest first. From any thread."""
        self.acquire()
        try:
            return list(self._lines)
        finally:
            self.release()


newest = NewestWarnings()
"""Of this process, which has one log."""


def _dropped_record(dropped: int) -> logging.LogRecord:
    level, words = logging.WARNING, log_writer.plain_note(dropped)
    return logging.LogRecord("covenq.log", level, __file__, 0, words, None, None)


class TextFormatter(logging.Formatter):
    """`2026-11-23T02:34:56.123Z WARNING covenq.intake.receive: the intake is closed: …`."""

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in fields_of(record).items())
        text = f"{timestamp(record)} {record.levelname} {record.name}: {message_of(record)}{fields}"
        return escape(self._mask(text))


class JsonFormatter(logging.Formatter):
    """JSON lines: `{"at":…,"level":…,"logger":…,"message":…}` and the fields of the event, in ASCII."""

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._mask(message_of(record)),
        }
        for name, value in fields_of(record).items():
            line.setdefault(name, self._mask(value) if isinstance(value, str) else value)
        return json.dumps(line, default=str, allow_nan=False, separators=(",", ":")).replace("\x7f", "\\u007f")


def timestamp(record: logging.LogRecord) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """What was logged as `extra={"fields": {…}}`, without what is None."""
    fields = getattr(record, "fields", None)
    return {str(name): value for name, value in fields.items() if value is not None} if isinstance(fields, dict) else {}


def message_of(record: logging.LogRecord) -> str:
    """The message, bounded; for an exception with its type and where it was raised."""
    text = record.getMessage()
    if record.exc_info and record.exc_info[0] is not None:
        text += f": {record.exc_info[0].__name__} in {location_of(record.exc_info[2])}"
    return text if len(text) <= LINE_MAX else text[:LINE_MAX] + "…"


def location_of(trace: TracebackType | None) -> str:
    """file:line of where an exception was raised."""
    frames = traceback.extract_tb(trace, limit=-1)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("covenq").critical("covenq failed: %s in %s", kind.__name__, location_of(trace))


def _log_thread_uncaught(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit:
        return
    name = args.thread.name if args.thread is not None else "a thread"
    logging.getLogger("covenq").critical(
        "%s failed: %s in %s", name, args.exc_type.__name__, location_of(args.exc_traceback)
    )
