"""Pictures as pixels: cropping, scaling, and which frames count."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import cast

import numpy as np
from PIL import Image

from emotrace_models.picture_decoding import Pixels
from emotrace_models.types import Frame


def centre_square(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def scaled(pixels: Pixels, size: int, grey: bool) -> Pixels:
    """A square picture -> [size, size, 3], or [size, size, 1] where grey; smoothed when shrunk."""
    picture = Image.fromarray(pixels)
    if grey:
        picture = picture.convert("L")
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    return cast(Pixels, np.asarray(picture).reshape(size, size, 1 if grey else 3))


def resized_to(pixels: Pixels, height: int, width: int) -> Pixels:
    """Stretched to another size; smoothed when shrunk."""
    size = (width, height)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def spread(frames: Sequence[Frame], start: int, end: int, window: int, count: int) -> list[int]:
    """Which of `frames` (in order of time, at least one) stand at `count` moments spread evenly
    over a window of `window` samples: its middle ones where [start, end) is longer.

    At each moment it is the newest frame there, else the first. So a short clip repeats its last
    frame, and 90 frames of three seconds at 30 a second are each taken once. A moment is a quarter
    of the way to the next one, far from where frames of 30 and of 60 a second change.
    """
    first = start + max(0, end - start - window) // 2
    taken = [frame.sample for frame in frames]
    moments = (first + (4 * i + 1) * window // (4 * count) for i in range(count))
    return [max(0, bisect_right(taken, moment) - 1) for moment in moments]
