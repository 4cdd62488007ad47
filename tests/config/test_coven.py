"""A configuration of coven-github's, translated, decides as it did: an independent reading, but for the declared deviations."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from random import Random
from typing import Any

from covenq.cli.coven_setup import translation
from covenq.config.load import Config, load
from covenq.github.columns import columns
from covenq.github.request import parse
from covenq.model import DeliveryId, State
from covenq.routing.decide import route
from tests.support.coven_deliveries import configuration, delivery
from tests.support.coven_deviations import DEVIATIONS, LATER, NOTHING, Decision, expected, in_our_words
from tests.support.coven_reading import Delivery, Json, read
from tests.support.coven_toml import written
from tests.test_docs import text

SEED = 5
CONFIGURATIONS, EACH = 50, 20


def decided(config: Config, given: Delivery) -> Decision:
    """What the routing makes of it, from the bytes on, as the intake does."""
    parsed = parse(json.dumps(given.payload).encode(), "application/json")
    data, about = columns(given.event, parsed.object)
    row: dict[str, Any] = {"hook": "1", "guid": "g", "event": given.event, **data, **about, "payload_bytes": 9}
    made = route(config, DeliveryId("1", "g"), row, lambda: parsed.object, now=lambda: 1.8e9)
    assert made.problem is None, made.problem
    if made.state is State.IGNORED:
        return NOTHING
    assert len(made.entries) == 1, [entry.data["route"] for entry in made.entries]
    [entry] = made.entries
    policy = entry.data["policy"]
    assert isinstance(policy, dict) and entry.about is not None
    return Decision(
        str(entry.data["familiar"]), str(entry.data["purpose"]), entry.about["number"], policy["supersede"] == "queued"
    )


def translated(config: Json, directory: Path) -> Config:
    """Its covenq.toml, as `init --from-coven` writes it, loaded."""
    source, target = directory / "coven.toml", directory / "covenq.toml"
    source.write_text(written(config))
    target.write_text(translation(source, target).text)
    return load(target, {})


def test_its_decisions_on_generated_deliveries_are_those_of_the_reading_but_for_the_deviations(tmp_path: Path) -> None:
    random = Random(SEED)
    differences, kinds, made_a_difference = [], set(), set()
    for _ in range(CONFIGURATIONS):
        config = configuration(random)
        ours = translated(config, tmp_path)
        for _ in range(EACH):
            given = delivery(random, config)
            reading, wanted, found = read(config, given), expected(config, given), decided(ours, given)
            if found != wanted:
                differences.append(_shown(config, given, f"read: {reading}\nwanted: {wanted}\nfound:  {found}"))
            kinds.add((reading.kind, reading.reason, reading.why))
            if wanted != in_our_words(reading):
                made_a_difference |= {one.name for one in DEVIATIONS if expected(config, given, one.name) != wanted}
    assert not differences, f"{len(differences)} of {CONFIGURATIONS * EACH} differ:\n\n" + "\n\n".join(differences[:5])
    assert made_a_difference == {one.name for one in DEVIATIONS}, "a deviation that no delivery shows"
    assert kinds >= KINDS, KINDS - kinds


KINDS = {
    ("fix_issue", "assigned", ""),
    ("fix_issue", "labeled", ""),
    ("fix_issue", "fix", ""),
    ("fix_issue", "retry", ""),
    ("review_pull_request", "opened", ""),
    ("review_pull_request", "synchronize", ""),
    ("review_pull_request", "reopened", ""),
    ("review_pull_request", "ready_for_review", ""),
    ("review_pull_request", "labeled", ""),
    ("review_pull_request", "command:review", ""),
    ("review_pull_request", "command:deepen", ""),
    ("review_pull_request", "command:retry", ""),
    ("address_review_comment", "", ""),
    ("cancel_reviews", "", ""),
    ("garden_run", "", ""),
    ("garden_run", "/coven garden", ""),
    ("command_reply", "unknown", ""),
    ("command_reply", "status", ""),
    ("command_reply", "remember", ""),
    ("command_reply", "forget", ""),
    ("command_reply", "needs a pull request", ""),
    ("ignored", "ping", ""),
    ("ignored", "installation_deleted", ""),
    ("ignored", "quota_exceeded", ""),
    ("ignored", "unroutable", "no row"),
    ("ignored", "unroutable", "closed"),
    ("ignored", "unroutable", "a draft"),
    ("ignored", "unroutable", "no command"),
    ("ignored", "unroutable", "no trigger label"),
    ("ignored", "unroutable", "no automatic review"),
    ("ignored", "unroutable", "a field is missing"),
    ("ignored", "unroutable", "assigned to somebody else"),
    ("ignored", "unroutable", "the reviewer is out of scope"),
    ("ignored", "unroutable", "a configured bot's pull request"),
}
"""Every row of the reading, and every way past it: what the deliveries have to meet."""


def test_the_manual_lists_each_deviation_and_no_other() -> None:
    listed = (
        text("covenq-familiars.7").partition("DIFFERENCES FROM COVEN-GITHUB")[2].partition(".SH")[0].replace('"', "'")
    )
    headings = {line for tag, line in itertools.pairwise(listed.split("\n")) if tag == ".TP"}
    assert headings == {one.manual for one in DEVIATIONS} | set(LATER)


def _shown(config: Json, given: Delivery, words: str) -> str:
    told = {key: config[key] for key in ("familiars", "installations", "review") if key in config}
    return f"{json.dumps(told)}\n{given.event} {json.dumps(given.payload)}\n{words}"
