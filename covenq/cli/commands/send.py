"""`covenq send`: one signed delivery, as GitHub would post it, from a file or a built-in sample."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from covenq import given_file
from covenq.cli import output
from covenq.cli.context import Location, locate_in_use, source
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl, complete_sample
from covenq.cli.output import clean, say
from covenq.cli.webhook_client import Reply, post
from covenq.errors import CovenqError, DaemonUnreachable, Refused, UsageError

FILE_MAX = 256 * 1024 * 1024
"""Bytes of a body, which may be one that is meant to be refused as too large."""


def send(
    sample: Annotated[
        str | None,
        typer.Argument(
            metavar="EVENT",
            help="The event; without --file its built-in sample is sent.",
            autocompletion=complete_sample,
        ),
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", metavar="PATH", help="Send these bytes as the body (- is standard input).")
    ] = None,
    event: Annotated[
        str | None,
        typer.Option(
            "--event", metavar="NAME", help="The event, instead of as argument.", autocompletion=complete_sample
        ),
    ] = None,
    action: Annotated[
        str | None, typer.Option("--action", metavar="WORD", help="The sample's action: labeled, closed, …")
    ] = None,
    number: Annotated[
        int | None,
        typer.Option("--number", min=1, max=999999, metavar="N", help="The sample's number, of an issue say."),
    ] = None,
    guid: Annotated[
        str | None, typer.Option("--guid", metavar="GUID", help="X-GitHub-Delivery; a new one unless given.")
    ] = None,
    hook: Annotated[str | None, typer.Option("--hook", metavar="ID", help="X-GitHub-Hook-ID.")] = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Where to; the running daemon's webhook unless given.")
    ] = None,
    secret_file: Annotated[
        str | None,
        typer.Option(
            "--secret-file",
            metavar="PATH",
            help="Sign with what this file holds. Else the daemon's own secret is used, found as the daemon finds it.",
        ),
    ] = None,
    show_samples: Annotated[bool, typer.Option("--list", help="Name the built-in samples, and send nothing.")] = False,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Post a signed delivery, as GitHub would.

    A sample of the event, or the bytes of a file. Its id goes to stdout: covenq show $(covenq send issues)

    \b
      covenq send issues
      covenq send issues --action labeled --number 7
      covenq send --event push --file payload.json \\
        --url https://example.org/webhook --secret-file ./secret
    """
    from covenq.github import samples
    from covenq.github.request import is_form_with_json

    if show_samples:
        for one in sorted(samples.SAMPLES):
            output.line(one)
        return
    name = _event_name(sample, event)
    if file and (action or number is not None):
        raise UsageError("--action and --number are of samples", hint="With --file the body is sent as it is.")
    guid = guid or str(uuid.uuid4())
    body = read_body(file) if file else sample_body(name, guid, action, number)
    where = locate_in_use(data, config)
    target = url or webhook_url(where, data, config)
    hook = hook or samples.hook_for(where.config.hooks)
    form = file is not None and is_form_with_json(body)
    secret = read_secret(secret_file, where, hook, body, lambda: bound_numbers(data, config))
    headers = samples.headers(name, guid, hook, body, secret, form=form)
    reply = post(target, body, headers, os.environ if url else {})  # the daemon of this machine needs no proxy
    report(reply, target, json)


def _event_name(sample: str | None, event: str | None) -> str:
    """The event, which is given as the argument or as --event. Raises UsageError for none, and for two."""
    if sample and event and sample != event:
        raise UsageError(f"two events: {sample!r} and {event!r}", hint="Name it once.")
    name = event or sample
    if not name:
        raise UsageError(
            "which event?", hint="`covenq send issues` sends a sample; `covenq send --list` names them all."
        )
    return name


def read_body(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    return _content(file)


def _content(file: str) -> bytes:
    """The file's bytes. Raises UsageError."""
    try:
        content = given_file.read(Path(file).expanduser(), FILE_MAX + 1)
    except OSError as error:
        raise UsageError(
            f"{file}: can't be read: {error.strerror}", hint="Name a file that this user may read."
        ) from None
    if len(content) > FILE_MAX:
        raise UsageError(f"{file}: is larger than {FILE_MAX >> 20} MiB", hint="GitHub sends at most 25.")
    return content


def sample_body(name: str, guid: str, action: str | None, number: int | None) -> bytes:
    """The built-in sample of an event.

    Without a number one is derived from the GUID: the same GUID has the same body, as a duplicate has, and another GUID
    another. Raises UsageError with the nearest name.
    """
    import hashlib
    from difflib import get_close_matches

    from covenq.github import samples

    if name not in samples.SAMPLES:
        near = get_close_matches(name, list(samples.SAMPLES))
        raise UsageError(
            f"there is no sample of {name!r}",
            hint=f"Did you mean {near[0]}?" if near else "`covenq send --list` names them; --file sends your own.",
        )
    if number is None:
        number = 1 + int.from_bytes(hashlib.sha256(guid.encode()).digest()[:4]) % 9999
    return samples.body(name, number, action)


def webhook_url(where: Location, data: str | None, config: str | None) -> str:
    """The running daemon's webhook URL, else the one that the configuration would give it."""
    from covenq.operate.maintain.journal_lock import process_of

    with source(data, config) as opened:
        live = opened.live
        url = opened.status().webhook_url if live else None
    if url is None and (live or where.config.follows_log):
        raise Refused(
            "nothing is posted to this covenq: it takes what GitHub sends from its log ([github] ingress)",
            hint="`covenq routes test` tries a route on a delivery; --url sends to another covenq.",
        )
    if url is None and (who := process_of(where.data)) is not None:
        raise DaemonUnreachable(
            f"{who} has {where.data}, and doesn't answer",
            hint="Look at that process, or restart it; --url sends anyway.",
        )
    return str(url) if url else where.config.webhook_url


def bound_numbers(data: str | None, config: str | None) -> dict[str, set[int]]:
    """The numbers of the repositories that each secret's scope is bound to."""
    with source(data, config) as opened:
        return {
            one.name: {bound.repo_id for bound in one.bindings if bound.in_effect} for one in opened.secrets().items
        }


def read_secret(
    file: str | None, where: Location, hook: str, body: bytes, bound: Callable[[], dict[str, set[int]]]
) -> bytes:
    """The secret to sign with: the file's, else the first readable one whose scope includes the delivery.

    `bound` gives what scopes are bound to, for a repository whose name no scope has. Never one from the command line: other
    users can read that.
    """
    from covenq.config.secret_keys import readable, sources_of
    from covenq.github.columns import columns
    from covenq.github.request import decode

    if file:
        secret = _content(file).rstrip(b"\r\n")
        if not secret:
            raise UsageError(f"{file} is empty", hint="It should hold the webhook secret.")
        return secret
    keys, problems = readable(sources_of(where.config, where.data), os.environ)
    if not keys:
        why = problems[0] if problems else f"there is no secret in {where.data}"
        raise Refused(why, hint="`covenq serve` makes one; or say --secret-file.")
    told = decode(body)  # None: a body that is meant to be refused
    data, about = columns("", told if isinstance(told, dict) else {})
    within = (key for key in keys if key.scope.covers(hook, data["installation"], about["repo"]))
    key = next(within, None)
    if key is None and any(one.scope.repositories for one in keys):
        numbers = bound()
        renamed = (
            one
            for one in keys
            if one.scope.admits(hook, data["installation"]) and data["repo_id"] in numbers.get(one.name, ())
        )
        key = next(renamed, None)
    return (key or keys[0]).secret


def report(reply: Reply, url: str, json: bool) -> None:
    """The answer as JSON, or the id on stdout and the rest in words. Raises for anything but a 2xx."""
    answer = reply.answer
    if json:
        with output.report_of_act():
            output.emit_json({"status": reply.status, **answer})
    if reply.status >= 500:
        raise CovenqError(
            _refusal(reply, answer),
            hint="Send it again when `covenq status` says READY or STANDBY: with the same --guid it is recorded once.",
        )
    if not 200 <= reply.status < 300:
        raise Refused(_refusal(reply, answer), hint=_hint(reply.status, answer, url))
    if json:
        return
    if "delivery" not in answer:
        say(f"{reply.status} from {url}, which doesn't answer like covenq")
        return
    with output.report_of_act():
        output.line(clean(answer["delivery"]))
    what = "duplicate" if answer.get("duplicate") else "accepted"
    made = answer.get("tasks")
    tasks = (
        f", {output.count(len(made), 'task')}: {' '.join(map(clean, made))}" if isinstance(made, list) and made else ""
    )
    say(f"{reply.status} {what} as seq {clean(answer.get('seq'))}, {clean(answer.get('state'))}{tasks}")


HINTS = {
    "signature_wrong": "The other side has another secret: give its own with --secret-file.",
    "signature_out_of_scope": (
        "A sample is of an invented repository and installation: send a body that is in the scope with --file, and --hook where "
        "the scope has hooks."
    ),
    "token_missing": "That is the API's address: deliveries go to the one that `covenq status` calls webhook.",
    "path_unknown": "Is it the right address? A webhook's ends in [server] path, /webhook unless set: see `covenq status`.",
    "delivery_conflict": "Send it under a --guid of its own; `covenq show` has the first one.",
}


def _hint(status: int, answer: Mapping[str, object], url: str) -> str:
    """What to do about a refusal; a refusal of covenq's own explains itself, unless the path wasn't the webhook's."""
    word = str(answer.get("error"))
    if word in HINTS:
        return HINTS[word]
    if "error" not in answer or status in (404, 405):
        return f"Is {url} the right address?"
    return "Look at --event, --guid, --hook and --file."


def _refusal(reply: Reply, answer: Mapping[str, object]) -> str:
    detail = answer.get("detail") or reply.body[:200].decode("utf-8", "replace").strip()
    word = f" {answer['error']}" if "error" in answer else ""
    return f"refused with {reply.status}{word}: {detail}"
