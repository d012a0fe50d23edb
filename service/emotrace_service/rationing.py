"""Rations: of each kind of line so many a second, and a count of those left out. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

from emotrace_service.pacing import Bucket

Kind = TypeVar("Kind", bound=Hashable)

LINES_A_SECOND = 10
TELL_S = 1.0


class Rations(Generic[Kind]):
    """A flood of one kind of line leaves the others their place, and nothing uncounted.

    Kinds must be few: one is remembered for each. `now`: on any clock that does not go back, in
    seconds.
    """

    def __init__(self, rate: float = LINES_A_SECOND) -> None:
        self._rate = rate
        self._buckets: dict[Kind, Bucket] = {}
        self._left_out: Counter[Kind] = Counter()
        self._told = 0.0

    def take(self, kind: Kind, now: float) -> bool:
        """Whether a line of this kind is written now; if not, it is counted."""
        bucket = self._buckets.get(kind)
        if bucket is None:
            bucket = self._buckets[kind] = Bucket(self._rate, self._rate, now)
        if bucket.take(now):
            return True
        if not self._left_out:
            self._told = now
        self._left_out[kind] += 1
        return False

    def left_out(self, now: float) -> dict[Kind, int]:
        """What was left out, at most once a second; empty: nothing, or it is not time yet."""
        return self.rest() if now - self._told >= TELL_S else {}

    def rest(self) -> dict[Kind, int]:
        """What was left out and is not told yet; after that it is."""
        counts = dict(self._left_out)
        self._left_out.clear()
        return counts
