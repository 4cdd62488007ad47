"""What `covenq routes test` tries the routes on: a payload, or the deliveries of an exported file or of GitHub's API."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from covenq.cli import output
from covenq.errors import BadRequest, UsageError
from covenq.model import JsonObject

FILE_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Trial:
    """A delivery to try the routes on. `id` is None for a payload alone."""

    id: str | None
    event: str
    row: JsonObject
    """As routes look at it: the columns among it."""
    columns: JsonObject
    body: JsonObject


def read(file: str) -> bytes:
    """The content of a file or of stdin. Raises UsageError."""
    try:
        if file == "-":
            if output.is_terminal(sys.stdin):
                raise UsageError("where is the payload?", hint="Give --file PATH, or send it on stdin.")
            content = sys.stdin.buffer.read(FILE_MAX + 1)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(FILE_MAX + 1)
    except OSError as error:
        raise UsageError(f"{file}: can't be read: {error.strerror}", hint="Give --file PATH.") from None
    if len(content) > FILE_MAX:
        raise UsageError(f"{file}: is larger than {FILE_MAX >> 20} MiB", hint="GitHub sends at most 25.")
    if file == "-" and not content.strip():
        raise UsageError("no payload came on stdin", hint="Give --file PATH, or send it on stdin.")
    return content


def trials(content: bytes, file: str, event: str | None) -> Iterator[Trial]:
    """What is in the file. Raises UsageError.

    `event` is that of a payload alone, which doesn't say it; deliveries bring theirs with them.
    """
    from covenq.github.columns import columns
    from covenq.github.request import decode
    from covenq.operate.act import archive

    if archive.has_deliveries(content):
        if event is not None:
            raise UsageError(f"{file}: says itself which event each delivery is of", hint="Leave out --event.")
        yield from _deliveries(content, file)
        return
    body = decode(content)
    if not isinstance(body, dict):
        raise UsageError(f"{file}: is no JSON object", hint="Give the payload as GitHub sends it.")
    if event is None:
        raise UsageError(
            "a payload doesn't say which event it is of", hint="Add --event NAME, or give what `covenq export` wrote."
        )
    read, about = columns(event, body)
    found = {**read, **about}
    yield Trial(None, event, {"hook": "-", "guid": "-", "event": event, **found}, found, body)


def _deliveries(content: bytes, file: str) -> Iterator[Trial]:
    from covenq.github import request
    from covenq.github.columns import columns
    from covenq.operate.act import archive

    for number, one in enumerate(archive.read(io.BytesIO(content), file), 1):
        headers = request.fold_headers(one.headers)
        try:
            if one.body is None:
                raise BadRequest("payload_gone", "Its payload was no longer kept where it comes from.")
            identity = request.identity(headers)
            body = request.parse(one.body, headers.get("content-type", "application/json")).object
        except BadRequest as error:
            raise UsageError(f"{file}, delivery {number}: {error.detail}", hint="Export it without that.") from None
        read, about = columns(identity.event, body)
        found = {**read, **about}
        id = identity.delivery
        row = {"hook": id.hook, "guid": id.guid, "event": identity.event, "payload_bytes": len(one.body), **found}
        yield Trial(str(id), identity.event, row, found, body)
