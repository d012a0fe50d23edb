"""Bytes that say they are a picture: decoded within limits, or refused by one error."""

from __future__ import annotations

import io
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from emotrace_models.picture_decoding import PictureUnreadable, Pixels, decode_picture

# A field of EXIF that announces more than there is: Pillow warns, and would go on.
LYING = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\xff\0\0\0\x1a\0\0\0\0\0\0\0"


def picture(seed: int, height: int = 20, width: int = 30) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(pixels: Pixels, kind: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def announcing(width: int, height: int) -> bytes:
    """A JPEG whose header says that it is larger than it is."""
    good = encoded(picture(1), "JPEG")
    at = good.index(b"\xff\xc0") + 5
    return good[:at] + struct.pack(">HH", height, width) + good[at + 4 :]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_encoded_and_plain_pixels_are_the_same_picture(kind: str) -> None:
    pixels = picture(3)
    found = decode_picture(encoded(pixels, kind, **({"quality": 100} if kind == "JPEG" else {})))
    assert found.shape == pixels.shape
    if kind == "PNG":
        np.testing.assert_array_equal(found, pixels)
    np.testing.assert_array_equal(decode_picture(pixels), pixels)


def test_a_photograph_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright, stored lying
    assert decode_picture(encoded(picture(3), "JPEG", exif=exif)).shape == (30, 20, 3)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_become_red_green_and_blue(mode: str) -> None:
    assert decode_picture(encoded(picture(3), "JPEG", mode)).shape == (20, 30, 3)


def test_a_mebibyte_of_exif_does_no_harm() -> None:
    plain = encoded(picture(3), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", 65_008) + b"Exif\0\0" + bytes(65_000)
    found = decode_picture(plain[:2] + 17 * segment + plain[2:])
    np.testing.assert_array_equal(found, decode_picture(plain))


def test_what_is_no_picture_is_refused_by_name() -> None:
    good = encoded(picture(1))
    bitmap = encoded(picture(1), "BMP")
    for bad in (b"", b"hello", good[:60], good[: len(good) // 2], bitmap):
        with pytest.raises(PictureUnreadable, match="no JPEG or PNG"):
            decode_picture(bad)
    with pytest.raises(PictureUnreadable, match=r"shape \(4, 4\) uint8"):
        decode_picture(np.zeros((4, 4), np.uint8))


def test_what_is_too_large_is_refused_by_its_header() -> None:
    large = encoded(np.zeros((4001, 4000, 3), np.uint8))
    with pytest.raises(PictureUnreadable, match="4000 x 4001 pixels, over 16000000"):
        decode_picture(large)
    with pytest.raises(PictureUnreadable, match="bomb"):
        decode_picture(announcing(65_535, 65_535))


def test_a_jpeg_is_not_gone_over_without_end() -> None:
    """Half a megabyte of scans that say nothing new would take minutes."""
    good = encoded(picture(1, 240, 320), "JPEG", progressive=True)
    last = good.rindex(b"\xff\xda")
    more, end = good[last:-2], good[-2:]
    assert decode_picture(good[:-2] + 80 * more + end).shape == (240, 320, 3)
    with pytest.raises(PictureUnreadable, match="more than 100 scans"):
        decode_picture(good[:-2] + 100 * more + end)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (announcing(9_500, 9_500), "bomb"),
        (encoded(picture(3), "JPEG", exif=LYING), "larger than file"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_pillow_warns_of_is_refused(bad: bytes, said: str) -> None:
    with pytest.raises(PictureUnreadable, match=said):
        decode_picture(bad)


@pytest.mark.filterwarnings("ignore")
def test_warnings_of_others_are_as_they_were_after_many_threads_decoded() -> None:
    before = list(warnings.filters)
    good = encoded(picture(1, 600, 800), "JPEG")  # so large that others run meanwhile
    bad = encoded(picture(3), "JPEG", exif=LYING)

    def refused(data: bytes) -> bool:
        try:
            decode_picture(data)
        except PictureUnreadable:
            return True
        return False

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(refused, [good, bad] * 80))
    assert answers == [False, True] * 80
    assert warnings.filters == before


@given(st.data())
def test_broken_bytes_never_raise_anything_else(data: st.DataObject) -> None:
    good = bytearray(encoded(picture(1, 8, 8), data.draw(st.sampled_from(["PNG", "JPEG"]))))
    for _ in range(data.draw(st.integers(1, 8))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode_picture(bytes(good))
    except PictureUnreadable:
        return
    assert found.dtype == np.uint8
    assert found.ndim == 3
