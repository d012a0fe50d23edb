"""Films of records: the pictures of a speaker between two times of a file.

Each is kept as a JPEG of at most 30 a second and 320 pixels on its shorter side: more than the
networks look at, and small enough to hold the utterances of a batch.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image

from emotrace_models.picture_decoding import Pixels
from emotrace_models.types import SAMPLE_RATE, Frame
from emotrace_training.containers import open_container
from emotrace_training.manifests import ManifestError, Record

RATE = 30.0  # frames a second at most
SHORTER = 320  # pixels
QUALITY = 95
LONGEST_S = 120.0  # of an utterance: longer ones come from wrongly cut files

# IEMOCAP shows both actors side by side, in a letterbox of 480 rows.
LETTERBOX = (112 / 480, 368 / 480)


class MediaUnreadable(ManifestError):
    """A film that cannot be decoded, or has no picture in the span; the message names the file."""


def read_frames(record: Record, rows: tuple[float, float] = LETTERBOX) -> list[Frame]:
    """The frames of a record's film, in order; times on the clock of its dialogue.

    rows: of a film that shows two speakers (`record.crop`), the part that is picture, as shares of
    its height. Raises MediaUnreadable, which names the manifest's line and the file.
    """
    where = f"{record.place}: " if record.place else ""
    if record.video is None:
        raise MediaUnreadable(f"{where}record {record.id!r} has no film")
    if not Path(record.video).is_file():
        raise MediaUnreadable(f"{where}{record.video}: there is no such film")
    span = record.video_span or (0.0, LONGEST_S)
    try:
        frames = [
            Frame(
                round((record.start_s + time - span[0]) * SAMPLE_RATE),
                _jpeg(_cropped(pixels, record.crop, rows)),
            )
            for time, pixels in _pictures(Path(record.video), *span)
        ]
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaUnreadable(f"{where}{record.video}: cannot be read as film: {error}") from error
    if not frames:
        raise MediaUnreadable(
            f"{where}{record.video}: no picture between {span[0]:.3f} s and {span[1]:.3f} s"
        )
    return frames


def _pictures(file: Path, start: float, end: float) -> Iterator[tuple[float, Pixels]]:
    """Times from the film's start, and pixels, of frames in [start, end), at most RATE a second."""
    with open_container(file) as container:
        if not container.streams.video:
            raise ValueError("it has no picture")
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        first = float((stream.start_time or 0) * (stream.time_base or 0))
        if start > 0 and stream.time_base:
            # To the key frame before; what lies between is decoded and left.
            container.seek(int((start + first) / stream.time_base), stream=stream)
        last = -1
        for frame in container.decode(stream):
            if frame.pts is None:
                continue
            time = frame.time - first
            if time >= end:
                return
            # Half a millisecond off for clocks that count in thousandths.
            slot = int((time - start) * RATE + 0.5 * RATE / 1000)
            if time >= start and slot > last:
                last = slot
                yield time, np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def _cropped(pixels: Pixels, crop: str, rows: tuple[float, float]) -> Pixels:
    """The half that shows the speaker, without the letterbox; all of it where crop is empty."""
    if not crop:
        return pixels
    height, width = pixels.shape[:2]
    half = slice(0, width // 2) if crop == "left" else slice(width // 2, width)
    return pixels[round(rows[0] * height) : round(rows[1] * height), half]


def _jpeg(pixels: Pixels) -> bytes:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    scale = SHORTER / min(picture.size)
    if scale < 1:
        width, height = (round(side * scale) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
