"""Rotation of a webhook secret: which one is meant, and what a crash at any step leaves."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from covenq.config.load import Config, build, load
from covenq.config.secret_source import SecretSource
from covenq.errors import ConfigError, Refused, UsageError
from covenq.model.answers import Secret
from covenq.operate.maintain import secret_rotation
from covenq.operate.maintain.secret_rotation import Rotation, by_hand, install, may_have, plan
from tests.support.other_user import as_nobody

DATA = Path("/var/lib/covenq")


def config_of(*secrets: str) -> Config:
    text = f"[github]\nwebhook_secrets = [{', '.join(secrets)}]\n"
    return build(tomllib.loads(text), Path("/etc/covenq/covenq.toml"), {})


def used(name: str, *, at: str | None = "2026-11-30T00:00:00Z", retire: bool = False) -> Secret:
    return Secret(
        "retire" if retire else "in_use", retire, "", [], name, "file", None, None, True, None, last_used_at=at
    )  # fmt: skip


def planned(
    config: Config,
    *usage: Secret,
    hook: str | None = None,
    chosen: str | None = None,
    is_free: Callable[[Path], bool] = lambda path: True,
) -> Rotation:
    return plan(config, DATA, usage, hook, chosen, is_free)


APP = '{ name = "app", file = "app", repositories = ["octo/*"] }'
R2 = '{ name = "app-r2", file = "app-r2", repositories = ["octo/*"] }'


def test_the_next_secret_has_a_number_behind_its_name_and_the_old_one_s_scope() -> None:
    found = planned(config_of(APP), used("app"))
    assert found.new.name == "app-r2" and found.new.file == Path("/etc/covenq/app-r2")
    assert found.new.scope == found.old.scope and found.added == (found.new,) and not found.configured
    found = planned(config_of(APP, R2), used("app"), used("app-r2"))
    assert (found.old.name, found.new.name, found.new.file) == ("app-r2", "app-r3", Path("/etc/covenq/app-r3"))


def test_a_secret_that_signed_nothing_yet_is_the_new_one() -> None:
    for usage in ((used("app"), used("app-r2", at=None)), (used("app"),), ()):
        found = planned(config_of(APP, R2), *usage)
        assert (found.old.name, found.new.name, found.configured, found.added) == ("app", "app-r2", True, ())


def test_a_name_that_ever_signed_or_a_file_of_somebody_else_s_is_not_used_again() -> None:
    assert planned(config_of(APP), used("app"), used("app-r2")).new.name == "app-r3"
    taken = Path("/etc/covenq/app-r2")
    assert planned(config_of(APP), is_free=lambda path: path != taken).new.name == "app-r3"


def test_of_several_the_one_that_may_not_be_retired_is_meant() -> None:
    other = '{ name = "other", file = "other" }'
    with pytest.raises(UsageError, match="which secret"):
        planned(config_of(APP, other))
    assert planned(config_of(APP, other), used("app", retire=True), used("other")).old.name == "other"
    assert planned(config_of(APP, other), chosen="app").old.name == "app"


def test_the_app_s_own_secret_is_meant_where_others_are_beside_it_and_else_the_one_last_used_is_proposed() -> None:
    config = config_of(*(f'{{ name = "{name}", file = "{name}" }}' for name in ("default", "app-7", "app-7-r4")))
    usage = [used("app-7", at="2026-11-01T00:00:00Z"), used("app-7-r4"), used("default", at=None)]
    assert plan(config, DATA, usage, None, None, lambda path: True, "app-7").old.name == "app-7-r4"
    with pytest.raises(UsageError, match="sign with: app-7-r4, default") as asked:
        planned(config, *usage)
    assert "--secret app-7-r4" in str(asked.value.hint)


def test_the_environment_that_counts_is_the_daemon_s(tmp_path: Path) -> None:
    """A command may have a variable that its daemon has not, or lack one that its daemon has."""
    of_daemon = Secret("in_use", False, "", [], "env", "env", "COVENQ_WEBHOOK_SECRET", None, True, None)
    ours = build({}, Path("/etc/covenq/covenq.toml"), {"COVENQ_WEBHOOK_SECRET": "x"})
    with pytest.raises(UsageError, match="no webhook secret"):
        planned(ours)
    for config in (ours, build({}, Path("/etc/covenq/covenq.toml"), {})):
        assert planned(config, of_daemon).old.env == "COVENQ_WEBHOOK_SECRET"
    (tmp_path / "secret").write_text("x")
    found = plan(ours, tmp_path, [of_daemon, used("default")], None, "default", lambda path: True)
    assert [one.name for one in found.added] == ["default", "default-r2"]


def test_a_hook_s_secret_is_one_that_is_valid_for_it() -> None:
    seven, eight = '{ name = "s", file = "s", hooks = ["7"] }', '{ name = "e", file = "e", hooks = ["8"] }'
    assert planned(config_of(seven, eight), hook="8").old.name == "e"
    with pytest.raises(UsageError, match="no webhook secret"):
        planned(config_of(seven), hook="8")


def test_a_secret_that_stands_in_the_configuration_is_followed_by_one_in_a_file_of_the_data_directory() -> None:
    assert planned(config_of('{ name = "app", value = "x" }')).new.file == DATA / "secret-app-r2"


def test_the_longest_name_has_a_next_one() -> None:
    new = planned(config_of(f'{{ name = "{"a" * 64}", file = "app" }}')).new
    assert len(new.name) <= 64


@pytest.mark.parametrize("kind", ["env", "credential"])
def test_what_covenq_can_not_write_is_left_to_the_operator(kind: str) -> None:
    found = planned(config_of(f'{{ name = "app", {kind} = "SECRET" }}'))
    assert getattr(found.new, kind) == {"env": "SECRET_R2", "credential": "SECRET-r2"}[kind]
    assert by_hand(found, config_of(), "Settings") is not None


AS_NOBODY = """
path = Path(sys.argv[1])
config = load(path, {})
rotation = plan(config, path.parent, (), None, None, may_have)
left = by_hand(rotation, config, "Settings")
print(json.dumps(None if left is None else left))
"""
IMPORTS = """
from covenq.config.load import load
from covenq.operate.maintain.secret_rotation import by_hand, may_have, plan
import covenq.given_file, covenq.config.toml_position, grp, pwd
"""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="cq-", dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.mark.skipif(os.geteuid() != 0, reason="root's files are needed")
def test_who_may_not_write_the_configuration_is_told_the_steps(open_directory: Path) -> None:
    path = open_directory / "covenq.toml"
    path.write_text('[github]\nwebhook_secrets = [{ name = "app", file = "app" }]\n')
    (open_directory / "app").write_text("old")
    reason, steps = as_nobody(AS_NOBODY, path, imports=IMPORTS)
    assert reason == f"{open_directory} can't be written"
    new = open_directory / "app-r2"
    assert steps == [
        f"Make it: (umask 077; openssl rand -hex 32 > {new}), readable by the daemon.",
        f'Add to [github] webhook_secrets in {path}: {{ name = "app-r2", file = "{new}" }}',
        "Run `covenq secrets rotate` again: it gives GitHub the secret, once the daemon has it.",
    ]
    open_directory.chmod(0o777)  # whose files they are can't be kept then
    path.chmod(0o666)
    assert as_nobody(AS_NOBODY, path, imports=IMPORTS)[0] == f"{path} belongs to another user"


# ---- on disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "covenq.toml"
    path.write_text(f'[github] # ours\nwebhook_secrets = [{{ name = "app", file = "{tmp_path / "app"}" }}]\n')
    path.chmod(0o640)
    (tmp_path / "app").write_text("the old one\n")
    (tmp_path / "app").chmod(0o600)
    return path


def rotate(path: Path, token: Callable[[int], str]) -> bytes:
    config = load(path, {})
    return install(plan(config, path.parent, (), None, None, may_have), config, {}, token)


def test_the_new_secret_is_for_those_who_read_the_old_one(path: Path) -> None:
    (path.parent / "app").chmod(0o644)
    assert rotate(path, lambda size: "ab" * size) == b"ab" * 32
    assert stat.S_IMODE((path.parent / "app-r2").stat().st_mode) == 0o640  # its group, and nobody else
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_nothing_is_named_that_would_make_the_configuration_invalid(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_text()
    config = load(path, {})
    wrong = SecretSource("no name", file=path.parent / "app-r2")
    with pytest.raises(ConfigError):
        install(Rotation(config.secrets[0], wrong, False, (wrong,)), config, {}, lambda size: "ab" * size)
    assert path.read_text() == before


def test_a_configuration_that_changed_meanwhile_is_not_overwritten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody saved it between its reading and its replacement."""
    built = secret_rotation.configuration.build

    def save(*given: object) -> object:
        path.write_text(path.read_text() + "# saved\n")
        return built(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(secret_rotation.configuration, "build", save)
    config = load(path, {})
    rotation = plan(config, path.parent, (), None, None, may_have)
    with pytest.raises(Refused, match="meanwhile"):
        secret_rotation._name(path, rotation.added, {})
    assert path.read_text().endswith("# saved\n") and "app-r2" not in path.read_text()


STEPS = {"open", "os.link", "os.rename", "os.remove", "os.chmod", "os.chown"}


def killed_at(step: int, path: Path) -> bool:
    """Rotate in a process that ends, like one that is killed, before its step of that number; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = [step]

        def count(event: str, args: tuple[object, ...]) -> None:
            if event in STEPS and not str(args[0]).endswith((".py", ".pyc")):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)

        def fsync(fd: int, sync: Callable[[int], None] = os.fsync) -> None:
            count("open", ("sync",))
            sync(fd)

        os.fsync = fsync  # type: ignore[assignment]
        sys.addaudithook(count)
        try:
            rotate(path, lambda size: os.urandom(size).hex())
        except BaseException:  # noqa: BLE001 - the parent sees the code
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9), code
    return code == 9


def test_a_crash_at_any_step_leaves_what_the_next_run_goes_on_with(path: Path) -> None:
    text, directory = path.read_text(), path.parent
    new = directory / "app-r2"
    step, kept = 0, 0
    while killed_at(step, path):
        config = load(path, {})  # at no moment is it anything but the old or the new one
        assert [one.name for one in config.secrets] in (["app"], ["app-r2", "app"])
        assert (directory / "app").read_text() == "the old one\n"
        left = new.read_text() if new.exists() else None
        assert left is not None or len(config.secrets) == 1  # nothing is named that isn't there
        value = rotate(path, lambda size: "cd" * size)
        if left is not None:
            kept += 1
            assert value.decode() + "\n" == left
        assert [one.name for one in load(path, {}).secrets] == ["app-r2", "app"]
        assert stat.S_IMODE(new.stat().st_mode) == 0o600
        assert sorted(one.name for one in directory.iterdir()) == ["app", "app-r2", "covenq.toml"]
        path.write_text(text)
        path.chmod(0o640)
        new.unlink()
        step += 1
    assert step > 15 and 5 < kept < step
