"""Adding options to many commands in one place, by extending their signatures, so that all have the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

Command = Callable[..., None]


def with_options(command: Command, run: Command, options: dict[str, Any], *, behind: str | None = None) -> Command:
    """`run`, which wraps the command, with the command's signature and these options, by name and type.

    Help lists them after the option `behind`, or at the end.
    """
    parameters: list[inspect.Parameter] = []
    more = [_parameter(name, annotation) for name, annotation in options.items()]
    for one in inspect.signature(command, eval_str=True).parameters.values():
        parameters.append(one.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        if one.name == behind:
            parameters += more
    if behind is None:
        parameters += more
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    return run


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    """A keyword parameter that defaults to None."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def has_parameter(command: Command, option: str) -> bool:
    return option in inspect.signature(command).parameters
