"""The checks of `covenq doctor`: what may be wrong with an installation, a finding and a next step for each.

Nothing is changed: measuring the disk's syncs writes a file of its own, which is removed.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median

from covenq import __version__
from covenq.config import secret_keys, secret_source
from covenq.config.secret_source import CREDENTIALS
from covenq.errors import StateBehind, UsageError
from covenq.filter.tree import fold_case
from covenq.intake import refusal_log
from covenq.intake.refusal_hints import hint_of
from covenq.model import NOT_RUNNING, at_text, seconds_or
from covenq.net.address import token_in
from covenq.operate.maintain.doctor_github import github_findings
from covenq.operate.maintain.doctor_nodes import node_findings, unhealthy
from covenq.operate.maintain.doctor_status import status_findings
from covenq.operate.maintain.finding import BAD, GOOD, WARN, DoctorContext, Finding
from covenq.operate.maintain.journal_lock import process_of
from covenq.tasks.execution import running
from covenq.tasks.execution.process_tree import identity_of
from covenq.text import byte_size, counted
from journal.file.lock import MEMORY, NETWORK, filesystem_of
from journal.file.reserve import threshold_of
from journal.presence import is_directory

SYNCS = 20
SYNC_BYTES = 8192
"""The measurement of the disk: writes, and bytes of each; each is synced."""
SLOW_S = 0.05
FAST_S = 0.00002
"""Seconds of a sync. A median above the first is slow; below the second no disk has written anything: a layer ignores syncs."""
CLOCK_BACK_S = 5.0
OLD_S = 3600.0
"""A queued task older than this is a finding."""
DAY_S = 86400.0
EARLIEST_TIME = 1_793_500_000.0
"""Seconds since 1970, late in 2026: a clock that is before it is wrong."""


NEED_CONFIGURATION = frozenset({"configuration", "secret", "port"})
"""Checks of what a configuration says: there is nothing to check where none can be read."""


def examine(
    context: DoctorContext,
    *,
    command: Callable[[str], str | None],
    timer: Callable[[], float] = time.perf_counter,
    configured: bool = True,
    ask: Callable[[str], str | None] = unhealthy,
) -> Iterator[Finding]:
    """Every finding, the most important checks first. `command` finds a program, as `shutil.which` does; `ask` tries a node.

    Not `configured`: the context's configuration stands for one that can't be read, and nothing is said, or tried, of it.
    """
    for check, found in (
        ("configuration", _configuration(context, command)),
        ("secret", _secrets(context)),
        ("secret", _renamed(context)),
        ("permissions", _permissions(context)),
        ("daemon", _daemon(context)),
        ("journal", _journal(context)),
        ("nodes", node_findings(context.status, context.now, ask)),
        ("data", status_findings(context)),
        ("disk", _disk(context, timer)),
        ("clock", _clock(context)),
        ("port", _port(context)),
        ("requests", _refusals(context)),
        ("github", github_findings(context)),
        ("processes", _processes(context)),
    ):
        if configured or check not in NEED_CONFIGURATION:
            yield from _errors_as_findings(check, found)


def _errors_as_findings(check: str, found: Iterator[Finding]) -> Iterator[Finding]:
    """What this user may not read is a finding too, and doesn't end the other checks."""
    try:
        yield from found
    except OSError as error:
        words = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
        yield Finding(check, BAD, words, "Run doctor as the daemon's user.")


def _configuration(context: DoctorContext, command: Callable[[str], str | None]) -> Iterator[Finding]:
    config = context.config
    where = "none, so the defaults" if config.path is None else str(config.path)
    if not config.routes:
        words = f"{where}: there are no routes, so every delivery is kept and ignored"
        yield Finding("configuration", WARN, words, "covenq init")
    else:
        yield Finding("configuration", GOOD, f"{where}: {counted(len(config.routes), 'route')}")
    first = {route.place: route.name for route in reversed(config.routes)}
    for route in config.routes:
        # Those that a familiar makes run the same: one tells it for all.
        if route.run and first[route.place] == route.name and command(route.run[0]) is None:
            words = f"route {route.name}: {route.run[0]!r} is no command that this user finds"
            yield Finding("configuration", WARN, words, f"Install it, or write its whole path in {where}.")
    if config.on_standby is not None:
        try:
            token_in(config.on_standby)
        except UsageError as error:
            words = f"[worker] token_file: {error}: while this node stands by it runs no task"
            yield Finding("configuration", WARN, words, f"covenq tokens new --role worker > {config.on_standby}")
    for one in context.renamed:
        yield Finding("configuration", WARN, f"{one.where}: {one.words}", f"Write {one.instead} in {where}.")


def _secrets(context: DoctorContext) -> Iterator[Finding]:
    for one in context.config.github_logs.sources:
        reason = secret_source.problem(one, context.env)
        if reason is not None:
            yield Finding("secret", WARN, f"{one.name}: {reason}", "Put it there: `covenq reconcile` needs it.")
    sources = secret_keys.sources_of(context.config, context.data)
    if not sources:
        words = "there is none yet: the first `covenq serve` makes one"
        if context.config.follows_log:
            words = (
                "there is none, and none is needed for what is taken from GitHub's log: it is recorded as unverified"
            )
        yield Finding("secret", GOOD, words)
        return
    keys, problems = secret_keys.readable(sources, context.env)
    credentials = any(one.credential for one in sources) and CREDENTIALS not in context.env
    for problem in problems:
        next = "Run doctor as the daemon's user, with its environment." if credentials else "covenq secrets"
        yield Finding("secret", WARN if context.status and context.status.pid else BAD, problem, next)
    warnings = secret_keys.warnings(keys)
    # The daemon's environment may hold secrets that this command's doesn't.
    reload = None if context.status is None else context.status.reload
    told = () if reload is None else reload.secret_warnings
    warnings += [warning for warning in told if warning not in warnings]
    for warning in warnings:
        if warning.counts:
            next = "Take that away where the secret is kept, or set it in GitHub with it."
            yield Finding("secret", WARN, warning.words, next)
        else:
            next = "Make one with `openssl rand -hex 32`, and set it in GitHub too."
            yield Finding("secret", BAD, warning.words, next)
    if keys and not problems and not warnings:
        yield Finding("secret", GOOD, ", ".join(f"{key.name} ({len(key.secret)} bytes)" for key in keys))


def _renamed(context: DoctorContext) -> Iterator[Finding]:
    """Repositories of scopes whose names have changed since they were bound: as it should be, and good to know."""
    for secret in context.secrets:
        for one in secret.bindings:
            name, present = one.repository, one.present
            if not one.in_effect or name is None or present is None or fold_case(present) == fold_case(name):
                continue
            words = f"{name} in the scope of {secret.name} is bound to repository {one.repo_id}, which is {present} now"
            yield Finding("secret", GOOD, f"{words}: it stays in scope, nothing is to be done")


def _permissions(context: DoctorContext) -> Iterator[Finding]:
    # The group may read: so operators who aren't the daemon's user get access.
    files = [(context.data, 0o027, "the data directory")]
    sources = secret_keys.sources_of(context.config, context.data)
    files += [(path, 0o027, f"the file of secret {one.name}") for one in sources if (path := one.path(context.env))]
    for_github = context.config.github_logs.sources
    files += [(path, 0o027, f"the {one.name}") for one in for_github if (path := one.path(context.env))]
    given = (*context.config.secrets, *for_github)
    if context.config.path is not None and any(one.value is not None for one in given):
        files.append((context.config.path, 0o027, "the configuration, which holds a secret"))
    found = False
    for path, mask, what in files:
        try:
            mode = path.stat()
        except OSError:
            continue  # another check reports what can't be read
        if mode.st_mode & mask:
            found = True
            words = f"{what} {path} is open to other users ({stat.filemode(mode.st_mode)})"
            # What is in the directory is its owner's alone: who may look into it reads nothing.
            only_looked_into = path == context.data and not mode.st_mode & 0o022
            yield Finding("permissions", WARN if only_looked_into else BAD, words, f"chmod go= {path}")
        if mode.st_uid != os.geteuid() and os.geteuid() != 0:
            found = True
            words = f"{what} {path} belongs to another user (uid {mode.st_uid})"
            yield Finding("permissions", WARN, words, "Run covenq as that user.")
    if not found:
        yield Finding("permissions", GOOD, "nothing of covenq's is open to other users")


def _daemon(context: DoctorContext) -> Iterator[Finding]:
    status = context.status
    if status is None and context.damage is not None:
        yield Finding("daemon", BAD, "its status can't be had, for damage of the journal", "covenq verify")
    elif status is None:
        yield Finding("daemon", BAD, context.trouble or "its status can't be had", _not_here(context.trouble_next))
    elif status.pid is None and NOT_RUNNING not in status.reasons:
        words = "Look at that process; if its socket is gone, restart it."
        yield Finding("daemon", BAD, status.reasons[0], words)
    elif status.pid is None:
        yield Finding("daemon", BAD, "none is running: nothing is received", "covenq serve")
    elif status.standby and len(status.reasons) == 1:
        yield Finding("daemon", GOOD, f"stands by, pid {status.pid}. {status.reasons[0]}")
    elif not status.ready:
        yield Finding("daemon", BAD, f"it is not ready: {' '.join(status.reasons)}", "covenq status")
    else:
        yield Finding("daemon", GOOD, f"ready, pid {status.pid}")
    if status is not None and context.trouble is not None and not status.state.damaged and not status.state.error:
        yield Finding("state", BAD, context.trouble.removesuffix("."), _not_here(context.trouble_next))
    examined = context.config.path
    if status is not None and status.pid is not None and status.config and examined is not None:
        used = Path(status.config)
        if used.resolve() != examined.resolve():
            words = f"it uses {used}, and not {examined}, which was examined here"
            yield Finding("daemon", WARN, words, f"covenq doctor --config {used}")
    if status is not None and status.version != __version__:
        words = f"the daemon is covenq {status.version}, this command {__version__}"
        yield Finding("version", WARN, words, "Restart the daemon.")
    reload = None if status is None else status.reload
    if reload is not None and not reload.ok:
        words = f"the configuration on disk was refused, and the one before is in effect: {reload.error}"
        # What the daemon can't read, a secret's file for one, may be fine to who checks the configuration here.
        yield Finding("configuration", BAD, words, _not_here(reload.hint, "covenq routes check"))
    of_secrets = set() if reload is None else {one.words for one in reload.secret_warnings}  # `_secrets` has those
    for warning in () if reload is None else reload.warnings:
        if warning not in of_secrets:
            yield Finding("configuration", WARN, warning, "Restart the daemon.")


def _journal(context: DoctorContext) -> Iterator[Finding]:
    status = context.status
    # Of files, as `Source.status` gives them: after who holds them comes what is damaged.
    damage = [] if status is None or status.pid is not None else status.reasons[1:]
    if context.damage is not None and not damage:
        damage.append(context.damage)
    verified = None if status is None else status.verified
    # `status_findings` reports it then, with what to do after a verification.
    reported = verified is not None and not verified.ok
    for one in () if reported else damage:
        yield Finding("journal", BAD, one, "covenq verify")
    if status is None:
        return
    if status.journal.poisoned:
        why = "the disk failed to sync" if status.journal.engine == "file" else "this process may write it no more"
        yield Finding("journal", BAD, f"{why}: nothing more is recorded", "Restart the daemon.")
    if status.state.error:
        next = "covenq verify" if status.damaged else "Restart the daemon: state.db is only a cache."
        yield Finding("state", BAD, status.state.error, next)
    if not damage and not reported and not status.journal.poisoned:
        words = f"{counted(status.journal.head.seq, 'record')} in {counted(status.journal.segments, 'segment')}"
        yield Finding("journal", GOOD, f"{words}; `covenq verify` proves every byte")


def _disk(context: DoctorContext, timer: Callable[[], float]) -> Iterator[Finding]:
    directory = _nearest_directory(context.data)
    kind = filesystem_of(directory)
    if kind in MEMORY:
        words = f"{directory} is on {kind}: memory, which keeps nothing over a power cut"
        yield Finding("disk", BAD, words, "Choose a directory on a disk with --data or COVENQ_DATA.")
    elif kind in NETWORK:
        words = f"{directory} is on {kind}, whose locks and syncs can't be relied on"
        yield Finding("disk", BAD, words, "Choose a directory on a local disk with --data or COVENQ_DATA.")
    space = os.statvfs(directory)
    free, total = space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize
    reserve = threshold_of(total)
    free_text, kept = byte_size(free, "GiB"), byte_size(reserve, "GiB")
    if free < reserve:
        words = f"{free_text} are free, and {kept} are kept for running tasks: the intake is closed"
        yield Finding("space", BAD, words, "Free some; `covenq compact` drops what retention no longer keeps.")
    elif free < 4 * reserve or free < total // 20:
        words = f"{free_text} are free of {byte_size(total, 'GiB')}; at {kept} the intake closes"
        yield Finding("space", WARN, words, "Free some, or set [retention].")
    else:
        yield Finding("space", GOOD, f"{free_text} are free; at {kept} the intake closes")
    yield from _syncs(directory, kind, timer)


def _syncs(directory: Path, kind: str, timer: Callable[[], float]) -> Iterator[Finding]:
    try:
        times = sorted(time_syncs(directory, timer))
    except OSError as error:
        words = f"{directory} can't be written: {error.strerror}"
        yield Finding("sync", BAD, words, "Check its permissions, and that the disk isn't full.")
        return
    middle, slowest = median(times), times[-1]
    told = f"{SYNCS} syncs of {SYNC_BYTES >> 10} KiB on {kind}: half within {middle * 1000:.2f} ms, the slowest "
    told += f"{slowest * 1000:.2f} ms"
    if middle < FAST_S and kind not in MEMORY:
        words = f"{told}: no disk is so fast. Something says that it wrote, and did not"
        yield Finding("sync", BAD, words, "Look for a mount without barriers, or a virtual disk that ignores flushes.")
    elif middle > SLOW_S:
        yield Finding("sync", WARN, f"{told}: deliveries wait for it", "Choose a faster disk for the data directory.")
    else:
        yield Finding("sync", GOOD, told)


def time_syncs(directory: Path, timer: Callable[[], float]) -> Iterator[float]:
    """The seconds that each of SYNCS writes and its sync take, in a file that is removed. Raises OSError."""
    path = directory / f".doctor-{os.getpid()}"
    try:  # from the open on: a signal may come when it is made and not yet known
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            block = os.urandom(SYNC_BYTES)
            for number in range(SYNCS):
                before = timer()
                os.pwrite(descriptor, block, number * SYNC_BYTES)
                os.fdatasync(descriptor)
                yield timer() - before
        finally:
            os.close(descriptor)
    finally:
        with suppress(OSError):  # what went wrong before is what is to be said
            path.unlink()


def _clock(context: DoctorContext) -> Iterator[Finding]:
    newest = context.newest_at
    if newest is not None and seconds_or(newest, context.now) > context.now + CLOCK_BACK_S:
        words = f"it is {at_text(context.now)[:19]}Z, and the newest record is of {newest[:19]}Z"
        yield Finding("clock", BAD, f"{words}: the clock was set back", "Set it, and keep it with NTP.")
    elif context.now < EARLIEST_TIME:
        words = f"it is {at_text(context.now)[:19]}Z, which is before this covenq was made"
        yield Finding("clock", BAD, words, "Set it, and keep it with NTP.")
    else:
        yield Finding("clock", GOOD, f"{at_text(context.now)[:19]}Z")


def _port(context: DoctorContext) -> Iterator[Finding]:
    if context.config.follows_log:
        words = 'none is opened for deliveries: [github] ingress is "log"'
        yield Finding("port", GOOD, words)
        return
    host, port = context.config.address
    if context.status is not None and context.status.pid is not None:
        url = context.status.webhook_url
        words = f"the daemon listens: {url}"
        yield Finding("port", GOOD, words)
        return
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        owner = process_of(context.data) if error.errno == errno.EADDRINUSE else None
        if owner is not None:
            yield Finding("port", GOOD, f"{context.config.bind} is in use: {owner} has this data directory")
            return
        words = f"{context.config.bind} can't be listened on: {error.strerror}"
        yield Finding("port", BAD, words, "Choose another with [server] bind or COVENQ_BIND.")
    else:
        yield Finding("port", GOOD, f"{context.config.bind} is free")


def _refusals(context: DoctorContext) -> Iterator[Finding]:
    """Requests of the last day that were refused: what a proxy does to requests shows here first."""
    unkept = {} if context.status is None else context.status.refused_unkept
    if unkept:
        words = ", ".join(f"{word} {number}" for word, number in unkept.items())
        started = f"{str(context.status and context.status.started_at)[:19]}Z"
        words = f"refused since {started}, and not kept, for the log could not be written: {words}"
        yield Finding("requests", WARN, words, "Free space on the data directory's disk.")
    since = at_text(context.now - DAY_S)
    lately = [one for one in refusal_log.read(context.data) if one.at >= since]
    if not lately and not unkept:
        yield Finding("requests", GOOD, "none was refused in the last 24 hours")
    for word, number in Counter(one.error for one in lately).most_common(5):
        last = next(one for one in reversed(lately) if one.error == word)
        words = f"{number} refused in the last 24 hours: {word}, last at {last.at[:19]}Z"
        proxied = sum(bool(one.proxied) for one in lately if one.error == word)
        if proxied:
            words += f"; {'all' if proxied == number else proxied} came through a proxy"
        yield Finding(
            "requests", WARN, words, _not_here(hint_of(last, bool(context.config.github_logs.all)), "covenq refused")
        )


def _processes(context: DoctorContext) -> Iterator[Finding]:
    status = context.status
    if status is not None and status.pid is None and NOT_RUNNING in status.reasons:
        left = list(orphan_processes(context.data))
        if left:
            words = f"commands of a daemon that is gone still run: pid {', '.join(map(str, left[:10]))}"
            yield Finding("processes", BAD, words, "`covenq serve` ends them before it starts any.")
        else:
            yield Finding("processes", GOOD, "no command is left of a daemon that is gone")
    oldest = {} if status is None else status.oldest.tasks
    waits = context.now - seconds_or(oldest["queued"], context.now) if "queued" in oldest else 0.0
    if waits > OLD_S:
        hours = int(waits // 3600)
        words = f"the oldest task waits for {counted(hours, 'hour')}"
        yield Finding("tasks", WARN, words, "covenq tasks state:queued before:1h")


def _not_here(hint: str | None, otherwise: str = "covenq status") -> str:
    """A hint for who asks doctor already: it doesn't send one to it."""
    if hint == StateBehind.hint:
        return f"Nothing is lost: the journal is complete. `{otherwise}` says how far it is."
    return (hint or otherwise).replace("`covenq doctor` names such", "such is named here")


def orphan_processes(data: Path) -> Iterator[int]:
    """Pids noted of running commands that are still of the same processes."""
    for mark in running.noted(data):
        if mark.identity is not None and identity_of(mark.identity.pid) == mark.identity:
            yield mark.identity.pid


def _nearest_directory(path: Path) -> Path:
    """The path, or the nearest directory above it that exists."""
    while not is_directory(path) and path != path.parent:
        path = path.parent
    return path
