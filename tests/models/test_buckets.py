"""Batches by length: everything once, little padding."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emotrace_models.encoders.buckets import MOST_PADDING, buckets


@given(st.lists(st.integers(1, 2_000), max_size=60))
def test_each_is_in_one_batch_and_no_batch_is_mostly_padding(lengths: list[int]) -> None:
    found = buckets(lengths)
    assert sorted(index for bucket in found for index in bucket) == list(range(len(lengths)))
    for bucket in found:
        sizes = [lengths[index] for index in bucket]
        positions = max(sizes) * len(sizes)
        assert positions - sum(sizes) <= MOST_PADDING * positions
    for length in set(lengths):
        assert sum(length in {lengths[index] for index in bucket} for bucket in found) == 1


def test_batches_are_few() -> None:
    assert buckets([100, 100, 100]) == [[0, 1, 2]]
    assert buckets([100, 90, 80]) == [[2, 1, 0]]
    assert buckets([1_000, 10, 11, 990]) == [[1, 2], [3, 0]]
    assert buckets([]) == []
