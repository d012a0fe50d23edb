"""What TERA's spectra are altered by before they are to be restored: in time, in frequency, in
magnitude (Liu, Li & Lee, arXiv 2007.06028, section III; the amounts are s3prl's)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Alteration:
    """share: of the frames of an item, altered in runs of `run`. Of the items, `zeroed` have those
    frames at zero, `swapped` have other frames of their own there, the rest have them as they were.
    widest: the share of all bands that the zeroed block of bands may span.
    noisy: share of the items with noise of deviation `noise`, which nothing is restored for.
    """

    share: float = 0.15
    run: int = 7
    zeroed: float = 0.8
    swapped: float = 0.1
    widest: float = 0.2
    noisy: float = 0.15
    noise: float = 0.2


def alter(
    fronts: Tensor, lengths: Tensor, alteration: Alteration, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """fronts [item, frame, band], lengths [item] of real frames -> what the network is shown, and
    which cells it is to restore (bool), both of that shape; padding is never among them."""
    shown, asked = fronts.clone(), torch.zeros(fronts.shape, dtype=torch.bool)
    bands = fronts.shape[2]

    def below(limit: int, count: int) -> Tensor:
        return torch.randint(limit, (count,), generator=generator)

    for item, length in enumerate(lengths.tolist()):
        dice, loud = torch.rand(2, generator=generator).tolist()
        run = min(alteration.run, length)
        count = max(1, round(length * alteration.share / run))
        frames = _runs(below(length - run + 1, count), run)
        if dice < alteration.zeroed:
            shown[item, frames] = 0.0
        elif dice < alteration.zeroed + alteration.swapped:
            shown[item, frames] = fronts[item, _runs(below(length - run + 1, count), run)]
        asked[item, frames] = True
        width = int(below(int(bands * alteration.widest) + 1, 1))
        first = int(below(bands - width + 1, 1))
        shown[item, :length, first : first + width] = 0.0
        asked[item, :length, first : first + width] = True
        if loud < alteration.noisy:
            noise = torch.randn(length, bands, generator=generator)
            shown[item, :length] += alteration.noise * noise
    return shown, asked


def _runs(starts: Tensor, run: int) -> Tensor:
    """The frames of runs that begin at `starts`."""
    return (starts[:, None] + torch.arange(run)).flatten()
