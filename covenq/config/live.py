"""The live configuration: what is in effect now, reread on SIGHUP and when a file of it changes.

What is in effect is one immutable `Snapshot`, replaced whole by one assignment. Whoever needs it takes it once
(`live.now`) and decides by that; nobody ever sees half of a change. A configuration that can't be used is refused whole:
the snapshot before it stays, and the refusal is kept, logged and shown until a valid one is there.
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
from covenq.model import JsonObject, at_text
from covenq.paths import CONFIG_NAME

log = logging.getLogger("covenq.config")

STATIC = {
    "bind": "[server] bind",
    "data": "[server] data",
    "body_limit": "[server] body_limit",
    "header_timeout_s": "[server] header_timeout",
    "body_timeout_s": "[server] body_timeout",
    "threads": "[server] threads",
    "api_bind": "[api] bind",
    "api_tokens": "[api] tokens",
    "concurrency": "[worker] concurrency",
}
"""Fields of Config that sockets, threads and directories were made from: they keep their values until the next start."""
FILES_PER_CHECK = 128
"""Files whose stamps are read at once, so that a check costs the same however many secrets there are."""

CHANGING_CHECKS_MAX = 10
"""Looks for which a reload that was asked for waits for files to rest."""

Stamp = tuple[int, int, int, int, int] | None
"""What changes when a file does: device, inode, size, and times of modification and change in ns. None: not there."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is in effect, at one moment. `number` counts from 1, the configuration of the start."""

    config: Config
    keys: tuple[Key, ...]
    number: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reload went, at a time in RFC 3339. `changed`: another snapshot than before is in effect."""

    at: str
    ok: bool
    changed: bool = False
    error: str | None = None
    hint: str | None = None
    warnings: tuple[str, ...] = ()


class ConfigFiles:
    """The files that a configuration is read from: the TOML, and those of its secrets."""

    def __init__(
        self,
        config: Config,
        env: Mapping[str, str],
        data: Path,
        adjust: Callable[[Config], Config] = lambda config: config,
    ) -> None:
        """`config` is what was read at the start; `adjust` is what the command line says over the file, every time."""
        self._path = config.path if config.path is not None else data / CONFIG_NAME
        self._given = config.path is not None
        self._env = env
        self._data = data
        self._adjust = adjust
        self._secrets = secret_keys.sources_of(config, data)

    def read(self) -> tuple[Config, tuple[Key, ...]]:
        """Raises ConfigError, and never returns a configuration by which nothing could be let in."""
        # A daemon that began without a configuration takes the one that `covenq init` writes.
        self._given = self._given or self._path.exists()
        _require_rereadable(self._path)
        config = self._adjust(configuration.load(self._path if self._given else None, self._env))
        self._secrets = secret_keys.sources_of(config, self._data)
        if not self._secrets:
            raise ConfigError(f"{self._path}: no webhook secret is left", hint="Name one in [github] webhook_secrets.")
        for path in self.paths():
            _require_rereadable(path)
        return config, secret_keys.read_secrets(config, self._env, self._data)

    def secret_status(self, config: Config) -> list[SecretStatus]:
        return secret_keys.secret_status(config, self._env, self._data)

    def paths(self) -> list[Path]:
        """The files to check: also what the last configuration that parsed names and could not be read."""
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
        """`files` None: never changes, for what has no files."""
        self._now = Snapshot(config, keys)
        self._files = files
        self._clock = clock
        self._lock = threading.Lock()
        self._last = Outcome(at_text(clock()), True, changed=True, warnings=tuple(secret_keys.warnings(keys)))
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
    def last(self) -> Outcome:
        """How the last reload that changed or refused something went."""
        return self._last

    def subscribe(self, callback: Callable[[Snapshot, Snapshot], None]) -> None:
        """Call `callback(before, now)` after each change, on the thread that made it: it must neither block nor raise."""
        self._subscribers.append(callback)

    def status(self) -> JsonObject:
        """→ {"at", "ok", "error", "hint", "number", "warnings"}: `number` is the snapshot's that is in effect."""
        last = self._last
        return {
            "at": last.at,
            "ok": last.ok,
            "error": last.error,
            "hint": last.hint,
            "number": self._now.number,
            "warnings": list(last.warnings),
        }

    def secret_status(self) -> list[SecretStatus]:
        """The secrets in effect: where each is, and what keeps it from being read again, if anything does."""
        now = self._now
        if self._files is None:
            return [(SecretSource(key.name, value="", scope=key.scope), None) for key in now.keys]
        return self._files.secret_status(now.config)

    def reload(self, why: str) -> Outcome:
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
            log.info("the configuration is reread (%s): secrets %s; %d routes", why, names, len(now.config.routes))
        else:
            log.info("the configuration is reread (%s): nothing that takes effect now has changed", why)
        for warning in outcome.warnings:
            log.warning("%s", warning)
        if outcome.changed:
            for callback in self._subscribers:
                callback(before, now)
        return outcome

    def request_reload(self, why: str) -> None:
        """Have the next looks reload, changed or not, as soon as no file changes from one check to the next."""
        with self._lock:
            self._requested, self._checks_left = why, CHANGING_CHECKS_MAX

    def check(self) -> Outcome | None:
        """Reload if a file changed since the last check but one, and not since the last: whoever writes one is then
        done with it, or pauses. None if there was nothing to do. Cheap: for a few times a second, from one thread.

        A file may change twice within one tick of the clock that stamps it. So what a change made us read is read once
        more at the next check, silently unless it differs.
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
        """The files of this check that are not as they were read, and what they are now."""
        if len(paths) > FILES_PER_CHECK:
            # The configuration itself every time, the others in turn; what has changed is looked at until it is read.
            rest = paths[1:]
            start = self._next_file % len(rest)
            self._next_file = start + FILES_PER_CHECK
            turn = (rest[start:] + rest[:start])[:FILES_PER_CHECK]
            paths = list(dict.fromkeys([paths[0], *self._changed, *turn]))
        now = {path: stamp(path) for path in paths}
        return {path: one for path, one in now.items() if path not in self._seen or self._seen[path] != one}

    def _reload_once_more(self) -> Outcome | None:
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

    def _reload(self) -> Outcome:
        at = at_text(self._clock())
        if self._files is None:
            return Outcome(at, True)
        # The stamps come first: what changes while it is read is seen as changed at the next check.
        seen = {path: stamp(path) for path in self._files.paths()}
        try:
            config, keys = self._files.read()
        except CovenqError as error:
            # What is in effect has its warnings still.
            outcome = Outcome(at, False, error=str(error), hint=error.hint, warnings=self._last.warnings)
        else:
            config, kept = _keep_static(self._now.config, config)
            found = (*kept, *secret_keys.warnings(keys))
            changed = (config, keys) != (self._now.config, self._now.keys)
            if changed:
                self._now = Snapshot(config, keys, self._now.number + 1)
            outcome = Outcome(at, True, changed, warnings=found)
        for path in self._files.paths():
            if path not in seen:  # named only now: its stamp is younger than what was read
                seen[path] = stamp(path)
                self._confirm = True
        self._seen = seen
        self._last = outcome
        return outcome


def open_live(
    config: Config, env: Mapping[str, str], data: Path, adjust: Callable[[Config], Config] = lambda config: config
) -> Live:
    """With the secrets of a configuration that was just read. Raises ConfigError."""
    files = ConfigFiles(config, env, data, adjust)
    return Live(config, secret_keys.read_secrets(config, env, data), files)


def stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _require_rereadable(path: Path) -> None:
    """Raises ConfigError for a pipe or the like: it may be read once, at the start, but here it would be waited for."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # whoever reads it says what is wrong
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ConfigError(f"{path}: is no file that can be read again", hint="Give a file, or restart to have it read.")


def _keep_static(before: Config, config: Config) -> tuple[Config, list[str]]:
    """The new configuration with the old values of what can't change while we run, and which those are."""
    kept = [field for field in STATIC if getattr(before, field) != getattr(config, field)]
    warnings = [f"{STATIC[field]} takes effect at the next start" for field in kept]
    return replace(config, **{field: getattr(before, field) for field in kept}), warnings
