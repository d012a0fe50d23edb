"""The ladder of what is left out while the machine has too much to do. Pure.

    level 0   everything
    level 1   no interim estimates, and none ahead of an utterance's end
    level 2   no pictures either: sound and words alone
    level 3   no new sessions either

Each step is told to every session. The admitted keep their final estimates at every level.
"""

from __future__ import annotations

from dataclasses import dataclass

PICTURELESS_LEVEL = 2
CLOSED_LEVEL = 3

RISE_S = (0.1, 0.25, 0.5)  # how long urgent work waits when level 1, 2, 3 is called for
RISE_AFTER_S = 0.3  # a single late batch is no overload
FALL_AFTER_S = 3.0

MEANINGS = (
    "Everything is served again.",
    "The server is busy: interim estimates are left out.",
    "The server is very busy: interim estimates and pictures are left out.",
    "The server has too much to do: interim estimates and pictures are left out, and nobody new "
    "is let in.",
)


@dataclass(frozen=True, slots=True)
class Brownout:
    """level: what is left out now. high_since, low_since: since when a step up, or down, is called
    for, in seconds of any clock; None: it is not."""

    level: int = 0
    high_since: float | None = None
    low_since: float | None = None

    def advance(self, now: float, wait_s: float) -> Brownout:
        """wait_s: how long the oldest piece of urgent work has waited."""
        high = self.level < len(RISE_S) and wait_s >= RISE_S[self.level]
        low = self.level > 0 and wait_s < RISE_S[self.level - 1] / 2
        high_since = (now if self.high_since is None else self.high_since) if high else None
        low_since = (now if self.low_since is None else self.low_since) if low else None
        if high_since is not None and now - high_since >= RISE_AFTER_S:
            return Brownout(self.level + 1)
        if low_since is not None and now - low_since >= FALL_AFTER_S:
            return Brownout(self.level - 1)
        return Brownout(self.level, high_since, low_since)
