"""Pace: how many of something may come in a time. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """Full at first; each that comes takes one out, and `rate` flow in a second, up to `burst`.

    now: on any clock that does not go back, in seconds.
    """

    rate: float
    burst: float
    now: float
    level: float = -1.0

    def __post_init__(self) -> None:
        if self.level < 0:
            self.level = self.burst

    def take(self, now: float) -> bool:
        """Whether there is one for who comes at that time."""
        self.level = min(self.burst, self.level + max(0.0, now - self.now) * self.rate)
        self.now = now
        if self.level < 1.0:
            return False
        self.level -= 1.0
        return True

    def wait_s(self) -> float:
        """Until there is one, as of the last time that was asked."""
        return max(0.0, (1.0 - self.level) / self.rate)
