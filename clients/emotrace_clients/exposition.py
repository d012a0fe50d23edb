"""Prometheus' text format: lines of /metrics -> numbers, and quantiles of histograms. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

_LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
_ESCAPE = re.compile(r'\\[\\"n]')


@dataclass(frozen=True, slots=True)
class Sample:
    labels: Mapping[str, str]
    value: float


class Scrape:
    """One answer of /metrics. Raises ValueError where the text is something else."""

    def __init__(self, text: str) -> None:
        self._samples: dict[str, list[Sample]] = {}
        for line in text.splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            found = _LINE.match(line)
            if found is None:
                raise ValueError("the answer is not in Prometheus' text format")
            labels = {key: _plain(value) for key, value in _LABEL.findall(found[2] or "")}
            self._samples.setdefault(found[1], []).append(Sample(labels, float(found[3])))

    def of(self, name: str) -> list[Sample]:
        """All samples of a name."""
        return self._samples.get(name, [])

    def value(self, name: str, /, **labels: str) -> float | None:
        """The sample with these labels among its own; None: there is none."""
        return next(
            (one.value for one in self.of(name) if labels.items() <= one.labels.items()), None
        )

    def buckets(self, name: str, /, **labels: str) -> dict[float, float]:
        """A histogram's cumulative counts by upper bound."""
        return {
            float(one.labels["le"]): one.value
            for one in self.of(f"{name}_bucket")
            if labels.items() <= one.labels.items()
        }


def since(buckets: Mapping[float, float], earlier: Mapping[float, float]) -> dict[float, float]:
    """What a histogram counted between two scrapes. A server that began anew counts from 0."""
    if any(earlier.get(bound, 0.0) > count for bound, count in buckets.items()):
        return dict(buckets)
    return {bound: count - earlier.get(bound, 0.0) for bound, count in buckets.items()}


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """The value that `share` of all observations do not exceed, taken as spread evenly in their
    bucket; above the last bound, that bound. None: nothing was observed."""
    bounds = sorted(buckets)
    if not bounds or buckets[bounds[-1]] <= 0:
        return None
    rank = share * buckets[bounds[-1]]
    lower = below = 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if math.isinf(bound):
                return lower
            inside = buckets[bound] - below
            return bound if inside <= 0 else lower + (bound - lower) * (rank - below) / inside
        lower, below = bound, buckets[bound]
    return lower


def _plain(value: str) -> str:
    return _ESCAPE.sub(lambda found: _ESCAPED[found[0]], value)
