"""The tokens of attempts in the daemon: given to the command alone, renewed, masked, revoked; and what a failure leaves."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from covenq.config import load as configuration
from covenq.model import seconds_of
from covenq.operate.inspect.unrevoked import unrevoked
from covenq.tasks.execution.scrub import Scrubber
from covenq.tasks.tokens import keeper
from covenq.tasks.tokens.apis import TokenApis
from covenq.tasks.tokens.keeper import TokenKeeper
from covenq.tasks.tokens.owed import OwedFiles, OwedToken
from tests.support.github_log import CLIENT_ID, Fault, GithubLog, github
from tests.support.github_tokens import Installation
from tests.support.pool import Harness
from tests.support.waiting import eventually

ID, REPO = 4711, 1296269
WANTED = {"permissions": {"issues": "write"}, "repositories": "this"}
SHOWS = [
    "sh",
    "-c",
    'cat "$COVENQ_GITHUB_TOKEN_FILE"; echo; cat "$COVENQ_GITHUB_TOKEN_FILE" | rev; echo; env | grep TOKEN',
]


@pytest.fixture
def server() -> Iterator[GithubLog]:
    with github() as server:
        server.work_tokens.installations[ID] = Installation()
        yield server


class Clock:
    """The time, put forward."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Tokens(Harness):
    """A harness with a keeper, and tasks that want a token."""

    def __init__(self, data: Path, server: GithubLog) -> None:
        super().__init__(data)
        self.server, self.clock = server, Clock()
        server.clock = self.clock
        key = data.parent / "app.pem"
        key.write_bytes(server.private_key)
        table = {"client_id": CLIENT_ID, "private_key_file": str(key), "api_url": server.url}
        self.app = configuration.build({"github": {"app": table}}, None, {}).github_logs.app
        self.keeper: TokenKeeper | None = None

    def keep(self) -> TokenKeeper:
        """The keeper of a process, not started."""
        apis = TokenApis(lambda: self.app, {}, self.clock)
        self.keeper = TokenKeeper(self.journal, self.store, self.fold_thread, self.data, apis, clock=self.clock)
        return self.keeper

    def run(self, run: list[str], name: str = "g1", **more: Any) -> str:
        task = self.add(name, run, **{"installation": ID, "repo_id": REPO, "token": WANTED, **more})
        self.keep().start()
        self.pool(tokens=self.keeper, clock=self.clock)
        return task

    def told(self) -> list[tuple[str, str | None]]:
        return [(one.data["state"], one.data["until"]) for one in self.journal.read(0) if one.kind == "ops.token"]

    def states(self) -> list[str]:
        return [state for state, _ in self.told()]

    def kept(self) -> list[str]:
        """The names of what is in the directory of tokens."""
        found = self.data / "github-tokens"
        return sorted(one.name for one in found.iterdir()) if found.is_dir() else []

    def shown(self) -> Any:
        assert self.fold_thread.wait_for(self.journal.head().seq, 30)
        return unrevoked(self.store.reader(), keeper.at_text(self.clock()))

    def close(self) -> None:
        super_close = super().close
        for pool in self.pools:
            pool.stop(5.0)
        self.pools.clear()
        if self.keeper is not None:
            self.keeper.stop(10.0)
        super_close()


@pytest.fixture
def harness(tmp_path: Path, server: GithubLog) -> Iterator[Tokens]:
    one = Tokens(tmp_path / "data", server)
    one.open()
    yield one
    one.close()


def whole_of(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def test_a_command_has_a_token_that_nobody_else_sees_and_that_is_revoked(harness: Tokens) -> None:
    looks = (
        'import json, os, stat; path = os.environ["COVENQ_GITHUB_TOKEN_FILE"]; '
        "print(json.dumps([path, stat.S_IMODE(os.stat(path).st_mode), open(path).read()[::-1], os.getcwd(), "
        'json.load(open("brief.json"))["github_token_file"]]))'
    )
    before: list[list[str]] = []
    harness.server.work_tokens.before_mint = lambda: before.append(harness.states())
    harness.server.work_tokens.before_revoke = lambda: before.append(harness.states())
    task = harness.run(["python3", "-c", looks])
    harness.wait(task, "completed")
    (made,) = harness.server.work_tokens.tokens
    path, mode, backwards, cwd, in_brief = json.loads(harness.file(task, "stdout").read_bytes())
    assert backwards[::-1] == made.token and in_brief == path
    assert mode == 0o600 and not path.startswith(cwd)
    assert stat.S_IMODE((harness.data / "github-tokens").stat().st_mode) == 0o700
    assert (made.installation, made.permissions, made.repositories) == (ID, {"issues": "write"}, [REPO])
    eventually(lambda: made.revoked and not harness.kept(), what="it is revoked, and its files are gone")
    assert harness.states() == ["asked", "minted", "revoked"]
    assert before == [["asked"], ["asked", "minted"]], "each is recorded before the next is done"
    assert harness.shown() is None
    assert made.token.encode() not in whole_of(harness.data)


def test_a_contract_alone_has_it_in_the_environment_too(harness: Tokens) -> None:
    result = json.dumps({"contract_version": "2", "status": "success", "summary": "x"})
    looks = (
        "import json, os, sys; brief = json.load(open(sys.argv[1])); open(sys.argv[2], 'w').write(sys.argv[3]); "
        "print(json.dumps([os.environ['COVEN_GIT_TOKEN'][::-1], open(brief['paths']['token']).read()[::-1]]))"
    )
    argv = ["python3", "-c", looks, "{brief}", "{result}", result]
    task = harness.run(argv, contract="coven-headless/2")
    assert harness.wait(task, "completed").result_status == "success"
    (made,) = harness.server.work_tokens.tokens
    assert json.loads(harness.file(task, "stdout").read_bytes()) == [made.token[::-1]] * 2
    assert made.token.encode() not in b"".join(
        one.read_bytes() for one in harness.data.joinpath("attempts").rglob("*.json")
    )


def test_a_token_is_masked_whatever_its_shape_the_renewed_one_too(harness: Tokens) -> None:
    """Of no form that is GitHub's today, and longer than a pipe's lines: known by its value alone."""
    forms = iter(["shape/of=tomorrow~" + "a1" * 600, "another/of=those~" + "b2" * 600])
    harness.server.work_tokens.make = lambda: next(forms)
    go = harness.data.parent / "go"
    os.mkfifo(go)
    script = f'cat "$COVENQ_GITHUB_TOKEN_FILE"; echo; read x < {go}; cat "$COVENQ_GITHUB_TOKEN_FILE"; echo'
    task = harness.run(["sh", "-c", script])
    first = eventually(lambda: harness.server.work_tokens.tokens)[0]
    eventually(lambda: "started" in {name for one in harness.attempts(task) for name, _ in one.phases})
    harness.clock.ahead = 3300.0
    assert harness.keeper is not None
    harness.keeper._wake.set()
    eventually(lambda: len(harness.server.work_tokens.tokens) == 2 and harness.states()[-1] == "minted")
    file = harness.keeper.path_for(task, 1)
    second = harness.server.work_tokens.tokens[1]
    eventually(lambda: file.read_text() == second.token)
    assert not first.revoked, "the command may be in the middle of using it"
    with go.open("w") as pipe:
        pipe.write("\n")
    harness.wait(task, "completed")
    assert harness.file(task, "stdout").read_bytes() == b"***\n***\n"
    eventually(lambda: first.revoked and second.revoked and not harness.kept())
    assert harness.states() == ["asked", "minted", "asked", "minted", "revoked"]
    assert second.made_at - first.made_at < 3600


def test_a_scrubber_learns_in_the_middle_of_a_stream() -> None:
    scrubber = Scrubber()
    stream = scrubber.stream()
    assert stream.feed(b"odd-secret\n") == b"odd-secret\n"
    assert stream.feed(b"odd-se") == b""
    scrubber.learn(b"odd-secret")
    assert stream.feed(b"cret\n") + stream.finish() == b"***\n"


def test_a_cancelled_tasks_token_is_revoked(harness: Tokens) -> None:
    from journal.records import Entry

    task = harness.run(["sleep", "300"])
    made = eventually(lambda: harness.server.work_tokens.tokens)[0]
    eventually(lambda: "started" in {name for one in harness.attempts(task) for name, _ in one.phases})
    newest = harness.journal.last(f"task.{task}")
    assert newest is not None
    harness.journal.append([Entry(newest.subject, "task.cancelled", {"by": "me", "reason": None}, expect=newest.seq)])
    eventually(lambda: made.revoked and not harness.kept())
    assert harness.row(task).state == "cancelled"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"repo_id": None}, "names no repository"),
        ({"installation": None}, "names no installation"),
        ({"installation": 5}, "no installation 5"),
        ({"token": {"permissions": {"checks": "write"}, "repositories": "this"}}, "has not granted"),
        ({"repo_id": 8}, "no such repository"),
    ],
)
def test_what_would_be_refused_again_is_final(harness: Tokens, more: dict[str, Any], words: str) -> None:
    task = harness.run(["true"], retry={"max": 3}, **more)
    row = harness.wait(task, "failed")
    assert (row.category, row.attempts) == ("token", 1)
    assert words in str(row.detail)
    assert harness.attempts(task)[0].phases[0][0] == "prepared"
    assert not harness.server.work_tokens.tokens and harness.shown() is None
    assert harness.states() in ([], ["asked", "refused"])


def test_without_an_app_there_is_no_token(harness: Tokens) -> None:
    harness.app = None
    row = harness.wait(harness.run(["true"]), "failed")
    assert (row.category, row.attempts) == ("token", 1) and "[github.app]" in str(row.detail)


@pytest.mark.parametrize("fault", [Fault(502), Fault(429, {"Retry-After": "0"}), Fault(truncated=True)])
def test_what_may_pass_is_tried_again_as_the_route_says(harness: Tokens, fault: Fault) -> None:
    fault.on = "access_tokens"
    harness.server.faults.append(fault)
    task = harness.run(["true"], retry={"max": 1, "backoff_s": 0.0})
    harness.wait(task, "completed")
    first, second = harness.attempts(task)
    assert (first.category, second.outcome) == ("token", "completed")
    lost = fault.status != 429  # whether GitHub minted one isn't known
    eventually(lambda: harness.states()[-1] == "revoked" and not harness.kept())
    assert harness.states() == ["asked", "unconfirmed" if lost else "refused", "asked", "minted", "revoked"]
    shown = harness.shown()
    if lost:
        assert (shown.attempts, shown.tasks) == (1, [task])
        harness.clock.ahead = 2 * 3600.0
        assert harness.shown() is None, "it has expired by itself"
    else:
        assert shown is None


def test_a_refused_route_says_category_on(harness: Tokens) -> None:
    """`retry.on` without `token`: the first failure is the last."""
    harness.server.faults.append(Fault(502, on="access_tokens"))
    task = harness.run(["true"], retry={"max": 3, "on": ["exit"]})
    assert harness.wait(task, "failed").attempts == 1


def test_a_revocation_is_tried_until_github_confirms_it_and_shown_until_then(harness: Tokens, monkeypatch) -> None:
    monkeypatch.setattr(keeper, "AGAIN_S", 0.05)
    harness.server.faults += [Fault(503, method="DELETE"), Fault(403, method="DELETE")]
    gate = threading.Event()

    def wait_for_third() -> None:
        if len(harness.server.requests("DELETE") or harness.server.requests("/installation/token")) >= 3:
            assert gate.wait(30)

    harness.server.work_tokens.before_revoke = wait_for_third
    task = harness.run(["true"])
    harness.wait(task, "completed")
    eventually(lambda: len(harness.server.requests("/installation/token")) == 3)
    made = harness.server.work_tokens.tokens[0]
    shown = harness.shown()
    assert (shown.attempts, shown.tasks) == (1, [task]) and not made.revoked
    assert seconds_of(shown.until) >= made.expires_at
    gate.set()
    eventually(lambda: made.revoked and not harness.kept())
    assert harness.shown() is None


def test_what_an_earlier_process_left_is_revoked_at_the_next_start(harness: Tokens) -> None:
    """As a SIGKILL leaves it: the file, the record `minted`, and a task that is running by the records."""
    token = harness.server.work_tokens
    task = harness.add("g1", ["true"], installation=ID, repo_id=REPO, token=WANTED)
    from covenq.tasks.scheduling.claim import Claim
    from covenq.tasks.scheduling.outcome import queued_tasks

    assert harness.fold_thread.wait_for(harness.journal.head().seq, 30)
    (row,) = queued_tasks(harness.store.reader(), [task])
    claim = Claim.acquire(harness.journal, row, "dead", None)
    assert claim is not None
    dead = harness.keep()  # whose thread never runs
    dead.give(row, claim, lambda secret: None)
    assert len(harness.kept()) == 2 and harness.states() == ["asked", "minted"]
    (owed,) = OwedFiles(harness.data / "github-tokens").all()
    # And a write that was cut short before its rename.
    whole = harness.data / "github-tokens" / owed.name
    whole.rename(whole.with_name(whole.name + ".new"))
    harness.keep().start()
    harness.pool(tokens=harness.keeper, clock=harness.clock)
    harness.wait(task, "completed")
    eventually(lambda: not token.live() and not harness.kept())
    assert len(token.tokens) == 2
    assert harness.shown() is None


def test_a_token_that_can_not_be_kept_is_given_to_nobody_and_revoked(harness: Tokens) -> None:
    """Something else has the directory's name, which fails as a full disk does."""
    (harness.data / "github-tokens").write_bytes(b"")
    task = harness.run(["sh", "-c", "touch ran"])
    row = harness.wait(task, "failed")
    assert row.category == "token" and "can't be kept" in str(row.detail)
    assert not harness.file(task, "ran").exists()
    (made,) = harness.server.work_tokens.tokens
    eventually(lambda: made.revoked and harness.states() == ["asked", "revoked"])


def test_where_github_never_answers_a_token_is_given_up_when_it_has_expired_and_not_before(
    harness: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "AGAIN_S", 0.02)
    monkeypatch.setattr(keeper, "AGAIN_MAX_S", 0.02)
    harness.server.faults += [Fault(403, method="DELETE") for _ in range(10_000)]
    task = harness.run(["true"])
    harness.wait(task, "completed")
    asked = harness.server.asked
    eventually(lambda: asked.count("DELETE /installation/token") > 3)
    assert harness.kept() and harness.shown().attempts == 1
    harness.clock.ahead = 4000.0
    eventually(lambda: not harness.kept())
    assert harness.states() == ["asked", "minted", "expired"] and harness.shown() is None


def test_a_clock_that_was_set_costs_no_revocation(harness: Tokens) -> None:
    """By it the token has expired; at GitHub it hasn't."""
    task = harness.run(["sh", "-c", "sleep 300"])
    made = eventually(lambda: harness.server.work_tokens.tokens)[0]
    eventually(lambda: "started" in {name for one in harness.attempts(task) for name, _ in one.phases})
    harness.server.clock = time.time
    harness.clock.ahead = 50 * 3600.0
    for pool in harness.pools:
        pool.stop(0.0)
    eventually(lambda: made.revoked and not harness.kept())


def test_a_crash_between_githubs_answer_and_the_file_is_shown_until_it_expires(harness: Tokens) -> None:
    task = harness.add("g1", ["true"], installation=ID, repo_id=REPO)
    from journal.records import Entry

    until = keeper.at_text(harness.clock() + 3900)
    data = {"task": task, "attempt": 1, "fence": "e.1", "state": "asked", "until": until, "node": None}
    harness.journal.append([Entry("ops.token", "ops.token", data)])
    harness.keep().start()
    shown = harness.shown()
    assert (shown.attempts, shown.until) == (1, until)
    harness.clock.ahead = 4000.0
    assert harness.shown() is None


def test_a_file_that_is_no_token_goes(tmp_path: Path) -> None:
    files = OwedFiles(tmp_path / "t")
    owed = OwedToken("t1", 1, "e.5", "https://api.github.com", "ghs_" + "a" * 36, 5.0, 6.0)
    files.keep(owed)
    for content in (b"", b"{", b"[]", b'{"task": "../x"}', b"[" * 9000):
        (tmp_path / "t" / "t2.1.1.json").write_bytes(content)
        assert files.all() == [owed]
        assert len(list((tmp_path / "t").iterdir())) == 1
    assert "ghs_" not in repr(owed)
