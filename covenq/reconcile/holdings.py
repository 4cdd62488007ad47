"""What the journal holds, as reconciliation asks: identities by GUID, the headers of one, and what was erased."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from covenq.model import DeliveryId, at_text, seconds_of
from covenq.model.rows import Delivery, OneDelivery, Page
from covenq.reconcile.compare import Came

GUIDS_ASKED = 100
"""GUIDs of one question: a filter has a bound."""
LOOKED_AT = 20
"""Deliveries of a repository or an installation by which it is told whether it was erased."""


class StoredDeliveries(Protocol):
    """Where deliveries are looked up: in a daemon, through one, or in the files."""

    def deliveries(self, filter: Sequence[str], *, limit: int) -> Page[Delivery]:
        """The newest that match; `limit` 0 is all."""

    def delivery(self, id: str) -> OneDelivery:
        """One, with its headers."""


class StoredHoldings:
    """The holdings of one pass: what was found out is not asked again. See `covenq.reconcile.log_pass.Knowing`."""

    def __init__(self, source: StoredDeliveries) -> None:
        self._source = source
        self._newest: dict[tuple[str, int], list[tuple[str, bool]]] = {}
        self._erased: dict[tuple[str, int, int], list[bool]] = {}

    def held(self, guids: Sequence[str]) -> dict[DeliveryId, Came]:
        """See `covenq.reconcile.compare_pass.Holdings`. Fetched is what was imported: the webhook brings everything else."""
        found: dict[DeliveryId, Came] = {}
        for start in range(0, len(guids), GUIDS_ASKED):
            lot = guids[start : start + GUIDS_ASKED]
            for one in self._source.deliveries([f"guid:{','.join(lot)}"], limit=0).items:
                found[DeliveryId(one.hook, one.guid)] = Came(one.source, seconds_of(one.received_at), one.seq)
        return found

    def headers(self, delivery: DeliveryId) -> list[list[str]]:
        return self._source.delivery(str(delivery)).headers or []

    def is_erased(self, repo_id: int | None, installation: int | None, at: float) -> bool:
        """Whether the repository, or the installation, of a delivery that was sent at that time has been erased here.

        An erasure of either takes all that is held of it then. So it is taken for erased where the newest deliveries of it that
        came before that time are all erased, or where none came before and any after it is. Where that errs, it errs towards
        fetching nothing.
        """
        for field, number in (("repo_id", repo_id), ("installation", installation)):
            # Where the repository has what is not erased, its installation was not erased either.
            told = None if number is None else self._is_erased(field, number, at)
            if told is not None:
                return told
        return False

    def _is_erased(self, field: str, number: int, at: float) -> bool | None:
        """None: nothing is held of it by which it could be told."""
        moment = at_text(at)
        newest = self._newest_of(field, number)
        before = [erased for received_at, erased in newest if received_at < moment]
        if not before and len(newest) == LOOKED_AT:  # there may be older ones
            before = self._before(field, number, at)
        if before:
            return all(before)
        return any(erased for _, erased in newest) if newest else None

    def _newest_of(self, field: str, number: int) -> list[tuple[str, bool]]:
        """When the newest ones were received, and whether each is erased."""
        key = (field, number)
        if key not in self._newest:
            items = self._source.deliveries([f"{field}:{number}"], limit=LOOKED_AT).items
            self._newest[key] = [(one.received_at, one.redacted is not None) for one in items]
        return self._newest[key]

    def _before(self, field: str, number: int, at: float) -> list[bool]:
        """Whether each of the newest ones that came before the end of that hour is erased."""
        hour = int(at // 3600)
        key = (field, number, hour)
        if key not in self._erased:
            moment = at_text((hour + 1) * 3600.0)[:19] + "Z"
            found = self._source.deliveries([f"{field}:{number}", f"before:{moment}"], limit=LOOKED_AT).items
            self._erased[key] = [one.redacted is not None for one in found]
        return self._erased[key]
