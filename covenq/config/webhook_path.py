"""[server] path, where deliveries are posted to: for an App whose hooks keep their address when it moves behind covenq.

Plain segments only, so that every server on the way takes it for the same path, and none that covenq answers otherwise.
"""

from __future__ import annotations

import re

from covenq.config.toml_table import Table

DEFAULT_PATH = "/webhook"
PATH_MAX = 200

_PATH = re.compile(r"/|(?:/(?!\.{1,2}(?:/|\Z))[0-9A-Za-z._~-]+)+/?\Z")
_TAKEN = re.compile(
    r"/(?:healthz|readyz|metrics|openapi\.json|api/v1(?:/.*)?|api/github/(?:tasks|usage|audit|routing)(?:/.*)?)\Z"
)


def parse_path(server: Table) -> str:
    """The setting without a slash at its end: the address with one is the same. Raises ConfigError."""
    given = server.text("path", DEFAULT_PATH)
    if len(given) > PATH_MAX or not _PATH.fullmatch(given):
        raise server.error(
            "path",
            f"must be a path of at most {PATH_MAX} letters, digits and . _ ~ -",
            hint="Write it as /webhook or /api/github/webhooks, without what a query or a prefix of the proxy adds.",
        )
    path = given.rstrip("/") or "/"
    if _TAKEN.match(path):
        raise server.error(
            "path", f"{path} is answered otherwise", hint="Choose another, as /webhook or /api/github/webhooks."
        )
    return path


def spellings(path: str) -> tuple[str, ...]:
    """The paths that are taken as this one: with and without a slash at the end."""
    return (path,) if path == "/" else (path, f"{path}/")
