"""The network of the compact lexical encoder: subwords -> a direction among emotions.

Convolutions, a Transformer layer where one is wanted, masked pooling, and beside them a linear part
in which each subword and each pair of neighbours speaks for emotions directly (wide and deep, Cheng
et al., arXiv 1606.07792).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotrace_models.encoders.prototypes import class_prototypes

PAD = 0
PAIR_DROPOUT = 0.2  # the share of pairs that training leaves out


@dataclass(frozen=True, slots=True)
class LexicalTowerConfig:
    """See CompactLexicalConfig."""

    vocabulary: int
    width: int
    heads: int
    kernel: int
    dropout: float
    convolutions: int
    transformer: bool
    pairs: int


class LexicalTower(nn.Module):
    def __init__(self, config: LexicalTowerConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.width, padding_idx=PAD)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        self.convolutions = nn.ModuleList(Convolution(config) for _ in range(config.convolutions))
        self.transformer = TransformerLayer(config) if config.transformer else None
        self.norm = nn.LayerNorm(config.width)
        self.attention = nn.Linear(config.width, 1)
        self.projection = nn.Linear(2 * config.width, config.width)
        self.dropout = SharedDropout(config.dropout)
        self.linear = LinearPart(config) if config.pairs else None

    def forward(self, ids: Tensor) -> Tensor:
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


class LinearPart(nn.Module):
    """Subwords [token] and pairs of neighbours, hashed -> their sum in the prototypes' frame.

    Divided by the root of the number of subwords, so that long texts do not shout.
    """

    frame: Tensor  # [emotion, width]

    def __init__(self, config: LexicalTowerConfig) -> None:
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

    def __init__(self, config: LexicalTowerConfig) -> None:
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

    def __init__(self, config: LexicalTowerConfig) -> None:
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
