"""Telling weights from other weights."""

from __future__ import annotations

import hashlib
from typing import Any

from torch import nn


def weights_digest(module: nn.Module) -> str:
    """SHA-256 of names, shapes and values of the state dict."""
    digest = hashlib.sha256()
    add_weights(digest, module)
    return digest.hexdigest()


def add_weights(digest: Any, module: nn.Module) -> None:
    """Feed the state dict to a digest of hashlib."""
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().numpy().data)
