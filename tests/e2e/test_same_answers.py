"""Fifty questions to a journal in files, moved into a database, and moved back: the same answers, byte for byte."""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.in_process import run_piped
from tests.support.journal_json import records
from tests.support.postgres.journals import cluster

pytestmark = pytest.mark.postgres

GOLDEN = Path(__file__).parent / "golden" / "data-0.1.0.tar.xz"
FAILED = "76cd39de-0f76-4bd6-93c5-1aa90539c633"
REDACTED = "99999999-2222-3333-4444-555555555555"
REPLAYED = "11111111-2222-3333-4444-555555555555"
QUEUED = "4e387877-3b84-4009-9695-6bdf2645035e"
FAILED_TASK = "tf782981bdf24c096e4dd3d07"

FILTERS = (
    f"id:446581321/{FAILED} guid:{FAILED}",
    "hook:446581321 seq<40",
    "event:issues action:opened,labeled",
    "repo:lantern-works/* owner:lantern-works",
    "repo_id:343907730 installation:96247258",
    "sender:mira-holm -number:7..10",
    "sha:*",
    "ref:*",
    "target:*",
    "label:*",
    "state:failed,queued",
    "reason:exit",
    "route:bad attempts:2..",
    "duplicates>0 size>9000",
    "source:* secret:default",
    "twin:*",
    "since:100000d age>1s before:1s",
    "payload.issue.number:7",
    "payload.issue.user.login:*",
    "beacon -action:closed",
)
"""Every field of the grammar is in one of these, and words."""

QUESTIONS = (
    *(f"deliveries {terms} --jsonl --limit 0" for terms in FILTERS),
    "deliveries --json --limit 3",
    "deliveries seq:nine",
    "tasks --json --limit 0",
    "tasks state:failed,completed --jsonl",
    "tasks kind:* worker:* --jsonl",
    "tasks category:exit route:b* --jsonl",
    *(f"show {id} --json" for id in (FAILED, REDACTED, QUEUED, FAILED_TASK)),
    *(f"show {id} --payload" for id in (FAILED, REDACTED, REPLAYED)),
    f"show {REPLAYED} --path .issue.title",
    f"show {FAILED} --curl",
    *(f"why {id}" for id in (FAILED, REDACTED, REPLAYED, QUEUED, "lantern-works/beacon#7", "no-such-delivery")),
    f"why {FAILED_TASK} --json --rules",
    f"logs {FAILED_TASK}",
    "tail --after 0 event:* --jsonl",
    "tail --after 20 state:failed",
    "stats --since 100000d --json",
    "export",
    "export action:opened",
    "refused --json",
    "ledger --json",
    "routes diff --config {config} --since 100000d",
    "requeue state:failed --dry-run --json",
    "replay event:issues --dry-run --json --force",
    "redact sender:mira-holm --dry-run --json",
    "compact --dry-run --json",
    "verify --signatures --expect {head}",
)

Answer = tuple[int, bytes, bytes]
"""Exit code, what was asked for, and what was said beside it."""

ASKED_AT = re.compile(rb'"(exported_at|since|until|at)":"[^"]*"')
"""When it was asked, in the answers of `export` and `stats`."""
AGES = re.compile(rb"\b\d+[smhd]( ago)?\b")
ENDS_AT = re.compile(rb"\d+ records, head \d+:[0-9a-f]{64}")
"""Each move adds the record that seals, and one of the new epoch."""
COPIES = re.compile(rb'(?s)"copies":\[.*?\]|Not reached by this.*')
"""The folder of files that was sealed by the move is one."""


def alike(question: str, answer: Answer) -> Answer:
    """Without what depends on when it was asked, or names the engine's own."""
    code, out, err = answer
    match question.split()[0]:
        case "export" | "stats":
            out = ASKED_AT.sub(b"", out)
        case "verify":
            out = ENDS_AT.sub(b"", out)
        case "redact":
            out, err = COPIES.sub(b"", out), COPIES.sub(b"", err)
    return code, out, AGES.sub(b"", err)


@pytest.fixture
def golden(data: Path, tmp_path: Path) -> Daemon:
    """The directory that version 0.1.0 left, which has one delivery erased; its daemon isn't started."""
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(tmp_path / "golden", filter="data")
    shutil.copytree(tmp_path / "golden" / "data", data)
    return Daemon(data, config=tmp_path / "golden" / "covenq.toml", secret=(data / "secret").read_text().strip())


def erase_more(daemon: Daemon) -> None:
    """What is erased by name, and what retention drops."""
    assert daemon.config is not None
    daemon.config.write_text(daemon.config.read_text() + '\n[retention]\npayloads = "1h"\n')
    daemon.cli("redact", FAILED, "--yes", "--reason", "asked")
    daemon.cli("compact", "--yes")
    assert b"was dropped by record" in daemon.cli("show", REPLAYED, "--payload", exit_code=3).stderr


def leave(_: Daemon) -> None:
    """As it was."""


@pytest.mark.parametrize("erase", [leave, erase_more])
def test_a_journal_that_moved_answers_fifty_questions_as_before(
    golden: Daemon, erase: Callable[[Daemon], None]
) -> None:
    assert len(QUESTIONS) >= 50
    servers = cluster(standby=False)
    servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    erase(golden)
    newest = records(golden.data)[-1]
    given = {"config": str(golden.config), "head": f"{newest['seq']}:{newest['sum']}"}

    def answers() -> dict[str, Answer]:
        """To each question, by a state.db that is made of the journal alone."""
        for cache in golden.data.glob("state.db*"):
            cache.unlink()
        env = golden.environment()
        return {one: alike(one, run_piped(one.format(**given).split(), env)) for one in QUESTIONS}

    in_files = answers()
    golden.cli("migrate", "--from", f"file:{golden.data}", "--to", servers.url, "--yes")
    golden.env["COVENQ_JOURNAL_URL"] = servers.url
    in_tables = answers()
    golden.cli("migrate", "--from", "postgresql:", "--to", f"file:{golden.data}", "--yes")
    del golden.env["COVENQ_JOURNAL_URL"]
    back = answers()
    for question, answer in in_files.items():
        assert (question, in_tables[question]) == (question, answer)
        assert (question, back[question]) == (question, answer)
