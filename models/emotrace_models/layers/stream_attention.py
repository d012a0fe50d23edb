"""Cross-attention between two sequences, both ways. Ours, not of any of the papers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emotrace_models.layers.masking import masked_mean


class StreamAttention(nn.Module):
    """Each sequence asks the other, and the mean of what it then holds stands for it.

    x' = LN(x + MHA(x, y, y)) and the reverse, of sequences projected to `width`.
    """

    def __init__(self, d1: int, d2: int, width: int, heads: int) -> None:
        super().__init__()
        self.project = nn.ModuleList([nn.Linear(d1, width), nn.Linear(d2, width)])
        self.ask = nn.ModuleList(
            nn.MultiheadAttention(width, heads, batch_first=True) for _ in range(2)
        )
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(
        self, x: Tensor, x_mask: Tensor, y: Tensor, y_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x, y [batch, step, d]; masks [batch, step] bool, true where a step is real.

        Gives a vector of each [batch, width], zero where it has no step, and who looked where:
        [batch, step of x, step of y] and the reverse, rows of zeros where there was nothing to see.
        """
        x, y = self.project[0](x), self.project[1](y)
        of_x, weights_x = self._attend(0, x, x_mask, y, y_mask)
        of_y, weights_y = self._attend(1, y, y_mask, x, x_mask)
        return of_x, of_y, weights_x, weights_y

    def _attend(
        self, way: int, asking: Tensor, own: Tensor, asked: Tensor, other: Tensor
    ) -> tuple[Tensor, Tensor]:
        seen = other.any(1)[:, None, None]
        # Softmax over no step at all is not a number: look at all, and throw it away.
        hidden = ~(other | ~other.any(1, keepdim=True))
        found, weights = self.ask[way](asking, asked, asked, key_padding_mask=hidden)
        out = self.norm[way](asking + found.where(seen, torch.zeros_like(found)))
        return masked_mean(out, own), weights.where(seen & own[..., None], 0.0)
