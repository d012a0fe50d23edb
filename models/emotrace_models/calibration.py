"""Calibration: from raw logits to probabilities that mean what they say (temperature scaling).

Guo et al., 2017, "On calibration of modern neural networks": one scalar divides the logits, and a
bias a class may be added. Emotrace fits them for each set of modalities that an utterance may have,
because an estimate from the voice alone is wrong more often than one from voice and words.
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
    """temperatures, biases [class]: by `modality_key`; what has no bias has a bias of 0.

    abstain_below: a label of less confidence is doubtful.
    """

    temperatures: Mapping[str, float] = field(default_factory=dict)
    abstain_below: float = 0.0
    biases: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def posterior(self, logits: FloatArray, used: Sequence[Modality]) -> NDArray[np.float64]:
        """softmax(logits / temperature + bias): logits [class] -> probabilities [class], float64.

        A set of modalities that was not fitted takes the largest (most doubtful) temperature.
        """
        key = modality_key(used)
        fallback = max(self.temperatures.values(), default=1.0)
        scaled = logits.astype(np.float64) / self.temperatures.get(key, fallback)
        if (bias := self.biases.get(key)) is not None:
            scaled += bias
        weights = np.exp(scaled - scaled.max())
        return np.asarray(weights / weights.sum(), dtype=np.float64)
