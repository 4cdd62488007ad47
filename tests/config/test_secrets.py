"""Webhook secrets: where they may be, for what each may speak, and when one may go."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from covenq.config import secret_keys, secret_source
from covenq.config.load import build, load
from covenq.config.secret_keys import Key, read_secrets
from covenq.config.secret_source import EVERYTHING, Scope, SecretSource
from covenq.errors import ConfigError
from covenq.model import at_text
from covenq.operate.inspect import secret_usage
from covenq.state import schema
from covenq.state.fold import fold
from tests.support.daemon import Daemon
from tests.support.journal_json import records
from tests.support.records import as_records, in_memory, received
from tests.support.requests import issue, sign
from tests.support.serving import Served, serving
from tests.support.waiting import eventually

Write = Callable[[str], Path]

# ---- the configuration


def secret_of(**keys: Any) -> SecretSource:
    return build({"github": {"webhook_secrets": [{"name": "a", **keys}]}}, None, {}).secrets[0]


def test_a_scope_is_read_as_it_is_written() -> None:
    given = secret_of(value="v", hooks=["7", 446581321], installations=[2311], repositories=["Octo/Hello", "acme/*"])
    assert given.scope == Scope(("7", "446581321"), (2311,), ("octo/hello", "acme/*"))
    assert secret_of(value="v").scope == EVERYTHING


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"hooks": []}, "hooks: is empty"),
        ({"hooks": ["a b"]}, "hooks: 'a b'"),
        ({"hooks": "7"}, "hooks: must be a list"),
        ({"hooks": [True]}, "hooks: must be a list"),
        ({"installations": []}, "installations: is empty"),
        ({"installations": ["2311"]}, "must be a list of installation ids"),
        ({"installations": [0]}, "is no installation's id"),
        ({"installations": [2**63]}, "is no installation's id"),
        ({"repositories": []}, "repositories: is empty"),
        ({"repositories": ["hello"]}, "neither owner/name nor owner/*"),
        ({"repositories": ["*/*"]}, "neither owner/name nor owner/*"),
        ({"repositories": ["a/b/c"]}, "neither owner/name nor owner/*"),
        ({"repositories": ["a/b*"]}, "neither owner/name nor owner/*"),
        ({"repositories": [1]}, "must be a list"),
        ({"repos": ["a/b"]}, "unknown key"),
    ],
)
def test_a_scope_that_can_not_be_meant_is_refused(keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        secret_of(value="v", **keys)
    assert "webhook_secrets 1" in str(raised.value) and problem in str(raised.value)


@pytest.mark.parametrize(
    ("github", "problem"),
    [
        ({"twins": "refuse"}, "github.twins: \"refuse\" needs the allow-list"),
        ({"hooks": []}, "github.hooks: is empty"),
        ({"hooks": [{"id": 1}]}, "github.hooks: must be a list of hook ids"),
        ({"hooks": ["../x"]}, "github.hooks: '../x'"),
    ],
)  # fmt: skip
def test_an_allow_list_that_can_not_be_meant_is_refused(github: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        build({"github": github}, None, {})
    assert problem in str(raised.value)


def test_an_allow_list_takes_ids_as_texts_and_as_numbers() -> None:
    config = build({"github": {"hooks": ["446581321", 7], "twins": "refuse"}}, None, {})
    assert (config.hooks, config.twins) == (("446581321", "7"), "refuse")


def test_a_credential_is_read_from_where_systemd_says(tmp_path: Path, write_config: Write) -> None:
    config = load(write_config('[github]\nwebhook_secrets = [{ name = "app", credential = "hook" }]\n'), {})
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    with pytest.raises(ConfigError, match="systemd gave no credentials"):
        read_secrets(config, {}, tmp_path)
    with pytest.raises(ConfigError, match="credential hook can't be read"):
        read_secrets(config, env, tmp_path)
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "hook").write_text("handed over by systemd\n")
    assert read_secrets(config, env, tmp_path) == (Key("app", b"handed over by systemd"),)
    for name in ("../hook", "/etc/passwd", "..", "a/b"):
        with pytest.raises(ConfigError, match="no slash"):
            secret_of(credential=name)


# ---- the scope, held against what a verified body says


@pytest.mark.parametrize(
    ("scope", "hook", "installation", "repo", "holds"),
    [
        (EVERYTHING, "-", None, None, True),
        (Scope(hooks=("7",)), "7", None, None, True),
        (Scope(hooks=("7",)), "8", 1, "a/b", False),
        (Scope(installations=(1, 2)), "7", 2, None, True),
        (Scope(installations=(1, 2)), "7", 3, None, False),
        (Scope(installations=(1, 2)), "7", None, None, False),
        (Scope(repositories=("octo/hello",)), "7", None, "Octo/HELLO", True),
        (Scope(repositories=("octo/hello",)), "7", None, "octo/hello2", False),
        (Scope(repositories=("octo/hello",)), "7", None, None, False),
        (Scope(repositories=("octo/*",)), "7", None, "octo/anything", True),
        (Scope(repositories=("octo/*",)), "7", None, "octopus/x", False),
        (Scope(repositories=("octo/*",)), "7", None, "octo", False),
        (Scope(("7",), (1,), ("a/*",)), "7", 1, "a/b", True),
        (Scope(("7",), (1,), ("a/*",)), "7", 2, "a/b", False),
    ],
)
def test_what_a_scope_holds(scope: Scope, hook: str, installation: int | None, repo: str | None, holds: bool) -> None:
    assert scope.covers(hook, installation, repo) is holds


KEYS = (
    Key("octo", b"the secret of all of octo's", Scope(repositories=("octo/*",))),
    Key("app", b"the secret of the app", Scope(installations=(2311,))),
    Key("hook", b"the secret of one hook", Scope(hooks=("99",))),
    Key("octo-too", b"the secret of all of octo's", Scope(hooks=("7",))),
)


@pytest.fixture
def served(data: Path) -> Iterator[Served]:
    with serving(data, keys=KEYS) as one:
        yield one


def secret(name: str) -> bytes:
    return next(key.secret for key in KEYS if key.name == name)


def test_a_delivery_records_the_secret_within_whose_scope_it_is(served: Served) -> None:
    def accepted(payload: Any, by: str, hook: str = "7") -> str | None:
        answer = served.post("issues", payload, hook=hook, secret=secret(by))
        if answer.status != 202:
            assert (answer.status, answer.json["error"]) == (401, "signature_out_of_scope")
            return None
        return str(served.ask(f"/api/v1/deliveries/{answer.json['delivery']}").json["secret"])

    elsewhere = issue(repo="acme/tool", installation={"id": 5})
    assert accepted(issue(), "octo", hook="8") == "octo"
    assert accepted(elsewhere, "octo", hook="8") is None
    assert accepted(elsewhere, "octo") == "octo-too", "the same bytes under another name, whose scope it is in"
    assert accepted(issue(repo="acme/tool"), "app") == "app"
    assert accepted(elsewhere, "app") is None
    assert accepted(elsewhere, "hook", hook="99") == "hook"
    assert accepted(issue(), "hook") is None
    bare = {"action": "opened", "zen": "a body that names no repository"}
    assert accepted(bare, "octo", hook="8") is None
    assert accepted(bare, "app") is None
    assert served.refused() == {"signature_out_of_scope": 5}
    lines = [json.loads(line) for line in (served.data / "refused.jsonl").read_text().splitlines()]
    assert "Secret 'app' signed it" in lines[-1]["detail"]
    assert len(records(served.data, "delivery.received")) == 4


def test_an_unsigned_body_is_never_parsed_to_find_whose_it_is(served: Served) -> None:
    """A body that would be refused with 400 is answered 401 as long as nobody known signed it."""
    for body in (b"[", b"{}", b'{"a":' * 5000, b"\xff"):
        answer = served.post("issues", body, secret="nobody's")
        assert (answer.status, answer.json["error"]) == (401, "signature_wrong")
        assert served.post("issues", body, secret=secret("app")).json["error"] != "signature_wrong"


# ---- which may be retired

NOW = 1_800_000_000.0
DAY = 86400.0


class Story:
    """Deliveries, in order, and what becomes of the secrets that verified them."""

    def __init__(self) -> None:
        self.conn = in_memory("DEFERRED")
        schema.create(self.conn)
        self.seq = 0

    def used(self, name: str, hook: str = "7", *, days_ago: float = 1.0, source: str = "http") -> Story:
        self.seq += 1
        (record,) = as_records([received(f"g-{self.seq}", hook, secret=name, source=source)], first=self.seq)
        fold(self.conn, [structs.replace(record, at=_at(days_ago))])
        return self

    def verdicts(self, *names: str, broken: str = "") -> dict[str, str]:
        held = [(SecretSource(name, env=name), "is gone" if name == broken else None) for name in names]
        items = secret_usage.view(self.conn, held, NOW).items
        for item in items:
            assert item.retire == (item.verdict == "retire")
            assert item.reason.endswith(".")
        return {item.name: item.verdict for item in items}


def _at(days_ago: float) -> str:
    return at_text(NOW - days_ago * DAY)


def test_the_only_secret_is_never_to_be_retired() -> None:
    assert Story().verdicts("a") == {"a": "only"}
    assert Story().used("a", days_ago=400).verdicts("a") == {"a": "only"}
    assert Story().used("a").used("b").verdicts("a", "b", broken="b") == {"a": "only", "b": "unreadable"}


def test_a_secret_may_go_when_every_hook_of_its_has_changed_over() -> None:
    story = Story().used("old").used("old", "8")
    assert story.verdicts("old", "new") == {"old": "in_use", "new": "unused"}
    story.used("new")
    assert story.verdicts("old", "new") == {"old": "wait", "new": "in_use"}
    story.used("old", "8")
    assert story.verdicts("old", "new") == {"old": "in_use", "new": "in_use"}
    story.used("new", "8")
    assert story.verdicts("old", "new") == {"old": "retire", "new": "in_use"}
    assert story.verdicts("new") == {"new": "only", "old": "gone"}


def test_a_hook_that_is_silent_is_waited_for_a_month() -> None:
    story = Story().used("old", "8", days_ago=40).used("old", days_ago=40).used("new", days_ago=39)
    assert story.verdicts("old", "new")["old"] == "retire"
    story = Story().used("old", "8", days_ago=20).used("old", days_ago=20).used("new", days_ago=19)
    assert story.verdicts("old", "new")["old"] == "wait"
    item = secret_usage.view(story.conn, [(SecretSource(n, env=n), None) for n in ("old", "new")], NOW).items[0]
    assert item.waiting_for == ["8"]
    assert "not used since new began to be, but hook 8 has not delivered since" in item.reason


def test_two_apps_side_by_side_are_both_in_use() -> None:
    story = Story().used("one", "1").used("two", "2").used("one", "1").used("two", "2")
    assert story.verdicts("one", "two") == {"one": "in_use", "two": "in_use"}


def test_a_silent_hook_is_not_given_up_for_a_secret_that_may_not_speak_for_it() -> None:
    story = Story().used("one", "1", days_ago=50).used("two", "2", days_ago=40)
    held: list[secret_source.SecretStatus] = [
        (SecretSource("one", env="A"), None),
        (SecretSource("two", env="B", scope=Scope(hooks=("2",))), None),
    ]
    assert secret_usage.view(story.conn, held, NOW).items[0].verdict == "in_use"


def test_what_send_sent_says_nothing_of_what_github_signs_with() -> None:
    story = Story().used("old").used("new")
    for hook in ("7", "446581321"):
        story.used("old", hook, source="send")
        assert story.verdicts("old", "new") == {"old": "retire", "new": "in_use"}
    story = Story().used("old").used("new", source="send")
    assert story.verdicts("old", "new") == {"old": "in_use", "new": "unused"}


def test_what_was_fetched_is_use_of_its_secret_and_no_evidence_that_its_hook_was_changed() -> None:
    story = Story().used("old").used("new", source="import")
    assert story.verdicts("old", "new") == {"old": "in_use", "new": "wait"}
    item = secret_usage.view(story.conn, [(SecretSource("new", env="A"), None)], NOW).items[0]
    assert (item.last_used_at, item.recent, item.hooks) == (_at(1), 1, 1)
    story.used("new")
    assert story.verdicts("old", "new") == {"old": "retire", "new": "in_use"}


def test_counts_and_dates() -> None:
    story = Story().used("a", days_ago=50).used("a", days_ago=3).used("a", "8", days_ago=2).used("b", days_ago=1)
    a, b = secret_usage.view(story.conn, [(SecretSource(n, file=Path("/x") / n), None) for n in "ab"], NOW).items
    assert (a.recent, a.hooks, a.first_used_at, a.last_used_at) == (2, 2, _at(50), _at(2))
    assert (a.last_delivery, b.last_delivery) == ("8/g-3", "7/g-4")
    assert (a.source, a.place, a.readable, a.problem) == ("file", "/x/a", True, None)


def test_many_secrets_and_deliveries_are_asked_for_by_the_index() -> None:
    """Alone, but for the one row at either end: it must not be imported."""
    conn = Story().conn
    for sql, params, index in (
        (secret_usage._NEXT, ("", ""), "COVERING INDEX deliveries_secret"),
        *((sql, ("", ""), "INDEX deliveries_secret") for sql in secret_usage._ENDS),
        (secret_usage._COUNT, ("", "", 0), "COVERING INDEX deliveries_secret"),
    ):
        plan = " ".join(str(row[3]) for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}", params))
        assert "SEARCH" in plan and index in plan and "TEMP B-TREE" not in plan, plan


def test_whether_a_secret_can_be_read_is_told_without_reading_it(tmp_path: Path) -> None:
    def told(environ: dict[str, str] | None = None, **source: Any) -> str | None:
        return secret_source.problem(SecretSource("a", **source), environ or {})

    (tmp_path / "full").write_text("s")
    (tmp_path / "empty").touch()
    assert told(file=tmp_path / "full") is None
    assert "is empty" in str(told(file=tmp_path / "empty"))
    assert "can't be read" in str(told(file=tmp_path / "none"))
    assert "can't be read" in str(told(file=tmp_path))
    os.mkfifo(tmp_path / "pipe")
    assert "can't be read: it is no regular file" in str(told(file=tmp_path / "pipe"))
    table = {"github": {"webhook_secrets": [{"name": "a", "file": str(tmp_path / "pipe")}]}}
    with pytest.raises(ConfigError, match="can't be read: it is no regular file"):  # at once: nobody writes to it
        read_secrets(build(table, None, {}), {}, tmp_path)
    assert told({"A": "s"}, env="A") is None
    assert "is not set" in str(told(env="A"))
    assert "is empty" in str(told({"A": ""}, env="A"))
    assert "systemd" in str(told(credential="c"))
    assert told({"CREDENTIALS_DIRECTORY": str(tmp_path)}, credential="full") is None
    assert told(value="v") is None


@pytest.mark.parametrize("source", ["file", "env", "value"])
def test_line_ends_after_a_secret_are_no_part_of_it_wherever_it_is(tmp_path: Path, source: str) -> None:
    text = "0123456789abcdef0123\r\n"
    (tmp_path / "f").write_bytes(text.encode())
    given = {"file": {"file": str(tmp_path / "f")}, "env": {"env": "E"}, "value": {"value": text}}[source]
    config = build({"github": {"webhook_secrets": [{"name": "a", **given}]}}, None, {})
    (key,) = read_secrets(config, {"E": text}, tmp_path)
    assert key.secret == b"0123456789abcdef0123"
    assert secret_keys.warnings([key]) == []


def test_a_secret_of_line_ends_alone_is_empty(tmp_path: Path) -> None:
    config = build({"github": {"webhook_secrets": [{"name": "a", "env": "E"}]}}, None, {})
    with pytest.raises(ConfigError, match="environment variable E is empty"):
        read_secrets(config, {"E": "\n"}, tmp_path)
    assert "is empty" in str(secret_source.problem(SecretSource("a", env="E"), {"E": "\r\n"}))
    with pytest.raises(ConfigError, match="is empty"):
        secret_of(value="\n")


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        (b"\xef\xbb\xbf0123456789abcdef", "begins with a byte order mark"),
        ("0123456789abcdef".encode("utf-16"), "is UTF-16"),
        (b" 0123456789abcdef", "begins with a blank"),
        (b"0123456789abcdef\t", "ends with a blank"),
        (b"\n0123456789abcdef", "begins with a blank"),
        ("0123456789abcdef\N{NO-BREAK SPACE}".encode(), "ends with a blank"),
        ("\N{ZERO WIDTH SPACE}0123456789abcdef".encode(), "begins with a blank"),
        (b'"0123456789abcdef"', "is in quotes"),
        (b"'0123456789abcdef'", "is in quotes"),
        ("\N{LEFT DOUBLE QUOTATION MARK}0123456789abcdef\N{RIGHT DOUBLE QUOTATION MARK}".encode(), "is in quotes"),
    ],
)
def test_what_is_around_a_secret_by_mistake_is_warned_of(secret: bytes, problem: str) -> None:
    (warning,) = secret_keys.warnings([Key("app", secret)])
    assert warning.words.startswith(f"webhook secret 'app' {problem}")
    assert warning.counts
    assert "0123456789abcdef" not in warning.words


def test_inner_blanks_and_quotes_of_a_secret_are_nobodys_mistake() -> None:
    assert secret_keys.warnings([Key("app", b"a secret 'of' words")]) == []
    assert secret_keys.warnings([Key("app", b"\xff\x00 binary, of any kind")]) == []


def test_a_variable_with_a_line_end_verifies_and_one_with_a_blank_is_told_at_the_start(
    make_daemon: Callable[..., Daemon],
) -> None:
    named = '{ name = "a", env = "E" }, { name = "b", value = "value-nl-0123456789ab\\n" }, { name = "c", env = "F" }'
    env = {"E": "0123456789abcdef0123\n", "F": " fedcba9876543210", "COVENQ_WEBHOOK_SECRET": "0011223344556677\n"}
    daemon = make_daemon(f"[github]\nwebhook_secrets = [{named}]\n", secret=None, env=env)
    for number, secret in enumerate(("0123456789abcdef0123", "value-nl-0123456789ab", "0011223344556677"), 1):
        assert daemon.post("issues", issue(number), secret=secret).status == 202
    daemon.wait_told("webhook secret 'c' begins with a blank")
    assert daemon.post("issues", issue(9), secret="fedcba9876543210").status == 401
    told = daemon.cli("refused").stdout + daemon.cli("refused").stderr
    assert b"covenq doctor" in told
    assert b"webhook secret 'c' begins with a blank" in daemon.cli("doctor", exit_code=None).stdout


# ---- covenq secrets

CONFIG = """
[github]
webhook_secrets = [
  { name = "old", file = "old" },
  { name = "new", env = "NEW_SECRET", hooks = [446581321], repositories = ["octo/*"] },
]
"""


def test_the_command_tells_the_same_with_and_without_a_daemon(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    (tmp_path / "old").write_text("the old webhook secret\n")
    daemon = make_daemon(CONFIG, secret=None, env={"NEW_SECRET": "the new webhook secret"})
    assert daemon.post("issues", issue(1), secret="the old webhook secret").status == 202
    assert daemon.post("issues", issue(2), secret="the new webhook secret").status == 202
    assert daemon.post("issues", issue(3, repo="acme/x"), secret="the new webhook secret").status == 401
    old, new = daemon.cli_json("secrets")["items"]
    assert (old["name"], old["verdict"], old["retire"], old["recent"]) == ("old", "retire", True, 1)
    assert (new["verdict"], new["source"], new["place"], new["readable"]) == ("in_use", "env", "NEW_SECRET", True)
    assert new["scope"] == {"hooks": ["446581321"], "installations": [], "repositories": ["octo/*"]}
    table = daemon.cli("secrets")
    assert table.stdout.splitlines()[0].split()[:2] == [b"NAME", b"FROM"]
    assert b"hook 446581321, octo/*" in table.stdout and b"has signed with another since (new)" in table.stderr
    daemon.stop()
    lines = [json.loads(line) for line in daemon.cli("secrets", "--jsonl", env={"NEW_SECRET": ""}).stdout.splitlines()]
    assert [line["verdict"] for line in lines] == ["retire", "in_use"]
    assert lines[1]["readable"] is False and "is empty" in lines[1]["problem"]
    everything = table.stdout + table.stderr + daemon.log.read_bytes() + json.dumps([old, new, lines]).encode()
    assert b"webhook secret\\n" not in everything and b"the old webhook" not in everything
    assert b"the new webhook" not in everything


def test_send_signs_with_a_secret_that_may_speak_for_what_it_sends(make_daemon: Callable[..., Daemon]) -> None:
    named = [
        '{ name = "other", value = "the secret of another place", repositories = ["nobody/*"] }',
        '{ name = "unset", env = "NOT_SET_HERE" }',
        '{ name = "mine", value = "the secret of this place here", hooks = [77] }',
    ]
    text = f"[github]\nhooks = [77]\nwebhook_secrets = [{', '.join(named)}]\n"
    daemon = make_daemon(text, secret=None, env={"NOT_SET_HERE": "but here it is set, and long"})
    del daemon.env["NOT_SET_HERE"]
    guid = daemon.cli("send", "issues").stdout.decode().strip()
    found = daemon.cli_json("show", guid)
    assert (found["hook"], found["secret"], found["source"]) == ("77", "mine", "send")
    (mine,) = (one for one in daemon.cli_json("secrets")["items"] if one["name"] == "mine")
    assert mine["verdict"] == "unused"


@pytest.mark.parametrize("text", ["[github]\nhooks = [\n", "[worker]\nconcurrency = " + "9" * 5000 + "\n"])
def test_a_reload_that_is_refused_is_seen_in_the_status_and_the_log(
    make_daemon: Callable[..., Daemon], tmp_path: Path, text: str
) -> None:
    daemon = make_daemon('[github]\nwebhook_secrets = [{ name = "a", value = "a secret long enough" }]\n', secret=None)
    assert daemon.config is not None
    daemon.config.write_text(text)

    def refused() -> Any:
        found = daemon.cli_json("status")
        return None if found["reload"]["ok"] else found

    status = eventually(refused, what="a refusal")
    assert "covenq.toml: " in status["reload"]["error"] and "line" in status["reload"]["error"]
    assert status["ready"] is True
    assert daemon.post("issues", issue(), secret="a secret long enough").status == 202
    daemon.wait_told("the configuration is refused, and what was in effect stays")
    assert b"REFUSED" in daemon.cli("status").stdout
    assert sign(b"", "a secret long enough") not in daemon.log_tail()
