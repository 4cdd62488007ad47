"""The result that a command of `covenq worker` leaves, as the daemon takes it: JSON of a bounded size and depth, or text."""

from __future__ import annotations

import os

import orjson

from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.scheduling.outcome import RESULT_DEPTH_MAX, RESULT_MAX
from journal.payload import is_deeper


def read_result(directory: AttemptDirectory) -> object:
    """The command's result as JSON: the content of the file if that is JSON, else its text.

    Raises ValueError for what the daemon would not take, and OSError.
    """
    file = directory.open_result()
    if file is None:
        return None
    with file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(RESULT_MAX + 1) if size <= RESULT_MAX else b""
    if (size := max(size, len(content))) > RESULT_MAX:
        raise ValueError(f"its result has {size} bytes, more than {RESULT_MAX}")
    result = _parsed(content)
    if (size := len(orjson.dumps(result))) > RESULT_MAX:
        raise ValueError(f"its result has {size} bytes as JSON, more than {RESULT_MAX}")
    return result


def _parsed(content: bytes) -> object:
    try:
        result: object = orjson.loads(content)
    except ValueError:
        pass
    else:
        if is_deeper(content, RESULT_DEPTH_MAX):
            raise ValueError(f"its result is nested over {RESULT_DEPTH_MAX} levels")
        return result
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("its result is neither JSON nor text") from None
