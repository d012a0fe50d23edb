"""Maps of several xLSTM stacks at once: those of `projections` and `norms`, with a group axis.

Parameters lie one stack after the other, [group, ...], under the names that they have in one stack;
every map is one batched product. Features come before rows, [group, feature, row]: with the few
rows of one utterance, `weight @ x` is a third faster on a CPU than `x @ weight.T`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from emotrace_models.layers.norms import EPSILON
from emotrace_models.layers.projections import CausalConvolution

Groups = slice | Tensor | None  # which stacks a call uses, None for all

DENSE = 8  # small diagonal blocks are put together up to this size


def stacked(tensors: Iterable[Tensor]) -> nn.Parameter:
    """One parameter [group, ...] of the same parameter in every stack."""
    return nn.Parameter(torch.stack([tensor.detach() for tensor in tensors]))


def of(parameter: Tensor, groups: Groups) -> Tensor:
    """The parameter of these stacks."""
    return parameter if groups is None else parameter[groups]


class Stacked(nn.Module):
    """Weight, and bias where there is one, of the same layer in every stack."""

    bias: nn.Parameter | None

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.weight = stacked(cast(Tensor, layer.weight) for layer in layers)
        biases = [cast("Tensor | None", getattr(layer, "bias", None)) for layer in layers]
        present = [bias for bias in biases if bias is not None]
        self.register_parameter("bias", stacked(present) if present else None)


def product(weight: Tensor, x: Tensor) -> Tensor:
    """weight [group, output, input] times x [group, input, row], which keeps its precision."""
    if weight.dtype != x.dtype:
        return torch.bmm(weight, x.to(weight.dtype)).to(x.dtype)
    if x.shape[-1] > 1:
        return torch.bmm(weight, x)
    # A single row is twice as fast from the left.
    return torch.bmm(x.transpose(1, 2), weight.transpose(1, 2)).transpose(1, 2)


class GroupedLinear(Stacked):
    def forward(self, x: Tensor, groups: Groups) -> Tensor:
        """[group, feature, row] -> [group, output feature, row]."""
        y = product(of(self.weight, groups), x)
        return y if self.bias is None else y + of(self.bias, groups).unsqueeze(-1)


class GroupedNorm(Stacked):
    def forward(self, x: Tensor, groups: Groups) -> Tensor:
        """[group, item, step, width]: layer normalisation, scale 1 + weight."""
        y = functional.layer_norm(x, x.shape[-1:], eps=EPSILON)
        return torch.addcmul(y, y, of(self.weight, groups)[:, None, None])


class GroupedHeadNorm(Stacked):
    def forward(self, h: Tensor, groups: Groups, onto: Tensor | None = None) -> Tensor:
        """onto + norm(h), each head by itself: h [group, item, head, step, size]; onto and the
        result [group, feature, item, step]."""
        y = functional.layer_norm(h, h.shape[-1:], eps=EPSILON).permute(0, 2, 4, 1, 3)
        scale = 1.0 + of(self.weight, groups).view(*y.shape[:3], 1, 1)
        y = y * scale if onto is None else torch.addcmul(onto.view(y.shape), y, scale)
        return y.flatten(1, 2)


class GroupedBlockDiagonal(Stacked):
    """Independent small maps side by side; several of them make one denser, quicker product."""

    def forward(self, x: Tensor, groups: Groups) -> Tensor:
        """[group, feature, item, step] -> the same shape."""
        weight = of(self.weight, groups)  # [group, block, output, input]
        count, blocks, size, _ = weight.shape
        merge = math.gcd(blocks, max(1, DENSE // size))
        if merge > 1:
            weight = weight.view(count, blocks // merge, merge, size, size).movedim(2, -1)
            weight = torch.diag_embed(weight, dim1=2, dim2=4)  # [.., merge, size, merge, size]
        weight = weight.reshape(-1, merge * size, merge * size)
        return torch.bmm(weight, x.reshape(len(weight), merge * size, -1)).view(x.shape)


class GroupedConvolution(nn.Module):
    """Depthwise and causal, as a sum of shifted products (see CausalConvolution)."""

    def __init__(self, layers: Sequence[CausalConvolution]) -> None:
        super().__init__()
        self.conv = Stacked([layer.conv for layer in layers])

    def forward(self, x: Tensor, groups: Groups) -> Tensor:
        """[group, feature, item, step] -> the same shape; before the first step lie zeros."""
        taps = of(self.conv.weight, groups).squeeze(2)[..., None, None, :].unbind(-1)
        bias = of(cast(Tensor, self.conv.bias), groups)[..., None, None]
        y = x * taps[-1]  # the last tap sees the step itself
        for back, tap in enumerate(reversed(taps[:-1]), start=1):
            y[..., back:].addcmul_(x[..., :-back], tap)
        return y.add_(bias)


def name_by_stack(module: nn.Module) -> None:
    """Let the state dict of `module`, all of whose parameters are [group, ...], hold each stack
    under its own name, `<group>.<parameter>`, as a list of separate stacks would."""
    module.register_state_dict_post_hook(_split)  # type: ignore[no-untyped-call]
    module.register_load_state_dict_pre_hook(_join)  # type: ignore[no-untyped-call]


def _split(module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    tensors = {name: state.pop(prefix + name) for name, _ in module.named_parameters()}
    for group in range(len(next(iter(tensors.values())))):
        for name, tensor in tensors.items():
            state[f"{prefix}{group}.{name}"] = tensor[group]


def _join(
    module: nn.Module,
    state: dict[str, Any],
    prefix: str,
    _metadata: Any,
    _strict: bool,
    missing: list[str],
    *_: Any,
) -> None:
    for name, parameter in module.named_parameters():
        keys = [f"{prefix}{group}.{name}" for group in range(len(parameter))]
        missing.extend(key for key in keys if key not in state)
        own = parameter.detach().unbind()
        rows = [state.pop(key, one) for key, one in zip(keys, own, strict=True)]
        state[prefix + name] = torch.stack(rows)
