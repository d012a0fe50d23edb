"""Modules in less precision than they were trained in."""

from __future__ import annotations

import copy
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

M = TypeVar("M", bound=nn.Module)


def weights_numerics(module: nn.Module) -> str:
    """`bf16` where any weight is in it, else `fp32`."""
    low = any(parameter.dtype == torch.bfloat16 for parameter in module.parameters())
    return "bf16" if low else "fp32"


def copied(module: M) -> M:
    """The same with weights of its own; attributes that are no modules or tensors are shared."""
    own = copy.copy(module)
    # copy.copy shares these dictionaries, so that a change to one would be one to both.
    for name in ("_modules", "_parameters", "_buffers"):
        own.__dict__[name] = copy.deepcopy(module.__dict__[name])
    return own


def entering(x: Tensor, network: nn.Module) -> Tensor:
    """x in the precision of the network's weights."""
    return x.to(next(network.parameters()).dtype)


def joined(conv: nn.Module, norm: nn.Module) -> nn.Conv2d:
    """The one convolution in bfloat16 that does what `conv` and then `norm` do in evaluation.

    They are joined before they are rounded; weights lie as convolutions on a CPU read them.
    """
    evaluated = cast(nn.Conv2d, conv.eval()), cast(nn.BatchNorm2d, norm.eval())
    both = fuse_conv_bn_eval(*evaluated)
    both.weight.data = both.weight.data.contiguous(memory_format=torch.channels_last)
    result: nn.Conv2d = both.to(torch.bfloat16)
    return result
