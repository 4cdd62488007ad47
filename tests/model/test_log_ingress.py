"""What is told of a log that is followed."""

from __future__ import annotations

from covenq.model.log_ingress import FollowedLog, LogGap, following_troubles

T = "2026-11-30T05:00:00.000000Z"


def test_a_log_that_is_followed_as_it_should_be_has_no_trouble() -> None:
    assert list(following_troubles(FollowedLog(T, 3))) == []


def test_requests_of_others_and_what_github_forgot_are_told_with_what_to_do() -> None:
    ((others, next), (gap, by_hand)) = following_troubles(FollowedLog(T, 0, None, 1200, LogGap(T, T)))
    assert "1,200 requests in the last 15 minutes that aren't this daemon's" in others and "Stop it" in next
    assert "from 2026-11-30T05:00:00Z to 2026-11-30T05:00:00Z, if it sent anything" in gap and "by hand" in by_hand
