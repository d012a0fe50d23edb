"""Pictures as pixels: decoding with limits, cropping, scaling, and which frames count."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from emotrace_models.types import Frame

Pixels = NDArray[np.uint8]  # [height, width, 3], red first; [height, width] where grey

FORMATS = ("JPEG", "PNG")
LARGEST_PIXELS = 16_000_000  # a 16-megapixel photograph; decoded it takes 48 MB


class PictureUnreadable(ValueError):
    """An image that cannot be decoded, or may not be: too large, another format."""


def decode_picture(image: bytes | Pixels) -> Pixels:
    """Encoded or decoded image -> [height, width, 3] uint8, upright, red first.

    Raises PictureUnreadable. The size is checked before any pixel is decoded.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise PictureUnreadable(f"pixels of shape {image.shape} {image.dtype}")
        return image
    try:
        with Image.open(io.BytesIO(image), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > LARGEST_PIXELS:
                raise PictureUnreadable(f"{width} x {height} pixels, over {LARGEST_PIXELS}")
            upright = ImageOps.exif_transpose(picture).convert("RGB")
    except PictureUnreadable:
        raise
    except Exception as error:  # Pillow's decoders raise whatever the broken bytes lead them to
        raise PictureUnreadable(f"{len(image)} bytes that are no JPEG or PNG: {error}") from error
    return np.asarray(upright)


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
