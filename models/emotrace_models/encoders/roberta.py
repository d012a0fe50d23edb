"""RoBERTa (Liu et al., arXiv 1907.11692): one vector a token, from the last layer.

What MLCCT reads of a text (models.md section 6.1): `roberta-large`, the marks of begin and end
dropped, at most 128 tokens. The network is transformers' RobertaModel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, RobertaModel
from transformers import RobertaConfig as NetworkConfig

from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.encoders.pretrained import load_network
from emotrace_models.encoders.subwords import (
    MARKS,
    PAD,
    TOKENIZER,
    byte_tokenizer,
    roberta_tokenizer,
    words_said,
)
from emotrace_models.registry import register
from emotrace_models.types import Modality, Utterance


@dataclass(frozen=True, slots=True)
class RobertaConfig:
    """The defaults are roberta-large. Raises ValueError, which names the setting.

    tokens: read of a text, marks not counted. positions: rows of the table.
    inner: width between the two maps of a feed-forward part.
    """

    vocabulary: int = 50_265
    width: int = 1_024
    layers: int = 24
    heads: int = 16
    inner: int = 4_096
    positions: int = 514
    tokens: int = 128
    norm_eps: float = 1e-5
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("vocabulary", "width", "layers", "heads", "inner", "tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} does not divide width {self.width}")
        if self.positions < self.tokens + MARKS + PAD + 1:  # they count from PAD + 1
            raise ValueError(f"positions {self.positions} are too few for tokens {self.tokens}")
        if self.norm_eps <= 0:
            raise ValueError(f"norm_eps must be above 0, not {self.norm_eps}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to under 1, not {self.dropout}")

    def network(self) -> NetworkConfig:
        return NetworkConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.inner,
            max_position_embeddings=self.positions,
            type_vocab_size=1,
            layer_norm_eps=self.norm_eps,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            pad_token_id=PAD,
        )


@register("encoder", "roberta")
class Roberta(NetworkEncoder):
    """Raises ValueError where the tokenizer is missing, unreadable or larger than the vocabulary,
    or puts no marks around a text."""

    modality: ClassVar[Modality] = Modality.LEXICAL
    config_type: ClassVar[type[RobertaConfig]] = RobertaConfig
    assets: ClassVar[tuple[str, ...]] = (TOKENIZER,)
    pads: ClassVar[bool] = True
    graphed: ClassVar[bool] = True

    def __init__(self, config: RobertaConfig, assets: Mapping[str, bytes] | None = None) -> None:
        super().__init__(config, assets)
        self.config = config
        self.width = config.width
        self.tokenizer = roberta_tokenizer(
            assets or {}, "roberta", config.vocabulary, config.tokens + MARKS
        )
        self.network = RobertaModel(config.network(), add_pooling_layer=False)

    @classmethod
    def small(cls) -> tuple[RobertaConfig, Mapping[str, bytes]]:
        tokenizer = byte_tokenizer()
        config = RobertaConfig(
            vocabulary=tokenizer.get_vocab_size(),
            width=16,
            layers=2,
            heads=2,
            inner=32,
            positions=24,
            tokens=20,
        )
        return config, {TOKENIZER: tokenizer.to_str().encode()}

    @classmethod
    def from_pretrained(cls, source: str | Path, **settings: Any) -> Self:
        """A RoBERTa in Hugging Face layout: a folder, or a name such as roberta-large.

        settings: of RobertaConfig that are no sizes (tokens, dropout). Raises ValueError for
        another architecture, OSError where there are no safetensors or no tokenizer to read.
        """
        theirs = AutoConfig.from_pretrained(str(source))
        if not isinstance(theirs, NetworkConfig) or theirs.hidden_act != "gelu":
            raise ValueError(
                f"{source} is a {theirs.model_type}, not a RoBERTa; take roberta-large, "
                "roberta-base or a folder of that form"
            )
        sizes = {
            "vocabulary": theirs.vocab_size,
            "width": theirs.hidden_size,
            "layers": theirs.num_hidden_layers,
            "heads": theirs.num_attention_heads,
            "inner": theirs.intermediate_size,
            "positions": theirs.max_position_embeddings,
            "tokens": min(128, theirs.max_position_embeddings - MARKS - PAD - 1),
            "norm_eps": theirs.layer_norm_eps,
        }
        config = RobertaConfig(**{**sizes, **settings})
        words = AutoTokenizer.from_pretrained(str(source))
        encoder = cls(config, {TOKENIZER: words.backend_tokenizer.to_str().encode()})
        encoder.network = load_network(
            RobertaModel, source, config.network(), add_pooling_layer=False
        )
        return encoder.eval()

    def front(self, utterance: Utterance) -> NDArray[Any] | None:
        """Token ids [token], marks included; None where there is nothing to read."""
        text = words_said(utterance)
        if not text:
            return None
        ids = self.tokenizer.encode(text).ids
        return np.array(ids, dtype=np.int64) if len(ids) > MARKS else None

    def forward(self, fronts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """fronts [item, token] ids -> features [item, token, width] without the marks, tokens."""
        token = torch.arange(fronts.shape[1], device=fronts.device)
        real = token < lengths[:, None]
        hidden = self.network(
            input_ids=fronts.masked_fill(~real, PAD), attention_mask=real.long()
        ).last_hidden_state
        inside = token[:-MARKS] < (lengths - MARKS)[:, None]
        return hidden[:, 1:-1].masked_fill(~inside[..., None], 0.0), lengths - MARKS
