"""`covenq` with a dispatcher that hangs on demand: a wrapper before the daemon's command line (`Daemon(wrapper=…)`).

While the file that COVENQ_TEST_STALL names exists, no pick comes back; and it counts as overdue after half a second, not after a
minute. Everything else is the ordinary program.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from covenq.cli.main import main
    from covenq.tasks.execution import pool
    from covenq.tasks.scheduling.dispatcher import Dispatcher

    stall, pick = Path(os.environ["COVENQ_TEST_STALL"]), Dispatcher.pick

    @functools.wraps(pick)
    def stalled(*args: Any, **named: Any) -> Any:
        while stall.exists():
            time.sleep(0.01)
        return pick(*args, **named)

    Dispatcher.pick = stalled  # type: ignore[method-assign]
    pool.OVERDUE_S = 0.5
    sys.argv[:] = ["covenq", *sys.argv[sys.argv.index("covenq") + 1 :]]
    main()
