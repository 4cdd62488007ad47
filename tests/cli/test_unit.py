"""The units that are written: systemd accepts them, and what they start works as they say, as another user too."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from covenq.cli import unit
from covenq.cli.unit import Account, Unit, account, unreachable
from covenq.config.load import Config
from covenq.errors import Refused, UsageError
from tests.support.checkout import ROOT, clean_env
from tests.support.daemon import Daemon, free_port
from tests.support.requests import issue
from tests.support.service_manager import activated, manager

Make = Callable[..., Daemon]
CONFIG = """\
[github]
webhook_secrets = [{ name = "github", credential = "webhook-secret" }]
"""
ME = pwd.getpwuid(os.geteuid()).pw_name


def settings(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


def steps(stderr: bytes) -> dict[str, str]:
    """The steps that are left, by their words."""
    return dict(re.findall(r"^([A-Z][\w ]+): +(.+)$", stderr.decode(), re.MULTILINE))


def made(**fields: object) -> Unit:
    plain = Unit(("/bin/sh",), unit.CONFIG, unit.DATA, Account("covenq", "covenq"), "127.0.0.1:8787")
    return Unit(**{name: fields.get(name, getattr(plain, name)) for name in Unit.__slots__})


def test_systemd_itself_finds_nothing_wrong(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / "covenq.service"
    daemon = Daemon(tmp_path / "data")
    done = daemon.cli("init", "--systemd", "--user", ME, "--to", str(path))
    assert done.stdout.decode().split() == [str(path), str(tmp_path / "covenq.socket")]
    assert stat.S_IMODE(path.stat().st_mode) & 0o111 == 0
    assert b"systemctl enable --now covenq.socket covenq.service" in done.stderr
    found = subprocess.run(
        [analyze, "verify", "--man=no", str(path), str(path.with_suffix(".socket"))],
        capture_output=True,
        text=True,
        env=clean_env(),
        check=False,
    )
    said = [line for line in found.stderr.splitlines() if "covenq.s" in line]
    assert said == []
    daemon.cli("init", "--systemd", "--user", ME, "--to", str(path), exit_code=4)
    daemon.cli("init", "--systemd", "--user", ME, "--to", str(path), "--force")
    security = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=30", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Unknown" not in security.stderr and "unrecognized" not in security.stderr:
        assert security.returncode == 0, security.stdout[-2000:]


def test_what_the_unit_starts_works_as_written(make_daemon: Make, data: Path, tmp_path: Path) -> None:
    """Its command line, environment, socket and credential, without systemd."""
    config = tmp_path / "covenq.toml"
    port = free_port()
    config.write_text(f'{CONFIG}[server]\nbind = "localhost:{port}"\n')
    text = Daemon(data).cli("init", "--systemd", "--user", ME, "--config", str(config)).stdout.decode()
    said = settings(text)
    assert said["Type"] == "notify" and said["User"] == ME
    assert said["LoadCredential"] == f"webhook-secret:{tmp_path}/webhook-secret"
    assert said["Environment"] == f"COVENQ_DATA={data}", "COVENQ_DATA, and --data, say where it is"
    assert said["ListenStream"] in (f"127.0.0.1:{port}", f"[::1]:{port}"), "what the configuration binds"
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "webhook-secret").write_text("from systemd\n")
    host = said["ListenStream"].rpartition(":")[0].strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        manager(str(data.parent / "notify")) as heard,
        socket.create_server((host, port), family=family) as listening,
    ):
        process = subprocess.Popen(
            [*activated(listening), *said["ExecStart"].split()],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "COVENQ_DATA": str(data),
                "CREDENTIALS_DIRECTORY": str(credentials),
                "NOTIFY_SOCKET": str(data.parent / "notify"),
                "WATCHDOG_USEC": "30000000",
            },
            stderr=subprocess.DEVNULL,
            pass_fds=[listening.fileno()],
        )
        try:
            heard.until("READY=1")
            daemon = Daemon(data, port=port)
            assert daemon.post("issues", issue(1), secret="from systemd").status == 202
            assert daemon.post("issues", issue(2), secret="another").status == 401
            assert not (data / "secret").exists(), "none is made where one is configured"
            assert said["ExecReload"] == "/bin/kill -HUP $MAINPID"
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait(30)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="cq-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def interpreter(user: str) -> tuple[str, dict[str, str]]:
    """A Python, and its environment, with which another user can run covenq. Skips the test where there is none."""
    paths = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": ":".join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    for python in (sys.executable, "/usr/bin/python3"):
        command = [python, "-c", "import covenq.cli.main, covenq.daemon.run"]
        try:
            subprocess.run(command, check=True, user=user, extra_groups=[], env=env, capture_output=True, cwd="/")
        except (OSError, subprocess.CalledProcessError):
            continue
        return python, env
    pytest.skip(f"no Python here that {user} can run covenq with")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_the_steps_as_printed_make_a_service_that_another_user_can_run(place: Path) -> None:
    """Root runs each line as it is printed, with a strict umask; and what systemd would do then is done by hand."""
    user = "nobody"
    python, env = interpreter(user)
    config, data, file = place / "etc" / "covenq" / "covenq.toml", place / "data", place / "units" / "covenq.service"
    (place / "etc").mkdir(mode=0o755)
    (place / "units").mkdir()
    wanted = ["--user", user, "--config", str(config), "--data", str(data)]
    init = [python, "-m", "covenq", "init", "--systemd", *wanted, "--to", str(file)]
    written = subprocess.run(init, env=env, capture_output=True, check=True)
    left = steps(written.stderr)
    assert list(left) == ["Directory", "Configuration", "Secret", "Data", "Start", "Look"]
    for word in ("Directory", "Configuration", "Secret", "Data"):
        subprocess.run(["sh", "-euc", f"umask 077; {left[word]}"], env=env, check=True, cwd="/", capture_output=True)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700 and data.owner() == user
    secret = config.parent / "webhook-secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600 and secret.owner() == "root"

    # Another port than the default: what is edited in the configuration is in the units made anew, and no step is left.
    port = free_port()
    config.write_text(config.read_text().replace('# bind = "127.0.0.1:8787"', f'bind = "127.0.0.1:{port}"'))
    again = subprocess.run([*init, "--force"], env=env, capture_output=True, check=True)
    assert list(steps(again.stderr)) == ["Data", "Start", "Look"]
    said = settings(file.read_text()) | settings(file.with_suffix(".socket").read_text())
    assert (said["User"], said["ListenStream"]) == (user, f"127.0.0.1:{port}")
    assert said["ReadWritePaths"] == str(data) and said["Environment"] == f"COVENQ_DATA={data}"

    credentials = place / "credentials"
    credentials.mkdir()
    name, _, source = said["LoadCredential"].partition(":")
    shutil.copy(source, credentials / name)
    for path in (credentials / name, credentials):
        os.chown(path, pwd.getpwnam(user).pw_uid, -1)
    notify = place / "notify"
    with manager(str(notify)) as heard, socket.create_server(("127.0.0.1", port)) as listening:
        notify.chmod(0o666)
        process = subprocess.Popen(
            [python, *activated(listening)[1:], *said["ExecStart"].split()],
            env={
                **env,
                "COVENQ_DATA": str(data),
                "CREDENTIALS_DIRECTORY": str(credentials),
                "NOTIFY_SOCKET": str(notify),
            },
            user=user,
            group=pwd.getpwnam(user).pw_gid,
            extra_groups=[],
            umask=0o077,
            cwd="/",
            pass_fds=[listening.fileno()],
        )
        try:
            heard.until("READY=1")
            daemon = Daemon(data, port=port)
            assert daemon.post("issues", issue(1), secret=secret.read_text().strip()).status == 202
            look = left["Look"].partition("; ")[2]
            looked = subprocess.run(["sh", "-euc", look], env=env, check=True, cwd="/", capture_output=True)
            assert b"READY" in looked.stdout
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait(30)
    assert {path.owner() for path in data.rglob("*")} == {user}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_who_may_not_look_at_the_configuration_is_told_so(place: Path) -> None:
    python, env = interpreter("nobody")
    (place / "etc").mkdir(mode=0o700)
    words = [
        python,
        "-m",
        "covenq",
        "init",
        "--systemd",
        "--user",
        "nobody",
        "--config",
        str(place / "etc" / "covenq.toml"),
    ]
    done = subprocess.run(words, env=env, capture_output=True, user="nobody", extra_groups=[], cwd="/", check=False)
    assert done.returncode == 4 and b"Run it as root" in done.stderr and b"Traceback" not in done.stderr


@pytest.fixture
def open_place() -> Iterator[Path]:
    """Not below pytest's own directories: another run of it closes those that it shares with this one."""
    with tempfile.TemporaryDirectory(prefix="covenq-unit-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def test_a_program_below_a_closed_home_is_refused_with_what_to_type(open_place: Path) -> None:
    home = open_place / "home"
    program = home / ".venv" / "bin" / "covenq"
    program.parent.mkdir(parents=True)
    program.write_text("")
    program.chmod(0o755)
    other = Account("covenq", "covenq")
    opened = [path for path in open_place.parents if not path.stat().st_mode & 0o001]
    if opened:
        other = Account("covenq", "covenq", None, frozenset(path.stat().st_gid for path in opened))
        for path in opened:
            path.chmod(path.stat().st_mode | 0o010)
    home.chmod(0o755)
    assert unreachable(program, other) is None
    home.chmod(0o700)
    assert unreachable(program, other) == home
    with pytest.raises(Refused, match="isn't open to it") as refused:
        unit.service(made(command=(str(program),), account=other))
    assert "python3 -m venv /opt/covenq" in refused.value.hint
    link = open_place / "covenq"
    link.symlink_to(program)
    assert unreachable(link, other) == home, "a link into it, as pipx makes, is no way in"
    owner = home.stat()
    for reaches in (Account("me", "me", owner.st_uid), Account("root", "root", 0)):
        assert unreachable(program, reaches) is None
    home.chmod(0o710)
    assert unreachable(program, Account("x", "x", 12345, frozenset([owner.st_gid]))) is None
    program.chmod(0o700)
    assert unreachable(program, Account("x", "x", 12345, frozenset([owner.st_gid]))) == program


def test_the_python_to_install_with_is_not_one_that_the_user_can_not_reach(
    open_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtualenv elsewhere of a version manager's Python below a home would be refused just the same."""
    other = Account("covenq", "covenq", 12345)
    for path in open_place.parents:
        if not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o001)
    home = open_place / "home"
    python = home / ".pyenv" / "versions" / "3.12.1"
    python.mkdir(parents=True)
    for prefix in (open_place / "venv", Path("/opt/covenq")):
        monkeypatch.setattr(sys, "prefix", str(prefix))
        monkeypatch.setattr(sys, "base_prefix", str(python))
        home.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        clear = "--clear " if prefix == Path("/opt/covenq") else ""
        assert f"`python3 -m venv {clear}/opt/covenq && " in unit._install_hint(other)
        home.chmod(0o700)
        with pytest.raises(Refused, match="isn't open to it") as refused:
            unit.service(made(account=other, installed=unit.this_installation()))
        assert f"`/usr/bin/python3 -m venv {clear}/opt/covenq && " in refused.value.hint


def test_paths_that_systemd_would_read_otherwise_are_refused() -> None:
    for path in ("/opt/a b/covenq", "/opt/%h/covenq", "/opt/$x/covenq", '/opt/"/covenq', "/opt/é/covenq"):
        for wrong in (made(command=(path,)), made(config=Path(path)), made(data=Path(path))):
            with pytest.raises(Refused, match="can't be written in a unit"):
                unit.service(wrong)
    for name in ("", "a b", "%u", "Root", "x" * 40, "a:b"):
        with pytest.raises(UsageError):
            account(name)


def test_what_is_hidden_from_a_service_is_not_where_the_program_or_the_data_is() -> None:
    usual = settings(unit.service(made()))
    assert (usual["ProtectHome"], usual["PrivateTmp"]) == ("yes", "yes")
    assert (usual["StateDirectory"], usual["StateDirectoryMode"]) == ("covenq", "0700")
    assert "DynamicUser" not in usual and "ReadWritePaths" not in usual
    below = settings(unit.service(made(data=Path("/var/lib/hooks/covenq"))))
    assert below["StateDirectory"] == "hooks/covenq"
    elsewhere = settings(unit.service(made(data=Path("/srv/covenq"))))
    assert elsewhere["ReadWritePaths"] == "/srv/covenq" and "StateDirectory" not in elsewhere
    assert settings(unit.service(made(installed=(Path("/home/me/.venv"),))))["ProtectHome"] == "read-only"
    assert settings(unit.service(made(installed=(Path("/tmp/venv"),))))["PrivateTmp"] == "no"
    assert settings(unit.service(made(), "other"))["Requires"] == "other.socket"
    text = unit.service(made(credentials=("app", "old"))) + (unit.socket_unit(made()) or "")
    assert "LoadCredential=app:/etc/covenq/app\nLoadCredential=old:/etc/covenq/old\n" in text
    assert "@" not in text.replace("@system-service", "")


def test_where_nothing_is_posted_there_is_no_socket_unit(tmp_path: Path) -> None:
    config = tmp_path / "covenq.toml"
    config.write_text('[github]\ningress = "log"\n[github.app]\nid = 1\nprivate_key_credential = "key"\n')
    to = tmp_path / "units" / "covenq.service"
    daemon = Daemon(tmp_path / "data", config=config)
    done = daemon.cli("init", "--systemd", "--user", ME, "--to", str(to))
    assert done.stdout.decode().split() == [str(to)] and {one.name for one in to.parent.iterdir()} == {"covenq.service"}
    text = to.read_text()
    assert ".socket" not in text and "@" not in text.replace("@system-service", "")
    assert settings(text)["After"] == "network-online.target"
    assert b"systemctl enable --now covenq.service\n" in done.stderr


def test_the_manual_has_the_steps_as_they_are_printed() -> None:
    """On a machine on which nothing is done yet; the first of the page is the one that writes the units."""
    if unit.CONFIG.parent.exists():
        pytest.skip("covenq is installed here")
    page = (ROOT / "man" / "covenq-production.7").read_text().replace("\\-", "-")
    lines = page.splitlines()
    left = unit.next_steps(made(command=("/opt/covenq/bin/covenq",)), None)
    typed = [step.partition(":")[2].strip() for step in left]
    assert len(typed) == 7
    at = [lines.index(step) for step in typed]
    assert at == sorted(at)


def test_an_address_is_written_as_a_socket_unit_takes_it() -> None:
    assert unit.listen_stream(Config(bind="0.0.0.0:8787")) == "0.0.0.0:8787"
    assert unit.listen_stream(Config(bind="[::1]:80")) == "[::1]:80"
    assert unit.listen_stream(Config(bind="localhost:8787")) in ("127.0.0.1:8787", "[::1]:8787")
    for wrong in ("127.0.0.1:0", "nowhere.invalid:80"):
        with pytest.raises(Refused):
            unit.listen_stream(Config(bind=wrong))


def test_the_environment_s_configuration_and_data_are_those_of_the_unit(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text('[github]\nwebhook_secrets = [{ name = "a", env = "A" }]\n')
    done = Daemon(data, config=config).cli("init", "--systemd", "--user", ME)
    said = settings(done.stdout.decode())
    assert said["ExecStart"].endswith(f"serve --config {config}")
    assert said["Environment"] == f"COVENQ_DATA={data}"
    assert "LoadCredential" not in said, (
        "the configuration names none, and a file that is missing would keep it from starting"
    )
    assert f"--config={config} --data={data} --user={ME}" in steps(done.stderr)["Put it in place"]


def test_a_credential_is_written_into_a_new_configuration(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    Daemon(data).cli("init", "--config", str(path), "--credential", "webhook-secret")
    assert CONFIG.splitlines()[1] in path.read_text().splitlines()
    for wrong in ("", "a/b", '"', "-x"):
        Daemon(data).cli("init", "--config", str(tmp_path / "d.toml"), f"--credential={wrong}", exit_code=2)
    assert not (tmp_path / "d.toml").exists()


@pytest.mark.parametrize("words", ["--to /x", "--user x", "--systemd --to /x", "--systemd --credential a"])
def test_options_that_make_no_sense_together_are_refused(data: Path, words: str) -> None:
    assert b"hint: " in Daemon(data).cli("init", *words.split(), exit_code=2).stderr


def test_units_are_not_made_for_what_can_not_be_a_data_directory_or_a_configuration(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words, said in (
        (["--data", "/dev/null"], "/dev/null is no directory"),
        (["--data", str(tmp_path / "file")], "is no directory"),
        (["--config", "/dev/null"], "/dev/null is no file that a service can read again"),
    ):
        done = Daemon(data).cli("init", "--systemd", *words, exit_code=4)
        assert said in done.stderr.decode() and done.stdout == b""
    said = Daemon(data).cli("init", "--systemd", "--credential", "x", exit_code=2).stderr.decode()
    assert "--credential goes into a configuration, and --systemd writes units" in said
    assert "'a/b' is no name of a file" in Daemon(data).cli("init", "--credential", "a/b", exit_code=2).stderr.decode()


def test_a_program_is_installed_from_its_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = Account("root", "root", 0)
    assert f"pip install {ROOT}`" in unit._install_hint(root)
    monkeypatch.setattr(unit, "__file__", str(tmp_path / "site-packages" / "covenq" / "cli" / "unit.py"))
    assert "pip install SOURCE` (SOURCE is a checkout of covenq, or a wheel" in unit._install_hint(root)
