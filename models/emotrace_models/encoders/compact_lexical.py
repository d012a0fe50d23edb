"""Compact lexical tower: the words of an utterance -> a unit vector in the shared emotion space.

Subwords, convolutions, a Transformer layer where one is wanted, masked pooling, and beside them a
linear part in which each subword and each pair of neighbours speaks for emotions directly (wide and
deep, Cheng et al., arXiv 1606.07792). It is trained against the same class prototypes as the
acoustic tower (in the manner of CLAP, arXiv 2211.06687, with emotions in the place of captions), so
that vectors of both towers can be compared.

Only the first `tokens` subwords of the first `CHARACTERS` characters are read. Words of a language
that the tower was not trained on give no vector: see `reads`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotrace_models.encoders.base import Encoder, SpeakerState
from emotrace_models.encoders.prototypes import class_prototypes, in_frame
from emotrace_models.encoders.subwords import (
    TOKENIZER,
    byte_tokenizer,
    primary_language,
    readable,
    tokenizer_of,
)
from emotrace_models.registry import register
from emotrace_models.types import FloatArray, Modality, Transcript, Utterance

PAD = 0
LETTERS = 12  # fewer say too little of the language that they are in
UNDETERMINED = "und"  # BCP 47's tag for a language that nobody determined
PAIR_DROPOUT = 0.2  # the share of pairs that training leaves out
SPACE = "\u0120"  # how byte-level subwords write the space before a word


@dataclass(frozen=True, slots=True)
class CompactLexicalConfig:
    """vocabulary: subwords and padding. tokens: subwords read. dropout: in training only.

    convolutions: how many. transformer: whether a layer of it follows them.
    pairs: rows of the table that pairs of subwords are hashed into; 0: no linear part.
    languages: primary subtags of BCP 47 of the languages that the tower was trained on.
    cut: the largest share of a text's words that the tokenizer may cut into pieces where nobody
    says what language it is in; 1: any text is read.
    centred: see prototypes.in_frame.
    """

    vocabulary: int = 8_192
    width: int = 128
    heads: int = 4
    kernel: int = 3
    tokens: int = 64
    dropout: float = 0.3
    convolutions: int = 2
    transformer: bool = True
    pairs: int = 0
    languages: tuple[str, ...] = ("en",)
    cut: float = 1.0
    centred: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "languages", tuple(self.languages))  # a list in JSON
        if self.width % 8:
            raise ValueError(f"width {self.width} is no multiple of 8, as the prototypes need")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {self.kernel}")
        if min(self.vocabulary, self.width, self.heads, self.kernel, self.tokens) < 1:
            raise ValueError("vocabulary, width, heads, kernel and tokens must be positive")
        if self.convolutions < 0 or self.pairs < 0 or self.pairs == 1:
            raise ValueError("convolutions must not be negative, pairs 0 or more than 1")
        if not 0 <= self.cut <= 1:
            raise ValueError(f"cut is a share, from 0 to 1, not {self.cut}")
        if not self.languages:
            raise ValueError("languages must name at least one")


@register("encoder", "compact_lexical")
class CompactLexical(Encoder):
    """Keeps nothing of a speaker: its state is None.

    Raises ValueError where the tokenizer is missing, unreadable or larger than the vocabulary.
    """

    modality: ClassVar[Modality] = Modality.LEXICAL
    config_type: ClassVar[type[CompactLexicalConfig]] = CompactLexicalConfig
    assets: ClassVar[tuple[str, ...]] = (TOKENIZER,)

    def __init__(
        self, config: CompactLexicalConfig, assets: Mapping[str, bytes] | None = None
    ) -> None:
        super().__init__(config, assets)
        self.config = config
        self.width = config.width
        self.tokenizer = tokenizer_of(assets or {}, "compact_lexical", config.vocabulary, besides=1)
        self.embedding = nn.Embedding(config.vocabulary, config.width, padding_idx=PAD)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        self.convolutions = nn.ModuleList(Convolution(config) for _ in range(config.convolutions))
        self.transformer = TransformerLayer(config) if config.transformer else None
        self.norm = nn.LayerNorm(config.width)
        self.attention = nn.Linear(config.width, 1)
        self.projection = nn.Linear(2 * config.width, config.width)
        self.dropout = SharedDropout(config.dropout)
        self.linear = LinearPart(config) if config.pairs else None

    @classmethod
    def small(cls) -> tuple[CompactLexicalConfig, Mapping[str, bytes]]:
        config = CompactLexicalConfig(vocabulary=512, width=16, heads=2, tokens=16)
        return config, {TOKENIZER: byte_tokenizer().to_str().encode()}

    def start(self) -> SpeakerState:
        return None

    def tokenize(self, text: str) -> list[int]:
        """Subword ids, at most `tokens`; empty where there is nothing to read."""
        clean = readable(text)
        ids = self.tokenizer.encode(clean).ids[: self.config.tokens] if clean else []
        return [i + 1 for i in ids]  # 0 is padding, which no text can spell

    def reads(self, transcript: Transcript) -> bool:
        """Whether a vector of these words would mean anything.

        Where the transcript states a language, it must be one of the tower's (`en-GB` is `en`).
        Where it states none, the tokenizer tells: its subwords were learnt on the tower's
        languages, so it has to cut most words of another one into pieces. Texts of fewer than
        LETTERS letters and digits are too short to tell, and pass.
        """
        language = primary_language(transcript.language or UNDETERMINED)
        if language != UNDETERMINED:
            return language in self.config.languages
        text = readable(transcript.text)
        if self.config.cut == 1 or sum(c.isalnum() for c in text) < LETTERS:
            return True
        encoded = self.tokenizer.encode(text)
        pieces = Counter(
            word
            for word, piece in zip(encoded.word_ids, encoded.tokens, strict=True)
            if any(c.isalnum() for c in piece.strip(SPACE))
        )
        cut = sum(count > 1 for count in pieces.values())
        return bool(cut <= self.config.cut * len(pieces))

    def forward(self, ids: Tensor) -> Tensor:
        """Unit vectors [batch, width] of `raw`."""
        return F.normalize(self.raw(ids), dim=-1)

    def raw(self, ids: Tensor) -> Tensor:
        """ids [batch, token] int64, PAD on the right, at least one real token a row.

        Gives vectors [batch, width] of any length.
        """
        mask = ids != PAD  # [batch, token]
        x = self.dropout(self.embedding(ids))
        for convolution in self.convolutions:
            x = convolution(x, mask)
        if self.transformer is not None:
            x = self.transformer(x, mask)
        x = self.norm(x)
        hidden = ~mask.unsqueeze(-1)
        weights = self.attention(x).masked_fill(hidden, -math.inf).softmax(dim=1)
        pooled = torch.cat(
            [(weights * x).sum(dim=1), x.masked_fill(hidden, -math.inf).amax(dim=1)], dim=-1
        )
        vectors: Tensor = self.projection(self.dropout(pooled)).float()
        return vectors if self.linear is None else vectors + self.linear(ids)

    @torch.inference_mode()
    def encode(
        self, items: Sequence[tuple[SpeakerState, Utterance]]
    ) -> list[tuple[FloatArray | None, SpeakerState]]:
        results: list[tuple[FloatArray | None, SpeakerState]] = [(None, s) for s, _ in items]
        tokens = {
            i: ids
            for i, (_, utterance) in enumerate(items)
            if utterance.transcript is not None
            and self.reads(utterance.transcript)
            and (ids := self.tokenize(utterance.transcript.text))
        }
        if tokens:
            found = self(padded(list(tokens.values())))
            vectors = in_frame(found, self.config.centred).numpy()
            for row, i in enumerate(tokens):
                results[i] = (vectors[row].copy(), items[i][0])
        return results


class LinearPart(nn.Module):
    """Subwords [token] and pairs of neighbours, hashed -> their sum in the prototypes' frame.

    Divided by the root of the number of subwords, so that long texts do not shout.
    """

    frame: Tensor  # [emotion, width]

    def __init__(self, config: CompactLexicalConfig) -> None:
        super().__init__()
        frame = class_prototypes(config.width)
        self.rows = config.pairs
        self.singles = nn.EmbeddingBag(config.vocabulary, len(frame), mode="sum", padding_idx=PAD)
        self.pairs = nn.EmbeddingBag(config.pairs, len(frame), mode="sum", padding_idx=PAD)
        nn.init.zeros_(self.singles.weight)
        nn.init.zeros_(self.pairs.weight)
        self.register_buffer("frame", frame, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """ids [batch, token] -> [batch, width]."""
        first, second = ids[:, :-1], ids[:, 1:]
        hashed = 1 + (first * 104_729 + second * 7_919) % (self.rows - 1)
        pairs = torch.where(second == PAD, PAD, hashed)
        if self.training:
            pairs = torch.where(torch.rand(pairs.shape) < PAIR_DROPOUT, PAD, pairs)
        length = (ids != PAD).sum(dim=1, keepdim=True).sqrt()
        said = self.singles(ids)
        if pairs.shape[1]:
            said = said + self.pairs(pairs)
        added: Tensor = said / length @ self.frame
        return added


class SharedDropout(nn.Module):
    """Dropout with one mask for all tokens of a text (Gal & Ghahramani, arXiv 1512.05287)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, token, width] or [batch, width]."""
        if not self.training or self.share == 0:
            return x
        mask = torch.rand(x.shape[0], *[1] * (x.ndim - 2), x.shape[-1]) >= self.share
        return x * mask / (1 - self.share)


class Convolution(nn.Module):
    """x + ReLU(conv(LN(x))), with padding held at zero so that it changes nothing."""

    def __init__(self, config: CompactLexicalConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.conv = nn.Conv1d(config.width, config.width, config.kernel, padding="same")
        self.dropout = SharedDropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        inner = self.norm(x) * mask.unsqueeze(-1)
        y: Tensor = self.conv(inner.transpose(1, 2)).transpose(1, 2)
        added: Tensor = self.dropout(F.relu(y))
        return x + added


class TransformerLayer(nn.Module):
    """Pre-norm self-attention and feed-forward; order comes from the convolutions before it."""

    def __init__(self, config: CompactLexicalConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.ReLU(),
            nn.Linear(4 * width, width),
        )
        self.dropout = SharedDropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [batch, head, token, dim]
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        shares = scores.masked_fill(~mask[:, None, None, :], -math.inf).softmax(dim=-1)
        mixed = shares @ value
        x = x + self.dropout(self.out(mixed.transpose(1, 2).reshape(batch, length, width)))
        fed: Tensor = self.dropout(self.feed(x))
        return x + fed


def padded(rows: Sequence[Sequence[int]], multiple: int = 1) -> Tensor:
    """Rows of subword ids -> ids [batch, token], PAD on the right to a multiple of `multiple`."""
    length = -(-max(len(row) for row in rows) // multiple) * multiple
    return torch.tensor([[*row, *[PAD] * (length - len(row))] for row in rows], dtype=torch.int64)
