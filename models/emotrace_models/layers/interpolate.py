"""Sequences of different lengths brought to one length."""

from __future__ import annotations

import torch
from torch import Tensor


def interpolate_steps(x: Tensor, lengths: Tensor, steps: int) -> Tensor:
    """Linear in time with half-pixel centres, each item from its own steps alone.

    x [item, step, width], lengths [item] of at least 1 -> [item, steps, width]. On items that are
    not padded it is torch's `interpolate(mode="linear", align_corners=False)`.
    """
    count = lengths[:, None].to(x.dtype)
    centres = (torch.arange(steps, device=x.device, dtype=x.dtype) + 0.5) * (count / steps) - 0.5
    places = centres.clamp(min=0.0).minimum(count - 1)  # [item, steps]
    before = places.floor()
    after = (before + 1).minimum(count - 1)
    share = (places - before).unsqueeze(-1)
    return _rows(x, before) * (1 - share) + _rows(x, after) * share


def _rows(x: Tensor, places: Tensor) -> Tensor:
    return x.gather(1, places.long().unsqueeze(-1).expand(-1, -1, x.shape[-1]))
