"""Calibration: from raw logits to probabilities that mean what they say.

Guo et al., 2017, "On calibration of modern neural networks": one scalar divides the logits
(temperature scaling), and where it helps a bias a class follows (bias-corrected temperature
scaling, Alexandari et al., 2020, arXiv 1901.06852), which moves the prior of the classes.
Emotrace fits both for each set of modalities that an utterance may have, because an estimate from
the voice alone is wrong more often than one from voice and words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emotrace_models.types import FloatArray, Modality


def modality_key(modalities: Sequence[Modality]) -> str:
    """The name of a set of modalities in configs: `acoustic+lexical`."""
    return "+".join(sorted(modalities))


@dataclass(frozen=True, slots=True)
class Calibration:
    """temperatures: by `modality_key`. abstain_below: a label of less confidence is doubtful.
    biases: by `modality_key`, one number a class; a set of modalities without has zeros."""

    temperatures: Mapping[str, float] = field(default_factory=dict)
    abstain_below: float = 0.0
    biases: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def posterior(self, logits: FloatArray, used: Sequence[Modality]) -> NDArray[np.float64]:
        """logits [..., class] -> probabilities [..., class], float64: softmax(logits / T + bias).

        A set of modalities that was not fitted takes the largest (most doubtful) temperature.
        """
        key = modality_key(used)
        fallback = max(self.temperatures.values(), default=1.0)
        scaled = logits.astype(np.float64) / self.temperatures.get(key, fallback)
        if key in self.biases:
            scaled = scaled + np.asarray(self.biases[key])
        weights = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=-1, keepdims=True), dtype=np.float64)
