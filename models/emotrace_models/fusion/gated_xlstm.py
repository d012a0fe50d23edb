"""GatedxLSTM: a gated sum over the utterances of a context, each read by an xLSTM stack.

Paper: GatedxLSTM with CLAP and the Dialogical Emotion Decoder, equations 2 to 5; models.md
section 2. The logits are a sum of one term a slot, so the model explains itself exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from emotrace_models.context import OFFSETS, ContextWindow
from emotrace_models.fusion.base import (
    FusionModel,
    FusionOutput,
    Inputs,
    StreamSpec,
    slots_of,
)
from emotrace_models.layers import XLSTMStack
from emotrace_models.registry import register
from emotrace_models.types import Modality

ROLES = 2  # the speaker of that utterance, and whom they answered

Share = Literal["none", "role_modality", "modality"]
GateReduce = Literal["none", "batch"]
Missing = Literal["zeros", "mask"]


@dataclass(frozen=True, slots=True)
class GatedxLSTMConfig:
    """The defaults are the paper's model. Raises ValueError, which names the setting.

    embedding: width of the vectors that come in, cut into `steps` equal pieces.
    width, blocks, heads, slstm_at, kernel: of each xLSTM stack.
    share: `none`, a stack a slot (paper); `role_modality`, one for self and one for interlocutor,
        a modality; `modality`, one a modality.
    gate_reduce: `none`, a gate a sample; `batch`, the batch's mean (the released code; a result
        then depends on its batch, so this is for parity runs only).
    missing: `zeros`, an empty slot is a zero vector that goes through its stack (paper); `mask`,
        an empty slot contributes exactly nothing (docs/decisions/0003).
    """

    modalities: tuple[Modality, ...]
    classes: int
    embedding: int = 512
    steps: int = 16
    width: int = 512
    blocks: int = 8
    heads: int = 4
    slstm_at: tuple[int, ...] = ()
    kernel: int = 4
    share: Share = "none"
    gate_reduce: GateReduce = "none"
    missing: Missing = "zeros"
    dropout: float = 0.3

    def __post_init__(self) -> None:
        # A bundle stores a config as JSON, which knows neither tuples nor enumerations.
        object.__setattr__(self, "modalities", tuple(Modality(m) for m in self.modalities))
        object.__setattr__(self, "slstm_at", tuple(self.slstm_at))
        if not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise ValueError(f"modalities must be there, each once: {list(self.modalities)}")
        for name in ("classes", "embedding", "steps", "width", "blocks", "heads", "kernel"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.embedding % self.steps:
            raise ValueError(f"steps {self.steps} does not divide embedding {self.embedding}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to under 1, not {self.dropout}")
        choices = {"share": Share, "gate_reduce": GateReduce, "missing": Missing}
        for name, choice in choices.items():
            if getattr(self, name) not in get_args(choice):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choice))}")

    @property
    def slots(self) -> int:
        return OFFSETS * ROLES * len(self.modalities)

    @property
    def encoders(self) -> int:
        """How many encoders there are, by `share`."""
        modalities = len(self.modalities)
        return {
            "none": self.slots,
            "role_modality": ROLES * modalities,
            "modality": modalities,
        }[self.share]


class SlotEncoder(nn.Module):
    """One vector to one feature (equation 2): steps -> input_proj -> xLSTM -> the last step."""

    def __init__(self, config: GatedxLSTMConfig) -> None:
        super().__init__()
        self.steps = config.steps
        self.input_proj = nn.Linear(config.embedding // config.steps, config.width)
        self.xlstm = XLSTMStack(
            config.width, config.blocks, config.heads, config.slstm_at, config.kernel
        )

    def forward(self, vectors: Tensor) -> Tensor:
        """[item, embedding] -> [item, width]."""
        x = vectors.reshape(vectors.shape[0], self.steps, -1)
        h: Tensor = self.xlstm(self.input_proj(x))
        return h[:, -1]


@register("fusion", "gated_xlstm")
class GatedxLSTM(FusionModel):
    """Slots s = (2 offset + role) M + modality; slot 0 is the current utterance's first modality.

    explain: gates [batch, slot] (the first is 1, equation 4; an empty slot's is 0 where `missing`
    is `mask`), contributions [batch, slot, class], bias [class] (contributions and bias sum to the
    logits), slot_valid [batch, slot].
    """

    config_type = GatedxLSTMConfig
    additive = True

    def __init__(self, config: GatedxLSTMConfig) -> None:
        super().__init__()
        self.config = config
        self.streams = {
            modality.value: StreamSpec(modality, config.embedding, steps=1)
            for modality in config.modalities
        }
        # Encoder e reads the slots s with s mod encoders = e: see the order of the slots above.
        self.encoders = nn.ModuleList(SlotEncoder(config) for _ in range(config.encoders))
        self.gate = nn.Linear(config.embedding, config.slots - 1)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.slots * config.width, config.classes)

    @classmethod
    def small_config(cls, classes: int) -> GatedxLSTMConfig:
        return GatedxLSTMConfig(
            (Modality.ACOUSTIC, Modality.LEXICAL),
            classes,
            embedding=32,
            steps=4,
            width=16,
            blocks=1,
            heads=2,
            share="modality",
        )

    @classmethod
    def start_window(cls) -> ContextWindow:
        return ContextWindow.empty()

    def forward(self, inputs: Inputs) -> FusionOutput:
        sequences, lengths = slots_of({name: inputs[name] for name in self.streams})
        vectors, valid = sequences[:, :, 0], lengths > 0  # [batch, slot, embedding], [batch, slot]
        gates = self._gates(vectors[:, 0], valid)  # [batch, slot]
        features = self.dropout(self._encode(vectors, valid))  # [batch, slot, width]
        gated = features * gates.unsqueeze(-1)
        # Equation 5, a slot at a time: its columns of the classifier times its gated feature.
        columns = self.classifier.weight.view(self.config.classes, *gated.shape[1:])
        contributions = torch.einsum("bsw,csw->bsc", gated, columns)
        bias = self.classifier.bias
        return FusionOutput(
            logits=contributions.sum(1) + bias,
            explain={
                "gates": gates,
                "contributions": contributions,
                "bias": bias,
                "slot_valid": valid,
            },
        )

    def _gates(self, current: Tensor, valid: Tensor) -> Tensor:
        """Equation 4, from the raw vector of slot 0, which is itself never gated."""
        weights = self.gate(current).sigmoid()
        if self.config.gate_reduce == "batch":
            weights = weights.mean(0, keepdim=True).expand_as(weights)
        gates = torch.cat([torch.ones_like(weights[:, :1]), weights], dim=1)
        return gates * valid if self.config.missing == "mask" else gates

    def _encode(self, vectors: Tensor, valid: Tensor) -> Tensor:
        """[batch, slot, embedding] -> [batch, slot, width]; one encoder's slots form one batch.

        With `mask` an empty slot's feature is zero and costs nothing.
        """
        width, count = self.config.width, self.config.encoders
        features = vectors.new_zeros(*vectors.shape[:2], width)
        read = valid if self.config.missing == "mask" else torch.ones_like(valid)
        for first, encoder in enumerate(self.encoders):
            own = read[:, first::count]
            if own.any():
                features[:, first::count][own] = encoder(vectors[:, first::count][own])
        return features
