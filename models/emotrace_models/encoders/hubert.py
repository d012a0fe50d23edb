"""HuBERT and wav2vec 2.0: hidden states of a Transformer over the raw waveform.

Hsu et al., TASLP 2021; Baevski et al., NeurIPS 2020; models.md section 4.4. The network is
transformers'; this config holds every size, so a bundle rebuilds it without the original folder.
One step every 20 ms, of 25 ms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor, nn
from transformers import HubertConfig as HuggingFaceHubertConfig
from transformers import HubertModel, Wav2Vec2Config, Wav2Vec2Model

from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.encoders.hubert_pretrained import read_pretrained
from emotrace_models.registry import register
from emotrace_models.types import FloatArray, Modality, Utterance

Family = Literal["hubert", "wav2vec2"]
Norm = Literal["group", "layer"]
Features = Literal["last", "weighted"]

_NETWORKS = {
    "hubert": (HuggingFaceHubertConfig, HubertModel),
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
}


@dataclass(frozen=True, slots=True)
class HubertConfig:
    """The defaults are HuBERT base. Raises ValueError, which names the setting.

    features: `last`, the last layer's hidden states; `weighted`, a learnt mean over all layers'.
    normalise: each utterance to mean 0 and variance 1.
    channels, kernels, strides, convolution_bias, convolution_norm: of the waveform's convolutions;
        `group` normalises the first one over time (base), `layer` each one over channels (large).
    feature_norm: LayerNorm before the projection (HuBERT alone may lack it).
    stable: LayerNorm before each part of a layer instead of after (large).
    positions, position_groups, position_norm: of the convolution that tells places apart; the
        norm is batch normalisation in place of weight normalisation (some HuBERTs).
    dropout, attention_dropout, activation_dropout, feature_dropout, layer_drop: in training only;
        no layer is dropped with `weighted`, which needs them all.
    """

    family: Family = "hubert"
    features: Features = "last"
    normalise: bool = True
    width: int = 768
    layers: int = 12
    heads: int = 12
    inner: int = 3_072
    channels: tuple[int, ...] = (512,) * 7
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    convolution_bias: bool = False
    convolution_norm: Norm = "group"
    feature_norm: bool = True
    stable: bool = False
    positions: int = 128
    position_groups: int = 16
    position_norm: bool = False
    epsilon: float = 1e-5
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.1
    feature_dropout: float = 0.0
    layer_drop: float = 0.1

    def __post_init__(self) -> None:
        convolutions = ("channels", "kernels", "strides")
        for name in convolutions:
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has only lists
        choices = {"family": Family, "features": Features, "convolution_norm": Norm}
        for name, choice in choices.items():
            if getattr(self, name) not in get_args(choice):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choice))}")
        if not len(self.channels) == len(self.kernels) == len(self.strides) > 0:
            raise ValueError("channels, kernels and strides must be one each a convolution")
        for name in ("width", "layers", "heads", "inner", "positions", "position_groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if min(self.channels + self.kernels + self.strides) < 1:
            raise ValueError("channels, kernels and strides must be at least 1")
        for name in ("heads", "position_groups"):
            if self.width % getattr(self, name):
                raise ValueError(f"{name} {getattr(self, name)} does not divide width {self.width}")
        for name in (n for n in asdict(self) if "drop" in n):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be from 0 to under 1, not {getattr(self, name)}")
        if self.epsilon <= 0:
            raise ValueError(f"epsilon must be above 0, not {self.epsilon}")
        if self.family == "wav2vec2" and (self.position_norm or not self.feature_norm):
            raise ValueError("wav2vec2 has feature_norm, and no position_norm")

    @property
    def shortest(self) -> int:
        """Samples that one step needs."""
        needed = 1
        for kernel, stride in zip(self.kernels[::-1], self.strides[::-1], strict=True):
            needed = (needed - 1) * stride + kernel
        return needed

    def steps(self, samples: int) -> int:
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples


@register("encoder", "hubert")
class Hubert(NetworkEncoder):
    """Hidden states [step, width]; random weights until `from_pretrained`.

    Utterances of one length share a pass, others do not: the group normalisation runs over time,
    so padding would change the result.
    """

    modality: ClassVar[Modality] = Modality.ACOUSTIC
    config_type: ClassVar[type[HubertConfig]] = HubertConfig
    pads: ClassVar[bool] = True

    def __init__(self, config: HubertConfig, assets: Mapping[str, bytes] | None = None) -> None:
        super().__init__(config, assets)
        self.config = config
        self.width = config.width
        self.network: nn.Module = _NETWORKS[config.family][1](_hugging_face(config))
        if config.features == "weighted":
            self.layer_weights = nn.Parameter(torch.zeros(config.layers + 1))  # before softmax

    @classmethod
    def small(cls) -> tuple[HubertConfig, Mapping[str, bytes]]:
        config = HubertConfig(
            width=16, layers=2, heads=2, inner=32, channels=(8, 8), kernels=(10, 8),
            strides=(8, 8), positions=8, position_groups=2, layer_drop=0.0,
        )  # fmt: skip
        return config, {}

    @classmethod
    def from_pretrained(cls, source: str | Path, **settings: Any) -> Self:
        """From a folder of Hugging Face layout (config.json, model.safetensors) or a name of the
        hub, `facebook/hubert-base-ls960` say; of a classifier, all but its head.

        settings: of the config, instead of what stands there (`features`, dropouts).
        Raises ValueError, which names the source and the cure.
        """
        values, build = read_pretrained(source)
        try:
            config = replace(HubertConfig(**values), **settings)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{source}: {error}") from error
        encoder = cls(config)
        state, layer_weights = build(_hugging_face(config))
        encoder.network.load_state_dict(state)
        if layer_weights is not None and config.features == "weighted":
            encoder.layer_weights.data.copy_(layer_weights)
        return encoder.eval()

    def front(self, utterance: Utterance) -> FloatArray | None:
        """The normalised waveform [sample], with silence after it up to the first step."""
        samples = utterance.samples
        if samples is None or not len(samples):
            return None
        if self.config.normalise:
            deviation = math.sqrt(samples.var(dtype=np.float64) + 1e-7)
            samples = (samples - samples.mean(dtype=np.float64)) / deviation
        missing = max(0, self.config.shortest - len(samples))
        return np.pad(samples, (0, missing)).astype(np.float32)

    def forward(self, fronts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """fronts [item, sample], lengths [item] -> [item, step, width] and steps [item]."""
        steps = torch.tensor(
            [self.config.steps(n) for n in lengths.tolist()], device=lengths.device
        )
        features = fronts.new_zeros(len(fronts), int(steps.max()), self.width)
        for length in sorted(set(lengths.tolist())):
            rows = (lengths == length).nonzero()[:, 0]
            hidden = self._hidden(fronts[rows, :length])
            features[rows, : hidden.shape[1]] = hidden.to(features.dtype)
        return features, steps

    def in_bf16(self) -> Self:
        """The Transformer alone. The convolutions gain nothing on a CPU, and those of few channels
        come out wrong in bfloat16 (docs/decisions/0016)."""
        own = self.copied()
        encoder = own.network.get_submodule("encoder")
        places = encoder.get_submodule("pos_conv_embed")
        low = [child for child in encoder.children() if child is not places]
        for part in (own.network.get_submodule("feature_projection"), *low):
            part.to(torch.bfloat16)
        own.network.get_submodule("feature_projection").register_forward_pre_hook(_low)
        places.register_forward_pre_hook(_high)
        places.register_forward_hook(lambda _module, _inputs, output: output.to(torch.bfloat16))
        return own

    def _hidden(self, waveforms: Tensor) -> Tensor:
        """[item, sample], all real -> [item, step, width]."""
        weighted = self.config.features == "weighted"
        output = self.network(waveforms, output_hidden_states=weighted)
        if not weighted:
            last: Tensor = output.last_hidden_state
            return last
        layers = torch.stack(output.hidden_states, dim=-1).float()
        return layers @ self.layer_weights.softmax(0)


def _low(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.to(torch.bfloat16) for x in inputs)


def _high(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.float() for x in inputs)


def _hugging_face(config: HubertConfig) -> Any:
    """The same as transformers has it. Its time masks are off: they draw from numpy's one global
    generator, and fail where an utterance is shorter than a mask."""
    own = {"feat_proj_layer_norm": config.feature_norm, "conv_pos_batch_norm": config.position_norm}
    return _NETWORKS[config.family][0](
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.inner,
        conv_dim=config.channels,
        conv_kernel=config.kernels,
        conv_stride=config.strides,
        conv_bias=config.convolution_bias,
        feat_extract_norm=config.convolution_norm,
        do_stable_layer_norm=config.stable,
        num_conv_pos_embeddings=config.positions,
        num_conv_pos_embedding_groups=config.position_groups,
        layer_norm_eps=config.epsilon,
        hidden_dropout=config.dropout,
        attention_dropout=config.attention_dropout,
        activation_dropout=config.activation_dropout,
        feat_proj_dropout=config.feature_dropout,
        # transformers leaves a dropped layer out of the hidden states.
        layerdrop=0.0 if config.features == "weighted" else config.layer_drop,
        apply_spec_augment=False,
        mask_time_prob=0.0,
        mask_feature_prob=0.0,
        **(own if config.family == "hubert" else {}),
    )
