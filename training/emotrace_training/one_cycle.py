"""One rise and fall of the rate over a whole fit (Smith and Topin, arXiv 1708.07120)."""

from __future__ import annotations

from collections.abc import Iterable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR


def one_cycle(
    optimizers: Iterable[Optimizer], rate: float, steps: int, warm: float
) -> list[OneCycleLR]:
    """A schedule an optimiser, all with the highest `rate` after the share `warm` of the steps.

    Momentum stays: Muon's has another meaning than AdamW's first moment.
    """
    return [
        OneCycleLR(optimizer, rate, total_steps=steps, pct_start=warm, cycle_momentum=False)
        for optimizer in optimizers
    ]
