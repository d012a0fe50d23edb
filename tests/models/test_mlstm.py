"""The two forms of the mLSTM cell, and what every causal stack must do (models.md section 12)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from emotrace_models.layers import XLSTMStack
from emotrace_models.layers.mlstm import (
    CellState,
    MLSTMBlock,
    MLSTMState,
    parallel_cell,
    recurrent_cell,
)
from emotrace_models.layers.projections import BlockDiagonal, CausalConvolution

BATCH, HEADS, STEPS, SIZE = 2, 3, 16, 8


def unrolled(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor) -> Tensor:
    """The recurrent form over [batch, head, step, size], from the zero state."""
    batch, heads, steps, size = q.shape
    state = CellState(
        q.new_zeros(batch, heads, size, size),
        q.new_zeros(batch, heads, size),
        q.new_zeros(batch, heads),
    )
    outputs = []
    for t in range(steps):
        inputs = (q[:, :, t], k[:, :, t], v[:, :, t], i[:, :, t], f[:, :, t])
        h, state = recurrent_cell(*inputs, state)
        outputs.append(h)
    return torch.stack(outputs, dim=2)


def random_qkv(seed: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (BATCH, HEADS, STEPS, SIZE)
    return [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(3)]


def gates(seed: int, reach: float, dtype: torch.dtype) -> list[Tensor]:
    """Pre-activations: every one of them at an extreme, +reach or -reach."""
    generator = torch.Generator().manual_seed(seed)
    shape = (BATCH, HEADS, STEPS)
    return [
        reach * (2.0 * torch.randint(0, 2, shape, generator=generator).to(dtype) - 1.0)
        for _ in range(2)
    ]


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**31), reach=st.floats(0.0, 30.0))
def test_12_1_parallel_form_equals_recurrent_form(seed: int, reach: float) -> None:
    inputs = [*random_qkv(seed, torch.float64), *gates(seed + 1, reach, torch.float64)]
    torch.testing.assert_close(parallel_cell(*inputs), unrolled(*inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(20))
def test_12_1_the_forms_agree_in_float32_at_extreme_gates(seed: int) -> None:
    inputs = [*random_qkv(seed, torch.float32), *gates(seed + 100, 30.0, torch.float32)]
    parallel, recurrent = parallel_cell(*inputs), unrolled(*inputs)
    assert parallel.isfinite().all()
    # Where q and n nearly cancel, h is large and rounding is relative to it.
    torch.testing.assert_close(parallel, recurrent, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("gate", [-1e4, -100.0, 100.0, 1e4])
def test_no_gate_is_too_extreme(gate: float) -> None:
    inputs = [*random_qkv(0, torch.float32), *gates(1, gate, torch.float32)]
    assert parallel_cell(*inputs).isfinite().all()
    assert unrolled(*inputs).isfinite().all()


def test_12_1_parameters_of_a_block_and_a_stack_are_as_published() -> None:
    with torch.device("meta"):
        block = MLSTMBlock(512, heads=4, blocks=8)
        stack = XLSTMStack(512, blocks=8)
    assert sum(p.numel() for p in block.parameters()) == 1_617_416
    # 12,956,736 with the input projection, 32 -> 512, which belongs to the fusion model.
    assert sum(p.numel() for p in stack.parameters()) + 33 * 512 == 12_956_736


STACKS = [
    pytest.param({"width": 64, "blocks": 2}, id="mlstm"),
    pytest.param({"width": 64, "blocks": 3, "heads": 2, "slstm_at": (1,)}, id="mixed"),
    pytest.param({"width": 32, "blocks": 1, "heads": 4, "slstm_at": (0,), "kernel": 1}, id="slstm"),
]


def built(shape: dict[str, int | tuple[int, ...]]) -> XLSTMStack:
    """A stack whose gates and recurrence are not at their initial zeros."""
    torch.manual_seed(5)
    stack = XLSTMStack(**shape).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return stack


def width(stack: XLSTMStack) -> int:
    return stack.post_blocks_norm.weight.numel()


@pytest.mark.parametrize("shape", STACKS)
def test_a_stack_by_steps_equals_the_whole_sequence(shape: dict[str, int]) -> None:
    stack = built(shape)
    x = torch.randn(3, STEPS, width(stack))
    with torch.inference_mode():
        whole = stack(x)
        state = stack.start(3)
        for t in range(STEPS):
            y, state = stack.step(x[:, t], state)
            torch.testing.assert_close(y, whole[:, t], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", STACKS)
@pytest.mark.parametrize("changed", [0, 7, STEPS - 1])
def test_12_1_a_step_changes_nothing_before_it(shape: dict[str, int], changed: int) -> None:
    stack = built(shape)
    x = torch.randn(2, STEPS, width(stack))
    other = x.clone()
    other[:, changed] += torch.randn(width(stack))  # a constant would vanish in the norms
    with torch.inference_mode():
        difference = (stack(x) - stack(other)).abs().amax((0, 2))  # [step]
    assert (difference[:changed] <= 1e-6).all()
    assert (difference[changed:] > 1e-4).all()


@pytest.mark.parametrize("shape", STACKS)
def test_alone_equals_in_a_batch(shape: dict[str, int]) -> None:
    stack = built(shape)
    x = torch.randn(5, STEPS, width(stack))
    with torch.inference_mode():
        together = stack(x)
        for i in range(5):
            torch.testing.assert_close(stack(x[i : i + 1])[0], together[i], rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("shape", STACKS)
def test_state_is_a_value(shape: dict[str, int]) -> None:
    """A step leaves the state it was given as it was, so an interim result can be dropped."""
    stack = built(shape)
    x = torch.randn(2, 2, width(stack))
    with torch.inference_mode():
        _, state = stack.step(x[:, 0], stack.start(2))
        first, _ = stack.step(x[:, 1], state)
        stack.step(torch.randn(2, width(stack)), state)
        again, _ = stack.step(x[:, 1], state)
    assert torch.equal(first, again)


def test_stacked_states_make_a_batch() -> None:
    """Two streams, one at its third step and one at its first, in one step."""
    stack = built({"width": 32, "blocks": 1})
    x = torch.randn(2, 3, 32)
    with torch.inference_mode():
        ahead, fresh = stack.start(1), stack.start(1)
        for t in range(2):
            _, ahead = stack.step(x[:1, t], ahead)
        expected = [stack.step(x[:1, 2], ahead)[0], stack.step(x[1:, 2], fresh)[0]]
        joined = tuple(
            MLSTMState(
                torch.cat([a.convolution, b.convolution]),
                CellState(*(torch.cat(pair) for pair in zip(a.cell, b.cell, strict=True))),
            )
            for a, b in zip(ahead, fresh, strict=True)
        )
        together, _ = stack.step(x[:, 2], joined)
    torch.testing.assert_close(together, torch.cat(expected), rtol=1e-6, atol=2e-6)


def test_convolution_equals_torchs_own() -> None:
    layer = CausalConvolution(6, kernel=4)
    x = torch.randn(2, 9, 6)
    padded = torch.nn.functional.pad(x.transpose(1, 2), (3, 0))
    torch.testing.assert_close(layer(x), layer.conv(padded).transpose(1, 2))


def test_block_diagonal_equals_one_large_matrix() -> None:
    layer = BlockDiagonal(12, 3, init_width=12)
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(layer(x), x @ torch.block_diag(*layer.weight).T)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"width": 64, "blocks": 1, "heads": 3}, "does not split into 3 heads"),
        ({"width": 64, "blocks": 1, "heads": 5, "slstm_at": (0,)}, "into 5 equal blocks"),
        ({"width": 64, "blocks": 2, "slstm_at": (2,)}, "outside a stack of 2"),
        ({"width": 64, "blocks": 2, "slstm_at": (-1,)}, "outside a stack of 2"),
        ({"width": 64, "blocks": 1, "kernel": 0}, "at least 1 step"),
    ],
)
def test_shapes_that_cannot_be_are_refused(shape: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        XLSTMStack(**shape)  # type: ignore[arg-type]
