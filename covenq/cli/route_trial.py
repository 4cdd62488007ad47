"""What `covenq routes test` tries the routes on: a payload, or the deliveries of an exported file or of GitHub's API."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from covenq import given_file
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
            content = given_file.read(Path(file), FILE_MAX + 1)
    except OSError as error:
        raise UsageError(f"{file}: can't be read: {error.strerror}", hint="Give --file PATH.") from None
    if len(content) > FILE_MAX:
        raise UsageError(f"{file}: is larger than {FILE_MAX >> 20} MiB", hint="GitHub sends at most 25.")
    if file == "-" and not content.strip():
        raise UsageError("no payload came on stdin", hint="Give --file PATH, or send it on stdin.")
    return content


def trials(content: bytes, file: str, event: str | None, lost: list[str]) -> Iterator[Trial]:
    """What is in the file; the ids of deliveries whose payload is not are added to `lost`. Raises UsageError.

    `event` is that of a payload alone, which doesn't say it; deliveries bring theirs with them.
    """
    from covenq.github.columns import columns
    from covenq.operate.act import archive

    if archive.has_deliveries(content):
        if event is not None:
            raise UsageError(f"{file}: says itself which event each delivery is of", hint="Leave out --event.")
        yield from _deliveries(content, file, lost)
        return
    if archive.is_without_head(content):
        raise archive.headless(file)
    body = _payload(content, file)
    if event is None:
        raise UsageError(
            "a payload doesn't say which event it is of", hint="Add --event NAME, or give what `covenq export` wrote."
        )
    read, about = columns(event, body)
    found = {**read, **about}
    yield Trial(None, event, {"hook": "-", "guid": "-", "event": event, **found}, found, body)


def _payload(content: bytes, file: str) -> JsonObject:
    """The JSON object of a payload alone, or in a form. Raises UsageError, in the webhook's words for what is too deep."""
    from covenq.github.request import decode, load

    body = decode(content)
    if isinstance(body, dict):
        return body
    try:
        load(content)
    except BadRequest as error:
        if error.word == "body_too_deep":
            raise UsageError(
                f"{file}: {error.detail} The webhook answers 400 {error.word}, and no route sees it.",
                hint="GitHub's payloads are not so deep.",
            ) from None
    raise UsageError(f"{file}: is no JSON object", hint="Give the payload as GitHub sends it.")


def _deliveries(content: bytes, file: str, lost: list[str]) -> Iterator[Trial]:
    from covenq.github import request
    from covenq.github.columns import columns
    from covenq.operate.act import archive
    from covenq.operate.imported import NotImported

    for number, one in enumerate(archive.read(io.BytesIO(content), file), 1):
        if isinstance(one, NotImported):
            lost.append(one.id)
            continue
        headers = request.fold_headers(one.headers)
        try:
            identity = request.identity(headers)
            if one.body is None:
                lost.append(str(identity.delivery))
                continue
            kind = "application/json" if one.rebuild else headers.get("content-type", "application/json")
            body = request.parse(one.body, kind).object
        except BadRequest as error:
            raise UsageError(f"{file}, delivery {number}: {error.detail}", hint="Take it out of the file.") from None
        read, about = columns(identity.event, body)
        found = {**read, **about}
        id = identity.delivery
        row = {"hook": id.hook, "guid": id.guid, "event": identity.event, "payload_bytes": len(one.body), **found}
        yield Trial(str(id), identity.event, row, found, body)
