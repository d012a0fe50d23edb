"""The audio tower of CLAP (Wu et al., arXiv 2211.06687): HTSAT, which reads 10 s at 48 kHz.

The network is transformers' ClapModel, which is LAION's, run by htsat.py in evaluation; the front
end is LAION's of the unfused checkpoints (models.md section 2.1), but for the crop: theirs is
random, ours is the centre.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
import soxr
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import ClapAudioModelWithProjection

from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.encoders.clap_pretrained import clap_configs, clap_tower
from emotrace_models.encoders.htsat import Htsat, readable
from emotrace_models.encoders.mel import MelConfig, decibels, mel_power
from emotrace_models.registry import register
from emotrace_models.types import SAMPLE_RATE, FloatArray, Modality, Utterance

RATE = 48_000  # Hz
CLIP = 480_000  # samples that the tower reads
MEL = MelConfig(
    n_fft=1_024,
    window=1_024,
    hop=480,
    bands=64,
    lowest=50.0,
    highest=14_000.0,
    padding="reflect",
    rate=RATE,
)
FRAMES = CLIP // MEL.hop + 1
FLOOR = 1e-10  # energies below it count as it
SILENCE = -100.0  # dB of FLOOR
FOLDS = 4  # the spectrogram is laid out as so many strips of one square picture
CELLS = 32  # places in time of the last map
STEPS = 16  # of the tokens: pairs of cells

StepSource = Literal["pooled", "tokens", "projected"]
Crop = Literal["centre", "random"]


@dataclass(frozen=True, slots=True)
class ClapAudioConfig:
    """The defaults are HTSAT-tiny, as in 630k-audioset-best.pt. Raises ValueError.

    patch_width, depths, heads, window: of the Swin Transformer. projection: width of the vector.
    step_source: `pooled`, one vector [projection] of length 1; `tokens`, [step, 8 patch_width]:
        16 places in time, only those with sound; `projected`, the tokens through the projection.
    crop: of what is longer than 10 s. `random` is a place drawn from `seed` and the sound itself.
    """

    patch_width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (4, 8, 16, 32)
    window: int = 8
    projection: int = 512
    step_source: StepSource = "pooled"
    crop: Crop = "centre"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "depths", tuple(self.depths))
        object.__setattr__(self, "heads", tuple(self.heads))
        if len(self.depths) != 4 or len(self.heads) != 4:
            raise ValueError("depths and heads must name four stages")
        if min(self.patch_width, self.window, self.projection, *self.depths, *self.heads) < 1:
            raise ValueError("patch_width, depths, heads, window and projection must be positive")
        for stage, heads in enumerate(self.heads):
            if self.patch_width * 2**stage % heads:
                raise ValueError(f"heads {heads} do not divide the width of stage {stage}")
        choices = {"step_source": StepSource, "crop": Crop}
        for name, choice in choices.items():
            if getattr(self, name) not in get_args(choice):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choice))}")

    @property
    def width(self) -> int:
        """Of the last map."""
        return 8 * self.patch_width

    def network(self) -> transformers.ClapAudioConfig:
        return transformers.ClapAudioConfig(
            patch_embeds_hidden_size=self.patch_width,
            hidden_size=self.width,
            depths=list(self.depths),
            num_attention_heads=list(self.heads),
            window_size=self.window,
            num_mel_bins=MEL.bands,
            spec_size=FOLDS * MEL.bands,
            projection_dim=self.projection,
            enable_fusion=False,
        )


@register("encoder", "clap_audio")
class ClapAudio(NetworkEncoder):
    """Sound -> a unit vector of CLAP's shared space, or tokens in time. Keeps no speaker state."""

    modality: ClassVar[Modality] = Modality.ACOUSTIC
    config_type: ClassVar[type[ClapAudioConfig]] = ClapAudioConfig
    pads: ClassVar[bool] = True

    def __init__(self, config: ClapAudioConfig, assets: Mapping[str, bytes] | None = None) -> None:
        super().__init__(config, assets)
        self.config = config
        self.width = config.width if config.step_source == "tokens" else config.projection
        self.tower = ClapAudioModelWithProjection(config.network())
        self._htsat: Htsat | None = None

    @classmethod
    def small(cls) -> tuple[ClapAudioConfig, Mapping[str, bytes]]:
        config = ClapAudioConfig(
            patch_width=8, depths=(1, 1, 1, 1), heads=(1, 1, 1, 1), projection=16
        )
        return config, {}

    @classmethod
    def from_pretrained(cls, source: str | Path, **settings: Any) -> Self:
        """A ClapModel in Hugging Face layout: a folder, or a name such as laion/clap-htsat-unfused.

        settings: of ClapAudioConfig that are no sizes (step_source, crop, seed). Raises ValueError
        for another architecture, OSError where there are no safetensors to read.
        """
        config = _config_of(clap_configs(source)[0], source, settings)
        encoder = cls(config)
        encoder.tower = clap_tower(ClapAudioModelWithProjection, source, config.network())
        return encoder.eval()

    def front(self, utterance: Utterance) -> NDArray[Any] | None:
        """Log-mel energies [frame, band] in dB: 1,001 frames; for tokens those that hear sound."""
        if utterance.samples is None or not len(utterance.samples):
            return None
        sound = self._crop(quantised(upsampled(utterance.samples)))
        if self.config.step_source == "pooled":
            return log_mel(repeated(sound))
        # The window of a frame reaches to both sides of it: these are all that hear something.
        heard = min(FRAMES, -(-(len(sound) + MEL.window // 2) // MEL.hop))
        return log_mel(np.pad(sound, (0, CLIP - len(sound))))[:heard]

    def forward(self, fronts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """fronts [item, frame, band] -> features [item, step, width] and steps [item]."""
        places = torch.arange(FRAMES, device=fronts.device)
        filled = F.pad(fronts, (0, 0, 0, FRAMES - fronts.shape[1])).masked_fill(
            (places >= lengths[:, None])[..., None], SILENCE
        )
        last, pooled = self._read(filled[:, None])
        if self.config.step_source == "pooled":
            vectors = self.tower.audio_projection(pooled).float()
            return F.normalize(vectors, dim=-1)[:, None], torch.ones_like(lengths)
        cells = last.mean(2)  # [item, width, cell]: over frequency
        tokens = torch.unflatten(cells, 2, (STEPS, CELLS // STEPS)).mean(3).transpose(1, 2)
        if self.config.step_source == "projected":
            tokens = self.tower.audio_projection(tokens)
        steps = (lengths * STEPS + FRAMES - 1) // FRAMES
        unheard = torch.arange(STEPS, device=fronts.device) >= steps[:, None]
        return tokens.float().masked_fill(unheard[..., None], 0.0), steps

    def in_bf16(self) -> Self:
        if not readable(self.config.network()):
            return self
        own = self.copied()
        own.tower.bfloat16()
        # Decibels have more digits than bf16; the norm in front brings them near 0.
        own.tower.audio_model.audio_encoder.batch_norm.float()
        return own

    def train(self, mode: bool = True) -> Self:
        self._htsat = None
        return super().train(mode)

    def _read(self, spectra: Tensor) -> tuple[Tensor, Tensor]:
        """[item, 1, frame, band] -> the last map [item, width, frequency, cell] and its mean."""
        model = self.tower.audio_model
        if self.training or torch.is_grad_enabled() or not readable(model.config):
            read = model(input_features=spectra)
            return read.last_hidden_state, read.pooler_output
        htsat = self._htsat
        if htsat is None or htsat.model is not model:
            self._htsat = htsat = Htsat(model)
        return htsat(spectra)

    def _apply(self, *arguments: Any, **options: Any) -> Self:
        self._htsat = None
        super()._apply(*arguments, **options)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self._htsat = None
        super()._load_from_state_dict(*arguments, **options)

    def _crop(self, sound: FloatArray) -> FloatArray:
        over = len(sound) - CLIP
        if over <= 0:
            return sound
        if self.config.crop == "centre":
            first = over // 2
        else:
            own = zlib.crc32(sound.tobytes())
            first = int(np.random.default_rng([self.config.seed, own]).integers(over + 1))
        return sound[first : first + CLIP]


def upsampled(samples: FloatArray) -> FloatArray:
    """16 kHz -> 48 kHz."""
    result: FloatArray = soxr.resample(samples, SAMPLE_RATE, RATE, quality="HQ")
    return result


def quantised(samples: FloatArray) -> FloatArray:
    """To 16-bit integers, towards zero, and back, as LAION trained."""
    levels = (np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)
    return (levels / 32767.0).astype(np.float32)


def repeated(sound: FloatArray) -> FloatArray:
    """`repeatpad`: as many whole times as fit into 10 s, then zeros."""
    whole = np.tile(sound, CLIP // len(sound))
    return np.pad(whole, (0, CLIP - len(whole)))


def log_mel(sound: FloatArray) -> FloatArray:
    """10 s at 48 kHz -> [frame, band] in dB."""
    return decibels(mel_power(sound, MEL), floor=FLOOR, range_db=None)


def _config_of(
    theirs: transformers.ClapAudioConfig, source: str | Path, settings: Mapping[str, Any]
) -> ClapAudioConfig:
    if theirs.enable_fusion:
        raise ValueError(
            f"{source} is a fused CLAP, which reads four spectrograms; take an unfused one, such "
            "as laion/clap-htsat-unfused"
        )
    ours = ClapAudioConfig(
        patch_width=theirs.patch_embeds_hidden_size,
        depths=tuple(theirs.depths),
        heads=tuple(theirs.num_attention_heads),
        window=theirs.window_size,
        projection=theirs.projection_dim,
        **settings,
    )
    known = ours.network()
    for name in ("num_mel_bins", "spec_size", "hidden_size", "patch_size", "mlp_ratio"):
        if getattr(theirs, name) != getattr(known, name):
            raise ValueError(
                f"{source}: {name} {getattr(theirs, name)} is another tower than CLAP's HTSAT "
                f"({getattr(known, name)})"
            )
    return ours
