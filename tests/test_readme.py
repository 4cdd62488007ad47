"""The README's blocks as a newcomer follows them: in their order, line by line, from an empty home directory.

`make run` and `make test` are `.ci/run`'s; here the daemon is started as the first would start it, but for the port. What needs
GitHub meets a stand-in of `gh`.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from covenq.config.load import load
from tests.support.checkout import ROOT, clean_env
from tests.support.daemon import Daemon
from tests.support.guard.sitecustomize import PORT
from tests.support.receiver import Receiver, receiving
from tests.support.requests import issue
from tests.support.waiting import eventually

BLOCKS = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
"""(language, text) of each."""

EXPECTED = {
    "init": r"/\.local/state/covenq/covenq\.toml$",
    "send issues --action labeled --guid first": r"^first$",
    "tasks": r" hello .* completed ",
    "logs first -f": r'^\{"action":"labeled",',
    "send push --guid push-1": r"^202 accepted .* 1 task: t",
    "send push --guid push-1, again": r"^200 duplicate ",
    "why push-1": r"^Failed: two attempts",
    "status": r"^READY ",
    "tasks state:failed 'age<1h'": r" deploy .* failed ",
    "requeue state:failed --dry-run": r"1 task",
    "replay push-1": r"446581321/push-1",
    "why lantern-works/beacon#1627": r"^Completed on ",
    "show push-1": r"route +deploy",
    "refused": r"[Nn]o(thing| request) .*refused",
    "routes diff --config new.toml --since 7d": r"",
    "doctor": r"daemon +ready",
    "verify": r"^ok, [0-9]+ records, head ",
    "backup ~/covenq-backup": r"covenq-backup",
    "tui": r"deliveries",
    "demo": r"tasks whose command ran twice +0 +0",
}
"""What each command of the README has among what it says."""
WITH_FINDINGS = {"doctor"}
"""Commands that may find fault with the machine that tests them, and exit with 1."""

GH = """#!{python}
import sys
from urllib.parse import urlsplit
sys.path.insert(0, {root!r})
from covenq.cli.webhook_client import post
from covenq.github import samples
words = sys.argv[1:]
if words == ["extension", "install", "cli/gh-webhook"]:
    sys.exit(0)
assert words[:2] == ["webhook", "forward"], words
given = dict(zip(words[2::2], words[3::2], strict=True))
assert given.keys() == {{"--repo", "--events", "--url", "--secret"}}, words
url = urlsplit(given["--url"])
assert (url.hostname, url.port, url.path) == ("127.0.0.1", {port}, "/webhook"), given
body = samples.body("pull_request", 3)
headers = samples.headers("pull_request", "from-github", None, body, given["--secret"].encode())
print(post({webhook!r}, body, headers).status)
"""
"""Stands in for GitHub's program: takes the words that the README gives it, and forwards one delivery."""


class Newcomer:
    """Somebody with an empty home, a checkout with `.venv/bin/covenq`, and a daemon that was started by `make run`."""

    def __init__(self, base: Path) -> None:
        self.home, self.checkout, self.programs = base / "home", base / "checkout", base / "programs"
        for one in (self.home, self.checkout / ".venv" / "bin", self.programs):
            one.mkdir(parents=True)
        self.data = self.home / ".local" / "state" / "covenq"
        self.daemon = Daemon(self.data, secret=None)
        covenq = self.checkout / ".venv" / "bin" / "covenq"
        covenq.write_text(f'#!/bin/sh\nexec {sys.executable} -m covenq "$@"\n')
        covenq.chmod(0o755)
        self.env = clean_env(HOME=str(self.home), TERM="xterm")
        del self.env["XDG_STATE_HOME"]
        self.seen: list[str] = []
        """The commands of covenq that were run."""

    def start(self) -> None:
        self.data.parent.mkdir(parents=True)
        self.daemon.start()
        gh = self.programs / "gh"
        gh.write_text(GH.format(python=sys.executable, root=str(ROOT), port=PORT, webhook=f"{self.daemon.url}/webhook"))
        gh.chmod(0o755)
        self.env["PATH"] = f"{self.programs}{os.pathsep}{self.env['PATH']}"

    def shell(self, line: str) -> str:
        """Type a line, and what it says. Any exit code but 0 fails, of WITH_FINDINGS 1 too."""
        words = re.sub(r"\s+# .*", "", line).strip()
        name = words.removeprefix(".venv/bin/covenq ")
        if words.endswith("covenq tui"):
            said = self.terminal(words, awaited=b"FOLLOWING", typed=b"q")
        else:
            shell = ["bash", "-c", words] if shutil.which("bash") else ["sh", "-c", words]
            done = subprocess.run(
                shell,
                cwd=self.checkout,
                env=self.env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=180,
            )
            assert done.returncode in ((0, 1) if name in WITH_FINDINGS else (0,)), (
                f"{words}\n{done.stdout}{done.stderr}"
            )
            assert "Traceback" not in done.stderr
            said = done.stdout + done.stderr
        if words != name:
            known = f"{name}, again" if name in self.seen else name
            self.seen.append(known)
            assert known in EXPECTED, f"the README has `{known}`, and this test knows nothing of it"
            assert re.search(EXPECTED[known], said, re.MULTILINE), f"{words}\n{said}"
        return said

    def terminal(self, words: str, awaited: bytes = b"", typed: bytes = b"") -> str:
        """Run it in a terminal, type that when it shows what is awaited, and what it has written. It exits with 0."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            ["sh", "-c", words], cwd=self.checkout, env=self.env, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        written = b""
        try:
            deadline = time.monotonic() + 60
            while awaited not in written:
                assert time.monotonic() < deadline, written[-2000:]
                written += os.read(ours, 65536)
            os.write(ours, typed)
            try:
                while more := os.read(ours, 65536):
                    written += more
            except OSError:
                pass  # its end was closed
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
            os.close(ours)
        return written.decode("utf-8", "replace")

    def paste(self, toml: str) -> None:
        """Add it to the file that `covenq init` named, and wait until the daemon has it."""
        with (self.data / "covenq.toml").open("a") as file:
            file.write(f"\n{toml}")
        names = set(re.findall(r'^name = "([\w-]+)"', toml, re.MULTILINE))
        eventually(lambda: names <= set(self.daemon.api("/api/v1/status").json["routes"]), 30, f"{names} is taken up")

    def rest(self) -> None:
        """What a reader's time gives: everything has come to its end, and the configuration is taken up."""
        self.daemon.wait_all_done()
        file = self.data / "covenq.toml"
        if file.exists():
            names = {route.name for route in load(file, {}).routes}
            eventually(lambda: names <= set(self.daemon.api("/api/v1/status").json["routes"]), 30, "it is taken up")


@pytest.fixture
def newcomer() -> Iterator[Newcomer]:
    with tempfile.TemporaryDirectory(prefix="cq-", ignore_cleanup_errors=True) as base:
        one = Newcomer(Path(base))
        yield one
        one.daemon.kill()


def test_the_two_commands_are_blocks_of_their_own() -> None:
    """Whoever copies a block copies one command: the second of two in one would never run while the first does."""
    assert [(kind, text.split("#")[0].strip()) for kind, text in BLOCKS[:2]] == [
        ("sh", "make run"),
        ("sh", "make test"),
    ]
    ci = (ROOT / ".ci" / "run").read_text()
    assert "\nmake test\n" in ci and "tests/e2e/smoke.py" in ci


def same_words(text: str) -> str:
    """A printed answer without what differs from run to run: times, sizes, the record's number, how long a short id is."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "TIME", text)
    text = re.sub(r"\b(record )?\d+( bytes)?\b", lambda one: "N" if one[1] or one[2] else one[0], text)
    return " ".join(re.sub(r"\bt[0-9a-f]{8,}\b", "TASK", text).split())


def test_every_block_can_be_followed_in_order(newcomer: Newcomer) -> None:
    newcomer.start()
    configuration = newcomer.data / "covenq.toml"
    last, pasted = "", 0
    with receiving(Receiver()) as app:
        app.secret = (newcomer.data / "secret").read_text().strip()
        for kind, text in BLOCKS[2:]:
            if kind == "toml" and "hello" in text:
                assert text in configuration.read_text(), "it is what `covenq init` wrote"
            elif kind == "toml":
                pasted += 1
                newcomer.paste(text.replace("http://127.0.0.1:3000/", f"http://127.0.0.1:{app.server_address[1]}/"))
            elif kind == "text":
                shown = newcomer.terminal(last)
                assert same_words(text) in same_words(shown), f"{last}\n{shown}"
            else:
                assert kind == "sh", f"a block of {kind}, which nobody runs"
                for line in text.replace("\\\n", " ").splitlines():
                    last = re.sub(r"\s+# .*", "", line).strip()
                    newcomer.shell(line)
                    newcomer.rest()
        assert pasted == 2
        assert set(newcomer.seen) == set(EXPECTED)
        assert [one["data"]["guid"] for one in newcomer.daemon.records("delivery.received")][-1] == "from-github"
        newcomer.daemon.secret = app.secret
        assert newcomer.daemon.post("issues", issue()).json["state"] == "queued"
        newcomer.rest()
        ((headers, _, signed),) = app.seen
        assert headers["x-github-event"] == "issues" and signed, "the App behind `forward` believes what it gets"
        assert (newcomer.home / "covenq-backup" / "journal").is_dir()
