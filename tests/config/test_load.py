"""The configuration: what is accepted, what is refused, and that a refusal names the file and the key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from covenq.config.load import DEFAULT_BIND, Config, build, config_path, data_dir, load, parse_bind
from covenq.config.route import Retry
from covenq.config.secret_keys import Key, default_file, known_secrets, read_secrets
from covenq.errors import ConfigError

Write = Callable[[str], Path]

EXAMPLE = """
[server]
bind = "127.0.0.1:8787"
data = "inbox"
body_limit = 1048576
header_timeout = "5s"
body_timeout = "2m"
threads = 8

[github]
webhook_secrets = [{ name = "app", file = "app.secret" }, { name = "old", env = "OLD_SECRET" }]

[worker]
concurrency = 2

[[route]]
name = "fix-issue"
match = "event:issues action:assigned,labeled label:coven:fix -sender:*[bot]"
run = ["coven-code", "--headless", "--context", "{brief}", "--output", "{result}"]
timeout = "10m"
retry = { max = 2, backoff = "2s", cap = "5m" }
key = "{repo}#{number}"
supersede = "never"
env = ["PATH", "LANG"]

[[route]]
name = "all"
match = ""
run = ["true"]
"""


def test_everything_that_can_be_said(write_config: Write) -> None:
    path = write_config(EXAMPLE)
    config = load(path, {})
    assert (config.bind, config.address) == ("127.0.0.1:8787", ("127.0.0.1", 8787))
    assert (config.body_limit, config.threads, config.concurrency, config.twins) == (1048576, 8, 2, "mark")
    assert (config.header_timeout_s, config.body_timeout_s) == (5.0, 120.0)
    assert config.data == path.parent / "inbox"
    assert [(s.name, s.file, s.env) for s in config.secrets] == [
        ("app", path.parent / "app.secret", None),
        ("old", None, "OLD_SECRET"),
    ]
    fix, every = config.routes
    assert fix.policy == {
        "run": ["coven-code", "--headless", "--context", "{brief}", "--output", "{result}"],
        "timeout_s": 600.0,
        "retry": {"max": 2, "backoff_s": 2.0, "cap_s": 300.0},
        "supersede": "never",
        "env": ["PATH", "LANG"],
    }
    assert (fix.name, fix.kind, fix.key) == ("fix-issue", "run", "{repo}#{number}")
    assert (every.timeout_s, every.retry, every.key, every.env) == (600.0, Retry(), None, ())


def test_nothing_said_is_the_defaults() -> None:
    config = load(None, {})
    assert config == Config()
    assert config.bind == DEFAULT_BIND
    assert config.body_limit == 25 * 1024 * 1024
    assert config.sha256 == Config().sha256


ROUTE = '[[route]]\nname = "a"\nmatch = "event:push"\nrun = ["true"]\n'


@pytest.mark.parametrize(
    "text",
    [
        "[server]\nbind = '127.0.0.1:0'\n[api]\nbind = '127.0.0.1:0'\n",
        "[server]\nbind = '127.0.0.1:1'\n[api]\nbind = '127.0.0.2:1'\n[metrics]\nbind = '[::]:1'\n",
    ],
)
def test_addresses_that_the_system_tells_apart_may_be_beside_each_other(tmp_path: Path, text: str) -> None:
    file = tmp_path / "covenq.toml"
    file.write_text(text)
    assert load(file, {}).api_bind is not None


def test_the_variable_for_the_webhooks_address_counts_instead_of_the_files(tmp_path: Path) -> None:
    file = tmp_path / "covenq.toml"
    file.write_text("[api]\nbind = '127.0.0.1:8787'\n")
    assert load(file, {"COVENQ_BIND": "127.0.0.1:9000"}).api_bind == "127.0.0.1:8787"


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("[sever]\n", "sever", "did you mean server?"),
        ("[server]\nbnid = '1'\n", "server.bnid", "did you mean bind?"),
        ("[server]\nbind = 8787\n", "server.bind", "must be a text"),
        ("[server]\nthreads = 0\n", "server.threads", "between 1 and 1024"),
        ("[server]\nthreads = true\n", "server.threads", "whole number"),
        ("[server]\nbody_limit = '1'\n", "server.body_limit", "whole number"),
        ("[server]\nheader_timeout = 10\n", "server.header_timeout", "duration"),
        ("[server]\nbody_timeout = '0s'\n", "server.body_timeout", "longer than nothing"),
        ("[worker]\nconcurency = 1\n", "worker.concurency", "did you mean concurrency?"),
        ("worker = 4\n", "worker", "must be a table"),
        ("[api]\nbind = 'x'\n", "api.bind", "no address to listen on"),
        ("[server]\nbind = 'x'\n", "server.bind", "no address to listen on"),
        ("[api]\nbind = '127.0.0.1:8787'\n", "api.bind", "[server] is 127.0.0.1:8787: they can't share a port"),
        ("[api]\nbind = '0.0.0.0:8787'\n", "api.bind", "they can't share a port"),
        ("[api]\n[metrics]\nbind = '127.0.0.1:8788'\n", "metrics.bind", "[api] is 127.0.0.1:8788"),
        ("[server]\nbind = '[::]:1'\n[metrics]\nbind = '[::1]:1'\n", "metrics.bind", "[server] is [::]:1"),
        ("[jurnal]\n", "jurnal", "did you mean journal?"),
        ('[journal]\nengine = "redis"\n', "engine", "none of file, postgres"),
        ('[journal]\nurl = "postgresql://h/d"\n', "url", "is for engine"),
        ('[journal]\nengine = "postgres"\n', "engine", "needs url"),
        ('[journal]\nengine = "postgres"\nurl = "mysql://h/d"\n', "journal", "no address of a PostgreSQL database"),
        ("[reconcile]\nevery = '10ms'\n", "reconcile.every", "1s or longer"),
        ("[reconcile]\noverlap = '8d'\n", "reconcile.overlap", "7d at most"),
        ("[reconcile]\nmode = 'redelivr'\n", "reconcile.mode", "did you mean redeliver?"),
        ("[reconcile]\npatience = '0s'\n", "reconcile.patience", "longer than 0s"),
        ("[reconcile]\npatience = '25h'\n", "reconcile.patience", "1d at most"),
        ("[reconcile]\nfetch = 'some'\n", "reconcile.fetch", "all"),
        ("[github]\ntwins = 'markk'\n", "github.twins", "did you mean mark?"),
        ("[github]\ntwins = 'refuse'\n", "github.twins", "allow-list"),
        ("[github]\nwebhook_secrets = ['x']\n", "github.webhook_secrets", "number 1 must be a table"),
        ("[github]\nwebhook_secrets = [{file = 'x'}]\n", "github.webhook_secrets 1.name", "is missing"),
        ("[github]\nwebhook_secrets = [{name = 'a'}]\n", "github.webhook_secrets 1", "exactly one of"),
        ("[github]\nwebhook_secrets = [{name = 'a', env = 'A', file = 'b'}]\n", "secrets 1", "exactly one of"),
        ("[github]\nwebhook_secrets = [{name = 'a', env = ''}]\n", "secrets 1.env", "is empty"),
        ("[github]\nwebhook_secrets = [{name = 'env', env = 'A'}]\n", "secrets 1.name", "covenq's own"),
        ("[github]\nwebhook_secrets = [{name='a', env='A'}, {name='a', env='B'}]\n", "secrets 2.name", "two secrets"),
        ("[github]\nwebhook_secrets = [{name = 'a', flie = 'A'}]\n", "secrets 1.flie", "did you mean file?"),
        ("[[route]]\nmatch = ''\nrun = ['x']\n", "route 1.name", "is missing"),
        ("[[route]]\nname = 'a b'\nmatch = ''\nrun = ['x']\n", "route 1.name", "letters"),
        ("[[route]]\nname = 'a'\nrun = ['x']\n", "route 'a'.match", "is missing"),
        ("[[route]]\nname = 'a'\nmatch = ''\n", "route 'a'.run", "is missing"),
        ("[[route]]\nname = 'a'\nmatch = ''\nrun = []\n", "route 'a'.run", "needs a command"),
        ("[[route]]\nname = 'a'\nmatch = ''\nrun = ['']\n", "route 'a'.run", "needs a command"),
        ("[[route]]\nname = 'a'\nmatch = ''\nrun = 'make'\n", "route 'a'.run", "list of texts"),
        ("[[route]]\nname = 'a'\nmatch = ''\nrun = ['x', 1]\n", "route 'a'.run", "list of texts"),
        ('[[route]]\nname = "a"\nmatch = ""\nrun = ["x\\u0000"]\n', "route 'a'.run", "NUL"),
        (
            "[[route]]\nname = 'a'\nmatch = ''\nrun = ['x', '--repo={repo}']\n",
            "route 'a'.run",
            "comes from the request",
        ),
        ("[[route]]\nname = 'a'\nmatch = ''\nrun = ['x', '{breif}']\n", "route 'a'.run", "did you mean brief?"),
        ("[[route]]\nname = 'a'\nmatch = ''\nforward = 'x.example'\n", "route 'a'.forward", "no web address"),
        ("[[route]]\nname = 'a'\nmatch = ''\nforward = 'https://u:p@x/'\n", "route 'a'.forward", "recorded"),
        ("[[route]]\nname = 'a'\nmatch = ''\nforward = 'https://x/#a'\n", "route 'a'.forward", "#fragment"),
        ("[[route]]\nname = 'a'\nmatch = ''\nforward = 'https://x/ y'\n", "route 'a'.forward", "no web address"),
        ("[[route]]\nname = 'a'\nmatch = ''\npull = false\n", "route 'a'.pull", "can only be true"),
        ("[[route]]\nname = 'a'\nmatch = ''\npull = true\nrun = ['x']\n", "route 'a'", "run and pull"),
        ("[[route]]\nname = 'a'\nmatch = ''\npull = true\nenv = ['X']\n", "route 'a'.env", "is of commands"),
        (ROUTE + "limits = { cpu = '500ms' }\n", "route 'a'.limits.cpu", "a second or more"),
        (ROUTE + "limits = { memory = '512MB' }\n", "route 'a'.limits.memory", "no size"),
        (ROUTE + "limits = { memroy = '512MiB' }\n", "route 'a'.limits.memroy", "did you mean memory?"),
        (ROUTE + "limits = { processes = 0 }\n", "route 'a'.limits.processes", "between 1 and"),
        (ROUTE + "keep = 'some'\n", "route 'a'.keep", "none of all, failed, logs"),
        ("[[route]]\nname = 'a'\nmatch = 'evnt:push'\nrun = ['x']\n", "route 'a'.match", "(column 1)"),
        ("[[route]]\nname = 'a'\nmatch = 'state:failed'\nrun = ['x']\n", "route 'a'.match", "no value yet"),
        (ROUTE + "timeout = '10 minutes'\n", "route 'a'.timeout", "no duration"),
        (ROUTE + "timeout = 600\n", "route 'a'.timeout", "must be a duration"),
        (ROUTE + "timeout = '0s'\n", "route 'a'.timeout", "longer than nothing"),
        (ROUTE + "retry = { max = -1 }\n", "route 'a'.retry.max", "between 0 and"),
        (ROUTE + "retry = { backof = '1s' }\n", "route 'a'.retry.backof", "did you mean backoff?"),
        (ROUTE + "key = '{repo}#{nubmer}'\n", "route 'a'.key", "did you mean number?"),
        (ROUTE + "supersede = 'queue'\n", "route 'a'.supersede", "did you mean queued?"),
        (ROUTE + "supersede = 'queued'\n", "route 'a'.supersede", "needs a `key`"),
        (ROUTE + "env = ['A=B']\n", "route 'a'.env", "no environment variable"),
        (ROUTE + "env = ['COVENQ_WEBHOOK_SECRET']\n", "route 'a'.env", "no environment variable"),
        (ROUTE + "tiemout = '1s'\n", "route 'a'.tiemout", "did you mean timeout?"),
        (ROUTE + ROUTE, "route", "two routes are named 'a'"),
        ("[[route]\n", "covenq.toml", "line 1"),
        ("a = [" + "[" * 5000, "covenq.toml", "nested too deeply"),
        ("\ufeff" + ROUTE, "covenq.toml", "begins with a byte order mark"),
        ("a = " + "9" * 5000, "covenq.toml", "a number of more digits than are read"),
    ],
)
def test_refusals_name_the_file_and_the_key(write_config: Write, text: str, place: str, problem: str) -> None:
    path = write_config(text)
    with pytest.raises(ConfigError) as raised:
        load(path, {})
    said = str(raised.value)
    assert said.startswith(f"{path}: ")
    assert place in said
    assert problem in said
    assert raised.value.exit_code == 2
    assert raised.value.hint


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        load(tmp_path / "none.toml", {})
    (tmp_path / "latin.toml").write_bytes(b"# \xe4\n")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 2"):
        load(tmp_path / "latin.toml", {})


def test_braces_that_are_no_placeholders_are_left_alone() -> None:
    run = ["jq", "{action}".replace("action", "x: .a"), '{"a": 1}', "${HOME}", "{}", "{task}-{attempt}", "awk {print}"]
    config = build({"route": [{"name": "a", "match": "", "run": run}]}, None, {})
    assert list(config.routes[0].run) == run


def test_the_hash_is_of_what_decides_about_tasks() -> None:
    def sha256(**changes: object) -> str:
        route = {"name": "a", "match": "event:push", "run": ["true"], **changes}
        return build({"route": [route]}, None, {}).sha256

    assert sha256() == sha256()
    assert sha256(timeout="10m") == sha256(), "the default said aloud changes nothing"
    assert len({sha256(), sha256(name="b"), sha256(match=""), sha256(run=["false"]), sha256(timeout="1m")}) == 5
    raw = {"server": {"bind": "127.0.0.1:1"}, "route": [{"name": "a", "match": "event:push", "run": ["true"]}]}
    assert build(raw, None, {}).sha256 == sha256()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8787", ("127.0.0.1", 8787)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:8787", ("::1", 8787)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_bind(text) == address


@pytest.mark.parametrize(
    "text", ["", "8787", ":8787", "host:", "host:x", "host:65536", "::1:80", "host:-1", "h:٣", "h:1_0"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_bind(text)


def test_the_environment_chooses_the_address() -> None:
    assert build({"server": {"bind": "127.0.0.1:1"}}, None, {"COVENQ_BIND": "127.0.0.1:2"}).bind == "127.0.0.1:2"
    with pytest.raises(ConfigError, match="no address"):
        build({}, None, {"COVENQ_BIND": "nonsense"})


def test_where_the_data_is(tmp_path: Path) -> None:
    config = Config(data=tmp_path / "configured")
    env = {"COVENQ_DATA": str(tmp_path / "env"), "XDG_STATE_HOME": str(tmp_path / "xdg"), "HOME": str(tmp_path)}
    assert data_dir(str(tmp_path / "option"), env, config) == tmp_path / "option"
    assert data_dir(None, env, config) == tmp_path / "env"
    del env["COVENQ_DATA"]
    assert data_dir(None, env, config) == tmp_path / "configured"
    assert data_dir(None, env, Config()) == tmp_path / "xdg" / "covenq"
    env["XDG_STATE_HOME"] = "relative"
    assert data_dir(None, env) == tmp_path / ".local" / "state" / "covenq"
    assert data_dir("relative", env) == Path("relative").absolute()


def test_which_configuration_is_read(tmp_path: Path) -> None:
    env = {"COVENQ_CONFIG": str(tmp_path / "env.toml"), "COVENQ_DATA": str(tmp_path)}
    assert config_path(str(tmp_path / "option.toml"), env) == tmp_path / "option.toml"
    assert config_path(None, env) == tmp_path / "env.toml"
    del env["COVENQ_CONFIG"]
    assert config_path(None, env) is None
    (tmp_path / "covenq.toml").touch()
    assert config_path(None, env) == tmp_path / "covenq.toml"


# ---- secrets


def test_secrets_are_read_from_where_they_are(tmp_path: Path, write_config: Write) -> None:
    (tmp_path / "app.secret").write_bytes(b" spaced and \xff\r\n\n")
    env = {"OLD_SECRET": "old\n", "COVENQ_WEBHOOK_SECRET": "joined"}
    config = load(write_config(EXAMPLE), env)

    def told(config: Config, env: dict[str, str]) -> list[tuple[str, bytes]]:
        return [(key.name, key.secret) for key in read_secrets(config, env, tmp_path)]

    assert told(config, env) == [("app", b" spaced and \xff"), ("old", b"old"), ("env", b"joined")]
    inline = build({"github": {"webhook_secrets": [{"name": "a", "value": "hush"}]}}, None, {})
    assert told(inline, {}) == [("a", b"hush")]
    assert "hush" not in repr(inline) + repr(read_secrets(inline, {}, tmp_path))


def test_the_data_directorys_own_secret_joins_only_alone(tmp_path: Path) -> None:
    assert read_secrets(Config(), {}, tmp_path) == ()
    default_file(tmp_path).write_text("made at first start\n")
    assert read_secrets(Config(), {}, tmp_path) == (Key("default", b"made at first start"),)
    env = {"COVENQ_WEBHOOK_SECRET": "s"}
    assert read_secrets(load(None, env), env, tmp_path) == (
        Key("env", b"s"),
        Key("default", b"made at first start"),
    )


def test_the_data_directorys_own_secret_may_be_named_in_the_configuration(tmp_path: Path) -> None:
    """So that it stays what it was beside others: known once, and under its name."""
    default_file(tmp_path).write_text("made at first start\n")
    table = {"name": "default", "file": str(default_file(tmp_path))}
    config = build({"github": {"webhook_secrets": [{"name": "a", "value": "s"}, table]}}, None, {})
    keys = (Key("a", b"s"), Key("default", b"made at first start"))
    assert read_secrets(config, {}, tmp_path) == keys == known_secrets(config, {}, tmp_path)[0]
    with pytest.raises(ConfigError, match="covenq's own"):
        build({"github": {"webhook_secrets": [{"name": "env", "value": "s"}]}}, None, {})


def test_a_secret_that_is_none_is_refused_without_being_told(tmp_path: Path) -> None:
    def problem(source: dict[str, str], env: dict[str, str]) -> str:
        config = build({"github": {"webhook_secrets": [{"name": "a", **source}]}}, None, {})
        with pytest.raises(ConfigError) as raised:
            read_secrets(config, env, tmp_path)
        assert "'a'" in str(raised.value)
        return str(raised.value)

    assert "can't be read" in problem({"file": str(tmp_path / "none")}, {})
    (tmp_path / "empty").write_text("\n")
    assert "is empty" in problem({"file": str(tmp_path / "empty")}, {})
    (tmp_path / "long").write_bytes(b"x" * 100_000)
    assert "too long" in problem({"file": str(tmp_path / "long")}, {})
    assert "VAR is not set" in problem({"env": "VAR"}, {})
    assert "VAR is empty" in problem({"env": "VAR"}, {"VAR": ""})
    env = {"COVENQ_WEBHOOK_SECRET": ""}
    with pytest.raises(ConfigError, match="COVENQ_WEBHOOK_SECRET is empty"):
        read_secrets(load(None, env), env, tmp_path)
