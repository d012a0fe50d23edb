"""Buckets: never more than the burst at once, nor than the rate for long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emotrace_service.pacing import Bucket


@given(
    st.floats(0.5, 500),
    st.integers(1, 100),
    st.lists(st.floats(0, 2), min_size=1, max_size=300),
)
def test_never_more_than_burst_and_rate_allow(rate: float, burst: int, waits: list[float]) -> None:
    bucket, now, let_in = Bucket(rate, burst, 0.0), 0.0, 0
    for wait in waits:
        now += wait
        let_in += bucket.take(now)
        assert let_in <= burst + rate * now + 1e-6


@given(st.floats(0.5, 500), st.integers(1, 100))
def test_who_keeps_the_pace_is_never_refused(rate: float, burst: int) -> None:
    bucket = Bucket(rate, burst, 0.0)
    assert all(bucket.take(number / rate * 1.000001) for number in range(1, 500))


def test_who_waits_as_told_gets_in() -> None:
    bucket = Bucket(2.0, 1.0, 0.0)
    assert bucket.take(0.0)
    assert not bucket.take(0.1)
    assert bucket.take(0.1 + bucket.wait_s() + 1e-9)


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    bucket = Bucket(100.0, 1.0, 10.0)
    assert bucket.take(10.0)
    assert not bucket.take(10.0)
    assert not bucket.take(5.0)
