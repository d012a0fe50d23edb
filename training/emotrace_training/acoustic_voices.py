"""Voices that are in no corpus, made from a batch: another vocal tract, pitch, microphone, level.

The bank holds a few virtual copies of each speaker; these changes are drawn anew for every item
and cost next to nothing, as they act on log-mel frames. What the speaker said before is changed in
the same way, so the running statistics still agree with the utterance.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from emotrace_models.encoders.running_statistics import KEPT
from emotrace_models.encoders.spectral import BANDS, ENERGY, HIGHEST, LOWEST, PITCH
from emotrace_training.acoustic_sampling import Batch

KNOTS = 6  # of a microphone's response
RESPONSE = 0.8  # its deviation as a natural-log power: 3.5 dB
LEVEL = 1.4  # largest change of level, natural-log power: 6 dB
PITCH_SHIFT = 0.12  # octaves, beyond what the vocal tract's length brings


def disguised(batch: Batch, warp: float, rng: np.random.Generator) -> Batch:
    """The batch in other voices. warp: largest relative change of all frequencies.

    Frequencies are scaled as in vocal tract length perturbation (Jaitly & Hinton, 2013).
    """
    items = len(batch.frames)
    scales = np.exp(rng.uniform(-warp, warp, items))
    mapping = torch.from_numpy(_warps(scales))
    shift = np.zeros((items, KEPT))
    knots = torch.from_numpy(rng.normal(0.0, RESPONSE, (items, 1, KNOTS)))
    curve = F.interpolate(knots, BANDS, mode="linear", align_corners=True)[:, 0].numpy()
    level = rng.uniform(-LEVEL, LEVEL, (items, 1))
    shift[:, :BANDS] = curve + level
    shift[:, ENERGY] = (level + curve.mean(axis=1, keepdims=True))[:, 0]
    shift[:, PITCH] = -np.log2(scales) + rng.uniform(-PITCH_SHIFT, PITCH_SHIFT, items)
    moved = torch.from_numpy(shift.astype(np.float32))
    frames = batch.frames.clone()
    frames[..., :BANDS] = batch.frames[..., :BANDS] @ mapping
    frames[..., :KEPT] += moved[:, None]
    frames *= batch.mask[..., None]
    return replace(batch, frames=frames, earlier=_moved(batch.earlier, mapping, moved))


def _moved(earlier: Tensor, mapping: Tensor, shift: Tensor) -> Tensor:
    """Moments [item, 3, KEPT] of warped and shifted values; the squares of warped bands lie between
    two neighbours' as the bands themselves do.
    """
    count, total, square = earlier.unbind(dim=1)
    total, square = total.clone(), square.clone()
    total[:, :BANDS] = (total[:, None, :BANDS] @ mapping)[:, 0]
    square[:, :BANDS] = (square[:, None, :BANDS] @ mapping)[:, 0]
    return torch.stack(
        [count, total + shift * count, square + 2 * shift * total + shift.square() * count], dim=1
    )


def _warps(scales: NDArray[np.float64]) -> NDArray[np.float32]:
    """[item, band, band]: column b mixes the two bands round `scale` times the frequency of b."""

    def mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return np.asarray(2595.0 * np.log10(1.0 + np.asarray(hertz) / 700.0))

    step = (float(mel(HIGHEST)) - float(mel(LOWEST))) / (BANDS + 1)
    centres = 700.0 * (10.0 ** ((float(mel(LOWEST)) + step * np.arange(1, BANDS + 1)) / 2595) - 1)
    places = (mel(centres * scales[:, None]) - float(mel(LOWEST))) / step - 1
    places = places.clip(0, BANDS - 1 - 1e-6)
    low = np.floor(places).astype(np.int64)
    share = (places - low).astype(np.float32)
    found = np.zeros((len(scales), BANDS, BANDS), np.float32)
    item, band = np.indices(low.shape)
    found[item, low, band] = 1 - share
    found[item, low + 1, band] += share
    return found
