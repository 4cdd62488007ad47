"""What every command prints on a terminal of 80 and of 100 columns: no line is longer, unless one word alone is."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from covenq.intake.refusal_log import Refusals
from covenq.paths import REFUSALS_NAME
from covenq.text import width
from tests.support.in_process import run_on_terminal
from tests.support.journals.chosen import open_chosen
from tests.support.records import moved, note, of, queued, received

LONG = "umbrella-corporation-international/infrastructure-as-code-modules-of-日本"
GUIDS = [f"72d3162e-cc78-11e3-81ab-{n:012}" for n in range(6)]
CONFIG = f"""
[github]
webhook_secrets = [{{ name = "the-one-of-the-app", env = "COVENQ_OTHER", repositories = ["octo/hello", "{LONG}"] }}]
[[route]]
name = "fix-every-issue-that-is-labeled"
match = "event:issues action:assigned,labeled,opened label:coven:fix -sender:*[bot] payload.issue.user.login:octocat"
run = ["coven-code", "--headless", "--context", "{{brief}}", "--output", "{{result}}"]
key = "{{repo_id}}#{{number}}"
[[route]]
name = "mirror"
match = "event:push,pull_request repo:{LONG}"
forward = "http://127.0.0.1:9/some/long/path/to/a/receiver/of/the/mirrored/events"
"""
ID, TASK = f"9/{GUIDS[1]}", of(GUIDS[1])
COMMANDS = [
    "deliveries",
    "deliveries --limit 3",
    "deliveries state:completed",
    "deliveries isues:x",
    "tasks",
    "tasks --limit abc",
    f"show {ID}",
    f"show {TASK}",
    "show nothing-like-it",
    f"why {ID}",
    f"why {LONG}#12",
    "why nothing-like-it",
    f"logs {TASK}",
    "stats",
    "stats --since 30d",
    "audit",
    "audit --what failed,refused",
    "usage",
    "usage --month all --by repository",
    "status",
    "doctor",
    "refused",
    "routes",
    "routes check",
    "routes test --event issues --file PAYLOAD",
    "secrets",
    "tokens",
    "tokens revoke nobody-of-that-name",
    "info",
    "ledger",
    "reconcile",
    "verify",
    "salvage",
    "backup COPY",
    "export --output FILE",
    "compact --dry-run",
    "redact repo:octo/hello --dry-run",
    f"requeue {TASK[:9]} --dry-run",
    "requeue state:failed",
    "replay state:failed --dry-run",
    "cancel state:queued",
    "reroute state:ignored --dry-run",
    "pause intake",
    "pause route nightly --reason 'the receiver is being replaced, and nobody knows for how long that will take'",
    "resume route nightly",
    "worker",
    "--help",
    "serve --help",
    "nope",
    "tasks state:faild",
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory with deliveries of long names, with what failed and was refused, and no daemon."""
    root = tmp_path_factory.mktemp("widths")
    data = root / "data"
    data.mkdir(mode=0o700)
    (root / "covenq.toml").write_text(CONFIG)
    (root / "payload.json").write_text('{"action": "opened", "issue": {"number": 1}}')
    with open_chosen(data) as journal:
        for number, guid in enumerate(GUIDS):
            about = {"repo": LONG, "owner": LONG.split("/")[0], "title": "It breaks, and nobody knows why " * 4}
            journal.append([received(guid, about=about), queued(guid, about={"repo": LONG})])
            if number % 3 == 1:
                journal.append([moved("claimed", of(guid), attempt=1, worker="w")])
                journal.append([moved("failed", of(guid), attempt=1, category="exit", exit_code=1)])
        journal.append([received("alone"), note("ignored", "alone", reason="no_route")])
    refusals = Refusals(data / REFUSALS_NAME)
    for guid in GUIDS[:3]:
        detail = "X-Hub-Signature-256 is not that of any of the 2 secrets over the body as it came: 25 bytes of JSON"
        refusals.note(
            "signature_wrong", 401, detail, event="pull_request_review_comment", delivery=guid, client="192.0.2.7"
        )
    refusals.note("path_unknown", 404, "There is nothing at '/other'; deliveries go to /webhook.", path="/other")
    yield root


@pytest.mark.parametrize(
    ("command", "room"), [*((one, 80) for one in COMMANDS), ("deliveries", 100), ("tasks", 100), ("refused", 100)]
)
def test_no_line_of_any_command_is_cut_by_the_terminal(here: Path, command: str, room: int) -> None:
    words = [
        {"PAYLOAD": str(here / "payload.json"), "COPY": str(here / f"copy{room}"), "FILE": str(here / f"x{room}")}.get(
            word, word
        )
        for word in shlex.split(command)
    ]
    environment = {
        "COVENQ_DATA": str(here / "data"),
        "COVENQ_CONFIG": str(here / "covenq.toml"),
        "COVENQ_OTHER": "0123456789abcdef0123456789abcdef",
    }
    lines = run_on_terminal(words, environment, room).lines
    assert any(lines), "it says something"
    for line in lines:
        assert width(line) <= room or " " not in line.strip(), line
