"""Fusion models: context to logits and reasons, one file a model.

Named here is that of the default bundle. The others are found by the registry, which imports them
when they are asked for (docs/decisions/0009).
"""

from emotrace_models.fusion.base import (
    FusionModel,
    FusionOutput,
    Inputs,
    Known,
    Sequences,
    StreamSpec,
)
from emotrace_models.fusion.gated_xlstm import GatedxLSTM, GatedxLSTMConfig

__all__ = [
    "FusionModel",
    "FusionOutput",
    "GatedxLSTM",
    "GatedxLSTMConfig",
    "Inputs",
    "Known",
    "Sequences",
    "StreamSpec",
]
