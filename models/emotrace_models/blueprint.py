"""The tensors that a bundle's config describes, found out without memory for them.

The models are built on torch's `meta` device, where a tensor has a shape and no values. What the
config describes can then be compared with what the weights' file holds before either is used, and
a config that asks for a petabyte costs nothing but an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

from emotrace_models.safetensors_header import TensorSpec

# Calls that make a tensor. The models that there are take little more than one for each of theirs.
MAKERS = {
    torch.arange,
    torch.empty,
    torch.full,
    torch.ones,
    torch.rand,
    torch.randn,
    torch.tensor,
    torch.zeros,
}
# What only fills a tensor is left out, and stacks are made here: on the meta device torch would
# load its compiler for either, which takes 70 MB.
FILLERS = {torch.Tensor.normal_, torch.Tensor.uniform_}
SPARE_CALLS = 1_000
CALLS_A_TENSOR = 4


class BlueprintMismatch(ValueError):
    """The config describes other tensors than there are; the message names the first."""


class _Counted(TorchFunctionMode):
    """Counts the calls that make tensors, and raises BlueprintMismatch past `most` of them: of a
    million layers, say. Other calls pass, since some restore what had been changed on the way out,
    but for those that only give values, which a tensor here has not.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._left = most

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function in FILLERS or getattr(function, "__module__", "") == init.__name__:
            return (*args, *(kwargs or {}).values())[0]
        if function is torch.stack and len(args) == 1 and not kwargs:
            first, *others = args[0]
            return torch.empty((1 + len(others), *first.shape), dtype=first.dtype)
        if function is torch.linspace and len(args) == 3 and not kwargs:
            return torch.empty(args[2])
        self._left -= function in MAKERS
        if self._left < 0 and function in MAKERS:
            raise BlueprintMismatch("far more layers are described than there are tensors")
        return function(*args, **(kwargs or {}))


def check_described(
    build: Callable[[], Mapping[str, nn.Module]], held: Mapping[str, TensorSpec]
) -> None:
    """Raises BlueprintMismatch unless `held` are just the tensors of the modules of `build`.

    build: gives the modules by the prefix of their tensors' names, and is called once.
    """
    with torch.device("meta"), _Counted(SPARE_CALLS + CALLS_A_TENSOR * len(held)):
        described = {
            prefix + name: TensorSpec(tensor.dtype, tuple(tensor.shape))
            for prefix, module in build().items()
            for name, tensor in module.state_dict().items()
        }
    for name in sorted(described.keys() | held.keys()):
        if name not in held:
            raise BlueprintMismatch(f"{name} is missing")
        if name not in described:
            raise BlueprintMismatch(f"{name} belongs to no model")
        if held[name] != described[name]:
            raise BlueprintMismatch(
                f"{name} is {_told(held[name])}, and {_told(described[name])} is described"
            )


def _told(spec: TensorSpec) -> str:
    return f"{str(spec.dtype).removeprefix('torch.')} {list(spec.shape)}"
