"""The Containerfile: who runs, where it writes, how it is asked and stopped; and its steps, carried out without an engine."""

from __future__ import annotations

import os
import re
import signal
import stat
from pathlib import Path

import pytest

from tests.support import plain_root
from tests.support.checkout import ROOT
from tests.support.containerfile import parse
from tests.support.daemon import Daemon, free_port
from tests.support.requests import issue
from tests.support.waiting import eventually

STAGES = parse((ROOT / "Containerfile").read_text())


def test_it_runs_as_a_number_that_is_not_root_and_writes_to_its_volume_alone() -> None:
    final = STAGES[-1]
    assert [int(number) > 0 for number in final.last("USER").split(":")] == [True, True]
    assert final.environment()["COVENQ_DATA"] == final.environment()["HOME"] == final.last("VOLUME")
    assert final.environment()["COVENQ_BIND"] == f"0.0.0.0:{final.last('EXPOSE')}"
    assert final.argv("ENTRYPOINT") + final.argv("CMD") == ["covenq", "serve"]
    assert final.argv("HEALTHCHECK")[0] == "covenq" and final.last("STOPSIGNAL") == "SIGTERM"


def test_its_python_is_one_that_is_claimed_and_the_same_in_every_stage() -> None:
    (image,) = {stage.image for stage in STAGES}
    version = re.fullmatch(r"docker\.io/library/python:(3\.\d+)-slim", image)
    assert version and f'"Programming Language :: Python :: {version[1]}"' in (ROOT / "pyproject.toml").read_text()


def test_all_that_it_copies_is_there() -> None:
    copied = [
        rest.split()[:-1] for stage in STAGES for name, rest in stage.steps if name == "COPY" and "--from" not in rest
    ]
    assert len(copied) > 3
    for name in (name for names in copied for name in names):
        assert (ROOT / name).exists(), name


def test_the_manual_runs_it_as_it_is_made() -> None:
    page = (ROOT / "man" / "covenq-production.7").read_text().replace("\\-", "-")
    section = page.partition(".SH A CONTAINER")[2].partition("\n.SH ")[0]
    final = STAGES[-1]
    assert f":{final.last('VOLUME')} " in section and f":{final.last('EXPOSE')} " in section
    assert "--read-only" in section and "--build-arg PYTHON=" in section


@pytest.mark.parametrize("line", ["ADD a b", "RUN one \\", "SHELL ['sh']", "COPY a b\nFROM image"])
def test_what_is_not_understood_is_said(line: str) -> None:
    with pytest.raises(ValueError, match="not understood"):
        parse(line)


@pytest.mark.deep
def test_its_steps_make_a_daemon_that_serves_with_its_root_read_only_and_stops_when_told(tmp_path: Path) -> None:
    if why_not := plain_root.why_not():
        pytest.skip(f"its steps can't be carried out here: {why_not}")
    plain_root.wheelhouse(ROOT, tmp_path / "wheels")
    root = plain_root.build(STAGES, ROOT, tmp_path / "wheels", tmp_path)
    made = (root.path / root.stage.last("VOLUME").lstrip("/")).stat()
    assert (f"{made.st_uid}:{made.st_gid}", stat.S_IMODE(made.st_mode)) == (root.stage.last("USER"), 0o700)
    port = free_port()
    daemon = Daemon(data=tmp_path / "volume", port=port)
    running = root.start(daemon.data, daemon.log, COVENQ_BIND=f"127.0.0.1:{port}")
    try:
        eventually(lambda: daemon.get("/readyz").status == 200, 60, "ready")
        status = Path(f"/proc/{running.pid}/status").read_text()
        user = root.stage.last("USER").partition(":")[0]
        assert re.search(rf"^Uid:\t{user}\t{user}\t", status, re.MULTILINE)
        assert re.search(r"^NSpid:\t\d+\t1$", status, re.MULTILINE), "it is process 1 in there"
        health = root.inside(running, root.stage.argv("HEALTHCHECK"))
        assert health.returncode == 0 and "READY" in health.stdout, health
        sent = root.inside(running, ["covenq", "send", "issues"])
        assert sent.returncode == 0 and "202" in sent.stderr, sent
        daemon.secret = (daemon.data / "secret").read_text().strip()
        assert daemon.post("issues", issue()).status == 202
        for written in ("/tmp/file", "/opt/covenq/file", "/file"):
            assert "Read-only file system" in root.inside(running, ["touch", written]).stderr
        manual = root.path / "opt" / "covenq" / "share" / "man" / "man1" / "covenq.1"
        assert manual.read_bytes() == (ROOT / "man" / "covenq.1").read_bytes()
        os.kill(running.pid, signal.SIGTERM)
        assert running.process.wait(60) == 0, daemon.log_tail()
    finally:
        running.process.kill()
        running.process.wait()
    assert (daemon.data / "journal").is_dir()
