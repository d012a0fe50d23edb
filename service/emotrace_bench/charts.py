"""What a benchmark wants drawn, as plain values: no drawing library is needed to make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bars:
    """One bar a name, made of named parts that lie one after the other. unit: of all numbers."""

    title: str
    unit: str
    parts: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Lines:
    """Named curves of points (x, y), both axes logarithmic where `logarithmic` says so."""

    title: str
    across: str
    upwards: str
    curves: Mapping[str, tuple[tuple[float, float], ...]]
    logarithmic: bool = True


Chart = Bars | Lines
