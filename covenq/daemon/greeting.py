"""The greeting of `covenq serve` once it is ready: where it listens, where the secret is, and what to try next."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from covenq.config import load as configuration
from covenq.config.load import Config
from covenq.config.secret_keys import default_file
from covenq.github import samples
from covenq.github.columns import columns
from covenq.http.api.status import DaemonInfo
from covenq.paths import CONFIG_NAME

_SAMPLE = "issues"
"""The event of the sample that is to be tried."""


def program(argv0: str, which: str | None, here: Path) -> str:
    """How to call covenq as it was called, from the directory it was called in.

    `argv0` is sys.argv[0], `which` where the shell would find `covenq`, `here` the current directory.
    """
    path = Path(argv0)
    if path.suffix == ".py":
        return f"{shlex.quote(sys.executable)} -m covenq"
    if which is not None and path.absolute() == Path(which).absolute():
        return "covenq"
    try:
        near = path.absolute().relative_to(here.absolute())
    except ValueError:
        return shlex.quote(str(path))
    return shlex.quote(str(near) if len(near.parts) > 1 else f"./{near}")


def options(config: Config, data: Path, env: Mapping[str, str]) -> str:
    """The options that a command in another terminal, without our COVENQ_ variables, needs to reach the same directory."""
    plain = {name: value for name, value in env.items() if not name.startswith("COVENQ_")}
    found = configuration.config_path(None, plain)
    given = config.path is not None and (found is None or found.absolute() != config.path.absolute())
    words = ""
    if given and config.path != data / CONFIG_NAME:
        words += f" --config {shlex.quote(str(config.path))}"
        if config.data is not None and config.data.absolute() == data:
            return words
    if configuration.data_dir(None, plain) != data:
        words += f" --data {shlex.quote(str(data))}"
    return words


def secret_location(config: Config, data: Path, made: bool) -> str:
    """Where the webhook's secret is, never its value."""
    if config.secrets:
        places = []
        for source in config.secrets:
            where = (
                f"${source.env}"
                if source.env is not None
                else f"credential {source.credential}"
                if source.credential is not None
                else str(source.file or "in the configuration")
            )
            places.append(f"{source.name} ({where})")
        return ", ".join(places)
    why = " (made just now: give it to GitHub as the webhook's secret)" if made else ""
    return f"{default_file(data)}{why}"


def render(
    config: Config,
    data: Path,
    info: DaemonInfo,
    *,
    first: bool,
    secret_made: bool,
    argv: Sequence[str],
    env: Mapping[str, str],
) -> str:
    """Some lines for stderr. `first`: this start created the data directory."""
    call = program(argv[0], shutil.which("covenq", path=env.get("PATH")), Path.cwd())
    more = options(config, data, env)
    made = Counter(route.familiar for route in config.routes if route.trigger is not None)
    named = [route.name for route in config.routes if route.trigger is None]
    routes = ", ".join([*named, *(f"{count} of {familiar}" for familiar, count in made.items())])
    lines = [
        f"covenq {info.version} is ready.",
        f"  webhook  {info.webhook_url or 'none: what GitHub sends is taken from its log'}",
        *(f"  log      {one.name}" for one in config.github_logs.all if config.follows_log),
        *([f"  api      {info.api_url}"] if info.api_url else []),
        *([f"  metrics  {info.metrics_url}"] if info.metrics_url else []),
        *([f"  secret   {secret_location(config, data, secret_made)}"] if config.secrets or info.webhook_url else []),
        f"  data     {data}",
        f"  routes   {routes or 'there are no routes yet, so deliveries are kept and ignored; `covenq init` writes some'}",
    ]
    if first or secret_made:
        lines += ["Try next, in another terminal:"]
        # `init` refuses where there is a configuration, and every line here works as it is printed.
        taken = info.webhook_url is not None and _takes_sample(config)
        first_command = f"send {_SAMPLE}" if taken else "status" if config.follows_log else "secrets"
        three = ("init", first_command, "tasks") if config.path is None else (first_command, "deliveries", "tasks")
        lines += [f"  {call} {command}{more}" for command in three]
    return "\n".join(lines) + "\n"


def _takes_sample(config: Config) -> bool:
    """Whether a sample is in the scope of any secret. None is made to be: it would bind a name to an invented repository."""
    if not config.secrets:
        return True
    data, about = columns(_SAMPLE, samples.SAMPLES[_SAMPLE]())
    hook = samples.hook_for(config.hooks)
    return any(one.scope.covers(hook, data["installation"], about["repo"]) for one in config.secrets)
