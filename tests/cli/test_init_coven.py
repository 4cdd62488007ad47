"""`covenq init --from-coven`: what it leaves on the disk, says and refuses. The translation is tests/config/test_coven.py's."""

from __future__ import annotations

from pathlib import Path

import pytest

from covenq import atomic_file
from covenq.cli.coven_setup import keep_secret, translation
from covenq.config.load import load
from covenq.config.secret_keys import read_secrets
from covenq.errors import CovenqError
from tests.support.checkout import clean_env
from tests.support.commands import run_command

SECRET = "hush-hush-hush-hush"
COVEN = f"""
[server]
bind = "127.0.0.1:3000"
[github]
app_id = 7
private_key_path = "k.pem"
webhook_secret = "{SECRET}"
[api]
mode = "token"
[[api.tenants]]
token = "another-that-is-hushed"
installation_id = 42
[[familiars]]
id = "cody"
bot_username = "coven-cody[bot]"
trigger_labels = ["coven:fix"]
[memory]
enabled = true
"""


@pytest.fixture
def coven(tmp_path: Path) -> Path:
    path = tmp_path / "coven" / "local.toml"
    path.parent.mkdir()
    path.write_text(COVEN)
    return path


def init(*args: str | Path, exit_code: int = 0) -> tuple[str, str]:
    done = run_command([str(one) for one in ("init", *args)], clean_env())
    assert done.returncode == exit_code, done.stderr
    said = done.stdout + done.stderr
    assert b"hush" not in said and b"Traceback" not in said
    return done.stdout.decode(), done.stderr.decode()


def test_it_writes_a_configuration_and_its_secret_and_says_what_became_of_each_setting(
    coven: Path, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "covenq.toml"
    printed, said = init("--from-coven", coven, "--config", path)
    assert printed == f"{path}\n"
    lines = said.splitlines()
    assert "taken: [server] bind: as [server] bind; the webhook is at /webhook there, too" in lines
    assert any(line.startswith("left out: [memory]: ") for line in lines)
    todo = [line for line in lines if line.startswith("to do: ")]
    assert len(todo) == 2 and f"there is no {coven.parent / 'k.pem'}" in todo[1]
    assert lines[-1].startswith("Written. Look through it")
    secret = path.with_name("github-app.secret")
    assert (secret.read_text(), secret.stat().st_mode & 0o777) == (SECRET, 0o600)
    assert "hush" not in path.read_text()
    config = load(path, {})
    assert [key.secret for key in read_secrets(config, {}, tmp_path)] == [SECRET.encode()]
    assert {route.familiar for route in config.routes} == {"cody"} and config.bind == "127.0.0.1:3000"


def test_it_overwrites_nothing_unless_it_is_told_to_and_then_keeps_what_was_there(coven: Path, tmp_path: Path) -> None:
    path, secret = tmp_path / "covenq.toml", tmp_path / "github-app.secret"
    path.write_text("[worker]\n")
    assert "is there already" in init("--from-coven", coven, "--config", path, exit_code=4)[1]
    assert (path.read_text(), secret.exists()) == ("[worker]\n", False)
    path.unlink()
    secret.write_text("before")
    assert "another secret" in init("--from-coven", coven, "--config", path, exit_code=4)[1]
    assert (secret.read_text(), path.exists()) == ("before", False)
    path.write_text("[worker]\n")
    init("--from-coven", coven, "--config", path, "--force")
    kept = secret.with_name("github-app.secret.old")
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == ("before", 0o600)
    assert (secret.read_text(), path.with_name("covenq.toml.old").read_text()) == (SECRET, "[worker]\n")


def test_what_it_cant_read_or_translate_leaves_nothing_behind(coven: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "covenq.toml"
    coven.write_text(COVEN.replace('id = "cody"', 'id = "../cody"'))
    for source in (tmp_path / "none.toml", tmp_path, coven):
        init("--from-coven", source, "--config", path, exit_code=2)
    for other in (
        "--systemd",
        "--github-app",
        "--prometheus",
        "--credential=x",
        "--to=x",
        "--postgres=postgresql:///x",
    ):
        assert "can't be combined" in init("--from-coven", coven, "--config", path, other, exit_code=2)[1]
    assert not path.parent.exists()


def test_a_secret_that_was_kept_before_a_crash_is_found_by_the_next_try(
    coven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "covenq.toml"
    made = translation(coven, path)
    with monkeypatch.context() as full:
        full.setattr(atomic_file, "create", _disk_is_full)
        with pytest.raises(CovenqError, match="can't be written: No space left"):
            keep_secret(made, tmp_path, path, force=False)
    keep_secret(made, tmp_path, path, force=False)  # and then it is killed
    assert not path.exists()
    init("--from-coven", coven, "--config", path)
    assert [one.name for one in sorted(path.parent.iterdir())] == ["covenq.toml", "github-app.secret"]


def _disk_is_full(*_: object, **__: object) -> bool:
    raise OSError(28, "No space left on device")
