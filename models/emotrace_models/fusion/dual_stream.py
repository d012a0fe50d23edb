"""Dual stream: a log-mel image and self-supervised frames of the same speech, fused late.

Yu et al., Electronics 2024, and its released code where the two differ; models.md section 4.
Stream A, `spectrogram`, is an image read row by row; stream B, `acoustic`, the hidden states of
HuBERT or wav2vec 2.0, or of any encoder that gives a sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from emotrace_models.fusion.base import FusionModel, FusionOutput, Inputs, StreamSpec
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
from emotrace_models.layers.dpcnn import DPCNN, heights
from emotrace_models.layers.stream_attention import StreamAttention, masked_mean
from emotrace_models.layers.text_rcnn import ReleasedBiLSTM, TextRCNN
from emotrace_models.registry import register
from emotrace_models.types import Modality

A, B = "spectrogram", "acoustic"  # streams

Fusion = Literal["sum", "con", "film", "film_split", "caf", "caf_attn", "single_a", "single_b"]
EncoderA = Literal["dpcnn", "textrcnn", "bilstm_released"]
Axis = Literal["freq", "time"]
BFeatures = Literal["logits12", "proj256", "pool768"]

KEYWORDS, PROJECTION = 12, 256  # of the released keyword-spotting head


@dataclass(frozen=True, slots=True)
class DualStreamConfig:
    """The defaults are the released code's model, but for `b_features`. Raises ValueError, which
    names the setting.

    fusion: `film` is the released form and `film_split` the paper's; `caf_attn` is ours, real
        cross-attention between the steps of A and the frames of B; single streams go alone.
    encoder_a: `textrcnn` is the paper's, `bilstm_released` what its code runs in that place.
    axis: what the steps of the image are, mel rows (`freq`, the release) or frames (`time`).
    image: rows and columns of the image. filters, share_weights, first_shortcut: of DPCNN.
    embedding, hidden, dropout: of the recurrent encoders.
    acoustic: width of stream B's frames. b_features: `logits12`, the outputs of a keyword head
        (release), which starts fresh here: keywords say nothing of emotion; `proj256`, a pooled
        projection; `pool768`, the pooled frames.
    projection: inner width of the keyword head.
    d1, d2: widths of the two vectors that are fused; None: d2 as `b_features` says, d1 as d2.
    d3: width of CAF's output, with a linear head behind it; None: the classes, and no head.
    aligned: both vectors are first brought to this width (paper); None: they are not (release).
        For `caf_attn`, the width of attention; None: d2. Not for `caf` itself.
    heads: of `caf_attn`.
    """

    classes: int
    fusion: Fusion = "caf"
    encoder_a: EncoderA = "dpcnn"
    axis: Axis = "freq"
    image: int = 224
    filters: int = 250
    share_weights: bool = True
    first_shortcut: bool = True
    embedding: int = 768
    hidden: int = 384
    dropout: float = 0.5
    acoustic: int = 768
    b_features: BFeatures = "proj256"
    projection: int = PROJECTION
    d1: int | None = None
    d2: int | None = None
    d3: int | None = None
    aligned: int | None = None
    heads: int = 4

    def __post_init__(self) -> None:
        choices = {
            "fusion": Fusion,
            "encoder_a": EncoderA,
            "axis": Axis,
            "b_features": BFeatures,
        }
        for name, choice in choices.items():
            if getattr(self, name) not in get_args(choice):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choice))}")
        sizes = ("classes", "filters", "embedding", "hidden", "acoustic", "projection", "heads")
        for name in (*sizes, "d1", "d2", "d3", "aligned"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        heights(self.image)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to under 1, not {self.dropout}")
        if self.d3 is not None and self.fusion != "caf":
            raise ValueError(f"d3 is a setting of caf, not of {self.fusion}")
        if self.aligned is not None and self.fusion in ("caf", "single_a", "single_b"):
            raise ValueError(f"aligned is not a setting of {self.fusion}")
        if self.b_features == "pool768" and self.d2 not in (None, self.acoustic):
            raise ValueError(f"d2 {self.d2}: pool768 gives the frames' own width {self.acoustic}")
        self._check_widths()

    def _check_widths(self) -> None:
        d1, d2 = self.widths
        shared = self.aligned or d2
        if self.fusion in ("sum", "film", "film_split") and shared not in (self.aligned, d1):
            raise ValueError(f"d1 {d1} and d2 {d2} differ: {self.fusion} needs aligned")
        if self.fusion == "film_split" and shared % 2:
            raise ValueError(f"film_split halves its vectors, and a width of {shared} is odd")
        if self.fusion == "caf_attn" and shared % self.heads:
            raise ValueError(f"heads {self.heads} do not divide a width of {shared}")

    @property
    def widths(self) -> tuple[int, int]:
        """d1 and d2, none of them None."""
        usual = {"logits12": KEYWORDS, "proj256": PROJECTION, "pool768": self.acoustic}
        d2 = self.d2 or usual[self.b_features]
        return self.d1 or d2, d2


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
