"""Deep pyramid CNN over the rows of an image (Yu et al., Electronics 2024; models.md section 4.2).

A first convolution reads three whole rows at a time; after it every level halves the height.
"""

from __future__ import annotations

from torch import Tensor, cat, nn
from torch.nn import functional

KERNEL = 3  # rows, of convolutions and of the pooling between levels


class DPCNN(nn.Module):
    """An image [batch, step, feature] to one vector of `filters`, and the steps of all levels.

    features: of a step. share_weights: one convolution at every depth (the released code; the
    original DPCNN has its own at each). first_shortcut: also around the first pair.
    """

    def __init__(
        self, steps: int, features: int, filters: int, share_weights: bool, first_shortcut: bool
    ) -> None:
        """Raises ValueError where the image has fewer steps than the kernel."""
        super().__init__()
        self.heights = heights(steps)
        self.first_shortcut = first_shortcut
        self.width = filters
        # As wide as the image, so the published 2-D convolution is one over steps.
        self.region = nn.Conv1d(features, filters, KERNEL)
        distinct = 1 if share_weights else 2 * len(self.heights)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(filters, filters, KERNEL, padding=1) for _ in range(distinct)
        )

    def head(self, width: int) -> nn.Module:
        """The published layer behind the vector."""
        return nn.Linear(self.width, width)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, step, feature] -> steps [batch, step, filters], vector [batch, filters].

        The steps are every level's, `heights` of them, from fine to coarse.
        """
        below = self.region(image.transpose(1, 2))  # [batch, filters, height]
        levels: list[Tensor] = []
        for level in range(len(self.heights)):
            if level:
                below = functional.max_pool1d(levels[-1], KERNEL, stride=2)
            shortcut = level > 0 or self.first_shortcut
            x = self._pair(below, level)
            levels.append(x + below if shortcut else x)
        # A height of 2 or 1 remains.
        return cat(levels, dim=2).transpose(1, 2), levels[-1].amax(2)

    def _pair(self, x: Tensor, level: int) -> Tensor:
        for place in (2 * level, 2 * level + 1):
            x = self.convolutions[place % len(self.convolutions)](x.relu())
        return x


def heights(steps: int) -> tuple[int, ...]:
    """The height of each level for an image of `steps` rows. Raises ValueError under 3 rows."""
    if steps < KERNEL:
        raise ValueError(f"an image of {steps} steps is smaller than the kernel of {KERNEL}")
    found = [steps - KERNEL + 1]
    while found[-1] > 2:
        found.append((found[-1] - KERNEL) // 2 + 1)
    return tuple(found)
