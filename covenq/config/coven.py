"""coven-github's configuration, translated: `covenq init --from-coven` writes what it gives.

Familiars, installations, the review policy and the worker's bounds have their counterparts. What has none is named, one by one,
with what to do about it, so that nothing is lost silently: a lane that is closed, a cap or an isolation that somebody relied on.
Values in, values out; the one secret that the file holds is kept apart from all that is written or said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from covenq.config.contract import HEADLESS
from covenq.config.github_api import GITHUB_API, app_secret_name, checked_api_url
from covenq.config.toml_table import Table
from covenq.errors import UsageError

LANES = ("assignment", "labels", "commands", "reviews")
PROGRAM = "coven-code"
TIMEOUT_S = 600
RETRIES = 2
"""What coven-github takes where its configuration doesn't say."""
ENTRIES_MAX = 10_000
"""Familiars, installations and repositories, together."""
_PLACEHOLDER_SECRETS = frozenset({"", "CHANGE_ME", "changeme", "GENERATE_LONG_RANDOM"})


class Fate(StrEnum):
    """What became of a setting."""

    TAKEN = "taken"
    CHANGED = "changed"
    LEFT_OUT = "left out"
    TO_DO = "to do"


@dataclass(frozen=True, slots=True)
class Note:
    """What became of one setting, `place`, in words that hold no value of it but numbers and names."""

    place: str
    fate: Fate
    words: str

    def __str__(self) -> str:
        return f"{self.fate}: {self.place}: {self.words}"


@dataclass(slots=True)
class Translation:
    """covenq's tables, in the order in which they are to be written; the webhook secret, which isn't in them; what to say."""

    tables: dict[str, object] = field(default_factory=dict)
    secret: str | None = field(default=None, repr=False)
    notes: list[Note] = field(default_factory=list)

    def say(self, place: str, fate: Fate, words: str) -> None:
        self.notes.append(Note(place, fate, words))

    def section(self, name: str) -> dict[str, object]:
        """A table of the configuration to be."""
        found = self.tables.setdefault(name, {})
        if not isinstance(found, dict):
            raise TypeError(name)
        return found


def translate(
    raw: Mapping[str, object], file: str, text: str, secret_file: str, key_file: Callable[[str], str]
) -> Translation:
    """The translation of a configuration in TOML. Raises ConfigError.

    `secret_file` is where its webhook secret will be, `key_file` says where a private key is that it names by a relative path.
    """
    top = Table(file, "", raw, text=text)
    made = Translation()
    _server(top, made)
    _github(top, made, secret_file, key_file)
    executor = _worker(top, made)
    _storage(top, made)
    _familiars(top, made, executor)
    _installations(top, made)
    _review(top, made)
    _api(top, made)
    _left_out(top, made)
    for key in sorted(set(raw) - set(_SECTIONS)):
        made.say(f"[{key[:80]}]", Fate.LEFT_OUT, "unknown")
    return made


_SECTIONS = "server github worker storage familiars installations review api memory billing gardener".split()


def opened(top: Table, name: str) -> Table | None:
    """A section, whatever keys it has; None where it is missing."""
    given = top.raw.get(name)
    return top.table(name, tuple(given) if isinstance(given, Mapping) else ()) if given is not None else None


def _rest(made: Translation, place: str, raw: Mapping[str, object], known: tuple[str, ...]) -> None:
    """Name the keys that nothing is known of."""
    for key in raw:
        if key not in known:
            made.say(f"{place} {key[:80]}", Fate.LEFT_OUT, "unknown")


def _server(top: Table, made: Translation) -> None:
    table = opened(top, "server")
    if table is None:
        return
    if "bind" in table.raw:
        made.section("server")["bind"] = table.text("bind")
        made.say("[server] bind", Fate.TAKEN, "as [server] bind; the webhook is at /webhook there, too")
    if "cave_base_url" in table.raw:
        made.say("[server] cave_base_url", Fate.LEFT_OUT, "nothing links to it")
    _rest(made, "[server]", table.raw, ("bind", "cave_base_url"))


def _github(top: Table, made: Translation, secret_file: str, key_file: Callable[[str], str]) -> None:
    table = opened(top, "github")
    if table is None:
        return
    app_id = table.integer("app_id", 0, 0, (1 << 63) - 1)
    secret = table.text("webhook_secret", "")
    if secret.strip() in _PLACEHOLDER_SECRETS:
        made.say("[github] webhook_secret", Fate.TO_DO, "it is none: `covenq secrets` says which is used")
    else:
        made.secret = secret
        name = app_secret_name(app_id) if app_id else "app"
        made.section("github")["webhook_secrets"] = [{"name": name, "file": secret_file}]
        made.say(
            "[github] webhook_secret", Fate.TAKEN, f"into the file {secret_file}, which [github] webhook_secrets names"
        )
    key = table.text("private_key_path", "")
    if app_id and key:
        app: dict[str, object] = {"id": app_id, "private_key_file": key_file(key)}
        if "api_base_url" in table.raw:
            app |= _api_url(table)
        made.section("github")["app"] = app
        made.say("[github] app_id, private_key_path", Fate.TAKEN, "as [github.app]; the key stays where it is")
    else:
        made.say("[github] app_id, private_key_path", Fate.TO_DO, "incomplete: `covenq init --github-app --existing`")
    _rest(made, "[github]", table.raw, ("app_id", "webhook_secret", "private_key_path", "api_base_url"))


def _api_url(table: Table) -> dict[str, object]:
    try:
        url = checked_api_url(table.text("api_base_url"))
    except UsageError as error:
        raise table.error("api_base_url", str(error), hint=error.hint) from None
    return {} if url == GITHUB_API else {"api_url": url}


def _worker(top: Table, made: Translation) -> dict[str, object]:
    """The executor of every familiar's routes."""
    table = opened(top, "worker") or Table(top.file, "worker", {}, text=top.text_of_file)
    if "concurrency" in table.raw:
        made.section("worker")["concurrency"] = table.integer("concurrency", 0, 1, 1024)
        made.say("[worker] concurrency", Fate.TAKEN, "as [worker] concurrency")
    if table.text("backend", "host") == "container":
        made.say(
            "[worker] backend, [worker.container]",
            Fate.TO_DO,
            "covenq makes no containers, and nothing that ran in one is run outside of it: the routes have pull = true. Run "
            "`covenq worker` within the container, or write run = […] with the container's own command",
        )
        made.say("[worker] coven_code_bin", Fate.TO_DO, "it is the command behind `covenq worker --`")
        executor: dict[str, object] = {"pull": True}
    else:
        program = table.text("coven_code_bin", PROGRAM)
        executor = {"run": [program, "--headless", "--context", "{brief}", "--output", "{result}"]}
        made.say("[worker] coven_code_bin", Fate.TAKEN, "as the run of each [[familiar]]")
        if "container" in table.raw:
            made.say("[worker.container]", Fate.LEFT_OUT, "the backend is the host")
    executor["contract"] = HEADLESS
    _token(made, executor)
    executor["timeout"] = f"{table.integer('timeout_secs', TIMEOUT_S, 1, 86400 * 30)}s"
    executor["retry"] = {"max": table.integer("max_retries", RETRIES, 0, 1000), "backoff": "2s"}
    made.say("[worker] timeout_secs, max_retries", Fate.TAKEN, "as timeout and retry of each [[familiar]]")
    if "workspace_root" in table.raw:
        made.say(
            "[worker] workspace_root", Fate.LEFT_OUT, "each attempt has a directory below the data directory's attempts"
        )
    if "allow_host_backend" in table.raw:
        made.say("[worker] allow_host_backend", Fate.LEFT_OUT, "a command always runs on the host, as covenq's user")
    known = ("concurrency", "backend", "container", "coven_code_bin", "timeout_secs", "max_retries", "workspace_root")
    _rest(made, "[worker]", table.raw, (*known, "allow_host_backend"))
    return executor


def _token(made: Translation, executor: dict[str, object]) -> None:
    """What its command may do on GitHub: push, as there. Comments and pull requests were the adapter's, there."""
    place = "[github] the agent's token"
    github = made.tables.get("github")
    if not isinstance(github, dict) or "app" not in github:
        made.say(place, Fate.TO_DO, 'write token = { permissions = { contents = "write" } } once there is [github.app]')
        return
    executor["token"] = {"permissions": {"contents": "write"}, "repositories": "this"}
    words = (
        "as token of each [[familiar]], in the file that COVENQ_GITHUB_TOKEN_FILE names; add to its permissions what a "
    )
    made.say(
        place,
        Fate.CHANGED,
        words + "command needs that comments or opens pull requests itself, for covenq does neither",
    )


def _storage(top: Table, made: Translation) -> None:
    table = opened(top, "storage")
    if table is None:
        return
    if "path" in table.raw:
        made.say(
            "[storage] path", Fate.LEFT_OUT, "its deliveries and tasks stay there; covenq begins with an empty journal"
        )
    if "task_retention_days" in table.raw:
        kept = f"{table.integer('task_retention_days', 0, 1, 36500)}d"
        made.tables["retention"] = {"payloads": kept, "attempts": kept}
        words = "as [retention] payloads and attempts; the ids, times and outcomes of tasks stay"
        made.say("[storage] task_retention_days", Fate.CHANGED, words)
    _rest(made, "[storage]", table.raw, ("path", "task_retention_days"))


def _familiars(top: Table, made: Translation, executor: Mapping[str, object]) -> None:
    known = ("id", "display_name", "bot_username", "trigger_labels", "model", "skills")
    tables = top.tables("familiars")
    if not tables:
        raise top.error("familiars", "is empty: there is nobody to work", hint="It needs a [[familiars]] at least.")
    _require_few(top, "familiars", len(tables))
    familiars: list[dict[str, object]] = []
    for table in tables:
        one: dict[str, object] = {"id": table.text("id")}
        for key in ("display_name", "bot_username", "model"):
            if key in table.raw:
                one[key] = table.text(key)
        for key in ("trigger_labels", "skills"):
            if texts := table.texts(key, ()):
                one[key] = list(dict.fromkeys(texts))
        place = f"[[familiars]] {one['id']}"
        familiars.append({**one, **executor})
        made.say(place, Fate.TAKEN, "as [[familiar]]")
        _rest(made, place, table.raw, known)
    made.tables["familiar"] = familiars


def _installations(top: Table, made: Translation) -> None:
    tables = top.tables("installations")
    entries = 0
    found: list[dict[str, object]] = []
    for table in tables:
        number = table.integer("id", 0, 1, (1 << 63) - 1)
        place = f"[[installations]] {number}"
        one: dict[str, object] = {"id": number}
        if "account" in table.raw:
            one["account"] = table.text("account")
        if familiars := table.texts("familiars", ()):
            one["familiars"] = list(familiars)
        if (triggers := opened(table, "triggers")) is not None:
            one["lanes"] = {lane: triggers.flag(lane, True) for lane in LANES if lane in triggers.raw}
            _rest(made, f"{place} triggers", triggers.raw, LANES)
        if (limits := opened(table, "limits")) is not None:
            one["limits"] = _limits(limits, made, place)
        if (repos := opened(table, "repos")) is not None:
            one["repos"] = {name: _override(repos, name, made, place) for name in repos.raw}
            entries += len(repos.raw)
        found.append({key: value for key, value in one.items() if value != {}})
        made.say(place, Fate.TAKEN, "as [[installation]]; triggers are its lanes")
        _rest(made, place, table.raw, ("id", "account", "familiars", "triggers", "limits", "repos"))
    _require_few(top, "installations", len(tables) + entries)
    if found:
        made.tables["installation"] = found


def _limits(table: Table, made: Translation, place: str) -> dict[str, object]:
    names = {"max_concurrent": "concurrency", "max_tasks_per_day": "daily"}
    _rest(made, f"{place} limits", table.raw, tuple(names))
    if "max_tasks_per_day" in table.raw:
        words = "as limits.daily, which counts attempts; what is beyond it waits for its day, and isn't ignored"
        made.say(f"{place} limits", Fate.CHANGED, words)
    return {own: table.integer(key, 0, 1, 1 << 30) for key, own in names.items() if key in table.raw}


def _override(repos: Table, name: str, made: Translation, place: str) -> dict[str, object]:
    table = opened(repos, name)
    known = ("enabled", *LANES)
    raw: Mapping[str, object] = {} if table is None else table.raw
    _rest(made, f"{place} repos.{name[:80]}", raw, known)
    return {} if table is None else {key: table.flag(key, True) for key in known if key in raw}


def _review(top: Table, made: Translation) -> None:
    table = opened(top, "review")
    if table is None:
        return
    review = _policy(table, made, "[review]", ("repos",))
    if (repos := opened(table, "repos")) is not None:
        _require_few(table, "repos", len(repos.raw))
        policies = {name: opened(repos, name) for name in repos.raw}
        review["repos"] = {
            name: _policy(one, made, f"[review.repos.{name[:80]}]", ())
            for name, one in policies.items()
            if one is not None
        }
    if review:
        made.tables["review"] = review
        made.say("[review]", Fate.TAKEN, "as [review]")


def _policy(table: Table, made: Translation, place: str, known: tuple[str, ...]) -> dict[str, object]:
    found: dict[str, object] = {}
    if "familiar" in table.raw:
        found["familiar"] = table.text("familiar")
    found |= {key: table.flag(key, False) for key in ("pull_request", "include_drafts") if key in table.raw}
    for key in ("audit_instruction", "min_severity", "publish"):
        if key in table.raw:
            made.say(
                f"{place} {key}", Fate.LEFT_OUT, "what is done with findings is up to the command that a route runs"
            )
    taken = ("familiar", "pull_request", "include_drafts", "audit_instruction", "min_severity", "publish")
    _rest(made, place, table.raw, (*taken, *known))
    return found


def _api(top: Table, made: Translation) -> None:
    table = opened(top, "api")
    if table is None:
        return
    place = "[api]"
    if table.text("mode", "open") == "open":
        words = "covenq's API is on a Unix socket until [api] is written, and asks for a token; without one by covenq-proxy(7)"
        made.say(f"{place} mode", Fate.CHANGED, words)
    else:
        made.section("api")
        made.say(f"{place} mode", Fate.TAKEN, "as [api], on 127.0.0.1:8788; no token that is there is taken over")
    if "service_token" in table.raw:
        made.say(f"{place} service_token", Fate.TO_DO, "make another: `covenq tokens new --name service --role read`")
    for number, tenant in enumerate(table.tables("tenants"), 1):
        installation = tenant.integer("installation_id", 0, 1, (1 << 63) - 1)
        name = f"tenant-{installation}"
        words = f"make another: `covenq tokens new --name {name} --role read --installation {installation}`"
        if tenant.texts("repos", ()):
            words += "; for its repos alone, with --repository and the number of each"
        made.say(f"[[api.tenants]] {number}", Fate.TO_DO, words)
    _rest(made, place, table.raw, ("mode", "service_token", "tenants"))


def _left_out(top: Table, made: Translation) -> None:
    """The sections that covenq has nothing for."""
    if "memory" in top.raw:
        made.say("[memory]", Fate.LEFT_OUT, "covenq keeps no memory for agents; a command may keep its own")
    if "gardener" in top.raw:
        words = "covenq has no gardener and no schedules: run one by a timer. `garden` as a command is a task of that purpose"
        made.say("[gardener]", Fate.LEFT_OUT, words)
    billing = opened(top, "billing")
    if billing is not None:
        made.say("[billing]", Fate.LEFT_OUT, "covenq knows no plans")
        if billing.raw.get("require_plan") is True and not top.raw.get("installations"):
            words = (
                "nothing keeps out who has no plan: list in [[installation]] whom you serve, else every installation is"
            )
            made.say("[billing] require_plan", Fate.TO_DO, words)


def _require_few(table: Table, key: str, count: int) -> None:
    if count > ENTRIES_MAX:
        raise table.error(key, f"has {count} entries, and {ENTRIES_MAX} are taken at most")
