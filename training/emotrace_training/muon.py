"""Muon: steepest descent under the spectral norm (Jordan et al., 2024, kellerjordan.github.io).

The momentum of each matrix is replaced by the nearest semi-orthogonal one, so that every direction
is learnt at the same pace. A convolution's kernel counts as a matrix with a row an output channel.
Updates are scaled to the size that AdamW's have (Liu et al., arXiv 2502.16982, equation 4), so the
rates and decays of AdamW serve.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz step, from the source
STEPS = 5
SIZE = 0.2  # root mean square of AdamW's updates


class Muon(torch.optim.Optimizer):
    """For parameters of two or more dimensions; the others need an optimiser of their own."""

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(gradient)
                momentum = state["momentum"]
                momentum.lerp_(gradient, 1 - group["momentum"])
                ahead = gradient.lerp(momentum, group["momentum"])  # Nesterov's
                update = orthogonal(ahead.flatten(1)).view_as(parameter)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                scale = SIZE * max(parameter.shape[0], parameter[0].numel()) ** 0.5
                parameter.add_(update, alpha=-group["lr"] * scale)


def muon_and_adamw(module: nn.Module, rate: float, decay: float) -> list[torch.optim.Optimizer]:
    """Muon for matrices and kernels, AdamW for the rest."""
    matrices = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim < 2]
    return [
        Muon(matrices, rate, weight_decay=decay),
        torch.optim.AdamW(others, rate, weight_decay=decay),
    ]


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest semi-orthogonal matrix: singular values between 0.7 and 1.2."""
    a, b, c = COEFFICIENTS
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (x.norm() + 1e-7)
    for _ in range(STEPS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    nearest: Tensor = x if wide else x.T
    return nearest
