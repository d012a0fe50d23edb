"""Dual stream: a log-mel image and self-supervised frames of the same speech, fused late.

Yu et al., Electronics 2024, and its released code where the two differ; models.md section 4.
Stream A, `spectrogram`, is an image read row by row; stream B, `acoustic`, the hidden states of
HuBERT or wav2vec 2.0, or of any encoder that gives a sequence.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emotrace_models.fusion.base import FusionModel, FusionOutput, Inputs, StreamSpec
from emotrace_models.fusion.dual_stream_config import DualStreamConfig
from emotrace_models.layers.caf import (
    CAF,
    Aligned,
    Concatenation,
    FiLM,
    Headed,
    LinearFusion,
    SplitFiLM,
    Sum,
)
from emotrace_models.layers.dpcnn import DPCNN
from emotrace_models.layers.masking import masked_mean
from emotrace_models.layers.stream_attention import StreamAttention
from emotrace_models.layers.text_rcnn import ReleasedBiLSTM, TextRCNN
from emotrace_models.registry import register
from emotrace_models.types import Modality

A, B = "spectrogram", "acoustic"  # streams


@register("fusion", "dual_stream")
class DualStream(FusionModel):
    """Slots: the image, then the frames (one of them in `single_a`, `single_b`).

    A stream that is absent counts as a vector of zeros. explain, of the linear fusions (caf, sum,
    con, and single streams without bias): contributions [batch, slot, class] and bias [class],
    whose sum is the logits; of the first three stream_contributions [batch, 2, class] too, their
    branches as published, each with its share of the biases. Of caf_attn: attention_a [batch, step
    of A, frame], attention_b [batch, frame, step of A]; DPCNN's steps are those of all its levels.
    """

    config_type = DualStreamConfig

    def __init__(self, config: DualStreamConfig) -> None:
        super().__init__()
        self.config = config
        specs = {
            A: StreamSpec(Modality.ACOUSTIC, config.image, config.image),
            B: StreamSpec(Modality.ACOUSTIC, config.acoustic),
        }
        alone = {"single_a": A, "single_b": B}.get(config.fusion)
        self.streams = specs if alone is None else {alone: specs[alone]}
        self.additive = config.fusion in ("caf", "sum", "con", "single_a", "single_b")
        d1, d2 = config.widths
        if alone != B:
            self.encoder_a = _encoder_a(config)
        if config.fusion == "caf_attn":
            width = config.aligned or d2
            self.attention = StreamAttention(
                self.encoder_a.width, config.acoustic, width, config.heads
            )
            self.out = nn.Linear(2 * width, config.classes)
            return
        if alone != B:
            self.head_a = self.encoder_a.head(config.classes if alone else d1)
        if alone != A:
            self.head_b = _head_b(config, config.classes if alone else d2)
        if alone is None:
            self.fusion = _fusion(config)

    @classmethod
    def small_config(cls, classes: int) -> DualStreamConfig:
        return DualStreamConfig(
            classes, image=16, filters=8, embedding=8, hidden=4, acoustic=12, d1=8, d2=8
        )

    def forward(self, inputs: Inputs) -> FusionOutput:
        if self.config.fusion == "caf_attn":
            return self._attend(inputs)
        vectors = []
        if A in self.streams:
            image, present = self._image(inputs)
            vectors.append(self.head_a(self.encoder_a(image)[1]) * present)
        if B in self.streams:
            frames, mask, present = _frames(inputs)
            # The mean of a projection is the projection of the mean: the order is free.
            vectors.append(self.head_b(masked_mean(frames, mask)) * present)
        if len(vectors) == 1:
            (logits,) = vectors
            bias = logits.new_zeros(self.config.classes)
            return FusionOutput(logits, {"contributions": logits[:, None], "bias": bias})
        if not isinstance(self.fusion, LinearFusion):
            return FusionOutput(self.fusion(*vectors), {})
        return self._linear(self.fusion, *vectors)

    def fuse(self) -> nn.Linear:
        """A linear fusion and all that lies behind it as one layer on [x; y], exactly.

        Raises ValueError of the other fusions.
        """
        if self.config.fusion in ("caf", "sum", "con") and isinstance(self.fusion, LinearFusion):
            return self.fusion.fuse()
        raise ValueError(f"{self.config.fusion} is not linear in two vectors")

    def _linear(self, fusion: LinearFusion, x: Tensor, y: Tensor) -> FusionOutput:
        branches = torch.stack(fusion.branches(x, y), dim=1)  # [batch, 2, class]
        nothing = fusion.branches(torch.zeros_like(x[:1]), torch.zeros_like(y[:1]))
        biases = torch.stack(nothing, dim=1)
        return FusionOutput(
            branches.sum(1),
            {
                "contributions": branches - biases,
                "bias": biases.sum((0, 1)),
                "stream_contributions": branches,
            },
        )

    def _attend(self, inputs: Inputs) -> FusionOutput:
        image, present = self._image(inputs)
        frames, mask, _ = _frames(inputs)
        steps, _ = self.encoder_a(image)
        shown = present.bool().expand(-1, steps.shape[1])
        of_a, of_b, attention_a, attention_b = self.attention(steps, shown, frames, mask)
        logits = self.out(torch.cat([of_a, of_b], dim=-1))
        return FusionOutput(logits, {"attention_a": attention_a, "attention_b": attention_b})

    def _image(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """[batch, step, feature] by `axis`, and whether there is one [batch, 1]."""
        image, lengths = inputs[A].current()
        # A batch in which nobody has an image is padded to no particular size.
        image = nn.functional.pad(image, (0, 0, 0, self.config.image - image.shape[1]))
        if self.config.axis == "time":
            image = image.transpose(1, 2)
        return image, (lengths > 0).to(image.dtype)[:, None]


def _frames(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """[batch, step, acoustic], which are real [batch, step], and whether any is [batch, 1]."""
    frames, lengths = inputs[B].current()
    return frames, inputs[B].mask()[:, 0], (lengths > 0).to(frames.dtype)[:, None]


def _encoder_a(config: DualStreamConfig) -> DPCNN | TextRCNN | ReleasedBiLSTM:
    if config.encoder_a == "dpcnn":
        return DPCNN(
            config.image,
            config.image,
            config.filters,
            config.share_weights,
            config.first_shortcut,
        )
    if config.encoder_a == "textrcnn":
        return TextRCNN(config.image, config.embedding, config.hidden)
    return ReleasedBiLSTM(config.image, config.embedding, config.hidden, config.dropout)


def _head_b(config: DualStreamConfig, width: int) -> nn.Module:
    """What stands behind the mean of stream B's frames (models.md section 4.4)."""
    if config.b_features == "logits12":
        return nn.Sequential(
            nn.Linear(config.acoustic, config.projection), nn.Linear(config.projection, width)
        )
    if config.b_features == "pool768" and config.fusion != "single_b":
        return nn.Identity()
    return nn.Linear(config.acoustic, width)


def _fusion(config: DualStreamConfig) -> nn.Module:
    d1, d2 = config.widths
    if config.fusion == "caf":
        caf = CAF(d1, d2, config.d3 or config.classes)
        return Headed(caf, nn.Linear(config.d3, config.classes)) if config.d3 else caf
    kinds = {"sum": Sum, "con": Concatenation, "film": FiLM, "film_split": SplitFiLM}
    fused: nn.Module = kinds[config.fusion](Aligned(d1, d2, config.aligned), config.classes)
    return fused
