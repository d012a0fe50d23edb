"""What it costs to decode a picture in a confined process, beside decoding it where it is used.

By turns, so that both see the same machine. Processor time is that of both processes together.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from contextlib import closing

import numpy as np
from PIL import Image

from emotrace_models.picture_decoding import Pixels, decode_picture
from emotrace_service.confined_pictures import ConfinedPictures

SIZES = ((640, 480), (1_280, 720), (3_840, 2_160))
RUNS = 51


def jpeg(width: int, height: int) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((width, height)).save(file, "JPEG", quality=80)
    return file.getvalue()


def timed(work: Callable[[], Pixels], used_s: Callable[[], float]) -> tuple[float, float]:
    """Milliseconds that pass, and of processor time."""
    begun, used = time.perf_counter(), used_s()
    work()
    return 1_000 * (time.perf_counter() - begun), 1_000 * (used_s() - used)


def main() -> None:
    with closing(ConfinedPictures()) as pictures:

        def used_s() -> float:
            return time.process_time() + pictures.used_s

        passed, used = timed(lambda: pictures.decode(jpeg(64, 48)), used_s)
        print(f"the first picture, which starts the process: {passed:.0f} ms, {used:.0f} used")
        for width, height in SIZES:
            data = jpeg(width, height)
            assert np.array_equal(pictures.decode(data), decode_picture(data))
            here, there = [], []
            for _ in range(RUNS):
                here.append(timed(lambda data=data: decode_picture(data), used_s))
                there.append(timed(lambda data=data: pictures.decode(data), used_s))
            (in_ms, in_used), (out_ms, out_used) = (
                [statistics.median(column) for column in zip(*times, strict=True)]
                for times in (here, there)
            )
            print(
                f"{width} x {height}: here {in_ms:.2f} ms ({in_used:.2f} used), "
                f"confined {out_ms:.2f} ms ({out_used:.2f} used)"
            )


if __name__ == "__main__":
    main()
