"""`covenq worker`, `covenq phase`: claims tasks of pull routes and runs a command for each; records a task's phase."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli.context import locate
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl, TokenFileOption, UrlsOption, complete_route
from covenq.cli.output import clean, emit_json, report_of_act
from covenq.errors import UsageError
from covenq.model import PR_MAX
from covenq.paths import SOCKET_NAME

if TYPE_CHECKING:
    from covenq.net.address import Remote
    from covenq.tasks.remote.options import WorkerOptions


def worker(
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="COMMAND", help="The program and its arguments, as in a route's run.", show_default=False
        ),
    ],
    route: Annotated[
        list[str] | None,
        typer.Option(
            "--route", metavar="NAME", help="Only tasks of this route; may be repeated.", autocompletion=complete_route
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=256, metavar="N", help="Tasks at the same time.")
    ] = 1,
    lease: Annotated[
        str, typer.Option("--lease", metavar="DURATION", help="How long a task stays ours without a word.")
    ] = "60s",
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Else made of host and process.")] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME", help="A variable that the command may see; may be repeated."),
    ] = None,
    keep: Annotated[
        str, typer.Option("--keep", metavar="all|failed|none", help="Which attempts' directories stay.")
    ] = "failed",
    work: Annotated[
        str | None,
        typer.Option(
            "--work", metavar="DIR", help="Where attempts have their directories. Else ~/.local/state/covenq-worker."
        ),
    ] = None,
    socket: Annotated[
        str | None,
        typer.Option("--socket", metavar="PATH", help="The daemon's socket. Else that of the data directory."),
    ] = None,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlsOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Claim tasks of pull routes and run a command for each.

    From the daemon on this machine, or with --url from one elsewhere; with several, from whichever of the nodes leads. The
    lease is renewed while the command runs; SIGTERM and Ctrl-C end what runs and give it back. Exit 0 of the command
    completes its task.

    \b
      covenq worker --route build -- make -C /srv/build "TASK={task}"
      covenq worker --url https://covenq.example.org --token-file ./token \\
        -- ./agent --brief {brief}
    """
    from covenq.tasks.execution import process_setup

    process_setup.prepare()

    from covenq.tasks.execution.pool import worker_id
    from covenq.tasks.remote.options import WorkerOptions
    from covenq.tasks.remote.program import checked_command

    lease_s = _checked_lease(lease)
    _check_names(name, route or ())
    _check_keep(keep)
    _check_environment(env or ())
    targets = _targets(socket, data, config)
    job = WorkerOptions(
        name=name or worker_id(),
        run=checked_command(command, os.environ, Path.cwd()),
        routes=tuple(route or ()),
        lease_s=lease_s,
        env=tuple(env or ()),
        keep=keep,
        concurrency=concurrency,
        environ=dict(os.environ),
    )
    _claim_until_stopped(job, targets, _work_directory(work))


def _checked_lease(lease: str) -> float:
    """The lease in seconds. Raises UsageError if it is too short or too long."""
    from covenq.model import parse_duration

    lease_s = parse_duration(lease)
    if not 1 <= lease_s <= 3600:
        raise UsageError(f"a lease of {lease}", hint="It is between 1s and 1h.")
    return lease_s


def _check_names(name: str | None, routes: Sequence[str]) -> None:
    """Raises UsageError for what the daemon would refuse once there is one."""
    from covenq.model import TOKEN, WORKER_NAME, WORKER_NAME_HINT

    if name is not None and not WORKER_NAME.match(name):
        raise UsageError(f"{name[:80]!r} is no name of a worker", hint=WORKER_NAME_HINT)
    for route in routes:
        if not TOKEN.match(route):
            raise UsageError(f"{route[:80]!r} is no name of a route", hint="`covenq routes` lists them.")


def _check_keep(keep: str) -> None:
    """Raises UsageError if --keep isn't one of its words."""
    if keep not in ("all", "failed", "none"):
        raise UsageError(f"{keep[:40]!r} is none of all, failed, none", hint="See `covenq worker --help`.")


def _check_environment(names: Sequence[str]) -> None:
    """Raises UsageError for what is no name of a variable, and for covenq's own variables."""
    for variable in names:
        if variable.startswith("COVENQ_") or "=" in variable:
            raise UsageError(f"{variable[:40]!r} can't be passed on", hint="Name a variable that is none of covenq's.")


def _targets(socket: str | None, data: str | None, config: str | None) -> tuple[Path] | tuple[Remote, ...]:
    """The daemon to claim from: this machine's socket, or the addresses of nodes. Raises UsageError for both."""
    from covenq.cli.remote import selected_remotes

    remotes = selected_remotes()
    if not remotes:
        return (Path(socket) if socket is not None else locate(data, config).data / SOCKET_NAME,)
    if socket is not None:
        raise UsageError("--url and --socket name two daemons", hint="Give one of them.")
    return remotes


def _claim_until_stopped(job: WorkerOptions, targets: tuple[Path] | tuple[Remote, ...], base: Path) -> None:
    """Claim tasks and run them until a signal; running attempts are then ended and given back."""
    from covenq.log_writer import stderr
    from covenq.net.address import Remote
    from covenq.tasks.execution import process_setup, process_tree
    from covenq.tasks.remote.nodes import connecting
    from covenq.tasks.remote.work_directory import locked_work_directory
    from covenq.tasks.remote.worker import Worker
    from covenq.text import counted

    _log()
    process_tree.adopt()
    with locked_work_directory(base) as directory:
        worker = Worker(connecting(targets, job.lease_s), job, directory)
        # A hangup that was ignored, as by nohup, is outlived.
        hangup = () if process_setup.outlives_hangup() else (signal.SIGHUP,)
        for number in (signal.SIGTERM, signal.SIGINT, *hangup):
            signal.signal(number, lambda *_: worker.stop())
        where = ", ".join(one.url if isinstance(one, Remote) else str(one) for one in targets)
        stderr.put(f"covenq worker {clean(job.name)}: claiming from {clean(where)}, {job.concurrency} at a time")
        try:
            worker.run()
        finally:
            stderr.flush()  # before an error is printed
    if worker.unreported:
        stderr.put(
            f"stopped; the daemon did not answer, so {counted(len(worker.unreported), 'task')} could not be given back: "
            f"others get them when the leases of {job.lease_s:g} s run out"
        )
    else:
        stderr.put("stopped; what ran was given back")


def _work_directory(work: str | None) -> Path:
    """The directory of attempts' directories: as given, else under the user's state directory (XDG)."""
    if work is not None:
        return Path(work).expanduser().absolute()
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state and Path(state).is_absolute() else Path.home() / ".local" / "state"
    return base / "covenq-worker"


def _log() -> None:
    """Log to stderr, in UTC."""
    import logging
    import time

    from covenq.daemon.logs import QueueingHandler
    from covenq.log_writer import stderr

    handler = QueueingHandler(stderr)
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.getLogger().handlers[:] = [handler]


def phase(
    name: Annotated[str, typer.Argument(metavar="PHASE", help="A few words, such as: running tests")],
    pr: Annotated[
        int | None,
        typer.Option("--pr", metavar="N", min=1, max=PR_MAX, help="The number of the pull request that it made."),
    ] = None,
    json: Json = False,
    jsonl: Jsonl = False,
) -> None:
    """Record what a task is at, from inside its command.

    It finds the daemon, the task and its token in COVENQ_SOCKET, COVENQ_TASK and COVENQ_FENCE, which every command has.
    The words are recorded for ever: put nothing in them that would have to be erased.
    """
    from covenq.net.http_client import Client, segment

    found = {key: os.environ.get(f"COVENQ_{key}", "") for key in ("SOCKET", "TASK", "FENCE")}
    missing = [f"COVENQ_{key}" for key, value in found.items() if not value]
    if missing:
        raise UsageError(f"{missing[0]} is not set", hint="`covenq phase` is for commands that covenq runs.")
    client = Client(Path(found["SOCKET"]))
    path = f"/api/v1/claims/{segment(found['TASK'])}/phase"
    answer = client.post(path, {"fence": found["FENCE"], "phase": name, **({} if pr is None else {"pr": pr})})
    if json:
        with report_of_act():
            emit_json({"phase": answer["phase"], "seq": answer["seq"]})
