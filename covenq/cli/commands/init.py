"""`covenq init`: a commented configuration to start from."""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covenq import atomic_file
from covenq.cli import output
from covenq.cli.context import config_path, daemon_config, is_not_a_directory, known_data_dir
from covenq.cli.options import ConfigOption, DataOption
from covenq.cli.output import clean, say
from covenq.errors import CovenqError, Refused, UsageError
from journal.presence import exists, is_directory, is_file

if TYPE_CHECKING:
    from covenq.cli.app_setup import Wanted

TEMPLATE = """\
# covenq.toml: what covenq receives, and what it runs. `covenq serve` reads it at its start, and again when it changes.
# Every setting shows its default; a line that begins with # does nothing.

[server]
# bind = "127.0.0.1:8787"       # --bind and COVENQ_BIND override it
# public_url = "https://covenq.example.org"   # where GitHub reaches it, for `covenq init --github-app`
# body_limit = 26214400         # bytes; GitHub sends no more
# header_timeout = "10s"        # for a request's headers to arrive
# body_timeout = "30s"          # for its body; GitHub itself gives up after ten seconds

[github]
# With nothing here, the secret in the data directory's file `secret` is used. Several are valid at once, so that one
# can be rotated. COVENQ_WEBHOOK_SECRET joins them under the name `env`.
# webhook_secrets = [{ name = "app", file = "/etc/covenq/app" }, { name = "old", env = "COVENQ_OLD_SECRET" }]
# Each may have a scope: hooks = ["446581321"], installations = [2311], repositories = ["octo/hello", "acme/*"]
# hooks = ["446581321"]         # only these hooks may deliver
# ingress = "webhook"           # "log": nothing is posted here, GitHub's delivery log is read: `init --github-app --ingress log`
# twins = "mark"                # a body that came before under another GUID; "refuse" needs hooks

[log]
# format = "human"              # or "json"
# level = "info"                # "debug" has a line for each delivery

[worker]
# concurrency = 4               # tasks that run at the same time
# lease = "120s"                # with a database: how long a task is claimed for before it is renewed

# A route says which deliveries become tasks, and what runs. Every route that matches makes one task. What none matches is
# kept, and `ignored`. `covenq deliveries --help` lists the fields of a filter: field:a,b is either, different fields are
# and, -field:x is not, * globs. The command gets the payload on stdin, its ids and paths in COVENQ_TASK, _ATTEMPT, _GUID,
# _EVENT, _ACTION, _REPO, _REF, _PAYLOAD, _RESULT, and never a shell. Exit code 0 completes the task.

# This one only copies the payload to the attempt's output, so that there is something to see:
# `covenq send issues`, then `covenq tasks`, then `covenq show` with the id it printed.
[[route]]
name = "hello"
match = "event:issues,pull_request"
run = ["cat"]

# Run a coding agent on an issue that was labelled for it, three times at most, and one at a time for each issue.
# [[route]]
# name = "fix-issue"
# match = "event:issues action:labeled label:coven:fix -sender:*[bot]"
# run = ["coven-code", "--headless", "--context", "{brief}", "--output", "{result}"]
# timeout = "10m"
# retry = { max = 2, backoff = "2s", cap = "5m" }
# key = "{repo_id}#{number}"

# Deploy what was pushed to main: no other branch, no tag, and not its deletion, which has no commit. The script's own name is all
# that is fixed, everything else it reads from its environment.
# [[route]]
# name = "deploy"
# match = "event:push repo:octo/hello ref:refs/heads/main target:commit"
# run = ["/usr/local/bin/deploy"]
# timeout = "30m"
# key = "{repo_id}@{ref}"
"""


_MODE = 0o644
"""Of what is written, as far as the umask leaves it: it only names secrets."""
_CREDENTIAL = re.compile(r"[0-9A-Za-z_][0-9A-Za-z._-]{0,99}\Z")

GithubAppFlag = Annotated[
    bool, typer.Option("--github-app", help="Make a GitHub App, in the browser, and put it into the configuration.")
]
OrgOption = Annotated[
    str | None, typer.Option("--org", metavar="ORG", help="The App's owner is this organisation, and not you.")
]
NameOption = Annotated[str | None, typer.Option("--name", metavar="NAME", help="The App's name: covenq on HOST.")]
AppUrlOption = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Where GitHub reaches covenq. Else [server] public_url, else asked."),
]
ApiUrlOption = Annotated[
    str | None, typer.Option("--api-url", metavar="URL", help="The API of an Enterprise Server: https://HOST/api/v3.")
]
NoBrowserFlag = Annotated[
    bool,
    typer.Option("--no-browser", help="The browser is elsewhere: write a page to open there. So it is over SSH."),
]
IngressOption = Annotated[
    str | None,
    typer.Option("--ingress", metavar="HOW", help="webhook, or log: deliveries are taken from GitHub's log alone."),
]
PrometheusFlag = Annotated[
    bool, typer.Option("--prometheus", help="Write alerts for Prometheus instead: to stdout, or with --to.")
]
GrafanaFlag = Annotated[
    bool, typer.Option("--grafana", help="Write a dashboard for Grafana instead: to stdout, or with --to.")
]
PostgresOption = Annotated[
    str | None,
    typer.Option("--postgres", metavar="URL", help="Make the journal's tables in that database, and configure it."),
]
CovenOption = Annotated[
    str | None,
    typer.Option(
        "--from-coven", metavar="FILE", help="Translate a configuration of coven-github, or its adapter's policy."
    ),
]
ExistingFlag = Annotated[bool, typer.Option("--existing", help="Ask for the id and key of an App that is there.")]


def init(
    force: Annotated[bool, typer.Option("--force", help="Overwrite a configuration that is there.")] = False,
    credential: Annotated[
        str | None,
        typer.Option("--credential", metavar="NAME", help="Use the webhook secret that systemd passes by that name."),
    ] = None,
    systemd: Annotated[
        bool, typer.Option("--systemd", help="Write systemd's units instead: to stdout, or with --to.")
    ] = False,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="PATH", help="Where that goes: of units the service, the socket beside it."),
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="NAME", help="Whom the service runs as: covenq.")
    ] = None,
    prometheus: PrometheusFlag = False,
    grafana: GrafanaFlag = False,
    postgres: PostgresOption = None,
    from_coven: CovenOption = None,
    github_app: GithubAppFlag = False,
    org: OrgOption = None,
    name: NameOption = None,
    url: AppUrlOption = None,
    api_url: ApiUrlOption = None,
    ingress: IngressOption = None,
    no_browser: NoBrowserFlag = False,
    existing: ExistingFlag = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Write a configuration to start from, units for systemd, or alerts and a dashboard; or make a GitHub App.

    Commented, with example routes; into the data directory, or to --config. --systemd prints what is left to do, as commands.
    --github-app extends the configuration, or writes one, when GitHub has made the App and given its key.
    """
    of_app: dict[str, object] = {"--org": org, "--name": name, "--url": url, "--api-url": api_url, "--ingress": ingress}
    of_app |= {"--no-browser": no_browser or None, "--existing": existing or None}
    for_monitoring = {"--prometheus": prometheus or None, "--grafana": grafana or None}
    of_others = {"--credential": credential, "--systemd": systemd or None, "--to": to, "--user": user, **for_monitoring}
    if github_app:
        others = {**of_others, "--force": force or None, "--postgres": postgres, "--from-coven": from_coven}
        _require_together(of_app, others, existing=existing)
        from covenq.cli.app_setup import Wanted

        _app(data, config, Wanted(org, name, url, api_url, not no_browser, ingress), existing=existing)
        return
    if stray := [option for option, used in of_app.items() if used is not None]:
        raise UsageError(f"{stray[0]} is about a GitHub App", hint="Add --github-app.")
    if postgres is not None:
        _require_alone("--postgres", {**of_others, "--force": force or None, "--from-coven": from_coven})
        _postgres(postgres, config_path(data, config), data, config)
        return
    if from_coven is not None:
        _require_alone("--from-coven", of_others)
        _coven(Path(from_coven).expanduser(), data, config, force=force)
        return
    if prometheus or grafana:
        others = {"--credential": credential, "--systemd": systemd or None, "--user": user, "--config": config}
        _monitoring({**for_monitoring, **others, "--data": data}, None if to is None else Path(to), force=force)
        return
    _require_fitting(credential, to, user, systemd=systemd)
    if systemd:
        _units(None if to is None else Path(to), data, config, user, force=force)
        return
    path = config_path(data, config)
    text = TEMPLATE
    if credential is not None:
        chosen = f'webhook_secrets = [{{ name = "github", credential = "{credential}" }}]'
        text = re.sub(r"^# webhook_secrets = .*$", chosen, text, count=1, flags=re.MULTILINE)
    write(path, text, force=force)
    with output.report_of_act():
        output.line(str(path))
    _say_taken_up(path, data, config, "Edit its routes: a running daemon takes them up, else start `covenq serve`.")


def _require_together(given: Mapping[str, object], others: Mapping[str, object], *, existing: bool) -> None:
    """Raises UsageError for options that --github-app, or --existing with it, has no use for."""
    for option in (option for option, value in others.items() if value is not None):
        raise UsageError(f"{option} and --github-app can't be combined", hint="Nothing is overwritten: leave it out.")
    for option in ("--org", "--name", "--no-browser") if existing else ():
        if given[option] is not None:
            raise UsageError(f"{option} is for an App that is to be made", hint="Leave it out, or --existing.")


def _require_fitting(credential: str | None, to: str | None, user: str | None, *, systemd: bool) -> None:
    """Raises UsageError for options that units, or a configuration, have no use for."""
    if not systemd:
        for option, given, what in (("--to", to, "where the units go"), ("--user", user, "whom the service runs as")):
            if given is not None:
                raise UsageError(f"{option} is {what}", hint="Add --systemd; a configuration goes to --config.")
    if credential is not None and systemd:
        raise UsageError(
            "--credential goes into a configuration, and --systemd writes units",
            hint="Leave it out: the units pass the credentials that the configuration names.",
        )
    if credential is not None and not _CREDENTIAL.match(credential):
        raise UsageError(
            f"--credential {credential[:40]!r} is no name of a file",
            hint="systemd passes it as a file: webhook-secret.",
        )


def _require_alone(option: str, others: Mapping[str, object]) -> None:
    """Raises UsageError."""
    for other in (other for other, value in others.items() if value is not None):
        raise UsageError(f"{other} and {option} can't be combined", hint="Write each with a command of its own.")


def _postgres(url: str, path: Path, data: str | None, config: str | None) -> None:
    """Make the journal's tables, and put the database into the configuration. Raises UsageError, Refused, JournalError."""
    from covenq.cli import postgres_setup
    from journal.engines import require_postgres

    require_postgres()
    from journal.postgres import open as database
    from journal.postgres.schema import SchemaForbidden, new_journal, script, upgrade_script

    url = postgres_setup.checked(url, os.environ)
    role = postgres_setup.role_of(url)
    text = path.read_text("utf-8") if exists(path) else TEMPLATE
    made = postgres_setup.configuration(text, url, path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CovenqError(f"{path.parent} can't be made: {error.strerror}", hint="Check its permissions.") from None
    try:
        created = database.prepare(url)
    except SchemaForbidden as forbidden:
        # In one transaction: half of the tables would be taken for all of them.
        tables = {"tables": f"{script()}{new_journal(secrets.token_hex)}", "version": upgrade_script(), "grants": ""}
        wanted = tables[forbidden.lacking]
        made_first = f"BEGIN;\n{wanted}COMMIT;\n\n" if wanted else ""
        output.write_bytes(f"{made_first}{postgres_setup.grants(role, 'covenq_reader')}".encode())
        raise
    if made != text:
        atomic_file.replace(path, made.encode(), mode=_MODE)
    say(f"{'The tables are made' if created else 'The tables were there'}, and {clean(path)} names the database.")
    say("What its roles need, to be run as the owner of the tables (put your names in the place of theirs):")
    with output.report_of_act():
        output.write_bytes(postgres_setup.grants(role, "covenq_reader").encode())
    _say_taken_up(path, data, config, "Start `covenq serve`: a running daemon doesn't change its journal.")


def _coven(source: Path, data: str | None, config: str | None, *, force: bool) -> None:
    """Translate coven-github's configuration, and say of each setting what became of it. Raises ConfigError, Refused."""
    from covenq.cli import coven_setup

    path = config_path(data, config)
    made = coven_setup.translation(source, path)
    coven_setup.keep_secret(made, known_data_dir(data, config) or path.parent, path, force=force)
    write(path, made.text, force=force)
    with output.report_of_act():
        output.line(str(path))
    for note in made.notes:
        say(clean(note))
    _say_taken_up(path, data, config, "Look through it, then `covenq doctor`, and start `covenq serve`.")


def _monitoring(given: Mapping[str, object], to: Path | None, *, force: bool) -> None:
    """Write the file for the first of the options given. Raises UsageError where there is another, Refused, CovenqError."""
    from covenq.cli import monitoring

    option, *others = [one for one, value in given.items() if value is not None]
    if others:
        raise UsageError(f"{others[0]} and {option} can't be combined", hint="Write each with a command of its own.")
    shipped = monitoring.ALERTS if option == "--prometheus" else monitoring.DASHBOARD
    if to is None:
        output.write_bytes(shipped.text().encode())
    else:
        if not is_directory(
            to.absolute().parent
        ):  # it is another program's to read, and one made here would be closed to it
            raise Refused(f"{to.absolute().parent} is no directory", hint="Make it first, or choose another with --to.")
        write(to, shipped.text(), force=force)
        with output.report_of_act():
            output.line(str(to))
    say(shipped.next)


def _app(data: str | None, config: str | None, wanted: Wanted, *, existing: bool) -> None:
    """Make a GitHub App, or take one that is there, and put it into the configuration. Raises CovenqError, OSError."""
    from covenq.cli import app_configuration, app_existing, app_setup

    path = _config_in_use(data, config)
    target = app_configuration.target(path, data, TEMPLATE)
    if existing:
        app_existing.use_existing(target, wanted, os.environ)
    else:
        created = app_setup.make_app(target, wanted, os.environ)
        say(f"GitHub has made the App {clean(created.name)}: {clean(created.page)}")
        say(f"Its private key is in {clean(target.key_file)}")
        if created.webhook_secret is None:
            say("It has no webhook secret yet. Give it the one that covenq has: `covenq secrets` says where.")
        else:
            say(f"Its webhook secret is in {clean(target.secret_file)}")
        if target.loaded.hooks:
            say(
                "[github] hooks lists who may deliver: add the App's. `covenq refused` has its id once it sent something."
            )
        say(f"Install it where its events shall come from: {clean(created.page)}/installations/new")
    with output.report_of_act():
        output.line(str(path))
    if target.loaded.follows_log or wanted.ingress == "log":
        say(
            "Written. `covenq listen` takes what GitHub sends from now on, and prints it; `covenq serve` prints nothing."
        )
    else:
        _say_taken_up(path, data, config, "The running daemon takes it up, else start `covenq serve`.")


def _config_in_use(data: str | None, config: str | None) -> Path:
    """The configuration that is named, else the running daemon's, else where it is, or would be."""
    path = config_path(data, config)
    directory = None if config or os.environ.get("COVENQ_CONFIG") else known_data_dir(data, config)
    used = None if directory is None else daemon_config(directory)
    if used is None or used.resolve() == path.resolve():
        return path
    say(f"The configuration is the running daemon's: {clean(used)}")
    return used


def _say_taken_up(path: Path, data: str | None, config: str | None, next: str) -> None:
    """Say what is next, or that the running daemon uses another configuration than what was written."""
    directory = known_data_dir(data, config)
    used = None if directory is None else daemon_config(directory)
    if used is not None and used.resolve() != path.resolve():
        say(f"Written. The running daemon uses another: {clean(used)}")
    else:
        say(f"Written. {next}")


def _units(to: Path | None, data: str | None, config: str | None, user: str | None, *, force: bool) -> None:
    """Write both units, and say what is left to do. Raises Refused, ConfigError."""
    from covenq.cli import unit
    from covenq.config.load import data_dir, load

    if to is not None and to.suffix != ".service":
        raise UsageError(f"{to} is no name of a service", hint=f"It ends in .service: --to {unit.SERVICE}")
    chosen = config or os.environ.get("COVENQ_CONFIG")
    path = unit.CONFIG if not chosen else Path(chosen).expanduser().absolute()
    try:
        there = exists(path)
    except OSError as error:
        raise Refused(f"{path} can't be looked at: {error.strerror}", hint="Run it as root.") from None
    loaded = load(path if there else None, {})
    where = data_dir(data, os.environ, loaded)
    if not (data or os.environ.get("COVENQ_DATA") or loaded.data is not None):
        where = unit.DATA
    _require_usable(path, where)
    made = unit.Unit(
        tuple(unit.this_command(sys.argv[0], sys.executable)),
        path,
        where,
        unit.account(unit.USER if user is None else user),
        unit.listen_stream(loaded),
        tuple(one.credential for one in loaded.secrets if one.credential is not None) if there else (unit.SECRET_NAME,),
        unit.this_installation(),
    )
    service, socket = unit.service(made, unit.SERVICE.stem if to is None else to.stem), unit.socket_unit(made)
    place = unit.SERVICE if to is None else to
    written = [(place, service), *([] if socket is None else [(place.with_suffix(".socket"), socket)])]
    if to is None:
        output.write_bytes("\n".join(f"# {path}\n{text}" for path, text in written).encode())
    else:
        for path, text in written:
            write(path, text, force=force)
        with output.report_of_act():
            for path, _ in written:
                output.line(str(path))
    options = [f"--config={path}"] if chosen else []
    options += [f"--data={where}"] if data or os.environ.get("COVENQ_DATA") else []
    options += [f"--user={user}"] if user else []
    say("What is left to do, as root:")
    for line in unit.next_steps(made, to, options):
        say(line)


def _require_usable(config: Path, data: Path) -> None:
    """Raises Refused where one of them is something else already: a service would fail at its start."""
    if is_not_a_directory(data):
        raise Refused(f"{data} is no directory", hint="Choose another with --data or COVENQ_DATA.")
    if exists(config) and not is_file(config):
        raise Refused(f"{config} is no file that a service can read again", hint="Choose another with --config.")


def write(path: Path, text: str, *, force: bool) -> None:
    """Create the file complete or not at all. Raises Refused if it exists and not `force`, CovenqError if it can't be written.

    With `force` one that is there keeps its owner and mode, and what stood in it is kept beside it, and that is said: a
    configuration names an App's key and the secrets that GitHub signs with.
    """
    suffix = f".{os.getpid()}.tmp"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if atomic_file.create(path, text.encode(), suffix=suffix, mode=_MODE):
            return
        if not force:
            raise Refused(f"{path} is there already", hint="Edit it, or overwrite it with --force.")
        before = path.read_bytes() if is_file(path) else b""
        if before not in (b"", text.encode()):
            kept = path.with_name(f"{path.name}.old")
            atomic_file.replace(kept, before, suffix=suffix, mode=path.stat().st_mode & 0o777)
            say(f"What {clean(path)} had is kept in {clean(kept)}.")
        atomic_file.rewrite(path, text.encode(), suffix=suffix)
    except OSError as error:  # a full disk's error names no file
        raise CovenqError(f"{path} can't be written: {error.strerror}", hint="Check space and permissions.") from None
