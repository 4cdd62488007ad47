"""A forward that is signed anew: with the secret as it is when the attempt runs; and what is said where it is not."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from covenq.config.load import build
from covenq.errors import ConfigError
from tests.support.daemon import Daemon
from tests.support.receiver import Receiver, Said, receiving
from tests.support.requests import issue, sign, signed
from tests.support.waiting import eventually

OLD, NEW = "the old secret of the hook", "the new secret of the hook"


class App(Receiver):
    """A GitHub App with one secret: 401 for what isn't signed with it, and 503 while it is `down`."""

    def __init__(self) -> None:
        super().__init__()
        self.secret = OLD
        self.down = False
        self.answer = self._judge

    def _judge(self, number: int) -> Said:
        _, _, good = self.seen[number - 1]
        return 503 if self.down else 200 if good else 401, {}, b""


@pytest.fixture
def app() -> Iterator[App]:
    with receiving(App()) as server:
        yield server


def config(app: App, secrets: str, more: str = "") -> str:
    return (
        f"[github]\nwebhook_secrets = [{secrets}]\n"
        f'[[route]]\nname = "f"\nmatch = "event:issues"\nforward = "{app.url}"\n{more}\n'
    )


def task_in(daemon: Daemon, id: str, state: str) -> dict[str, Any]:
    row: dict[str, Any] = daemon.api(f"/api/v1/tasks/{id}").json
    assert row["state"] == state, row
    return row


def post(daemon: Daemon, guid: str, secret: str, **more: str) -> str:
    body, headers = signed("issues", issue(), guid, "9", secret=secret, **more)
    answer = daemon.request("POST", "/webhook", body, headers)
    assert answer.status == 202, answer
    return str(answer.json["tasks"][0])


def test_it_is_signed_with_the_secret_as_it_is_when_the_attempt_runs(
    make_daemon: Callable[..., Daemon], app: App, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(OLD)
    daemon = make_daemon(
        config(app, f'{{ name = "app", file = "{file}" }}', 'sign = "app"\nretry = { max = 9, backoff = "300ms" }'),
        secret=None,
    )
    app.down = True
    sha1 = "sha1=" + hmac.new(OLD.encode(), b"x", hashlib.sha1).hexdigest()
    task = post(daemon, "g1", OLD, X_Hub_Signature=sha1)
    eventually(lambda: app.seen)
    file.write_text(NEW)
    eventually(lambda: daemon.api("/api/v1/status").json["reload"]["number"] > 1)
    app.secret, app.down = NEW, False
    eventually(lambda: task_in(daemon, task, "completed"))
    (first, body, _), (last, again, _) = app.seen[0], app.seen[-1]
    assert body == again and first["x-hub-signature-256"] == sign(body, OLD)
    assert last["x-hub-signature"] == "sha1=" + hmac.new(NEW.encode(), body, hashlib.sha1).hexdigest()
    plain = post(daemon, "g2", NEW)
    eventually(lambda: task_in(daemon, plain, "completed"))
    assert "x-hub-signature" not in app.seen[-1][0], "what did not come is not made up"
    assert "signed with the secret 'app'" in daemon.cli("routes").stdout.decode().replace("\n", " ")
    kept = b"".join(path.read_bytes() for path in daemon.data.rglob("*") if path.is_file())
    assert NEW.encode() not in kept and OLD.encode() not in kept


def test_a_secret_that_is_gone_fails_the_task_with_what_to_do(make_daemon: Callable[..., Daemon], app: App) -> None:
    both = f'{{ name = "app", value = "{OLD}" }}, {{ name = "two", value = "{NEW}" }}'
    daemon = make_daemon(config(app, both, 'sign = "app"\nretry = { max = 9, backoff = "300ms" }'), secret=None)
    app.down = True
    task = post(daemon, "g1", NEW)
    eventually(lambda: app.seen)
    assert daemon.config is not None
    daemon.config.write_text(config(app, f'{{ name = "two", value = "{NEW}" }}', 'sign = "two"'))
    row = eventually(lambda: task_in(daemon, task, "failed"))
    assert row["category"] == "policy" and "'app'" in row["detail"]
    assert "covenq replay 9/g1" in daemon.cli("why", "g1").stdout.decode()


def test_why_says_what_a_rotation_did_to_a_forward(make_daemon: Callable[..., Daemon], app: App) -> None:
    both = f'{{ name = "old", value = "{OLD}" }}, {{ name = "new", value = "{NEW}" }}'
    daemon = make_daemon(config(app, both), secret=None)
    app.secret = NEW
    task = post(daemon, "g1", OLD)
    eventually(lambda: task_in(daemon, task, "failed"))
    accepted = post(daemon, "g2", NEW)
    eventually(lambda: task_in(daemon, accepted, "completed"))
    said = daemon.cli("why", "g1").stdout.decode()
    assert "the signature it came with, by the secret 'old' as it was then" in said
    assert "hook 9 signs with 'new' since" in said
    assert 'sign = "new"' in said and "covenq replay 9/g1" in said
    assert "requeue" not in said, "it would send the same signature again"
    assert daemon.config is not None
    daemon.config.write_text(config(app, both, 'sign = "new"'))
    eventually(lambda: daemon.api("/api/v1/status").json["reload"]["number"] > 1)
    said = daemon.cli("why", "g1").stdout.decode()
    assert "today route f signs anew, with 'new'" in said
    daemon.cli("replay", "9/g1")
    replayed = eventually(lambda: daemon.api("/api/v1/deliveries/9/g1").json["tasks"][1:])[0]
    eventually(lambda: task_in(daemon, replayed, "completed"))


def test_why_says_so_where_the_secret_kept_its_name(make_daemon: Callable[..., Daemon], app: App) -> None:
    daemon = make_daemon(config(app, f'{{ name = "app", value = "{OLD}" }}'), secret=None)
    app.secret = NEW
    task = post(daemon, "g1", OLD)
    eventually(lambda: task_in(daemon, task, "failed"))
    said = daemon.cli("why", "g1").stdout.decode()
    assert "by the secret 'app' as it was then" in said and 'sign = "app"' in said


def test_why_says_so_of_a_signature_anew_that_was_refused_too(make_daemon: Callable[..., Daemon], app: App) -> None:
    daemon = make_daemon(config(app, f'{{ name = "app", value = "{OLD}" }}', 'sign = "app"'), secret=None)
    app.secret = NEW
    task = post(daemon, "g1", OLD)
    eventually(lambda: task_in(daemon, task, "failed"))
    said = daemon.cli("why", "g1").stdout.decode()
    assert "by the secret 'app' as it was here then" in said and f"covenq requeue {task}" in said


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"forward": "http://x/", "sign": "none"}, "sign: 'none' is no secret of \\[github\\] webhook_secrets"),
        ({"forward": "http://x/", "sign": "ap"}, "did you mean app"),
        ({"forward": "http://x/", "sign": ""}, "sign: "),
        ({"run": ["true"], "sign": "app"}, "sign: is of forward; this route has run"),
        ({"pull": True, "sign": "app"}, "sign: is of forward; this route has pull"),
    ],
)
def test_a_sign_that_can_not_be_done_is_refused(more: dict[str, object], problem: str) -> None:
    github = {"webhook_secrets": [{"name": "app", "value": OLD}]}
    with pytest.raises(ConfigError, match=problem):
        build({"github": github, "route": [{"name": "f", "match": "", **more}]}, None, {})


@pytest.mark.parametrize("name", ["app", "env"])
def test_a_secret_of_the_environment_may_be_absent_from_that_of_a_command(name: str) -> None:
    github = {"webhook_secrets": [{"name": "app", "value": OLD}]}
    route = {"name": "f", "match": "", "forward": "http://x/", "sign": name}
    (read,) = build({"github": github, "route": [route]}, None, {}).routes
    assert read.policy["sign"] == name
    default = build({"route": [{**route, "sign": "default"}]}, None, {}).routes[0]
    assert default.policy["sign"] == "default"
