"""A learned Tucker projection of two aligned sequences, and its bilinear read-outs.

Paper: cross-modal attention with Tucker and factorised bilinear pooling, appendix A; models.md
sections 7.5 and 7.6. The outer product X[t, i, j] = A[t, i] V[t, j] is rank one in every step, so
its mode products factor, and neither X nor (for most read-outs) the core is ever built.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

ROOT_EPSILON = 1e-12  # the root's gradient is infinite at 0


class TuckerProjection(nn.Module):
    """Core G = X x_time T' x_audio P' x_video R', factored: no bias, no non-linearity.

    time T [step, rank], audio P and video R [width, rank]: at first with orthonormal columns, which
    `orthogonal` keeps them to while they are trained. Raises ValueError for a rank over its size.
    """

    time: Tensor
    audio: Tensor
    video: Tensor

    def __init__(
        self, steps: int, widths: tuple[int, int], ranks: tuple[int, int, int], orthogonal: bool
    ) -> None:
        super().__init__()
        sizes = (steps, *widths)
        for name, size, rank in zip(("time", "audio", "video"), sizes, ranks, strict=True):
            if not 1 <= rank <= size:
                raise ValueError(f"{name} rank must be from 1 to {size}, not {rank}")
            factor = nn.Parameter(torch.empty(size, rank))
            nn.init.orthogonal_(factor)
            self.register_parameter(name, factor)
            if orthogonal:
                parametrizations.orthogonal(self, name)

    def forward(self, audio: Tensor, video: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, step, width] each -> A P and V R, [batch, step, rank] each."""
        return audio @ self.audio, video @ self.video

    def core(self, audio: Tensor, video: Tensor) -> Tensor:
        """Projected [batch, step, rank] each -> G [batch, time rank, audio rank, video rank],
        G[k, c, d] = sum_t T[t, k] A'[t, c] V'[t, d].
        """
        rows = torch.einsum("tk,btc->bkct", self.time, audio)
        return (rows.flatten(1, 2) @ video).view(*rows.shape[:3], -1)

    def energy(self, audio: Tensor, video: Tensor) -> Tensor:
        """|G_k|, Frobenius, [batch, time rank], from the step-by-step products alone:
        |G_k|^2 = sum_{t,u} T[t, k] T[u, k] (A' A'^T)[t, u] (V' V'^T)[t, u].
        """
        alike = (audio @ audio.mT) * (video @ video.mT)
        return torch.einsum("tk,btu,uk->bk", self.time, alike, self.time).clamp(min=0.0).sqrt()


class CoreFBP(nn.Module):
    """Factorised bilinear pooling of the core: each output is a sum of `factors` trilinear forms.

    p_j = sum_{k,c,d} C[k, j] U[c, j] W[d, j] G[k, c, d]
        = sum_t (T C)[t, j] (A' U)[t, j] (V' W)[t, j], which never builds G
    """

    def __init__(self, ranks: tuple[int, int, int], outputs: int, factors: int) -> None:
        super().__init__()
        self.factors = factors
        self.time, self.audio, self.video = (_columns(rank, outputs * factors) for rank in ranks)

    def terms(self, tucker: TuckerProjection, audio: Tensor, video: Tensor) -> Tensor:
        """Projected [batch, step, rank] each -> the terms of p, [batch, step, output * factor]."""
        return (tucker.time @ self.time) * (audio @ self.audio) * (video @ self.video)

    def pool(self, terms: Tensor) -> Tensor:
        """Terms -> z [batch, output]."""
        return terms.sum(1).view(len(terms), -1, self.factors).sum(-1)

    def forward(self, tucker: TuckerProjection, audio: Tensor, video: Tensor) -> Tensor:
        return self.pool(self.terms(tucker, audio, video))


class MarginalFBP(nn.Module):
    """Factorised bilinear pooling of two margins of the core: x, its mean over time and video
    ranks, and y, its mean over time and audio ranks. z_o = sum_f (u_of . x)(w_of . y).
    """

    def __init__(self, ranks: tuple[int, int, int], outputs: int, factors: int) -> None:
        super().__init__()
        self.factors = factors
        self.audio, self.video = (_columns(rank, outputs * factors) for rank in ranks[1:])

    def forward(self, tucker: TuckerProjection, audio: Tensor, video: Tensor) -> Tensor:
        weights = tucker.time.mean(1)  # [step]
        x = torch.einsum("t,btc,bt->bc", weights, audio, video.mean(-1))
        y = torch.einsum("t,bt,btd->bd", weights, audio.mean(-1), video)
        product = (x @ self.audio) * (y @ self.video)
        return product.view(len(product), -1, self.factors).sum(-1)


class FlatCore(nn.Module):
    """A plain linear map of the whole core; only for small ranks.

    Raises ValueError where it would have more than `LARGEST` weights.
    """

    LARGEST = 4_000_000

    def __init__(self, ranks: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        size = math.prod(ranks)
        if size * outputs > self.LARGEST:
            raise ValueError(
                f"readout flatten of ranks {ranks} has {size * outputs} weights; lower the ranks "
                "or take core_fbp"
            )
        self.linear = nn.Linear(size, outputs)

    def forward(self, tucker: TuckerProjection, audio: Tensor, video: Tensor) -> Tensor:
        z: Tensor = self.linear(tucker.core(audio, video).flatten(1))
        return z


def signed_root(z: Tensor) -> Tensor:
    """sign(z) sqrt(|z|), with a finite gradient at 0; at least float32, which has room for it."""
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    return z.sign() * (z.abs() + ROOT_EPSILON).sqrt()


def pooled_unit(z: Tensor) -> Tensor:
    """Signed square root, then the unit vector of each row [..., output]."""
    return F.normalize(signed_root(z), dim=-1)


def _columns(rank: int, count: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(rank, count) / math.sqrt(rank))
