"""The live configuration: what is in effect now, reloaded on SIGHUP and when one of its files changes.

What is in effect is one immutable `Snapshot`, replaced whole by one assignment. Code takes it once for a decision (`live.now`),
so that it never sees half of a change. An invalid configuration is refused as a whole: the snapshot before it stays in effect,
and the refusal is kept, logged and shown until a valid configuration is loaded.
"""

from __future__ import annotations

import logging
import stat
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from covenq.config import load as configuration
from covenq.config import secret_keys
from covenq.config.load import Config
from covenq.config.secret_keys import Key
from covenq.config.secret_source import SecretSource, SecretStatus
from covenq.errors import ConfigError, CovenqError
from covenq.model import at_text
from covenq.model.status import Reload, SecretWarning
from covenq.paths import CONFIG_NAME
from covenq.text import counted
from journal.presence import is_absent

log = logging.getLogger("covenq.config")

STATIC = {
    "bind": "[server] bind",
    "webhook_path": "[server] path",
    "data": "[server] data",
    "node": "[node] name, address or api",
    "body_limit": "[server] body_limit",
    "header_timeout_s": "[server] header_timeout",
    "body_timeout_s": "[server] body_timeout",
    "threads": "[server] threads",
    "ingress": "[github] ingress",
    "api_bind": "[api] bind",
    "api_tokens": "[api] tokens",
    "page": "[api] page, hosts or payloads",
    "webhook_metrics": "[server] metrics",
    "metrics_bind": "[metrics] bind",
    "concurrency": "[worker] concurrency",
    "lease_s": "[worker] lease",
    "on_standby": "[worker] on_standby or token_file",
}
"""Fields of Config that sockets, threads and directories were made from: they keep their values until the next start."""

WITH_INGRESS = ("github_logs", "reconcile")
"""What is kept with [github] ingress: the passes' defaults go by it, and a log that is followed must not be lost by a reload."""

FILES_PER_CHECK = 128
"""Files whose stamps are read at once, so that a check costs the same however many secrets there are."""

CHANGING_CHECKS_MAX = 10
"""Checks after which a requested reload no longer waits for the files to stop changing."""

Stamp = tuple[int, int, int, int, int] | None
"""What changes when a file does: device, inode, size, and times of modification and change in ns. None: it doesn't exist."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The configuration in effect at one moment. `number` counts from 1, the configuration at the start."""

    config: Config
    keys: tuple[Key, ...]
    number: int = 1


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """The outcome of a reload. `at` is RFC 3339. `changed`: another snapshot than before is in effect."""

    at: str
    ok: bool
    changed: bool = False
    error: str | None = None
    hint: str | None = None
    kept: tuple[str, ...] = ()
    """What was changed, and takes effect at the next start alone, in words."""
    secret_warnings: tuple[SecretWarning, ...] = ()

    @property
    def warnings(self) -> list[str]:
        return [*self.kept, *(one.words for one in self.secret_warnings)]


class ConfigFiles:
    """The files that a configuration is read from: the TOML, and those of its secrets."""

    def __init__(
        self,
        config: Config,
        env: Mapping[str, str],
        data: Path,
        adjust: Callable[[Config], Config] = lambda config: config,
    ) -> None:
        """`config` was read at the start; `adjust` applies the command line's options, which override the file, every time."""
        self._path = config.path if config.path is not None else data / CONFIG_NAME
        self._given = config.path is not None
        self._env = env
        self._data = data
        self._adjust = adjust
        self._secrets = secret_keys.sources_of(config, data)

    def read(self) -> tuple[Config, tuple[Key, ...]]:
        """Read the files. Raises ConfigError, also for a webhook without any secret, which could accept no delivery."""
        # A daemon that was started without a configuration loads the one that `covenq init` writes.
        self._given = self._given or not is_absent(self._path)
        _require_rereadable(self._path)
        config = self._adjust(configuration.load(self._path if self._given else None, self._env))
        self._secrets = secret_keys.sources_of(config, self._data)
        if not self._secrets and not config.follows_log:
            raise ConfigError(f"{self._path}: no webhook secret is left", hint="Name one in [github] webhook_secrets.")
        for path in self.paths():
            _require_rereadable(path)
        return config, secret_keys.read_secrets(config, self._env, self._data)

    def secret_status(self, config: Config) -> list[SecretStatus]:
        return secret_keys.secret_status(config, self._env, self._data)

    def paths(self) -> list[Path]:
        """The files to check, including those that the last configuration that parsed names, even if they couldn't be read."""
        found = [self._path, secret_keys.default_file(self._data)]
        for source in self._secrets:
            path = source.path(self._env)
            if path is not None and path not in found:
                found.append(path)
        return found


class Live:
    """The snapshot in effect. `now` may be read from any thread; `reload` and `check` may be called from any."""

    def __init__(
        self,
        config: Config,
        keys: tuple[Key, ...],
        files: ConfigFiles | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`files` None: it never changes."""
        self._now = Snapshot(config, keys)
        self._files = files
        self._clock = clock
        self._lock = threading.Lock()
        of_secrets = tuple(secret_keys.warnings(keys))
        self._last = ReloadResult(at_text(clock()), True, changed=True, secret_warnings=of_secrets)
        self._subscribers: list[Callable[[Snapshot, Snapshot], None]] = []
        self._seen: dict[Path, Stamp] = {}
        self._changed: dict[Path, Stamp] = {}
        self._next_file = 0
        self._confirm = True
        self._requested: str | None = None
        self._checks_left = 0
        if files is not None:
            self._seen = {path: stamp(path) for path in files.paths()}

    @property
    def now(self) -> Snapshot:
        """What is in effect. Take it once for one decision."""
        return self._now

    @property
    def last(self) -> ReloadResult:
        """The outcome of the last reload that changed or refused something."""
        return self._last

    def subscribe(self, callback: Callable[[Snapshot, Snapshot], None]) -> None:
        """Call `callback(before, now)` after each change, on the thread that made it: it must neither block nor raise."""
        self._subscribers.append(callback)

    def status(self) -> Reload:
        """The newest reading; `number` is that of the snapshot in effect."""
        last = self._last
        return Reload(last.at, last.ok, last.error, last.hint, self._now.number, last.warnings, [*last.secret_warnings])

    def secret_status(self) -> list[SecretStatus]:
        """The secrets in effect: where each is, and what prevents reading it again, if anything does."""
        now = self._now
        if self._files is None:
            return [(SecretSource(key.name, value="", scope=key.scope), None) for key in now.keys]
        return self._files.secret_status(now.config)

    def reload(self, why: str) -> ReloadResult:
        """Read everything again, and put it into effect if all of it is valid. `why` is for the log. Raises nothing."""
        with self._lock:
            before = self._now
            self._confirm = True
            outcome = self._reload()
            now = self._now
        if not outcome.ok:
            log.error("the configuration is refused, and what was in effect stays (%s): %s", why, outcome.error)
        elif outcome.changed:
            names = ", ".join(key.name for key in now.keys)
            log.info(
                "the configuration is reread (%s): secrets %s; %s", why, names, counted(len(now.config.routes), "route")
            )
        else:
            log.info("the configuration is reread (%s): nothing that takes effect now has changed", why)
        for warning in outcome.warnings:
            log.warning("%s", warning)
        if outcome.changed:
            for callback in self._subscribers:
                callback(before, now)
        return outcome

    def request_reload(self, why: str) -> None:
        """Have `check` reload, whether a file changed or not, as soon as no file changes from one check to the next."""
        with self._lock:
            self._requested, self._checks_left = why, CHANGING_CHECKS_MAX

    def check(self) -> ReloadResult | None:
        """Reload once a change is stable; None if there was nothing to do.

        It is stable when a file changed before the last check and not since: its writer is then done, or pauses. Cheap: for a
        few times a second, from one thread.

        A file may change twice within one tick of the clock that stamps it. So after a reload everything is read once more at
        the next check, silently unless it differs.
        """
        if self._files is None:
            return None
        with self._lock:
            changed = self._changed_files(self._files.paths())
            stable = changed == self._changed
            due = stable if changed else False
            why = "a file changed"
            if self._requested is not None:
                self._checks_left -= 1
                if stable or not changed or not self._checks_left:
                    due, why, self._requested = True, self._requested, None
            self._changed = {} if due else changed
        if due:
            return self.reload(why)
        if self._confirm and not changed:
            self._confirm = False
            return self._reload_once_more()
        return None

    def _changed_files(self, paths: list[Path]) -> dict[Path, Stamp]:
        """The checked files whose stamps differ from when they were read, and their stamps now."""
        if len(paths) > FILES_PER_CHECK:
            # The configuration itself every time, the others in turn; a file that changed is checked until it is read.
            rest = paths[1:]
            start = self._next_file % len(rest)
            self._next_file = start + FILES_PER_CHECK
            turn = (rest[start:] + rest[:start])[:FILES_PER_CHECK]
            paths = list(dict.fromkeys([paths[0], *self._changed, *turn]))
        now = {path: stamp(path) for path in paths}
        return {path: one for path, one in now.items() if path not in self._seen or self._seen[path] != one}

    def _reload_once_more(self) -> ReloadResult | None:
        with self._lock:
            before, last = self._now, self._last
            if not last.ok:
                return None
            outcome = self._reload()
            if not outcome.changed:
                self._last = last
            now = self._now
        if not outcome.ok:
            log.error("the configuration is refused, and what was in effect stays: %s", outcome.error)
        elif outcome.changed:
            log.info("the configuration is reread: it changed while it was read")
            for callback in self._subscribers:
                callback(before, now)
        return outcome if outcome.changed or not outcome.ok else None

    def _reload(self) -> ReloadResult:
        at = at_text(self._clock())
        if self._files is None:
            return ReloadResult(at, True)
        # The stamps are taken first: a file that changes while it is read counts as changed at the next check.
        seen = {path: stamp(path) for path in self._files.paths()}
        try:
            config, keys = self._files.read()
        except CovenqError as error:
            # The configuration in effect still has its warnings.
            outcome = replace(self._last, at=at, ok=False, changed=False, error=str(error), hint=error.hint)
        else:
            config, kept = _keep_static(self._now.config, config)
            changed = (config, keys) != (self._now.config, self._now.keys)
            if changed:
                self._now = Snapshot(config, keys, self._now.number + 1)
            outcome = ReloadResult(
                at, True, changed, kept=tuple(kept), secret_warnings=tuple(secret_keys.warnings(keys))
            )
        for path in self._files.paths():
            if path not in seen:  # named only by what was read: its stamp may be newer than its content
                seen[path] = stamp(path)
                self._confirm = True
        self._seen = seen
        self._last = outcome
        return outcome


def open_live(
    config: Config, env: Mapping[str, str], data: Path, adjust: Callable[[Config], Config] = lambda config: config
) -> Live:
    """The live configuration, from one that was just read, with its secrets. Raises ConfigError."""
    files = ConfigFiles(config, env, data, adjust)
    return Live(config, secret_keys.read_secrets(config, env, data), files)


def stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _require_rereadable(path: Path) -> None:
    """Raise ConfigError for a pipe or the like: it can be read once, at the start, but a reload would block on it."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # reading it raises the error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ConfigError(f"{path}: is no file that can be read again", hint="Give a file, or restart to have it read.")


def _keep_static(before: Config, config: Config) -> tuple[Config, list[str]]:
    """The new configuration with the old values of the fields in STATIC, and a warning for each that differs."""
    kept = [field for field in STATIC if getattr(before, field) != getattr(config, field)]
    warnings = [f"{STATIC[field]} takes effect at the next start" for field in kept]
    if "ingress" in kept:
        kept += WITH_INGRESS
    return replace(config, **{field: getattr(before, field) for field in kept}), warnings
