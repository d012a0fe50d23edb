"""Whether a short row of numbers rises or falls, or only scatters."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Literal

Direction = Literal["rising", "falling", "steady"]

# Student's t, 97.5 %, by degrees of freedom (numbers less two). Where nothing but chance is at
# work, a line is steeper than this times its standard error in one row of twenty.
T_CRITICAL = {
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    6: 2.447,
    7: 2.365,
    8: 2.306,
    9: 2.262,
    10: 2.228,
}
FEWEST, MOST = 4, 12  # numbers that a direction may be told from
LEAST_CHANGE = 0.2  # over the row: a tenth of what valence and arousal can take
NEWEST_WEIGHT = 0.5


def smoothed(values: Sequence[float]) -> float:
    """The exponentially weighted mean, the newest last: each number weighs half of the next.

    values: at least one.
    """
    level = values[0]
    for value in values[1:]:
        level += NEWEST_WEIGHT * (value - level)
    return level


def direction(values: Sequence[float]) -> Direction | None:
    """Where the numbers go, the newest last. None: there are fewer than FEWEST.

    The line of least squares must change by LEAST_CHANGE from the first number to the last, and be
    steeper than chance makes it in one row of twenty; else the row is `steady`. Raises ValueError
    for more than MOST numbers.
    """
    count = len(values)
    if count < FEWEST:
        return None
    if count > MOST:
        raise ValueError(f"{count} numbers: a direction is told from at most {MOST}")
    centre, mean = (count - 1) / 2, sum(values) / count
    spread = sum((at - centre) ** 2 for at in range(count))
    slope = sum((at - centre) * (value - mean) for at, value in enumerate(values)) / spread
    left = sum((v - mean - slope * (at - centre)) ** 2 for at, v in enumerate(values))
    error = sqrt(left / (count - 2) / spread)
    if abs(slope) * (count - 1) < LEAST_CHANGE or abs(slope) < T_CRITICAL[count - 2] * error:
        return "steady"
    return "rising" if slope > 0 else "falling"
