"""GBAN: speech and words aligned both ways, and gated fusion of four views of an utterance.

Liu et al., Interspeech 2020; models.md section 5. No dialogue context. The paper's own baselines
are here too (section 5.8), with the same encoders and the same head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from emotrace_models.fusion.base import FusionModel, FusionOutput, Inputs, Sequences, StreamSpec
from emotrace_models.layers.alignment import (
    Alignment,
    PerceptronAlignment,
    Score,
    heaviest,
)
from emotrace_models.layers.group_gate import GatedPair, padded_outer
from emotrace_models.layers.masking import masked_mean, real_steps
from emotrace_models.layers.packed_lstm import PackedLSTM
from emotrace_models.layers.pooled_convolutions import SpeechConvolutions, TextConvolutions
from emotrace_models.layers.standardise import Standardise
from emotrace_models.layers.stream_reader import (
    Last,
    Reading,
    StreamReader,
    padding_as_data,
    xavier,
)
from emotrace_models.registry import register
from emotrace_models.types import Modality

SPEECH, TEXT = Modality.ACOUSTIC.value, Modality.LEXICAL.value

Fusion = Literal["ggf", "single", "concat1", "concat2", "tfl", "gmu", "att_lstm"]
Vector = Literal["h_s", "h_t", "a_s", "a_t"]
Pair = Literal["aligned", "last"]

OWN_LAST: dict[str, Vector] = {SPEECH: "h_s", TEXT: "h_t"}
PAIRS: dict[str, tuple[Vector, Vector]] = {"aligned": ("a_s", "a_t"), "last": ("h_s", "h_t")}


@dataclass(frozen=True, slots=True)
class GBANConfig:
    """The defaults are the paper's model. Raises ValueError, which names the setting.

    acoustic, lexical: widths of a speech frame and of a word's vector.
    score: see Alignment. last: `final`, the LSTM's states after its last step, in each direction;
        `position`, its output at the last place (released code), where the backward direction has
        read one step.
    fusion: `ggf`, group gated fusion of a_s, a_t, h_s, h_t; `single`, the vector that `single`
        names; `concat1`, `tfl` (outer product, padded with `tfl_pad`) and `gmu`, of the pair that
        `fusion_inputs` names (the paper's table takes the aligned ones, the released code the last
        ones); `concat2`, all four; `att_lstm`, Xu et al. 2019.
    filters, kernel: of the speech convolutions. text_filters, text_kernels: of the text's.
    hidden: of each LSTM direction. width: of the fused vector and the head.
    fusion_dropout: on the vectors that are fused. dropout: in the head.
    standardise: speech frames by the training data's mean and deviation (released code: not).
    mask_padding: False for the released code's padding, which counts as data: speech with zeros up
        to `padded_frames` on the right, text up to `padded_words` (there: the longest training
        sentence) on the left.
    """

    classes: int
    acoustic: int = 52
    lexical: int = 300
    score: Score = "tanh_dot"
    last: Last = "final"
    fusion: Fusion = "ggf"
    single: Vector = "a_t"
    fusion_inputs: Pair = "aligned"
    tfl_pad: float = 1.0
    filters: tuple[int, ...] = (12, 20, 28, 36)
    kernel: int = 4
    text_filters: int = 128
    text_kernels: tuple[int, ...] = (2, 3, 4)
    hidden: int = 128
    width: int = 128
    bidirectional: bool = True
    fusion_dropout: float = 0.5
    dropout: float = 0.5
    standardise: bool = True
    mask_padding: bool = True
    padded_frames: int = 750
    padded_words: int = 128

    def __post_init__(self) -> None:
        # A bundle stores a config as JSON, which knows no tuples.
        object.__setattr__(self, "filters", tuple(self.filters))
        object.__setattr__(self, "text_kernels", tuple(self.text_kernels))
        sizes = ("classes", "acoustic", "lexical", "kernel", "text_filters", "hidden", "width")
        for name in (*sizes, "padded_frames", "padded_words"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("filters", "text_kernels"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ValueError(f"{name} must be there and each at least 1")
        for name in ("fusion_dropout", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be from 0 to under 1, not {getattr(self, name)}")
        choices = {
            "score": Score, "last": Last, "fusion": Fusion, "single": Vector, "fusion_inputs": Pair,
        }  # fmt: skip
        for name, choice in choices.items():
            if getattr(self, name) not in get_args(choice):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choice))}")

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """The vectors that are fused; none for Att-LSTM, which fuses sequences."""
        if self.fusion == "att_lstm":
            return ()
        if self.fusion == "single":
            return (self.single,)
        if self.fusion in ("ggf", "concat2"):
            return ("a_s", "a_t", "h_s", "h_t")
        return PAIRS[self.fusion_inputs]

    @property
    def aligned(self) -> bool:
        return any(vector in PAIRS["aligned"] for vector in self.vectors)


@register("fusion", "gban")
class GBAN(FusionModel):
    """Speech step i stands for frames 16 i ... 16 i + 60, text step j for words 2 j and 2 j + 1.

    explain, as far as `fusion` has it: align_s2t [batch, text step, speech step] and align_t2s
    [batch, speech step, text step], rows of weights that sum to 1 (0 where a stream has no such
    step); salient_frames [batch, text step, 2], first and last frame of the speech that weighs most
    for those words (-1 where there is none); z_p, z_q [batch, width], the weight of speech among
    the aligned and the last vectors; modality_weights [batch, gate, 2], their means, for speech and
    for text.
    """

    config_type: ClassVar[type[GBANConfig]] = GBANConfig

    def __init__(self, config: GBANConfig) -> None:
        super().__init__()
        self.config = config
        specs = {
            SPEECH: StreamSpec(Modality.ACOUSTIC, config.acoustic),
            TEXT: StreamSpec(Modality.LEXICAL, config.lexical),
        }
        alone = config.fusion == "single" and not config.aligned
        self.streams = {n: s for n, s in specs.items() if not alone or OWN_LAST[n] == config.single}
        standardised = {SPEECH} & self.streams.keys() if config.standardise else ()
        self.standardise = nn.ModuleDict({n: Standardise(config.acoustic) for n in standardised})
        convolutions: dict[str, SpeechConvolutions | TextConvolutions] = {
            SPEECH: SpeechConvolutions(config.acoustic, config.filters, config.kernel),
            TEXT: TextConvolutions(config.lexical, config.text_filters, config.text_kernels),
        }
        self.readers = nn.ModuleDict(
            {
                name: StreamReader(
                    convolutions[name], config.hidden, config.bidirectional, config.last
                )
                for name in self.streams
            }
        )
        self.frames = convolutions[SPEECH].stride, convolutions[SPEECH].reach
        inputs = config.hidden * (2 if config.bidirectional else 1)
        if config.aligned:
            self.alignment = Alignment(config.score, inputs)
        if config.fusion in ("ggf", "gmu"):
            pairs = ("aligned", "last") if config.fusion == "ggf" else (config.fusion_inputs,)
            self.gates = nn.ModuleDict({p: GatedPair(inputs, config.width) for p in pairs})
        elif config.fusion == "att_lstm":
            self.attention = PerceptronAlignment(inputs, config.width)
            self.reader = PackedLSTM(2 * inputs, config.hidden, config.bidirectional)
        fused = {
            "ggf": config.width, "gmu": config.width, "tfl": (inputs + 1) ** 2, "att_lstm": inputs,
        }.get(config.fusion, inputs * len(config.vectors))  # fmt: skip
        self.fusion_dropout = nn.Dropout(config.fusion_dropout)
        self.head = nn.Sequential(
            nn.Linear(fused, config.width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.width, config.classes),
        )
        self.apply(xavier)

    @classmethod
    def small_config(cls, classes: int) -> GBANConfig:
        return GBANConfig(
            classes, acoustic=6, lexical=5, filters=(4,), kernel=2, text_filters=4,
            text_kernels=(2, 3), hidden=4, width=8,
        )  # fmt: skip

    def forward(self, inputs: Inputs) -> FusionOutput:
        readings = {name: self._read(name, inputs[name]) for name in self.streams}
        explain: dict[str, Tensor] = {}
        if self.config.fusion == "att_lstm":
            fused = self._attended(readings[SPEECH], readings[TEXT], explain)
        else:
            fused = self._fused(self._vectors(readings, explain), explain)
        return FusionOutput(self.head(fused), explain)

    def _read(self, name: str, stream: Sequences) -> Reading:
        x, lengths = stream.current()
        if name in self.standardise:
            real = real_steps(x.shape[1], lengths)
            x = self.standardise[name](x).masked_fill(~real[..., None], 0.0)
        if not self.config.mask_padding:
            front = name == TEXT
            size = self.config.padded_words if front else self.config.padded_frames
            x, lengths = padding_as_data(x, lengths, size, front)
        reading: Reading = self.readers[name](x, lengths)
        return reading

    def _vectors(
        self, readings: Mapping[str, Reading], explain: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Last states, and means of the steps that are aligned (equations 4 to 10), by name."""
        vectors = {OWN_LAST[name]: reading.last for name, reading in readings.items()}
        if self.config.aligned:
            speech, text = readings[SPEECH], readings[TEXT]
            onto_text, onto_speech = self.alignment(
                speech.outputs, speech.mask, text.outputs, text.mask
            )
            vectors["a_s"] = masked_mean(onto_text @ speech.outputs, text.mask)
            vectors["a_t"] = masked_mean(onto_speech @ text.outputs, speech.mask)
            pairs = text.real[:, :, None] & speech.real[:, None, :]
            explain["align_t2s"] = onto_speech * pairs.transpose(1, 2)
            self._explain_words(onto_text * pairs, explain)
        return {name: self.fusion_dropout(vectors[name]) for name in self.config.vectors}

    def _fused(self, vectors: Mapping[str, Tensor], explain: dict[str, Tensor]) -> Tensor:
        if self.config.fusion == "tfl":
            first, second = vectors.values()
            return padded_outer(first, second, self.config.tfl_pad)
        if self.config.fusion not in ("ggf", "gmu"):
            return torch.cat(list(vectors.values()), dim=-1)
        weights, fused = [], []
        for pair, gate in self.gates.items():
            value, z = gate(*(vectors[name] for name in PAIRS[pair]))
            explain["z_p" if pair == "aligned" else "z_q"] = z
            weights.append(torch.stack([z.mean(-1), 1 - z.mean(-1)], dim=-1))
            fused.append(value)
        explain["modality_weights"] = torch.stack(weights, dim=1)
        return torch.stack(fused).sum(0)

    def _attended(self, speech: Reading, text: Reading, explain: dict[str, Tensor]) -> Tensor:
        """Att-LSTM: each word beside the speech it attends to, a second LSTM, its maxima."""
        weights = self.attention(speech.outputs, speech.mask, text.outputs)
        pairs = text.real[:, :, None] & speech.real[:, None, :]
        self._explain_words(weights * pairs, explain)
        joined = torch.cat([weights @ speech.outputs, text.outputs], dim=-1)
        outputs, _ = self.reader(joined, text.mask.sum(1))
        maxima = outputs.masked_fill(~text.mask[..., None], -math.inf).amax(1)
        result: Tensor = self.fusion_dropout(maxima)
        return result

    def _explain_words(self, onto_text: Tensor, explain: dict[str, Tensor]) -> None:
        """onto_text [batch, text step, speech step], zero where there is no such pair."""
        explain["align_s2t"] = onto_text
        explain["salient_frames"] = heaviest(onto_text, *self.frames)
