"""Parts of a delivery for other programs: values of its payload, and the request as a curl command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from covenq.cli import output
from covenq.cli.jsonpath import pick
from covenq.cli.output import clean, say
from covenq.errors import CovenqError, NotFound
from covenq.github.request import decode
from covenq.operate.inspect.curl import curl

if TYPE_CHECKING:
    from covenq.model.rows import OneDelivery


def print_part(payload: bytes, path: str, json: bool) -> None:
    """Print the values at the path, one per line: strings as they are, or with `json` as JSON. Raises NotFound, UsageError."""
    document = decode(payload)
    if document is None:
        raise NotFound("the payload is no JSON", hint="`covenq show ID --payload` writes it as it is.")
    to_person = output.is_terminal(output.stdout()) and not output.is_json_lines()
    for value in pick(document, path):
        if isinstance(value, str) and not json:
            output.line(clean(value) if to_person else value)
        else:
            output.line(_text_of(value, 2 if to_person else None))


def _text_of(value: object, indent: int | None) -> str:
    """The value as JSON. Raises CovenqError for a number beyond a double: it was read as infinite, which JSON can't say."""
    try:
        return output.json_text(value, indent=indent)
    except ValueError:
        raise CovenqError(
            "what is there holds a number that is too large to be read exactly",
            hint="`covenq show ID --payload` writes the payload as it is.",
        ) from None


def print_curl(delivery: OneDelivery, url: str | None) -> None:
    """Print the request as a command for a shell, as `covenq.operate.inspect.curl` makes it, and remarks on it on stderr."""
    command, remarks = curl(delivery, url)
    for remark in remarks:
        say(remark)
    output.line(command)
