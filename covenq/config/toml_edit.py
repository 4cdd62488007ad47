"""Additions to a configuration's text that leave all that stands there as it is, comments and order too: settings, and an App.

As `covenq.config.secret_entry`, which adds webhook secrets: lines are added by the shape of others, and the outcome is read
again. What differs from before by anything else than what was to be added is not used. Text in, text out.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence

from covenq.config.secret_entry import toml_value, with_secrets
from covenq.config.secret_source import SecretSource
from covenq.errors import Refused

Value = str | int
"""What is added: a text or a whole number."""
Setting = tuple[str, str, Value]
"""A section, a key in it, and its value."""


def extended(text: str, settings: Sequence[Setting], secrets: Sequence[SecretSource], app: Mapping[str, Value]) -> str:
    """The text with the settings, more `webhook_secrets`, and the table [github.app].

    Raises Refused where that can't be written beside what stands there. `text` is TOML that parses.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    made: str | None = text if not text or text.endswith("\n") else text + newline
    if secrets:
        made = with_secrets(text, secrets)
    if made is not None:
        before = tomllib.loads(made)
        for section, key, value in settings:
            made = _with_setting(made, section, f"{key} = {toml_value(value)}", newline)
        made += newline.join(["", "[github.app]", *(f"{key} = {toml_value(value)}" for key, value in app.items()), ""])
        if _adds_only(before, made, [*settings, ("github", "app", dict(app))]):
            return made
    raise Refused(
        "it can't be added to the configuration without touching what stands there",
        hint="Write [server] and [github] as tables of their own, not within braces, or name another with --config.",
    )


def with_settings(text: str, settings: Sequence[Setting]) -> str | None:
    """The text with the settings; None where that can't be written beside what stands there. `text` is TOML that parses."""
    newline = "\r\n" if "\r\n" in text else "\n"
    made = text if not text or text.endswith("\n") else text + newline
    before = tomllib.loads(made)
    for section, key, value in reversed(settings):  # each is put right behind its section's header
        made = _with_setting(made, section, f"{key} = {toml_value(value)}", newline)
    return made if _adds_only(before, made, settings) else None


def _with_setting(text: str, section: str, line: str, newline: str) -> str:
    """A line behind the section's header, or the section at the end."""
    header = re.search(rf"^[ \t]*\[[ \t]*{section}[ \t]*\][ \t]*(?:#[^\n]*)?\r?\n", text, re.MULTILINE)
    if header is None:
        return f"{text}{newline}[{section}]{newline}{line}{newline}"
    return text[: header.end()] + line + newline + text[header.end() :]


def _adds_only(before: dict[str, object], text: str, added: Sequence[tuple[str, str, object]]) -> bool:
    """Whether the text reads as `before` and the additions, none of which was there."""
    wanted = {section: dict(value) if isinstance(value, dict) else value for section, value in before.items()}
    for section, key, value in added:
        table = wanted.setdefault(section, {})
        if not isinstance(table, dict) or key in table:
            return False
        table[key] = value
    try:
        return tomllib.loads(text) == wanted
    except ValueError:
        return False
