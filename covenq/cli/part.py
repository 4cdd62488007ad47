"""Parts of a delivery that other programs take: a value of its payload, and the request as a command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import Any

from covenq.cli import output
from covenq.cli.output import clean, say
from covenq.errors import NotFound
from covenq.github import decode
from covenq.jsonpath import pick

URL = "http://127.0.0.1:8787/webhook"
SENT = frozenset({"content-type", "user-agent"})
"""Headers that are sent again, beside GitHub's own."""


def print_part(payload: bytes, path: str, json: bool) -> None:
    """The values that the path names, a line each: texts as they are, and with `json` as JSON. Raises NotFound, UsageError."""
    document = decode(payload)
    if document is None:
        raise NotFound("the payload is no JSON", hint="`covenq show ID --payload` writes it as it is.")
    to_person = output.is_terminal(output.stdout())
    for value in pick(document, path):
        if isinstance(value, str) and not json:
            output.line(clean(value) if to_person else value)
        else:
            output.line(output.json_text(value, indent=2 if to_person else None))


def print_curl(delivery: Mapping[str, Any], url: str | None) -> None:
    """A command line for a shell. It signs nothing: the same bytes have the same signature, and no secret is in it.

    Whoever has kept the delivery answers "duplicate", another covenq or application takes it for new.
    """
    headers = [
        (str(name), str(value))
        for name, value in delivery["headers"] or ()
        if str(name).lower() in SENT or str(name).lower().startswith(("x-github-", "x-hub-"))
    ]
    if not any(name.lower() == "x-hub-signature-256" for name, _ in headers):
        say("Its signature was not kept: what receives it will refuse it, unless it checks none.")
    parts = [
        f"covenq show {delivery['hook']}/{delivery['guid']} --payload | curl -sS -X POST {shlex.quote(url or URL)}"
    ]
    for name, value in headers:
        text = f"{name}: {value}"
        if not text.isprintable():
            say(f"The header {clean(name)} is left out: it holds what is no text.")
            continue
        parts.append(f"-H {shlex.quote(text)}")
    parts.append("--data-binary @-")
    print(" \\\n  ".join(parts), file=output.stdout())
    sys.stdout.flush()
