"""Two vectors to one: gates between modalities, and their outer product (models.md 5.4, 5.8)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GatedPair(nn.Module):
    """z * tanh(W_1 first) + (1 - z) * tanh(W_2 second), z = sigmoid(W_z [first; second]).

    A gated multimodal unit (Arevalo et al. 2017) without biases; two of them, of the aligned and of
    the last states, added up, are group gated fusion (Liu et al. 2020, equations 11 to 14).
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width, bias=False)
        self.second = nn.Linear(inputs, width, bias=False)
        self.gate = nn.Linear(2 * inputs, width, bias=False)

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, inputs] each -> [batch, width] and z [batch, width], the first's weight."""
        z = self.gate(torch.cat([first, second], dim=-1)).sigmoid()
        return z * self.first(first).tanh() + (1 - z) * self.second(second).tanh(), z


def padded_outer(first: Tensor, second: Tensor, pad: float = 1.0) -> Tensor:
    """[first; pad] x [second; pad], flattened: [batch, (inputs + 1)^2] (Zadeh et al. 2017).

    A pad of 1 keeps each vector on its own among the products; 0 (GBAN's released code) loses them.
    """
    first, second = F.pad(first, (0, 1), value=pad), F.pad(second, (0, 1), value=pad)
    return (first[:, :, None] * second[:, None, :]).flatten(1)
