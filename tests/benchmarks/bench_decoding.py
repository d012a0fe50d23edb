"""What it costs to decode an uploaded file in a sandbox, beside doing so in the server itself."""

from __future__ import annotations

import asyncio
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import structlog

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


if __name__ == "__main__":
    main()
