"""A configuration's values as the text of a TOML file: tables under headers, in the order given.

The standard library reads TOML and doesn't write it. What is written here is read again by who uses it: values in, text out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from covenq.config.secret_entry import toml_value

_BARE = re.compile(r"[0-9A-Za-z_-]+\Z")
_CONTROL = re.compile(r"[\x7f]")
"""What JSON leaves as it is and TOML doesn't take."""

_BLANK = re.compile(r"\n{3,}")
"""Within a value every line's end is escaped, so these are between tables."""


def toml_text(tables: Mapping[str, object], comments: Mapping[str, str] | None = None) -> str:
    """The file. `comments` are lines above a first header of that name, each without its `#`."""
    lines: list[str] = []
    for key, value in tables.items():
        comment = (comments or {}).get(key)
        lines += ["", *(f"# {line}" for line in (comment.split("\n") if comment else ()))]
        _write(lines, (key,), value)
    return _BLANK.sub("\n\n", "\n".join(lines)).strip("\n") + "\n"


def _write(lines: list[str], path: tuple[str, ...], value: object) -> None:
    if isinstance(value, Mapping):
        _table(lines, path, value, f"[{_name(path)}]")
    elif isinstance(value, list):
        for index, one in enumerate(value):
            lines += [""] if index else []
            _table(lines, path, one, f"[[{_name(path)}]]")
    else:
        raise TypeError(f"{_name(path)} is no table")


def _table(lines: list[str], path: tuple[str, ...], table: Mapping[str, object], header: str) -> None:
    """Its own values first: what comes behind a table's header would be of that table."""
    inner = {key: value for key, value in table.items() if _is_table(key, value)}
    if len(inner) < len(table) or not inner or header.startswith("[["):
        lines.append(header)
    lines += [f"{_name((key,))} = {_inline(value)}" for key, value in table.items() if key not in inner]
    for key, value in inner.items():
        lines.append("")
        _write(lines, (*path, key), value)


def _is_table(key: str, value: object) -> bool:
    """Whether a value has a header of its own: [github.app], what a repository has, and what holds such; others are a line."""
    if not isinstance(value, Mapping):
        return False
    of_repository = "/" in key or key.isdecimal()
    return of_repository or key == "app" or any(isinstance(one, Mapping) for one in value.values())


def _inline(value: object) -> str:
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{_name((key,))} = {_inline(one)}" for key, one in value.items()) + " }"
            if value
            else "{}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(_inline(one) for one in value) + "]"
    return _escaped(toml_value(value))


def _name(path: tuple[str, ...]) -> str:
    return ".".join(part if _BARE.match(part) else _escaped(toml_value(part)) for part in path)


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
