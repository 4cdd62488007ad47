"""`covenq secrets`: how each webhook secret is used, and which may be retired."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from covenq.cli import output
from covenq.cli.context import source
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl, TokenFileOption, UrlOption
from covenq.cli.output import GREEN, RED, YELLOW, clean, say
from covenq.cli.table import Column, print_table

if TYPE_CHECKING:
    from covenq.model.answers import Secret

_COLOURS = {"retire": GREEN, "unreadable": RED, "wait": YELLOW, "gone": YELLOW}
_SCOPES = {"hooks": "hook", "installations": "installation", "repositories": ""}


def secrets(
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Show the webhook secrets: where each is, when it was last used, and which is safe to retire.

    To rotate one: name the new secret beside the old one in [github] webhook_secrets (the daemon takes it up by itself),
    give it to GitHub, and take the old one away when its verdict here is `retire`. Values are never shown.
    """
    with source(data, config) as opened:
        found = opened.secrets()
    if json:
        output.emit_page(found.items, next=found.next)
    else:
        _show(found.items, time.time())


def _show(items: list[Secret], now: float) -> None:
    columns: list[Column[Secret]] = [
        Column("NAME", lambda item: item.name),
        Column("FROM", _origin, shrink=12),
        Column("SCOPE", _scope, shrink=12),
        Column("LAST USED", lambda item: _last_used(item, now)),
        Column("30 DAYS", lambda item: f"{item.recent:,}", right=True),
        Column("VERDICT", lambda item: item.verdict, colour=lambda word: _COLOURS.get(word, "")),
    ]
    if not print_table(columns, items):
        say("There is no webhook secret yet: `covenq serve` makes one at its first start.")
        return
    for item in items:
        say(f"{clean(item.name)}: {clean(item.reason)}")


def _origin(item: Secret) -> str:
    match item.source:
        case None:
            return "not configured"
        case "value":
            return "the configuration"
        case "env":
            return f"${item.place}"
        case "credential":
            return f"credential {item.place}"
        case _:
            return str(item.place)


def _scope(item: Secret) -> str:
    """`everything`, or the hooks, installations and repositories it is limited to."""
    scope = item.scope
    if scope is None:
        return ""
    words = [f"{word} {one}".lstrip() for key, word in _SCOPES.items() for one in getattr(scope, key)]
    return ", ".join(words) or "everything"


def _last_used(item: Secret, now: float) -> str:
    at = item.last_used_at
    return f"{output.age(at, now)} ago" if at else "never"
