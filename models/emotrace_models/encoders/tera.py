"""TERA: a Transformer encoder that learned to restore altered spectra (Liu, Li & Lee, TASLP 2021,
arXiv 2007.06028); models.md section 6.1. The architecture is s3prl's, post-norm as in BERT, and
`tera_checkpoint` reads s3prl's weights.

Waveform at -25 dB -> log-mel every 10 ms -> mean 0, deviation 1 in each band -> linear map plus
sinusoidal positions -> layers -> the last one's output.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.encoders.mel import MelConfig, mel_power
from emotrace_models.encoders.tera_checkpoint import read_s3prl
from emotrace_models.layers.masking import real_steps
from emotrace_models.layers.precision import entering
from emotrace_models.registry import register
from emotrace_models.types import FloatArray, Modality, Utterance

CONFIG, WEIGHTS = "config.json", "model.safetensors"
LEVEL_DB = -25.0  # root mean square of the waveform that goes in
FLOOR = 1e-10  # added to mel energies before the logarithm, as in s3prl
STILL = 1e-6  # a band that moves less than this does not move


@dataclass(frozen=True, slots=True)
class TeraConfig:
    """The defaults are s3prl's `tera_960hr`. Raises ValueError, which names the setting.

    bands: of the log-mel. inner: width between the two maps of a feed-forward part.
    frames: how many of 10 ms are read, the first ones. pool: how many steps are averaged into one,
    after the last layer (MLCCT takes 4).
    """

    bands: int = 80
    layers: int = 3
    width: int = 768
    heads: int = 12
    inner: int = 3_072
    frames: int = 1_500
    pool: int = 1
    dropout: float = 0.1
    epsilon: float = 1e-12

    def __post_init__(self) -> None:
        for name in ("bands", "layers", "width", "heads", "inner", "frames", "pool"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} does not divide width {self.width}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to under 1, not {self.dropout}")
        if self.epsilon <= 0:
            raise ValueError(f"epsilon must be above 0, not {self.epsilon}")

    @property
    def mel(self) -> MelConfig:
        """torchaudio's mel scale as s3prl calls it: 25 ms every 10 ms, triangles of height 1."""
        return MelConfig(
            n_fft=400, window=400, hop=160, bands=self.bands, scale="htk", norm="none",
            padding="reflect",
        )  # fmt: skip


class TeraLayer(nn.Module):
    """Self-attention and a feed-forward part, each with its residual and norm after it."""

    def __init__(self, config: TeraConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.rate = config.heads, config.dropout
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.attended = nn.Linear(width, width)
        self.attended_norm = nn.LayerNorm(width, config.epsilon)
        self.inner = nn.Linear(width, config.inner)
        self.outer = nn.Linear(config.inner, width)
        self.outer_norm = nn.LayerNorm(width, config.epsilon)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [item, step, width], mask [item, step] of real steps -> the shape of x."""
        q, k, v = (
            part(x).view(*x.shape[:2], self.heads, -1).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        rate = self.rate if self.training else 0.0
        read = F.scaled_dot_product_attention(q, k, v, mask[:, None, None], dropout_p=rate)
        read = self.attended(read.transpose(1, 2).flatten(2))
        x = self.attended_norm(x + self.dropout(read))
        result: Tensor = self.outer_norm(x + self.dropout(self.outer(F.gelu(self.inner(x)))))
        return result


@register("encoder", "tera")
class Tera(NetworkEncoder):
    """One vector every 10 ms times `pool`; random weights until `from_pretrained`."""

    modality: ClassVar[Modality] = Modality.ACOUSTIC
    config_type: ClassVar[type[TeraConfig]] = TeraConfig
    pads: ClassVar[bool] = True

    def __init__(self, config: TeraConfig, assets: Mapping[str, bytes] | None = None) -> None:
        super().__init__(config, assets)
        self.config = config
        self.width = config.width
        self.project = nn.Linear(config.bands, config.width)
        self.project_norm = nn.LayerNorm(config.width, config.epsilon)
        self.layers = nn.ModuleList(TeraLayer(config) for _ in range(config.layers))
        self.dropout = nn.Dropout(config.dropout)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    @classmethod
    def small(cls) -> tuple[TeraConfig, Mapping[str, bytes]]:
        return TeraConfig(bands=16, layers=2, width=16, heads=2, inner=32, frames=100, pool=4), {}

    @classmethod
    def from_pretrained(cls, source: str | Path, **settings: Any) -> Self:
        """From a folder that `save_pretrained` wrote, or an s3prl checkpoint (`.ckpt`).

        settings: of the config, instead of what stands there (`pool`, `frames`, `dropout`).
        Raises ValueError, which names the file and the cure.
        """
        path = Path(source)
        if path.is_dir():
            values, state = _read_folder(path)
        elif path.is_file():
            values, state = read_s3prl(path)
        else:
            raise ValueError(
                f"no TERA weights at {path}: name a folder from `emotrace-train pretrain`, or a "
                "downloaded s3prl checkpoint such as tera_960hr's .ckpt"
            )
        try:
            encoder = cls(replace(TeraConfig(**values), **settings))
            encoder.load_state_dict(state)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path}: holds no TERA of this form: {error}") from error
        return encoder.eval()

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({n: t.contiguous() for n, t in self.state_dict().items()}, folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps(asdict(self.config), indent=2) + "\n")

    def front(self, utterance: Utterance) -> FloatArray | None:
        """Normalised log-mel [frame, band], at most `frames`."""
        if utterance.samples is None or not len(utterance.samples):
            return None
        return normalised_log_mel(utterance.samples, self.config)

    def forward(self, fronts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """fronts [item, frame, band], lengths [item] -> [item, step, width], steps [item]."""
        hidden = self.contextualise(fronts, lengths)
        pool = self.config.pool
        hidden = F.pad(hidden, (0, 0, 0, -hidden.shape[1] % pool))
        groups = hidden.view(len(hidden), -1, pool, self.width)  # [item, step, frame, width]
        first = torch.arange(groups.shape[1], device=lengths.device) * pool
        members = (lengths[:, None] - first).clamp(0, pool)  # [item, step]
        return groups.sum(2) / members.clamp(min=1)[..., None], -(-lengths // pool)

    def contextualise(self, fronts: Tensor, lengths: Tensor) -> Tensor:
        """The last layer's output a frame: [item, frame, width], zero where padded."""
        mask = real_steps(fronts.shape[1], lengths)
        fronts = entering(fronts.masked_fill(~mask[..., None], 0.0), self)
        x = self.project(fronts) + positions(fronts.shape[1], self.width).to(fronts)
        x = self.dropout(self.project_norm(x))
        for layer in self.layers:
            x = layer(x, mask)
        features: Tensor = x.float().masked_fill(~mask[..., None], 0.0)
        return features

    def in_bf16(self) -> Self:
        return self.copied().to(torch.bfloat16)


def normalised_log_mel(samples: FloatArray, config: TeraConfig) -> FloatArray:
    """samples [sample], at least one -> [frame, band], each band of mean 0 and deviation 1 over the
    whole utterance; the first `frames` frames. A band that does not move is 0."""
    loud = samples.astype(np.float64)
    loud *= 10.0 ** (LEVEL_DB / 20) / (math.sqrt(np.square(loud).mean()) + 1e-10)
    log_mel = np.log(mel_power(loud.astype(np.float32), config.mel) + FLOOR).astype(np.float64)
    centred = log_mel - log_mel.mean(axis=0)
    # One degree of freedom less, as torch.std has it in s3prl.
    deviation = np.sqrt(np.square(centred).sum(axis=0) / max(len(centred) - 1, 1))
    result = np.where(deviation > STILL, centred / np.maximum(deviation, STILL), 0.0)
    return np.ascontiguousarray(result[: config.frames], dtype=np.float32)


def positions(steps: int, width: int) -> Tensor:
    """Sinusoids [step, width]: pairs sin, cos of step / 10000^(2 (i // 2) / width)."""
    rates = 10_000.0 ** (-2.0 * (torch.arange(width, dtype=torch.float64) // 2) / width)
    angles = torch.arange(steps, dtype=torch.float64)[:, None] * rates
    angles[:, 0::2], angles[:, 1::2] = angles[:, 0::2].sin(), angles[:, 1::2].cos()
    return angles.float()


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing; `emotrace-train pretrain` writes both")
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return values, load_file(folder / WEIGHTS)
    except (ValueError, SafetensorError) as error:
        raise ValueError(f"{folder}: cannot be read, write it again: {error}") from error
