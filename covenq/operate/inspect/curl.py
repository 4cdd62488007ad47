"""A delivery as a `curl` command that sends it again."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from covenq.model.rows import OneDelivery

URL = "http://127.0.0.1:8787/webhook"
SENT_HEADERS = frozenset({"content-type", "user-agent"})
"""Headers that are sent besides GitHub's own."""


def curl(delivery: OneDelivery, url: str | None) -> tuple[str, list[str]]:
    """The command for a shell, and remarks about it, a sentence each.

    It signs nothing: the same bytes have the same signature, and no secret is in it. A covenq that has the delivery answers
    "duplicate"; another one, or another application, accepts it as new.
    """
    remarks: list[str] = []
    headers = [
        (str(name), str(value))
        for name, value in delivery.headers or ()
        if str(name).lower() in SENT_HEADERS or str(name).lower().startswith(("x-github-", "x-hub-"))
    ]
    if not any(name.lower() == "x-hub-signature-256" for name, _ in headers):
        remarks.append("Its signature was not kept: what receives it will refuse it, unless it checks none.")
    parts = [f"covenq show {delivery.hook}/{delivery.guid} --payload | curl -sS -X POST {shlex.quote(url or URL)}"]
    for name, value in headers:
        text = f"{name}: {value}"
        if not text.isprintable():
            remarks.append(f"The header {name!a} is left out: it holds what is no text.")
            continue
        parts.append(f"-H {shlex.quote(text)}")
    return " \\\n  ".join([*parts, "--data-binary @-"]), remarks
