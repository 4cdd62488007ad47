"""A further webhook secret in the text of a configuration: an entry of `[github] webhook_secrets`, and nothing else is changed.

The standard library reads TOML and doesn't write it, so the entry is put into the text as it is, with its comments and its order.
Whatever the file's style, the outcome is parsed and compared: what isn't exactly the old configuration with the entry is not
used. Values in, values out.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence

from covenq.config.secret_source import SecretSource
from covenq.config.toml_position import locate

_KEY = "webhook_secrets"
_LIST = re.compile(rf"""["']?{_KEY}["']?[ \t]*=[ \t]*\[""")
_ALONE = re.compile(r"[ \t]*(?:#[^\n]*)?\r?\n([ \t]*)")
"""What is behind a list's bracket where its items have lines of their own."""


def entry_of(source: SecretSource) -> dict[str, object]:
    """What the configuration says of a secret, which is none whose value stands there."""
    kind, place = next(
        (kind, place)
        for kind, place in (("file", source.file), ("env", source.env), ("credential", source.credential))
        if place is not None
    )
    scope = source.scope
    lists = {
        "hooks": list(scope.hooks),
        "installations": list(scope.installations),
        "repositories": list(scope.repositories),
    }
    return {"name": source.name, kind: str(place), **{key: value for key, value in lists.items() if value}}


def inline(source: SecretSource) -> str:
    """The entry as it is written in a list: `{ name = "app", file = "/etc/covenq/app" }`."""
    return "{ " + ", ".join(f"{key} = {toml_value(value)}" for key, value in entry_of(source).items()) + " }"


def with_secrets(text: str, sources: Sequence[SecretSource]) -> str | None:
    """The configuration's text with these secrets in it; None where that can't be done without a change of anything else.

    `text` is TOML that parses.
    """
    before = tomllib.loads(text)
    added = [entry_of(one) for one in sources]
    for written in (_in_list(text, sources), _as_tables(text, sources)):
        if written is not None and _is_that(written, before, added):
            return written
    return None


def _in_list(text: str, sources: Sequence[SecretSource]) -> str | None:
    """As the first items of a list that is there."""
    found = locate(text, ("github", _KEY))
    if found is None:
        return None
    lines = text.split("\n")
    start = sum(len(line) + 1 for line in lines[: found[0] - 1]) + found[1] - 1
    bracket = _LIST.search(text, start)
    if bracket is None:
        return None
    end = bracket.end()
    alone = _ALONE.match(text, end)
    items = [inline(one) + "," for one in sources]
    if alone is None:
        return text[:end] + " ".join(items) + " " + text[end:].lstrip(" ")
    return text[:end] + "".join(f"\n{alone[1]}{item}" for item in items) + text[end:]


def _as_tables(text: str, sources: Sequence[SecretSource]) -> str:
    """As tables at the end of the file."""
    tables = [
        f"[[github.{_KEY}]]\n" + "".join(f"{key} = {toml_value(value)}\n" for key, value in entry_of(one).items())
        for one in sources
    ]
    return text.rstrip("\r\n") + "\n\n" + "\n".join(tables)


def _is_that(written: str, before: dict[str, object], added: list[dict[str, object]]) -> bool:
    """Whether the text means what it meant before, with the entries at either end of the list."""
    try:
        written.encode()
        after = tomllib.loads(written)
    except (ValueError, RecursionError):
        return False
    github, github_before = after.get("github"), before.get("github", {})
    if not (isinstance(github, dict) and isinstance(github_before, dict)):
        return False
    there = github_before.get(_KEY, [])
    now = github.get(_KEY)
    rest, rest_before = ({k: v for k, v in one.items() if k != _KEY} for one in (github, github_before))
    return (
        rest == rest_before
        and now in (added + there, there + added)
        and {**after, "github": None} == {**before, "github": None}
    )


def toml_value(value: object) -> str:
    """A text, a whole number or a list of them in TOML, whose escapes are JSON's."""
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(one) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False)
