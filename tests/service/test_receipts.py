"""Receipts: all before one number is safe, and what was done past it is not done twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emotrace_service.receipts import Receipts


def test_in_order() -> None:
    receipts = Receipts()
    for expected in range(5):
        number = receipts.take()
        assert number == expected
        receipts.done(number)
        assert receipts.through == expected + 1
    assert not receipts.ahead


@given(st.permutations(range(12)), st.integers(0, 12))
def test_who_goes_on_hears_the_rest_once(order: list[int], done: int) -> None:
    first = Receipts()
    assert [first.take() for _ in range(12)] == list(range(12))
    for number in order[:done]:
        first.done(number)
    assert first.through == next((n for n in range(12) if n not in order[:done]), 12)
    second = Receipts(first.through, first.ahead)
    heard = [second.take() for _ in range(first.through, 12)]
    assert [number for number in heard if number is not None] == sorted(order[done:])
