"""The mLSTM block of xLSTM (Beck et al., 2024, section 2.3; models.md section 2.3).

Two forms of one cell: `parallel_cell` over a whole sequence (training, and short sequences), and
`recurrent_cell` a step at a time with the state as a value. They agree but for the rounding, since
the stabiliser cancels. State dicts are those of the xlstm package 2.0.6.
"""

from __future__ import annotations

import math
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

EPSILON = 1e-6  # added to the normaliser
QKV_BLOCK = 4  # q, k and v come from independent 4 x 4 maps
EXPANSION = 2.0  # inner width over width


class CellState(NamedTuple):
    """C [batch, head, size, size], n [batch, head, size] and m [batch, head] of the equations."""

    matrix: Tensor
    normaliser: Tensor
    stabiliser: Tensor


class MLSTMState(NamedTuple):
    """What a block remembers between steps; convolution [batch, kernel - 1, inner width]."""

    convolution: Tensor
    cell: CellState


def log_weights(i: Tensor, f: Tensor) -> Tensor:
    """How much step t takes of step s, as a logarithm; gates before activation i, f
    [..., step] -> [..., step t, step s].

    With F_t = sum_{r<=t} log sigmoid(f_r):  L[t,s] = F_t - F_s + i_s where s <= t, else -infinity.
    """
    decay = functional.logsigmoid(f).cumsum(-1)  # F
    steps = f.shape[-1]
    future = torch.ones(steps, steps, dtype=torch.bool, device=f.device).triu(1)
    weights = decay.unsqueeze(-1) - decay.unsqueeze(-2) + i.unsqueeze(-2)
    return weights.masked_fill(future, -math.inf)


def attention(q: Tensor, k: Tensor, weights: Tensor) -> Tensor:
    """q [..., step t, size], k [..., step s, size], weights L [..., step t, step s] -> how h_t is
    made of the values, h = attention V  [..., step t, step s].

    M_t = max_s L[t,s],  A = (Q K^T) * exp(L - M) / sqrt(size),
    attention[t,s] = A[t,s] / (max(|sum_s A[t,s]|, exp(-M_t)) + 1e-6).
    """
    largest = weights.amax(-1, keepdim=True)  # M
    scaled = (weights - largest).exp() / math.sqrt(k.shape[-1])
    scores = q @ k.transpose(-2, -1) * scaled  # A
    floor = torch.maximum(scores.sum(-1, keepdim=True).abs(), (-largest).exp())
    return scores / (floor + EPSILON)


def parallel_cell(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor) -> Tensor:
    """All steps at once; q, k, v [..., step, size], gates before activation i, f [..., step]."""
    return attention(q, k, log_weights(i, f)) @ v


def recurrent_cell(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, state: CellState
) -> tuple[Tensor, CellState]:
    """One step; q, k, v [batch, head, size], gates before activation i, f [batch, head].

    m_t = max(log sigmoid(f) + m_{t-1}, i);  k' = k / sqrt(size);
    C_t = f' C_{t-1} + i' k' v^T;  n_t = f' n_{t-1} + i' k';
    h_t = q^T C_t / (max(|q^T n_t|, exp(-m_t)) + 1e-6)   (equation 3 of the GatedxLSTM paper)
    """
    log_forget = functional.logsigmoid(f) + state.stabiliser
    stabiliser = torch.maximum(log_forget, i)
    forget = (log_forget - stabiliser).exp().unsqueeze(-1)
    key = (i - stabiliser).exp().unsqueeze(-1) * k / math.sqrt(k.shape[-1])
    matrix = forget.unsqueeze(-1) * state.matrix + key.unsqueeze(-1) * v.unsqueeze(-2)
    normaliser = forget * state.normaliser + key
    floor = torch.maximum((q * normaliser).sum(-1).abs(), (-stabiliser).exp())
    h = (q.unsqueeze(-2) @ matrix).squeeze(-2) / (floor.unsqueeze(-1) + EPSILON)
    return h, CellState(matrix, normaliser, stabiliser)


class MLSTMCell(nn.Module):
    """Gates (one scalar a head and step), cell and head normalisation."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"an inner width of {width} does not split into {heads} heads")
        self.heads = heads
        self.igate = nn.Linear(3 * width, heads)
        self.fgate = nn.Linear(3 * width, heads)
        self.outnorm = HeadNorm(width)
        nn.init.zeros_(self.fgate.weight)
        nn.init.zeros_(self.igate.weight)
        nn.init.normal_(self.igate.bias, std=0.1)
        with torch.no_grad():
            self.fgate.bias.copy_(torch.linspace(3.0, 6.0, heads))

    def start(self, batch: int) -> CellState:
        """C_0 = 0, n_0 = 0, m_0 = 0."""
        weight = self.outnorm.weight
        size = weight.numel() // self.heads
        return CellState(
            weight.new_zeros(batch, self.heads, size, size),
            weight.new_zeros(batch, self.heads, size),
            weight.new_zeros(batch, self.heads),
        )

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[batch, step, width] each -> the same shape."""
        i, f = (gate.transpose(-2, -1) for gate in self._gates(q, k, v))  # [batch, head, step]
        q, k, v = (x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2) for x in (q, k, v))
        out: Tensor = self.outnorm(parallel_cell(q, k, v, i, f).transpose(1, 2))
        return out

    def step(self, q: Tensor, k: Tensor, v: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """[batch, width] each, one step."""
        i, f = self._gates(q, k, v)  # [batch, head]
        q, k, v = (x.view(*x.shape[:-1], self.heads, -1) for x in (q, k, v))
        h, state = recurrent_cell(q, k, v, i, f, state)
        return self.outnorm(h), state

    def _gates(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        qkv = torch.cat([q, k, v], dim=-1)
        return self.igate(qkv), self.fgate(qkv)


class MLSTMLayer(nn.Module):
    """Up-projection, convolution, cell, learnable skip, output gate SiLU(z), down-projection."""

    def __init__(self, width: int, heads: int, blocks: int, kernel: int) -> None:
        super().__init__()
        self.inner = round_up(EXPANSION * width)
        self.proj_up = nn.Linear(width, 2 * self.inner, bias=False)
        self.q_proj = BlockDiagonal(self.inner, self.inner // QKV_BLOCK, width)
        self.k_proj = BlockDiagonal(self.inner, self.inner // QKV_BLOCK, width)
        self.v_proj = BlockDiagonal(self.inner, self.inner // QKV_BLOCK, width)
        self.conv1d = CausalConvolution(self.inner, kernel)
        self.mlstm_cell = MLSTMCell(self.inner, heads)
        self.learnable_skip = nn.Parameter(torch.ones(self.inner))
        self.proj_down = nn.Linear(self.inner, width, bias=False)
        small_init(self.proj_up.weight, width)
        residual_init(self.proj_down.weight, width, blocks)

    def start(self, batch: int) -> MLSTMState:
        before = self.learnable_skip.new_zeros(batch, self.conv1d.kernel - 1, self.inner)
        return MLSTMState(before, self.mlstm_cell.start(batch))

    def forward(self, x: Tensor) -> Tensor:
        p, z = self.proj_up(x).chunk(2, dim=-1)
        c = functional.silu(self.conv1d(p))
        h = self.mlstm_cell(self.q_proj(c), self.k_proj(c), self.v_proj(p))
        return self._leave(h, c, z)

    def step(self, x: Tensor, state: MLSTMState) -> tuple[Tensor, MLSTMState]:
        p, z = self.proj_up(x).chunk(2, dim=-1)
        c, before = self.conv1d.step(p, state.convolution)
        c = functional.silu(c)
        h, cell = self.mlstm_cell.step(self.q_proj(c), self.k_proj(c), self.v_proj(p), state.cell)
        return self._leave(h, c, z), MLSTMState(before, cell)

    def _leave(self, h: Tensor, c: Tensor, z: Tensor) -> Tensor:
        out: Tensor = self.proj_down((h + self.learnable_skip * c) * functional.silu(z))
        return out


class MLSTMBlock(nn.Module):
    """x + mLSTM(norm(x)) over [batch, step, width].

    blocks: how many the stack has; the initial scale of the residual branch depends on it.
    """

    def __init__(self, width: int, heads: int, blocks: int, kernel: int = 4) -> None:
        super().__init__()
        self.xlstm_norm = ScaleNorm(width)
        self.xlstm = MLSTMLayer(width, heads, blocks, kernel)

    def start(self, batch: int) -> MLSTMState:
        """The state before the first step."""
        return self.xlstm.start(batch)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.xlstm(self.xlstm_norm(x))
        return y

    def step(self, x: Tensor, state: MLSTMState) -> tuple[Tensor, MLSTMState]:
        """One step x [batch, width] and the state before it -> its output, the state after it."""
        y, state = self.xlstm.step(self.xlstm_norm(x), state)
        return x + y, state
