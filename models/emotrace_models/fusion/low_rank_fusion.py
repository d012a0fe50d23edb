"""LMF: a linear map of TFN's tensor whose weight has rank r, without ever building the tensor.

Liu et al., ACL 2018; models.md section 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotrace_models.fusion.vectors import VectorFusion, VectorFusionConfig
from emotrace_models.registry import register


@dataclass(frozen=True, slots=True)
class LowRankFusionConfig(VectorFusionConfig):
    """See VectorFusionConfig. rank: of the weight. outputs: width of the fused vector."""

    rank: int = 4
    outputs: int = 64

    def __post_init__(self) -> None:
        VectorFusionConfig.__post_init__(self)
        for name in ("rank", "outputs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


@register("fusion", "lmf")
class LowRankFusion(VectorFusion):
    """z = sum_r w_r prod_m ([1; h_m] W_m^(r)) + b.

    factors: by stream, [rank, 1 + width, output]; weights w [rank]; bias b [output].
    """

    config_type: ClassVar[type[LowRankFusionConfig]] = LowRankFusionConfig

    def __init__(self, config: LowRankFusionConfig) -> None:
        super().__init__(config, config.outputs)
        self.config = config
        self.factors = nn.ParameterDict(
            {
                name: nn.Parameter(torch.empty(config.rank, 1 + width, config.outputs))
                for name, width in config.widths.items()
            }
        )
        self.weights = nn.Parameter(torch.empty(1, config.rank))
        self.bias = nn.Parameter(torch.zeros(config.outputs))
        for factor in self.factors.values():
            for one in factor:
                nn.init.xavier_normal_(one)
        nn.init.xavier_normal_(self.weights)

    @classmethod
    def small_config(cls, classes: int) -> LowRankFusionConfig:
        streams = {"acoustic": 6, "lexical": 5}
        return LowRankFusionConfig(classes, streams, width=8, hidden=16, rank=2, outputs=6)

    def fuse(self, vectors: list[Tensor]) -> Tensor:
        product = torch.ones_like(self.bias)
        for name, vector in zip(self.streams, vectors, strict=True):  # the dict sorts its names
            one = F.pad(vector, (1, 0), value=1.0)
            product = product * torch.einsum("bi,rio->bro", one, self.factors[name])
        return torch.einsum("r,bro->bo", self.weights[0], product) + self.bias
