"""The ledger as it is asked for: rows by hour and log, what is missing now, and what is known of a delivery that is not held."""

from __future__ import annotations

import json
import sqlite3

from covenq.config.github_api import KEPT_S, GithubLogs, digest_of, keeps_s
from covenq.model import at_text, seconds_of
from covenq.model.ledger import HOUR_S, UNSETTLED, hour_of, hour_text
from covenq.model.rows import Page
from covenq.model.status import LedgerHour, Missing, NotHeldDelivery
from covenq.state import fold_ledger


def ledger(conn: sqlite3.Connection, logs: GithubLogs, since: float) -> Page[LedgerHour]:
    """The hours since that time, in seconds since 1970, the newest first."""
    names, kept = _names(logs), _kept(logs)
    rows = fold_ledger.rows_since(conn, hour_text(hour_of(max(0.0, since))))
    return Page([_hour(row, names, kept) for row in rows], None)


def missing(conn: sqlite3.Connection, logs: GithubLogs) -> Missing | None:
    """What GitHub lists in the logs that are configured and could not be fetched yet; None where nothing is missing."""
    kept = _kept(logs)
    rows = [row for row in fold_ledger.open_hours(conn) if row["log"] in kept]
    if not rows:
        return None
    return Missing(
        deliveries=sum(row["open"] for row in rows),
        since=rows[0]["hour"],
        until=_later(rows[-1]["hour"], HOUR_S),
        forgotten_at=min(_later(row["hour"], kept[row["log"]]) for row in rows),
    )


def not_held(conn: sqlite3.Connection, logs: GithubLogs, guid: str) -> list[NotHeldDelivery]:
    """What the newest passes said of a delivery that they found listed and not held."""
    names, kept = _names(logs), _kept(logs)
    found = []
    for row in fold_ledger.not_held(conn, guid):
        log, is_open = str(row["log"]), row["state"] in UNSETTLED
        until = _later(row["first_at"], kept.get(log, KEPT_S)) if is_open else None
        found.append(
            NotHeldDelivery(
                names.get(log, log), row["guid"], row["event"], row["first_at"], row["state"], row["reason"], until
            )
        )
    return found


def _hour(row: sqlite3.Row, names: dict[str, str], kept: dict[str, float]) -> LedgerHour:
    log = str(row["log"])
    return LedgerHour(
        log=names.get(log, log),
        hook=row["hook"],
        hour=row["hour"],
        listed=row["listed"],
        held=row["held"],
        fetched=row["fetched"],
        unrecoverable=row["unrecoverable"],
        refused=row["refused"],
        erased=row["erased"],
        before_us=row["before_us"],
        not_wanted=row["not_wanted"],
        on_its_way=row["on_its_way"],
        open=row["open"],
        reasons=json.loads(row["reasons"]),
        forgotten_at=_later(row["hour"], kept.get(log, KEPT_S)) if row["open"] else None,
        counted_at=row["at"],
    )


def _names(logs: GithubLogs) -> dict[str, str]:
    return {digest_of(one): one.name for one in logs.all}


def _kept(logs: GithubLogs) -> dict[str, float]:
    """For how many seconds GitHub keeps an attempt, by the digest of the log."""
    return {digest_of(one): keeps_s(one.api_url) for one in logs.all}


def _later(at: str, seconds: float) -> str:
    return at_text(seconds_of(at) + seconds)
