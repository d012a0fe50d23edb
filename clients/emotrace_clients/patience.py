"""Patience: when to try again after a connection broke, and when to stop trying. Pure."""

from __future__ import annotations

from random import Random

FIRST_S = 0.2
LONGEST_S = 10.0
GROWTH = 1.5  # a proxy that restarts is back after two attempts, and the third is not far


class Patience:
    """Full-jitter backoff: each pause is drawn from nothing to a limit that grows by half up to
    10 s, so that clients which lost one server do not come back at the same moment.

    window_s: how long after the break it makes sense to try. now_s: of a clock that does not go
    back.
    """

    def __init__(self, window_s: float, now_s: float, random: Random) -> None:
        self._deadline_s = now_s + window_s
        self._random = random
        self._limit_s = FIRST_S

    def pause_s(self, now_s: float, at_least_s: float = 0.0) -> float | None:
        """How long to wait before the next attempt; None: there shall be none.

        at_least_s: what the server asked for (`retry_after_ms`).
        """
        left_s = self._deadline_s - now_s
        if left_s <= at_least_s:
            return None
        pause_s = max(at_least_s, self._random.uniform(0.0, self._limit_s))
        self._limit_s = min(GROWTH * self._limit_s, LONGEST_S)
        return min(pause_s, left_s)  # the last attempt is at the very end
