"""`covenq init --github-app`: an App made through GitHub's manifest flow, against a stand-in for GitHub. Real processes, and an
HTTP client for a browser.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from covenq.config.load import load
from tests.support.checkout import clean_env
from tests.support.commands import run_command
from tests.support.daemon import Daemon
from tests.support.github_apps import Browser
from tests.support.github_log import APP_ID, CLIENT_ID, Fault, GithubLog, app_key, github, new_key
from tests.support.requests import signed
from tests.support.waiting import eventually

URL = "https://covenq.example.org"
ROUTES = '[[route]]\nname = "a"\nmatch = "event:push,workflow_*,installation,meta"\nrun = ["true"]\n'


class Init:
    """`covenq init --github-app`; its `browser` opens what it opens. It runs from the first look at it, or at its `end`."""

    def __init__(self, path: Path, hub: GithubLog, *words: str, ssh: bool = False, url: str | None = URL) -> None:
        self.dir, self.hub, self.browser = path, hub, Browser()
        self.opened = path.with_name("opened")
        script = path.with_name("browser")
        script.write_text(f'#!/bin/sh\nprintf %s "$*" > {self.opened}.new\nmv {self.opened}.new {self.opened}\n')
        script.chmod(0o700)
        self.env = clean_env(BROWSER=str(script), DISPLAY=":0", COVENQ_DATA=str(path))
        for name in ("SSH_CONNECTION", "SSH_TTY"):
            self.env.pop(name, None)
        if ssh:
            self.env["SSH_CONNECTION"] = "192.0.2.1 50000 192.0.2.2 22"
        given = [] if url is None else ["--url", url]
        self.args = ["init", "--github-app", "--api-url", hub.url, *given, *words]
        self.out = self.err = ""

    @cached_property
    def process(self) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        argv = [sys.executable, "-m", "covenq", *self.args]
        return subprocess.Popen(argv, env=self.env, stdin=pipe, stdout=pipe, stderr=pipe)

    @property
    def begun(self) -> bool:
        return "process" in vars(self)

    @property
    def config(self) -> Path:
        return self.dir / "covenq.toml"

    @property
    def key(self) -> Path:
        return self.dir / "github-app.pem"

    @property
    def secret(self) -> Path:
        return self.dir / "github-app.secret"

    def page_url(self) -> str:
        def told() -> str:
            assert self.process.poll() is None, self.process.communicate()
            return self.opened.read_text()

        return eventually(told, 30, "the browser is opened")

    def made(self) -> str:
        """What a person does in the browser, up to GitHub's redirect: its address."""
        page = self.browser.get(self.page_url())
        assert page.status == 200
        return self.browser.submit(page)

    def file(self) -> Path:
        """The page that is to be opened elsewhere, once it is there."""

        def told() -> list[Path]:
            assert self.process.poll() is None, self.process.communicate()
            return [self.dir / name for name in self.files() if name.endswith(".html")]

        return eventually(told, 30, "the page is written")[0]

    def end(self, code: int = 0, stdin: str = "") -> str:
        if self.begun:
            out, err = self.process.communicate(stdin.encode(), timeout=60)
            ended = self.process.returncode
        else:
            done = run_command(self.args, self.env, stdin.encode())
            out, err, ended = done.stdout, done.stderr, done.returncode
        self.out, self.err = out.decode(), err.decode()
        assert ended == code, self.err
        assert "Traceback" not in self.err
        return self.err

    def files(self) -> set[str]:
        return {one.name for one in self.dir.iterdir()} if self.dir.exists() else set()


@pytest.fixture
def hub() -> Iterator[GithubLog]:
    with github("/api/v3") as server:
        yield server


@pytest.fixture
def start(data: Path, hub: GithubLog) -> Iterator[Callable[..., Init]]:
    """start(*words, **more) → the command, running; ended with the test."""
    begun: list[Init] = []

    def begin(*words: str, **more: object) -> Init:
        one = Init(data, hub, *words, **more)  # type: ignore[arg-type]
        begun.append(one)
        return one

    yield begin
    for one in begun:
        if one.begun:
            one.process.kill()
            one.process.communicate()


def told_nowhere(init: Init, *secret: str) -> None:
    """Nothing that is secret is in what was said, or in an argument of a process."""
    words = [init.out, init.err, *init.args, init.opened.read_text() if init.opened.exists() else ""]
    for one in (*secret, init.hub.private_key.decode(), str(init.hub.apps.webhook_secret), "BEGIN"):
        assert not any(one in text for text in words)


def test_an_app_is_made_and_the_daemon_starts_with_it(start: Callable[..., Init], data: Path, hub: GithubLog) -> None:
    init = start("--org", "octo-org", "--name", "covenq at home")
    redirect = init.made()
    assert not init.files(), "nothing is written before GitHub has answered"
    done = init.browser.get(redirect)
    assert done.status == 200 and "code" in done.text
    init.end()
    (manifest,), (owner,) = hub.apps.manifests, hub.apps.owners
    assert owner == "octo-org"
    assert manifest == {
        "name": "covenq at home",
        "url": URL,
        "hook_attributes": {"url": f"{URL}/webhook", "active": True},
        "redirect_url": redirect.partition("?")[0],
        "public": False,
        "default_permissions": {"contents": "read", "issues": "read", "metadata": "read", "pull_requests": "read"},
        "default_events": ["issue_comment", "issues", "pull_request", "push"],
    }
    assert init.key.read_bytes() == hub.private_key
    assert init.secret.read_text() == hub.apps.webhook_secret
    assert {one.stat().st_mode & 0o777 for one in (init.key, init.secret)} == {0o600}
    assert init.files() == {"covenq.toml", "github-app.pem", "github-app.secret"}
    assert init.out == f"{init.config}\n"
    config = load(init.config, {})
    app = config.github_logs.app
    assert app is not None
    assert (app.id, app.client_id, app.api_url, app.keys[0].file) == (APP_ID, CLIENT_ID, hub.url, init.key)
    assert config.public_url == URL
    assert [(one.name, one.file) for one in config.secrets] == [(f"app-{APP_ID}", init.secret)]
    told_nowhere(init, *redirect.partition("?")[2].split("&"))

    daemon = Daemon(data=data, secret=None).start()
    try:
        body, headers = signed("issues", {"action": "opened"}, secret=str(hub.apps.webhook_secret))
        answer = daemon.request("POST", "/webhook", body, headers)
        assert answer.status == 202, answer.body
        assert daemon.api(f"/api/v1/deliveries/{headers['X-GitHub-Delivery']}").json["secret"] == f"app-{APP_ID}"
        listed = daemon.cli("reconcile", "--dry-run")
        assert listed.returncode == 0, "GitHub takes the key and the id that were written"
    finally:
        daemon.stop()


def test_a_configuration_that_is_there_is_kept_and_says_what_is_asked_for(
    start: Callable[..., Init], data: Path, hub: GithubLog
) -> None:
    data.mkdir()
    (data / "secret").write_text("the-secret-of-the-first-start")
    before = f"# mine\n[server]  # here\npath = '/hook'\npublic_url = \"{URL}/proxy\"\n\n{ROUTES}"
    config = data / "covenq.toml"
    config.write_text(before)
    config.chmod(0o640)
    init = start(url=None)
    page = init.browser.get(init.page_url())
    init.browser.get(init.browser.submit(page))
    assert "meta" in init.end(), "what no manifest can ask for is said"
    (manifest,) = hub.apps.manifests
    assert manifest["hook_attributes"]["url"] == f"{URL}/proxy/hook"
    assert manifest["default_events"] == ["push", "workflow_dispatch", "workflow_job", "workflow_run"]
    assert manifest["default_permissions"] == {"actions": "read", "contents": "read", "metadata": "read"}
    text = config.read_text()
    assert text.startswith(before), "what stood there stands there"
    assert config.stat().st_mode & 0o777 == 0o640
    after = tomllib.loads(text)
    assert after.pop("github")["webhook_secrets"] == [
        {"name": f"app-{APP_ID}", "file": "github-app.secret"},
        {"name": "default", "file": str(data / "secret")},
    ], "deliveries signed with the secret that counted are let in as before"
    assert after == tomllib.loads(before)


def test_the_configuration_is_that_of_the_running_daemon(
    start: Callable[..., Init], data: Path, tmp_path: Path, hub: GithubLog
) -> None:
    config = tmp_path / "elsewhere.toml"
    config.write_text('[github]\nhooks = ["7"]\n')
    daemon = Daemon(data=data, config=config, secret=None).start()
    try:
        init = start()
        init.browser.get(init.made())
        said = init.end()
        assert f"is the running daemon's: {config}" in said
        assert "[github] hooks lists who may deliver" in said
        assert not init.config.exists() and init.out == f"{config}\n"
        assert load(config, {}).github_logs.app is not None
        assert (tmp_path / "github-app.pem").read_bytes() == hub.private_key
        secret = str(hub.apps.webhook_secret)
        body, headers = signed("issues", {"action": "opened"}, hook="7", secret=secret)
        eventually(
            lambda: daemon.request("POST", "/webhook", body, headers).status in (200, 202),
            30,
            "it takes it up by itself",
        )
        old = (data / "secret").read_text().strip()
        body, headers = signed("issues", {"action": "closed"}, hook="7", secret=old)
        assert daemon.request("POST", "/webhook", body, headers).status == 202, "and the secret before counts as it did"
    finally:
        daemon.stop()


def test_a_redirect_of_another_state_ends_nothing(start: Callable[..., Init], hub: GithubLog) -> None:
    init = start()
    redirect = init.made()
    address, _, query = redirect.partition("?")
    code, state = query.split("&")
    wrong = [
        f"{code}&state={'x' * 43}",
        code,
        state,
        f"{code}&{state}&{code}",
        f"code=a/../b&{state}",
        "",
        f"{query}{'&' * 3000}",
    ]
    for other in wrong:
        assert init.browser.get(f"{address}?{other}").status == 403
    assert not hub.requests("/conversions") and not init.files()
    assert init.browser.get(redirect).status == 200
    init.end()
    assert len(hub.requests("/conversions")) == 1


@pytest.mark.parametrize("status", [404, 422, 302, 200])
def test_a_code_that_is_refused_leaves_nothing(start: Callable[..., Init], hub: GithubLog, status: int) -> None:
    hub.faults = [Fault(status=status, on="/conversions", headers={"Location": f"{hub.url}/elsewhere"})]
    init = start()
    redirect = init.made()
    init.browser.get(redirect)
    said = init.end(4)
    assert "hint: " in said and str(status) in said
    assert not init.files()
    assert not hub.requests("/elsewhere")
    told_nowhere(init, *redirect.partition("?")[2].split("&"))


def test_an_exchange_without_an_answer_is_made_again(start: Callable[..., Init], hub: GithubLog) -> None:
    hub.faults = [Fault(status=502, on="/conversions"), Fault(status=500, on="/conversions")]
    init = start()
    init.browser.get(init.made())
    init.end()
    assert len(hub.requests("/conversions")) == 3
    assert init.key.exists()


def test_an_answer_that_broke_off_says_what_may_be_at_github(start: Callable[..., Init], hub: GithubLog) -> None:
    hub.faults = [Fault(truncated=True, on="/conversions")]
    init = start()
    init.browser.get(init.made())
    assert "add --existing" in init.end(4)
    assert not init.files()
    told_nowhere(init)


@pytest.mark.parametrize("name", ["github-app.pem", "github-app.secret"])
def test_no_file_that_is_there_is_overwritten_and_github_is_not_asked(
    start: Callable[..., Init], data: Path, hub: GithubLog, name: str
) -> None:
    data.mkdir()
    (data / name).symlink_to(data / "nowhere")
    assert "is there already" in start().end(4)
    assert not hub.asked
    assert {one.name for one in data.iterdir()} == {name}


def test_a_file_that_comes_meanwhile_is_not_overwritten_either(
    start: Callable[..., Init], data: Path, hub: GithubLog
) -> None:
    init = start()
    redirect = init.made()
    init.secret.write_text("somebody's")
    init.browser.get(redirect)
    said = init.end(4)
    assert init.secret.read_text() == "somebody's"
    assert init.files() == {"github-app.pem", "github-app.secret"}, "the key, which GitHub gives once, is kept"
    assert f"kept: {init.key}" in said and f"kept: {init.secret}" not in said
    assert f"id = {APP_ID}" in said and 'private_key_file = "github-app.pem"' in said
    assert hub.apps.about(hub.apps.manifests[0])["html_url"] in said
    told_nowhere(init)


def test_where_the_configuration_can_not_be_written_it_is_said_where_key_and_secret_are(
    start: Callable[..., Init], data: Path
) -> None:
    init = start()
    redirect = init.made()
    init.config.write_text("[server\n")
    init.browser.get(redirect)
    said = init.end(2)
    assert f"kept: {init.key}" in said and f"kept: {init.secret}" in said
    assert init.config.read_text() == "[server\n"
    told_nowhere(init)


def test_ctrl_c_leaves_nothing(start: Callable[..., Init]) -> None:
    init = start()
    init.made()
    init.process.send_signal(signal.SIGINT)
    init.end(130)
    assert not init.files()


def test_ctrl_c_while_github_is_asked_says_what_may_be_there(start: Callable[..., Init], hub: GithubLog) -> None:
    init = start()
    redirect = init.made()
    with hub.lock:  # it is asked, and does not answer
        init.browser.get(redirect)
        eventually(lambda: _is_connected(init.process.pid, hub), 30, "GitHub is asked")
        init.process.send_signal(signal.SIGINT)
        said = init.end(130)
    assert "may be in your settings" in said
    assert not init.files()


def _is_connected(pid: int, hub: GithubLog) -> bool:
    port = f":{hub.server_address[1]:04X}"
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    ours = {str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir()}
    return any(row[2].endswith(port) and row[3] == "01" and f"socket:[{row[9]}]" in ours for row in rows)


# over SSH


def test_over_ssh_a_page_is_written_and_the_address_is_pasted(start: Callable[..., Init], hub: GithubLog) -> None:
    init = start(ssh=True)
    file = init.file()
    assert file.stat().st_mode & 0o777 == 0o600
    page = _page_of(file)
    assert "form-action http://127.0.0.1:" in page.text
    redirect = init.browser.submit(page)
    init.end(stdin=f"  {redirect} \r\n")
    assert init.files() == {"covenq.toml", "github-app.pem", "github-app.secret"}, "and the page is gone"
    assert str(file) in init.err and not init.opened.exists()
    told_nowhere(init, *redirect.partition("?")[2].split("&"))


def test_what_is_pasted_is_checked(start: Callable[..., Init], hub: GithubLog) -> None:
    init = start("--no-browser")
    redirect = init.browser.submit(_page_of(init.file()))
    address, _, query = redirect.partition("?")
    code, state = query.split("&")
    junk = ["\x1b[2Jhello", f"https://evil.example.org/created?{query}", f"{address}?{code}&state={'y' * 43}"]
    init.end(stdin="\n".join([*junk, redirect, ""]))
    assert len(hub.requests("/conversions")) == 1
    assert "\x1b" not in init.err
    told_nowhere(init, code, state)


def test_junk_without_end_is_refused(start: Callable[..., Init], hub: GithubLog) -> None:
    init = start("--no-browser")
    init.file()
    init.end(2, stdin="x" * 100_000 + "\n" * 10)
    assert not init.files() and not hub.requests("/conversions")
    init = start("--no-browser")
    init.file()
    assert "standard input ended" in init.end(2)
    assert not init.files()


def test_ctrl_c_at_the_prompt_leaves_no_page(start: Callable[..., Init]) -> None:
    init = start("--no-browser")
    init.file()
    init.process.send_signal(signal.SIGINT)
    init.end(130)
    assert not init.files()


def _page_of(file: Path):  # type: ignore[no-untyped-def]
    from tests.support.github_apps import Page

    return Page(200, {}, file.read_text())


# the page and the listener


def test_the_page_loads_nothing_runs_nothing_and_posts_to_github_alone(
    start: Callable[..., Init], hub: GithubLog
) -> None:
    init = start("--name", '"><script>alert(1)</script>')
    page = init.browser.get(init.page_url())
    assert page.form.loads == [] and "<script" not in page.text
    assert page.form.action.startswith(f"{hub.apps.web}/settings/apps/new?state=")
    policy = page.headers["content-security-policy"]
    assert policy == (f"default-src 'none'; base-uri 'none'; form-action {hub.apps.web}; frame-ancestors 'none'")
    assert page.headers["cache-control"] == "no-store"
    init.browser.submit(page)
    assert hub.apps.manifests[0]["name"] == '"><script>alert(1)</script>'


def test_the_listener_answers_this_browser_alone(start: Callable[..., Init]) -> None:
    init = start()
    url = init.page_url()
    netloc = urlsplit(url).netloc
    assert init.browser.get(url, host="evil.example.org").status == 403, "a name of somebody else's for this address"
    assert init.browser.get(url, host="127.0.0.1").status == 403
    assert init.browser.get(f"http://{netloc}/").status == 404
    assert init.browser.get(f"http://{netloc}/{'x' * 5000}").status == 414
    assert init.browser.get(url, method="DELETE").status == 501
    assert init.browser.get(url).status == 200
    assert init.browser.get(url).status == 200, "again, as after a login"
    other = Browser().get(url)
    assert other.status == 403 and "state=" not in other.text
    init.process.send_signal(signal.SIGINT)
    init.end(130)


# what is refused before GitHub is asked


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--org", "../../evil"], 2, "is no organisation's name"),
        (["--org", "a?state=b"], 2, "is no organisation's name"),
        (["--org", "octo org\x1b[2J"], 2, "is no organisation's name"),
        (["--name", "x" * 35], 2, "1 to 34 characters"),
        (["--api-url", "http://ghe.example.org"], 2, "http://ghe.example.org must be https"),
        (["--url", "http://covenq.example.org"], 2, "http://covenq.example.org must be https"),
        (["--url", f"{URL}/webhook"], 2, f"{URL}/webhook ends with /webhook"),
        (["--url", "https://me:pw@covenq.example.org"], 2, "a name or a password"),
        (["--force"], 2, "can't be combined"),
        (["--credential", "a"], 2, "can't be combined"),
        (["--existing", "--org", "a"], 2, "is to be made"),
    ],
)
def test_a_wrong_option_is_refused(
    start: Callable[..., Init], hub: GithubLog, words: list[str], code: int, said: str
) -> None:
    init = start(*words)
    assert said in init.end(code)
    assert "\x1b" not in init.err and not hub.asked and not init.files()


def test_this_machine_is_no_address_for_github(data: Path) -> None:
    done = Daemon(data).cli("init", "--github-app", "--url", "http://127.0.0.1:8787", exit_code=2)
    assert b"where GitHub reaches nobody" in done.stderr


def test_options_of_an_app_need_it(data: Path) -> None:
    for words in (["--org", "a"], ["--url", URL], ["--existing"], ["--no-browser"]):
        assert b"Add --github-app" in Daemon(data).cli("init", *words, exit_code=2).stderr


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ('[github.app]\nid = 7\nprivate_key_file = "a"\n', 4, "has a GitHub App already: app 7"),
        ("github = { twins = 'mark' }\n", 4, "can't be added to the configuration"),
        (f'[server]\npublic_url = "{URL}/other"\n', 2, "Leave --url out"),
        ("[server\n", 2, "is not TOML"),
    ],
)
def test_a_configuration_that_takes_no_app_is_refused_and_kept(
    start: Callable[..., Init], data: Path, hub: GithubLog, text: str, code: int, said: str
) -> None:
    data.mkdir()
    (data / "covenq.toml").write_text(text)
    init = start()
    assert said in init.end(code)
    assert not hub.asked
    assert (data / "covenq.toml").read_text() == text and init.files() == {"covenq.toml"}


def test_the_address_is_asked_where_nobody_says_it(start: Callable[..., Init], hub: GithubLog) -> None:
    init = start(url=None)
    assert init.process.stdin is not None
    init.process.stdin.write(f"{URL}\n".encode())
    init.process.stdin.flush()
    init.browser.get(init.made())
    init.end()
    assert hub.apps.manifests[0]["hook_attributes"]["url"] == f"{URL}/webhook"


def test_an_app_without_secret_or_client_id_is_kept_all_the_same(start: Callable[..., Init], hub: GithubLog) -> None:
    hub.apps.webhook_secret, hub.apps.without_client_id = None, True
    init = start()
    init.browser.get(init.made())
    assert "has no webhook secret yet" in init.end()
    assert init.files() == {"covenq.toml", "github-app.pem"}
    config = load(init.config, {})
    assert config.secrets == () and config.github_logs.app is not None
    assert (config.github_logs.app.id, config.github_logs.app.client_id) == (APP_ID, None)


# --ingress log


def test_an_app_whose_log_alone_is_read_delivers_to_nobody_and_is_listened_to(
    start: Callable[..., Init], data: Path, hub: GithubLog
) -> None:
    init = start("--ingress", "log", url=None)
    init.browser.get(init.made())
    said = init.end()
    assert "covenq listen" in said
    (manifest,) = hub.apps.manifests
    assert manifest["hook_attributes"] == {"url": "https://covenq.invalid/webhook", "active": True}
    config = load(init.config, {})
    assert config.follows_log and config.public_url is None and config.github_logs.app is not None
    daemon = Daemon(data=data, secret=None, posted=False).start()
    try:
        eventually(lambda: daemon.api("/api/v1/status").json["reconcile"]["logs"][0]["last"], 60)
        one = hub.add(secret=str(hub.apps.webhook_secret))
        eventually(lambda: [each["data"] for each in daemon.records("delivery.received")], 60)
        (record,) = daemon.records("delivery.received")
        assert (record["data"]["guid"], record["data"]["secret"]) == (one.guid, f"app-{APP_ID}")
    finally:
        daemon.stop()


def test_a_configuration_that_follows_a_log_it_has_not_yet_gets_its_app(
    start: Callable[..., Init], data: Path, hub: GithubLog
) -> None:
    data.mkdir()
    (data / "covenq.toml").write_text(f'[github]\ningress = "log"  # mine\n\n{ROUTES}')
    init = start(url=None)
    assert "`covenq init --github-app --ingress log`" in hint_of_serve(init)
    init.browser.get(init.made())
    init.end()
    assert hub.apps.manifests[0]["hook_attributes"]["url"] == "https://covenq.invalid/webhook"
    assert load(init.config, {}).follows_log and init.config.read_text().count("ingress") == 1


def hint_of_serve(init: Init) -> str:
    done = run_command(["serve"], init.env)
    assert done.returncode == 2
    return done.stderr.decode()


@pytest.mark.parametrize(
    ("config", "words", "code", "said"),
    [
        ("", ["--ingress", "log", "--url", URL], 2, "nothing is delivered to an address"),
        ("", ["--ingress", "mail"], 2, "webhook, log"),
        (f'[server]\npublic_url = "{URL}"\n', ["--ingress", "log"], 2, "public_url"),
        ('[github]\ningress = "webhook"\n', ["--ingress", "log"], 4, "change the setting"),
        ('[github]\ningress = "log"\n', ["--ingress", "webhook"], 4, "change the setting"),
    ],
)
def test_an_ingress_that_contradicts_what_else_is_said_is_refused_before_github_is_asked(
    start: Callable[..., Init], data: Path, hub: GithubLog, config: str, words: list[str], code: int, said: str
) -> None:
    data.mkdir()
    (data / "covenq.toml").write_text(config)
    for more in ([], ["--existing"]):
        assert said in start(*words, *more, url=None).end(code)
    assert hub.asked == [] and (data / "covenq.toml").read_text() == config


def test_an_existing_app_is_told_where_its_webhook_has_to_deliver(
    start: Callable[..., Init], data: Path, hub: GithubLog
) -> None:
    key = data.with_name("existing.pem")
    key.write_bytes(hub.private_key)
    key.chmod(0o600)
    init = start("--existing", "--ingress", "log", url=None)
    said = init.end(stdin=f"{CLIENT_ID}\n{key}\n")
    assert "https://covenq.invalid/webhook" in said and "secrets rotate" not in said
    assert load(init.config, {}).follows_log


# --existing


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "app key.pem"
    file.write_bytes(app_key()[0])
    file.chmod(0o600)
    return file


@pytest.mark.parametrize("issuer", [CLIENT_ID, str(APP_ID)])
def test_an_app_that_is_there_is_asked_for_and_asked(
    start: Callable[..., Init], hub: GithubLog, key: Path, issuer: str
) -> None:
    init = start("--existing")
    said = init.end(stdin=f"{issuer}\n{key}\n")
    assert hub.asked == ["GET /api/v3/app"]
    config = load(init.config, {})
    app = config.github_logs.app
    assert app is not None
    assert (app.id, app.client_id, app.keys[0].file, app.api_url) == (APP_ID, CLIENT_ID, key, hub.url)
    assert config.public_url == URL and config.secrets == ()
    assert f"`covenq serve` makes one, {init.dir / 'secret'}" in said and "then `covenq secrets rotate`" in said
    assert init.files() == {"covenq.toml"}
    told_nowhere(init, "eyJ")


def test_a_key_of_another_app_is_not_written(start: Callable[..., Init], key: Path) -> None:
    key.write_bytes(new_key()[0])
    init = start("--existing")
    assert "did not take the credentials" in init.end(4, stdin=f"{CLIENT_ID}\n{key}\n")
    assert not init.files()


def test_of_an_address_that_is_no_api_the_address_is_asked_about(
    start: Callable[..., Init], hub: GithubLog, key: Path
) -> None:
    hub.faults = [Fault(status=404)]
    said = start("--existing").end(4, stdin=f"{CLIENT_ID}\n{key}\n")
    assert "Is api_url that of the API" in said and "hook" not in said


def test_without_github_the_app_is_written_and_that_is_said(
    start: Callable[..., Init], hub: GithubLog, key: Path
) -> None:
    hub.faults = [Fault(status=503) for _ in range(5)]
    init = start("--existing")
    assert "could not be asked" in init.end(stdin=f"{CLIENT_ID}\n{key}\n")
    app = load(init.config, {}).github_logs.app
    assert app is not None and (app.id, app.client_id) == (None, CLIENT_ID)


@pytest.mark.parametrize(
    ("issuer", "mode", "content", "code", "said"),
    [
        ("not an id", 0o600, None, 2, "is no App's id"),
        ("0", 0o600, None, 2, "is no App's id"),
        ("", 0o600, None, 2, "is no App's id"),
        (CLIENT_ID, 0o604, None, 4, "everybody on this machine can use"),
        (CLIENT_ID, 0o600, b"hush-hush", 2, "is no private key"),
        (CLIENT_ID, 0o600, b"x" * 100_000, 2, "is too long"),
    ],
)
def test_what_is_no_app_and_no_key_is_refused(
    start: Callable[..., Init], hub: GithubLog, key: Path, issuer: str, mode: int, content: bytes | None, code: int, said: str
) -> None:  # fmt: skip
    if content is not None:
        key.write_bytes(content)
    key.chmod(mode)
    init = start("--existing")
    assert said in init.end(code, stdin=f"{issuer}\n{key}\n")
    assert not init.files() and not hub.asked
    told_nowhere(init, "hush-hush")
