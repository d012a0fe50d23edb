"""Cross-modal attention, Tucker and factorised bilinear pooling of speech and face (Kumar et al.,
2025). Paper: sections 2 and 3, appendix A; models.md section 7. No dialogue context.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from emotrace_models.fusion.base import FusionModel, FusionOutput, Inputs, StreamSpec
from emotrace_models.layers.interpolate import interpolate_steps
from emotrace_models.layers.mel_cnn import MelCNN
from emotrace_models.layers.standardise import Standardise
from emotrace_models.layers.tucker import (
    CoreFBP,
    FlatCore,
    MarginalFBP,
    TuckerProjection,
    pooled_unit,
)
from emotrace_models.registry import register
from emotrace_models.types import Modality

Align = Literal["before", "after"]
Readout = Literal["core_fbp", "marginal_fbp", "flatten"]


@dataclass(frozen=True, slots=True)
class TuckerFusionConfig:
    """The defaults are the paper's model as models.md reads it. ValueError names the setting.

    modalities: what the model has an encoder for; the other stream is then always absent.
    mel_frames, bands: of the spectrogram. channels: of the audio CNN. faces: width of a frame's
        features. width, heads: of the two attentions. steps: of the aligned sequences.
    align: interpolate the video to `steps` `before` attention (appendix A.3), or `after` (A.4).
    residual: attention adds to its query and is normalised; without it, attention alone (paper).
    ranks: of time, audio and video in the core. factors: trilinear forms an output of `pooled`.
    orthogonal: keep the three factors' columns orthonormal in training.
    standardise: bands by the training split's mean and deviation; fit fills them in.
    """

    classes: int
    modalities: tuple[Modality, ...] = (Modality.ACOUSTIC, Modality.FACIAL)
    mel_frames: int = 256
    bands: int = 128
    channels: tuple[int, ...] = (32, 64, 128, 128)
    faces: int = 512
    width: int = 256
    heads: int = 4
    steps: int = 60
    align: Align = "before"
    residual: bool = True
    ranks: tuple[int, int, int] = (30, 128, 128)
    readout: Readout = "core_fbp"
    factors: int = 5
    pooled: int = 512
    orthogonal: bool = False
    standardise: bool = True
    attention_dropout: float = 0.1
    dropout: float = 0.5

    def __post_init__(self) -> None:
        # A bundle stores a config as JSON, which knows neither tuples nor enumerations.
        object.__setattr__(self, "modalities", tuple(Modality(m) for m in self.modalities))
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "ranks", tuple(self.ranks))
        known = (Modality.ACOUSTIC, Modality.FACIAL)
        if self.modalities not in (known, known[:1], known[1:]):
            raise ValueError(f"modalities must be of acoustic, facial, not {list(self.modalities)}")
        sizes = ("classes", "mel_frames", "bands", "faces", "width", "heads", "steps", "factors")
        for name in (*sizes, "pooled"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"channels must be positive numbers, not {self.channels}")
        if len(self.ranks) != 3:
            raise ValueError(f"ranks must be three numbers, not {self.ranks}")
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} does not divide width {self.width}")
        if self.faces % 2:
            raise ValueError(f"faces must be even, half a direction of the GRU, not {self.faces}")
        for name in ("attention_dropout", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be from 0 to under 1, not {getattr(self, name)}")
        for name, choice in {"align": Align, "readout": Readout}.items():
            if getattr(self, name) not in get_args(choice):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choice))}")


class CrossAttention(nn.Module):
    """One sequence attends to the other; the result is named after the query."""

    def __init__(self, config: TuckerFusionConfig) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(
            config.width, config.heads, config.attention_dropout, batch_first=True
        )
        self.norm = nn.LayerNorm(config.width) if config.residual else None

    def forward(
        self, query: Tensor, other: Tensor, padding: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """[batch, step, width] and [batch, other step, width]; padding [batch, other step] is True
        where `other` is not read. Gives the query's sequence and the weights
        [batch, head, step, other step].
        """
        mixed, weights = self.attention(
            query, other, other, key_padding_mask=padding, average_attn_weights=False
        )
        return mixed if self.norm is None else self.norm(query + mixed), weights


class FaceGRU(nn.Module):
    """Features of frames -> the width of attention, over time in both directions."""

    def __init__(self, config: TuckerFusionConfig) -> None:
        super().__init__()
        self.gru = nn.GRU(config.faces, config.faces // 2, batch_first=True, bidirectional=True)
        self.projection = nn.Linear(config.faces, config.width)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """[item, frame, faces], lengths [item] of at least 1 -> [item, longest, width]."""
        packed = pack_padded_sequence(frames, lengths.cpu(), True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        out: Tensor = self.projection(hidden)
        return out


class MelEncoder(nn.Module):
    """A mel segment -> the width of attention."""

    def __init__(self, config: TuckerFusionConfig) -> None:
        super().__init__()
        self.cnn = MelCNN(config.channels, config.steps)
        self.projection = nn.Linear(config.channels[-1], config.width)

    def forward(self, mel: Tensor) -> Tensor:
        """[item, frame, band] -> [item, steps, width]."""
        out: Tensor = self.projection(self.cnn(mel))
        return out


@register("fusion", "tucker")
class TuckerFusion(FusionModel):
    """An absent stream is a learned sequence in place of its encoder's: attention always has
    something to read, and the model runs (and trains) on one modality.

    explain: attn_a2v [batch, head, steps, steps] (audio asks, video answers), attn_v2a, core_energy
    [batch, time rank], and, where the read-out is core_fbp, time_saliency [batch, steps], which
    sums to 1. With `align = "after"` the video side of the attentions counts its own frames.
    """

    config_type = TuckerFusionConfig

    def __init__(self, config: TuckerFusionConfig) -> None:
        super().__init__()
        self.config = config
        self.streams = {
            name: spec
            for name, spec in {
                "acoustic": StreamSpec(Modality.ACOUSTIC, config.bands, config.mel_frames),
                "facial": StreamSpec(Modality.FACIAL, config.faces),
            }.items()
            if spec.modality in config.modalities
        }
        self.mel = MelEncoder(config) if "acoustic" in self.streams else None
        self.face = FaceGRU(config) if "facial" in self.streams else None
        bands = {"acoustic": Standardise(config.bands)} if config.standardise and self.mel else {}
        self.standardise = nn.ModuleDict(bands)
        self.absent_audio = nn.Parameter(torch.randn(config.steps, config.width))
        self.absent_video = nn.Parameter(torch.randn(config.steps, config.width))
        self.audio_to_video = CrossAttention(config)
        self.video_to_audio = CrossAttention(config)
        widths = (config.width, config.width)
        self.tucker = TuckerProjection(config.steps, widths, config.ranks, config.orthogonal)
        self.readout = _readout(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.pooled, config.classes)

    @classmethod
    def small_config(cls, classes: int) -> TuckerFusionConfig:
        return TuckerFusionConfig(
            classes,
            mel_frames=16,
            bands=8,
            channels=(4, 6, 8),
            faces=6,
            width=12,
            heads=2,
            steps=6,
            ranks=(3, 5, 4),
            factors=2,
            pooled=10,
        )

    def forward(self, inputs: Inputs) -> FusionOutput:
        """Raises ValueError for a spectrogram of another number of frames than `mel_frames`."""
        audio, video, lengths = self._audio(inputs), *self._video(inputs)
        padding = None
        if self.config.align == "after":
            steps = torch.arange(video.shape[1], device=video.device)
            padding = steps >= lengths[:, None]
        own_audio, a2v = self.audio_to_video(audio, video, padding)
        own_video, v2a = self.video_to_audio(video, audio, None)
        if self.config.align == "after":
            own_video = interpolate_steps(own_video, lengths, self.config.steps)
        a, v = self.tucker(own_audio, own_video)
        explain = {"attn_a2v": a2v, "attn_v2a": v2a}
        if isinstance(self.readout, CoreFBP):
            terms = self.readout.terms(self.tucker, a, v)
            z = self.readout.pool(terms)
            saliency = terms.detach().abs().sum(-1)
            explain["time_saliency"] = saliency / saliency.sum(-1, keepdim=True).clamp(min=1e-12)
        else:
            z = self.readout(self.tucker, a, v)
        with torch.no_grad():
            explain["core_energy"] = self.tucker.energy(a, v)
        return FusionOutput(self.classifier(pooled_unit(self.dropout(z))), explain)

    def _audio(self, inputs: Inputs) -> Tensor:
        """[batch, steps, width]. The CNN sees only what is there: batch norm counts all it sees."""
        batch = next(iter(inputs.values())).lengths.shape[0]
        sequence = self.absent_audio.expand(batch, -1, -1)
        if self.mel is None:
            return sequence
        values, lengths = inputs["acoustic"].current()
        heard = lengths > 0
        if not heard.any():
            return sequence
        frames = self.config.mel_frames
        if values.shape[1] < frames or (lengths[heard] != frames).any():
            raise ValueError(
                f"tucker takes spectrograms of {frames} frames (mel_frames), not "
                f"{sorted(set(lengths[heard].tolist()))}"
            )
        mel = values[heard, :frames]
        if self.config.standardise:
            mel = self.standardise["acoustic"](mel)
        return sequence.index_put((heard.nonzero()[:, 0],), self.mel(mel).to(sequence.dtype))

    def _video(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """[batch, step, width] and lengths [batch]; all `steps` long unless aligned later."""
        steps = self.config.steps
        batch = next(iter(inputs.values())).lengths.shape[0]
        sequence = self.absent_video.expand(batch, -1, -1)
        lengths = torch.full((batch,), steps, device=sequence.device)
        if self.face is None:
            return sequence, lengths
        values, frames = inputs["facial"].current()
        seen = frames > 0
        if not seen.any():
            return sequence, lengths
        video = self.face(values[seen], frames[seen])
        if self.config.align == "before":
            video = interpolate_steps(video, frames[seen], steps)
        else:
            lengths = torch.where(seen, frames, lengths)
        longest = max(steps, video.shape[1])
        padded = nn.functional.pad(sequence, (0, 0, 0, longest - steps))
        video = nn.functional.pad(video, (0, 0, 0, longest - video.shape[1]))
        return padded.index_put((seen.nonzero()[:, 0],), video.to(padded.dtype)), lengths


def _readout(config: TuckerFusionConfig) -> CoreFBP | MarginalFBP | FlatCore:
    if config.readout == "flatten":
        return FlatCore(config.ranks, config.pooled)
    kind = CoreFBP if config.readout == "core_fbp" else MarginalFBP
    return kind(config.ranks, config.pooled, config.factors)
