"""One fixed direction an emotion: the frame that every compact tower is trained against.

The acoustic and the lexical tower share these directions, so vectors of both modalities (and of
members trained on different speakers) lie in one space, as in CLAP (arXiv 2211.06687), with
emotions in the place of captions.

The frame is exact and needs no seed: the rows of the 8 x 8 Hadamard matrix, repeated. So every
block of eight coordinates holds the whole frame, and a fusion model that reads a vector in pieces
finds all emotions in each piece.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

EMOTIONS = (
    "anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise", "boredom",
)  # fmt: skip

# Orthogonal rows: Hadamard's matrix, by Sylvester.
SIGNS = torch.tensor(
    [[(-1.0) ** (row & column).bit_count() for column in range(8)] for row in range(8)]
)
_MERGES = {"calm": "neutral", "excitement": "happiness"}


def prototype_index(label: str) -> int | None:
    """The row of a canonical label's prototype, or None where it has none."""
    name = _MERGES.get(label, label)
    return EMOTIONS.index(name) if name in EMOTIONS else None


def class_prototypes(width: int) -> Tensor:
    """Orthonormal rows [8, width], in the order of EMOTIONS.

    Raises ValueError where width is no multiple of 8.
    """
    size = len(EMOTIONS)
    if width < size or width % size:
        raise ValueError(f"prototypes need a width that is a multiple of {size}, not {width}")
    scale: float = width**-0.5
    return SIGNS.repeat(1, width // size) * scale


def in_frame(vectors: Tensor) -> Tensor:
    """What vectors [..., width] say of one emotion against the others, at unit length.

    Towers that were fitted apart agree in that alone. Outside the frame each has directions of its
    own, and inside it a softmax is blind to what all prototypes have in common, so towers come to
    lie anywhere along it. Both would mean nothing to a fusion model that was fitted beside another
    tower. Nearest prototypes stay what they are. Raises ValueError where width is no multiple of 8.
    """
    frame = class_prototypes(vectors.shape[-1])
    cosines = vectors @ frame.T
    cosines = cosines - cosines.mean(dim=-1, keepdim=True)
    return F.normalize(cosines @ frame, dim=-1)
