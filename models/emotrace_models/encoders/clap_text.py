"""The text tower of CLAP (Wu et al., arXiv 2211.06687): RoBERTa, pooled and projected.

The network is transformers' ClapModel, which is LAION's (models.md section 2.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import ClapTextModelWithProjection

from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.encoders.clap_pretrained import clap_configs, clap_tower
from emotrace_models.encoders.subwords import (
    PAD,
    TOKENIZER,
    byte_tokenizer,
    roberta_tokenizer,
    words_said,
)
from emotrace_models.layers.masking import real_steps
from emotrace_models.registry import register
from emotrace_models.types import Modality, Utterance

STEPS = 16  # of the tokens

StepSource = Literal["pooled", "tokens", "projected"]


@dataclass(frozen=True, slots=True)
class ClapTextConfig:
    """The defaults are RoBERTa-base, as in 630k-audioset-best.pt. Raises ValueError.

    tokens: read of a text, the marks of its begin and end among them. positions: rows of the
    table, two more than tokens at least. projection: width of the vector.
    norm_eps: RoBERTa's; the public conversion's config says 1e-12, which changes every vector.
    step_source: `pooled`, one vector [projection] of length 1; `tokens`, the hidden states
        averaged to [16, width]; `projected`, those through the projection.
    """

    vocabulary: int = 50_265
    width: int = 768
    layers: int = 12
    heads: int = 12
    inner: int = 3_072
    positions: int = 514
    tokens: int = 77
    projection: int = 512
    norm_eps: float = 1e-5
    step_source: StepSource = "pooled"

    def __post_init__(self) -> None:
        sizes = ("vocabulary", "width", "layers", "heads", "inner", "projection")
        for name in sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        if self.tokens < 3:
            raise ValueError(f"tokens must be at least 3, begin and end included: {self.tokens}")
        if self.positions < self.tokens + PAD + 1:
            raise ValueError(f"positions {self.positions} are too few for tokens {self.tokens}")
        if self.norm_eps <= 0:
            raise ValueError(f"norm_eps must be above 0, not {self.norm_eps}")
        if self.step_source not in get_args(StepSource):
            raise ValueError(f"step_source must be one of {', '.join(get_args(StepSource))}")

    def network(self) -> transformers.ClapTextConfig:
        return transformers.ClapTextConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.inner,
            max_position_embeddings=self.positions,
            projection_dim=self.projection,
            layer_norm_eps=self.norm_eps,
            pad_token_id=PAD,
        )


@register("encoder", "clap_text")
class ClapText(NetworkEncoder):
    """Words -> a unit vector of CLAP's shared space, or tokens. Keeps no speaker state.

    Raises ValueError where the tokenizer is missing, unreadable or larger than the vocabulary.
    """

    modality: ClassVar[Modality] = Modality.LEXICAL
    config_type: ClassVar[type[ClapTextConfig]] = ClapTextConfig
    assets: ClassVar[tuple[str, ...]] = (TOKENIZER,)
    pads: ClassVar[bool] = True
    graphed: ClassVar[bool] = True

    def __init__(self, config: ClapTextConfig, assets: Mapping[str, bytes] | None = None) -> None:
        super().__init__(config, assets)
        self.config = config
        self.width = config.width if config.step_source == "tokens" else config.projection
        self.tokenizer = roberta_tokenizer(
            assets or {}, "clap_text", config.vocabulary, config.tokens
        )
        self.tower = ClapTextModelWithProjection(config.network())

    @classmethod
    def small(cls) -> tuple[ClapTextConfig, Mapping[str, bytes]]:
        tokenizer = byte_tokenizer()
        config = ClapTextConfig(
            vocabulary=tokenizer.get_vocab_size(),
            width=16,
            layers=1,
            heads=2,
            inner=32,
            positions=34,
            tokens=32,
            projection=16,
        )
        return config, {TOKENIZER: tokenizer.to_str().encode()}

    @classmethod
    def from_pretrained(cls, source: str | Path, **settings: Any) -> Self:
        """A ClapModel in Hugging Face layout: a folder, or a name such as laion/clap-htsat-unfused.

        settings: of ClapTextConfig that are no sizes (step_source, tokens). Raises ValueError for
        another architecture, OSError where there are no safetensors or no tokenizer to read.
        """
        theirs = clap_configs(source)[1]
        config = ClapTextConfig(
            vocabulary=theirs.vocab_size,
            width=theirs.hidden_size,
            layers=theirs.num_hidden_layers,
            heads=theirs.num_attention_heads,
            inner=theirs.intermediate_size,
            positions=theirs.max_position_embeddings,
            projection=theirs.projection_dim,
            **settings,
        )
        words = transformers.AutoTokenizer.from_pretrained(str(source))
        encoder = cls(config, {TOKENIZER: words.backend_tokenizer.to_str().encode()})
        encoder.tower = clap_tower(ClapTextModelWithProjection, source, config.network())
        return encoder.eval()

    def front(self, utterance: Utterance) -> NDArray[Any] | None:
        """Token ids [token]; None where there is nothing to read."""
        text = words_said(utterance)
        return np.array(self.tokenizer.encode(text).ids, dtype=np.int64) if text else None

    def forward(self, fronts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """fronts [item, token] ids -> features [item, step, width] and steps [item]."""
        real = real_steps(fronts.shape[1], lengths)
        read = self.tower.text_model(
            input_ids=fronts.masked_fill(~real, PAD), attention_mask=real.long()
        )
        if self.config.step_source == "pooled":
            vectors = self.tower.text_projection(read.pooler_output)
            return F.normalize(vectors, dim=-1)[:, None], torch.ones_like(lengths)
        tokens = _averaged(read.last_hidden_state, lengths)
        if self.config.step_source == "projected":
            tokens = self.tower.text_projection(tokens)
        return tokens, torch.full_like(lengths, STEPS)


def _averaged(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Adaptive averages of the real tokens: [item, token, width] -> [item, 16, width].

    Step s of n tokens is the mean of tokens floor(s n / 16) to ceil((s + 1) n / 16).
    """
    step = torch.arange(STEPS, device=hidden.device)
    first = step * lengths[:, None] // STEPS
    last = -(-(step + 1) * lengths[:, None] // STEPS)  # [item, step]
    token = torch.arange(hidden.shape[1], device=hidden.device)
    inside = (token >= first[..., None]) & (token < last[..., None])  # [item, step, token]
    shares = inside / inside.sum(-1, keepdim=True)
    return shares @ hidden
