"""When memory runs out: nobody new comes in, then the newest sessions go elsewhere. Pure.

    over 85 % of the limit   nobody new comes in, until less than 80 % is held
    for 5 s, and each 5 s    the newest tenth of the sessions is to go, to a server that has room

Where there is none they stay: to send them away would lose for sure what is only in danger.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

CLOSE_SHARE, OPEN_SHARE = 0.85, 0.80
LEAVE_AFTER_S = 5.0  # a proxy must learn of it first, and memory needs time to come back
LEAVING = 10  # one of so many sessions goes


@dataclass(frozen=True, slots=True)
class Headroom:
    """closed: nobody new comes in. over_since: since when too much is held, or somebody was sent
    away; None: it is not too much. In seconds of any clock."""

    closed: bool = False
    over_since: float | None = None

    def advance(self, now: float, share: float) -> Headroom:
        """share: of the limit that is held."""
        if share >= CLOSE_SHARE:
            return Headroom(True, now if self.over_since is None else self.over_since)
        return Headroom(self.closed and share >= OPEN_SHARE)

    def leaving(self, now: float, sessions: int) -> int:
        """How many of so many are to go now."""
        due = self.over_since is not None and now - self.over_since >= LEAVE_AFTER_S
        return -(-sessions // LEAVING) if due else 0

    def left(self, now: float) -> Headroom:
        """Some have been sent away."""
        return replace(self, over_since=now)
