"""The order of system calls: a delivery's bytes are synced between reading its request and writing its 202."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.requests import issue, new_guid
from tests.support.waiting import eventually


@dataclass
class Call:
    """One system call: where in the trace it began and ended (indexes of lines), its name, arguments and result."""

    began: int
    ended: int
    name: str
    arguments: str
    result: str

    @property
    def fd(self) -> int:
        return int(self.arguments.split(",", 1)[0])


LINE = re.compile(r"(?P<pid>\d+) +(?P<rest>.*)")
WHOLE = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>.*)")
UNFINISHED = re.compile(r"(?P<name>\w+)\((?P<arguments>.*) <unfinished \.\.\.>")
RESUMED = re.compile(r"<\.\.\. \w+ resumed>(?P<arguments>.*)\) += (?P<result>.*)")


def parse(trace: str) -> list[Call]:
    """The calls of `strace -f`, in the order they began; those without an end are left out."""
    calls: list[Call] = []
    open_calls: dict[str, Call] = {}
    for number, text in enumerate(trace.splitlines()):
        line = LINE.match(text)
        if line is None:
            continue
        pid, rest = line["pid"], line["rest"]
        if match := RESUMED.match(rest):
            if call := open_calls.pop(pid, None):
                call.ended, call.result = number, match["result"]
                call.arguments += match["arguments"]
                calls.append(call)
        elif match := UNFINISHED.match(rest):
            open_calls[pid] = Call(number, -1, match["name"], match["arguments"], "")
        elif match := WHOLE.match(rest):
            calls.append(Call(number, number, match["name"], match["arguments"], match["result"]))
    return sorted(calls, key=lambda call: call.began)


def can_trace() -> str | None:
    """Why strace can't be used here, or None."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    tried = subprocess.run([strace, "-o", "/dev/null", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else f"ptrace is refused here: {tried.stderr.decode().strip()}"


def order_of(calls: list[Call], guid: str) -> tuple[Call, Call, Call, Call]:
    """(request read, record written, synced, answered) of one delivery."""
    read = next(c for c in calls if c.name in ("recvfrom", "read") and guid in c.arguments)
    written = next(c for c in calls if c.name.startswith("pwrite") and guid in c.arguments)
    synced = next(
        c
        for c in calls
        if c.name in ("fdatasync", "fsync") and c.began > written.ended and c.fd == written.fd and c.result == "0"
    )
    answered = next(
        c for c in calls if c.name in ("sendto", "send", "write") and c.began > read.ended and c.fd == read.fd
    )
    return read, written, synced, answered


def test_the_parser_takes_a_sync_for_done_only_where_it_returned() -> None:
    trace = """\
10  recvfrom(7, "GUID", 8192, 0, NULL, NULL) = 4
11  pwrite64(5, "GUID", 4, 0) = 4
11  fdatasync(5 <unfinished ...>
10  sendto(7, "HTTP/1.1 202", 12, 0, NULL, 0) = 12
11  <... fdatasync resumed>)          = 0
"""
    read, written, synced, answered = order_of(parse(trace), "GUID")
    assert (read.ended, written.ended, synced.began, synced.ended, answered.began) == (0, 1, 2, 4, 3)


def test_every_202_is_written_after_the_sync_of_its_delivery(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    if reason := can_trace():
        pytest.skip(reason)
    trace = tmp_path / "trace"
    calls_of_interest = "trace=recvfrom,read,pwrite64,fdatasync,fsync,sendto,write"
    daemon = make_daemon(wrapper=["strace", "-D", "-f", "-s", "65536", "-e", calls_of_interest, "-o", str(trace)])
    guids = [new_guid() for _ in range(24)]
    for guid in guids[:4]:
        assert daemon.post("issues", issue(), guid).status == 202
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda guid: daemon.post("issues", issue(), guid).status, guids[4:])
        assert set(answers) == {202}
    assert daemon.stop() == 0
    eventually(
        lambda: "+++ exited with 0 +++" in trace.read_text("utf-8", "replace").splitlines()[-1], 30, "strace ends"
    )

    calls = parse(trace.read_text("utf-8", "replace"))
    for guid in guids:
        read, written, synced, answered = order_of(calls, guid)
        assert "202 Accepted" in answered.arguments
        assert read.ended < written.began <= written.ended < synced.began <= synced.ended < answered.began
