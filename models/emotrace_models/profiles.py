"""Numerics by profile: a bundle `exact`, as it was trained, or `fast`, with less precision.

What `fast` changes (docs/decisions/0016): text towers run as 8-bit graphs in onnxruntime, other
networks in bfloat16 where that is quicker. A part for which this processor has no units stays in
float32. `describe` says what each part of a bundle computes in, and a bundle's drift report
(drift.py) what that did to its estimates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Literal

import torch

from emotrace_models.bundle import Bundle, BundleError
from emotrace_models.encoders import Encoder
from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.types import frozen_mapping

Profile = Literal["exact", "fast"]

# What torch.cpu.get_capabilities calls the units, of x86 and of ARM. Without the int8 ones,
# onnxruntime's sums of 8-bit products overflow on x86.
BF16_UNITS = ("avx512_bf16", "amx_bf16", "bf16")
INT8_UNITS = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "i8mm", "dot")


class FastUnavailable(BundleError):
    """A bundle that has no fast form; the message says how to make one."""


def profiled(bundle: Bundle, profile: Profile) -> Bundle:
    """The bundle in a profile. Raises FastUnavailable."""
    return bundle if profile == "exact" else fast(bundle)


def fast(bundle: Bundle) -> Bundle:
    """The same bundle with quicker parts, for inference alone; `bundle` itself does not change.

    Raises FastUnavailable where a text tower has no graph, or one of other weights.
    """
    names = {graph_name(encoder) for encoder in bundle.encoders}
    return replace(
        bundle,
        encoders=tuple(_quicker(bundle, encoder) for encoder in bundle.encoders),
        fusion=bundle.fusion.in_bf16() if has_bf16() else bundle.fusion,
        # Hundreds of megabytes that onnxruntime has now read.
        assets={name: data for name, data in bundle.assets.items() if name not in names},
    )


def describe(bundle: Bundle) -> Mapping[str, str]:
    """What each stream's encoder and the fusion model compute in: `fp32`, `bf16`, `int8 ...`."""
    parts = {encoder.stream: encoder.numerics for encoder in bundle.encoders}
    return frozen_mapping({**parts, "fusion": bundle.fusion.numerics})


def graph_name(encoder: Encoder) -> str:
    """The file of the bundle that holds an encoder's graph."""
    return f"{encoder.stream}.int8.onnx"


def graphed(bundle: Bundle) -> tuple[NetworkEncoder, ...]:
    """The encoders that `fast` runs as graphs."""
    return tuple(e for e in bundle.encoders if isinstance(e, NetworkEncoder) and e.graphed)


@cache
def has_bf16() -> bool:
    """Whether this processor multiplies in bfloat16; torch does it on any, slower than float32."""
    return _has(BF16_UNITS)


@cache
def has_int8() -> bool:
    """Whether this processor sums 8-bit products in 32 bits."""
    return _has(INT8_UNITS)


def _has(units: tuple[str, ...]) -> bool:
    found = torch.cpu.get_capabilities()
    return any(found.get(unit, False) for unit in units)


def _quicker(bundle: Bundle, encoder: Encoder) -> Encoder:
    if not (isinstance(encoder, NetworkEncoder) and encoder.graphed):
        return encoder.in_bf16() if has_bf16() else encoder
    name = graph_name(encoder)
    if name not in bundle.assets:
        raise FastUnavailable(
            f"the bundle {bundle.name!r} has no {name}, which its profile `fast` needs; make it "
            "with `emotrace-train fast FOLDER`, or use the profile `exact`"
        )
    if not has_int8():
        return encoder
    # onnxruntime is loaded where it is used.
    from emotrace_models.encoders.onnx_text import GraphMismatch, OnnxText

    try:
        return OnnxText(encoder, bundle.assets[name]).eval()
    except GraphMismatch as error:
        raise FastUnavailable(
            f"{name} of the bundle {bundle.name!r}: {error}; make it again with "
            "`emotrace-train fast FOLDER`"
        ) from error
