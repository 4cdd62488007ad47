"""`covenq secrets rotate`: a new webhook secret, here first and then at GitHub, with the old one valid meanwhile."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.bulk import ask
from covenq.cli.context import Location, locate_in_use, source
from covenq.cli.options import ConfigOption, DataOption, DryRun, Json, Jsonl, Yes
from covenq.cli.output import clean, say
from covenq.errors import CovenqError, DaemonUnreachable, GithubLimited, OutgoingFailed, Refused, UsageError
from covenq.model import NOT_RUNNING, at_text

if TYPE_CHECKING:
    from covenq.client.interface import Source
    from covenq.config.github_api import GithubApp, GithubHook, GithubLogs
    from covenq.operate.maintain.secret_rotation import Rotation

LIVE_S = 30.0
"""Seconds that a daemon has to take up a changed configuration; it takes about one."""
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class _Report:
    """What was done, or would be, for --json. `github`: whether GitHub has it, `set` or `planned`."""

    owner: str
    secret: str
    replaces: str
    file: str
    configuration: str
    github: str
    dry_run: bool


def rotate(
    app: Annotated[bool, typer.Option("--app", help="The secret of [github.app].")] = False,
    hook: Annotated[
        str | None,
        typer.Option("--hook", metavar="NAME", help="That of a [[github.hook]]: its id, OWNER/NAME or organisation."),
    ] = None,
    secret: Annotated[
        str | None,
        typer.Option("--secret", metavar="NAME", help="Whose place it takes, where several are in use."),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Have GitHub sign with a new secret. The old one stays valid.

    The new one goes into a file beside the old one's and into the configuration. Once the running daemon has it, GitHub is
    given it. Nothing is refused meanwhile. Run again after an interruption, it goes on with the same secret. When
    `covenq secrets` says `retire` of the old one, take it out of the configuration.

    \b
      covenq secrets rotate --dry-run
      covenq secrets rotate --hook octo/hello
    """
    from covenq.config.github_api import require_logs
    from covenq.github.connection import api_of
    from covenq.github.hook_config import set_secret
    from covenq.operate.maintain import secret_rotation

    where = locate_in_use(data, config)
    where = Location(secret_rotation.absolute(where.config), where.data)
    require_logs(where.config.github_logs, "webhook")
    owner = _owner(where.config.github_logs, app, hook)
    with source(data, config) as opened, secret_rotation.alone(where.data):
        _require_same_configuration(opened, where)
        usage = opened.secrets().items
        rotation = secret_rotation.plan(
            where.config, where.data, usage, _hook_id(owner), secret, secret_rotation.may_have, _own_secret(owner)
        )
        left = secret_rotation.by_hand(rotation, where.config, owner.settings)
        if left is not None:
            for number, step in enumerate(left.steps, 1):
                say(f"{number}. {clean(step)}")
            raise Refused(
                f"{left.reason}: nothing was changed",
                hint="Do the steps above, in their order: nothing is refused meanwhile.",
            )
        if not dry_run:
            if not yes:
                ask(
                    f"have GitHub sign with a new secret, {clean(rotation.new.name)} in the place of "
                    f"{clean(rotation.old.name)}, for {clean(owner.name)}",
                    hint="Add --yes to do it, or --dry-run to see it.",
                )
            api = api_of(owner, os.environ, time.time)
            try:
                _rotate(opened, where, rotation, partial(set_secret, api, owner))
            finally:
                api.close()
            if not opened.live:
                say("No daemon runs: nothing of GitHub's is let in before `covenq serve` does.")
    with output.report_of_act(not dry_run):
        _report(_Report(
            owner.name, rotation.new.name, rotation.old.name, str(rotation.new.file), str(where.config.path),
            "planned" if dry_run else "set", dry_run,
        ), json)  # fmt: skip


def _rotate(opened: Source, where: Location, rotation: Rotation, tell: Callable[[str], None]) -> None:
    from covenq.operate.maintain import secret_rotation

    begun = at_text(time.time())
    value = secret_rotation.install(rotation, where.config, os.environ, secrets.token_hex)
    if opened.live:
        _await(opened, rotation.new.name, begun)
    with _told_what_is_known(rotation):
        tell(_text(value, rotation.new.name))


def _text(value: bytes, name: str) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        raise Refused(f"secret {name} is no text that GitHub takes", hint="Make one: openssl rand -hex 32.") from None


# ---- whose


def _owner(logs: GithubLogs, app: bool, hook: str | None) -> GithubApp | GithubHook:
    """Whose webhook it is. Raises UsageError where that isn't said, or isn't configured."""
    if app and hook is not None:
        raise UsageError("--app and --hook name two webhooks", hint="Rotate one, then the other.")
    if app or (hook is None and not logs.hooks):
        if logs.app is None:
            raise UsageError("the configuration has no [github.app]", hint="Add it, or say --hook.")
        return logs.app
    names = ", ".join(one.name for one in logs.hooks)
    found = [one for one in logs.hooks if hook is None or hook in (one.id, one.repo, one.org, one.name)]
    if hook is not None and not found:
        raise UsageError(f"no [[github.hook]] is {hook[:80]!r}", hint=f"There are: {names or 'none'}.")
    if len(found) > 1 or (hook is None and logs.app is not None):
        raise UsageError(
            "the configuration names several webhooks",
            hint=f"Say which: {'--app, ' if logs.app is not None and hook is None else ''}"
            + ", ".join(f"--hook {one.id}" for one in found),
        )
    return found[0]


def _hook_id(owner: GithubApp | GithubHook) -> str | None:
    """The hook's id; that of an App's is known to GitHub alone."""
    from covenq.config.github_api import GithubHook

    return owner.id if isinstance(owner, GithubHook) else None


def _own_secret(owner: GithubApp | GithubHook) -> str | None:
    """The name of the secret that GitHub gave with the App."""
    from covenq.config.github_api import GithubApp

    return owner.secret_name if isinstance(owner, GithubApp) else None


# ---- the daemon


def _require_same_configuration(opened: Source, where: Location) -> None:
    """Raises Refused where what is written here would not be what the daemon reads."""
    status = opened.status()
    if not opened.live:
        if status.reasons and NOT_RUNNING not in status.reasons:
            raise DaemonUnreachable(
                "a daemon has the data directory, and doesn't answer: whether it has a new secret couldn't be known",
                hint="covenq doctor",
            )
        return
    used, ours = status.config, where.config.path
    if used is None or ours is None or os.path.realpath(used) != os.path.realpath(ours):
        raise Refused(
            f"the running daemon's configuration is {used or 'none'}, and not {ours}: it would not read a new secret there",
            hint=f"Say --config {used}." if used else "Write one with `covenq init`; the daemon takes it up.",
        )


def _await(
    opened: Source,
    name: str,
    since: str,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until deliveries signed with the secret are let in. Raises CovenqError where the daemon doesn't take it."""
    deadline = monotonic() + LIVE_S
    while True:
        if any(one.name == name and one.source is not None for one in opened.secrets().items):
            return
        reload = opened.status().reload
        if reload is not None and not reload.ok and reload.at >= since:
            raise CovenqError(
                f"the daemon refuses the configuration, so GitHub was not told of {name}: {reload.error}",
                hint=f"{reload.hint or 'covenq doctor'} Then run it again.",
            )
        if monotonic() > deadline:
            raise CovenqError(
                f"the daemon has not taken up {name} within {LIVE_S:g} seconds, so GitHub was not told of it",
                hint="Look at `covenq status`, have it read its configuration again (SIGHUP), and run this again.",
            )
        sleep(POLL_S)


# ---- words


@contextmanager
def _told_what_is_known(rotation: Rotation) -> Iterator[None]:
    """Say what GitHub may sign with, where an error leaves that open, or as it was. An earlier run may have set the new one."""
    new, old = clean(rotation.new.name), clean(rotation.old.name)
    again = "Run it again: it gives GitHub the same secret."
    unknown = (
        f"It is not known whether GitHub signs with {new} or still with {old}. Both are valid: nothing is refused."
    )
    unchanged = (
        f"This changed nothing at GitHub: it signs with what it had before, {old}, or {new} if an earlier run gave it that. "
        "Both are valid here: nothing is refused. Run it again to go on."
    )
    try:
        yield
    except OutgoingFailed as error:
        say(unknown if error.sent else unchanged)
        raise OutgoingFailed(str(error), hint=again, retry=error.retry, sent=error.sent) from None
    except KeyboardInterrupt:
        say(unknown)
        say(f"hint: {again}")
        raise
    except GithubLimited as error:
        say(unchanged)
        raise GithubLimited(str(error), hint=f"Later: {again}") from None
    except CovenqError:
        say(unchanged)
        raise


def _report(found: _Report, json: bool) -> None:
    if json:
        output.emit_json(found)
        return
    output.line(clean(found.secret))
    name, old = clean(found.secret), clean(found.replaces)
    if found.dry_run:
        say(f"{name} would come after {old} for {clean(found.owner)}, in {clean(found.file)}.")
        return
    say(f"GitHub signs with {name} from now on ({clean(found.owner)}); {old} is valid too.")
    say(
        f"hint: `covenq secrets` says `retire` of {old} once every hook that signed with it has signed with another. "
        f"Then take it out of {clean(found.configuration)}."
    )
