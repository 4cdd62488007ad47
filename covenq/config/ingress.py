"""[github] ingress: how deliveries come in, by the webhook or out of GitHub's delivery log alone.

With "log" nothing is posted to this covenq: the daemon follows the log (`covenq.daemon.log_ingress`), and opens no listener that
takes deliveries. COVENQ_INGRESS overrides the file, which is how `covenq listen` says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from covenq.config.github_api import GithubLogs
from covenq.config.toml_table import Table
from covenq.errors import ConfigError

WEBHOOK, LOG = "webhook", "log"
INGRESS = (WEBHOOK, LOG)
INGRESS_VARIABLE = "COVENQ_INGRESS"
UNDELIVERABLE = "https://covenq.invalid"
"""Where a webhook is told to deliver to whose log alone is read: by RFC 2606 nobody can ever have a name under .invalid."""


def parse_ingress(github: Table, env: Mapping[str, str]) -> str:
    """One of INGRESS. Raises ConfigError."""
    configured = github.choice("ingress", INGRESS)
    given = env.get(INGRESS_VARIABLE)
    if given and given not in INGRESS:
        raise ConfigError(
            f"{INGRESS_VARIABLE}: {given[:40]!r} is none of {', '.join(INGRESS)}", hint="Set one of them."
        )
    return given or configured


def require_followable(logs: GithubLogs, path: Path | None) -> None:
    """Raises ConfigError where the configuration at `path` names no log that could be followed."""
    if not logs.all:
        raise ConfigError(
            f'{path or "configuration"}: github.ingress: "log" needs a delivery log of GitHub\'s, and none is named',
            hint="`covenq init --github-app --ingress log` makes an App and writes it; or add a [[github.hook]]: covenq.toml(5).",
        )


def is_undeliverable(host: str) -> bool:
    """Whether nobody can ever be at that host: a name under .invalid (RFC 2606)."""
    return host.lower().rstrip(".").endswith(".invalid")
