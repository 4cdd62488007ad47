"""`covenq secrets rotate` against the stand-in for GitHub over real HTTP, with a daemon and without."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.daemon import Daemon
from tests.support.github_log import APP_ID, Fault, GithubLog, app_table, github
from tests.support.github_settings import Hook
from tests.support.own_covenq import silent_address
from tests.support.requests import HOOK, issue, signed

CONFIG = "/app/hook/config"
OLD = "the secret that GitHub signs with so far"
Make = Callable[..., Daemon]


@pytest.fixture
def server() -> Iterator[GithubLog]:
    with github("/api/v3") as found:
        yield found


def config_of(server: GithubLog, directory: Path, *, secrets: str = "", more: str = "") -> str:
    return f"""
# what covenq receives
[github]
{secrets}
{app_table(server, directory, client_id=None)}
{more}
[[route]]
name = "fix"
match = "event:issues"
run = ["true"]
"""


def file_of(directory: Path, name: str = "app-secret", content: str = OLD) -> Path:
    path = directory / name
    path.write_text(content + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def daemon(make_daemon: Make, server: GithubLog, tmp_path: Path) -> Daemon:
    """A daemon whose one secret is in a file, named in the configuration."""
    secrets = f'webhook_secrets = [{{ name = "app", file = "{file_of(tmp_path)}" }}]'
    return make_daemon(config_of(server, tmp_path, secrets=secrets), secret=None)


def post(daemon: Daemon, secret: str, number: int = 1, hook: str = HOOK) -> int:
    body, headers = signed("issues", issue(number), hook=hook, secret=secret)
    return daemon.request("POST", "/webhook", body, headers).status


def changes(server: GithubLog) -> list[str]:
    """What GitHub was asked to change; a daemon reads its log of deliveries meanwhile."""
    return [one for one in server.asked if not one.startswith("GET ")]


def verdicts(daemon: Daemon) -> dict[str, str]:
    return {one["name"]: one["verdict"] for one in daemon.cli_json("secrets")["items"]}


def everything_under(*places: Path) -> bytes:
    return b"".join(one.read_bytes() for place in places for one in place.rglob("*") if one.is_file())


def test_a_secret_is_rotated_with_nothing_refused_until_the_old_one_may_be_retired(
    daemon: Daemon, server: GithubLog, tmp_path: Path
) -> None:
    assert post(daemon, OLD) == 202
    at_the_patch: list[int] = []

    def before_change(path: str) -> None:
        """GitHub may sign with the new one from now on: it has to be valid already."""
        (new,) = (one for one in tmp_path.glob("app-secret-*"))
        at_the_patch.extend([post(daemon, new.read_text().strip(), 2), post(daemon, OLD, 3)])

    server.settings.before_change = before_change
    said = daemon.cli_json("secrets", "rotate", "--yes")
    new_file = tmp_path / "app-secret-r2"
    assert said == {
        "owner": f"app {APP_ID}", "secret": "app-r2", "replaces": "app", "file": str(new_file),
        "configuration": str(daemon.config), "github": "set", "dry_run": False,
    }  # fmt: skip
    assert at_the_patch == [202, 202]
    (new,) = server.settings.app.secrets
    assert len(new) == 64 and new_file.read_text() == new + "\n"
    assert stat.S_IMODE(new_file.stat().st_mode) == 0o600
    assert changes(server) == [f"PATCH /api/v3{CONFIG}"]
    assert post(daemon, OLD, 4) == 202  # sent before GitHub had it, and on its way since
    assert verdicts(daemon)["app"] == "in_use"
    assert post(daemon, new, 5) == 202
    assert verdicts(daemon) == {"app-r2": "in_use", "app": "retire"}
    assert post(daemon, "neither", 6) == 401
    assert daemon.config is not None
    text = daemon.config.read_text()
    assert text.startswith("\n# what covenq receives\n") and text.count('name = "app') == 2
    assert new.encode() not in everything_under(daemon.data) + daemon.log.read_bytes()


def test_the_old_one_waits_while_another_hook_has_not_signed_since(daemon: Daemon, server: GithubLog) -> None:
    assert [post(daemon, OLD, 1, hook="1"), post(daemon, OLD, 2, hook="2")] == [202, 202]
    daemon.cli("secrets", "rotate", "--yes")
    assert post(daemon, server.settings.app.secrets[0], 3, hook="1") == 202
    assert verdicts(daemon)["app"] == "wait"


def test_the_next_rotation_is_of_the_newest(daemon: Daemon, server: GithubLog, tmp_path: Path) -> None:
    for number in range(3):
        said = daemon.cli_json("secrets", "rotate", "--yes")
        assert said["secret"] == f"app-r{number + 2}"
        assert post(daemon, server.settings.app.secrets[-1], number) == 202
    assert said["replaces"] == "app-r3" and len(set(server.settings.app.secrets)) == 3
    # What has signed something was given to GitHub: its name and its file are not used again.
    assert sorted(one.name for one in tmp_path.glob("app-secret*")) == [
        "app-secret", "app-secret-r2", "app-secret-r3", "app-secret-r4",
    ]  # fmt: skip


def test_a_second_run_gives_github_the_same_secret_while_nothing_was_signed_with_it(
    daemon: Daemon, server: GithubLog, tmp_path: Path
) -> None:
    daemon.cli("secrets", "rotate", "--yes")
    daemon.cli("secrets", "rotate", "--yes")
    first, second = server.settings.app.secrets
    assert first == second and len([*tmp_path.glob("app-secret-*")]) == 1


def test_the_secret_that_the_first_start_made_is_rotated(make_daemon: Make, server: GithubLog, tmp_path: Path) -> None:
    daemon = make_daemon(config_of(server, tmp_path), secret=None)
    old = (daemon.data / "secret").read_text().strip()
    assert post(daemon, old) == 202
    assert daemon.cli_json("secrets", "rotate", "--yes")["secret"] == "default-r2"
    new = (daemon.data / "secret-r2").read_text().strip()
    assert server.settings.app.secrets == [new]
    assert [post(daemon, old, 2), post(daemon, new, 3)] == [202, 202]
    assert verdicts(daemon) == {"default": "retire", "default-r2": "in_use"}
    daemon.cli("verify", "--signatures")


def test_without_a_daemon_the_next_start_has_both(daemon: Daemon, server: GithubLog) -> None:
    daemon.stop()
    assert b"No daemon runs" in daemon.cli("secrets", "rotate", "--yes").stderr
    daemon.start()
    assert [post(daemon, OLD), post(daemon, server.settings.app.secrets[0], 2)] == [202, 202]


def test_a_dry_run_changes_nothing(daemon: Daemon, server: GithubLog, tmp_path: Path) -> None:
    before = daemon.config.read_text() if daemon.config else ""
    said = daemon.cli_json("secrets", "rotate", "--dry-run")
    assert (said["github"], said["secret"], said["dry_run"]) == ("planned", "app-r2", True)
    assert daemon.config is not None and daemon.config.read_text() == before
    assert not [*tmp_path.glob("app-secret-*")] and not changes(server)


def test_without_a_terminal_it_is_not_done_unasked(daemon: Daemon, server: GithubLog, tmp_path: Path) -> None:
    assert b"--yes" in daemon.cli("secrets", "rotate", exit_code=2).stderr
    assert not [*tmp_path.glob("app-secret-*")] and not changes(server)


# ---- hooks of repositories and organisations


def hook_config(server: GithubLog, tmp_path: Path) -> str:
    """An App, and two hooks, each with a secret of its own scope."""
    server.tokens["/repos/octo/hello/hooks/7/deliveries"] = "a-token-of-seven"
    server.tokens["/orgs/acme/hooks/8/deliveries"] = "a-token-of-eight"
    server.settings.hooks |= {"/repos/octo/hello/hooks/7": Hook(), "/orgs/acme/hooks/8": Hook()}
    secrets = f"""webhook_secrets = [
  {{ name = "seven", file = "{file_of(tmp_path, "seven", "the secret of seven")}", hooks = ["7"] }},
  {{ name = "eight", file = "{file_of(tmp_path, "eight", "the secret of eight")}", hooks = ["8"] }},
]"""
    more = f"""
[[github.hook]]
id = "7"
repo = "octo/hello"
token.value = "a-token-of-seven"
api_url = "{server.url}"
[[github.hook]]
id = "8"
org = "acme"
token.value = "a-token-of-eight"
api_url = "{server.url}"
"""
    return config_of(server, tmp_path, secrets=secrets, more=more)


@pytest.mark.parametrize(
    ("name", "path", "old", "id"),
    [("octo/hello", "/repos/octo/hello/hooks/7", "seven", "7"), ("8", "/orgs/acme/hooks/8", "eight", "8")],
)
def test_a_hook_s_secret_is_rotated_within_its_scope(
    make_daemon: Make, server: GithubLog, tmp_path: Path, name: str, path: str, old: str, id: str
) -> None:
    daemon = make_daemon(hook_config(server, tmp_path), secret=None)
    said = daemon.cli_json("secrets", "rotate", "--hook", name, "--yes")
    assert (said["replaces"], said["secret"]) == (old, f"{old}-r2")
    assert changes(server) == [f"PATCH /api/v3{path}/config"]
    (new,) = server.settings.hooks[path].secrets
    assert [post(daemon, new, 1, hook=id), post(daemon, f"the secret of {old}", 2, hook=id)] == [202, 202]
    assert post(daemon, new, 3, hook="9") == 401


def test_which_webhook_and_which_secret_have_to_be_clear(make_daemon: Make, server: GithubLog, tmp_path: Path) -> None:
    daemon = make_daemon(hook_config(server, tmp_path), secret=None, start=False)
    daemon.data.mkdir(mode=0o700)
    for args, words in (
        ([], b"several webhooks"),
        (["--hook", "9"], b"no [[github.hook]] is '9'"),
        (["--app", "--hook", "7"], b"two webhooks"),
        (["--app"], b"--secret seven"),
        (["--app", "--secret", "nine"], b"no secret 'nine'"),
        (["--hook", "7", "--secret", "eight"], b"no secret 'eight'"),
    ):
        assert words in daemon.cli("secrets", "rotate", "--yes", *args, exit_code=2).stderr, args
    assert not changes(server) and not [*tmp_path.glob("*-r2")]
    assert daemon.cli_json("secrets", "rotate", "--app", "--secret", "eight", "--dry-run")["replaces"] == "eight"


def test_without_anything_of_github_s_in_the_configuration_it_says_what_is_missing(make_daemon: Make) -> None:
    daemon = make_daemon('[[route]]\nname = "a"\nmatch = "event:push"\nrun = ["true"]\n', start=False)
    daemon.data.mkdir(mode=0o700)
    said = daemon.cli("secrets", "rotate", "--yes", exit_code=2).stderr
    assert b"names no webhook of GitHub's" in said and b"[github.app]" in said


# ---- what GitHub refuses, and what isn't known


REFUSALS = (
    (Fault(403, method="PATCH"), 4, b"(403)"),
    (Fault(404, method="PATCH"), 4, b"(404)"),
    (Fault(422, method="PATCH"), 4, b"422"),
    (Fault(401, method="PATCH"), 4, b"(401)"),
    (Fault(302, {"Location": "http://127.0.0.1:1/"}, method="PATCH"), 4, b"redirect"),
    (Fault(403, {"Retry-After": "9"}, method="PATCH"), 1, b"takes no more requests"),
)


def test_what_github_refuses_changes_nothing_there_and_the_next_run_goes_on_with_it(
    daemon: Daemon, server: GithubLog, tmp_path: Path
) -> None:
    made = set[str]()
    for number, (fault, exit_code, words) in enumerate(REFUSALS, 1):
        server.faults.append(fault)
        said = daemon.cli("secrets", "rotate", "--yes", exit_code=exit_code)
        assert words in said.stderr and b"it signs with what it had before, app, or app-r2" in said.stderr
        assert said.stdout == b""
        assert not server.settings.app.secrets and len(changes(server)) == number
        made.add((tmp_path / "app-secret-r2").read_text().strip())
        assert not any(one.encode() in said.stderr for one in made)
    (new,) = made
    assert [post(daemon, OLD), post(daemon, new, 2)] == [202, 202]


def test_of_what_is_refused_when_github_has_the_new_secret_nobody_is_told_that_it_has_not(
    daemon: Daemon, server: GithubLog
) -> None:
    daemon.cli("secrets", "rotate", "--yes")
    for fault, exit_code, words in REFUSALS:
        server.faults.append(fault)
        said = daemon.cli("secrets", "rotate", "--yes", exit_code=exit_code).stderr
        assert words in said and b"still signs" not in said and b"nothing signs" not in said
        assert b"This changed nothing at GitHub" in said and b"what is held" not in said
    (unused,) = (one for one in daemon.cli_json("secrets")["items"] if one["name"] == "app-r2")
    assert unused["verdict"] == "unused" and "GitHub may have been given it" in unused["reason"]
    assert "take it away" not in unused["reason"]


def test_of_a_github_that_takes_no_connection_it_is_known_that_it_was_not_told(
    daemon: Daemon, server: GithubLog
) -> None:
    assert daemon.config is not None
    text = daemon.config.read_text()
    daemon.stop()
    daemon.config.write_text(text.replace(server.url, f"http://{silent_address()}"))
    said = daemon.cli("secrets", "rotate", "--yes", exit_code=1).stderr
    assert b"takes no connection" in said and b"This changed nothing at GitHub" in said and b"not known" not in said


def test_what_was_refused_is_done_by_the_next_run(daemon: Daemon, server: GithubLog, tmp_path: Path) -> None:
    server.faults.append(Fault(403, method="PATCH"))
    daemon.cli("secrets", "rotate", "--yes", exit_code=4)
    daemon.cli("secrets", "rotate", "--yes")
    assert server.settings.app.secrets == [(tmp_path / "app-secret-r2").read_text().strip()]


def test_an_unknown_outcome_is_told_and_the_next_run_sets_the_same_again(
    daemon: Daemon, server: GithubLog, tmp_path: Path
) -> None:
    for number, fault in enumerate((Fault(502, method="PATCH"), Fault(truncated=True, method="PATCH")), 1):
        server.faults.append(fault)
        said = daemon.cli("secrets", "rotate", "--yes", exit_code=1)
        assert b"It is not known whether GitHub signs with app-r2" in said.stderr and b"Run it again" in said.stderr
        assert len(changes(server)) == number
    daemon.cli("secrets", "rotate", "--yes")
    once, again = server.settings.app.secrets  # of the cut answer GitHub had the question
    assert once == again == (tmp_path / "app-secret-r2").read_text().strip()


def test_a_kill_while_github_is_told_leaves_what_the_next_run_goes_on_with(
    daemon: Daemon, server: GithubLog, tmp_path: Path
) -> None:
    begun: list[subprocess.Popen[bytes]] = []

    def kill(path: str) -> None:
        server.settings.before_change = lambda path: None
        begun[0].kill()

    server.settings.before_change = kill
    begun.append(subprocess.Popen(
        [sys.executable, "-m", "covenq", "secrets", "rotate", "--yes"], env=daemon.environment(), cwd=ROOT
    ))  # fmt: skip
    assert begun[0].wait(60) == -signal.SIGKILL
    daemon.cli("secrets", "rotate", "--yes")
    assert set(server.settings.app.secrets) == {(tmp_path / "app-secret-r2").read_text().strip()}
    assert post(daemon, server.settings.app.secrets[-1]) == 202


def test_a_daemon_that_refuses_the_configuration_keeps_github_from_being_told(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    """Here for a reason that has nothing to do with the new secret: the file of another one is gone."""
    secrets = f'''webhook_secrets = [
  {{ name = "app", file = "{file_of(tmp_path)}" }},
  {{ name = "other", file = "{file_of(tmp_path, "other", "that of another App")}" }},
]'''
    daemon = make_daemon(config_of(server, tmp_path, secrets=secrets), secret=None)
    (tmp_path / "other").unlink()
    said = daemon.cli("secrets", "rotate", "--yes", "--secret", "app", exit_code=1)
    assert b"so GitHub was not told of app-r2" in said.stderr and b"'other'" in said.stderr
    assert not changes(server)
    file_of(tmp_path, "other", "that of another App")
    daemon.cli("secrets", "rotate", "--yes", "--secret", "app")
    assert server.settings.app.secrets == [(tmp_path / "app-secret-r2").read_text().strip()]


def test_of_a_daemon_that_does_not_answer_nothing_is_changed(daemon: Daemon, server: GithubLog, tmp_path: Path) -> None:
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        daemon.cli("secrets", "rotate", "--yes", exit_code=6)
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    assert not changes(server) and not [*tmp_path.glob("app-secret-*")]


def test_two_at_once_are_one(daemon: Daemon, server: GithubLog, tmp_path: Path) -> None:
    others: list[subprocess.CompletedProcess[bytes]] = []

    def meanwhile(path: str) -> None:
        server.settings.before_change = lambda path: None
        others.append(daemon.cli("secrets", "rotate", "--yes", exit_code=4))

    server.settings.before_change = meanwhile
    daemon.cli("secrets", "rotate", "--yes")
    assert b"another process rotates" in others[0].stderr
    assert len(server.settings.app.secrets) == 1


# ---- what is left to the operator


def by_hand(daemon: Daemon, *args: str) -> str:
    said = daemon.cli("secrets", "rotate", "--yes", *args, exit_code=4)
    assert said.stdout == b"" and b"nothing was changed" in said.stderr
    return said.stderr.decode()


def test_of_a_variable_it_says_what_to_do_and_changes_nothing(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    daemon = make_daemon(config_of(server, tmp_path), start=False)
    daemon.data.mkdir(mode=0o700)
    assert daemon.config is not None
    before = daemon.config.read_text()
    said = by_hand(daemon)
    assert '{ name = "env-r2", env = "COVENQ_WEBHOOK_SECRET_R2" }' in said
    assert "the App's settings, Webhook, Secret" in said and "Restart the daemon" in said
    assert daemon.config.read_text() == before and not changes(server)


def test_the_steps_of_a_variable_end_in_a_rotated_secret(make_daemon: Make, server: GithubLog, tmp_path: Path) -> None:
    daemon = make_daemon(config_of(server, tmp_path), secret=OLD)
    assert post(daemon, OLD) == 202
    by_hand(daemon)
    secrets = 'webhook_secrets = [{ name = "env-r2", env = "COVENQ_WEBHOOK_SECRET_R2" }]'
    daemon.stop()
    assert daemon.config is not None
    daemon.config.write_text(config_of(server, tmp_path, secrets=secrets))
    daemon.env["COVENQ_WEBHOOK_SECRET_R2"] = "made by hand, by openssl"
    daemon.start()
    left = by_hand(daemon)
    assert "give the same value to GitHub" in left and "Make a secret" not in left
    assert post(daemon, "made by hand, by openssl", 2) == 202
    assert verdicts(daemon) == {"env-r2": "in_use", "env": "retire"}


def test_of_a_systemd_credential_it_says_what_to_do_and_changes_nothing(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    secrets = 'webhook_secrets = [{ name = "github", credential = "webhook-secret" }]'
    daemon = make_daemon(config_of(server, tmp_path, secrets=secrets), secret=None, start=False)
    daemon.data.mkdir(mode=0o700)
    said = by_hand(daemon)
    assert '{ name = "github-r2", credential = "webhook-secret-r2" }' in said and "LoadCredential" in said
    assert not changes(server)


def test_where_the_configuration_can_not_be_extended_the_operator_is_told_the_line(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    key = tmp_path / "app.pem"
    text = f"""
github = {{ webhook_secrets = [], app = {{ id = 1, private_key_file = "{key}", api_url = "{server.url}" }} }}
"""
    text = text.replace("webhook_secrets = [], ", "")
    key.write_bytes(server.private_key)
    daemon = make_daemon(text, secret=None)
    said = by_hand(daemon)
    file = daemon.data / "secret-r2"
    entries = f'{{ name = "default", file = "{daemon.data / "secret"}" }}, {{ name = "default-r2", file = "{file}" }}'
    assert entries in said and f"openssl rand -hex 32 > {file}" in said
    assert not file.exists() and not changes(server)
    server.issuers += ("1",)
    file.write_text("ab" * 32 + "\n")  # as the steps say
    assert daemon.config is not None
    daemon.config.write_text(text.replace("app =", f"webhook_secrets = [{entries}], app ="))
    daemon.cli("secrets", "rotate", "--yes")
    assert server.settings.app.secrets == ["ab" * 32] and post(daemon, "ab" * 32) == 202


def test_a_file_that_is_somebody_else_s_is_left_alone(daemon: Daemon, server: GithubLog, tmp_path: Path) -> None:
    theirs = tmp_path / "app-secret-r2"
    theirs.write_text("something of an operator's")
    assert daemon.cli_json("secrets", "rotate", "--yes")["secret"] == "app-r3"
    assert theirs.read_text() == "something of an operator's" and (tmp_path / "app-secret-r3").exists()


def test_a_link_to_the_configuration_stays_one(make_daemon: Make, server: GithubLog, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    secrets = f'webhook_secrets = [{{ name = "app", file = "{file_of(tmp_path)}" }}]'
    real = place / "real.toml"
    real.write_text(config_of(server, tmp_path, secrets=secrets))
    real.chmod(0o640)
    link = tmp_path / "link.toml"
    link.symlink_to(real)
    daemon = make_daemon(link, secret=None)
    daemon.cli("secrets", "rotate", "--yes")
    assert link.is_symlink() and "app-r2" in real.read_text() and stat.S_IMODE(real.stat().st_mode) == 0o640
    assert [one.name for one in place.iterdir()] == ["real.toml"]


def test_a_daemon_with_another_configuration_is_named_and_nothing_is_changed(
    daemon: Daemon, server: GithubLog, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    assert daemon.config is not None
    other.write_text(daemon.config.read_text())
    said = daemon.cli("secrets", "rotate", "--yes", "--config", str(other), exit_code=4)
    assert str(daemon.config).encode() in said.stderr
    assert not changes(server) and not [*tmp_path.glob("app-secret-*")]
