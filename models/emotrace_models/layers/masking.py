"""Sequences of different lengths in one batch: which steps are real, and sums over those alone."""

from __future__ import annotations

import torch
from torch import Tensor


def real_steps(steps: int, lengths: Tensor) -> Tensor:
    """[..., step] bool: which of `steps` are real, of lengths [...]."""
    return torch.arange(steps, device=lengths.device) < lengths[..., None]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """[batch, step, width] over the steps of mask [batch, step] -> [batch, width]; zero where it
    has none."""
    total = values.masked_fill(~mask[..., None], 0.0).sum(1)
    return total / mask.sum(1, keepdim=True).clamp(min=1)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Over the last axis, zero where `mask` (bool, broadcasts) is False, also in all of a row."""
    # The smallest number and not -inf, whose gradient is not a number in a row of nothing else.
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~mask, lowest).softmax(-1) * mask
