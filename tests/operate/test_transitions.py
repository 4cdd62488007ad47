"""The state machine of notices: what begins and ends is told once each, in turn, and what comes and goes never as a stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq.model.notices import BEGAN, ENDED
from covenq.operate.notify.conditions import Condition, Key
from covenq.operate.notify.transitions import AT_ONCE, GONE_MAX_S, TRACKS_MAX, Change, Track, step, told

A, B = Condition("intake", "intake", "it is closed"), Condition("waiting", "route a key", "2 tasks wait")
DAMAGE = Condition("damage", "journal", "it is damaged", "covenq verify")
NAMED = {"a": A, "b": B, "d": DAMAGE}


def run(looks: list[tuple[float, str]], debounce_s: float = 60.0) -> list[tuple[float, Change]]:
    """What is told, and when, of looks at these times, each of which sees the conditions with these letters."""
    tracks: dict[Key, Track] = {}
    found = []
    for now, letters in looks:
        done = step(tracks, [NAMED[one] for one in letters], now, debounce_s)
        tracks = done.tracks
        found += [(now, change) for change in done.changes]
    return found


def states(found: list[tuple[float, Change]]) -> list[tuple[float, str]]:
    return [(at, change.state) for at, change in found]


def test_a_beginning_and_an_end_are_told_once_when_they_have_lasted() -> None:
    looks = [(0.0, "a"), (30.0, "a"), (60.0, "a"), (300.0, "a"), (310.0, ""), (365.0, ""), (370.0, ""), (900.0, "")]
    found = run(looks)
    assert states(found) == [(60.0, BEGAN), (370.0, ENDED)]
    assert [change.began_at for _, change in found] == [0.0, 0.0], "it began when it was first seen"


def test_what_passes_within_the_debounce_is_told_of_by_nobody() -> None:
    assert run([(0.0, "a"), (50.0, ""), (70.0, "a"), (129.0, "a"), (130.0, "")]) == []
    assert states(run([(0.0, "a"), (60.0, "a"), (70.0, ""), (80.0, "a"), (400.0, "a")])) == [(60.0, BEGAN)]


def test_damage_is_told_of_at_the_first_look_and_without_a_debounce_so_is_everything() -> None:
    assert states(run([(5.0, "d")])) == [(5.0, BEGAN)] and {"damage"} == AT_ONCE
    assert states(run([(5.0, "a"), (6.0, "")], debounce_s=0.0)) == [(5.0, BEGAN), (6.0, ENDED)]


def test_a_clock_that_is_set_back_holds_nothing_up() -> None:
    assert states(run([(1e9, "a"), (1000.0, "a"), (1060.0, "a")])) == [(1060.0, BEGAN)]
    ended = [(0.0, "a"), (60.0, "a"), (1e9, ""), (100.0, ""), (159.0, ""), (160.0, "")]
    assert states(run(ended))[-1] == (160.0, ENDED)


def test_too_many_at_once_are_counted_and_told_of_when_there_is_room() -> None:
    many = [Condition("waiting", f"route r{n} key", "it waits") for n in range(TRACKS_MAX + 7)]
    done = step({}, many, 0.0, 0.0)
    assert len(done.tracks) == len(done.changes) == TRACKS_MAX and done.untracked == 7
    rest = step(done.tracks, many[5:], 1.0, 0.0)
    assert rest.untracked == 7, "what has ended is followed for a while: it may come again"
    later = step(step(rest.tracks, many[5:], 9000.0, 0.0).tracks, many[5:], 9001.0, 0.0)
    assert later.untracked == 2 and len(told(later.tracks)) == TRACKS_MAX


LOOKS = st.lists(
    st.tuples(st.integers(1, 200), st.sampled_from(["", "a", "b", "ab", "abd", "d"])), min_size=1, max_size=60
)


@given(LOOKS, st.sampled_from([0.0, 20.0, 60.0]))
def test_beginnings_and_ends_alternate_each_after_it_has_lasted_and_none_is_lost(
    steps: list[tuple[int, str]], debounce_s: float
) -> None:
    now, looks = 0.0, []
    for after, letters in steps:
        now += after
        looks.append((now, letters))
    # What is left as it is for long enough is known in the end, whatever was before.
    looks += [(now + n * 600.0, looks[-1][1]) for n in range(1, int(2 * GONE_MAX_S / 600))]
    found = run(looks, debounce_s)
    for letter, condition in NAMED.items():
        own = [(at, change.state) for at, change in found if change.condition.key == condition.key]
        assert [state for _, state in own] == [(BEGAN, ENDED)[n % 2] for n in range(len(own))]
        waits_s = 0.0 if condition.kind in AT_ONCE else debounce_s
        for at, state in own:
            lasted = [
                letters for seen, letters in looks if at - (waits_s if state == BEGAN else debounce_s) < seen <= at
            ]
            assert all((letter in letters) == (state == BEGAN) for letters in lasted), (letter, at, state)
        holds = letter in looks[-1][1]
        assert bool(own and own[-1][1] == BEGAN) == holds, "what holds in the end was told of as that"


@pytest.mark.parametrize("debounce_s", [0.0, 60.0])
@pytest.mark.parametrize("period", [1, 7, 20, 75])
def test_what_comes_and_goes_is_told_of_fewer_than_ten_times_in_any_hour(period: int, debounce_s: float) -> None:
    looks = [(10.0 * n, "a" if (n // period) % 2 == 0 else "") for n in range(2000)]
    begins = [at for at, change in run(looks, debounce_s) if change.state == BEGAN]
    assert max((sum(at <= other < at + 3600.0 for other in begins) for at in begins), default=0) < 10
