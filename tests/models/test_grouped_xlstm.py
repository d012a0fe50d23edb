"""The grouped kernel against separate stacks: ours, and twelve of the xlstm package."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from emotrace_models.fusion import GatedxLSTM, GatedxLSTMConfig
from emotrace_models.layers import GroupedXLSTM, XLSTMStack
from emotrace_models.types import Modality

BOTH = (Modality.ACOUSTIC, Modality.LEXICAL)
TOLERANCE = 1e-5
SHAPES = [
    pytest.param({"width": 64, "blocks": 2}, id="mlstm"),
    pytest.param({"width": 64, "blocks": 1, "heads": 2, "kernel": 2}, id="one-block"),
    pytest.param({"width": 64, "blocks": 3, "heads": 2, "slstm_at": (1,)}, id="slstm-inside"),
    pytest.param({"width": 32, "blocks": 2, "slstm_at": (1,), "kernel": 7}, id="slstm-last"),
    pytest.param({"width": 32, "blocks": 1, "slstm_at": (0,), "kernel": 1}, id="slstm-only"),
]


def stirred(shape: dict[str, Any], count: int, amount: float = 0.05) -> list[XLSTMStack]:
    """Stacks none of whose weights are at their initial zeros."""
    torch.manual_seed(5)
    stacks = [XLSTMStack(**shape) for _ in range(count)]
    with torch.no_grad():
        for stack in stacks:
            for parameter in stack.parameters():
                parameter.add_(amount * torch.randn_like(parameter))
    return stacks


def separately(stacks: Sequence[nn.Module], x: Tensor, last: Tensor) -> Tensor:
    """[group, item, width]: each stack by itself, and of its output the step that is asked for."""
    rows = [
        stack(steps)[torch.arange(len(steps)), place]
        for stack, steps, place in zip(stacks, x, last, strict=True)
    ]
    return torch.stack(rows)


def assert_equal_with_gradients(
    stacks: Sequence[nn.Module], grouped: GroupedXLSTM, x: Tensor, last: Tensor
) -> None:
    direction = torch.randn(*x.shape[:2], x.shape[-1], dtype=x.dtype)
    direction /= direction.numel() ** 0.5
    starts = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [separately(stacks, starts[0], last), grouped(starts[1], last)]
    for output in outputs:
        (output * direction).sum().backward()
    assert outputs[0].abs().max() > 1  # the comparison is about something
    assert (outputs[0] - outputs[1]).abs().max() <= TOLERANCE
    assert starts[0].grad is not None
    assert starts[1].grad is not None
    assert (starts[0].grad - starts[1].grad).abs().max() <= TOLERANCE
    single = [dict(stack.named_parameters()) for stack in stacks]
    names = 0
    for name, parameter in grouped.named_parameters():
        assert parameter.grad is not None, name
        for gradient, own in zip(parameter.grad, single, strict=True):
            expected = own[name].grad
            assert expected is not None
            assert (gradient - expected).abs().max() <= TOLERANCE, name
            assert expected.abs().max() > 0, name
        names += 1
    assert names == len(single[0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("items", [1, 3])
def test_equals_our_separate_stacks_forward_and_in_gradients(
    shape: dict[str, Any], items: int
) -> None:
    stacks = stirred(shape, 4)
    x = torch.randn(4, items, 6, shape["width"])
    last = torch.randint(2, 6, (4, items))
    assert_equal_with_gradients(stacks, GroupedXLSTM(stacks), x, last)


@pytest.mark.parametrize("slstm_at", [(), (1,)], ids=["mlstm", "with-slstm"])
def test_12_1_twelve_stacks_equal_twelve_of_the_xlstm_package(slstm_at: tuple[int, ...]) -> None:
    """Half the paper's width, two blocks deep; forward and gradients. The benchmark compares the
    outputs at full size."""
    xlstm = pytest.importorskip("xlstm", reason="the reference (make test installs it)")
    mlstm = xlstm.mLSTMBlockConfig(mlstm=xlstm.mLSTMLayerConfig())
    slstm = xlstm.sLSTMBlockConfig(
        slstm=xlstm.sLSTMLayerConfig(backend="vanilla", dtype="float32"),
        feedforward=xlstm.FeedForwardConfig(proj_factor=1.3, act_fn="gelu"),
    )
    config = xlstm.xLSTMBlockStackConfig(
        mlstm_block=mlstm,
        slstm_block=slstm if slstm_at else None,
        context_length=16,
        num_blocks=2,
        embedding_dim=256,
        slstm_at=list(slstm_at),
    )
    ours = stirred({"width": 256, "blocks": 2, "slstm_at": slstm_at}, 12, amount=0.03)
    theirs = [xlstm.xLSTMBlockStack(copy.deepcopy(config)) for _ in ours]
    for reference, stack in zip(theirs, ours, strict=True):
        reference.load_state_dict(stack.state_dict())
    x = torch.randn(12, 1, 16, 256)
    assert_equal_with_gradients(theirs, GroupedXLSTM(ours), x, torch.full((12, 1), 15))


@pytest.mark.parametrize(
    "groups", [slice(1, 4), slice(0, 5, 2), torch.tensor([0, 1, 4])], ids=["run", "every", "some"]
)
@pytest.mark.parametrize("shape", SHAPES[:3])
def test_some_stacks_are_as_in_all_of_them(shape: dict[str, Any], groups: slice | Tensor) -> None:
    grouped = GroupedXLSTM(stirred(shape, 5)).eval()
    x, last = torch.randn(5, 2, 6, shape["width"]), torch.full((5, 2), 5)
    with torch.inference_mode():
        expected = grouped(x, last)[groups]
        torch.testing.assert_close(grouped(x[groups], last[groups], groups), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_after_the_last_have_no_influence(shape: dict[str, Any]) -> None:
    grouped = GroupedXLSTM(stirred(shape, 2)).eval()
    x, last = torch.randn(2, 3, 6, shape["width"]), torch.tensor([[0, 3, 5], [5, 1, 2]])
    other = torch.where(torch.arange(6)[:, None] > last[..., None, None], torch.randn_like(x), x)
    with torch.inference_mode():
        torch.testing.assert_close(grouped(x, last), grouped(other, last), rtol=1e-6, atol=1e-6)


class Calls(TorchDispatchMode):
    """Counts the operations that torch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def calls(module: nn.Module, *inputs: Tensor) -> int:
    with torch.no_grad(), Calls() as seen:
        module(*inputs)
    return seen.count


def test_as_many_operations_for_twelve_stacks_as_for_two() -> None:
    """No loop runs over the stacks."""
    counts = []
    for stacks in (2, 12):
        grouped = GroupedXLSTM(stirred({"width": 32, "blocks": 2, "slstm_at": (1,)}, stacks))
        counts.append(calls(grouped, torch.randn(stacks, 1, 4, 32), torch.full((stacks, 1), 3)))
    assert counts[0] == counts[1]


def small(**settings: Any) -> GatedxLSTM:
    torch.manual_seed(1)
    size = {"embedding": 32, "steps": 4, "width": 32, "blocks": 2, "heads": 2}
    return GatedxLSTM(GatedxLSTMConfig(BOTH, 4, **{**size, **settings})).eval()


@pytest.mark.parametrize("read", [[0], [0, 1], [1, 3, 5, 7, 9, 11], [0, 1, 4, 5, 11]])
def test_encoders_of_empty_slots_cost_nothing(read: list[int]) -> None:
    model = small(share="none", missing="mask")
    x, last = torch.randn(12, 1, 4, 8), torch.full((12, 1), 3)
    some = torch.zeros(12, 1, dtype=torch.bool)
    some[read] = True
    work = []
    with torch.inference_mode():
        for mask in (some, torch.ones_like(some)):
            with FlopCounterMode(display=False) as counter:
                features = model.encoders(x, last, mask)
            work.append(counter.get_total_flops())
            assert ((features != 0).any(-1) == mask).all()
        expected = model.encoders(x, last, torch.ones_like(some))
        torch.testing.assert_close(model.encoders(x, last, some)[read], expected[read])
        assert not model.encoders(x, last, torch.zeros_like(some)).any()
    assert work[0] * 12 == work[1] * len(read)


@pytest.mark.parametrize("share", ["none", "role_modality", "modality"])
def test_state_dicts_name_each_encoder_as_separate_ones_would(share: str) -> None:
    """The names of a list of encoders, so that a bundle does not know how they are computed."""
    model = small(share=share, slstm_at=(1,))
    config = model.config
    separate = nn.ModuleList(
        nn.ModuleDict(
            {
                "input_proj": nn.Linear(8, 32),
                "xlstm": XLSTMStack(32, 2, 2, (1,)),
            }
        )
        for _ in range(config.encoders)
    )
    state = model.encoders.state_dict()
    expected = {name: tensor.shape for name, tensor in separate.state_dict().items()}
    assert {name: tensor.shape for name, tensor in state.items()} == expected
    assert next(iter(model.state_dict())) == "encoders.0.input_proj.weight"
    # A tensor of one encoder ends in that encoder.
    changed = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    changed["encoders.1.xlstm.blocks.0.xlstm.proj_up.weight"].zero_()
    model.load_state_dict(changed)
    weight = dict(model.encoders.named_parameters())["xlstm.blocks.0.xlstm.proj_up.weight"]
    assert [bool(one.any()) for one in weight] == [e != 1 for e in range(config.encoders)]


def test_a_state_dict_without_one_encoders_weight_is_refused() -> None:
    model = small()
    state = dict(model.state_dict())
    del state["encoders.7.input_proj.bias"]
    only = r'Missing key\(s\) in state_dict: "encoders\.7\.input_proj\.bias"\. *$'
    with pytest.raises(RuntimeError, match=only):
        model.load_state_dict(state)
    state = dict(small(width=64).state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict(state)


def test_a_copy_is_independent_and_keeps_its_names() -> None:
    model = small()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert list(twin.state_dict()) == list(model.state_dict())
    assert twin.state_dict()["encoders.3.xlstm.blocks.1.xlstm.proj_down.weight"].any()
