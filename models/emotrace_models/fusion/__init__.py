"""Fusion models: context to logits and reasons, one file a model."""

from emotrace_models.fusion.base import (
    FusionModel,
    FusionOutput,
    Inputs,
    Known,
    Sequences,
    StreamSpec,
)
from emotrace_models.fusion.dual_stream import DualStream, DualStreamConfig
from emotrace_models.fusion.factorized_bilinear import FactorizedBilinear, FactorizedBilinearConfig
from emotrace_models.fusion.gated_xlstm import GatedxLSTM, GatedxLSTMConfig
from emotrace_models.fusion.gban import GBAN, GBANConfig
from emotrace_models.fusion.low_rank_fusion import LowRankFusion, LowRankFusionConfig
from emotrace_models.fusion.mlcct import MLCCT, MLCCTConfig
from emotrace_models.fusion.tensor_fusion import TensorFusion, TensorFusionConfig
from emotrace_models.fusion.tucker import TuckerFusion, TuckerFusionConfig

__all__ = [
    "GBAN",
    "MLCCT",
    "DualStream",
    "DualStreamConfig",
    "FactorizedBilinear",
    "FactorizedBilinearConfig",
    "FusionModel",
    "FusionOutput",
    "GBANConfig",
    "GatedxLSTM",
    "GatedxLSTMConfig",
    "Inputs",
    "Known",
    "LowRankFusion",
    "LowRankFusionConfig",
    "MLCCTConfig",
    "Sequences",
    "StreamSpec",
    "TensorFusion",
    "TensorFusionConfig",
    "TuckerFusion",
    "TuckerFusionConfig",
]
