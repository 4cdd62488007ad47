"""covenq audit: who did what to what, out of the journal and the logs beside it, each line once, and nothing that was erased."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from covenq.cli.commands import audit as command
from covenq.client.local import LocalSource
from covenq.client.remote import RemoteSource
from covenq.config.load import Config
from covenq.errors import UsageError
from covenq.filter.grammar import parse
from covenq.intake.refusal_log import Refusals
from covenq.model import Kind, at_text
from covenq.model.audit import Audit, AuditLine, What
from covenq.net.http_client import Client
from covenq.operate.inspect import audit, audit_logs
from covenq.operate.inspect.audit_records import KINDS, LEFT_OUT, TEXT_MAX, line_of, who_of
from covenq.paths import READS_NAME, REFUSALS_NAME
from journal.records import Entry
from tests.operate.test_tail import Log
from tests.support.checkout import ROOT
from tests.support.journals.chosen import config_in
from tests.support.records import START, as_records, moved, note, of, queued, received
from tests.support.requests import issue
from tests.support.serving import Served, serving

PAUSE = {"what": "repo", "name": "6", "by": "cli:mona", "reason": "moving", "intake": None}


def history() -> list[Entry]:
    """Seqs 1 to 16, a second each from START + 1 on."""
    return [
        received("a"),
        queued("a"),
        moved("claimed", of("a"), attempt=1, worker="w1"),
        moved("phase", of("a"), attempt=1, claim=3, phase="started"),
        moved("retry", of("a"), attempt=1, claim=3, category="exit", detail="exit 1"),
        received("b", event="push", repo_id=8, installation=9, about={"repo": "octo/other"}),
        note("ignored", "b", reason="no_match", detail="No route."),
        note("repeated", "a", received=1),
        note("conflicted", "a", received=1),
        moved("cancelled", of("a"), by="cli:mona", reason="not needed"),
        moved("requeued", of("a"), by="token:deploy (cli:mona)", reason=None),
        Entry("ops.pauses", "ops.paused", PAUSE, {"repo": "octo/hello"}),
        Entry("ops.pauses", "ops.resumed", {**PAUSE, "of": [12], "by": "tui:sam"}),
        Entry("ops.late", "ops.late", {"task": of("a"), "attempt": 1, "what": "complete", "worker": "w1"}),
        Entry("ops.retention", "journal.dropped", {"drops": [[1, 1], [6, 6]], "reason": "retention", "by": "daemon"}),
        Entry("ops.journal", "journal.synced", {}),
    ]  # fmt: skip


def lines(
    log: Log, data: Path, filter: str = "", who: str | None = None, what: str | None = None, **more: Any
) -> Audit:
    asked = {"after": None, "newest": None, "limit": 0, **more}
    return audit.answer(
        log.conn,
        log,
        data,
        audit.wanted(parse(filter), who, what),
        now=START + 1000,
        **asked,  # type: ignore[arg-type]
    )


def seqs(log: Log, data: Path, *args: Any, **more: Any) -> list[int | None]:
    return [one.seq for one in lines(log, data, *args, **more).items]


def told(line: AuditLine) -> tuple[str, str | None, str, str, str | None, str, str | None]:
    return line.who.kind, line.who.name, line.what, line.on.kind, line.on.id, line.outcome, line.reason


# ---- what is told


def test_each_record_is_told_by_who_did_what_to_what_and_how_it_ended(tmp_path: Path) -> None:
    task = of("a")
    assert [told(one) for one in lines(Log(history()), tmp_path).items] == [
        ("sender", "9", "accepted", "delivery", "9/a", "done", None),
        ("system", None, "queued", "task", task, "done", None),
        ("system", "w1", "claimed", "task", task, "done", None),
        ("system", "w1", "retried", "task", task, "failed", "exit"),
        ("sender", "9", "accepted", "delivery", "9/b", "done", None),
        ("system", None, "ignored", "delivery", "9/b", "done", "no_match"),
        ("sender", "9", "repeated", "delivery", "9/a", "done", None),
        ("sender", "9", "conflicted", "delivery", "9/a", "refused", None),
        ("operator", "cli:mona", "cancelled", "task", task, "done", "not needed"),
        ("token", "deploy", "requeued", "task", task, "done", None),
        ("operator", "cli:mona", "paused", "repo", "6", "done", "moving"),
        ("operator", "tui:sam", "resumed", "repo", "6", "done", "moving"),
        ("system", "w1", "late", "task", task, "refused", "complete"),
        ("system", "daemon", "dropped", "journal", None, "done", "retention"),
    ]


def test_a_line_says_what_is_known_of_what_it_was_done_to(tmp_path: Path) -> None:
    found = {one.seq: one for one in lines(Log(history()), tmp_path).items}
    claimed, ignored, requeued, paused, dropped = (found[seq] for seq in (3, 7, 11, 12, 15))
    assert (claimed.hook, claimed.guid, claimed.route, claimed.repo, claimed.repo_id) == (
        "9",
        "a",
        "fix",
        "octo/hello",
        6,
    )
    assert (claimed.event, claimed.action, claimed.number, claimed.attempt, claimed.installation) == (
        "issues",
        "opened",
        12,
        1,
        5,
    )
    assert (ignored.event, ignored.repo, ignored.repo_id, ignored.installation) == ("push", "octo/other", 8, 9)
    assert (ignored.detail, ignored.task) == ("No route.", None)
    assert requeued.who.claimed == "cli:mona"
    assert (paused.repo, paused.repo_id) == ("octo/hello", 6)
    assert dropped.count == 2
    assert all(one.verified is None and one.status is None for one in found.values())


SUBJECTS = {f"ops.{name}" for name in ("name", "journal", "pauses", "retention", "redaction", "intake")}


def test_every_kind_of_record_is_told_or_left_out_and_every_word_is_used() -> None:
    pages = [(ROOT / "man" / name).read_text() for name in ("covenq-state.5", "covenq-journal.5")]
    kinds = {kind for page in pages for kind in re.findall(r"\b((?:delivery|task|ops|journal)\.[a-z_]+)\b", page)}
    kinds -= {
        "ops.name",
        "ops.journal",
        "ops.pauses",
        "ops.retention",
        "ops.redaction",
        "ops.intake",
        "ops.scope_",
        "ops.reconcile_",
        "ops.ledger_",
    }
    kinds |= {str(kind) for kind in Kind}
    kinds = {kind for kind in kinds if not kind.endswith("_")} - {"task.t", "journal.name"}
    missing = {kind for kind in kinds if kind not in KINDS and kind not in LEFT_OUT}
    assert not missing, (
        "say in covenq/operate/inspect/audit_records.py what they are told by, or that they are left out"
    )
    assert not KINDS.keys() & LEFT_OUT
    assert {told.what for told in KINDS.values()} | {"refused", "read", "requested"} == set(get_args(What))


def test_every_word_is_in_the_manual() -> None:
    page = (ROOT / "man" / "covenq-http.7").read_text().partition("/api/v1/audit")[2].partition("\n.TP\n\\fBGET")[0]
    for word in get_args(What):
        assert re.search(rf"\b{word}\b", page), word


@pytest.mark.parametrize(
    ("by", "who"),
    [
        ("cli:mona", ("operator", "cli:mona", None)),
        ("api", ("operator", "api", None)),
        ("daemon", ("system", "daemon", None)),
        ("token:deploy", ("token", "deploy", None)),
        ("token:deploy (tui:sam)", ("token", "deploy", "tui:sam")),
        ("token:deploy (a (b))", ("token", "deploy", "a (b)")),
        ("x" * 5000, ("operator", "x" * TEXT_MAX, None)),
        ("a\0b\udcff", ("operator", "a\ufffdb?", None)),
        (None, None),
        ("", None),
        (7, None),
        (["cli:mona"], None),
    ],
)  # fmt: skip
def test_who_is_read_out_of_by(by: object, who: tuple[str, str | None, str | None] | None) -> None:
    found = who_of(by)
    assert (None if found is None else (found.kind, found.name, found.claimed)) == who


def test_an_import_is_its_operators_and_what_the_daemon_fetched_is_its(tmp_path: Path) -> None:
    origins = [{"format": "github", "by": by} for by in ("cli:mona", "daemon", None)]
    log = Log([received(f"g{n}", source="import", origin=origin) for n, origin in enumerate(origins)])
    assert [told(one)[:3] for one in lines(log, tmp_path).items] == [
        ("operator", "cli:mona", "accepted"), ("system", "daemon", "accepted"), ("system", "import", "accepted"),
    ]  # fmt: skip


WILD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=300) | st.floats(),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=8), one, max_size=3),
    max_leaves=6,
)
FIELDS = (
    "by",
    "reason",
    "detail",
    "what",
    "name",
    "worker",
    "attempt",
    "claim",
    "repo_id",
    "origin",
    "source",
    "secret",
    "task",
    "drops",
    "category",
    "hook",
)


@settings(max_examples=60)
@given(kind=st.sampled_from(sorted(KINDS)), data=st.dictionaries(st.sampled_from(FIELDS), WILD))
def test_whatever_a_record_says_it_is_a_line_of_bounded_texts(kind: str, data: dict[str, Any]) -> None:
    wing = kind.partition(".")[0]
    subject = {"delivery": "delivery.9.x", "task": f"task.{of('x')}"}.get(wing, "ops.x")
    (record,) = as_records([Entry(subject, kind, data)])
    line = line_of(record)
    assert line is not None
    texts = [value for value in msgspec.to_builtins(line).values() if isinstance(value, str)]
    assert all(len(text) <= TEXT_MAX for text in texts)
    assert msgspec.convert(json.loads(msgspec.json.encode(line)), AuditLine) == line


# ---- which lines


@pytest.mark.parametrize(
    ("filter", "who", "what", "found"),
    [
        ("", "operator", None, [10, 12, 13]),
        ("", "operator,token", None, [10, 11, 12, 13]),
        ("", "operator:cli:*", None, [10, 12]),
        ("", "token:deploy", None, [11]),
        ("", "token:other", None, []),
        ("", "system:w1", None, [3, 5, 14]),
        ("", None, "ignored,conflicted", [7, 9]),
        ("", "sender", "accepted", [1, 6]),
        ("event:push", None, None, [6, 7]),
        ("repo:OCTO/hello", None, None, [1, 2, 3, 5, 8, 9, 10, 11, 12, 14]),
        ("repo_id:6", None, "paused,resumed,accepted", [1, 12, 13]),
        ("installation:9", None, None, [6, 7]),
        ("-installation:*", None, None, [12, 13, 15]),
        ("route:fix", None, "cancelled,accepted", [1, 10]),
        ("reason:no_match", None, None, [7]),
        ("reason:moving", None, None, [12, 13]),
        ("before:2027-01-15T08:00:03Z", None, None, [1, 2]),
        ("since:2027-01-15T08:00:14Z", None, None, [14, 15]),
        ("age<990s", None, None, [11, 12, 13, 14, 15]),
        ("since:2027-01-15T08:00:03Z before:2027-01-15T08:00:06Z", None, None, [3, 5]),
        ("-since:2027-01-15T08:00:03Z", None, None, [1, 2]),
        ("guid:b", None, None, [6, 7]),
        (f"id:{of('a')}", None, "claimed", [3]),
        ("other", None, None, [6, 7]),
    ],
)  # fmt: skip
def test_which_lines_match(filter: str, who: str | None, what: str | None, found: list[int], tmp_path: Path) -> None:
    assert seqs(Log(history()), tmp_path, filter, who, what) == found


@pytest.mark.parametrize(
    ("filter", "who", "what", "after", "words"),
    [
        ("payload.a:b", None, None, None, "can't be filtered by payloads"),
        ("", "nobody", None, None, "'nobody' is nobody"),
        ("", "sender,", None, None, "'' is nobody"),
        ("", None, "", None, "is nothing that is told"),
        ("", None, "acepted", None, "is nothing that is told"),
        ("", None, None, "x", "is no cursor"),
        ("", None, None, "1.r5", "is no cursor"),
        ("", None, None, "9" * 40, "is no cursor"),
    ],
)
def test_what_can_not_be_asked(
    filter: str, who: str | None, what: str | None, after: str | None, words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        lines(Log(history()), tmp_path, filter, who, what, after=after)
    assert refused.value.hint


# ---- the logs beside the journal


def refuse(path: Path, /, *times: float, limit: int = 1 << 20, **about: Any) -> None:
    refusals = Refusals(path / REFUSALS_NAME, limit=limit)
    for at in times:
        refusals.note("signature_wrong", 401, "It is of no secret.", at=at, **about)


def use(path: Path, /, *times: float, **more: Any) -> None:
    with (path / READS_NAME).open("a") as file:
        for at in times:
            line = {
                "at": at_text(at),
                "token": "deploy",
                "method": "GET",
                "path": "/api/v1/tasks/{id}",
                "status": 200,
                "count": 3,
                "items": 3,
            }
            file.write(json.dumps(line | more) + "\n")


def test_what_was_refused_and_what_tokens_were_used_for_stands_where_it_was(tmp_path: Path) -> None:
    refuse(tmp_path, START + 2.5, delivery="zz", hook="9", event="issues", client="192.0.2.7")
    refuse(tmp_path, START + 0.5, START + 99, path="/nowhere", client="192.0.2.7")
    use(tmp_path, START + 7.5)
    use(tmp_path, START + 8.5, method="POST", path="/api/v1/requeue", status=403, count=1)
    log = Log(history())
    found = lines(log, tmp_path).items
    assert [one.seq for one in found] == [1, 2, None, None, 3, 5, 6, 7, None, 8, None, 9, 10, 11, 12, 13, 14, 15, None]
    assert [told(one) for one in found if one.seq is None] == [
        ("sender", "9", "refused", "delivery", "9/zz", "refused", "signature_wrong"),
        ("sender", "192.0.2.7", "refused", "request", "/nowhere", "refused", "signature_wrong"),
        ("token", "deploy", "read", "request", "GET /api/v1/tasks/{id}", "done", None),
        ("token", "deploy", "requested", "request", "POST /api/v1/requeue", "refused", None),
        ("sender", "192.0.2.7", "refused", "request", "/nowhere", "refused", "signature_wrong"),
    ]
    assert [(one.status, one.count, one.verified) for one in found if one.seq is None] == [
        (401, None, False), (401, None, False), (200, 3, None), (403, 1, None), (401, None, False),
    ]  # fmt: skip
    assert len(lines(log, tmp_path, "event:issues", None, "refused").items) == 1
    assert len(lines(log, tmp_path, "since:2027-01-15T08:01:00Z").items) == 1
    assert [one.what for one in lines(log, tmp_path, "", "token").items] == ["read", "requested", "requeued"]


def test_what_is_no_line_of_a_log_is_passed_over(tmp_path: Path) -> None:
    log = Log([received("a")])
    junk = [
        b"",
        b"{}",
        b"nonsense",
        b'{"at":7}',
        b"\xff\xfe",
        b"[" * 3000,
        b"x" * (audit_logs.LINE_MAX * 2 + 5),
        b'{"at":"' + b"x" * 9000,
    ]
    for name in (REFUSALS_NAME, READS_NAME):
        (tmp_path / name).write_bytes(b"\n".join(junk) + b"\n")
    refuse(tmp_path, START + 5)
    use(tmp_path, START + 6, path="/\udcff")  # half a pair of surrogates
    use(tmp_path, START + 6, token="x" * 5000, count=-5)
    with (tmp_path / REFUSALS_NAME).open("ab") as file:
        file.write(b'{"at":"2027-01-15T08:00:09.000000Z","error":"half')
    for found in (lines(log, tmp_path), lines(log, tmp_path, newest=10)):
        assert [one.what for one in found.items] == ["accepted", "refused", "read"]
        assert found.items[2].who.name == "x" * 200 and found.items[2].count == 0
    with (tmp_path / REFUSALS_NAME).open("ab") as file:
        file.write(b'","status":400}\n')
    assert [one.reason for one in lines(log, tmp_path, after=found.next).items] == ["half"]


# ---- each line once


@settings(max_examples=30)
@given(data=st.data())
def test_whatever_comes_and_moves_on_meanwhile_each_line_is_told_once(
    data: st.DataObject, tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.mktemp("logs")
    log, entries = Log(history()[:1]), history()[1:]
    written: list[str] = ["1"]
    found: list[str] = []
    after: str | None = None
    clock = START + 1
    refusals = Refusals(path / REFUSALS_NAME, limit=data.draw(st.sampled_from([700, 1 << 20])), clock=lambda: clock)

    def ask(limit: int) -> bool:
        nonlocal after
        page = lines(log, path, after=after, limit=limit)
        after = page.next
        found.extend(str(one.seq or one.detail or one.on.id) for one in page.items)
        return page.more or len(page.items) == limit

    for step in range(data.draw(st.integers(1, 25))):
        clock += data.draw(st.sampled_from([0.0, 0.5, 3.0]))
        match data.draw(st.sampled_from(["record", "refuse", "use", "ask", "ask"])):
            case "record" if entries:
                record = replace(as_records([entries.pop(0)], first=len(log.records) + 1)[0], at=at_text(clock))
                log.records.append(record)
                log.fold([record])
                if record.kind in KINDS:
                    written.append(str(record.seq))
            case "refuse":
                refusals.note("x", 400, f"refusal {step}", at=clock)
                written.append(f"refusal {step}")
                while ask(5):  # a log that moves on twice between two looks has lost lines
                    pass
            case "use":
                use(path, clock, path=f"/{step}")
                written.append(f"GET /{step}")
            case _:
                ask(data.draw(st.integers(1, 4)))
    while ask(3):
        pass
    assert sorted(found) == sorted(written)
    records = [one for one in found if one.isdecimal()]
    assert records == sorted(records, key=int)


def test_a_page_that_reads_much_and_finds_little_says_that_there_is_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "SCAN_MAX", 4)
    log, after, asked, found = Log(history()), None, 0, []
    while True:
        page = lines(log, tmp_path, "", "token", after=after)
        found += page.items
        after, asked = page.next, asked + 1
        if not page.more:
            break
    assert [one.seq for one in found] == [11] and asked == 4


def test_the_newest_are_the_last_of_all_and_how_far_was_looked_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(tmp_path, START + 2.5, START + 14.5)
    log = Log(history())
    every = lines(log, tmp_path).items
    monkeypatch.setattr(audit, "CHUNK", 3)
    for number in range(1, len(every) + 3):
        page = lines(log, tmp_path, newest=number)
        assert page.items == every[-number:] and page.whole and not page.more
        assert lines(log, tmp_path, after=page.next).items == []
    assert seqs(log, tmp_path, "", "operator", newest=2) == [12, 13]
    monkeypatch.setattr(audit, "LOOK_BACK", 4)
    page = lines(log, tmp_path, "", "operator", newest=2)
    assert [one.seq for one in page.items] == [13] and not page.whole
    assert lines(log, tmp_path, "since:2027-01-15T08:00:13Z", "operator", newest=2).whole


def test_a_cursor_of_another_history_goes_on_from_its_end(tmp_path: Path) -> None:
    log = Log(history())
    page = lines(log, tmp_path, after="99999")
    assert (page.items, page.next, page.more) == ([], "16", False)


def test_the_newest_of_long_logs_are_at_their_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(tmp_path, *(START + 20 + n for n in range(40)), limit=3000)
    monkeypatch.setattr(audit_logs, "NEWEST_BYTES", 900)
    log = Log(history())
    every = [one.at for one in lines(log, tmp_path, "", None, "refused").items]
    found = [one.at for one in lines(log, tmp_path, "", None, "refused", newest=40).items]
    assert 3 < len(found) < len(every) and every[-len(found) :] == found


# ---- what was erased


def test_a_name_that_was_erased_is_told_of_nothing(tmp_path: Path) -> None:
    log = Log(history())
    assert "octo/hello" in repr(lines(log, tmp_path).items)
    redacted = [
        note("redacted", "a", received=1, drops=[[1, 2]], about=True, by="cli:mona"),
        Entry("ops.redaction", "ops.redacted", {"drops": [[12, 12]], "about": True, "by": "cli:mona", "reason": None}),
    ]
    records = as_records(redacted, first=17)
    log.records += records
    log.fold(records)
    found = lines(log, tmp_path).items
    assert "octo/hello" not in repr(found) and (log.records[11].about or {})["repo"] == "octo/hello"
    assert [told(one)[:3] for one in found[-2:]] == [("operator", "cli:mona", "redacted")] * 2
    assert [one.count for one in found[-2:]] == [2, 1]
    assert [one.repo_id for one in found if one.what in ("accepted", "paused")] == [6, 8, 6]


# ---- through the API, and without a daemon


@pytest.fixture
def served(data: Path) -> Iterator[Served]:
    with serving(data) as served:
        yield served


def test_the_daemon_and_the_files_answer_alike(served: Served) -> None:
    for n in range(3):
        served.post("issues", issue(n), f"g{n}")
    served.post("issues", issue(0), "g0")
    served.post("issues", issue(0), "bad", secret="wrong")
    with RemoteSource(Client(served.socket)) as remote:
        whole = remote.audit()
        assert {one.what for one in whole.items} >= {"accepted", "queued", "repeated", "refused"}
        assert remote.audit(who="sender", what="refused", newest=5).items[0].guid == "bad"
        first = remote.audit(limit=2)
        assert first.more and [*first.items, *remote.audit(after=first.next).items] == whole.items
        with pytest.raises(UsageError, match="is no cursor"):
            remote.audit(after="x")
        usage = remote.usage(month="all")
        assert (usage.total.accepted, usage.total.duplicated) == (3, 1)
    local = LocalSource(served.data, config_in(served.data, Config()), lock_s=0)
    assert [one for one in local.audit().items if one.what != "opened"] == [
        one for one in whole.items if one.what != "opened"
    ]
    alone = local.usage(month="all")
    assert (alone.items, alone.total) == (usage.items, usage.total)  # its seq may be that of a sync, noted meanwhile


def test_what_is_followed_comes_as_it_is_done(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "POLL_S", 0.0)
    stream = command.AuditStream([], True, "sender", None, "", 0, str(served.data), None)
    found = stream.lines()
    for n in range(3):
        served.post("issues", issue(n), f"g{n}")
        assert next(found).guid == f"g{n}"
    served.post("issues", issue(0), "bad", secret="wrong")
    assert next(found).what == "refused"
