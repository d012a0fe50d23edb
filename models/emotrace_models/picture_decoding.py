"""Encoded pictures to pixels, within limits. No torch: the server does this in a small process."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # [height, width, 3], red first; [height, width] where grey
Decode = Callable[[bytes | Pixels], Pixels]

FORMATS = ("JPEG", "PNG")
LARGEST_PIXELS = 16_000_000  # a 16-megapixel photograph; decoded it takes 48 MB

MOST_SCANS = 100  # a progressive JPEG has some ten; each goes over all of the picture
SCAN = b"\xff\xda"

_alone = threading.Lock()  # Python has one filter of warnings for all threads


class PictureUnreadable(ValueError):
    """An image that cannot be decoded, or may not be: too large, another format."""


def decode_picture(image: bytes | Pixels) -> Pixels:
    """Encoded or decoded image -> [height, width, 3] uint8, upright, red first.

    Raises PictureUnreadable, also for what Pillow only warns of. The size, and how often a JPEG
    would be gone over, are checked before any pixel is decoded.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise PictureUnreadable(f"pixels of shape {image.shape} {image.dtype}")
        return image
    try:
        with _alone, warnings.catch_warnings():
            warnings.simplefilter("error")
            return _decoded(image)
    except PictureUnreadable:
        raise
    except Exception as error:  # Pillow's decoders raise whatever the broken bytes lead them to
        raise PictureUnreadable(f"{len(image)} bytes that are no JPEG or PNG: {error}") from error


def _decoded(image: bytes) -> Pixels:
    from PIL import Image, ImageOps  # a server needs it in the confined process alone

    with Image.open(io.BytesIO(image), formats=FORMATS) as picture:
        width, height = picture.size
        if width * height > LARGEST_PIXELS:
            raise PictureUnreadable(f"{width} x {height} pixels, over {LARGEST_PIXELS}")
        if picture.format != "PNG" and image.count(SCAN) > MOST_SCANS:
            raise PictureUnreadable(f"a JPEG of more than {MOST_SCANS} scans")
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


class Seeing:
    """An encoder that looks at pictures. decode: as decode_picture, which whoever serves strangers
    replaces by one that decodes elsewhere."""

    decode: Decode = staticmethod(decode_picture)
