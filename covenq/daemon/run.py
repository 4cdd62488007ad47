"""The daemon's main loop: starts everything, serves until a signal or a poisoned journal, and stops in order.

SIGHUP, or a change of the configuration's files, has them read again (`covenq.config.live`); neither ever stops it.

SIGTERM and SIGINT stop it (`covenq.daemon.stop`), and so does a process that takes over (`covenq.daemon.takeover`), and a
handover (`covenq.daemon.handover`), after which it starts anew in the same process. A poisoned journal (a sync failed) ends the
process with 1 within five seconds: what is in flight gets its 503, and only a new process can find out what the disk really
holds.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from covenq import log_writer
from covenq.config.load import Config
from covenq.daemon import allocator, logs
from covenq.daemon.log_masking import LogMask
from covenq.daemon.parts import Daemon
from covenq.daemon.restart import Restart, is_restart
from covenq.daemon.secret_fingerprint import SecretFingerprint
from covenq.daemon.signals import Signals
from covenq.daemon.start import StartOptions, start
from covenq.daemon.stop import stop, stop_poisoned
from covenq.daemon.systemd import Notifier
from covenq.errors import StopAsked
from covenq.tasks.execution import process_tree

POLL_S = 0.2
"""How often the journal, the listeners, the disk and the configuration's files are checked."""
STANDBY_POLL_S = 0.02
"""How often a node that stands by looks whether nobody leads: what the journal has seen, which costs nothing."""

log = logging.getLogger("covenq.daemon")


def run(
    config: Config,
    data: Path,
    options: StartOptions,
    *,
    env: Mapping[str, str] | None = None,
) -> int:
    """Serve until a signal or a poisoned journal; the exit code. Raises classes of covenq.errors and journal.errors.

    `config` is adjusted by the command line's options already.
    """
    env = os.environ if env is None else env
    anew: Restart | None = None
    mask = LogMask()
    logs.configure(config.log_format, config.log_level, mask=mask)
    allocator.configure()
    process_tree.adopt()
    signals = Signals()
    with ExitStack() as cleanup:
        cleanup.callback(log_writer.stderr.flush)  # before an error is printed
        cleanup.callback(signals.restore)
        try:
            daemon = start(
                config,
                data,
                env,
                options,
                cleanup=cleanup,
                mask=mask,
                ask_stop=signals.ask,
                stop_asked=signals.asked.is_set,
            )
        except StopAsked as error:
            log.info("%s", error)
            return error.exit_code
        # What exists now lives as long as the process: the collector need not traverse it, with every thread waiting.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 10, 10)  # payloads, of a few hundred objects each, are freed by their reference counts
        notifier = Notifier(env, restarted=is_restart(env))
        code = _serve(daemon, signals, notifier)
        if code == 0 and not signals.signalled:
            anew = daemon.handover.restart
    if anew is not None:
        notifier.lift_watchdog()
        anew.execute(sys.orig_argv, env)
    return code


def _serve(daemon: Daemon, signals: Signals, notifier: Notifier) -> int:
    """Poll until the end, then stop in order; the exit code. What is left to close is the start's cleanup."""
    journal = daemon.storage.journal
    secrets = SecretFingerprint(journal.id)
    notifier.ready(_status_line(daemon))
    while not _is_asked(daemon, signals):
        if journal.poisoned:
            notifier.stopping()
            return stop_poisoned(daemon)
        if not daemon.listeners.alive:
            log.error("a listener has ended by itself")
            notifier.stopping()
            stop(daemon, drain_s=1.0)
            return 1
        if _can_not_fold(daemon):
            notifier.stopping()
            stop(daemon, drain_s=1.0)
            return 1
        _tell_others(daemon, secrets)
        daemon.intake.admission.check()
        daemon.intake.known_damage.check()
        if signals.reload_asked():
            daemon.live.request_reload("SIGHUP")
            notifier.reloading()
        if daemon.live.check() is not None:
            notifier.ready(_status_line(daemon))
        notifier.status(_status_line(daemon))
        notifier.feed(journal.beat)
    if daemon.handover.close():
        notifier.reloading()
    else:
        notifier.stopping()
    log.info("stopping: what is in flight is finished first")
    stop(daemon, keep_alive=lambda: notifier.feed(journal.beat))
    if journal.poisoned:
        return stop_poisoned(daemon)
    return 0


def _tell_others(daemon: Daemon, secrets: SecretFingerprint) -> None:
    if daemon.storage.succession is None:
        return
    database = daemon.storage.journal.database()
    ahead_s = None if database is None else database.ahead_s
    folded, erased = daemon.storage.fold.folded, daemon.background.upkeep.carried_out
    now = daemon.live.now
    daemon.succession.tell(folded, erased, now.config.sha256, secrets.of(now), ahead_s)


def _is_asked(daemon: Daemon, signals: Signals) -> bool:
    """Whether a stop is asked for, within POLL_S. Meanwhile this node looks who leads, and does as soon as nobody has it."""
    until = time.monotonic() + POLL_S
    while not signals.asked.wait(POLL_S if daemon.succession.works else STANDBY_POLL_S):
        daemon.succession.check()
        if time.monotonic() >= until:
            return False
    return True


def _can_not_fold(daemon: Daemon) -> bool:
    """Look after the follower; whether there can't be one any more."""
    fold = daemon.storage.fold
    fold.check()
    if fold.lost is None:
        return False
    log.critical("covenq ends, because what its tasks rest on is gone: %s", fold.lost)
    log.critical("start it again: state.db is built anew from the journal, and nothing is lost")
    return True


def _status_line(daemon: Daemon) -> str:
    """Readiness in one line, for the service manager."""
    reasons = [reason.sentence for reason in daemon.intake.admission.reasons()]
    if len(reasons) == 1 and (standby := daemon.succession.standby()) is not None:
        return standby.sentence
    if reasons:
        return " ".join(["NOT READY:", *reasons])
    url = daemon.info.webhook_url
    return "following GitHub's delivery log" if url is None else f"receiving on {url}"
