"""Loading the configuration: TOML and environment in, frozen values out. Strict: unknown keys are refused.

It only names secrets; `covenq.config.secret_keys` reads them, since no command but the daemon needs their values.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from covenq import given_file
from covenq.config.executor import scrub_of
from covenq.config.familiar_routes import make_routes
from covenq.config.familiar_table import NO_FAMILIARS, Familiars
from covenq.config.github_api import NO_LOGS, GithubLogs, parse_logs
from covenq.config.ingress import LOG, WEBHOOK, parse_ingress, require_followable
from covenq.config.journal import IN_FILES, POSTGRES, JournalSettings, parse_journal
from covenq.config.limits import NO_CAPS, Caps, installation_cap, parse_caps
from covenq.config.node import UNNAMED, NodeSettings, parse_node
from covenq.config.notify import Notify, parse_notify
from covenq.config.page import PageSettings, parse_page
from covenq.config.public_url import parse_public_url
from covenq.config.reconcile import NO_RECONCILE, Reconcile, parse_reconcile
from covenq.config.retention import NO_RETENTION, Retention, parse_retention
from covenq.config.route import Route, digest, parse_route
from covenq.config.secret_source import FROM_ENVIRONMENT, SecretSource, parse_hooks, parse_secrets
from covenq.config.toml_position import at_end
from covenq.config.toml_table import Table, did_you_mean
from covenq.config.webhook_path import DEFAULT_PATH, parse_path
from covenq.config.work_token import require_no_token
from covenq.errors import ConfigError
from covenq.paths import CONFIG_NAME, TOKENS_NAME
from journal.presence import exists
from journal.records import PAYLOAD_MAX

DEFAULT_BIND = "127.0.0.1:8787"
DEFAULT_API_BIND = "127.0.0.1:8788"
DEFAULT_METRICS_BIND = "127.0.0.1:8789"
BODY_LIMIT = 25 * 1024 * 1024
"""GitHub sends no larger payload."""
HEADER_TIMEOUT_S = 10.0
BODY_TIMEOUT_S = 30.0
"""GitHub gives up ten (GHES: thirty) seconds after connecting."""
FILE_MAX = 16 * 1024 * 1024
"""Bytes of a configuration's file."""
THREADS = 32
CONCURRENCY = 4
LEASE_S = 120.0
LEASE_MIN_S = 10.0
LEASE_MAX_S = 3600.0

DEFAULT_SECRET = "default"  # noqa: S105 - a name
"""The name of the data directory's own secret, which is used when the configuration names none."""

SECTIONS = tuple(
    "server node journal api metrics github reconcile worker limits retention notify log route familiar installation review "
    "commands".split()
)
LOG_FORMATS = ("human", "json")
LOG_LEVELS = ("info", "debug", "warning", "error")
TWINS = ("mark", "refuse")


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration. `sha256` is the hash of the routes, in their order, which determine the tasks."""

    path: Path | None = None
    bind: str = DEFAULT_BIND
    webhook_path: str = DEFAULT_PATH
    """Where deliveries are posted to, without a slash at its end."""
    public_url: str | None = None
    """Where GitHub reaches this covenq, without the webhook's path; None: the configuration doesn't say."""
    data: Path | None = None
    node: NodeSettings = UNNAMED
    journal: JournalSettings = IN_FILES
    body_limit: int = BODY_LIMIT
    header_timeout_s: float = HEADER_TIMEOUT_S
    body_timeout_s: float = BODY_TIMEOUT_S
    threads: int = THREADS
    api_bind: str | None = None
    """Where the API listens for clients with a token; None: only on the Unix socket."""
    api_tokens: Path | None = None
    page: PageSettings | None = None
    """The pages for browsers, beside the API; None: there are none."""
    webhook_metrics: bool = False
    """Whether /metrics is on the webhook's listener too."""
    metrics_bind: str | None = None
    """Where /metrics has a listener of its own, without tokens; None: nowhere."""
    secrets: tuple[SecretSource, ...] = ()
    hooks: tuple[str, ...] = ()
    """Hook ids that may deliver; empty allows all."""
    twins: str = "mark"
    asks_for_twins: bool = False
    """Whether the intake has to look for twins: to refuse them, or because a route filters by them."""
    ingress: str = WEBHOOK
    """How deliveries come in, one of INGRESS."""
    github_logs: GithubLogs = NO_LOGS
    """Whose delivery logs are read, by the daemon and by `covenq reconcile`."""
    reconcile: Reconcile = NO_RECONCILE
    """How the daemon's own passes over them are made."""
    concurrency: int = CONCURRENCY
    lease_s: float = LEASE_S
    on_standby: Path | None = None
    """The file of the token by which this node runs tasks for the one that leads, while it stands by; None: it doesn't."""
    """Of the pool's claims, where another machine may take the journal over."""
    scrub: tuple[str, ...] = ()
    """Regular expressions of what is masked in the output of commands."""
    log_format: str = "human"
    log_level: str = "info"
    retention: Retention = NO_RETENTION
    caps: Caps = NO_CAPS
    """The section [limits] and the routes' own, as one."""
    notify: Notify | None = None
    """Who is told of transitions; None: nobody."""
    routes: tuple[Route, ...] = ()
    """Those of `[[route]]`, and after them those that familiars make."""
    familiars: Familiars = NO_FAMILIARS
    sha256: str = field(default=hashlib.sha256(b"[]").hexdigest())

    @property
    def follows_log(self) -> bool:
        """Whether deliveries come out of GitHub's log alone, and none is posted here."""
        return self.ingress == LOG

    @property
    def address(self) -> tuple[str, int]:
        """`bind` as (host, port)."""
        return parse_bind(self.bind)

    @property
    def webhook_url(self) -> str:
        """Where this configuration would have deliveries posted to, on this machine."""
        return f"http://{self.bind}{self.webhook_path}"

    def token_file(self, data: Path) -> Path:
        """The file of the API's tokens: as configured, else in the data directory."""
        return self.api_tokens if self.api_tokens is not None else data / TOKENS_NAME


def load(path: Path | None, env: Mapping[str, str], *, complete: bool = True) -> Config:
    """Read the file, if any, and what the environment overrides (COVENQ_BIND, COVENQ_WEBHOOK_SECRET and the like).

    Not `complete`: of one that is to be completed it isn't asked that a log be there which it says to follow, or an App.
    Raises ConfigError.
    """
    config = build({}, None, env) if path is None else _read(path, env)
    if complete and config.follows_log:
        require_followable(config.github_logs, path)
    if complete and config.github_logs.app is None:
        require_no_token([(one.name, one.token) for one in config.routes], path)
    return config


def _read(path: Path, env: Mapping[str, str]) -> Config:
    text = read_text(path, FILE_MAX)
    return build(parse_toml(text, path), path, env, text)


def read_text(path: Path, limit: int) -> str:
    """The text of a file that a person named, which may be a pipe. Raises ConfigError, also for more than `limit` bytes."""
    try:
        content = given_file.read(path, limit + 1)
        if len(content) > limit:
            raise ConfigError(f"{path}: is larger than {limit >> 20} MiB")
        text = content.decode("utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: can't be read: {error.strerror}", hint="Check --config and COVENQ_CONFIG."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 at byte {error.start}") from None
    if text.startswith("\ufeff"):
        hint = f"Save it as UTF-8 without one: sed -i '1s/^\\xEF\\xBB\\xBF//' {shlex.quote(str(path))}"
        raise ConfigError(f"{path}: begins with a byte order mark, which TOML has none of", hint=hint)
    return text


def parse_toml(text: str, path: Path) -> dict[str, object]:
    """Raises ConfigError, which quotes nothing of the text but a key."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {_with_position(error, text)}") from None
    except ValueError:  # what the parser lets through of Python's: no integer is made of very many digits
        raise ConfigError(f"{path}: holds a number of more digits than are read{_line_of_digits(text)}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None


def build(raw: Mapping[str, object], path: Path | None, env: Mapping[str, str], text: str | None = None) -> Config:
    """The configuration from parsed TOML.

    Errors name `path`, and relative paths start from its directory. With the file's `text`, errors also name line and column.
    """
    top = Table(str(path) if path else "configuration", "", raw, text=text)
    server = top.table(
        "server",
        ("bind", "path", "public_url", "data", "body_limit", "header_timeout", "body_timeout", "threads", "metrics"),
    )
    metrics = top.table("metrics", ("bind",))
    api = top.table("api", ("bind", "tokens", "page", "hosts", "payloads"))
    github = top.table("github", ("webhook_secrets", "hooks", "twins", "ingress", "app", "hook"))
    worker = top.table("worker", ("concurrency", "lease", "scrub", "on_standby", "token_file"))
    log = top.table("log", ("format", "level"))
    tables, routes, familiars = _routes(top)
    caps = parse_caps(top, [(route.name, route.scheduling) for route in routes], familiars.shares)
    ingress = parse_ingress(github, env)
    follows_log = ingress == LOG
    reconcile = parse_reconcile(top, follows_log=follows_log, overridden=github.raw.get("ingress") != LOG)
    top.require_known(SECTIONS)
    base = path.parent if path else Path()
    secrets = parse_secrets(github, base, env)
    for table, one in zip(tables, routes, strict=True):
        _require_secret(table, one.sign, secret_names(secrets))
    webhook_path = parse_path(server)
    journal = parse_journal(top, env)
    bind = env.get("COVENQ_BIND") or _address(server, DEFAULT_BIND)
    parse_bind(bind)
    api_bind = _address(api, DEFAULT_API_BIND) if "api" in top.raw else None
    page = parse_page(api, parse_bind(api_bind or DEFAULT_API_BIND)[0])
    hooks = parse_hooks(github)
    if "hooks" in github.raw and not hooks:
        raise github.error("hooks", "is empty, and would let no hook in; leave it out to let every one in")
    twins = github.choice("twins", TWINS)
    if twins == "refuse" and not hooks:
        # The signature doesn't cover the hook id: if every hook is allowed, a captured request can be sent as another hook's.
        raise github.error("twins", '"refuse" needs the allow-list [github] hooks')
    metrics_bind = _address(metrics, DEFAULT_METRICS_BIND) if "metrics" in top.raw else None
    _require_distinct([(server, None if follows_log else bind), (api, api_bind), (metrics, metrics_bind)])
    return Config(
        path=path,
        bind=bind,
        webhook_path=webhook_path,
        public_url=parse_public_url(server, webhook_path),
        data=_path(server, "data", base),
        node=parse_node(top, env),
        journal=journal,
        body_limit=server.integer("body_limit", BODY_LIMIT, 1, PAYLOAD_MAX),
        header_timeout_s=_timeout(server, "header_timeout", HEADER_TIMEOUT_S),
        body_timeout_s=_timeout(server, "body_timeout", BODY_TIMEOUT_S),
        threads=server.integer("threads", THREADS, 1, 1024),
        api_bind=api_bind,
        api_tokens=_path(api, "tokens", base),
        page=page,
        webhook_metrics=server.flag("metrics", False),
        metrics_bind=metrics_bind,
        secrets=secrets,
        hooks=hooks,
        twins=twins,
        asks_for_twins=twins == "refuse" or any("twin" in route.filter.fields() for route in routes),
        ingress=ingress,
        github_logs=parse_logs(github, base),
        reconcile=reconcile,
        concurrency=worker.integer("concurrency", CONCURRENCY, 1, 1024),
        lease_s=_lease(worker),
        on_standby=_on_standby(worker, base, journal, api_bind),
        scrub=scrub_of(worker),
        log_format=log.choice("format", LOG_FORMATS),
        log_level=log.choice("level", LOG_LEVELS),
        retention=parse_retention(top),
        caps=caps,
        notify=parse_notify(top, base),
        routes=routes,
        familiars=familiars,
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
    # The XDG specification says that relative paths are ignored.
    base = Path(state) if state and Path(state).is_absolute() else home / ".local" / "state"
    return base / "covenq"


def config_path(option: str | None, env: Mapping[str, str], data: str | None = None) -> Path | None:
    """The configuration file: `--config`, COVENQ_CONFIG, else covenq.toml in the data directory, if it is there."""
    chosen = option or env.get("COVENQ_CONFIG")
    if chosen:
        return Path(chosen).expanduser()
    own = data_dir(data, env) / CONFIG_NAME
    return own if exists(own) else None


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


def _routes(top: Table) -> tuple[list[Table], tuple[Route, ...], Familiars]:
    """The tables that routes are read from, the routes, and the familiars that made some of them. Raises ConfigError."""
    tables = top.tables("route")
    routes = [parse_route(table) for table in tables]
    familiars, made = make_routes(top, installation_cap(top))
    tables += [one.table for one in made]
    routes += [one.route for one in made]
    _require_own_names(tables, [route.name for route in routes])
    return tables, tuple(routes), familiars


def _require_own_names(tables: Sequence[Table], names: Sequence[str]) -> None:
    """Raises ConfigError if two routes have the same name."""
    for index, name in enumerate(names):
        if name in names[:index]:
            key = "name" if tables[index].path[:1] == ("route",) else "id"
            raise tables[index].error(key, f"two routes are named {name!r}")


def _require_distinct(binds: Sequence[tuple[Table, str | None]]) -> None:
    """Raises ConfigError if two sections' addresses are one to the system: only the first could be listened on."""
    given = [(table, bind, *parse_bind(bind)) for table, bind in binds if bind is not None]
    for index, (table, bind, host, port) in enumerate(given):
        for other, taken, other_host, other_port in given[:index]:
            if port and port == other_port and _overlap(host, other_host):
                words = f"is {bind}, and that of [{other.where}] is {taken}: they can't share a port"
                raise table.error("bind", words, hint=f"Choose another port for [{table.where}].")


def _overlap(one: str, other: str) -> bool:
    """Whether two hosts can't be listened on at one port, as far as that shows without asking a name service."""
    if one.lower() == other.lower():
        return True
    try:
        first, second = ip_address(one), ip_address(other)
    except ValueError:
        return False
    return first.version == second.version and (first == second or first.is_unspecified or second.is_unspecified)


def secret_names(secrets: Sequence[SecretSource]) -> list[str]:
    """The names that the secrets in effect can have: that of the environment too, which not every command sees."""
    names = [one.name for one in secrets if one.name != FROM_ENVIRONMENT]
    return [*(names or [DEFAULT_SECRET]), FROM_ENVIRONMENT]


def _require_secret(route: Table, name: str | None, known: Sequence[str]) -> None:
    if name is not None and name not in known:
        guess = did_you_mean(name, known)
        raise route.error("sign", f"{name!r} is no secret of [github] webhook_secrets{guess}")


def _timeout(table: Table, key: str, default: float) -> float:
    value = table.duration(key, default)
    if value <= 0:
        raise table.error(key, "must be longer than nothing")
    return value


def _lease(worker: Table) -> float:
    value = worker.duration("lease", LEASE_S)
    if not LEASE_MIN_S <= value <= LEASE_MAX_S:
        raise worker.error("lease", "must be between 10s and 1h")
    return value


def _on_standby(worker: Table, base: Path, journal: JournalSettings, api_bind: str | None) -> Path | None:
    """The file of the token, where a node that stands by is to run tasks. Raises ConfigError where that could never be."""
    token_file = _path(worker, "token_file", base)
    if not worker.flag("on_standby", False):
        if token_file is not None:
            raise worker.error("token_file", "is for on_standby = true")
        return None
    if journal.engine != POSTGRES:
        raise worker.error("on_standby", 'is for nodes that share a journal: [journal] engine = "postgres"')
    if api_bind is None:
        raise worker.error("on_standby", "needs an [api] section: nodes that stand by claim tasks there")
    if token_file is None:
        hint = "`covenq tokens new --role worker` makes one, which every node has to take: [api] tokens."
        raise worker.error("on_standby", "needs token_file, by which the node that leads is asked for tasks", hint=hint)
    return token_file


def _path(table: Table, key: str, base: Path) -> Path | None:
    """A file or directory, relative to the configuration's; None where it isn't said."""
    given = table.text(key, "")
    return base / Path(given).expanduser() if given else None


def _address(table: Table, default: str) -> str:
    bind = table.text("bind", default)
    try:
        parse_bind(bind)
    except ConfigError as error:
        raise table.error("bind", str(error), hint=error.hint) from None
    return bind


def _with_position(error: tomllib.TOMLDecodeError, text: str) -> str:
    """The parser's message, with line and column also where it only says that the document ends."""
    said = str(error)
    line, column = at_end(text)
    return said.replace("(at end of document)", f"(at line {line}, column {column}, the end of the file)")


def _line_of_digits(text: str) -> str:
    """Where the first number is of which Python makes no integer, as words, if it can be told."""
    found = re.search(f"(?<![0-9_])[0-9](?:_?[0-9]){{{sys.get_int_max_str_digits()},}}", text)
    return "" if found is None else f" (line {text.count(chr(10), 0, found.start()) + 1})"
