"""Recording of what was fetched from GitHub's delivery log: imported as `covenq import --route` does, each with its outcome."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from covenq.errors import UsageError
from covenq.operate.act.archive import read
from covenq.operate.act.plan import CHANGED
from covenq.operate.answers import ALREADY_HERE, OTHER_BODY, Imported
from covenq.operate.imported import ImportedDelivery, NotImported
from covenq.operate.origin import FETCHED
from covenq.operate.parameters import Import
from covenq.reconcile.fetch import Detail, Outcome


class ImportRecorder:
    """Records details by the operation `import`, wherever that is carried out."""

    def __init__(
        self, act: Callable[[Import], Imported], hooks: Sequence[str], by: str | None, *, hold_if_old: bool
    ) -> None:
        """`hooks` may deliver; none: every one. `by` is who has it done.

        `hold_if_old`: what is older than `max_age` allows, of the routes that want it or of `[reconcile]`, is held back. That is
        decided where it is recorded: only there all is known that routes ask for, and which routes there are.
        """
        self._hold_if_old = hold_if_old
        self._act = act
        self._hooks = hooks
        self._by = by
        self.unread: set[str] = set()
        """Why secrets were not tried for what is recorded as unverified."""

    def record(self, details: Sequence[Detail]) -> list[Outcome]:
        """See `covenq.reconcile.fetch.Recorder`. Raises what the operation does."""
        read_ones = [self._read(one) for one in details]
        items = [one for one in read_ones if isinstance(one, ImportedDelivery)]
        told = self._import(items) if items else {}
        return [
            one if isinstance(one, Outcome) else told.get(detail.guid, Outcome("open"))
            for detail, one in zip(details, read_ones, strict=True)
        ]

    def _read(self, detail: Detail) -> ImportedDelivery | Outcome:
        """The delivery, or why it can't be had of this text."""
        try:
            one = next(read(io.BytesIO(detail.text), "GitHub's answer"))
        except (UsageError, StopIteration):
            return Outcome("unrecoverable", "GitHub's answer can't be read as a delivery")
        if isinstance(one, NotImported):
            return Outcome("unrecoverable", one.reason)
        headers = {name.lower(): value for name, value in one.headers}
        if headers.get("x-github-delivery") != detail.guid:
            return Outcome("unrecoverable", "what GitHub has under its id is another delivery")
        hook = headers.get("x-github-hook-id") or headers.get("x-github-hook-installation-target-id") or "-"
        if self._hooks and hook not in self._hooks:
            return Outcome("refused", "its hook is not in [github] hooks, the hooks that may deliver")
        # When it was first sent, whichever attempt this is: by that it is told what came after it.
        origin = {**one.origin, "delivered_at": detail.first_at}
        return replace(one, origin=origin, hold=detail.hold, hold_if_old=self._hold_if_old)

    def _import(self, items: Sequence[ImportedDelivery]) -> dict[str, Outcome]:
        """What became of each, by its GUID."""
        answer = self._act(Import(items=list(items), routed=True, reason=FETCHED, by=self._by))
        verified, held_back = set(answer.verified), {one.id: one.reason for one in answer.held_back}
        told: dict[str, Outcome] = {}
        for done in answer.done:
            hook, _, guid = done.id.rpartition("/")
            reason = held_back.get(done.id)
            state = "fetched" if reason is None else "waiting"
            told[guid] = Outcome(state, reason, hook, done.tasks, done.id in verified)
        for skipped in answer.skipped:
            hook, _, guid = skipped.id.rpartition("/")
            reason = None if skipped.reason == ALREADY_HERE else skipped.reason
            if reason is None or reason == OTHER_BODY:
                told.setdefault(guid, Outcome("held", reason, hook or None))
            else:  # what changed all the time is decided at the next pass
                told.setdefault(guid, Outcome("open" if reason == CHANGED else "refused", reason))
        if not all(one.verified for one in told.values() if one.verified is not None):
            self.unread.update(answer.secrets_unread)
        return told
