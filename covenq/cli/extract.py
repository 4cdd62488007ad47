"""Parts of a delivery that other programs take: a value of its payload, and the request as a command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from covenq.cli import output
from covenq.cli.jsonpath import pick
from covenq.cli.output import clean, say
from covenq.errors import NotFound
from covenq.github.request import decode
from covenq.operate.inspect.curl import curl


def print_part(payload: bytes, path: str, json: bool) -> None:
    """The values that the path names, a line each: texts as they are, and with `json` as JSON. Raises NotFound, UsageError."""
    document = decode(payload)
    if document is None:
        raise NotFound("the payload is no JSON", hint="`covenq show ID --payload` writes it as it is.")
    to_person = output.is_terminal(output.stdout()) and not output.is_json_lines()
    for value in pick(document, path):
        if isinstance(value, str) and not json:
            output.line(clean(value) if to_person else value)
        else:
            output.line(output.json_text(value, indent=2 if to_person else None))


def print_curl(delivery: Mapping[str, Any], url: str | None) -> None:
    """A command line for a shell, as `covenq.operate.inspect.curl.curl` makes it; what is to be known of it goes to stderr."""
    command, remarks = curl(delivery, url)
    for remark in remarks:
        say(remark)
    output.line(command)
