"""The plots: each a file, and the question that it answers."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.compare.losses import Loss
from tests.bench.compare.results import Results
from tests.bench.compare.svg import Bar, Line, bars, lines
from tests.bench.compare.table import INTAKE, KILLED, MEASURES, STORES, TASKS
from tests.bench.figures import Spread

ASKED = "SQLite is asked within the process, PostgreSQL and covenq over their sockets"
BY_SIZE = {
    "start": (
        "start_ms",
        "Start",
        "How long is nothing accepted after a restart?",
        "from the first process to the first 202",
    ),
    "memory": (
        "memory_mib",
        "Memory",
        "What do all of its processes hold, once they were asked?",
        "what they share counts once",
    ),
    "filter": ("target_ms", "Filter", "How long does one wait for what came of one pull request?", ASKED),
    "why": ("why_ms", "Why", "How long does one wait for all that is known of one delivery?", ASKED),
    "claim": (
        "claim_ms",
        "Claim",
        "What does a task cost that is claimed and ended, one after another?",
        "each claim and end durable",
    ),
    "verify": (
        "verify_s",
        "Verify",
        "How long does it take to check all that is held?",
        "covenq hashes every byte, the others look at the structure",
    ),
}
"""By the file's name: the measure, the title, the question, and what is to be known of the answer."""
UNSTORED = "stores nothing: all is lost"


def plots(results: Results) -> Iterator[tuple[str, str]]:
    """The name of each file, and its SVG. Of what was not measured there is none."""
    if results.intake:
        question = "How many deliveries a second are answered with 202, and are any of them lost?"
        rows = []
        for name in INTAKE:
            if name in results.intake:
                lost = [("killed", results.intake_losses.get(name)), ("power cut", results.power_cuts.get(name))]
                notes = (UNSTORED,) if name == "hmac" else tuple(f"{what}: {_note(one)}" for what, one in lost if one)
                rows.append(Bar(INTAKE[name], Spread.of(results.intake[name].rate), notes, name == "covenq"))
        yield "intake.svg", bars("Intake", question, rows)
    if results.tasks:
        title, question = (
            "Tasks",
            "How many tasks a second are claimed and ended, and are any lost or done twice under SIGKILL?",
        )
        rows = []
        for name in TASKS:
            if results.tasks.get(name):
                loss = results.task_losses.get(KILLED[name])
                notes = () if loss is None else (f"killed: {_note(loss)}",)
                rows.append(Bar(TASKS[name], Spread.of(results.tasks[name]), notes, KILLED[name] == "covenq"))
        yield "tasks.svg", bars("Tasks", question, rows)
    if len(results.sizes) < 2:
        return
    for name, (measure, title, question, note) in BY_SIZE.items():
        series = []
        for system, label in STORES.items():
            points = [
                (float(count), Spread.of(results.sizes[count][system][measure]))
                for count in sorted(results.sizes)
                if results.sizes[count].get(system, {}).get(measure)
            ]
            if points:
                series.append(Line(label, points))
        yield f"{name}.svg", lines(title, question, MEASURES[measure][1], series, note)


def _note(loss: Loss) -> str:
    """Beside its speed, what it lost."""
    return f"{loss.lost:,} of {loss.acknowledged:,} lost, {loss.doubled:,} twice"
