"""The systemd unit that `covenq init --systemd` writes: the package's template, with this installation's paths."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

from covenq.errors import Refused

CONFIG = Path("/etc/covenq/covenq.toml")
SECRET_NAME = "webhook-secret"  # noqa: S105 - a file's name
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@:,=~")


def unit(command: list[str], config: Path) -> str:
    """The unit's text. `command` is an absolute path, and perhaps arguments; the secret is beside `config`.

    Raises Refused for a path that would need quoting: systemd's rules differ from setting to setting, and a path that is
    misread must not be found out at the next reboot.
    """
    secret = config.parent / SECRET_NAME
    for word in (*command, str(config)):
        if not set(word) <= _PLAIN:
            raise Refused(f"{word!r} can't be written in a unit as it is", hint="Use paths of letters, digits and ._-+")
    homes = any(word.startswith(("/home/", "/root/")) for word in (*command, sys.prefix, sys.base_prefix))
    text = files("covenq.cli").joinpath("covenq.service").read_text("utf-8")
    for name, value in (
        ("COVENQ", " ".join(command)),
        ("CONFIG", str(config)),
        ("SECRET", str(secret)),
        ("HOME", "read-only" if homes else "yes"),
    ):
        text = text.replace(f"@{name}@", value)
    return text


def this_command(argv0: str, executable: str) -> list[str]:
    """The command that starts this installation of covenq, with absolute paths."""
    path = Path(argv0).absolute()
    if path.suffix != ".py" and path.is_file():
        return [str(path)]
    return [str(Path(executable).absolute()), "-m", "covenq"]


def next_steps(config: Path, path: Path | None) -> list[str]:
    """The steps that remain, in words and commands."""
    secret = config.parent / SECRET_NAME
    where = "/etc/systemd/system/covenq.service"
    first = f"covenq init --systemd --to {where}" if path is None else ""
    return [
        *([f"Put it in place:   {first}"] if first else []),
        f"Configuration:     covenq init --config {config}",
        f'  and in [github]:  webhook_secrets = [{{ name = "github", credential = "{SECRET_NAME}" }}]',
        f"Secret:            openssl rand -hex 32 | install -m 600 /dev/stdin {secret}",
        "Start:             systemctl daemon-reload && systemctl enable --now covenq",
        "Look:              systemctl status covenq; covenq status --data /var/lib/covenq",
    ]
