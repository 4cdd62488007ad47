"""Damage that a verification found is told by the daemon that serves beside it: in its log, by /readyz and by a metric."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.support.checkout import ROOT
from tests.support.daemon import Daemon
from tests.support.requests import issue
from tests.support.waiting import eventually


def damage_metric(daemon: Daemon) -> float:
    found = re.search(rb"^covenq_journal_damage (\S+)$", daemon.api("/metrics").body, re.MULTILINE)
    assert found is not None
    return float(found[1])


def flip(daemon: Daemon) -> None:
    """One bit of the first delivery's payload, in the segment that is still written."""
    (segment,) = sorted((daemon.data / "journal").glob("*.jsonl"))
    content = bytearray(segment.read_bytes())
    content[content.index(b"t does not work.") - 1] ^= 1
    segment.write_bytes(content)


def test_known_damage_is_in_the_log_in_readyz_and_in_the_metrics(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    for number in range(3):
        assert daemon.post("issues", issue(number)).status == 202
    assert (damage_metric(daemon), daemon.get("/readyz").json["detail"]) == (0.0, None)
    assert daemon.stop() == 0
    flip(daemon)
    daemon.log.unlink()
    daemon.start()
    assert daemon.post("issues", issue(3)).status == 202, "an opening reads what the caches have not proven"
    daemon.cli("verify", exit_code=5)
    eventually(lambda: damage_metric(daemon) == 1.0 or None)
    assert daemon.stop() == 0
    daemon.log.unlink()
    daemon.start()
    daemon.wait_told("the journal is damaged")
    (line,) = [line for line in daemon.log.read_text().splitlines() if "the journal is damaged" in line]
    assert "at byte" in line and "covenq verify" in line, "it names the first finding"
    ready = daemon.get("/readyz")
    assert (ready.status, ready.json["ready"], ready.json["reasons"]) == (200, True, [])
    assert "1 finding" in ready.json["detail"] and "at byte" not in ready.json["detail"]
    assert damage_metric(daemon) == 1.0
    flip(daemon)
    daemon.cli("verify")
    eventually(lambda: damage_metric(daemon) == 0.0 or None)
    assert daemon.get("/readyz").json["detail"] is None
    daemon.wait_told("no damage of the journal is known any more")


def test_the_manual_says_what_a_start_finds_and_what_it_does_not() -> None:
    page = re.sub(r"\\f.", "", (ROOT / "man" / "covenq.1").read_text())
    serve = page.partition(".SH COMMANDS")[2].partition("covenq status")[0]
    assert "its caches have not proven" in serve and "/readyz" in serve
