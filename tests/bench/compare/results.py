"""What one run of the comparison found: all that the table, the plots and the manual page are made of.

It is kept as JSON beside them, so that they can be made again without measuring, and be held against it.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from tests.bench.compare.losses import Loss


class Machine(msgspec.Struct, frozen=True):
    """What it was measured on."""

    day: str
    processor: str
    cores: int
    memory_gib: float
    kernel: str
    filesystem: str
    sync_us: tuple[float, float]
    """Of a write of 4 KiB and its fdatasync: the median, and the 99th percentile."""
    load: float
    """The load average at the start."""
    versions: dict[str, str]


class Intake(msgspec.Struct, frozen=True):
    """Of one server, a value a round."""

    rate: list[float]
    cpu_us: list[float]
    p50_half_ms: list[float]
    p99_half_ms: list[float]


class Results(msgspec.Struct):
    """A part that was not measured is empty."""

    machine: Machine
    options: dict[str, str]
    intake: dict[str, Intake] = msgspec.field(default_factory=dict)
    intake_losses: dict[str, Loss] = msgspec.field(default_factory=dict)
    power_cuts: dict[str, Loss] = msgspec.field(default_factory=dict)
    """As the losses, where what was not synced is gone too."""
    tasks: dict[str, list[float]] = msgspec.field(default_factory=dict)
    task_losses: dict[str, Loss] = msgspec.field(default_factory=dict)
    sizes: dict[int, dict[str, dict[str, list[float]]]] = msgspec.field(default_factory=dict)
    """By the number of deliveries, system and measure."""
    skipped: dict[str, str] = msgspec.field(default_factory=dict)
    """What could not be measured, and why."""
    took_s: float = 0.0


def load(path: Path) -> Results:
    return msgspec.json.decode(path.read_bytes(), type=Results)


def dump(results: Results) -> bytes:
    """With figures as short as they mean something: four digits; the rounds of one in a line."""
    rounded = _rounded(msgspec.to_builtins(results, str_keys=True))
    text = msgspec.json.format(msgspec.json.encode(rounded, order="deterministic"), indent=1)
    return re.sub(rb"\[\n[^\[\]{}]*?\n *\]", lambda found: b" ".join(found[0].split()), text) + b"\n"


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
