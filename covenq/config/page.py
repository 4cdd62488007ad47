"""[api] page, hosts and payloads: the pages for people with a browser, on the listener of [api].

`hosts` is an allow-list of what a browser may say that it asks: a name that somebody else has pointed at this machine (DNS
rebinding) makes a foreign page one of the same origin, for which no rule of a browser's keeps it from reading.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from covenq.config.toml_table import Table

HOSTS_MAX = 100
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""What a browser on this machine, or at the end of a tunnel to it, calls it. No name service gives these to anybody else."""

_NAME = re.compile(r"(?=.{1,253}\Z)[0-9a-z][0-9a-z_-]{0,62}(?:\.[0-9a-z][0-9a-z_-]{0,62})*\Z")


@dataclass(frozen=True, slots=True)
class PageSettings:
    """`hosts` are names, in small letters, and addresses, those of IPv6 in brackets; without ports."""

    hosts: tuple[str, ...] = LOOPBACK
    payloads: bool = False
    """Whether payloads are shown, and what may repeat them: what commands and receivers answered."""


def parse_page(api: Table, bind_host: str) -> PageSettings | None:
    """The settings; None where there are to be no pages. `bind_host` is that of [api] bind. Raises ConfigError."""
    wanted = api.flag("page", False)
    hosts = api.texts("hosts", ())
    payloads = api.flag("payloads", False)
    if not wanted:
        for key in ("hosts", "payloads"):
            if key in api.raw:
                raise api.error(key, "is of the pages alone, and there are none", hint="Write page = true beside it.")
        return None
    if "hosts" in api.raw and not hosts:
        raise api.error("hosts", "is empty; leave it out, and the pages answer to the host of bind")
    if len(hosts) > HOSTS_MAX:
        raise api.error("hosts", f"has more than {HOSTS_MAX} names")
    named = [_checked(api, one) for one in hosts]
    return PageSettings(tuple(dict.fromkeys((*LOOPBACK, *_of_bind(bind_host), *named))), payloads)


def _of_bind(host: str) -> Sequence[str]:
    """What a browser calls that address; nothing of one that stands for all there are."""
    found = _spelled(host)
    return () if found is None or found in ("0.0.0.0", "[::]") else (found,)  # noqa: S104 - read, not bound


def _checked(api: Table, text: str) -> str:
    found = _spelled(text)
    if found is None:
        raise api.error(
            "hosts",
            f"{text[:80]!r} is no host",
            hint='Write names or addresses alone, as in ["covenq.example.org", "[2001:db8::1]"].',
        )
    return found


def _spelled(text: str) -> str | None:
    """As browsers spell it in a Host field; None for what is no host."""
    name = text.lower()
    try:
        found = ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return name if _NAME.match(name) and not name.rpartition(".")[2].isdecimal() else None
    return f"[{found.compressed}]" if found.version == 6 else found.compressed
