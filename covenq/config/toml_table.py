"""A TOML table with its position, so that every error names the file and the key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TypeVar

from covenq.config.toml_position import Step, locate
from covenq.errors import ConfigError, UsageError
from covenq.model import TOKEN, parse_duration

_Kind = TypeVar("_Kind")
_Default = TypeVar("_Default")

"""Sections of later versions: the error says so."""


def did_you_mean(word: str, words: Sequence[str]) -> str:
    """A suggestion to append to an error's message; empty if no word is similar."""
    found = difflib.get_close_matches(word, words, n=1)
    return f": did you mean {found[0]}?" if found else ""


class Table:
    """A TOML table with checked access to its values. Methods raise ConfigError, which names the file and the key."""

    def __init__(
        self, file: str, where: str, raw: Mapping[str, object], path: tuple[Step, ...] = (), text: str | None = None
    ) -> None:
        """Errors call it `where`; `path` is its path in `text`, the whole file. `text` is None where there is no file."""
        self.file, self.where, self.raw, self.path, self.text_of_file = file, where, raw, path, text

    def error(self, key: str, problem: str, *, hint: str | None = None) -> ConfigError:
        place = ".".join(part for part in (self.where, key) if part)
        found = None if self.text_of_file is None else locate(self.text_of_file, (*self.path, *([key] if key else ())))
        if found is not None:
            place += f" (line {found[0]}, column {found[1]})"
        return ConfigError(f"{self.file}: {place}: {problem}" if place else f"{self.file}: {problem}", hint=hint)

    def require_known(self, known: Sequence[str]) -> None:
        for key in self.raw:
            if key not in known:
                guess = did_you_mean(key, known) or f"; known are {', '.join(known)}"
                raise self.error(key[:80], f"unknown key{guess}")

    def _get(self, key: str, default: _Default | None, kind: type[_Kind], noun: str) -> _Kind | _Default:
        if key not in self.raw:
            if default is None:
                raise self.error(key, "is missing")
            return default
        value = self.raw[key]
        if not isinstance(value, kind) or type(value) is not kind:  # true is no whole number
            raise self.error(key, f"must be {noun}")
        return value

    def table(self, key: str, known: Sequence[str]) -> Table:
        where = f"{self.where}.{key}" if self.where else key
        inner = Table(self.file, where, self._get(key, {}, dict, "a table"), (*self.path, key), self.text_of_file)
        inner.require_known(known)
        return inner

    def tables(self, key: str) -> list[Table]:
        items = self._get(key, [], list, "a list of tables")
        where = f"{self.where}.{key}" if self.where else key
        tables = []
        for index, item in enumerate(items, 1):
            if not isinstance(item, dict):
                raise self.error(key, f"number {index} must be a table")
            path = (*self.path, key, index - 1)
            tables.append(Table(self.file, f"{where} {index}", item, path, self.text_of_file))
        return tables

    def text(self, key: str, default: str | None = None) -> str:
        text = self._get(key, default, str, "a text")
        if "\0" in text:
            raise self.error(key, "can't hold a NUL")
        return text

    def token(self, key: str) -> str:
        text = self.text(key)
        if not TOKEN.match(text):
            raise self.error(key, f"{text[:80]!r} is not 1 to 64 letters, digits, _ or -")
        return text

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        values = self._get(key, default, list, "a list of texts")
        if not all(isinstance(value, str) for value in values):
            raise self.error(key, "must be a list of texts")
        return tuple(values)

    def items(self, key: str, kinds: tuple[type[_Kind], ...], noun: str) -> list[_Kind]:
        """A list of values of these types; empty if the key is absent."""
        values = self._get(key, (), list, noun)
        if not all(type(value) in kinds for value in values):
            raise self.error(key, f"must be {noun}")
        return list(values)

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        value = self._get(key, default, int, "a whole number")
        if not low <= value <= high:
            raise self.error(key, f"must be between {low} and {high}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        return self._get(key, default, bool, "true or false")

    def duration(self, key: str, default: float) -> float:
        text = self._get(key, default, str, "a duration such as 500ms, 10m or 2d")
        if not isinstance(text, str):
            return default
        try:
            return parse_duration(text)
        except UsageError as error:
            raise self.error(key, str(error), hint=error.hint) from None

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """One of `choices`; the first is the default."""
        text = self.text(key, choices[0])
        if text not in choices:
            raise self.error(key, f"{text[:40]!r} is none of {', '.join(choices)}{did_you_mean(text, choices)}")
        return text
