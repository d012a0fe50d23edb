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
from torch.overrides import TorchFunctionMode

from emotrace_models.safetensors_header import TensorSpec

# Steps of building: the models that there are take up to 30 a tensor.
STEPS = 20_000
STEPS_A_TENSOR = 100


class BlueprintMismatch(ValueError):
    """The config describes other tensors than there are; the message names the first."""


class _Counted(TorchFunctionMode):
    """Counts calls of torch. Raises BlueprintMismatch past `most`: of a million layers, say."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._left = most

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self._left -= 1
        if self._left < 0:
            raise BlueprintMismatch("far more layers are described than there are tensors")
        return function(*args, **(kwargs or {}))


def check_described(
    build: Callable[[], Mapping[str, nn.Module]], held: Mapping[str, TensorSpec]
) -> None:
    """Raises BlueprintMismatch unless `held` are just the tensors of the modules of `build`.

    build: gives the modules by the prefix of their tensors' names, and is called once.
    """
    with torch.device("meta"), _Counted(STEPS + STEPS_A_TENSOR * len(held)):
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
