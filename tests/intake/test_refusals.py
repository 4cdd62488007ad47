"""Why nothing arrived: what is kept of a refusal, how much, what is said about it, and what never is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from msgspec import to_builtins

from covenq.client.open import open_source
from covenq.config.secret_keys import Key
from covenq.daemon.log_masking import LogMask
from covenq.intake import refusal_evidence, refusal_hints
from covenq.intake.refusal_hints import HINTS, REDELIVER, hint_of
from covenq.intake.refusal_log import Refusal, Refusals
from tests.support.checkout import ROOT
from tests.support.daemon import Daemon
from tests.support.journals.chosen import config_in
from tests.support.requests import SECRET, issue, new_guid, signed
from tests.support.serving import serving

WORDS = re.compile(
    r"""(?:refuse\(|_refuse\(req,\ resp,\s(?:onward,\ )?|BadRequest\(|respond_error\(resp,\ |error_body\(|note\(|OutOfScope\()
        \s*(?:\d{3},\ )?"([a-z_]+)"
        |^\ {4}\d{3}:\ \("([a-z_]+)"|\d{3},\ "([a-z_]+)",\ f?"|Reason\("(intake_paused)\"""",
    re.VERBOSE | re.MULTILINE,
)


def test_every_word_of_a_refusal_in_the_code_has_a_hint() -> None:
    found: set[str] = set()
    for name in (
        "intake/answer.py",
        "intake/receive.py",
        "intake/scope_bindings.py",
        "github/request.py",
        "operate/act/pauses.py",
        "http/server/channel.py",
        "http/guard.py",
        "http/app.py",
        "http/page/access.py",
        "http/page/login.py",
    ):
        words = {next(filter(None, groups)) for groups in WORDS.findall((ROOT / "covenq" / name).read_text())}
        assert words, f"no word was found in {name}: has its style changed?"
        found |= words
    found |= {"intake_closed", "standby", "path_unknown", "method_not_allowed"}
    plain = {word for word in HINTS if "/" not in word}
    assert found - plain - {"state_behind", "phases_only"} == set()
    assert plain - found == {"streams_busy"} - found, "a hint for what nothing says"


def test_the_manual_has_every_hint() -> None:
    page = (ROOT / "man" / "covenq-http.7").read_text()
    section = page.partition(".SH WHY A REQUEST IS REFUSED")[2].partition(".SH ")[0]
    told = dict(re.findall(r"\.TP\n\\fB([\w/]+)\\fR\n(.*)", section))
    plain = {word: re.sub(r"\\f[BR]", "", text).replace("\\-", "-") for word, text in told.items()}
    assert plain == {word: text.replace("`", "").replace("{again}", REDELIVER) for word, text in HINTS.items()}


def test_each_kind_of_refusal_is_told_apart_with_and_without_a_daemon(data: Path) -> None:
    with serving(data) as served:
        body, headers = signed("issues", issue(1), new_guid())
        served.request("POST", "/webhook", json.dumps(json.loads(body)).encode(), headers)  # json.dumps adds spaces
        served.post("issues", issue(2), secret="another")
        served.request("POST", "/webhook", b"", {**headers, "X-Forwarded-For": "192.0.2.7"})
        unsigned = {name: value for name, value in headers.items() if "Signature" not in name}
        served.request("POST", "/webhook", body, unsigned)
        served.request("POST", "/webhook", body, {**headers, "Content-Type": "text/plain"})
        served.request("POST", "/github", body, headers)
        with open_source(data, config_in(data)) as remote:
            assert remote.live
            found = remote.refused()
            assert remote.refused(limit=2) == found[:2]
            assert len(remote.refused(limit=0)) == 6
    words = [(one.error, one.body) for one in reversed(found)]
    assert words == [
        ("signature_wrong", "reformatted"),
        ("signature_wrong", None),
        ("signature_wrong", "empty"),
        ("signature_missing", None),
        ("content_type_unsupported", None),
        ("path_unknown", None),
    ]
    assert all(one.hint for one in found)
    assert len({one.hint for one in found}) == 6
    rewritten, other, empty = list(reversed(found))[:3]
    assert "wrote it anew" in rewritten.hint and "none of covenq's" in other.hint
    assert rewritten.delivery == headers["X-GitHub-Delivery"] and rewritten.github is True
    assert empty.proxied is True and other.proxied is None
    daemon = Daemon(data)
    assert daemon.cli_json("refused", "--limit", "0")["items"] == to_builtins(found)
    assert len(daemon.cli("refused", "--jsonl", "--limit", "3").stdout.splitlines()) == 3
    shown = daemon.cli("refused")
    assert b"signature_wrong" in shown.stdout and b"covenq-proxy(7)" in shown.stderr


def test_nothing_refused_says_where_to_look_next(data: Path) -> None:
    assert b"recent" in Daemon(data).cli("refused").stderr


def test_the_log_on_disk_is_bounded_and_the_newest_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "refused.jsonl"
    refusals = Refusals(path, limit=5000)
    for number in range(500):
        refusals.note("path_unknown", 404, "x" * 10_000, path=f"/{number}/" + "y" * 10_000)
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 10_000
    assert {file.name for file in tmp_path.iterdir()} == {"refused.jsonl", "refused.jsonl.1"}
    kept = refusal_hints.latest(tmp_path, 0, False)
    assert [_number(one) for one in kept] == list(range(499, 499 - len(kept), -1)) and len(kept) > 10
    assert refusals.counts() == {"path_unknown": 500}
    with path.open("ab") as file:
        file.write(b'{"at": broken\n[]\n\xff\n{}\n{"at":1}\n{"at":"","error":"x","status":"y"}\n')
        file.write(b'{"at":"","error":"x","status":1,"body":{}}\n')
    assert _number(refusal_hints.latest(tmp_path, 3, False)[0]) == 499


def _number(refusal: Refusal) -> int:
    return int(str(refusal.path).split("/")[1])


def test_a_flood_of_refusals_is_no_flood_of_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(None)
    for _ in range(1000):
        refusals.note("signature_wrong", 401, "no")
        refusals.note("path_unknown", 404, "no")
    assert len(caplog.records) == 2


TOKENS = ("ghp_" + "a1B2" * 9, "github_pat_" + "x" * 30, "covenq_" + "Zz09" * 10 + "abc")


def test_no_secret_or_token_of_a_request_is_kept(data: Path) -> None:
    mask = LogMask()
    keys = (Key("k", SECRET.encode()),)
    mask.use(lambda: keys)
    refusals = Refusals(data, mask=mask)
    data.parent.mkdir(exist_ok=True)
    path = data.parent / "log.jsonl"
    refusals = Refusals(path, mask=mask)
    for token in (*TOKENS, SECRET):
        refusals.note("path_unknown", 404, f"nothing at /{token}", path=f"/hooks/{token}/x", client=token)
        told = refusal_evidence.evidence_of(
            {"USER_AGENT": token, "CONTENT_TYPE": f"a/{token}", "X_GITHUB_EVENT": token}.get, token.encode()
        )
        refusals.note("signature_wrong", 401, "no", **told)
        told = refusal_evidence.evidence_of({"X_GITHUB_DELIVERY": token, "X_GITHUB_HOOK_ID": token}.get)
        refusals.note("signature_wrong", 401, "no", **told)
    kept = path.read_text()
    for token in (*TOKENS, SECRET):
        assert token not in kept
        assert token[8:] not in kept


@pytest.mark.parametrize(
    ("start", "media", "found"),
    [
        (b'{"action":"opened","issue":{"number":1,"title":"a: b { c"}}', "application/json", None),
        (b'{ "action": "opened"', "application/json", "reformatted"),
        (b'{\n  "action"', "application/json", "reformatted"),
        (b'{"action": "opened"', "application/json", "reformatted"),
        (b"payload=%7B%22a%22", "application/json", "form"),
        (b"payload=%7B%22a%22", "application/x-www-form-urlencoded", None),
        (b'{"action":"opened"}', "application/x-www-form-urlencoded", "json"),
        (b"", "application/json", "empty"),
        (b"\xff\xfe", "", None),
    ],
)
def test_what_is_odd_about_a_body(start: bytes, media: str, found: str | None) -> None:
    assert refusal_evidence.body_anomaly(start, media) == found


def test_hints_of_words_to_come_are_empty_not_errors() -> None:
    assert hint_of(Refusal("", "new_word", 400), False) == ""
    assert hint_of(Refusal("", "signature_wrong", 401, body="new_word"), False) == HINTS["signature_wrong"]


def test_where_githubs_log_is_configured_no_hint_of_covenqs_own_fault_asks_to_redeliver() -> None:
    for word in ("busy", "intake_closed", "intake_paused", "journal_full", "starting", "state_behind"):
        plain, fetched = (hint_of(Refusal("", word, 503), logs) for logs in (False, True))
        assert "edeliver it" in plain and "edeliver it" not in fetched and "It is fetched from GitHub's" in fetched
    assert hint_of(Refusal("", "intake_paused", 503), True) == (
        "The intake was paused: `covenq resume intake`. It is fetched from GitHub's delivery log by itself, or by "
        "`covenq reconcile`."
    )
