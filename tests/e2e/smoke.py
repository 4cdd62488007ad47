"""The README's first command as a newcomer runs it: `make run`, one signed delivery, Ctrl-C. Exits 1 with what failed.

Not a pytest test, because it installs into .venv: `.ci/run` calls it with a directory to work in.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.checkout import ROOT
from tests.support.daemon import Daemon, free_port
from tests.support.requests import issue
from tests.support.waiting import eventually


def main(scratch: Path) -> None:
    daemon = Daemon(data=scratch / "data", port=free_port())
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVENQ_")}
    command = ["make", "run", f"BIND=127.0.0.1:{daemon.port}", f"DATA={daemon.data}"]
    with daemon.log.open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        eventually(lambda: daemon.get("/readyz").status == 200, 60, "ready")
        assert (daemon.data / "secret").stat().st_mode & 0o777 == 0o600
        daemon.secret = (daemon.data / "secret").read_text().strip()
        answer = daemon.post("issues", issue())
        assert answer.status == 202, answer
        assert answer.json["state"] == "ignored", "there are no routes yet"
        said = eventually(lambda: "Try next" in daemon.log_tail() and daemon.log_tail(), 10, "the greeting")
        for words in (f"{daemon.url}/webhook", str(daemon.data / "secret"), ".venv/bin/covenq init"):
            assert words in said, f"`make run` does not say {words!r}:\n{said}"
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)
    print("make run: ready, one delivery accepted, stopped")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
