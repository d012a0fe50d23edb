"""The sLSTM cell against its equations written out, and its initial forget bias."""

from __future__ import annotations

import math

import pytest
import torch

from emotrace_models.layers.slstm import SLSTMBlock, SLSTMCell, forget_bias

HEADS, SIZE = 2, 3


def by_hand(cell: SLSTMCell, gates: torch.Tensor) -> list[list[list[float]]]:
    """Equations of models.md section 2.3 for one stream; gates [step, gate, head, size]."""
    kernel = cell._recurrent_kernel_.view(HEADS, 4, SIZE, SIZE)
    bias = cell._bias_.view(4, HEADS, SIZE)
    y = [[0.0] * SIZE for _ in range(HEADS)]
    c = [[0.0] * SIZE for _ in range(HEADS)]
    n = [[0.0] * SIZE for _ in range(HEADS)]
    m: list[list[float | None]] = [[None] * SIZE for _ in range(HEADS)]
    outputs = []
    for step in gates:
        new = [[0.0] * SIZE for _ in range(HEADS)]
        for h in range(HEADS):
            for d in range(SIZE):
                i, f, z, o = (
                    float(step[g, h, d])
                    + sum(float(kernel[h, g, d, e]) * y[h][e] for e in range(SIZE))
                    + float(bias[g, h, d])
                    for g in range(4)
                )
                before = m[h][d]
                log_forget = -math.log1p(math.exp(-f))
                largest = i if before is None else max(log_forget + before, i)
                enter = math.exp(i - largest)
                forget = 0.0 if before is None else math.exp(log_forget + before - largest)
                c[h][d] = forget * c[h][d] + enter * math.tanh(z)
                n[h][d] = forget * n[h][d] + enter
                m[h][d] = largest
                new[h][d] = c[h][d] / n[h][d] / (1 + math.exp(-o))
        y = new
        outputs.append(y)
    return outputs


def test_cell_equals_its_equations() -> None:
    torch.manual_seed(0)
    cell = SLSTMCell(HEADS * SIZE, HEADS, index=1, blocks=3).double()
    torch.nn.init.normal_(cell._recurrent_kernel_)
    gates = torch.randn(7, 4, HEADS, SIZE, dtype=torch.float64)
    with torch.inference_mode():
        state = cell.start(1)
        for step, expected in zip(gates, by_hand(cell, gates), strict=True):
            state = cell(step.unsqueeze(0), state)
            torch.testing.assert_close(
                state.output[0], torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9
            )


@pytest.mark.parametrize("reach", [30.0, 1e4])
def test_extreme_gates_stay_finite_forward_and_backward(reach: float) -> None:
    """Also at the first step, whose stabiliser starts at minus infinity."""
    torch.manual_seed(1)
    cell = SLSTMCell(HEADS * SIZE, HEADS, index=0, blocks=1)
    torch.nn.init.normal_(cell._recurrent_kernel_)
    gates = (reach * torch.randn(2, 6, 4, HEADS, SIZE).sign()).requires_grad_()
    state = cell.start(2)
    for step in gates.unbind(1):
        state = cell(step, state)
    state.output.sum().backward()
    assert state.output.isfinite().all()
    for tensor in (gates, *cell.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize(("index", "power"), [(0, 0.3), (7, 1.6)])
def test_forget_bias_spreads_with_depth(index: int, power: float) -> None:
    expected = [5 - 12 * (i / 127) ** power for i in range(128)]
    assert forget_bias(128, index, 8).tolist() == pytest.approx(expected, abs=1e-5)
    bias = SLSTMBlock(512, 4, index, 8).xlstm.slstm_cell._bias_.view(4, 4, 128)
    assert bias[1].tolist() == pytest.approx([pytest.approx(expected, abs=1e-5)] * 4)
    assert bias[[0, 2, 3]].abs().max() == 0


def test_a_stack_of_one_block_starts_as_its_first() -> None:
    assert torch.equal(forget_bias(16, 0, 1), forget_bias(16, 0, 4))
