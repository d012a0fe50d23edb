"""What it costs to decode an uploaded file in a sandbox, beside decoding it in the server itself.

Also what a picture would cost: its pixels would have to come back through a pipe.
"""

from __future__ import annotations

import asyncio
import io
import os
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import structlog
from PIL import Image

from emotrace_models.picture_decoding import decode_picture
from emotrace_service.decoding import Decoders
from emotrace_service.recordings import Recording
from emotrace_service.settings import Settings

DEMO = Path(__file__).parents[2] / "clients/emotrace_clients/browser/demo/dialogue.flac"
RUNS = 9


def milliseconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        work()
        times.append(1_000 * (time.perf_counter() - begun))
    return statistics.median(times)


def minutes(count: float) -> bytes:
    samples, rate = soundfile.read(DEMO, dtype="int16", always_2d=True)
    long = np.tile(samples, (int(count * 60 * rate / len(samples)) + 1, 1))
    file = io.BytesIO()
    soundfile.write(file, long[: int(count * 60 * rate)], rate, format="FLAC")
    return file.getvalue()


async def sandboxed(decoders: Decoders, data: bytes) -> tuple[float, float]:
    """Milliseconds until the header is known, and until the last block."""
    begun = time.perf_counter()
    decoding = await decoders.open(data, 4_000)
    opened = time.perf_counter()
    async for _ in decoding.blocks():
        pass
    ended = time.perf_counter()
    decoding.close()
    return 1_000 * (opened - begun), 1_000 * (ended - begun)


def through_a_pipe(size: int) -> None:
    theirs, ours = os.pipe()
    data = bytes(size)
    with os.fdopen(ours, "wb") as ours_file, os.fdopen(theirs, "rb") as theirs_file:
        thread = threading.Thread(target=lambda: (ours_file.write(data), ours_file.close()))
        thread.start()
        theirs_file.read(size)
        thread.join()


def main() -> None:
    decoders = Decoders(Settings(), structlog.stdlib.get_logger("bench"))
    begun = time.perf_counter()
    asyncio.run(sandboxed(decoders, DEMO.read_bytes()))
    print(f"first file, no process waiting: {1_000 * (time.perf_counter() - begun):.0f} ms")
    for name, data in (("the demo, 41 s", DEMO.read_bytes()), ("10 minutes", minutes(10))):
        times = []
        for _ in range(RUNS):
            time.sleep(1.5)  # the next process is waiting by then
            times.append(asyncio.run(sandboxed(decoders, data)))
        opened, whole = (statistics.median(column) for column in zip(*times, strict=True))
        here = milliseconds(lambda data=data: list(Recording(data, 4_000).blocks()))
        print(f"{name}: sandbox {opened:.1f} ms to the header, {whole:.1f} ms in all; ", end="")
        print(f"in the server {here:.1f} ms")
    decoders.close()
    for width, height in ((640, 480), (1_280, 720)):
        noise = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).resize((width, height)).save(file, "JPEG", quality=80)
        decoded = milliseconds(lambda file=file: decode_picture(file.getvalue()))
        piped = milliseconds(lambda size=width * height * 3: through_a_pipe(size))
        print(f"picture {width} x {height}: decoded {decoded:.2f} ms, pixels piped {piped:.2f} ms")


if __name__ == "__main__":
    main()
