"""Clips by what is known of them: corpus, sex, language, length, noise, intensity."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotrace_training.metrics import Floats

SEXES = {"m": "male", "male": "male", "f": "female", "female": "female"}
LANGUAGES = {"de": "German", "en": "English", "pl": "Polish"}
INTENSITIES = {"01": "normal", "02": "strong", "1": "normal", "2": "strong"}  # RAVDESS's codes
UNKNOWN = "not stated"
LENGTHS = (1.5, 2.5, 3.5, 5.0)  # s
LEVELS = (10.0, 20.0, 30.0)  # dB


@dataclass(frozen=True, slots=True)
class Known:
    """Of one clip. snr_db: as measured; None where there is no background to measure."""

    corpus: str
    facts: Mapping[str, str]
    seconds: float
    snr_db: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A label set on the clips that have one of its classes: posterior [row, class]; truth [row];
    corpus [row]."""

    names: tuple[str, ...]
    truth: NDArray[np.int64]
    posterior: Floats
    corpus: tuple[str, ...]


def groups(clips: Sequence[Known]) -> dict[str, dict[str, NDArray[np.int64]]]:
    """Rows by dimension and bucket. A dimension that no clip states is left out; buckets of numbers
    come in their order."""
    found = {
        "corpus": [clip.corpus for clip in clips],
        "sex": [_named(clip.facts, ("gender", "sex"), SEXES) for clip in clips],
        "language": [_named(clip.facts, ("language", "lang"), LANGUAGES) for clip in clips],
        "length": [_bucket(clip.seconds, LENGTHS, "s") for clip in clips],
        "signal to noise": [
            "no background" if clip.snr_db is None else _bucket(clip.snr_db, LEVELS, "dB")
            for clip in clips
        ],
        "intensity": [_named(clip.facts, ("intensity",), INTENSITIES) for clip in clips],
    }
    order = [*(_range(LENGTHS, i, "s") for i in range(len(LENGTHS) + 1))]
    order += [_range(LEVELS, i, "dB") for i in range(len(LEVELS) + 1)]
    return {
        dimension: {
            bucket: np.flatnonzero([name == bucket for name in names])
            for bucket in sorted(
                set(names), key=lambda b: (order.index(b) if b in order else len(order), b)
            )
        }
        for dimension, names in found.items()
        if set(names) != {UNKNOWN}
    }


def _named(facts: Mapping[str, str], columns: Sequence[str], names: Mapping[str, str]) -> str:
    value = next((facts[c] for c in columns if facts.get(c)), "")
    return names.get(value.lower(), value) or UNKNOWN


def _bucket(value: float, edges: Sequence[float], unit: str) -> str:
    return _range(edges, bisect_right(edges, value), unit)


def _range(edges: Sequence[float], place: int, unit: str) -> str:
    if place == 0:
        return f"under {edges[0]:g} {unit}"
    if place == len(edges):
        return f"from {edges[-1]:g} {unit}"
    return f"{edges[place - 1]:g} to {edges[place]:g} {unit}"
