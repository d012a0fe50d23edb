"""What a call to a Ray cluster costs more than one to the local engine: milliseconds and bytes.

    python tests/benchmarks/bench_ray.py --turns 200

One dialogue of two speakers, utterances of three seconds, one after the other: a call waits for
nobody, so the difference is the way there and back. Starts a cluster of this machine alone.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import replace
from typing import Any

import numpy as np

from emotrace_models.bundle import Bundle, bundle_path
from emotrace_models.predictor import Predictor
from emotrace_models.types import Transcript, Utterance
from emotrace_service.inference import InferenceBackend
from emotrace_service.loading import load_backend, load_shelf
from emotrace_service.metrics import Metrics
from emotrace_service.packing import pack, parts, unpack
from emotrace_service.settings import Settings

SECONDS = 3
WARMING = 5  # turns that are not counted


def utterance(turn: int) -> Utterance:
    size = SECONDS * 16_000
    sound = np.random.default_rng(turn).normal(0, 0.1, size).astype(np.float32)
    words = Transcript("and what happened then, in the end", "client")
    return Utterance(turn, "AB"[turn % 2], 0, size, sound, words)


async def timed(backend: InferenceBackend, turns: int) -> tuple[dict[str, list[float]], Any]:
    """Milliseconds by call, and the last turn's (state, utterance, sensed)."""
    state = backend.start("default")
    took: dict[str, list[float]] = {"appraise": [], "sense": [], "predict": []}
    last: Any = None
    for turn in range(WARMING + turns):
        moments = [time.perf_counter()]
        appraisal = await backend.appraise(utterance(turn))
        moments.append(time.perf_counter())
        heard = await backend.sense(state, appraisal.utterance)
        moments.append(time.perf_counter())
        last = state, appraisal.utterance, heard.sensed
        predicted = await backend.predict(*last)
        moments.append(time.perf_counter())
        state = predicted.state
        if turn >= WARMING:
            for call, passed in zip(took, np.diff(moments), strict=True):
                took[call].append(1_000 * float(passed))
    return took, last


async def run(turns: int) -> None:
    for options in ({}, {"backend": "ray", "ray_address": "local"}):
        settings = Settings(whisper="none", threads=1, batch_wait_ms=0, **options)
        backend = await asyncio.to_thread(load_backend, settings, load_shelf(settings), Metrics())
        took, last = await timed(backend, turns)
        for call, times in took.items():
            low, high = np.percentile(times, [50, 95])
            print(f"{settings.backend:<6}{call:<9} p50 {low:6.2f} ms   p95 {high:6.2f} ms")
        await backend.close()
    state, spoken, sensed = last
    predictor = Predictor(Bundle.load(bundle_path("default")))
    for call, request, answer in (
        ("sense", (state, spoken), lambda one: predictor.sense([one])),
        (
            "predict",
            (state, replace(spoken, samples=None), sensed),
            lambda one: predictor.predict([one[:2]], [one[2]]),
        ),
    ):
        theirs = unpack(pack(request))
        back = pack(answer(theirs)[0], parts(theirs))
        print(f"{call:<9} {len(pack(request)):>7} bytes there, {len(back):>6} back")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=200)
    asyncio.run(run(parser.parse_args().turns))
