"""Timing in rounds: all contestants run once a round, so that whatever else the machine does meets
all alike, and a ratio is the median of the rounds' ratios."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from time import perf_counter

Work = Callable[[], object]


def race(contestants: Mapping[str, Work], rounds: int, warm: int = 1) -> dict[str, list[float]]:
    """Milliseconds of each contestant, round by round. warm: rounds before, not counted."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(warm + rounds):
        for name, work in contestants.items():
            taken = milliseconds(work)
            if number >= warm:
                times[name].append(taken)
    return times


def milliseconds(work: Work) -> float:
    began = perf_counter()
    work()
    return 1e3 * (perf_counter() - began)


def median_ratio(times: Sequence[float], over: Sequence[float]) -> float:
    """How many times as long `times` are as `over`, round by round."""
    return median(a / b for a, b in zip(times, over, strict=True))
