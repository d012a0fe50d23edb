"""Fusion models: context to logits and reasons, one file a model."""

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
