"""Which sequences share a padded batch, so that little of it is padding."""

from __future__ import annotations

from collections.abc import Sequence

MOST_PADDING = 0.25  # share of a batch's positions


def buckets(lengths: Sequence[int], most_padding: float = MOST_PADDING) -> list[list[int]]:
    """Indices of the sequences of each batch, as few batches as go by length.

    In each at most `most_padding` of all positions are padding. Sequences of one length are never
    parted.
    """
    found: list[list[int]] = []
    total = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[index]
        if found:
            bucket = found[-1]
            positions = length * (len(bucket) + 1)
            same = length == lengths[bucket[-1]]
            if same or positions - total - length <= most_padding * positions:
                bucket.append(index)
                total += length
                continue
        found.append([index])
        total = length
    return found
