"""The configuration: TOML and environment in, frozen values out. Strict: what it doesn't know, it refuses.

Secrets are named here and read elsewhere (`covenq.secret`): no command but the daemon needs their values.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from covenq.errors import ConfigError, FilterError, UsageError
from covenq.filter import Filter, parse
from covenq.model import TOKEN, JsonObject, parse_duration
from journal.line import PAYLOAD_MAX

DEFAULT_BIND = "127.0.0.1:8787"
BODY_LIMIT = 25 * 1024 * 1024
"""GitHub sends no larger payload."""
THREADS = 32
CONCURRENCY = 4

PLACEHOLDERS = ("brief", "result", "payload", "task", "attempt")
"""What may stand in braces in a route's `run`: paths and ids of ours. Nothing that a request chose ever becomes an
argument, where it could pass for an option; a command finds those in its environment and its payload."""

KEY_FIELDS = (
    "repo", "repo_id", "owner", "number", "head_sha", "sender", "installation", "label", "hook", "event", "action"
)  # fmt: skip
"""What may stand in braces in a route's `key`."""

SUPERSEDE = ("never", "queued", "running")
TWINS = ("mark", "refuse")
UNDECIDED = frozenset({"seq", "state", "reason", "route", "kind", "worker", "category", "attempts", "duplicates"})
"""Fields of a filter that have no value yet when a route is chosen."""

_LATER = {"api", "journal", "reconcile"}
_BRACED = re.compile(r"\{([A-Za-z_]+)\}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_RESERVED_NAMES = ("env", "default")


@dataclass(frozen=True, slots=True)
class Retry:
    """`max` retries after the first attempt; exponential from `backoff_s` seconds, never over `cap_s`."""

    max: int = 0
    backoff_s: float = 2.0
    cap_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Route:
    """A rule: deliveries that `filter` matches make one task each, run as this says."""

    name: str
    match: str
    filter: Filter
    run: tuple[str, ...]
    kind: str = "run"
    timeout_s: float = 600.0
    retry: Retry = Retry()
    key: str | None = None
    supersede: str = "never"
    env: tuple[str, ...] = ()

    def policy(self) -> JsonObject:
        """What a task freezes of its route, as the record `task.queued` holds it."""
        return {
            "run": list(self.run),
            "timeout_s": self.timeout_s,
            "retry": {"max": self.retry.max, "backoff_s": self.retry.backoff_s, "cap_s": self.retry.cap_s},
            "supersede": self.supersede,
            "env": list(self.env),
        }


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
    top = _Table(str(path) if path else "configuration", "", raw)
    server = top.table("server", ("bind", "data", "body_limit", "threads"))
    github = top.table("github", ("webhook_secrets", "twins"))
    worker = top.table("worker", ("concurrency",))
    retention = top.table("retention", ("payloads", "attempts"))
    routes = tuple(_route(table) for table in top.tables("route"))
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
        sha256=_digest(routes),
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


def _digest(routes: Sequence[Route]) -> str:
    told = [{"name": r.name, "match": r.match, "kind": r.kind, "key": r.key, "policy": r.policy()} for r in routes]
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _secrets(github: _Table, base: Path, env: Mapping[str, str]) -> tuple[SecretSource, ...]:
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


def _kept_for(table: _Table, key: str) -> float | None:
    return table.duration(key, 0.0) if key in table.raw else None


def _route(table: _Table) -> Route:
    name = table.token("name")
    table.where = f"route {name!r}"
    for later in ("forward", "pull"):
        if later in table.raw:
            raise table.error(later, "this version can only run commands: write run = [...]")
    table.only(("name", "match", "run", "timeout", "retry", "key", "supersede", "env"))
    match = table.text("match")
    retry = table.table("retry", ("max", "backoff", "cap"))
    key = table.text("key", "") or None
    for word in _BRACED.findall(key or ""):
        if word not in KEY_FIELDS:
            raise table.error("key", f"{{{word}}} is nothing that a key can hold{_near(word, KEY_FIELDS)}")
    supersede = table.choice("supersede", SUPERSEDE)
    if supersede != "never":
        raise table.error("supersede", f'{supersede!r} is not there yet: this version knows only "never"')
    timeout = table.duration("timeout", 600.0)
    if timeout <= 0:
        raise table.error("timeout", "must be longer than nothing")
    environment = table.texts("env", ())
    for variable in environment:
        if not _ENV_NAME.match(variable) or variable.startswith("COVENQ_"):
            raise table.error("env", f"{variable[:40]!r} is no environment variable that may be passed on")
    return Route(
        name=name,
        match=match,
        filter=_filter(table, match),
        run=_run(table),
        timeout_s=timeout,
        retry=Retry(retry.whole("max", 0, 0, 1000), retry.duration("backoff", 2.0), retry.duration("cap", 300.0)),
        key=key,
        supersede=supersede,
        env=environment,
    )


def _filter(table: _Table, match: str) -> Filter:
    try:
        parsed = parse(match)
    except FilterError as error:
        raise table.error("match", str(error), hint=error.hint) from None
    for name in sorted(parsed.fields() & UNDECIDED):
        raise table.error("match", f"{name!r} has no value yet when a route is chosen")
    return parsed


def _run(table: _Table) -> tuple[str, ...]:
    argv = table.texts("run")
    if not argv or not argv[0]:
        raise table.error("run", "needs a command and its arguments, each a text of its own")
    for word in argv:
        if "\0" in word:
            raise table.error("run", "an argument can't hold a NUL")
        for name in _BRACED.findall(word):
            if name in PLACEHOLDERS:
                continue
            if name in KEY_FIELDS or name in ("title", "guid"):
                raise table.error(
                    "run",
                    f"{{{name}}} comes from the request, which must not become an argument",
                    hint="The command finds it in its environment (COVENQ_REPO, COVENQ_EVENT, …) and in its payload.",
                )
            if near := _near(name, PLACEHOLDERS):
                raise table.error("run", f"{{{name}}} is no placeholder{near}")
    return argv


def _near(word: str, words: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, words, n=1)
    return f": did you mean {near[0]}?" if near else ""


class _Table:
    """A TOML table that knows where it stands, so that every error names the file and the key."""

    def __init__(self, file: str, where: str, raw: Mapping[str, Any]) -> None:
        self.file, self.where, self.raw = file, where, raw

    def error(self, key: str, problem: str, *, hint: str | None = None) -> ConfigError:
        place = ".".join(part for part in (self.where, key) if part)
        return ConfigError(f"{self.file}: {place}: {problem}" if place else f"{self.file}: {problem}", hint=hint)

    def only(self, known: Sequence[str]) -> None:
        for key in self.raw:
            if key not in known:
                if not self.where and key in _LATER:
                    raise self.error(key, "this version knows no such section yet")
                near = _near(key, known) or f"; known are {', '.join(known)}"
                raise self.error(key[:80], f"unknown key{near}")

    def _get(self, key: str, default: Any, kind: type, noun: str) -> Any:
        if key not in self.raw:
            if default is None:
                raise self.error(key, "is missing")
            return default
        value = self.raw[key]
        if type(value) is not kind:
            raise self.error(key, f"must be {noun}")
        return value

    def table(self, key: str, known: Sequence[str]) -> _Table:
        inner = _Table(self.file, f"{self.where}.{key}" if self.where else key, self._get(key, {}, dict, "a table"))
        inner.only(known)
        return inner

    def tables(self, key: str) -> list[_Table]:
        items = self._get(key, [], list, "a list of tables")
        where = f"{self.where}.{key}" if self.where else key
        tables = []
        for index, item in enumerate(items, 1):
            if not isinstance(item, dict):
                raise self.error(key, f"number {index} must be a table")
            tables.append(_Table(self.file, f"{where} {index}", item))
        return tables

    def text(self, key: str, default: str | None = None) -> str:
        text: str = self._get(key, default, str, "a text")
        if "\0" in text:
            raise self.error(key, "can't hold a NUL")
        return text

    def token(self, key: str) -> str:
        text = self.text(key)
        if not TOKEN.match(text):
            raise self.error(key, f"{text[:80]!r} is not 1 to 64 letters, digits, _ or -")
        return text

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        values = self._get(key, default, list, "a list of texts")
        if not all(isinstance(value, str) for value in values):
            raise self.error(key, "must be a list of texts")
        return tuple(values)

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        value: int = self._get(key, default, int, "a whole number")
        if not low <= value <= high:
            raise self.error(key, f"must be between {low} and {high}")
        return value

    def duration(self, key: str, default: float) -> float:
        text = self._get(key, default, str, "a duration such as 500ms, 10m or 2d")
        if not isinstance(text, str):
            return default
        try:
            return parse_duration(text)
        except UsageError as error:
            raise self.error(key, str(error), hint=error.hint) from None

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """One of `choices`; the first is the default."""
        text = self.text(key, choices[0])
        if text not in choices:
            raise self.error(key, f"{text[:40]!r} is none of {', '.join(choices)}{_near(text, choices)}")
        return text
