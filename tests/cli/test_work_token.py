"""What commands say of tokens: a route that can't have the one it asks for, and those that are not confirmed revoked."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from covenq.model import at_text
from journal.records import Entry
from tests.support import chosen_engine
from tests.support.checkout import clean_env
from tests.support.in_process import run_piped
from tests.support.journals.chosen import open_chosen

APP = '[github.app]\nid = 1\nprivate_key_file = "a.pem"\n'


@pytest.mark.parametrize(
    ("match", "repositories", "code"),
    [("event:issues", "this", 0), ("event:issues,organization", "this", 2), ("event:issues,organization", "all", 0)],
)
def test_a_check_refuses_a_token_for_this_where_there_may_be_none(
    tmp_path: Path, match: str, repositories: str, code: int
) -> None:
    path = tmp_path / "covenq.toml"
    token = f'token = {{ permissions = {{ issues = "write" }}, repositories = "{repositories}" }}'
    path.write_text(f'{APP}[[route]]\nname = "r"\nmatch = "{match}"\nrun = ["true"]\n{token}\n')
    env = clean_env(COVENQ_DATA=str(tmp_path / "data"))
    found, out, err = run_piped(["routes", "check", "--config", str(path)], env)
    assert found == code, err
    if code:
        assert b"r: its token is for the delivery's repository, and organization has none" in err
        assert b'repositories = "all"' in err
    found, out, _ = run_piped(["routes", "--config", str(path), "--json"], env)
    assert json.loads(out)["items"][0]["policy"]["token"]["repositories"] == repositories


def test_what_is_not_confirmed_revoked_is_shown_without_a_daemon_too_until_it_expires(data: Path) -> None:
    now = time.time()
    with open_chosen(data) as journal:
        for task, state, until in [("t1", "asked", now + 3900), ("t2", "minted", now - 5), ("t3", "revoked", None)]:
            said = {"task": task, "attempt": 1, "fence": "e.1", "state": state, "node": "a"}
            told = {**said, "until": None if until is None else at_text(until)}
            journal.append([Entry("ops.token", "ops.token", told)])
    env = clean_env(COVENQ_DATA=str(data), **chosen_engine.variables(data))
    _, out, _ = run_piped(["status", "--json"], env)
    assert json.loads(out)["tokens"] == {"attempts": 1, "until": at_text(now + 3900), "tasks": ["t1"]}
    _, out, _ = run_piped(["status"], env)
    words = "GitHub's token of 1 attempt that ended is not confirmed revoked (task t1): it expires by itself at "
    assert words + at_text(now + 3900)[:19] in " ".join(out.decode().split())
    _, out, _ = run_piped(["doctor"], env)
    assert "is not confirmed revoked (task t1)" in " ".join(out.decode().split())
