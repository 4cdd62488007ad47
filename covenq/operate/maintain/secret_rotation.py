"""Rotation of a webhook secret: which one comes after which, and the new one on disk and in the configuration.

The new secret has the old one's name and `-r2`, `-r3` and so on, its scope, and a file beside the old one's. Both are valid until
the old one is taken out of the configuration, so that nothing is refused at any moment. What is there tells how far an earlier
rotation came: a new file is used and not made again, and a secret that signed nothing yet is the one that GitHub is given.

`plan` takes values and gives values; `install` writes. The value of a secret is in its file, and in `install`'s answer.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from covenq import atomic_file, given_file
from covenq.config import load as configuration
from covenq.config import regular_file, secret_keys
from covenq.config.load import Config
from covenq.config.secret_entry import inline, with_secrets
from covenq.config.secret_source import FROM_ENVIRONMENT, SECRET_VARIABLE, SecretSource
from covenq.errors import CovenqError, Refused, UsageError
from covenq.model.answers import Secret
from journal.presence import exists, is_file

MADE = re.compile(rb"[0-9a-f]{64}\n\Z")
"""The content of a file that `install` made: 32 random bytes as hex."""
ROUNDS_MAX = 10_000
"""The number behind a name up to which a free one is looked for."""
_ROUND = re.compile(r"(.+?)-r([0-9]{1,4})\Z")
_NAME_MAX = 58
_OPENSSL = "openssl rand -hex 32"


@dataclass(frozen=True, slots=True)
class Rotation:
    """`new` is to come after `old`. It is `configured` already where an earlier rotation, or an operator, came so far."""

    old: SecretSource
    new: SecretSource
    configured: bool
    added: tuple[SecretSource, ...]
    """What the configuration has to name: the new one, and what would no longer be in effect once it names any."""


# ---- which secret


def plan(
    config: Config,
    data: Path,
    usage: Sequence[Secret],
    hook: str | None,
    chosen: str | None,
    is_free: Callable[[Path], bool],
    own: str | None = None,
) -> Rotation:
    """The rotation that comes next.

    `usage` is what `covenq secrets` shows, `hook` the id of the hook that is given the secret, if it is known, `chosen` the name
    of the old one, if one was said; `is_free` tells whether a new secret may have that file, and `own` is the name of the
    secret that GitHub gave, if it gave one. Raises UsageError.
    """
    sources = _in_effect(config, data, usage)
    last_used = {one.name: one.last_used_at for one in usage if one.last_used_at is not None}
    retired = {one.name for one in usage if one.retire}
    families: dict[str, list[SecretSource]] = {}
    for one in sources:
        if hook is None or not one.scope.hooks or hook in one.scope.hooks:
            families.setdefault(_family(one.name), []).append(one)
    family = _chosen(families, last_used, retired, chosen, own)
    members = sorted(families[family], key=lambda one: _round(one.name))
    newest = members[-1]
    if len(members) > 1 and newest.name not in last_used:
        return Rotation(members[-2], newest, True, ())
    new = _next(newest, family, {one.name for one in sources} | {one.name for one in usage}, data, is_free)
    named = any(one.name != FROM_ENVIRONMENT for one in config.secrets)
    kept = () if named else tuple(one for one in sources if one.name != FROM_ENVIRONMENT)
    return Rotation(newest, new, False, (*kept, new))


def _in_effect(config: Config, data: Path, usage: Sequence[Secret]) -> list[SecretSource]:
    """The secrets that deliveries may be signed with. Whether one is the environment's, `usage` says: that is the daemon's."""
    named = [one for one in secret_keys.sources_of(config, data) if one.name != FROM_ENVIRONMENT]
    if any(one.name == FROM_ENVIRONMENT and one.source == "env" for one in usage):
        named.append(SecretSource(FROM_ENVIRONMENT, env=SECRET_VARIABLE))
    return named


def _chosen(
    families: Mapping[str, Sequence[SecretSource]],
    last_used: Mapping[str, str],
    retired: set[str],
    chosen: str | None,
    own: str | None,
) -> str:
    """The name of the family that is meant. Raises UsageError where none is, or several may be."""
    if chosen is not None:
        for family, members in families.items():
            if any(one.name == chosen for one in members):
                return family
        raise UsageError(f"no secret {chosen[:80]!r} is valid for that hook", hint="`covenq secrets` lists them.")
    if not families:
        raise UsageError(
            "there is no webhook secret to rotate",
            hint="`covenq serve` makes one at its first start; run this again then.",
        )
    likely = [
        family for family, members in families.items() if any(one.name not in retired for one in members)
    ] or list(families)
    if own in likely:
        return own
    if len(likely) > 1:
        names = [
            max(families[one], key=lambda member: (last_used.get(member.name, ""), _round(member.name))).name
            for one in likely
        ]
        names.sort(key=lambda name: last_used.get(name, ""), reverse=True)
        raise UsageError(
            f"which secret does GitHub sign with: {', '.join(names[:10])}?",
            hint=f"Say whose place the new one takes: --secret {names[0]}",
        )
    return likely[0]


def _family(name: str) -> str:
    found = _ROUND.match(name)
    return name if found is None else found[1]


def _round(name: str) -> int:
    found = _ROUND.match(name)
    return 1 if found is None else int(found[2])


def _next(old: SecretSource, family: str, taken: set[str], data: Path, is_free: Callable[[Path], bool]) -> SecretSource:
    for number in range(_round(old.name) + 1, ROUNDS_MAX):
        name = f"{family[:_NAME_MAX]}-r{number}"
        if name in taken:
            continue
        if old.env is not None:
            return SecretSource(name, env=f"{re.sub('_R[0-9]+$', '', old.env)}_R{number}", scope=old.scope)
        if old.credential is not None:
            credential = f"{_family(old.credential)}-r{number}"
            return SecretSource(name, credential=credential, scope=old.scope)
        beside = data / f"secret-{family}" if old.file is None else old.file.absolute()
        file = beside.with_name(f"{_family(beside.name)}-r{number}")
        if is_free(file):
            return SecretSource(name, file=file, scope=old.scope)
    raise UsageError(f"no name is free for what comes after {old.name}", hint="Remove files of secrets that are gone.")


def may_have(path: Path) -> bool:
    """Whether a new secret may have that file: there is none, or it is what an earlier rotation left."""
    try:
        return not exists(path) or MADE.match(regular_file.read(path, 128)[0]) is not None
    except OSError:
        return False


# ---- what is to be done by hand


class ByHand(NamedTuple):
    """Why covenq doesn't do it, and the steps that are left to the operator."""

    reason: str
    steps: list[str]


def by_hand(rotation: Rotation, config: Config, settings: str) -> ByHand | None:
    """What is left to the operator, where covenq can't do it; None where it can.

    `settings` is where the hook's settings are on GitHub.
    """
    new = rotation.new
    where = "the configuration" if config.path is None else str(config.path)
    add = f"Add to [github] webhook_secrets in {where}: {', '.join(map(inline, rotation.added))}"
    if new.file is None:
        if new.env is not None:
            kind, place = "a variable", f"the variable {new.env} of the daemon's environment"
            restart = "Restart the daemon: it reads variables at its start."
        else:
            kind, place = "a credential of systemd's", f"the credential {new.credential} (LoadCredential= in the unit)"
            restart = "Restart the unit: systemd passes credentials at a start."
        made = [] if rotation.configured else [f"Make a secret, `{_OPENSSL}`, as {place}.", add, restart]
        last = [
            f"When `covenq secrets` shows {new.name}, give the same value to GitHub: {settings}, Secret.",
            f"When `covenq secrets` says `retire` of {rotation.old.name}, take that away.",
        ]
        return ByHand(f"{new.name} is for {kind}, which covenq can't write", [*made, *last])
    reason = None if rotation.configured else _unwritable(rotation, config)
    if reason is None:
        return None
    file = [] if exists(new.file) else [f"Make it: (umask 077; {_OPENSSL} > {new.file}), readable by the daemon."]
    again = "Run `covenq secrets rotate` again: it gives GitHub the secret, once the daemon has it."
    return ByHand(reason, [*file, add, again])


def _unwritable(rotation: Rotation, config: Config) -> str | None:
    """What keeps this user from writing the file and the configuration; None if nothing does."""
    path, file = config.path, rotation.new.file
    if path is None or file is None or not is_file(path):
        return "there is no configuration's file that can be written"
    for one in (file, path.resolve()):
        if not os.access(one.parent, os.W_OK | os.X_OK):
            return f"{one.parent} can't be written"
    if not os.access(path, os.R_OK | os.W_OK):
        return f"{path} can't be written"
    for owned in (path, rotation.old.file):
        if owned is not None and os.geteuid() not in (0, owned.stat().st_uid):
            return f"{owned} belongs to another user"
    text = _text(path)
    if text is None or with_secrets(text, rotation.added) is None:
        return f"a further secret can't be put into {path} without a change of anything else"
    return None


# ---- writing it


@contextmanager
def alone(data: Path) -> Iterator[None]:
    """For the `with`, no other process rotates a secret of that data directory. Raises Refused while one does."""
    try:
        fd = os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Refused(f"{data} isn't there yet", hint="Start with `covenq serve`.") from None
    except OSError as error:
        raise Refused(f"{data} can't be opened: {error.strerror}", hint="Run it as the daemon's user.") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of the directory: no file is left that only root may open
        yield
    except BlockingIOError:
        raise Refused("another process rotates a secret now", hint="Run it again when that has ended.") from None
    finally:
        os.close(fd)


def install(rotation: Rotation, config: Config, env: Mapping[str, str], token: Callable[[int], str]) -> bytes:
    """Make the secret's file, then name it in the configuration, as far as that isn't done; the secret.

    Durable on return. `token` makes random bytes as hex. Raises CovenqError where it can't be done; what is done by then is used
    by the next.
    """
    path, file = config.path, rotation.new.file
    if path is None or file is None:
        raise Refused("there is no file to write a secret to", hint="Write a configuration: `covenq init`.")
    try:
        if not rotation.configured:
            _make(file, rotation.old.file or path, token)
            _name(path, rotation.added, env)
        return secret_keys.read_value(rotation.new, env)
    except OSError as error:
        raise CovenqError(
            f"{error.filename or file} can't be written: {error.strerror}",
            hint="Check the disk's space and permissions.",
        ) from error


def _make(file: Path, like: Path, token: Callable[[int], str]) -> None:
    """The file, for those who may read the one it is `like`, and at most its group."""
    found = like.stat()
    mode = atomic_file.PRIVATE | (stat.S_IMODE(found.st_mode) & stat.S_IRGRP)
    made = atomic_file.create(
        file, token(32).encode() + b"\n", suffix=".new", mode=mode, owners=(found.st_uid, found.st_gid)
    )
    if not made and not may_have(file):
        raise Refused(f"{file} is there already, and is no secret of covenq's making", hint=f"Look what {file} is.")


def _name(path: Path, added: Sequence[SecretSource], env: Mapping[str, str]) -> None:
    """Put the secrets into the configuration, in the place of the file or of what a link leads to."""
    text = _text(path)
    written = None if text is None else with_secrets(text, added)
    if text is None or written is None:
        raise Refused(f"{path} was changed meanwhile", hint="Run it again.")
    configuration.build(tomllib.loads(written), path, env, written)  # raises ConfigError: nothing is changed then
    if _text(path) != text:
        raise Refused(f"{path} was changed meanwhile", hint="Run it again.")
    atomic_file.rewrite(path, written.encode(), suffix=".rotate")


def _text(path: Path) -> str | None:
    """The configuration's text, if it is TOML."""
    try:
        text = given_file.read(path, configuration.FILE_MAX).decode()
        tomllib.loads(text)
    except (ValueError, RecursionError):
        return None
    return text


def absolute(config: Config) -> Config:
    """The configuration with its file's whole path."""
    return config if config.path is None else replace(config, path=config.path.absolute())
