"""How far a computation is from what the device allows: arithmetic and memory, both measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from emotrace_bench.racing import milliseconds

REPEATS = 10


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that a large product and a large copy reach, a second."""

    flops: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Demand:
    """flops: of products, convolutions and attention. bytes: every weight read once, the least
    that has to be moved."""

    flops: int
    bytes: int

    def bound(self, peak: Peak) -> float:
        """Milliseconds that no kernel can go under on such a device."""
        return 1e3 * max(self.flops / peak.flops, self.bytes / peak.bytes)

    def limit(self, peak: Peak) -> str:
        """Which of the two it is that binds."""
        return "arithmetic" if self.flops / peak.flops > self.bytes / peak.bytes else "memory"


def synchronised(device: str, work: Callable[[], object]) -> Callable[[], None]:
    """The work, waited for."""

    def run() -> None:
        work()
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()

    return run


def peak(device: str, dtype: torch.dtype, side: int, megabytes: int) -> Peak:
    """side: of the square matrices; megabytes: that are copied."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.zeros(megabytes * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product = _best(device, lambda: a @ b)
    copy = _best(device, lambda: target.copy_(source))
    return Peak(2e3 * side**3 / product, 2e3 * source.numel() / copy)  # a copy reads and writes


def demand(model: nn.Module, work: Callable[[], object]) -> Demand:
    """work: one pass of the model, run once to be counted."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    return Demand(counter.get_total_flops(), weights)


def _best(device: str, work: Callable[[], object]) -> float:
    """Milliseconds of the quicker half."""
    run = synchronised(device, work)
    run()
    times = sorted(milliseconds(run) for _ in range(REPEATS))
    return median(times[: REPEATS // 2])
