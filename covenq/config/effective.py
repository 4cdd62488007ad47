"""Every setting in effect and its source: a default, the file, the environment or an option. For people to read.

It never contains the value of a secret, only its name and where it is.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from covenq import given_file
from covenq.config.github_api import GithubApp, GithubHook
from covenq.config.ingress import INGRESS_VARIABLE
from covenq.config.journal import VARIABLE as JOURNAL_VARIABLE
from covenq.config.journal import shown_url
from covenq.config.limits import Cap
from covenq.config.load import FILE_MAX, Config
from covenq.config.node import VARIABLES as NODE_VARIABLES
from covenq.config.notify import FailureShare
from covenq.config.secret_source import SecretSource
from covenq.model import Json
from covenq.net.address import shown_origin
from covenq.paths import (
    ATTEMPTS_NAME,
    CONFIG_NAME,
    GITHUB_TOKENS_NAME,
    JOURNAL_NAME,
    NODE_NAME,
    NOTICES_NAME,
    PHASE_SOCKET_NAME,
    READS_NAME,
    REFUSALS_NAME,
    RUNNING_NAME,
    SECRET_NAME,
    SOCKET_NAME,
    STATE_NAME,
    TAKEOVER_NAME,
)
from journal.presence import exists

DEFAULT, FILE, ENVIRONMENT, OPTION = "default", "file", "environment", "option"


class Setting(TypedDict):
    """A setting in effect. `by` is the variable, the option or the file that sets it, None for a default."""

    name: str
    value: Json
    source: str
    by: str | None


class UsedPath(TypedDict):
    """A file or directory that is used. `there` is None where this user can't see whether it exists."""

    name: str
    path: str | None
    there: bool | None
    what: str


_CONFIG: dict[str, tuple[Callable[[Config], Json], str | None]] = {
    "server.bind": (lambda c: c.bind, "COVENQ_BIND"),
    "server.path": (lambda c: c.webhook_path, None),
    "server.public_url": (lambda c: c.public_url, None),
    "server.body_limit": (lambda c: c.body_limit, None),
    "server.header_timeout": (lambda c: c.header_timeout_s, None),
    "server.body_timeout": (lambda c: c.body_timeout_s, None),
    "server.threads": (lambda c: c.threads, None),
    "server.metrics": (lambda c: c.webhook_metrics, None),
    "node.name": (lambda c: c.node.name, NODE_VARIABLES["name"]),
    "node.address": (
        lambda c: c.node.address or (None if c.follows_log else c.bind),
        NODE_VARIABLES["address"],
    ),
    "node.api": (
        lambda c: c.node.api or (None if c.api_bind is None else f"http://{c.api_bind}"),
        NODE_VARIABLES["api"],
    ),
    "journal.engine": (lambda c: c.journal.engine, JOURNAL_VARIABLE),
    "journal.url": (lambda c: shown_url(c.journal), JOURNAL_VARIABLE),
    "journal.replicated": (lambda c: "managed" if c.journal.managed else None, None),
    "metrics.bind": (lambda c: c.metrics_bind, None),
    "api.bind": (lambda c: c.api_bind, None),
    "api.tokens": (lambda c: None if c.api_tokens is None else str(c.api_tokens), None),
    "api.page": (lambda c: c.page is not None, None),
    "api.hosts": (lambda c: None if c.page is None else list(c.page.hosts), None),
    "api.payloads": (lambda c: c.page is not None and c.page.payloads, None),
    "github.webhook_secrets": (lambda c: [_secret(one) for one in c.secrets], "COVENQ_WEBHOOK_SECRET"),
    "github.hooks": (lambda c: list(c.hooks), None),
    "github.twins": (lambda c: c.twins, None),
    "github.ingress": (lambda c: c.ingress, INGRESS_VARIABLE),
    "github.app": (lambda c: _app(c.github_logs.app), None),
    "github.hook": (lambda c: [_hook(one) for one in c.github_logs.hooks], None),
    "reconcile.every": (lambda c: c.reconcile.every_s or 0, None),
    "reconcile.overlap": (lambda c: c.reconcile.overlap_s, None),
    "reconcile.grace": (lambda c: c.reconcile.grace_s, None),
    "reconcile.max_age": (lambda c: c.reconcile.max_age_s, None),
    "reconcile.fetch": (lambda c: c.reconcile.fetch, None),
    "reconcile.mode": (lambda c: c.reconcile.mode, None),
    "reconcile.patience": (lambda c: c.reconcile.patience_s, None),
    "worker.concurrency": (lambda c: c.concurrency, None),
    "worker.lease": (lambda c: c.lease_s, None),
    "worker.on_standby": (lambda c: c.on_standby is not None, None),
    "worker.token_file": (lambda c: None if c.on_standby is None else str(c.on_standby), None),
    "worker.scrub": (lambda c: list(c.scrub), None),
    "log.format": (lambda c: c.log_format, None),
    "log.level": (lambda c: c.log_level, None),
    "retention.payloads": (lambda c: c.retention.payloads_s, None),
    "retention.attempts": (lambda c: c.retention.attempts_s, None),
    "retention.on_uninstall": (lambda c: c.retention.on_uninstall, None),
    "retention.uninstall_grace": (lambda c: c.retention.uninstall_grace_s, None),
    "limits.installation": (lambda c: _cap(c.caps.installation), None),
    "limits.repo": (lambda c: _cap(c.caps.repo), None),
    "limits.route": (lambda c: _cap(c.caps.route), None),
    "limits.installations": (lambda c: {name: _cap(share.cap) for name, share in c.caps.installations.items()}, None),
    "notify.run": (lambda c: None if c.notify is None else list(c.notify.run) or None, None),
    "notify.url": (lambda c: None if c.notify is None or c.notify.url is None else shown_origin(c.notify.url), None),
    "notify.secret": (
        lambda c: None if c.notify is None or c.notify.secret is None else _secret(c.notify.secret),
        None,
    ),
    "notify.on": (lambda c: None if c.notify is None else list(c.notify.on), None),
    "notify.timeout": (lambda c: None if c.notify is None else c.notify.timeout_s, None),
    "notify.debounce": (lambda c: None if c.notify is None else c.notify.debounce_s, None),
    "notify.failures": (lambda c: None if c.notify is None else _failures(c.notify.failures), None),
    "notify.waiting": (lambda c: None if c.notify is None else c.notify.waiting_s, None),
    "notify.disk": (lambda c: None if c.notify is None else c.notify.disk, None),
    "route": (lambda c: [route.name for route in c.routes], None),
    "familiar": (lambda c: [one.id for one in c.familiars.all], None),
    "installation": (lambda c: list(c.familiars.scope.installations), None),
    "review.pull_request": (lambda c: c.familiars.scope.review.enabled, None),
    "review.include_drafts": (lambda c: c.familiars.scope.review.drafts, None),
    "review.familiar": (lambda c: c.familiars.scope.review.familiar, None),
    "review.repos": (lambda c: list(c.familiars.scope.reviews), None),
    "commands.associations": (lambda c: list(c.familiars.scope.associations), None),
}
"""Setting to how it is read from a Config, and the variable that overrides it. Durations are seconds, null is none."""


def effective_settings(
    config: Config, data: Path, env: Mapping[str, str], *, data_option: str | None = None
) -> Iterator[Setting]:
    """Each setting in effect."""
    raw: Mapping[str, object] = {}
    if config.path is not None:
        # It was read once already; if it is invalid now, the next load reports that.
        with suppress(OSError, ValueError):
            raw = tomllib.loads(given_file.read(config.path, FILE_MAX).decode("utf-8"))
    yield _data(config, data, env, data_option)
    for name, (value, variable) in _CONFIG.items():
        if variable is not None and env.get(variable):
            source, by = ENVIRONMENT, variable
        elif _is_set(raw, name):
            source, by = FILE, str(config.path)
        else:
            source, by = DEFAULT, None
        yield {"name": name, "value": value(config), "source": source, "by": by}


def effective_paths(
    config: Config,
    data: Path,
    env: Mapping[str, str],
    *,
    config_option: str | None = None,
    config_by: str | None = None,
) -> list[UsedPath]:
    """Every file and directory that is used. `config_by` says who chose the configuration, where it is none of the usual."""
    told: list[tuple[str, Path | None, str]] = [
        ("configuration", config.path, config_by or _config_by(config, data, env, config_option)),
        ("data", data, "all that is kept"),
        (
            "journal",
            data / JOURNAL_NAME,
            "the records: the only thing that can't be rebuilt"
            if config.journal.url is None
            else f"the lock: the records are in {shown_url(config.journal)}",
        ),
        ("state", data / STATE_NAME, "a cache of the journal"),
        ("node", data / NODE_NAME, "which node it is, made at the first start: not for another directory"),
        ("socket", data / SOCKET_NAME, "the daemon's, while it runs"),
        ("phase socket", data / PHASE_SOCKET_NAME, "on which its commands report phases"),
        ("takeover socket", data / TAKEOVER_NAME, "on which a new daemon asks for its sockets"),
        ("attempts", data / ATTEMPTS_NAME, "what commands were given and left"),
        ("running", data / RUNNING_NAME, "the commands that run now"),
        (
            "github tokens",
            data / GITHUB_TOKENS_NAME,
            "GitHub's tokens of attempts that run, and of those not revoked yet",
        ),
        ("refusals", data / REFUSALS_NAME, "the newest requests that were refused"),
        ("reads", data / READS_NAME, "what was asked with the API's tokens"),
        ("notices", data / NOTICES_NAME, "what [notify] has told, and owes"),
        ("secret", data / SECRET_NAME, "the webhook secret that the first start makes"),
        ("tokens", config.token_file(data), "hashes of the API's tokens"),
    ]
    told += [(one.name, found, "for GitHub's API") for one in config.github_logs.sources if (found := one.path(env))]
    source = None if config.notify is None else config.notify.secret
    if source is not None and (found := source.path(env)) is not None:
        told.append(("secret of notices", found, "what they are signed with"))
    told += [(f"secret {one.name}", found, "a webhook secret") for one in config.secrets if (found := one.path(env))]
    return [
        {"name": name, "path": None if path is None else str(path), "there": _exists(path), "what": what}
        for name, path, what in told
    ]


def _exists(path: Path | None) -> bool | None:
    """Whether it exists; None where this user can't see that."""
    try:
        return path is not None and exists(path)
    except OSError:
        return None


def _data(config: Config, data: Path, env: Mapping[str, str], option: str | None) -> Setting:
    by: str | None
    if option:
        source, by = OPTION, "--data"
    elif env.get("COVENQ_DATA"):
        source, by = ENVIRONMENT, "COVENQ_DATA"
    elif config.data is not None:
        source, by = FILE, str(config.path)
    else:
        xdg = env.get("XDG_STATE_HOME", "")
        source, by = (ENVIRONMENT, "XDG_STATE_HOME") if Path(xdg).is_absolute() else (DEFAULT, None)
    return {"name": "server.data", "value": str(data), "source": source, "by": by}


def _config_by(config: Config, data: Path, env: Mapping[str, str], option: str | None) -> str:
    if option:
        return "named by --config"
    if env.get("COVENQ_CONFIG"):
        return "named by COVENQ_CONFIG"
    if config.path is not None:
        return "found in the data directory"
    return f"there is none; {data / CONFIG_NAME} would be read"


def _is_set(raw: Mapping[str, object], name: str) -> bool:
    section, _, key = name.partition(".")
    found = raw.get(section)
    return found is not None if not key else isinstance(found, Mapping) and key in found


def _secret(one: SecretSource) -> Json:
    where = "value" if one.value is not None else "file" if one.file is not None else "env" if one.env else "credential"
    told = None if where == "value" else str(getattr(one, where))
    return {"name": one.name, "from": where, "where": told}


def _failures(one: FailureShare) -> Json:
    return {"share": one.percent, "least": one.least, "within": one.within_s}


def _app(one: GithubApp | None) -> Json:
    if one is None:
        return None
    return {
        "id": one.id,
        "client_id": one.client_id,
        "private_keys": [_secret(key) for key in one.keys],
        "api_url": one.api_url,
    }


def _hook(one: GithubHook) -> Json:
    token = _secret(one.token)
    return {"id": one.id, "repo": one.repo, "org": one.org, "token": token, "api_url": one.api_url}


def _cap(cap: Cap) -> Json:
    return {"concurrency": cap.concurrency, "daily": cap.daily}
