"""What the sentence of `signature_out_of_scope` says is outside, and how much of it."""

from __future__ import annotations

from collections.abc import Callable

from covenq.config.secret_keys import Key
from covenq.config.secret_source import Scope
from covenq.intake.refusal_log import TEXT_MAX
from covenq.intake.scope_words import out_of_scope
from tests.support.daemon import Daemon
from tests.support.requests import issue

Make = Callable[..., Daemon]

APP = "the secret of the app, long enough"
CONFIG = f"""
[github]
webhook_secrets = [
    {{ name = "docs", value = "{APP}", hooks = ["7", "8"], installations = [1001, 1002], repositories = ["acme/docs"] }},
]
"""


def detail(daemon: Daemon, repo: str, repo_id: int, installation: int | None, hook: str = "7") -> str:
    """What a delivery is refused with, and `covenq refused` says too; nothing for one that is let in."""
    payload = issue(repo=repo, installation={} if installation is None else {"id": installation})
    payload["repository"]["id"] = repo_id
    answer = daemon.post("issues", payload, hook=hook, secret=APP)
    if answer.status == 202:
        return ""
    assert (answer.status, answer.json["error"]) == (401, "signature_out_of_scope")
    said = str(answer.json["detail"])
    line = daemon.cli_json("refused")["items"][0]
    assert line["detail"] == said
    why = daemon.cli("why", line["delivery"], exit_code=3)
    assert said in " ".join((why.stdout + why.stderr).decode().split())
    return said


def test_it_says_which_of_hook_installation_and_repository_is_outside_and_what_is_in(make_daemon: Make) -> None:
    daemon = make_daemon(CONFIG, secret=None)
    start = "Secret 'docs' signed it, and "
    assert detail(daemon, "acme/docs", 300, 9999) == f"{start}installation 9999 is not in 1001, 1002."
    none = "its body names no installation (in scope: 1001, 1002)"
    assert detail(daemon, "acme/docs", 300, None) == f"{start}{none}."
    assert detail(daemon, "acme/other", 301, 1001) == f"{start}repository acme/other (301) is not in acme/docs."
    assert detail(daemon, "acme/docs", 300, 1001, hook="5") == f"{start}hook 5 is not in 7, 8."
    both = "installation 9999 is not in 1001, 1002; repository acme/other (301) is not in acme/docs."
    assert detail(daemon, "acme/other", 301, 9999) == start + both

    assert detail(daemon, "acme/docs", 300, 1001) == "", "it binds the name"
    assert detail(daemon, "acme/handbook", 300, 9) == f"{start}installation 9 is not in 1001, 1002.", (
        "it is in by number"
    )


def test_many_long_and_hostile_names_are_cut_escaped_and_counted() -> None:
    scope = Scope(
        hooks=("h" * 64,), installations=(2**63 - 1,), repositories=tuple(f"{'o' * 90}/{at}" for at in range(9))
    )
    keys = [Key(f"{'k' * 60}{at:02}", b"the same secret in many", scope) for at in range(40)]
    said = out_of_scope(keys, {}, "x" * 64, 1, "\x1b[2J" + "n" * 250, 2)
    assert len(said) == TEXT_MAX and said.endswith("… 39 more signed it, also out of scope.")
    few = [Key(name, b"secret", Scope(repositories=("a/b", "a/c", "a/d", "a/e", "a/f"))) for name in ("one", "two")]
    said = out_of_scope(few, {}, "7", None, "x\u202e/\x1b[2J", None)
    outside = r"repository x\u202e/\x1b[2J is not in a/b, a/c, a/d and 2 more."
    assert said == f"Secret 'one' signed it, and {outside} Secret 'two' signed it, and {outside}"
    assert "body names no repository (in scope: a/b" in out_of_scope(few[:1], {}, "7", None, None, None)
    assert "repository (5) is not in" in out_of_scope(few[:1], {}, "7", None, None, 5)
    some = [Key(f"name{at}", b"secret", Scope(hooks=("12345678901",))) for at in range(5)]
    said = out_of_scope(some, {}, "98765432101", None, None, None)
    assert len(said) <= TEXT_MAX and said.endswith("is not in 12345678901. 3 more signed it, also out of scope.")
