"""How far a picture of a face can be trusted, and what was seen of one, which users are told."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from emotrace_models.encoders.faces import FaceBox
from emotrace_models.picture_decoding import Pixels

# Below the first number a face is not used at all, from the second on it counts in full.
SIDE = (20.0, 56.0)  # pixels of the face in the picture
SHARPNESS = (0.004, 0.03)
ROUNDING = 20 / 12  # variance that whole numbers add to the Laplacian
CONTRAST = (6.0, 20.0)  # standard deviation of its levels
AHEAD = (0.15, 0.5)


@dataclass(frozen=True, slots=True)
class FaceSight:
    """What was seen of a speaker's face in one utterance, in pictures.

    looked_at: of those that came, evenly spread. used: with a face that counts at least a little.
    The others by reason: unreadable, no face (or somebody else's), too small, blurred, in bad
    light (no contrast), turned away.
    """

    looked_at: int = 0
    used: int = 0
    unreadable: int = 0
    no_face: int = 0
    small: int = 0
    blurred: int = 0
    badly_lit: int = 0
    turned: int = 0

    def having(self, reason: str) -> FaceSight:
        """With one more picture, used or left out for this reason (a field's name)."""
        more = {name: getattr(self, name) + 1 for name in ("looked_at", reason)}
        return replace(self, **more)


@dataclass(frozen=True, slots=True)
class FaceQuality:
    """weight: from 0 to 1, continuous in the picture. reason: a field of FaceSight, by which the
    picture counts: `used`, or what its weight is 0 for."""

    weight: float
    reason: str


def quality(box: FaceBox, grey: Pixels) -> FaceQuality:
    """grey: the face [side, side], before its levels are equalised."""
    shares = {
        "small": _share(box.side, SIDE),
        "badly_lit": _share(float(grey.std()), CONTRAST),
        "blurred": _share(sharpness(grey), SHARPNESS),
        "turned": _share(box.ahead, AHEAD),
    }
    failed = next((name for name, share in shares.items() if share == 0.0), "used")
    return FaceQuality(float(np.prod(list(shares.values()))), failed)


def sharpness(grey: Pixels) -> float:
    """Variance of the Laplacian over that of the levels: blur lowers it, and contrast does not."""
    levels = grey.astype(np.float32)
    across = levels[1:-1, :-2] + levels[1:-1, 2:]
    laplacian = levels[:-2, 1:-1] + levels[2:, 1:-1] + across - 4 * levels[1:-1, 1:-1]
    return max(0.0, float(laplacian.var()) - ROUNDING) / max(1.0, float(levels.var()))


def _share(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return min(1.0, max(0.0, (value - low) / (high - low)))
