"""Whether the explanation names what mattered: the posterior with a slot taken away."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from emotrace_models.attribution import attributed
from emotrace_models.bundle import Bundle
from emotrace_models.fusion import FusionModel
from emotrace_training.windows import Windows

BATCH = 512


@torch.inference_mode()
def contributions_of(
    model: FusionModel, part: Windows, turns: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Contributions [turn, slot, class], logits [turn, class] and which slots are filled."""
    found = []
    for start in range(0, len(turns), BATCH):
        inputs, _ = part.gather(turns[start : start + BATCH])
        output = attributed(model, inputs)
        found.append((output.explain["contributions"], output.logits))
    contributions, logits = (torch.cat(column).numpy() for column in zip(*found, strict=True))
    return contributions, logits, part.filled(turns).reshape(len(turns), -1)


def faithfulness(
    bundle: Bundle, part: Windows, turns: NDArray[np.int64], seed: int
) -> dict[str, float]:
    """Mean change of the calibrated posterior (total variation) without one slot of the context.

    most_contributing: the slot whose contribution to the predicted class is largest in size.
    random: one of the filled slots. Only turns with at least two filled slots count.
    """
    contributions, logits, valid = contributions_of(bundle.fusion, part, turns)
    several = valid.sum(axis=1) >= 2
    turns, contributions, logits, valid = (
        turns[several], contributions[several], logits[several], valid[several],
    )  # fmt: skip
    predicted = logits.argmax(axis=1)
    share = np.abs(contributions[np.arange(len(turns)), :, predicted])
    most = np.where(valid, share, -1.0).argmax(axis=1)
    draws = np.random.default_rng(seed).random(valid.shape)
    chosen = np.where(valid, draws, -1.0).argmax(axis=1)
    whole = _posterior(bundle, logits)
    return {
        name: float(0.5 * np.abs(whole - _without(bundle, part, turns, slot)).sum(axis=1).mean())
        for name, slot in (("most_contributing", most), ("random", chosen))
    }


@torch.inference_mode()
def _without(
    bundle: Bundle, part: Windows, turns: NDArray[np.int64], slot: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Posteriors [turn, class] with one slot of each context taken away."""
    keep = np.ones((len(turns), part.entries.shape[1], len(part.streams)), dtype=np.bool_)
    keep.reshape(len(turns), -1)[np.arange(len(turns)), slot] = False
    found = []
    for start in range(0, len(turns), BATCH):
        inputs, _ = part.gather(turns[start : start + BATCH], keep[start : start + BATCH])
        found.append(bundle.fusion(inputs).logits.numpy())
    return _posterior(bundle, np.concatenate(found))


def _posterior(bundle: Bundle, logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """By the temperature of all modalities, so that only the slot makes a difference."""
    modalities = bundle.fusion.modalities
    return bundle.calibration.posterior(logits, modalities)
