"""Attention between two streams, with its maps: models.md sections 6.3, 6.4 and 8 (MulT).

A map is [batch, head, query, key], and zero where a key does not count. Where no key counts, what
is read is zero. The maps W_Q, W_K, W_V have no bias, as in the paper's equations 10 and 11.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from emotrace_models.layers.masking import masked_softmax


class Attention(nn.Module):
    """Multi-head attention of the steps of `x` over the steps of `source`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """x [batch, query, width], source [batch, key, width], mask [batch, key] of the keys that
        count -> [batch, query, width] and the map."""
        q, k, v = (
            part(y).view(*y.shape[:2], self.heads, -1).transpose(1, 2)
            for part, y in ((self.query, x), (self.key, source), (self.value, source))
        )
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        weights = masked_softmax(scores, mask[:, None, None])
        read: Tensor = self.out((weights @ v).transpose(1, 2).flatten(2))
        return read, weights


class FeatureAttention(nn.Module):
    """Attention whose tokens are the features of a vector, one channel each (equations 10, 11 read
    as a stack of rows): softmax over j of Q_i K_j / sqrt(d_h), times V_j, within each head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """x, source [batch, width] -> [batch, width] and the map [batch, head, d_h, d_h]."""
        q, k, v = (
            part(y).view(len(y), self.heads, -1)
            for part, y in ((self.query, x), (self.key, source), (self.value, source))
        )
        weights = (q[..., :, None] * k[..., None, :] / math.sqrt(q.shape[-1])).softmax(-1)
        read: Tensor = self.out((weights @ v[..., None]).flatten(1))
        return read, weights


class FeatureBlock(nn.Module):
    """RCTB on vectors: feature attention and a feed-forward part, residuals, norms after."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = FeatureAttention(width, heads)
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inner = feed_forward(width, nn.GELU(), dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, source: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """x, source [batch, width], present [batch]: of the source; an absent one is not read."""
        read, weights = self.attention(x, source)
        x = self.attention_norm(x + self.dropout(read) * present[:, None])
        return self.norm(x + self.inner(x)), weights * present[:, None, None, None]


class SelfBlock(nn.Module):
    """A standard encoder layer: self-attention, feed-forward part, norms after the residuals."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inner = feed_forward(width, nn.GELU(), dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """x [batch, step, width], mask [batch, step] -> the shape of x, and the map."""
        read, weights = self.attention(x, x, mask)
        x = self.attention_norm(x + self.dropout(read))
        return self.norm(x + self.inner(x)), weights


class CrossModalLayer(nn.Module):
    """MulT's (Tsai et al., ACL 2019): norms first, ReLU, the same source at every layer."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.norm_x, self.norm_source = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm = nn.LayerNorm(width)
        self.inner = feed_forward(width, nn.ReLU(), dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """x [batch, query, width], source [batch, key, width], mask [batch, key]."""
        read, weights = self.attention(self.norm_x(x), self.norm_source(source), mask)
        # The output's bias would else be read where there is nothing.
        present = mask.any(1)[:, None, None]
        x = x + self.dropout(read) * present
        return x + self.inner(self.norm(x)), weights


def feed_forward(width: int, activation: nn.Module, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, 4 * width),
        activation,
        nn.Dropout(dropout),
        nn.Linear(4 * width, width),
        nn.Dropout(dropout),
    )
