"""[server] public_url: the address under which GitHub reaches this covenq, as the proxy in front of it has it.

`covenq init --github-app` gives it to GitHub, with the webhook's path behind it, as the App's webhook address.
"""

from __future__ import annotations

from covenq.config.toml_table import Table
from covenq.errors import UsageError
from covenq.net.address import is_loopback, parse_url

URL_MAX = 500
HINT = "Write https://covenq.example.org, without the webhook's path."


def parse_public_url(server: Table, webhook_path: str) -> str | None:
    """The setting without a slash at its end, None where it is absent. Raises ConfigError."""
    if "public_url" not in server.raw:
        return None
    try:
        return checked_public_url(server.text("public_url"), webhook_path)
    except UsageError as error:
        raise server.error("public_url", str(error), hint=error.hint) from None


def checked_public_url(text: str, webhook_path: str) -> str:
    """The address without a slash at its end. Raises UsageError."""
    url = text.rstrip("/")
    if len(url) > URL_MAX:
        raise UsageError(f"an address of over {URL_MAX} characters is none of a webhook's", hint=HINT)
    parts = parse_url(url)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise UsageError(f"{url} must be https: deliveries hold what nobody on the way may read", hint=HINT)
    if webhook_path != "/" and parts.path.endswith(webhook_path):
        raise UsageError(f"{url} ends with {webhook_path}, which is put behind it anyway", hint=HINT)
    return url
