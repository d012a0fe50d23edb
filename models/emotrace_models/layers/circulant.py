"""Circulant interaction of two vectors (Gong et al., CMC 2023, equations 7 to 9, after Wu & Han,
IJCAI 2018; models.md section 6.2).

Row i of circ(p) is p shifted right by i places. The matrix is never built: circ(p) q is a circular
cross-correlation. As the equations stand, the mean of the rows of circ(p), each times q, is
mean(p) q, one scalar times the other vector; `literal` keeps that for comparison.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

Circulant = Literal["corr_res", "corr", "literal"]
Form = Literal["fft", "gather"]


def circular_correlation(p: Tensor, q: Tensor, form: Form = "fft") -> Tensor:
    """out[i] = sum_j p[(j - i) mod d] q[j], of [..., d] each: circ(p) q.

    form: `fft`, in d log d, single precision at least; `gather`, the sum itself, in d * d.
    Exchanging p and q reverses the result: out[(-i) mod d].
    """
    return _fft(p, q) if form == "fft" else _gather(p, q)


class CirculantInteraction(nn.Module):
    """Two vectors of one width, each seen through the other:

        corr_res   LN(p + corr(p, q) / sqrt(d)),  LN(q + corr(q, p) / sqrt(d))     (ours)
        corr       corr(p, q) / sqrt(d),          corr(q, p) / sqrt(d)
        literal    mean(p) q,                     mean(q) p                        (as printed)

    In `corr` the second is the first read backwards, and in `literal` the streams change places.
    """

    def __init__(self, width: int, circulant: Circulant, form: Form) -> None:
        super().__init__()
        self.circulant, self.form = circulant, form
        self.scale = 1 / math.sqrt(width)  # unit variance stays unit variance
        if circulant == "corr_res":
            self.norm_p, self.norm_q = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(
        self, p: Tensor, q: Tensor, whole_p: Tensor, whole_q: Tensor
    ) -> tuple[Tensor, Tensor]:
        """p, q [..., d]; whole_q is what p meets and whole_p what q meets: the other vector, or of
        sequences the other's mean (shapes broadcast)."""
        if self.circulant == "literal":
            return p.mean(-1, keepdim=True) * whole_q, q.mean(-1, keepdim=True) * whole_p
        a = circular_correlation(p, whole_q, self.form) * self.scale
        s = circular_correlation(q, whole_p, self.form) * self.scale
        if self.circulant == "corr":
            return a, s
        return self.norm_p(p + a), self.norm_q(q + s)


def _fft(p: Tensor, q: Tensor) -> Tensor:
    # Half precision has no FFT of most lengths, and too few digits for its sums.
    with torch.autocast(p.device.type, enabled=False):
        p, q = (x if x.dtype == torch.float64 else x.float() for x in (p, q))
        spectrum = torch.fft.rfft(p).conj() * torch.fft.rfft(q)
        result: Tensor = torch.fft.irfft(spectrum, n=p.shape[-1])
    return result


def _gather(p: Tensor, q: Tensor) -> Tensor:
    place = torch.arange(p.shape[-1], device=p.device)
    rows = (place[None, :] - place[:, None]) % len(place)  # [i, j] = j - i
    return (p[..., rows] * q[..., None, :]).sum(-1)
