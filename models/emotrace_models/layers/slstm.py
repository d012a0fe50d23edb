"""The sLSTM block of xLSTM (Beck et al., 2024, section 2.2; models.md section 2.3).

A scalar memory with recurrent connections inside each head: it runs a step at a time, by nature.
State dicts are those of the xlstm package 2.0.6 (its `vanilla` backend).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from emotrace_models.layers.norms import HeadNorm, ScaleNorm
from emotrace_models.layers.projections import (
    BlockDiagonal,
    CausalConvolution,
    residual_init,
    round_up,
    small_init,
)

FFN_EXPANSION = 1.3
GATES = 4  # input, forget, cell input z, output; stored in this order
FORGET = 1


class CellState(NamedTuple):
    """Output y, cell c, normaliser n and stabiliser m, each [batch, head, size]."""

    output: Tensor
    cell: Tensor
    normaliser: Tensor
    stabiliser: Tensor


class SLSTMState(NamedTuple):
    """What a block remembers between steps; convolution [batch, kernel - 1, width]."""

    convolution: Tensor
    cell: CellState


def forget_bias(size: int, index: int, blocks: int) -> Tensor:
    """5 - 12 (i / (size - 1))^(0.3 + 1.3 index / (blocks - 1)): forgetting spreads with depth."""
    depth = index / (blocks - 1) if blocks > 1 else 0.0
    return 5.0 - 12.0 * torch.linspace(0.0, 1.0, size) ** (0.3 + 1.3 * depth)


def advance(gates: Sequence[Tensor], state: CellState) -> CellState:
    """One step; gates before activation i, f, z and o, each of the state's shape.

    m_t = max(log sigmoid(f) + m_{t-1}, i);  c_t = f' c_{t-1} + i' tanh(z);
    n_t = f' n_{t-1} + i';  y_t = sigmoid(o) c_t / n_t
    """
    i, f, z, o = gates
    log_forget = functional.logsigmoid(f) + state.stabiliser
    stabiliser = torch.maximum(log_forget, i)
    forget, enter = (log_forget - stabiliser).exp(), (i - stabiliser).exp()
    cell = forget * state.cell + enter * z.tanh()
    normaliser = forget * state.normaliser + enter
    return CellState(o.sigmoid() * cell / normaliser, cell, normaliser, stabiliser)


class SLSTMCell(nn.Module):
    """_recurrent_kernel_ [head, gate * size, size], _bias_ [gate * head * size]."""

    def __init__(self, width: int, heads: int, index: int, blocks: int) -> None:
        super().__init__()
        self.heads = heads
        self.size = width // heads
        self._recurrent_kernel_ = nn.Parameter(torch.zeros(heads, GATES * self.size, self.size))
        bias = torch.zeros(GATES, heads, self.size)
        bias[FORGET] = forget_bias(self.size, index, blocks)
        self._bias_ = nn.Parameter(bias.flatten())

    def start(self, batch: int) -> CellState:
        """Zeros; m_0 is minus infinity, so that m_1 = i at the first step without a branch."""
        zeros = self._bias_.new_zeros(batch, self.heads, self.size)
        return CellState(zeros, zeros, zeros, torch.full_like(zeros, -math.inf))

    def forward(self, gates: Tensor, state: CellState) -> CellState:
        """One step; gates [batch, gate, head, size] are what the inputs give to them."""
        recurrent = torch.einsum("bhi,hoi->bho", state.output, self._recurrent_kernel_)
        recurrent = recurrent.view(-1, self.heads, GATES, self.size).transpose(1, 2)
        bias = self._bias_.view(GATES, self.heads, self.size)
        return advance((gates + recurrent + bias).unbind(1), state)


class SLSTMLayer(nn.Module):
    """Convolution, block-diagonal input maps, cell, head normalisation.

    In the reference the map named `fgate` feeds the input gate and `igate` the forget gate; it is
    so here too, since weights are exchanged by name.
    """

    def __init__(self, width: int, heads: int, index: int, blocks: int, kernel: int) -> None:
        super().__init__()
        self.conv1d = CausalConvolution(width, kernel)
        self.fgate = BlockDiagonal(width, heads, width)
        self.igate = BlockDiagonal(width, heads, width)
        self.zgate = BlockDiagonal(width, heads, width)
        self.ogate = BlockDiagonal(width, heads, width)
        self.slstm_cell = SLSTMCell(width, heads, index, blocks)
        self.group_norm = HeadNorm(width)

    def start(self, batch: int) -> SLSTMState:
        weight = self.group_norm.weight
        before = weight.new_zeros(batch, self.conv1d.kernel - 1, weight.numel())
        return SLSTMState(before, self.slstm_cell.start(batch))

    def forward(self, x: Tensor) -> Tensor:
        gates = self._gates(x, functional.silu(self.conv1d(x)))
        state = self.slstm_cell.start(x.shape[0])
        outputs = []
        for step in gates.unbind(1):
            state = self.slstm_cell(step, state)
            outputs.append(state.output)
        out: Tensor = self.group_norm(torch.stack(outputs, dim=1))
        return out

    def step(self, x: Tensor, state: SLSTMState) -> tuple[Tensor, SLSTMState]:
        c, before = self.conv1d.step(x, state.convolution)
        cell = self.slstm_cell(self._gates(x, functional.silu(c)), state.cell)
        return self.group_norm(cell.output), SLSTMState(before, cell)

    def _gates(self, a: Tensor, c: Tensor) -> Tensor:
        """[..., width] -> [..., gate, head, size], the order of the cell's bias."""
        gates = torch.stack([self.fgate(c), self.igate(c), self.zgate(a), self.ogate(a)], dim=-2)
        return gates.view(*gates.shape[:-1], self.slstm_cell.heads, self.slstm_cell.size)


class GatedFeedForward(nn.Module):
    """Down(GELU(g) * u) with [g, u] = Up(x), no biases."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        inner = round_up(FFN_EXPANSION * width)
        self.proj_up = nn.Linear(width, 2 * inner, bias=False)
        self.proj_down = nn.Linear(inner, width, bias=False)
        small_init(self.proj_up.weight, width)
        residual_init(self.proj_down.weight, width, blocks)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.proj_up(x).chunk(2, dim=-1)
        y: Tensor = self.proj_down(functional.gelu(gate) * up)
        return y


class SLSTMBlock(nn.Module):
    """x + sLSTM(norm(x)), then x + FFN(norm(x)), over [batch, step, width].

    index, blocks: its place in the stack and the stack's depth, for the initial forget bias.
    """

    def __init__(self, width: int, heads: int, index: int, blocks: int, kernel: int = 4) -> None:
        super().__init__()
        self.xlstm_norm = ScaleNorm(width)
        self.xlstm = SLSTMLayer(width, heads, index, blocks, kernel)
        self.ffn_norm = ScaleNorm(width)
        self.ffn = GatedFeedForward(width, blocks)

    def start(self, batch: int) -> SLSTMState:
        """The state before the first step."""
        return self.xlstm.start(batch)

    def forward(self, x: Tensor) -> Tensor:
        return self._feed(x + self.xlstm(self.xlstm_norm(x)))

    def step(self, x: Tensor, state: SLSTMState) -> tuple[Tensor, SLSTMState]:
        """One step x [batch, width] and the state before it -> its output, the state after it."""
        y, state = self.xlstm.step(self.xlstm_norm(x), state)
        return self._feed(x + y), state

    def _feed(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.ffn(self.ffn_norm(x))
        return y
