"""The files of a bundle, each read once, and its tensors, checked before any of them is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from emotrace_models.blueprint import BlueprintMismatch, check_described
from emotrace_models.bundle_config import (
    AGAIN,
    CONFIG,
    REPORT,
    SEAL,
    WEIGHTS,
    BundleConfig,
    BundleCorrupted,
    BundleMissing,
)
from emotrace_models.safetensors_header import HeaderInvalid, read_header
from emotrace_models.sealed_files import FileAbsent, FileRefused, read_sealed, strangers

MOST_TEXT_BYTES = 1 << 20


def read_files(folder: Path, config: BundleConfig) -> dict[str, bytes]:
    """What the config lists, by name, if it is just what lies there and no bit differs.

    Raises BundleMissing, BundleCorrupted.
    """
    try:
        if others := strangers(folder, {CONFIG, SEAL, REPORT, *config.files}):
            raise BundleCorrupted(
                f"{folder / others[0]} is no file of the bundle; take it away, or {AGAIN}"
            )
        return {
            name: read_sealed(folder, name, entry.size, entry.sha256)
            for name, entry in config.files.items()
        }
    except FileAbsent as error:
        raise BundleMissing(f"{error}; {AGAIN}") from error
    except FileRefused as error:
        raise BundleCorrupted(f"{error}; {AGAIN}") from error


def text_of(folder: Path, files: Mapping[str, bytes], name: str) -> str:
    """One of the files as text. Raises BundleCorrupted."""
    try:
        if len(files[name]) > MOST_TEXT_BYTES:
            raise ValueError(f"it has {len(files[name])} bytes; at most {MOST_TEXT_BYTES} are read")
        return files[name].decode()
    except ValueError as error:
        raise BundleCorrupted(f"{folder / name} is no text: {error}; {AGAIN}") from error


def read_tensors(
    folder: Path, weights: bytes, build: Callable[[], Mapping[str, nn.Module]]
) -> dict[str, Tensor]:
    """The tensors of the file WEIGHTS by name, if they are just those of the modules that `build`
    makes (blueprint.py) and each value is a number. Raises BundleCorrupted."""
    file = folder / WEIGHTS
    try:
        check_described(build, read_header(weights))
        tensors: dict[str, Tensor] = load_tensors(weights)
    except (HeaderInvalid, SafetensorError) as error:
        raise BundleCorrupted(f"{file} is not a safetensors file: {error}; {AGAIN}") from error
    except BlueprintMismatch as error:
        raise BundleCorrupted(f"{file} does not fit {CONFIG}: {error}; {AGAIN}") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise BundleCorrupted(f"{file}: {name} holds NaN or infinity; {AGAIN}")
        if tensor.dtype == torch.bool and (tensor.view(torch.uint8) > 1).any():
            raise BundleCorrupted(f"{file}: {name} holds what is neither true nor false; {AGAIN}")
    return tensors
