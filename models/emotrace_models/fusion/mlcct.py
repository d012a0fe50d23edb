"""MLCCT: multi-level circulant cross-modal Transformer (Gong et al., Computers, Materials &
Continua, 2023); models.md section 6. There is no public code.

Low level: a BiLSTM a modality and a circulant interaction. High level: cross-modal blocks, each
stream reading the other. Fusion: self-attention over the two, flattened into a linear layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotrace_models.fusion.base import FusionModel, FusionOutput, Inputs, StreamSpec
from emotrace_models.layers.circulant import Circulant, CirculantInteraction, Form
from emotrace_models.layers.cross_modal import CrossModalLayer, FeatureBlock, SelfBlock
from emotrace_models.layers.masking import masked_mean, real_steps
from emotrace_models.layers.packed_lstm import PackedLSTM
from emotrace_models.registry import register
from emotrace_models.types import Modality

Mode = Literal["vector", "sequence"]


@dataclass(frozen=True, slots=True)
class MLCCTConfig:
    """The defaults are the decisions of models.md (D23 to D25) on what the paper leaves open.
    Raises ValueError, which names the setting.

    acoustic, lexical: widths of the streams (TERA and RoBERTa-large).
    modalities: one alone has nothing to cross with and goes from its BiLSTM to self-attention.
    hidden: of each LSTM direction. width: of everything behind.
    circulant, form: see layers.circulant. mode: `vector`, the shapes of the paper, where features
        are tokens; `sequence`, ours, maps between audio steps and words.
    audio_pool: how many acoustic steps are averaged into one before the BiLSTM; 1 where the
        encoder pools. audio_steps: how many are read, before pooling.
    """

    classes: int
    acoustic: int = 768
    lexical: int = 1_024
    modalities: tuple[Modality, ...] = (Modality.ACOUSTIC, Modality.LEXICAL)
    hidden: int = 128
    width: int = 256
    circulant: Circulant = "corr_res"
    form: Form = "fft"
    mode: Mode = "vector"
    cross_blocks: int = 2
    cross_heads: int = 4
    self_blocks: int = 2
    self_heads: int = 4
    audio_pool: int = 4
    audio_steps: int = 1_500
    dropout: float = 0.1

    def __post_init__(self) -> None:
        # A bundle stores a config as JSON, which knows neither tuples nor enumerations.
        object.__setattr__(self, "modalities", tuple(Modality(m) for m in self.modalities))
        if set(self.modalities) - set(_READ) or len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"modalities must be acoustic, lexical or both: {self.modalities}")
        if not self.modalities:
            raise ValueError("modalities must be there")
        sizes = ("classes", "acoustic", "lexical", "hidden", "width", "audio_pool", "audio_steps")
        blocks = ("cross_blocks", "cross_heads", "self_blocks", "self_heads")
        for name in (*sizes, *blocks):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("cross_heads", "self_heads"):
            if self.width % getattr(self, name):
                raise ValueError(f"{name} {getattr(self, name)} does not divide width {self.width}")
        for name, choice in {"circulant": Circulant, "form": Form, "mode": Mode}.items():
            if getattr(self, name) not in get_args(choice):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choice))}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to under 1, not {self.dropout}")


_READ = (Modality.ACOUSTIC, Modality.LEXICAL)


class LowLevel(nn.Module):
    """One modality's BiLSTM and the map W without bias to the common width."""

    def __init__(self, inputs: int, config: MLCCTConfig) -> None:
        super().__init__()
        self.lstm = PackedLSTM(inputs, config.hidden)
        self.project = nn.Linear(self.lstm.width, config.width, bias=False)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x [batch, step, inputs] -> steps [batch, step, width], zero beyond `lengths`, and the
        utterance [batch, width], zero where it has no steps."""
        steps, final = self.lstm(x, lengths.clamp(min=1))
        real = real_steps(x.shape[1], lengths)
        present = (lengths > 0)[:, None]
        return self.project(steps * real[..., None]), self.project(final * present)


@register("fusion", "mlcct")
class MLCCT(FusionModel):
    """explain: cross_attn_a, cross_attn_s: what the acoustic stream reads of the lexical one and
    the reverse, [batch, block, head, query, key], features of a head in vector mode (hard to read),
    acoustic steps (pooled) and words in sequence mode; self_attn [batch, block, head, M, M], the
    share of each modality. An absent stream is read by nobody and its vector counts as zero.
    """

    config_type = MLCCTConfig

    def __init__(self, config: MLCCTConfig) -> None:
        super().__init__()
        self.config = config
        widths = {Modality.ACOUSTIC: config.acoustic, Modality.LEXICAL: config.lexical}
        self.streams = {m.value: StreamSpec(m, widths[m]) for m in _READ if m in config.modalities}
        d, count = config.width, len(self.streams)
        self.low = nn.ModuleDict(
            {name: LowLevel(spec.width, config) for name, spec in self.streams.items()}
        )
        if count == 2:
            self.interaction = CirculantInteraction(d, config.circulant, config.form)
            block = FeatureBlock if config.mode == "vector" else CrossModalLayer
            self.cross = nn.ModuleDict(
                {
                    name: nn.ModuleList(
                        block(d, config.cross_heads, config.dropout)
                        for _ in range(config.cross_blocks)
                    )
                    for name in self.streams
                }
            )
            if config.mode == "sequence":
                self.cross_norm = nn.ModuleDict({name: nn.LayerNorm(d) for name in self.streams})
        self.modality = nn.Parameter(0.02 * torch.randn(count, d))
        self.self_blocks = nn.ModuleList(
            SelfBlock(d, config.self_heads, config.dropout) for _ in range(config.self_blocks)
        )
        self.classifier = nn.Linear(count * d, config.classes)

    @classmethod
    def small_config(cls, classes: int) -> MLCCTConfig:
        return MLCCTConfig(
            classes, acoustic=16, lexical=12, hidden=4, width=8, cross_heads=2, self_heads=2,
            audio_pool=2,
        )  # fmt: skip

    def forward(self, inputs: Inputs) -> FusionOutput:
        low, present, masks = {}, [], {}
        for name in self.streams:
            values, lengths = inputs[name].current()
            if name == Modality.ACOUSTIC:
                values, lengths = self._bounded(values, lengths)
            low[name] = self.low[name](values, lengths)
            masks[name] = real_steps(values.shape[1], lengths)
            present.append(lengths > 0)
        there = torch.stack(present, dim=1)  # [batch, modality]
        explain: dict[str, Tensor] = {}
        if len(low) == 1:
            ((_, vector),) = low.values()
            vectors = [vector]
        elif self.config.mode == "vector":
            vectors = self._vectors(low, there, explain)
        else:
            vectors = self._sequences(low, masks, explain)
        x = (torch.stack(vectors, dim=1) + self.modality) * there[..., None]
        maps = []
        for block in self.self_blocks:
            x, weights = block(x, there)
            maps.append(weights)
        explain["self_attn"] = torch.stack(maps, dim=1)
        logits = self.classifier((x * there[..., None]).flatten(1))
        return FusionOutput(logits, explain)

    def _bounded(self, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The first `audio_steps`, each `audio_pool` of them averaged; the last group may be of
        fewer."""
        pool, most = self.config.audio_pool, self.config.audio_steps
        values, lengths = values[:, :most], lengths.clamp(max=most)
        real = real_steps(values.shape[1], lengths)
        values = F.pad(values * real[..., None], (0, 0, 0, -values.shape[1] % pool))
        groups = values.view(len(values), -1, pool, values.shape[2])
        first = torch.arange(groups.shape[1], device=values.device) * pool
        members = (lengths[:, None] - first).clamp(1, pool)  # [batch, group]
        return groups.sum(2) / members[..., None], -(-lengths // pool)

    def _vectors(
        self, low: dict[str, tuple[Tensor, Tensor]], there: Tensor, explain: dict[str, Tensor]
    ) -> list[Tensor]:
        """Circulant interaction and RCTB of the utterance vectors: [batch, width] a stream."""
        (_, p), (_, q) = low.values()
        a, s = self.interaction(p, q, p, q)
        maps_a, maps_s = [], []
        for block_a, block_s in zip(*self.cross.values(), strict=True):
            (a, map_a), (s, map_s) = block_a(a, s, there[:, 1]), block_s(s, a, there[:, 0])
            maps_a.append(map_a)
            maps_s.append(map_s)
        explain["cross_attn_a"] = torch.stack(maps_a, dim=1)
        explain["cross_attn_s"] = torch.stack(maps_s, dim=1)
        return [a, s]

    def _sequences(
        self,
        low: dict[str, tuple[Tensor, Tensor]],
        masks: dict[str, Tensor],
        explain: dict[str, Tensor],
    ) -> list[Tensor]:
        """Each step meets the other stream's mean; then MulT's layers and a mean over steps."""
        (p, _), (q, _) = low.values()
        mask_p, mask_q = masks.values()
        mean_p, mean_q = masked_mean(p, mask_p)[:, None], masked_mean(q, mask_q)[:, None]
        streams = self.interaction(p, q, mean_p, mean_q)
        low_a, low_s = (_placed(x) for x in streams)
        vectors = []
        turns = (("a", low_a, low_s, mask_p, mask_q), ("s", low_s, low_a, mask_q, mask_p))
        for name, (letter, x, source, own, other) in zip(self.streams, turns, strict=True):
            maps = []
            for layer in cast(nn.ModuleList, self.cross[name]):
                x, weights = layer(x, source, other)
                maps.append(weights * own[:, None, :, None])
            explain[f"cross_attn_{letter}"] = torch.stack(maps, dim=1)
            vectors.append(masked_mean(self.cross_norm[name](x), own))
        return vectors


def _placed(x: Tensor) -> Tensor:
    """Scaled by sqrt(width), with MulT's sinusoidal positions: sines in one half, cosines in the
    other."""
    steps, width = x.shape[1:]
    half = (width + 1) // 2
    rates = torch.exp(torch.arange(half, device=x.device) * (-math.log(10_000) / max(half - 1, 1)))
    angles = torch.arange(1, steps + 1, device=x.device)[:, None] * rates
    places = torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]
    return math.sqrt(width) * x + places
