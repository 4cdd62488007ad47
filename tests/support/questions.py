"""Fifty questions to a journal that version 0.1.0 left, and what of an answer depends on when and where it was asked."""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path

from tests.support.daemon import Daemon

GOLDEN = Path(__file__).resolve().parents[1] / "e2e" / "golden" / "data-0.1.0.tar.xz"
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
    "audit --what accepted,failed,redacted --limit 0 --jsonl",
    "usage --month all --json",
    "usage installation:96247258 --month all --by repository",
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
COUNTED_TO = re.compile(rb'"seq":\d+,"next"')
COPIES = re.compile(rb'(?s)"copies":\[.*?\]|Not reached by this.*')
"""The folder of files that was sealed by the move is one."""


def alike(question: str, answer: Answer) -> Answer:
    """Without what depends on when it was asked, or names the engine's own."""
    code, out, err = answer
    match question.split()[0]:
        case "export" | "stats":
            out = ASKED_AT.sub(b"", out)
        case "usage":
            out = COUNTED_TO.sub(b"", out)
        case "verify":
            out = ENDS_AT.sub(b"", out)
        case "redact":
            out, err = COPIES.sub(b"", out), COPIES.sub(b"", err)
    return code, out, AGES.sub(b"", err)


def golden_data(data: Path, scratch: Path) -> Daemon:
    """The directory that version 0.1.0 left, which has one delivery erased, put into `data`; its daemon isn't started."""
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(scratch / "golden", filter="data")
    shutil.copytree(scratch / "golden" / "data", data)
    return Daemon(data, config=scratch / "golden" / "covenq.toml", secret=(data / "secret").read_text().strip())
