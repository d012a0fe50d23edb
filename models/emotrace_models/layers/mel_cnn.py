"""Two-dimensional CNN of a mel spectrogram: an image in, one feature vector a time step out.

Paper: cross-modal attention with Tucker, section 2 (kernel 3, batch norm, ReLU, 3 x 3 max-pooling
of stride 2, output 60 x 128); number and width of layers are ours (models.md section 7.2).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

POOLED_IN_TIME = 2  # the first blocks halve time as well as frequency


class MelCNN(nn.Module):
    """Convolution 3 x 3, batch norm, ReLU, pool; blocks after the second halve frequency only.

    Then the mean over frequency and adaptive averages over time.
    """

    def __init__(self, channels: tuple[int, ...], steps: int) -> None:
        super().__init__()
        self.steps = steps
        layers: list[nn.Module] = []
        for index, (narrow, wide) in enumerate(zip((1, *channels), channels, strict=False)):
            stride = (2, 2 if index < POOLED_IN_TIME else 1)
            layers += [
                nn.Conv2d(narrow, wide, 3, padding=1, bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU(),
                nn.MaxPool2d(3, stride, padding=1),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, mel: Tensor) -> Tensor:
        """[item, frame, band] -> [item, steps, last channel]."""
        image = self.layers(mel.mT.unsqueeze(1))  # [item, channel, band, frame]
        return F.adaptive_avg_pool1d(image.mean(2), self.steps).mT
