"""Who may come in: by what a session costs against what the machine has. Pure.

A session that is heard takes a share of the machine, measured on all that were heard before it.
Sessions are let in while the shares of all together stay within a budget; the admitted are never
put out for newcomers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

MEMORY_S = 60.0  # of audio from which the cost is known, and of time after which it is forgotten


@dataclass(frozen=True, slots=True)
class Cost:
    """What a second of one session's audio takes of the machine, as a share of a second.

    used: share-seconds. heard_s: seconds of audio. Both fade, and begin with what was expected.
    """

    used: float
    heard_s: float

    @classmethod
    def expected(cls, share: float) -> Cost:
        """Before anything was measured."""
        return cls(share * MEMORY_S, MEMORY_S)

    @property
    def share(self) -> float:
        return self.used / self.heard_s

    def after(self, used: float, heard_s: float, passed_s: float) -> Cost:
        """With what was measured since, of which so much time is over.

        It fades only as fast as there is something newer to know.
        """
        kept = math.exp(-min(passed_s, heard_s) / MEMORY_S)
        return Cost(self.used * kept + used, self.heard_s * kept + heard_s)


@dataclass(frozen=True, slots=True)
class Admission:
    """limit: connections at once, heard or not. budget: share of the machine that may be taken.
    open: connections now. closed: nobody comes in for the time being.
    """

    limit: int
    budget: float = 1.0
    open: int = 0
    closed: bool = False

    def admit(
        self, live: int, cost: Cost, *, again: bool = False, replaces: bool = False
    ) -> Admission | None:
        """With one session more, or None where there is no room.

        live: sessions that are heard now, or will be at once. again: it was let in before, so that
        only the number of connections counts. replaces: one that is open ends for it.
        """
        if self.open >= self.limit and not replaces:
            return None
        if again:
            return replace(self, open=self.open + 1)
        if self.closed:
            return None
        # One session fits on any machine: nobody is served if nobody comes in.
        if live and (live + 1) * cost.share > self.budget:
            return None
        return replace(self, open=self.open + 1)

    def leave(self) -> Admission:
        return replace(self, open=self.open - 1)
