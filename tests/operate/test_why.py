"""covenq why: the six questions, each answered by a sentence, on a journal that has all there is to ask about."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from covenq.client.local import LocalSource
from covenq.config.load import load
from covenq.errors import Ambiguous
from covenq.filter.explain import Term
from covenq.model.rows import Attempt
from covenq.operate.inspect.history import Story, StoryEvent
from covenq.operate.inspect.story_text import NEAREST_MAX, cause, lines
from covenq.operate.inspect.why import target_of
from covenq.operate.operations import PAUSE, REDACT
from covenq.operate.parameters import Pause, Redact
from covenq.routing.verdicts import Verdict
from journal.records import Appended, Entry
from tests.support import chosen_engine
from tests.support.answers import blank
from tests.support.daemon import Daemon
from tests.support.journals.chosen import open_chosen
from tests.support.records import POLICY, moved, note, of, queued, received
from tests.support.terminal import InTerminal

CONFIG = """
[[route]]
name = "fix"
match = "event:issues action:opened label:bug -sender:*[bot]"
run = ["true"]

[[route]]
name = "review"
match = "event:pull_request number>100"
run = ["true"]
"""


class Past:
    """A data directory without a daemon, in which everything has happened once."""

    def __init__(self, directory: Path) -> None:
        self.data, self.config = directory / "data", directory / "covenq.toml"
        self.data.mkdir(mode=0o700)
        self.config.write_text(CONFIG)
        self.sha256 = load(self.config, {}).sha256
        with open_chosen(self.data) as journal:

            def append(*entries: Entry) -> None:
                assert isinstance(journal.append(entries), Appended)

            def ran(guid: str, kind: str, attempt: int = 1, **data: Any) -> None:
                task = of(guid)
                append(moved("claimed", task, attempt=attempt, worker="w1"))
                append(moved("phase", task, attempt=attempt, phase="started"))
                append(moved(kind, task, attempt=attempt, **data))

            now = {"config": self.sha256}
            append(received("done"), queued("done", **now))
            ran("done", "completed", result="attempts/x/1/result")
            append(received("failed"), queued("failed", **now))
            ran("failed", "retry", category="exit", exit_code=3, not_before="2027-01-15T08:00:00.000000Z")
            ran("failed", "failed", attempt=2, category="timeout", detail="it ran for 600 s")
            append(moved("requeued", of("failed"), by="cli:ada", reason="a larger machine"))
            ran("failed", "failed", attempt=3, category="exit", exit_code=4)
            append(
                received("ignored", event="star", action="created", about={"number": None, "repo": "octo/hello"}),
                note("ignored", "ignored", reason="no_match", detail="No route matches event star.", config="0" * 64),
            )
            append(received("twice"), queued("twice"))
            append(note("repeated", "twice", received=1))
            append(note("repeated", "twice", received=1))
            append(note("conflicted", "twice", received=1))
            append(received("twin", payload=b'{"guid":"twice"}'), queued("twin", **now))
            append(moved("cancelled", of("twin"), by="cli:ada", reason="the issue is closed"))
            append(received("waits"), queued("waits", **now))
            append(received("runs"), queued("runs", **now))
            append(moved("claimed", of("runs"), attempt=1, worker="w1"))
            append(moved("phase", of("runs"), attempt=1, phase="started"))
            append(received("undecided", about={"labels": [], "sender": "renovate[bot]"}))
            append(received("again"), queued("again", **now))
            ran("again", "completed")
            append(note("replayed", "again", replay=1, tasks=[of("again", replay=1)], by="cli:bob", reason="once more"))
            append(queued("again", replay=1, **now))
            append(received("shared", hook="1"), queued("shared", "1"))
            append(received("shared", hook="2"), queued("shared", "2", policy=POLICY))
        (self.data / "refused.jsonl").write_text(
            '{"at":"2026-11-23T02:00:00.000000Z","error":"signature_wrong","status":401,"detail":"No secret made it.",'
            '"delivery":"forged","hook":"9"}\nnot json\n'
        )
        self.source = LocalSource(self.data, load(self.config, chosen_engine.variables(self.data)))

    def story(self, id: str) -> Story:
        (story,) = self.source.why(id).stories
        return story

    def answer(self, id: str, question: str) -> tuple[bool | None, str]:
        found = getattr(self.story(id).answers, question)
        return found.yes, found.words

    def commands(self, id: str) -> list[str]:
        return [step.command for step in self.story(id).next]


@pytest.fixture(scope="module")
def past(journal_engine: None) -> Iterator[Past]:
    with tempfile.TemporaryDirectory(prefix="cq-") as name:
        yield Past(Path(name))


def test_was_it_accepted(past: Past) -> None:
    yes, words = past.answer("done", "accepted")
    assert yes
    assert "durable as record 1 since 20" in words
    assert "signature was made with the secret 'app'" in words
    for question in ("ignored", "failed", "retried", "duplicated"):
        assert past.answer("done", question)[0] is False
    assert past.source.why("nobody-knows-it").kind == "nothing"


def test_was_it_ignored_and_what_on(past: Past) -> None:
    assert past.answer("ignored", "ignored") == (True, "Yes, no_match: No route matches event star.")
    assert past.answer("done", "ignored") == (False, "No: route fix wanted it.")
    fix, review = past.story("ignored").rules.routes
    assert (fix.matches, review.matches) == (False, False)
    assert {term.text: term.holds for term in fix.terms} == {
        "event:issues": False,
        "action:opened": False,
        "label:bug": True,
        "-sender:*[bot]": True,
    }
    assert fix.terms[0].seen == ["star"]
    assert past.story("ignored").rules.same is False  # it was decided by another configuration
    assert past.story("done").rules.same is True


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"category": "exit", "exit_code": 75, "detail": "it exited with 75"}, "it exited with 75"),
        ({"category": "exit", "exit_code": 75}, "exit code 75"),
        ({"category": "exit", "exit_code": 75, "detail": "no space."}, "exit code 75: no space"),
        ({"category": "signal", "signal": 9, "detail": "it was ended by SIGKILL"}, "it was ended by SIGKILL"),
        ({"category": "signal", "signal": 9}, "signal 9"),
        ({"category": "timeout", "signal": 15, "detail": "it ran longer than 1 s"}, "it ran longer than 1 s"),
        ({"category": "http", "detail": "no answer from localhost"}, "http: no answer from localhost"),
        ({"category": "result_invalid", "exit_code": 0, "detail": "no JSON"}, "result_invalid, exit code 0: no JSON"),
        ({}, "nobody said why"),
    ],
)
def test_how_an_attempt_ended_is_said_once(fields: dict[str, Any], words: str) -> None:
    assert cause(blank(Attempt, **fields)) == words


def test_did_it_fail_and_how(past: Past) -> None:
    yes, words = past.answer("failed", "failed")
    assert yes
    assert words == f"Yes: task {of('failed')} of route fix failed after 3 attempts: exit code 4."
    assert past.commands("failed") == [
        f"covenq show {of('failed')}",
        f"covenq requeue {of('failed')}",
        "covenq replay 9/failed",
    ]


def test_was_it_retried_and_by_whom(past: Past) -> None:
    yes, words = past.answer("failed", "retried")
    assert yes
    assert words == f"Yes: 3 attempts of {of('failed')} (route fix); requeued by cli:ada: a larger machine."
    assert past.answer("again", "retried") == (True, "Yes: replayed by cli:bob: once more.")
    assert past.answer("waits", "retried") == (False, "No.")


def test_was_it_duplicated(past: Past) -> None:
    yes, words = past.answer("twice", "duplicated")
    assert yes
    assert "it came twice more, last at 20" in words
    assert "once it came with another body, which was refused" in words
    yes, words = past.answer("twin", "duplicated")
    assert yes
    assert "its body had come before as twice" in words


def test_where_is_it_now(past: Past) -> None:
    def now(id: str) -> str:
        return past.answer(id, "now")[1]

    assert now("waits").startswith(f"{of('waits')} (route fix) waits")
    assert now("runs").startswith(f"{of('runs')} (route fix) runs: attempt 1 since 20")
    assert now("runs").endswith("at w1, started.")
    assert now("done").startswith(f"{of('done')} (route fix) completed at 20")
    assert now("twin").startswith(f"{of('twin')} (route fix) was cancelled at 20")
    assert now("twin").endswith(", the issue is closed.")
    assert "it stays so until somebody reroutes it" in now("ignored")
    assert now("undecided").startswith("Received, and not routed")
    # Of several replays, the newest is where it is.
    assert now("again").startswith(f"{of('again', replay=1)} (route fix) waits")


def test_it_tells_what_happened_in_order(past: Past) -> None:
    events = past.story("failed").events
    assert [event.word for event in events] == [
        "received", "queued", "attempt", "phase", "failed", "attempt", "phase", "failed", "requeued", "attempt", "phase",
        "failed",
    ]  # fmt: skip
    assert events[8].words == f"{of('failed')} was requeued by cli:ada: a larger machine"
    assert events[7].words == "attempt 2 failed: it ran for 600 s"
    assert [event.at for event in events] == sorted(event.at for event in events)


def test_it_says_what_to_type_next(past: Past) -> None:
    assert past.commands("waits") == [f"covenq cancel {of('waits')}"]
    running = of("runs")
    assert past.commands("runs") == [
        f"covenq tail -f id:{running}",
        f"covenq logs {running} -f",
        f"covenq cancel {running}",
    ]
    assert past.commands("undecided") == ["covenq reroute 9/undecided"]
    assert past.commands("ignored") == ["covenq routes"]
    assert past.commands("done") == ["covenq replay 9/done --force"]


def test_a_tasks_id_a_shared_guid_and_an_issue_are_found(past: Past) -> None:
    by_task = past.source.why(of("done"))
    assert (by_task.task, by_task.stories[0].id) == (of("done"), "9/done")
    with pytest.raises(Ambiguous) as shared:
        past.source.why("shared")
    assert shared.value.ids == ["1/shared", "2/shared"]
    assert [story.id for story in past.source.why("2/shared").stories] == ["2/shared"]
    for asked in ("octo/hello#12", "https://github.com/octo/hello/pull/12/files", "Octo/Hello#12"):
        found = past.source.why(asked)
        assert (found.kind, len(found.stories), found.more) == ("target", 10, False)
    assert past.source.why("octo/hello#13").kind == "nothing"


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        ("https://github.com/octo/hello/pull/7", ("octo/hello", 7)),
        ("https://ghe.example:8443/octo/hello/issues/7#issuecomment-1", ("octo/hello", 7)),
        ("octo/hello.js#7", ("octo/hello.js", 7)),
        ("9/72d3162e-cc78-11e3-81ab-4c9367dc0958", None),
        ("https://github.com/octo/hello", None),
        ("octo/hello#" + "9" * 19, None),
    ],
)
def test_addresses(asked: str, target: tuple[str, int] | None) -> None:
    found = target_of(asked)
    assert (None if found is None else (found.repo, found.number)) == target


def test_the_command_tells_it_in_words_and_as_json(past: Past) -> None:
    daemon = Daemon(data=past.data, config=past.config)
    said = daemon.cli("why", "failed").stdout.decode()
    first = f"Failed: three attempts, the last of which exited with 4 · covenq requeue {of('failed')}\n\ndelivery 9/failed\n"
    assert said.startswith(first), said
    for expected in (
        "  what it is           issues.opened of octo/hello#12: It breaks\n",
        "  accepted?            Yes: durable as record",
        "  failed?              Yes: task",
        "what happened (UTC, 20",
        "today's rules, the ones it was decided by\n",
        "  fix                  matches: event:issues action:opened label:bug -sender:*[bot]\n",
        "  review               doesn't match: event:pull_request is not so: it is issues; number:101.. is not so: it is 12\n",
        f"  covenq requeue {of('failed')}  (run it again, as it was decided then)\n",
    ):
        assert expected in said, said
    found = daemon.cli_json("why", "failed")
    assert {name: found[name] for name in ("asked", "kind", "task", "target", "more", "refused")} == {
        "asked": "failed", "kind": "delivery", "task": None, "target": None, "more": False, "refused": []
    }  # fmt: skip
    assert found == msgspec.json.decode(msgspec.json.encode(past.source.why("failed")))
    shared = daemon.cli("why", "shared", exit_code=2)
    assert (shared.stdout, b"from several hooks: 1/shared, 2/shared" in shared.stderr) == (b"", True)
    issue = daemon.cli("why", "octo/hello#12").stdout.decode()
    first, _, rest = issue.partition("\n\n")
    command = f"covenq requeue {of('failed')}"
    counts = "10 deliveries: 1 failed, 1 running, 5 queued, 1 cancelled, 1 completed, 1 received"
    assert first == f"{counts}; 9/failed: Failed: three attempts, the last of which exited with 4 · {command}"
    assert rest.startswith("octo/hello#12: 10 deliveries, newest first\n")
    assert "  Failed: three attempts, the last of which exited with 4\n" in rest


def test_the_phases_of_an_attempt_are_one_line_with_their_times(tmp_path: Path) -> None:
    task = of("g")
    entries = [received("g"), queued("g"), moved("claimed", task, attempt=1, worker="w1")]
    names = ["prepared", "started", *(f"step-{number}" for number in range(20)), "collected"]
    entries += [moved("phase", task, attempt=1, phase=name) for name in names]
    (story,) = recorded(tmp_path, [*entries, moved("completed", task, attempt=1)]).why("g").stories
    told = [words for _, words in lines(story) if words.startswith("attempt 1")]
    assert [re.sub(r"[0-9]+ms", "Tms", words) for words in told] == [
        "attempt 1 by w1",
        "attempt 1: prepared +Tms, started +Tms, step-0 +Tms, step-1 +Tms, … 15 more …, "
        "step-17 +Tms, step-18 +Tms, step-19 +Tms, collected +Tms",
        "attempt 1 completed",
    ]
    assert [event.word for event in story.events].count("phase") == len(names), "the JSON has each"


def test_events_have_their_clock_and_the_time_since_the_first_and_a_new_day_is_told(past: Past) -> None:
    story = past.story("done")
    began = "2026-11-30T23:59:58.250000Z"
    times = [began, "2026-11-30T23:59:58.750000Z", "2026-12-01T00:00:10.000000Z", "2026-12-01T03:00:00.000000Z"]
    story.events = [StoryEvent(at, None, "odd", None, at) for at in times]
    told = list(lines(story))
    first = told.index(("what happened (UTC, 2026-11-30)", ""))
    assert told[first + 1 : first + 6] == [
        ("23:59:58Z       +0ms", times[0]),
        ("23:59:58Z     +500ms", times[1]),
        ("", "2026-12-01"),
        ("00:00:10Z       +11s", times[2]),
        ("03:00:00Z        +3h", times[3]),
    ]


def test_of_rules_those_that_match_and_the_nearest_misses_are_told_and_all_if_asked(past: Past) -> None:
    story = past.story("done")
    misses = [Verdict(f"far-{number}", "a b", False, [Term("a", False), Term("b", False)]) for number in range(5)]
    near = [Verdict(f"near-{number}", "a b", False, [Term("a", True), Term("b", False)]) for number in range(2)]
    unknown = Verdict("unknown", "a", None, [Term("a", None, problem="its content was erased")])
    story.rules.routes = [*misses, *story.rules.routes[:1], *near, unknown]

    def told(*, all_rules: bool) -> list[str]:
        names = [label for label, _ in lines(story, all_rules=all_rules)]
        return names[names.index("today's rules, the ones it was decided by") + 1 : names.index("what next")]

    assert told(all_rules=False) == ["fix", "near-0", "near-1", "unknown", ""]
    assert ("", "5 others don't match; all of them: --rules") in list(lines(story))
    assert told(all_rules=True) == [one.route for one in story.rules.routes]


def test_the_command_tells_of_all_rules_if_asked(tmp_path: Path) -> None:
    config = "".join(f'[[route]]\nname = "r{number}"\nmatch = "event:push"\nrun = ["true"]\n' for number in range(9))
    recorded(tmp_path, [received("g")], config)
    daemon = Daemon(data=tmp_path / "data", config=tmp_path / "covenq.toml")
    assert daemon.cli("why", "g").stdout.count(b"doesn't match:") == NEAREST_MAX
    assert daemon.cli("why", "g", "--rules").stdout.count(b"doesn't match:") == 9


def test_all_that_is_asked_for_has_a_verdict(past: Past) -> None:
    for asked in (
        "done",
        "ignored",
        "undecided",
        of("waits"),
        "octo/hello#12",
        "octo/hello#13",
        "forged",
        "nobody-knows-it",
    ):
        found = past.source.why(asked)
        assert found.verdict is not None, asked
        if found.kind == "delivery":
            assert found.verdict == found.stories[0].verdict
    assert past.source.why("forged").verdict.text.startswith("Refused once,")


@pytest.mark.parametrize("columns", [80, 160])
def test_on_a_terminal_it_is_coloured_wrapped_and_has_short_ids_that_commands_take(past: Past, columns: int) -> None:
    daemon = Daemon(data=past.data, config=past.config)
    short = of("failed")[:9]
    said = InTerminal(daemon, "why", short, "--data", str(past.data), COLUMNS=str(columns)).said.replace("\r\n", "\n")
    assert re.match(r"\x1b\[1;[0-9;]+mFailed: three attempts, the last of which exited with 4\x1b\[0m", said)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert f"covenq requeue {short} --data {past.data}" in " ".join(plain.split())
    assert of("failed") not in plain
    assert max(map(len, plain.split("\n"))) <= columns
    assert re.search(r"^  accepted\? {12}Yes: durable as record", plain, re.MULTILINE)
    runs = InTerminal(daemon, "why", "9/runs", COLUMNS=str(columns), NO_COLOR="1").said
    assert "\x1b[" not in runs
    assert f"covenq tail -f id:{of('runs')}" in runs, "a filter takes whole ids alone"


def test_what_never_arrived_or_was_refused_is_said_so(past: Past) -> None:
    daemon = Daemon(data=past.data, config=past.config)
    refused = daemon.cli("why", "forged", exit_code=3).stderr.decode()
    assert "401 signature_wrong: No secret made it." in refused
    assert "it was refused once" in refused
    unknown = daemon.cli("why", "nobody-knows-it", exit_code=3).stderr.decode()
    assert "nothing of it is held, and no refusal of it is kept" in unknown
    assert json.loads(daemon.cli("why", "forged", "--json", exit_code=3).stdout)["refused"][0]["status"] == 401
    assert "hint: Give a GUID, hook/GUID, a task's id" in daemon.cli("why", "", exit_code=2).stderr.decode()
    assert "is no delivery id" in daemon.cli("why", "../../x y", exit_code=2).stderr.decode()


def test_a_daemon_tells_the_same(past: Past, tmp_path: Path) -> None:
    from tests.support.serving import serving

    with serving(tmp_path / "data") as served:
        assert served.post("issues", {"action": "opened", "issue": {"number": 7}}, "g1").status == 202
        answer = served.ask("/api/v1/why?id=g1")
        assert answer.status == 200
        (story,) = answer.json["stories"]
        assert story["answers"]["accepted"]["secret"] == "test"
        assert story["answers"]["now"]["word"] == "queued"
        assert served.ask("/api/v1/why?id=none").json["kind"] == "nothing"
        assert served.ask("/api/v1/why?id=" + "x" * 65).status == 400
        assert served.ask("/api/v1/why").status == 400


def test_of_what_was_erased_it_tells_by_whom_and_what_can_not_be_told(tmp_path: Path) -> None:
    past = Past(tmp_path)
    assert past.source.act(REDACT, Redact(ids=["done"], by="cli:ada", reason="they asked us to")).done
    story = past.story("done")
    assert story.events[-1].words == "its content was erased by cli:ada: they asked us to"
    assert [event.word for event in story.events].count("dropped") == 1
    fix = story.rules.routes[0]
    assert {term.text: term.problem for term in fix.terms if term.problem} == {
        "label:bug": "its content was erased",
        "-sender:*[bot]": "its content was erased",
    }
    assert fix.matches is None
    assert story.next == []  # nothing is left to be done with it


def test_what_a_pause_holds_is_said_so(tmp_path: Path) -> None:
    past = Past(tmp_path)
    past.source.act(PAUSE, Pause(what="route", name="fix", reason="the runner is down", by="cli:ada"))
    waiting = past.story("waits").tasks[0].waiting
    assert waiting.word == "paused_route"
    assert "the runner is down" in past.answer("waits", "now")[1]
    assert past.commands("waits")[0] == "covenq status"


FAILS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "422": ({"forward": "http://x/"}, {"category": "http", "http_status": 422}, "No: a 422 is not tried again."),
    "503": ({"forward": "http://x/"}, {"category": "http", "http_status": 503}, "No: its route has no retry."),
    "none": ({"run": ["true"]}, {"category": "exit"}, "No: its route has no retry."),
    "policy": ({"run": ["true"], "retry": {"max": 2}}, {"category": "policy"},
               "No: what was refused by policy is not tried again."),
    "on": ({"run": ["true"], "retry": {"max": 2, "on": ["exit", "timeout"]}}, {"category": "signal"},
           "No: its route retries only after exit, timeout."),
    "worker": ({"pull": True, "retry": {"max": 2}}, {"category": "exit"}, "No: its worker said that another attempt is useless."),
    "later": ({"run": ["true"], "retry": {"max": 1}}, {"category": "of_a_later_version"}, "No."),
    "lost": ({"pull": True, "retry": {"max": 2}}, {"category": "lease_lost", "interruptions": 3},
             "No: it was interrupted too often."),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILS)
def test_why_it_was_not_retried_is_said(tmp_path: Path, name: str) -> None:
    policy, ended, words = FAILS[name]
    task, kind = of("g"), "forward" if "forward" in policy else "run"
    entries = [received("g"), queued("g", policy=policy, kind="pull" if "pull" in policy else kind)]
    entries += [moved("claimed", task, attempt=1, worker="w1"), moved("failed", task, attempt=1, **ended)]
    (story,) = recorded(tmp_path, entries).why("g").stories
    assert (story.answers.retried.yes, story.answers.retried.words) == (False, words)


def test_that_all_retries_are_used_is_said(tmp_path: Path) -> None:
    task, later = of("g"), "2027-01-15T08:00:00.000000Z"
    entries = [received("g"), queued("g")]
    for number, kind in ((1, "retry"), (2, "retry"), (3, "failed")):
        entries.append(moved("claimed", task, attempt=number, worker="w1"))
        entries.append(moved(kind, task, attempt=number, category="exit", exit_code=3, not_before=later))
    (story,) = recorded(tmp_path, entries).why("g").stories
    assert story.answers.retried.words == f"Yes: 3 attempts of {task} (route fix). No more: all 2 retries are used."


def test_attempts_of_several_tasks_are_told_apart_by_their_routes(tmp_path: Path) -> None:
    entries = [received("g"), queued("g"), queued("g", route="review")]
    for route in ("fix", "review"):
        task = of("g", route=route)
        entries.append(moved("claimed", task, attempt=1, worker="w1"))
        entries.append(moved("phase", task, attempt=1, phase="started"))
        entries.append(moved("completed", task, attempt=1))
    (story,) = recorded(tmp_path, entries).why("g").stories
    told = [event.words for event in story.events if event.word in ("attempt", "phase", "completed")]
    assert sorted(told) == sorted(
        f"attempt 1 ({route}){words}" for route in ("fix", "review") for words in (" by w1", ": started", " completed")
    )


def could_not_start(kind: str, phases: Sequence[str], detail: str) -> list[Entry]:
    """The records of a task whose only attempt came to these phases, and failed as one that can't be started."""
    task, later = of("g"), "2027-01-15T08:00:00.000000Z"
    entries = [received("g"), queued("g"), moved("claimed", task, attempt=1, worker="w1")]
    entries += [moved("phase", task, attempt=1, phase=one) for one in phases]
    return [*entries, moved(kind, task, attempt=1, category="spawn", detail=detail, not_before=later)]


@pytest.mark.parametrize("program", ["agent", "it"])
@pytest.mark.parametrize("kind", ["retry", "failed"])
def test_of_a_program_that_is_not_installed_it_says_where_to_write_it(tmp_path: Path, kind: str, program: str) -> None:
    detail = f"{program} could not be started: No such file or directory"
    (story,) = recorded(tmp_path, could_not_start(kind, ["prepared"], detail)).why("g").stories
    words = f"its program could not be started: install it, or write its whole path in {tmp_path / 'covenq.toml'}"
    assert (story.next[0].words, story.next[0].command) == (words, "covenq doctor")


@pytest.mark.parametrize(
    ("phases", "detail"),
    [
        ([], "it could not be started: Permission denied"),
        (["prepared", "started"], "what ran could not be watched, and was ended: Permission denied"),
    ],
    ids=["no directory", "not watched"],
)
def test_of_a_program_that_is_installed_it_does_not_say_to_install_it(
    tmp_path: Path, phases: list[str], detail: str
) -> None:
    (story,) = recorded(tmp_path, could_not_start("failed", phases, detail)).why("g").stories
    assert not [one.words for one in story.next if "install it" in one.words]


def recorded(directory: Path, entries: list[Entry], routes: str = CONFIG) -> LocalSource:
    """A data directory with these records."""
    data, config = directory / "data", directory / "covenq.toml"
    data.mkdir(mode=0o700)
    config.write_text(routes)
    with open_chosen(data) as journal:
        assert isinstance(journal.append(entries), Appended)
    return LocalSource(data, load(config, chosen_engine.variables(data)))
