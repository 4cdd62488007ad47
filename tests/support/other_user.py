"""Code run by a user who is not root, whom permissions hold back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.support.checkout import ROOT

_PREPARATION = r"""
import json, os, resource, sys
from pathlib import Path
from covenq.operate.maintain.cleanup import remove_attempts
from covenq.tasks.execution.workdir import AttemptDirectory
"\0".encode("unicode_escape")  # loaded while its files can be read
if os.geteuid() == 0:  # root may remove anything
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
"""


def as_nobody(code: str, *words: object, imports: str = "") -> Any:
    """What the code prints as JSON, run by a user who is not root and has few descriptors.

    `imports` are carried out before: that user may not be able to read this checkout.
    """
    done = subprocess.run(
        [sys.executable, "-c", f"{imports}\n{_PREPARATION}{code}", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
