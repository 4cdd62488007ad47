"""What `covenq init --github-app` leaves on the disk, whenever it is interrupted, and whoever runs it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from covenq import atomic_file
from covenq.cli import app_configuration
from covenq.cli.app_configuration import AppSettings, Target, keep, target
from covenq.cli.commands.init import TEMPLATE
from covenq.config.load import load
from covenq.errors import CovenqError
from covenq.github.app_conversion import CreatedApp

KEY, SECRET = b"-----BEGIN RSA PRIVATE KEY-----\nhush\n", b"hush-hush"
CREATED = CreatedApp(7, "Iv23", "octoapp", "https://github.com/apps/octoapp", KEY, SECRET)
APP = AppSettings(
    7, "Iv23", "github-app.pem", "github-app.secret", "https://api.github.com", "https://covenq.example.org"
)
NAMES = {"github-app.pem": KEY, "github-app.secret": SECRET}
OLD = "# mine\n[worker]\nconcurrency = 2\n"


def place(path: Path, *, old: bool) -> Target:
    path.mkdir()
    if old:
        (path / "covenq.toml").write_text(OLD)
    return target(path / "covenq.toml", str(path), TEMPLATE)


@contextmanager
def stopped(number: int, error: BaseException, *, after: bool) -> Iterator[None]:
    """Files are written as ever, and `error` is raised before, or just after, the one of that number."""
    calls = 0
    functions = {"create": atomic_file.create, "replace": atomic_file.replace}

    def stopping(name: str) -> Any:
        def write(*args: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            done = functions[name](*args, **more) if calls != number or after else None
            if calls == number:
                raise error
            return done

        return write

    with pytest.MonkeyPatch.context() as patch:
        for name in functions:
            patch.setattr(app_configuration.atomic_file, name, stopping(name))
        yield
    assert calls >= number


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")], ids=["ctrl-c", "full"]
)
def test_an_end_in_between_leaves_whole_files_and_says_where_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: BaseException, number: int, after: bool, old: bool
) -> None:  # fmt: skip
    where = place(tmp_path / "d", old=old)
    with stopped(number, error, after=after), pytest.raises((KeyboardInterrupt, CovenqError)):
        keep(where, CREATED, APP)
    said = capsys.readouterr().err
    there = {one.name: one.read_bytes() for one in where.path.parent.iterdir()}
    config = there.pop("covenq.toml", b"").decode()
    written = [*NAMES][: number - 1 + after]
    assert there == {name: NAMES[name] for name in written}, "complete or not at all, and no scratch file"
    assert [f"kept: {where.path.with_name(name)}" in said for name in NAMES] == [name in written for name in NAMES]
    assert ("Its key is lost" in said) == (not written)
    assert "octoapp (7): https://github.com/apps/octoapp" in said and "hush" not in said
    if (number, after) == (3, True):
        assert load(where.path, {}).github_logs.app is not None
        assert f"It is in {where.path}." in said
    else:
        assert config == (OLD if old else "")
        assert not written or 'private_key_file = "github-app.pem"' in said


def test_what_is_there_is_replaced_through_its_link_and_keeps_its_mode(tmp_path: Path) -> None:
    real = tmp_path / "repository" / "covenq.toml"
    real.parent.mkdir()
    real.write_text(OLD)
    real.chmod(0o640)
    link = tmp_path / "d" / "covenq.toml"
    link.parent.mkdir()
    link.symlink_to(real)
    keep(target(link, str(tmp_path), TEMPLATE), CREATED, APP)
    assert link.is_symlink() and real.stat().st_mode & 0o777 == 0o640
    config = load(link, {})
    assert config.concurrency == 2 and config.github_logs.app is not None
    assert config.github_logs.app.keys[0].file == link.with_name("github-app.pem")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")
def test_as_root_the_files_are_the_daemons_users(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, 12345, 12346)
    config = tmp_path / "etc" / "covenq.toml"
    config.parent.mkdir()
    config.write_text(OLD)
    config.chmod(0o640)
    os.chown(config, 0, 12346)
    keep(target(config, str(data), TEMPLATE), CREATED, APP)
    for name in NAMES:
        found = config.with_name(name).stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (12345, 12346, 0o600)
    found = config.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, 12346, 0o640)


def test_nothing_secret_is_in_a_repr() -> None:
    assert "hush" not in repr(CREATED)
