"""The ledger as it is asked for: rows by hour and log, what is missing now, and what is known of a delivery that is not held."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from covenq.config.github_api import KEPT_S, GithubApp, GithubHook, GithubLogs, digest_of, keeps_s
from covenq.model import at_text, seconds_of
from covenq.model.ledger import HOUR_S, UNSETTLED, hour_of, hour_text
from covenq.model.rows import Page
from covenq.model.status import LedgerHour, Missing, NotHeldDelivery, RequestBudget
from covenq.state import fold_ledger

if TYPE_CHECKING:  # a list foresees nothing
    from covenq.reconcile.forecast import Budget


def ledger(conn: sqlite3.Connection, logs: GithubLogs, since: float) -> Page[LedgerHour]:
    """The hours since that time, in seconds since 1970, the newest first."""
    names, kept = _names(logs), _kept(logs)
    rows = fold_ledger.rows_since(conn, hour_text(hour_of(max(0.0, since))))
    return Page([_hour(row, names, kept) for row in rows], None)


def missing(
    conn: sqlite3.Connection,
    logs: GithubLogs,
    budgets: Mapping[str, RequestBudget],
    every_s: float | None,
    now: float,
) -> Missing | None:
    """What GitHub lists in the logs that are configured and could not be fetched yet; None where nothing is missing.

    `budgets`, by the log's name, are what the passes, which are made every `every_s` seconds, know of GitHub's limit.
    """
    kept = _kept(logs)
    rows = [row for row in fold_ledger.open_hours(conn) if row["log"] in kept]
    if not rows:
        return None
    found = Missing(
        deliveries=sum(row["open"] for row in rows),
        since=rows[0]["hour"],
        until=_later(rows[-1]["hour"], HOUR_S),
        forgotten_at=min(_later(row["hour"], kept[row["log"]]) for row in rows),
    )
    names = _names(logs)
    opened: dict[str, list[Opened]] = {}
    for row in rows:
        budget = budgets.get(names[row["log"]])
        first = 0 if budget is None else min(row["open"], budget.first.get(row["hour"], 0))
        forgotten_at = seconds_of(row["hour"]) + kept[row["log"]]
        opened.setdefault(row["log"], []).append(Opened(forgotten_at, first, row["open"] - first))
    if every_s is not None:
        _foretell(found, list(_shared(logs, opened, budgets, every_s)), now)
    return found


class Opened(NamedTuple):
    """When GitHub forgets what is open of an hour, and how many deliveries of it are fetched first, and how many after."""

    forgotten_at: float
    first: int
    others: int


def _shared(
    logs: GithubLogs, opened: Mapping[str, Sequence[Opened]], budgets: Mapping[str, RequestBudget], every_s: float
) -> Iterator[tuple[list[Opened], Budget | None]]:
    """What is open by the credentials with which it is asked for, since GitHub counts by those, and their budget, if known."""
    from covenq.reconcile.forecast import Budget

    by_credentials: dict[object, list[GithubApp | GithubHook]] = {}
    for one in logs.all:
        if digest_of(one) in opened:
            by_credentials.setdefault(one.limited_as, []).append(one)
    for group in by_credentials.values():
        known = [budgets.get(one.name) for one in group]
        told = [one for one in known if one is not None]
        open_here = sorted(hour for one in group for hour in opened[digest_of(one)])
        if len(told) < len(known):
            yield open_here, None
            continue
        yield (
            open_here,
            Budget(
                usable=min(max(0, one.remaining - one.kept) for one in told),
                per_window=min(one.limit for one in told) // 2,
                reset=max(seconds_of(one.resets_at) for one in told),
                lists=sum(one.lists for one in told),
                request_s=max(one.request_s for one in told),
                every_s=every_s,
            ),
        )


def _foretell(found: Missing, shared: Sequence[tuple[Sequence[Opened], Budget | None]], now: float) -> None:
    """Add what is foreseen, where all of it can be. Logs are asked one after another: each waits for all others."""
    from covenq.reconcile.forecast import forecast

    budgets = [budget for _, budget in shared if budget is not None]
    if not shared or len(budgets) < len(shared):
        return
    took = [
        sum(hour.first + hour.others for hour in opened) * budget.request_s
        for (opened, _), budget in zip(shared, budgets, strict=True)
    ]
    forecasts = [
        forecast(_in_fetch_order(opened), replace(budget, every_s=budget.every_s + sum(took) - own), now)
        for (opened, _), budget, own in zip(shared, budgets, took, strict=True)
    ]
    done = [one.done_at for one in forecasts if one.done_at is not None]
    late = [one.too_late_from for one in forecasts if one.too_late_from is not None]
    found.done_at = at_text(max(done)) if done else None
    found.waits = any(one.waits for one in forecasts)
    found.too_late = sum(one.too_late for one in forecasts)
    found.too_late_from = at_text(min(late)) if late else None


def _in_fetch_order(opened: Sequence[Opened]) -> Iterator[tuple[float, int]]:
    yield from ((hour.forgotten_at, hour.first) for hour in opened if hour.first)
    yield from ((hour.forgotten_at, hour.others) for hour in opened if hour.others)


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
        redelivered=row["redelivered"],
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
