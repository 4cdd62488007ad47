"""The configuration: TOML and environment in, frozen values out. Strict: what it doesn't know, it refuses.

Secrets are named here and read elsewhere (`covenq.secret`): no command but the daemon needs their values.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from covenq.config_route import Route, digest, parse_route
from covenq.config_table import Table
from covenq.errors import ConfigError
from journal.line import PAYLOAD_MAX

DEFAULT_BIND = "127.0.0.1:8787"
BODY_LIMIT = 25 * 1024 * 1024
"""GitHub sends no larger payload."""
THREADS = 32
CONCURRENCY = 4

TWINS = ("mark", "refuse")
_RESERVED_NAMES = ("env", "default")


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where a webhook secret is: exactly one of `file`, `env` (a variable's name) and `value` is set."""

    name: str
    file: Path | None = None
    env: str | None = None
    value: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long content is kept, in seconds; None is for ever. Payloads of finished deliveries, files of final tasks."""

    payloads_s: float | None = None
    attempts_s: float | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration. `sha256` is the hash of what decides about tasks: the routes, in their order."""

    path: Path | None = None
    bind: str = DEFAULT_BIND
    data: Path | None = None
    body_limit: int = BODY_LIMIT
    threads: int = THREADS
    secrets: tuple[SecretSource, ...] = ()
    twins: str = "mark"
    concurrency: int = CONCURRENCY
    retention: Retention = Retention()
    routes: tuple[Route, ...] = ()
    sha256: str = field(default=hashlib.sha256(b"[]").hexdigest())

    @property
    def address(self) -> tuple[str, int]:
        """`bind` as (host, port)."""
        return parse_bind(self.bind)


def load(path: Path | None, env: Mapping[str, str]) -> Config:
    """Read the file, if any, and what the environment overrides (COVENQ_BIND, COVENQ_WEBHOOK_SECRET). Raises ConfigError."""
    if path is None:
        return build({}, None, env)
    try:
        text = path.read_bytes().decode("utf-8")
        raw = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"{path}: can't be read: {error.strerror}", hint="Check --config and COVENQ_CONFIG."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    return build(raw, path, env)


def build(raw: Mapping[str, Any], path: Path | None, env: Mapping[str, str]) -> Config:
    """The configuration of parsed TOML; `path` is named in errors, and what relative paths in it start from."""
    top = Table(str(path) if path else "configuration", "", raw)
    server = top.table("server", ("bind", "data", "body_limit", "threads"))
    github = top.table("github", ("webhook_secrets", "twins"))
    worker = top.table("worker", ("concurrency",))
    retention = top.table("retention", ("payloads", "attempts"))
    routes = tuple(parse_route(table) for table in top.tables("route"))
    top.only(("server", "github", "worker", "retention", "route"))
    names = [route.name for route in routes]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise top.error("route", f"two routes are named {name!r}")
    base = path.parent if path else Path()
    bind = env.get("COVENQ_BIND") or server.text("bind", DEFAULT_BIND)
    parse_bind(bind)
    data = server.text("data", "")
    if github.choice("twins", TWINS) == "refuse":
        raise github.error(
            "twins", '"refuse" needs an allow-list of hooks, which this version has not; twins are marked'
        )
    return Config(
        path=path,
        bind=bind,
        data=(base / Path(data).expanduser()) if data else None,
        body_limit=server.whole("body_limit", BODY_LIMIT, 1, PAYLOAD_MAX),
        threads=server.whole("threads", THREADS, 1, 1024),
        secrets=_secrets(github, base, env),
        concurrency=worker.whole("concurrency", CONCURRENCY, 1, 1024),
        retention=Retention(_kept_for(retention, "payloads"), _kept_for(retention, "attempts")),
        routes=routes,
        sha256=digest(routes),
    )


def data_dir(option: str | None, env: Mapping[str, str], config: Config | None = None) -> Path:
    """The data directory: `--data`, COVENQ_DATA, the configuration's, else the user's state directory."""
    chosen = option or env.get("COVENQ_DATA")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if config is not None and config.data is not None:
        return config.data.absolute()
    state = env.get("XDG_STATE_HOME", "")
    home = Path(env["HOME"]) if env.get("HOME") else Path.home()
    # The XDG specification has relative paths ignored.
    base = Path(state) if state and Path(state).is_absolute() else home / ".local" / "state"
    return base / "covenq"


def config_path(option: str | None, env: Mapping[str, str], data: str | None = None) -> Path | None:
    """The configuration file: `--config`, COVENQ_CONFIG, else covenq.toml in the data directory, if it is there."""
    chosen = option or env.get("COVENQ_CONFIG")
    if chosen:
        return Path(chosen).expanduser()
    own = data_dir(data, env) / "covenq.toml"
    return own if own.exists() else None


def parse_bind(text: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`; port 0 lets the system choose. Raises ConfigError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not (colon and host and port.isascii() and port.isdecimal() and int(port[:6]) <= 65535):
        raise ConfigError(f"{text[:80]!r} is no address to listen on", hint="Write host:port, as in 127.0.0.1:8787.")
    return host, int(port)


def _secrets(github: Table, base: Path, env: Mapping[str, str]) -> tuple[SecretSource, ...]:
    sources: list[SecretSource] = []
    for table in github.tables("webhook_secrets"):
        table.only(("name", "file", "env", "value"))
        name = table.token("name")
        if name in _RESERVED_NAMES:
            raise table.error("name", f"{name!r} is a name of covenq's own; choose another")
        if any(source.name == name for source in sources):
            raise table.error("name", f"two secrets are named {name!r}")
        given = [key for key in ("file", "env", "value") if key in table.raw]
        if len(given) != 1:
            raise table.error("", "needs exactly one of file, env and value")
        text = table.text(given[0])
        if not text:
            raise table.error(given[0], "is empty")
        match given[0]:
            case "file":
                sources.append(SecretSource(name, file=base / Path(text).expanduser()))
            case "env":
                sources.append(SecretSource(name, env=text))
            case _:
                sources.append(SecretSource(name, value=text))
    if "COVENQ_WEBHOOK_SECRET" in env:
        sources.append(SecretSource("env", env="COVENQ_WEBHOOK_SECRET"))
    return tuple(sources)


def _kept_for(table: Table, key: str) -> float | None:
    return table.duration(key, 0.0) if key in table.raw else None
