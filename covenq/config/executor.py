"""The executor of a route's tasks: `run`, `forward` or `pull`, and the settings that belong to each."""

from __future__ import annotations

import math
import re
from urllib.parse import urlsplit

from covenq.config.resources import ResourceLimits, parse_size
from covenq.config.toml_table import Table, did_you_mean
from covenq.errors import UsageError

PLACEHOLDERS = ("brief", "result", "payload", "body", "task", "attempt")
"""The placeholders of a route's `run`: covenq's own paths and ids. No value from a request becomes an argument, where it could
be taken for an option; a command reads those from its environment and its payload."""

KEEP = ("all", "failed", "logs")
"""What is kept of an attempt's directory until retention: everything; everything if the attempt failed; or only covenq's own
files, which are always kept."""

EXECUTORS = ("run", "forward", "pull")
_ONLY_RUN = ("limits", "keep", "env")
_ONLY_FORWARD = ("sign",)
_NOT_FORWARD = ("token",)
_FROM_REQUEST = ("title", "guid", "repo", "repo_id", "owner", "number", "head_sha", "sender", "installation", "label",
                 "hook", "event", "action", "ref", "target")  # fmt: skip
BRACED = re.compile(r"\{([A-Za-z_]+)\}")
"""A placeholder of a route's `run` or `key`."""


def kind_of(table: Table) -> str:
    """The one executor that the route names. Raises ConfigError for none or several."""
    given = [name for name in EXECUTORS if name in table.raw]
    if not given:
        raise table.error("run", "is missing", hint='Write run = ["program", …], forward = "https://…" or pull = true.')
    if len(given) > 1:
        raise table.error("", f"has {' and '.join(given)}: one is enough")
    kind = given[0]
    for name in _ONLY_RUN:
        if kind != "run" and name in table.raw:
            raise table.error(name, f"is of commands; this route has {kind}")
    for name in _ONLY_FORWARD:
        if kind != "forward" and name in table.raw:
            raise table.error(name, f"is of forward; this route has {kind}")
    for name in _NOT_FORWARD:
        if kind == "forward" and name in table.raw:
            raise table.error(
                name,
                "is of run and pull: what is forwarded is what GitHub sent, and nothing that authorises",
                hint="A receiver of forward that is an App mints its own.",
            )
    return kind


def run_of(table: Table) -> tuple[str, ...]:
    """Raises ConfigError."""
    argv = table.texts("run")
    if not argv or not argv[0]:
        raise table.error("run", "needs a command and its arguments, each a text of its own")
    for word in argv:
        if "\0" in word:
            raise table.error("run", "an argument can't hold a NUL")
        for name in BRACED.findall(word):
            if name in PLACEHOLDERS:
                continue
            if name in _FROM_REQUEST:
                raise table.error(
                    "run",
                    f"{{{name}}} comes from the request, which must not become an argument",
                    hint="The command finds it in its environment (COVENQ_REPO, COVENQ_EVENT, …) and in its payload.",
                )
            if guess := did_you_mean(name, PLACEHOLDERS):
                raise table.error("run", f"{{{name}}} is no placeholder{guess}")
    return argv


def forward_of(table: Table) -> str:
    """Raises ConfigError."""
    url = table.text("forward")
    try:
        return checked_address(url)
    except UsageError as error:
        raise table.error("forward", str(error), hint=error.hint) from None


def checked_address(url: str) -> str:
    """The address, unchanged, if deliveries may be posted to it. Raises UsageError."""
    hint = "Write it as https://example.org/webhook."
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not url.isascii() or re.search(r"[\x00-\x20\x7f]", url):
        raise UsageError(f"{url[:80]!r} is no web address", hint=hint)
    if parts.username is not None or parts.password is not None:
        raise UsageError("a password in an address would be recorded with every task; leave it out", hint=hint)
    if parts.fragment:
        raise UsageError("an address that is posted to has no #fragment", hint=hint)
    return url


def pull_of(table: Table) -> bool:
    """Raises ConfigError."""
    if table.raw["pull"] is not True:
        raise table.error("pull", "can only be true", hint="Leave it out, and write run or forward.")
    return True


def scrub_of(table: Table) -> tuple[str, ...]:
    """Raises ConfigError."""
    patterns = table.texts("scrub", ())
    for number, pattern in enumerate(patterns, 1):
        try:
            compiled = re.compile(pattern.encode())
        except re.error as error:
            raise table.error("scrub", f"number {number} is no regular expression: {error}") from None
        if compiled.match(b""):
            raise table.error("scrub", f"number {number} matches nothing at all, and so everywhere")
    return patterns


def limits_of(table: Table) -> ResourceLimits:
    """Raises ConfigError."""
    known = ("cpu", "memory", "file_size", "processes", "open_files", "output")
    inner = table.table("limits", known)

    def size(key: str) -> int | None:
        if key not in inner.raw:
            return None
        try:
            return parse_size(inner.text(key))
        except UsageError as error:
            raise inner.error(key, str(error), hint=error.hint) from None

    def number(key: str) -> int | None:
        return inner.integer(key, 0, 1, 1 << 20) if key in inner.raw else None

    cpu = inner.duration("cpu", 0.0)
    if "cpu" in inner.raw and cpu < 1:
        raise inner.error("cpu", "must be a second or more: the system counts in seconds")
    return ResourceLimits(
        cpu_s=math.ceil(cpu) or None,
        memory=size("memory"),
        file_size=size("file_size"),
        processes=number("processes"),
        open_files=number("open_files"),
        output=size("output"),
    )
