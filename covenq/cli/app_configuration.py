"""What `covenq init --github-app` leaves on the disk: the App's key and webhook secret, and a configuration that names them.

GitHub gives key and secret once. So all that can be refused is refused before GitHub is asked (`target`); they are written first,
each complete, durable, for this user alone and in no file's place; and whatever goes wrong then says where they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from covenq import atomic_file
from covenq.cli.output import clean, say
from covenq.config.github_api import GITHUB_API, app_secret_name
from covenq.config.ingress import INGRESS, INGRESS_VARIABLE, LOG
from covenq.config.load import DEFAULT_SECRET, FILE_MAX, Config, build, data_dir, load
from covenq.config.secret_entry import toml_value
from covenq.config.secret_keys import default_file
from covenq.config.secret_source import FROM_ENVIRONMENT, SecretSource
from covenq.config.toml_edit import Setting, Value, extended
from covenq.errors import ConfigError, CovenqError, Failure, Refused, UsageError
from covenq.github.app_conversion import CreatedApp
from journal.presence import exists, is_absent, is_file, is_named

KEY_NAME = "github-app.pem"
SECRET_NAME = "github-app.secret"  # noqa: S105 - a file's name
"""Beside the configuration, which names them by these names."""
_MODE = 0o644
"""Of a new configuration, as far as the umask leaves it: it only names secrets."""


@dataclass(frozen=True, slots=True)
class Target:
    """The configuration that an App goes into. `template` is its text where there is none yet."""

    path: Path
    data: Path
    loaded: Config
    template: str

    @property
    def key_file(self) -> Path:
        return self.path.with_name(KEY_NAME)

    @property
    def secret_file(self) -> Path:
        return self.path.with_name(SECRET_NAME)


@dataclass(frozen=True, slots=True)
class AppSettings:
    """What the configuration shall say of an App. `key` is its private key's file; `secret` its webhook secret's, if any."""

    id: int | None
    client_id: str | None
    key: str
    secret: str | None
    api_url: str
    public_url: str | None = None
    ingress: str | None = None
    """[github] ingress, where it is to be written."""

    def table(self) -> dict[str, Value]:
        """As [github.app]."""
        told: dict[str, Value | None] = {"client_id": self.client_id, "id": self.id, "private_key_file": self.key}
        if self.api_url != GITHUB_API:
            told["api_url"] = self.api_url
        return {key: value for key, value in told.items() if value is not None}


def target(path: Path, data: str | None, template: str) -> Target:
    """The configuration at `path`, there or not. Raises Refused where no App can be added to it, and ConfigError."""
    there = exists(path)
    if there and not is_file(path):
        raise Refused(f"{path} is no file that can be extended", hint="Choose another with --config.")
    loaded = load(path if there else None, os.environ, complete=False)
    found = Target(path, data_dir(data, os.environ, loaded), loaded, template)
    if loaded.github_logs.app is not None:
        raise Refused(
            f"{path} has a GitHub App already: {loaded.github_logs.app.name}",
            hint="Take [github.app] out of it first, or name another file with --config.",
        )
    if there and os.geteuid() not in (0, path.stat().st_uid):
        raise Refused(f"{path} belongs to another user", hint="Run it as the user whose it is.")
    if there and not os.access(path.resolve().parent, os.W_OK | os.X_OK):
        raise Refused(
            f"{path} can't be replaced: its directory can't be written", hint="Run it as the user whose it is."
        )
    return found


def ingress_to_write(target: Target, asked: str | None) -> str | None:
    """[github] ingress, where it has to be added for deliveries to come as asked. Raises UsageError, Refused."""
    if asked is not None and asked not in INGRESS:
        raise UsageError(f"--ingress {asked[:40]!r} is none there is", hint=f"Say one of {', '.join(INGRESS)}.")
    if asked is None or asked == target.loaded.ingress:
        return None
    said = _toml(_text_of(target)).get("github")
    if (isinstance(said, dict) and "ingress" in said) or os.environ.get(INGRESS_VARIABLE):
        raise Refused(
            f'--ingress is {asked}, and [github] ingress is "{target.loaded.ingress}"',
            hint=f"Leave --ingress out, or change the setting ({INGRESS_VARIABLE} overrides it).",
        )
    return asked


def follows_log(target: Target, ingress: str | None) -> bool:
    """Whether deliveries are to come by the log alone: `ingress` is what is to be written. Raises UsageError."""
    followed = target.loaded.follows_log or ingress == LOG
    if followed and target.loaded.public_url is not None:
        raise UsageError(
            f"[server] public_url is {target.loaded.public_url}, and with ingress log nothing is posted there",
            hint="Take public_url out of the configuration, or leave --ingress out.",
        )
    return followed


def require_free(*files: Path) -> None:
    """Raises Refused where a file is there already, or none can be made: before GitHub gives what goes into it."""
    for file in files:
        if is_named(file):
            raise Refused(
                f"{file} is there already, and is not overwritten",
                hint="Move it away, or name another place with --config.",
            )
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(file.parent, os.W_OK | os.X_OK):
            raise Refused(f"nothing can be written into {file.parent}", hint="Run it as the user whose it is.")


def text_with(target: Target, app: AppSettings) -> str:
    """The configuration's text with the App in it. Raises Refused, where it can't be added, and ConfigError."""
    text = _text_of(target)
    told = (("server", "public_url", app.public_url), ("github", "ingress", app.ingress))
    settings: list[Setting] = [(section, key, value) for section, key, value in told if value is not None]
    made = extended(text, settings, _secrets(target, app), app.table())
    build(_toml(made), target.path, {}, made)
    return made


def keep(target: Target, created: CreatedApp, app: AppSettings) -> None:
    """Write key and secret, then the configuration. Raises CovenqError, Refused, having said where what was kept is."""
    kept: list[Path] = []
    owners = daemons_user(target.data)
    with _told_where_they_are(target, created, app, kept):
        _keep_file(target.key_file, created.private_key, owners, kept)
        if created.webhook_secret is not None:
            _keep_file(target.secret_file, created.webhook_secret, owners, kept)
        write(target, app)


def write(target: Target, app: AppSettings) -> None:
    """Write the configuration as it is now, and the App. Raises CovenqError, Refused, ConfigError."""
    made = text_with(target, app).encode()
    try:
        target.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if exists(target.path):
            atomic_file.rewrite(target.path, made, suffix=_scratch())
        elif not atomic_file.create(target.path, made, suffix=_scratch(), mode=_MODE):
            raise Refused(f"{target.path} was made by somebody else meanwhile", hint="Add to it what is missing.")
    except OSError as error:
        raise CovenqError(
            f"{target.path} can't be written: {error.strerror}", hint="Check space and permissions."
        ) from None


def _keep_file(file: Path, content: bytes, owners: tuple[int, int] | None, kept: list[Path]) -> None:
    """Write it, and add it to `kept`: also where an error, or an interrupt, comes when it has its name."""
    try:
        made = atomic_file.create(file, content, suffix=_scratch(), owners=owners)
    except BaseException as error:
        if is_named(file):
            kept.append(file)
        if isinstance(error, OSError):
            words = f"{file} can't be written: {error.strerror}"
            raise CovenqError(words, hint="Check space and permissions.") from None
        raise
    if not made:
        raise Refused(f"{file} was made by somebody else meanwhile, and is not overwritten", hint="Move it away.")
    kept.append(file)


def _scratch() -> str:
    """What is behind the name of a file until it is whole: of two such commands each has its own."""
    return f".{os.getpid()}.tmp"


def daemons_user(data: Path) -> tuple[int, int] | None:
    """For root: the data directory's owner, who alone can be the daemon's user. None: whoever this is. Raises OSError."""
    if os.geteuid() != 0 or not exists(data):
        return None
    found = data.stat()
    return found.st_uid, found.st_gid


@contextmanager
def _told_where_they_are(target: Target, created: CreatedApp, app: AppSettings, kept: list[Path]) -> Iterator[None]:
    """Say what GitHub has made and where its key and secret are, where the rest fails or is interrupted."""
    try:
        yield
    except (KeyboardInterrupt, OSError, *Failure):
        say(f"GitHub has made the App {clean(created.name)} ({app.id}): {clean(created.page)}")
        for file in kept:
            say(f"kept: {clean(file)}")
        if target.key_file not in kept:
            say("Its key is lost. Generate another on its page; then: covenq init --github-app --existing")
        elif _has_app(target.path):
            say(f"It is in {clean(target.path)}.")
        else:
            say(f"It is not in {clean(target.path)} yet. Add it by hand, under [github.app]:")
            for key, value in app.table().items():
                say(f"  {key} = {clean(toml_value(value))}")
        raise


def _has_app(path: Path) -> bool:
    try:
        return exists(path) and load(path, {}, complete=False).github_logs.app is not None
    except ConfigError:
        return False


def _secrets(target: Target, app: AppSettings) -> list[SecretSource]:
    """The secrets that the configuration names with the App's.

    Where it names none, the data directory's own counts until now, and GitHub may sign with it: it stays.
    """
    if app.secret is None or app.id is None:
        return []
    found = [SecretSource(app_secret_name(app.id), file=Path(app.secret))]
    own = default_file(target.data)
    if all(one.name == FROM_ENVIRONMENT for one in target.loaded.secrets) and not is_absent(own):
        found.append(SecretSource(DEFAULT_SECRET, file=own))
    return found


def _text_of(target: Target) -> str:
    if not exists(target.path):
        return target.template
    load(target.path, {}, complete=False)  # it may have changed since it was looked at
    with target.path.open("rb") as file:
        return file.read(FILE_MAX).decode()


def _toml(text: str) -> dict[str, object]:
    import tomllib

    return tomllib.loads(text)
