"""The LSTM of the GatedxLSTM paper's Table I, with and without context (models.md section 2.9)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from emotrace_models.fusion.sliced import SlicedConfig, SlicedModel
from emotrace_models.registry import register
from emotrace_models.types import Modality


@dataclass(frozen=True, slots=True)
class DialogueLSTMConfig(SlicedConfig):
    """layers: LSTMs, one over the other. See SlicedConfig."""

    layers: int = 2

    def __post_init__(self) -> None:
        SlicedConfig.__post_init__(self)
        if self.layers < 1:
            raise ValueError(f"layers must be at least 1, not {self.layers}")


@register("fusion", "lstm")
class DialogueLSTM(SlicedModel):
    """LSTM, its last step, dropout, linear."""

    config_type = DialogueLSTMConfig

    def __init__(self, config: DialogueLSTMConfig) -> None:
        super().__init__(config)
        self.config = config
        self.lstm = nn.LSTM(config.step_width, config.width, config.layers, batch_first=True)

    @classmethod
    def small_config(cls, classes: int) -> DialogueLSTMConfig:
        modalities = (Modality.ACOUSTIC, Modality.LEXICAL)
        return DialogueLSTMConfig(modalities, classes, embedding=32, steps=4, width=16)

    def read(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.lstm(x)[0]
        return outputs[:, -1]
