"""What is kept of a speaker's earlier sound, and the two normalised views of an utterance.

`u`: by the utterance's own mean and deviation. `r`: by everything the speaker has said so far,
this utterance included, anchored to a prior that weighs `anchor` frames. Only frames within 35 dB
of the utterance's loudest one count, so silence at the ends changes nothing; for pitch only the
voiced ones among them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emotrace_models.encoders.spectral import BANDS, ENERGY, PITCH, VOICED, VOICING

KEPT = BANDS + 2  # columns with statistics: bands, energy, pitch
RANGE = 35 / 10 * 2.302585  # 35 dB as a difference of natural-log powers
LIMIT = 4.0  # deviations at which normalised values are cut
MARGIN = 10  # frames kept round the part that counts: silence beyond them was not trained on
CONTOURS = 4  # energy, pitch, voicing, voiced


@dataclass(frozen=True, slots=True, eq=False)
class RunningStatistics:
    """Frames, sums and sums of squares of each kept column: [3, KEPT] float64, read-only."""

    moments: NDArray[np.float64]

    @classmethod
    def empty(cls) -> RunningStatistics:
        return cls(_frozen(np.zeros((3, KEPT))))

    def including(self, moments: NDArray[np.float64], memory: int) -> RunningStatistics:
        """The statistics after an utterance; old frames fade once there are more than `memory`."""
        total = self.moments + moments
        return RunningStatistics(_frozen(total * min(1.0, memory / max(1.0, total[0, 0]))))


def active_range(frames: Tensor) -> tuple[int, int]:
    """The first and the last of frames [frame, COLUMNS], at least one, that count."""
    energy = frames[:, ENERGY]
    heard = (energy > energy.max() - RANGE).nonzero()[:, 0]
    return int(heard[0]), int(heard[-1])


def without_silence(frames: Tensor) -> Tensor:
    """frames [frame, COLUMNS] up to MARGIN before the first and after the last that counts."""
    first, last = active_range(frames)
    return frames[max(0, first - MARGIN) : last + 1 + MARGIN]


def moments(frames: Tensor, mask: Tensor) -> Tensor:
    """frames [..., frame, COLUMNS], mask [..., frame] of real ones -> [..., 3, KEPT]."""
    energy = frames[..., ENERGY].masked_fill(~mask, -torch.inf)
    active = energy > energy.amax(dim=-1, keepdim=True) - RANGE
    voiced = active & (frames[..., VOICING] >= VOICED)
    weights = torch.cat(
        [active[..., None].expand(*active.shape, KEPT - 1), voiced[..., None]], dim=-1
    ).to(frames.dtype)
    kept = frames[..., :KEPT]
    weighted = kept * weights
    return torch.stack(
        [weights.sum(dim=-2), weighted.sum(dim=-2), (weighted * kept).sum(dim=-2)], dim=-2
    )


def views(
    frames: Tensor, mask: Tensor, own: Tensor, earlier: Tensor, prior: Tensor, anchor: float
) -> tuple[Tensor, Tensor]:
    """The input of the network: bands [..., 2, BANDS, frame] (u, r), contours [..., 4, frame].

    own, earlier: moments [..., 3, KEPT] of this utterance and of the speaker before it.
    prior: [2, KEPT] mean and deviation. Values of frames outside `mask` are zero.
    """
    counts = frames.new_tensor(anchor)
    anchored = torch.stack(
        [
            counts.expand(KEPT),
            counts * prior[0],
            counts * (prior[1].square() + prior[0].square()),
        ]
    )
    # Over the utterance alone a few frames of the prior keep a short one from dividing by nothing.
    alone = _normalised(frames[..., :BANDS], (own + anchored * (2.0 / anchor))[..., :BANDS])
    running = _normalised(frames[..., :KEPT], own + earlier + anchored)
    voicing = frames[..., VOICING]
    voiced = (voicing >= VOICED).to(frames.dtype)
    contours = torch.stack(
        [running[..., ENERGY], running[..., PITCH] * voiced, 2 * voicing - 1, voiced], dim=-2
    )
    bands = torch.stack([alone, running[..., :BANDS]], dim=-3).transpose(-1, -2)
    real = mask.to(frames.dtype)
    return bands * real[..., None, None, :], contours * real[..., None, :]


def _normalised(values: Tensor, sums: Tensor) -> Tensor:
    count, total, square = sums.unsqueeze(-2).unbind(dim=-3)
    mean = total / count
    deviation = (square / count - mean.square()).clamp_min(1e-4).sqrt()
    return ((values - mean) / deviation).clamp(-LIMIT, LIMIT)


def _frozen(values: NDArray[np.float64]) -> NDArray[np.float64]:
    values.flags.writeable = False
    return values
