"""Sequences of different lengths brought to one length."""

from __future__ import annotations

import torch
from torch import Tensor


def interpolate_steps(x: Tensor, lengths: Tensor, steps: int) -> Tensor:
    """Linear in time with half-pixel centres, each item from its own steps alone.

    x [item, step, width], lengths [item] of at least 1 -> [item, steps, width]. On items that are
    not padded it is torch's `interpolate(mode="linear", align_corners=False)`. At least float32.
    """
    exact = torch.promote_types(x.dtype, torch.float32)  # half precision cannot count to 90
    count = lengths[:, None].to(exact)
    centres = (torch.arange(steps, device=x.device, dtype=exact) + 0.5) * (count / steps) - 0.5
    places = centres.clamp(min=0.0).minimum(count - 1)  # [item, steps]
    before = places.floor()
    after = (before + 1).minimum(count - 1)
    share = (places - before).unsqueeze(-1)
    return _rows(x, before) * (1 - share) + _rows(x, after) * share


def _rows(x: Tensor, places: Tensor) -> Tensor:
    return x.gather(1, places.long().unsqueeze(-1).expand(-1, -1, x.shape[-1]))
