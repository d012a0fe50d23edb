"""MFB: multimodal factorised bilinear pooling (Yu et al., ICCV 2017; models.md section 8).

The FBP of the Tucker model (section 7.6) for vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from emotrace_models.fusion.vectors import VectorFusion, VectorFusionConfig
from emotrace_models.layers.tucker import pooled_unit
from emotrace_models.registry import register


@dataclass(frozen=True, slots=True)
class FactorizedBilinearConfig(VectorFusionConfig):
    """See VectorFusionConfig. outputs: width m of the fused vector. factors: F, summed for each.
    pool_dropout: on the products, before they are summed."""

    outputs: int = 64
    factors: int = 5
    pool_dropout: float = 0.1

    def __post_init__(self) -> None:
        VectorFusionConfig.__post_init__(self)
        for name in ("outputs", "factors"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.pool_dropout < 1:
            raise ValueError(f"pool_dropout must be from 0 to under 1, not {self.pool_dropout}")


@register("fusion", "mfb")
class FactorizedBilinear(VectorFusion):
    """z_o = sum_f prod_m (U_m h_m + b_m)[o, f]; signed root; unit length.

    A stream that is absent leaves its bias, so that the others still speak.
    """

    config_type: ClassVar[type[FactorizedBilinearConfig]] = FactorizedBilinearConfig

    def __init__(self, config: FactorizedBilinearConfig) -> None:
        super().__init__(config, config.outputs)
        self.config = config
        columns = config.outputs * config.factors
        self.projections = nn.ModuleDict(
            {name: nn.Linear(width, columns) for name, width in config.widths.items()}
        )
        self.pool_dropout = nn.Dropout(config.pool_dropout)

    @classmethod
    def small_config(cls, classes: int) -> FactorizedBilinearConfig:
        streams = {"acoustic": 6, "lexical": 5}
        return FactorizedBilinearConfig(classes, streams, width=8, hidden=16, outputs=6, factors=2)

    def fuse(self, vectors: list[Tensor]) -> Tensor:
        columns = [
            project(vector)
            for project, vector in zip(self.projections.values(), vectors, strict=True)
        ]
        products = self.pool_dropout(torch.stack(columns).prod(0))
        return pooled_unit(products.unflatten(1, (self.config.outputs, self.config.factors)).sum(2))
