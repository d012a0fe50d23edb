"""TFN: the outer product of all streams, each with a one (Zadeh et al., EMNLP 2017).

models.md section 8. The ones keep each stream on its own, and each pair, among the products.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from emotrace_models.fusion.vectors import VectorFusion, VectorFusionConfig
from emotrace_models.registry import register


@dataclass(frozen=True, slots=True)
class TensorFusionConfig(VectorFusionConfig):
    """See VectorFusionConfig. The head reads the product of all (width + 1)."""


@register("fusion", "tfn")
class TensorFusion(VectorFusion):
    """[h_1; 1] x [h_2; 1] (x [h_3; 1]), flattened."""

    config_type: ClassVar[type[TensorFusionConfig]] = TensorFusionConfig

    def __init__(self, config: TensorFusionConfig) -> None:
        super().__init__(config, prod(width + 1 for width in config.widths.values()))
        self.config = config

    @classmethod
    def small_config(cls, classes: int) -> TensorFusionConfig:
        return TensorFusionConfig(classes, {"acoustic": 6, "lexical": 5}, width=8, hidden=16)

    def fuse(self, vectors: list[Tensor]) -> Tensor:
        return outer_product([F.pad(vector, (0, 1), value=1.0) for vector in vectors])


def outer_product(vectors: list[Tensor]) -> Tensor:
    """Each [batch, width] -> [batch, product of widths]; the last stream's index runs fastest."""
    result = torch.ones_like(vectors[0][:, :1])
    for vector in vectors:
        result = (result[:, :, None] * vector[:, None, :]).flatten(1)
    return result
