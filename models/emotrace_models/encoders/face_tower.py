"""The network of the face encoder: a grey face of 48 x 48 pixels -> a direction among emotions.

A ResNet (He et al., 2016) with a first convolution that halves the picture, then a linear map.
A face and its mirror image are one face: both are read, and the vectors added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from emotrace_models.encoders.pictures import scaled
from emotrace_models.layers.resnet import ResNet, ResNetConfig
from emotrace_models.picture_decoding import Pixels

SIDE = 48  # pixels, of FER2013's faces
GREY, CONTRAST = 127.5, 63.75  # what a pixel is taken from and divided by; as in resnet_frames


@dataclass(frozen=True, slots=True)
class FaceTowerConfig:
    """width: of the vectors. widths, blocks: of the stages. dropout: in training only."""

    width: int = 128
    widths: tuple[int, ...] = (32, 64, 96, 128)
    blocks: tuple[int, ...] = (1, 2, 2, 1)
    dropout: float = 0.1

    def network(self) -> ResNetConfig:
        return ResNetConfig(1, self.widths, self.blocks, "halving")


class FaceTower(nn.Module):
    def __init__(self, config: FaceTowerConfig) -> None:
        super().__init__()
        self.network = ResNet(config.network())
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.network.width, config.width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Grey pixels [face, 1, side, side] from 0 to 255 -> [face, width], of any length."""
        features = self.network((pixels - GREY) / CONTRAST)
        vectors: Tensor = self.head(self.dropout(features))
        return vectors

    def seen(self, pixels: Tensor) -> Tensor:
        """As forward, of each face and its mirror image together; unit vectors."""
        both = F.normalize(self(pixels), dim=-1) + F.normalize(self(pixels.flip(-1)), dim=-1)
        return F.normalize(both, dim=-1)


def grey_face(square: Pixels) -> Pixels:
    """A square picture of a face -> its levels [SIDE, SIDE]."""
    return scaled(square, SIDE, grey=True)[..., 0]


def equalised(grey: Pixels) -> Pixels:
    """The face [side, side] with every level as frequent as any other.

    FER2013's faces, as they are given away, have been equalised; so must be those of a camera.
    """
    below = np.bincount(grey.ravel(), minlength=256).cumsum()
    lowest = below[grey.min()]
    levels = (below - lowest) * (255.0 / max(1, grey.size - lowest))
    return np.asarray(levels.round().clip(0, 255).astype(np.uint8)[grey])
