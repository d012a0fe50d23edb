"""Maps of the xLSTM blocks: block-diagonal, causal convolution, and their initial weights.

Parameter names and shapes are those of the xlstm package 2.0.6, so that its weights load here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

ROUND_UP_TO = 64  # inner widths are multiples of this


def round_up(width: float) -> int:
    """The inner width of a projection: `width` rounded up to a multiple of 64."""
    return math.ceil(width / ROUND_UP_TO) * ROUND_UP_TO


def small_init(weight: Tensor, width: int) -> None:
    """N(0, 2 / (5 width)): Nguyen and Salazar, Transformers without Tears, 2019."""
    nn.init.normal_(weight, std=math.sqrt(2 / (5 * width)))


def residual_init(weight: Tensor, width: int, blocks: int) -> None:
    """N(0, (2 / (blocks sqrt(width)))^2): for maps that add to a residual stream."""
    nn.init.normal_(weight, std=2 / blocks / math.sqrt(width))


class BlockDiagonal(nn.Module):
    """`blocks` independent linear maps without bias, side by side: [..., width] -> [..., width]."""

    def __init__(self, width: int, blocks: int, init_width: int) -> None:
        super().__init__()
        if width % blocks:
            raise ValueError(f"a width of {width} does not split into {blocks} equal blocks")
        self.weight = nn.Parameter(torch.empty(blocks, width // blocks, width // blocks))
        small_init(self.weight, init_width)

    def forward(self, x: Tensor) -> Tensor:
        blocks, _, size = self.weight.shape
        y = torch.einsum("...bi,boi->...bo", x.view(*x.shape[:-1], blocks, size), self.weight)
        return y.flatten(-2)


class CausalConvolution(nn.Module):
    """Depthwise convolution over time that sees this step and the `kernel - 1` before it.

    Written as a sum of shifted products: torch's depthwise convolution is slow on a CPU.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        if kernel < 1:
            raise ValueError(f"a convolution kernel has at least 1 step, not {kernel}")
        self.kernel = kernel
        # Holds the parameters, under the names and with the initial values of the reference.
        self.conv = nn.Conv1d(width, width, kernel, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, step, width] -> the same shape; before the first step lie zeros."""
        return self._slide(functional.pad(x, (0, 0, self.kernel - 1, 0)))

    def step(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """One step x [batch, width] and `before` [batch, kernel - 1, width]; the next `before`."""
        seen = torch.cat([before, x.unsqueeze(1)], dim=1)  # [batch, kernel, width]
        return self._slide(seen).squeeze(1), seen[:, 1:]

    def _slide(self, x: Tensor) -> Tensor:
        taps = self.conv.weight.squeeze(1).unbind(-1)  # each [width]
        steps = x.shape[1] - self.kernel + 1
        y = x[:, :steps] * taps[0]
        for shift, tap in enumerate(taps[1:], start=1):
            y = torch.addcmul(y, x[:, shift : shift + steps], tap)
        return y if self.conv.bias is None else y + self.conv.bias
