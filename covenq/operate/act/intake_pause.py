"""What a pause of the intake costs, in the words that whoever pauses it reads first, and how it ends."""

from __future__ import annotations

from covenq.model.status import ReconcileStatus

_REFUSED = "While the intake is paused every delivery is refused with 503, and GitHub does not send it again by itself"
INSTEAD = "Pausing the worker, or a part of its work, accepts deliveries and holds their tasks."
END = "`covenq resume intake` ends it."


def cost(passes: ReconcileStatus | None) -> str:
    """What becomes of deliveries meanwhile. `passes` None: no delivery log of GitHub's is configured."""
    if passes is None:
        return f"{_REFUSED}: what comes meanwhile is lost, unless it is redelivered from GitHub, which keeps it for three days."
    return f"{_REFUSED}. {fetched_later(passes)}"


def fetched_later(passes: ReconcileStatus) -> str:
    """What becomes of what GitHub sends during the pause, where its delivery log is configured."""
    how = "the daemon fetches" if passes.every_s is not None else "`covenq reconcile` fetches"
    return f"What GitHub sends meanwhile {how} from its delivery log once the intake is open: GitHub keeps it for three days."
