"""Pictures of speakers: what counts for an utterance, and what is kept."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image

from emotrace_models.types import Frame, Utterance
from emotrace_service.pictures import (
    MOST,
    MOST_BYTES,
    PictureInvalid,
    Pictures,
    decoded_jpeg,
    jpeg_size,
)


def jpeg(width: int, height: int, before: bytes = b"\xff\xe0\0\x04JF") -> bytes:
    """As far as the header of its frame. before: markers that come first."""
    frame = b"\xff\xc0\0\x11\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return b"\xff\xd8" + before + frame + b"\x03 and so on"


JPEG = jpeg(640, 480)
SECOND = 16_000


def said(start_s: float, end_s: float, speaker: str = "A") -> Utterance:
    return Utterance(0, speaker, int(start_s * SECOND), int(end_s * SECOND), None)


def seconds(pictures: Pictures, utterance: Utterance) -> list[float]:
    return [frame.sample / SECOND for frame in pictures.of(utterance)]


def test_pictures_from_a_second_before_to_the_end_count() -> None:
    pictures = Pictures()
    for second in range(8):
        pictures.push("A", Frame(second * SECOND, JPEG))
        pictures.push("B", Frame(second * SECOND, JPEG))
    assert seconds(pictures, said(3, 5)) == [2, 3, 4, 5]
    assert seconds(pictures, said(3, 5, "nobody")) == []
    pictures.forget(said(3, 5))
    assert seconds(pictures, said(0, 9)) == [4, 5, 6, 7]
    assert seconds(pictures, said(0, 9, "B")) == list(range(8))


def test_what_is_kept_is_bounded() -> None:
    pictures = Pictures()
    for sample in range(MOST + 5):
        pictures.push("A", Frame(sample, JPEG))
    kept = pictures.of(said(0, 1))
    assert (len(kept), kept[0].sample) == (MOST, 5)
    large = bytes(MOST_BYTES // 4)
    for sample in range(8):
        pictures.push("B", Frame(sample, large))
    both = [*pictures.of(said(0, 1)), *pictures.of(said(0, 1, "B"))]
    assert sum(len(frame.image) for frame in both) <= MOST_BYTES
    assert pictures.of(said(0, 1, "B"))[-1].sample == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not base64!", "not base64"),
        (base64.b64encode(b"\x89PNG").decode(), "not a JPEG"),
        ("", "not a JPEG"),
        ("\u00e9", "not base64"),
        (base64.b64encode(b"\xff\xd8\xff\xe0rest").decode(), "header is damaged"),
        (base64.b64encode(b"\xff\xd8\xff\xda" + JPEG).decode(), "header is damaged"),
        (base64.b64encode(JPEG[:14]).decode(), "header is damaged"),
        (base64.b64encode(jpeg(65_535, 65_535)).decode(), "65535 x 65535 pixels"),
        (base64.b64encode(jpeg(3_841, 2_160)).decode(), "may have 8294400"),
        (base64.b64encode(jpeg(640, 0)).decode(), "640 x 0"),
    ],
)
def test_what_is_no_picture(text: str, message: str) -> None:
    with pytest.raises(PictureInvalid, match=message):
        decoded_jpeg(text)


@pytest.mark.parametrize(
    "data",
    [
        JPEG,
        jpeg(3_840, 2_160),
        jpeg(2, 1, b"\xff\xff\xff\x01\xff\xe1\0\x09\xff\xc0\0\x11\x08\0\0"),
    ],
)
def test_a_jpeg(data: bytes) -> None:
    """Its size is that of its frame, whatever stands in markers before."""
    assert decoded_jpeg(base64.b64encode(data).decode()) == data


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + bytes(50)}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_size_is_what_pillow_reads(mode: str, options: dict[str, Any]) -> None:
    file = io.BytesIO()
    Image.new(mode, (37, 21)).save(file, "JPEG", **options)
    assert jpeg_size(file.getvalue()) == (37, 21)
