"""`covenq init --from-coven FILE`: reads another configuration, which is hostile until it is read, and keeps its webhook secret.

The secret goes from the file into a file of its own, for this user alone, and nowhere else: it is in no argument, in no line that
is said, and not in the configuration, which names the file. It is written first. So a configuration that is there names a secret
that is there; a crash in between leaves a secret that nothing names yet, and the same command, given again, finds it and goes on.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from covenq import atomic_file
from covenq.cli.app_configuration import SECRET_NAME, daemons_user
from covenq.cli.output import clean, say
from covenq.config import load as configuration
from covenq.config import regular_file
from covenq.config.coven import Fate, Note, Translation, translate
from covenq.config.coven_policy import parse, translate_policy
from covenq.config.secret_keys import SECRET_MAX
from covenq.config.toml_text import toml_text
from covenq.errors import ConfigError, CovenqError, Refused
from journal.presence import exists, is_named

FILE_MAX = 1 << 20
"""Bytes of what is translated: of coven-github's own example it is two hundred times the size."""
_HEADER = """\
# covenq.toml: translated by `covenq init --from-coven`. covenq.toml(5) describes every setting, covenq-familiars(7) where
# decisions are others than coven-github's; `covenq routes` shows the routes that familiars make.

"""


@dataclass(frozen=True, slots=True)
class Made:
    """What is to be written and said."""

    text: str
    notes: tuple[Note, ...]
    secret: bytes | None = field(default=None, repr=False)


def translation(source: Path, target: Path) -> Made:
    """The file, translated, as the configuration at `target` would be. Nothing is written. Raises ConfigError."""
    text = configuration.read_text(source, FILE_MAX)
    made = _translated(text, source)
    written = _HEADER + toml_text(made.tables)
    if tomllib.loads(written) != made.tables:
        raise ConfigError(f"{source}: can't be written as TOML", hint="Some of its texts hold what no line can.")
    try:
        configuration.build(made.tables, target, {}, written)
    except ConfigError as error:
        words = f"{source}: what it says can't be said to covenq: {error}"
        raise ConfigError(words, hint=error.hint or "Change it there, and translate it again.") from None
    secret = None if made.secret is None else made.secret.encode()
    if secret is not None and (len(secret) > SECRET_MAX or secret != secret.rstrip(b"\r\n")):
        raise ConfigError(
            f"{source}: its webhook secret ends with a line, or is too long", hint="Give the App another."
        )
    return Made(written, tuple(_by_fate(made.notes)), secret)


def keep_secret(made: Made, data: Path, target: Path, *, force: bool) -> None:
    """Write the webhook secret beside the configuration that is to be. Raises Refused where either is there, CovenqError."""
    if exists(target) and not force:
        raise Refused(f"{target} is there already", hint="Edit it, or overwrite it with --force.")
    if made.secret is None:
        return
    file, suffix = target.with_name(SECRET_NAME), f".{os.getpid()}.tmp"
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if atomic_file.create(file, made.secret, suffix=suffix, owners=daemons_user(data)):
            return
        before, _ = regular_file.read(file, SECRET_MAX + 1)
        if before.rstrip(b"\r\n") == made.secret:
            return
        if not force:
            raise Refused(f"{file} is there already, with another secret", hint="Move it away, or say --force.")
        kept = file.with_name(f"{file.name}.old")
        atomic_file.replace(kept, before, suffix=suffix, owners=daemons_user(data))
        say(f"The secret that {clean(file)} had is kept in {clean(kept)}.")
        atomic_file.replace(file, made.secret, suffix=suffix, owners=daemons_user(data))
    except OSError as error:
        raise CovenqError(f"{file} can't be written: {error.strerror}", hint="Check space and permissions.") from None


def _translated(text: str, source: Path) -> Translation:
    if text.lstrip()[:1] == "{":
        return translate_policy(parse(text, str(source)), str(source))
    raw: Mapping[str, object] = configuration.parse_toml(text, source)
    found = translate(raw, str(source), text, SECRET_NAME, lambda path: str(_key_file(path, source)))
    github = found.tables.get("github")
    app = github.get("app") if isinstance(github, dict) else None
    if app is not None and not is_named(Path(app["private_key_file"])):
        found.say(
            "[github] private_key_path", Fate.TO_DO, f"there is no {app['private_key_file']}: say where the key is"
        )
    return found


def _key_file(named: str, source: Path) -> Path:
    """A private key's file: coven-github looks from where it is started, which is the file's directory, or that above it."""
    path = Path(named)
    for base in (Path.cwd(), source.absolute().parent, source.absolute().parent.parent):
        if is_named(base / path):
            return base / path
    return source.absolute().parent / path


def _by_fate(notes: list[Note]) -> list[Note]:
    """What is left to do last, where it is seen."""
    order = list(Fate)
    return sorted(notes, key=lambda note: order.index(note.fate))
