"""The last lines of what failed: of which attempt, which output, and how much of it."""

from __future__ import annotations

import pytest

from covenq.errors import NotFound
from covenq.model.rows import Attempt
from covenq.operate.inspect.last_output import BYTES_MAX, LINE_MAX, LINES_MAX, last_output


def attempt(number: int, outcome: str | None) -> Attempt:
    ended = None if outcome is None else "2026-11-23T02:00:00.000000Z"
    return Attempt(
        task="t1", attempt=number, fence="e.1", claim_seq=1, worker="w", started_at="2026-11-23T01:00:00.000000Z",
        ended_at=ended, outcome=outcome, category=None, exit_code=None, signal=None, detail=None, result=None,
        http_status=None, phases=[], usage=None, stdout=None, stderr=None,
    )  # fmt: skip


class Files:
    """Outputs by attempt and name; what isn't there is not found."""

    def __init__(self, **outputs: bytes) -> None:
        self.outputs = outputs

    def __call__(self, task: str, number: int, stream: str, last: int) -> bytes:
        if (found := self.outputs.get(f"{stream}{number}")) is None:
            raise NotFound("no")
        return found[-last:]


@pytest.mark.parametrize(
    ("outcomes", "told"),
    [
        ([], None),
        ([None], None),
        (["completed"], None),
        (["failed", "completed"], None),
        (["failed"], (1, "stderr")),
        (["failed", None], (1, "stderr")),
        (["failed", "failed"], (2, "stdout")),
        (["failed", "failed", "cancelled"], None),
    ],
)
def test_it_is_of_the_newest_that_ended_and_did_not_complete(
    outcomes: list[str | None], told: tuple[int, str] | None
) -> None:
    files = Files(stderr1=b"e", stdout1=b"o", stderr2=b" \n\n", stdout2=b"o")
    found = last_output([attempt(number, one) for number, one in enumerate(outcomes, 1)], files)
    assert (None if found is None else (found.attempt, found.stream)) == told


def test_lines_end_at_newlines_and_returns_alone_and_tabs_count_as_what_they_take() -> None:
    written = "a\vb\fc\u2028d\x85e\x1cf\rg\r\nh\ti\n" + "\t" * 100 + "x"
    found = last_output([attempt(1, "failed")], Files(stderr1=written.encode()))
    assert found is not None
    assert found.lines == ["a\vb\fc\u2028d\x85e\x1cf", "g", "h       i", "…" + " " * (LINE_MAX - 2) + "x"]


def test_no_character_is_cut_where_the_reading_begins() -> None:
    for begins in range(4):
        written = b"x" * begins + "\u20ac\U0001f600".encode() * 99 + b"\n" + b"y" * (BYTES_MAX - 300)
        found = last_output([attempt(1, "failed")], Files(stderr1=written))
        assert found is not None and len(found.lines) == 2 and "\ufffd" not in found.lines[0]


def test_it_is_bounded_and_nothing_in_it_is_blank() -> None:
    lines = "".join(f"{n}\r\n\n  \n" for n in range(100)) + "y" * LINE_MAX + "z"
    found = last_output([attempt(1, "failed")], Files(stderr1=lines.encode()))
    assert found is not None and len(found.lines) == LINES_MAX
    assert found.lines[-2] == "99"
    assert found.lines[-1] == "…" + "y" * (LINE_MAX - 2) + "z"
    found = last_output([attempt(1, "failed")], Files(stderr1=b"\xff" * (BYTES_MAX * 2)))
    assert found is not None and [len(line) for line in found.lines] == [LINE_MAX]
