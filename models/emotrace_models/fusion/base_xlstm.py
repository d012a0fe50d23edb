"""One xLSTM over all slots at once, the row "base xLSTM" of the GatedxLSTM paper's Table V, and
without context those of its Table I (models.md section 2.9)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from emotrace_models.fusion.sliced import SlicedConfig, SlicedModel
from emotrace_models.layers import XLSTMStack
from emotrace_models.registry import register
from emotrace_models.types import Modality


@dataclass(frozen=True, slots=True)
class BasexLSTMConfig(SlicedConfig):
    """blocks, heads, slstm_at, kernel: of the xLSTM stack. See SlicedConfig."""

    blocks: int = 8
    heads: int = 4
    slstm_at: tuple[int, ...] = ()
    kernel: int = 4

    def __post_init__(self) -> None:
        SlicedConfig.__post_init__(self)
        object.__setattr__(self, "slstm_at", tuple(self.slstm_at))
        for name in ("blocks", "heads", "kernel"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


@register("fusion", "base_xlstm")
class BasexLSTM(SlicedModel):
    """input_proj, xLSTM, its last step, dropout, linear."""

    config_type = BasexLSTMConfig

    def __init__(self, config: BasexLSTMConfig) -> None:
        super().__init__(config)
        self.config = config
        self.input_proj = nn.Linear(config.step_width, config.width)
        self.xlstm = XLSTMStack(
            config.width, config.blocks, config.heads, config.slstm_at, config.kernel
        )

    @classmethod
    def small_config(cls, classes: int) -> BasexLSTMConfig:
        modalities = (Modality.ACOUSTIC, Modality.LEXICAL)
        return BasexLSTMConfig(
            modalities, classes, embedding=32, steps=4, width=16, blocks=1, heads=2
        )

    def read(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.xlstm(self.input_proj(x))
        return outputs[:, -1]
