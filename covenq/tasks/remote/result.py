"""The result that a command of `covenq worker` leaves, as the daemon takes it: JSON of a bounded size and depth, or text."""

from __future__ import annotations

import os
from collections.abc import Callable

import orjson

from covenq.errors import UsageError
from covenq.model import Category
from covenq.tasks.execution.headless_result import InvalidResult, judged, outcome_of, parse_result
from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.scheduling.outcome import RESULT_DEPTH_MAX, RESULT_MAX, Outcome
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


def with_result(outcome: Outcome, contract: str | None, read: Callable[[], object]) -> tuple[Outcome, object]:
    """How an attempt ended by what its command left, which `read` gives as `read_result` does, and what is reported of that."""
    if outcome.category is not None and contract is None:
        return outcome, None
    try:
        result = read()
    except ValueError as error:
        return judged(outcome, None) if contract else _invalid(outcome, str(error)), None
    except OSError as error:
        return _invalid(outcome, f"its result could not be read: {error.strerror}"), None
    if contract is None:
        return outcome, result
    outcome = judged(outcome, None if result is None else orjson.dumps(result))
    return outcome, result if outcome.reported is not None else None


def judged_report(text: bytes | None, exit_code: int | None) -> Outcome:
    """The outcome of an attempt whose route has a contract, by the result that its worker reported. Raises UsageError."""
    hint = "covenq-headless(7) says what a result is. One that is none is a failure of the category result_invalid."
    if text is None:
        raise UsageError("by its route's contract it leaves a result", hint=hint)
    try:
        return outcome_of(parse_result(text), exit_code)
    except InvalidResult as error:
        raise UsageError(str(error), hint=hint) from None


def _invalid(outcome: Outcome, words: str) -> Outcome:
    return Outcome(Category.RESULT_INVALID, 0, None, words, usage=outcome.usage)


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


def result_text(result: object) -> bytes:
    """Raises UsageError."""
    try:
        text = orjson.dumps(result)
    except orjson.JSONEncodeError:  # of what was parsed, it refuses only what is nested too deeply
        text = None
    if text is None or is_deeper(text, RESULT_DEPTH_MAX):
        raise UsageError(f"a result that is nested over {RESULT_DEPTH_MAX} levels", hint="Keep it elsewhere.")
    return text
