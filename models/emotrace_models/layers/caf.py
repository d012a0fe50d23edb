"""Fusions of two vectors into one: CAF, sum, concatenation and two forms of FiLM.

Yu et al., Electronics 2024, equations 5 to 7 and 16 to 20; models.md sections 4.5 and 4.6. Despite
its name, cross-attention fusion has no attention: K1 + K2 + V is a linear layer on [x; y], kept
here as published and collapsed by `fuse`.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn


class LinearFusion(nn.Module):
    """A sum of one linear map a stream: x [batch, d1], y [batch, d2] -> [batch, d3]."""

    @abstractmethod
    def branches(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Two terms [batch, d3] whose sum is the output, each with half of the bias."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        first, second = self.branches(x, y)
        return first + second

    @abstractmethod
    def fuse(self) -> nn.Linear:
        """The same as one layer on [x; y]."""


class CAF(LinearFusion):
    """Equations 16 to 20. The bias of V is halved between the branches, as in the released code;
    the paper splits it into two vectors of its own size, which cannot be."""

    def __init__(self, d1: int, d2: int, d3: int) -> None:
        super().__init__()
        self.d1 = d1
        self.k1 = nn.Linear(d1, d3)
        self.k2 = nn.Linear(d2, d3)
        self.v = nn.Linear(d1 + d2, d3)

    def branches(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        of_x, of_y = self.v.weight[:, : self.d1], self.v.weight[:, self.d1 :]
        half = self.v.bias / 2
        return x @ of_x.T + half + self.k1(x), y @ of_y.T + half + self.k2(y)

    def fuse(self) -> nn.Linear:
        weight = torch.cat([self.k1.weight, self.k2.weight], dim=1) + self.v.weight
        return _linear(weight, self.k1.bias + self.k2.bias + self.v.bias)


class Headed(LinearFusion):
    """A linear layer behind another linear fusion."""

    def __init__(self, inner: LinearFusion, head: nn.Linear) -> None:
        super().__init__()
        self.inner = inner
        self.head = head

    def branches(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        first, second = self.inner.branches(x, y)
        half = self.head.bias / 2
        return first @ self.head.weight.T + half, second @ self.head.weight.T + half

    def fuse(self) -> nn.Linear:
        inner = self.inner.fuse()
        weight, bias = self.head.weight, self.head.bias
        return _linear(weight @ inner.weight, weight @ inner.bias + bias)


class Aligned(nn.Module):
    """Two vectors brought to one width (paper); None: left as they are (released code)."""

    def __init__(self, d1: int, d2: int, width: int | None) -> None:
        super().__init__()
        self.widths = (width or d1, width or d2)
        self.first = nn.Linear(d1, width) if width else nn.Identity()
        self.second = nn.Linear(d2, width) if width else nn.Identity()

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.first(x), self.second(y)


class Sum(LinearFusion):
    """Linear(x' + y'); both of one width."""

    def __init__(self, aligned: Aligned, d3: int) -> None:
        super().__init__()
        self.aligned = aligned
        self.out = nn.Linear(aligned.widths[0], d3)

    def branches(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.aligned(x, y)
        half = self.out.bias / 2
        return x @ self.out.weight.T + half, y @ self.out.weight.T + half

    def fuse(self) -> nn.Linear:
        return _fused(self.aligned, self.out.weight, self.out.weight, self.out.bias)


class Concatenation(LinearFusion):
    """Linear([x'; y'])."""

    def __init__(self, aligned: Aligned, d3: int) -> None:
        super().__init__()
        self.aligned = aligned
        self.out = nn.Linear(sum(aligned.widths), d3)

    def branches(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.aligned(x, y)
        of_x, of_y = self._columns()
        half = self.out.bias / 2
        return x @ of_x.T + half, y @ of_y.T + half

    def fuse(self) -> nn.Linear:
        return _fused(self.aligned, *self._columns(), self.out.bias)

    def _columns(self) -> tuple[Tensor, Tensor]:
        first = self.aligned.widths[0]
        return self.out.weight[:, :first], self.out.weight[:, first:]


class FiLM(nn.Module):
    """Each vector scaled and shifted by what the other says (released code); both of one width."""

    def __init__(self, aligned: Aligned, d3: int) -> None:
        super().__init__()
        width = aligned.widths[0]
        self.aligned = aligned
        self.of_x = nn.Linear(width, 2 * width)
        self.of_y = nn.Linear(width, 2 * width)
        self.out = nn.Linear(2 * width, d3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = self.aligned(x, y)
        scale_x, shift_x = self.of_x(x).chunk(2, dim=-1)
        scale_y, shift_y = self.of_y(y).chunk(2, dim=-1)
        both = torch.cat([scale_y * x + shift_y, scale_x * y + shift_x], dim=-1)
        fused: Tensor = self.out(both)
        return fused


class SplitFiLM(nn.Module):
    """The halves of each vector scale and shift the other's (paper, equations 5 to 7); both of one
    even width."""

    def __init__(self, aligned: Aligned, d3: int) -> None:
        super().__init__()
        self.aligned = aligned
        self.out = nn.Linear(aligned.widths[0], d3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = self.aligned(x, y)
        (v_x, w_x), (v_y, w_y) = x.chunk(2, dim=-1), y.chunk(2, dim=-1)
        fused: Tensor = self.out(torch.cat([v_x * w_y + w_x, v_y * w_x + w_y], dim=-1))
        return fused


def _fused(aligned: Aligned, of_x: Tensor, of_y: Tensor, bias: Tensor) -> nn.Linear:
    """`of_x`, `of_y` [d3, width] behind the alignment, as one layer."""
    columns = []
    for layer, weight in ((aligned.first, of_x), (aligned.second, of_y)):
        if isinstance(layer, nn.Linear):
            bias = bias + weight @ layer.bias
            weight = weight @ layer.weight
        columns.append(weight)
    return _linear(torch.cat(columns, dim=1), bias)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer
