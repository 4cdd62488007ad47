"""The systemd units that `covenq init --systemd` writes: templates, with this installation's paths; and what is left to do.

The service runs as a user of its own (User=), not as one that systemd makes for as long as it runs (DynamicUser=): so the
configuration is readable to its group and to nobody else, and an operator can run commands as it.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
import socket
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from covenq.config.load import Config, parse_bind
from covenq.errors import Refused, UsageError
from journal.presence import exists, is_file

CONFIG = Path("/etc/covenq/covenq.toml")
DATA = Path("/var/lib/covenq")
USER = "covenq"
SERVICE = Path("/etc/systemd/system/covenq.service")
SECRET_NAME = "webhook-secret"  # noqa: S105 - a file's name

_STATE = Path("/var/lib")
_INSTALLED = Path("/opt/covenq")
"""The virtualenv that hints suggest."""
_HOMES = tuple(Path(name) for name in ("/home", "/root", "/run/user"))
_TEMPORARY = tuple(Path(name) for name in ("/tmp", "/var/tmp"))  # noqa: S108 - looked for, not used
_REQUIRED = """\
# The socket unit keeps the webhook's socket: while the service is restarted, connections wait there instead of being refused.
Requires={}.socket
"""
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@:,=~")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}\Z")


@dataclass(frozen=True, slots=True)
class Account:
    """A user, as far as this machine knows it: one that isn't there yet owns nothing."""

    name: str
    group: str
    uid: int | None = None
    gids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Unit:
    """What the units are made of. The secrets that systemd passes are beside `config`, by their names."""

    command: tuple[str, ...]
    """An absolute path, and perhaps arguments."""
    config: Path
    data: Path
    account: Account
    listen: str | None
    """The webhook's address, as ListenStream= takes it; None: nothing is posted here, and there is no socket unit."""
    credentials: tuple[str, ...] = (SECRET_NAME,)
    installed: tuple[Path, ...] = ()
    """Where the program and its Python are."""


def account(name: str) -> Account:
    """The user. Raises UsageError for what is no name of one."""
    if not _USER.match(name):
        raise UsageError(f"{name[:40]!r} is no user's name", hint="Small letters, digits, _ and - make one.")
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return Account(name, name)
    gids = frozenset([found.pw_gid, *(one.gr_gid for one in grp.getgrall() if name in one.gr_mem)])
    try:
        group = grp.getgrgid(found.pw_gid).gr_name
    except KeyError:
        group = str(found.pw_gid)
    return Account(name, group, found.pw_uid, gids)


def listen_stream(config: Config) -> str | None:
    """[server] bind as ListenStream= takes it, which knows no names of hosts; None where it isn't used. Raises Refused."""
    if config.follows_log:
        return None
    host, port = parse_bind(config.bind)
    if port == 0:
        raise Refused("a socket unit needs a port, and [server] bind leaves it open", hint="Write one, such as 8787.")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise Refused(f"{host} is no address to listen on: {error.strerror}", hint="Mend [server] bind.") from None
    return f"[{address[0]}]:{port}" if family == socket.AF_INET6 else f"{address[0]}:{port}"


def unreachable(path: Path, account: Account) -> Path | None:
    """The first of the directories to `path`, or `path` itself, that the user may not enter or read; None if it can.

    By the modes alone: an access control list isn't seen. What doesn't exist is not looked at.
    """
    whole = Path(os.path.realpath(path))
    for one in (*reversed(whole.parents), whole):
        try:
            found = one.stat()
        except OSError:
            return None
        needed = (stat.S_IXOTH if one != whole else 0) | (stat.S_IROTH if one == whole else 0)
        if one == whole and stat.S_ISDIR(found.st_mode):
            needed |= stat.S_IXOTH
        if account.uid != 0 and found.st_mode & _shifted(needed, found, account) != _shifted(needed, found, account):
            return one
    return None


def _shifted(others: int, found: os.stat_result, account: Account) -> int:
    """The bits for others as those of the class that the user is in for this file."""
    if found.st_uid == account.uid:
        return others << 6
    return others << 3 if found.st_gid in account.gids else others


def service(unit: Unit, name: str = USER) -> str:
    """The text of the service unit, whose socket unit, if there is one, is called `name`.socket.

    Raises Refused for a path that would need quoting: systemd's rules differ from setting to setting, and a path that is
    misread must not be found out at the next reboot. And for a program that the user can't reach, or a configuration.
    """
    for word in (*unit.command, str(unit.config), str(unit.data), name):
        if not set(word) <= _PLAIN:
            raise Refused(f"{word!r} can't be written in a unit as it is", hint="Use paths of letters, digits and ._-+")
    _require_reachable(unit)
    used = [Path(unit.command[0]), unit.config, unit.data, *unit.installed]
    text = files("covenq.cli").joinpath("covenq.service").read_text("utf-8")
    for key, value in (
        ("SOCKET", "" if unit.listen is None else _REQUIRED.format(name)),
        ("ALSO", "" if unit.listen is None else f"Also={name}.socket\n"),
        ("AFTER", "" if unit.listen is None else f"{name}.socket "),
        ("COVENQ", " ".join(unit.command)),
        ("CONFIG", str(unit.config)),
        ("CREDENTIALS", "".join(f"LoadCredential={one}:{unit.config.parent / one}\n" for one in unit.credentials)),
        ("USER", unit.account.name),
        ("DATA", str(unit.data)),
        ("STATE", _state(unit.data)),
        ("HOME", "read-only" if _below(used, _HOMES) else "yes"),
        ("TMP", "no" if _below(used, _TEMPORARY) else "yes"),
    ):
        text = text.replace(f"@{key}@", value)
    return text


def socket_unit(unit: Unit) -> str | None:
    """The text of the socket unit, if there is one."""
    if unit.listen is None:
        return None
    text = files("covenq.cli").joinpath("covenq.socket").read_text("utf-8")
    return text.replace("@LISTEN@", unit.listen)


def _state(data: Path) -> str:
    """The settings by which systemd makes the data directory, or lets the service write to one that is made by hand."""
    if data != _STATE and data.is_relative_to(_STATE):
        return f"StateDirectory={data.relative_to(_STATE)}\nStateDirectoryMode=0700"
    return f"ReadWritePaths={data}"


def _below(paths: Iterable[Path], directories: Sequence[Path]) -> bool:
    return any(path.is_relative_to(directory) for path in paths for directory in directories)


def _require_reachable(unit: Unit) -> None:
    """Raises Refused."""
    name = unit.account.name
    for path in (Path(unit.command[0]), *unit.installed):
        found = unreachable(path, unit.account)
        if found is not None:
            raise Refused(
                f"the user {name} can't get to {path}: {found} isn't open to it", hint=_install_hint(unit.account)
            )
    for path, own, hint in (
        (unit.config, (unit.config.parent, unit.config), f"--config {CONFIG}"),
        (unit.data, (unit.data,), f"--data {DATA}"),
    ):
        found = unreachable(path, unit.account)
        if found is not None and found not in own:  # those the steps open
            raise Refused(
                f"the user {name} can't get to {path}: {found} isn't open to it", hint=f"Put it elsewhere: {hint}"
            )


def _install_hint(account: Account) -> str:
    """What to type. A virtualenv made by a Python that the user can't reach, a version manager's say, would be refused again."""
    checkout = Path(__file__).resolve().parents[2]
    found = is_file(checkout / "pyproject.toml")
    source = shlex.quote(str(checkout)) if found else "SOURCE"
    what = "" if found else " (SOURCE is a checkout of covenq, or a wheel made of one)"
    python, older = "python3", ""
    if any(unreachable(Path(one), account) is not None for one in (sys.base_prefix, sys.executable)):
        python, older = "/usr/bin/python3", ", with a Python outside all homes, 3.11 or newer"
    clear = "--clear " if Path(sys.prefix) == _INSTALLED else ""  # else venv leaves its Python as it is
    return (
        f"Install it where every user can{older}: `{python} -m venv {clear}{_INSTALLED} && {_INSTALLED}/bin/pip install {source}`"
        f"{what}, then `{_INSTALLED}/bin/covenq init --systemd`; see covenq-production(7). Or name a user that can with --user."
    )


def this_command(argv0: str, executable: str) -> list[str]:
    """The command that starts this installation of covenq, with absolute paths."""
    path = Path(argv0).absolute()
    if path.suffix != ".py" and is_file(path):
        return [str(path)]
    return [str(Path(executable).absolute()), "-m", "covenq"]


def this_installation() -> tuple[Path, ...]:
    """Where this program and its Python are. All of it has to be reachable: a virtualenv's Python is often a link into a home."""
    return (Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable), Path(__file__).parents[1])


def next_steps(unit: Unit, written: Path | None, options: Sequence[str] = ()) -> list[str]:
    """The steps that remain, for root, in order: a word, a colon, a command. `options` are those that made this unit."""
    command = shlex.join(unit.command)
    user, group = unit.account.name, shlex.quote(unit.account.group)
    name, directory = shlex.quote(str(unit.config)), shlex.quote(str(unit.config.parent))
    given = "".join(f" {shlex.quote(word)}" for word in options)
    stem = SERVICE.stem if written is None else written.stem
    steps = []
    if written is None:
        steps.append(("Put it in place", f"{command} init --systemd{given} --to {SERVICE}"))
    if unit.account.uid is None:
        home = f"--home-dir {unit.data} --no-create-home --shell /usr/sbin/nologin"
        steps.append(("User", f"useradd --system --user-group {home} {user}"))
    if not exists(unit.config.parent):
        steps.append(("Directory", f"install -d -m 750 -g {group} {directory}"))
    elif unreachable(unit.config.parent, unit.account) is not None:
        steps.append(("Directory", f"chgrp {group} {directory} && chmod g+rx {directory}"))
    readable = f"chgrp {group} {name} && chmod 640 {name}"
    if not exists(unit.config):
        credential = f" --credential {unit.credentials[0]}" if unit.credentials else ""
        steps.append(("Configuration", f"{command} init --config {name}{credential} && {readable}"))
    elif unreachable(unit.config, unit.account) is not None:
        steps.append(("Configuration", readable))
    for credential in unit.credentials:
        secret = unit.config.parent / credential
        if not exists(secret):
            steps.append(("Secret", f"openssl rand -hex 32 | install -m 600 /dev/stdin {secret}"))
    if not unit.data.is_relative_to(_STATE):
        steps.append(("Data", f"install -d -m 700 -o {user} -g {group} {shlex.quote(str(unit.data))}"))
    units = f"{stem}.service" if unit.listen is None else f"{stem}.socket {stem}.service"
    steps += [
        ("Start", f"systemctl daemon-reload && systemctl enable --now {units}"),
        ("Look", f"systemctl status {stem}; runuser -u {user} -- {command} status --config {name} --data {unit.data}"),
    ]
    return [f"{word + ':':<17}{step}" for word, step in steps]
