"""Where the time of a turn goes in a bundle that is served: utterances of several lengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median

import numpy as np

from emotrace_bench.charts import Bars
from emotrace_bench.dialogue import utterance
from emotrace_bench.racing import race
from emotrace_bench.result import Result, Table
from emotrace_bench.timed import Workers
from emotrace_models.bundle import Bundle, bundle_path
from emotrace_models.encoders import Encoder
from emotrace_models.encoders.compact_face import CompactFace
from emotrace_models.encoders.face_cascade import FaceCascade
from emotrace_models.encoders.faces import FaceBox, FaceDetector
from emotrace_models.picture_decoding import Pixels
from emotrace_models.predictor import Predictor
from emotrace_models.types import SAMPLE_RATE, Frame, Modality, Utterance

LENGTHS_S = (1.0, 3.0, 10.0)
TOKENS_A_SECOND = 15  # letters, about as quick as people talk
PICTURES_A_SECOND = 5
HEIGHT, WIDTH = 480, 640
EARLIER = 4  # turns, so that the context is full


class StandIn(FaceDetector):
    """Searches as OpenCV's detector does, finds nothing in noise, and then says that there is a
    face in the middle, so that the network behind it has something to read."""

    def __init__(self) -> None:
        self._cascade = FaceCascade()

    def detect(self, pixels: Pixels) -> list[FaceBox]:
        self._cascade.detect(pixels)
        height, width = pixels.shape[:2]
        side = height / 2
        left, top = (width - side) / 2, (height - side) / 2
        return [FaceBox(left, top, left + side, top + side, 1.0)]


def measure(name: str, rounds: int, seed: int, quick: bool) -> Result:
    """name: of a shipped bundle, or its folder. Raises BundleError."""
    bundle = Bundle.load(bundle_path(name))
    for encoder in bundle.encoders:
        if isinstance(encoder, CompactFace):
            encoder.detect_with(StandIn())
    with Workers(1, 1, flush=True) as workers:
        rows = {
            seconds: workers.run(partial(stages, bundle, seconds, rounds, seed))
            for seconds in (LENGTHS_S[:1] if quick else LENGTHS_S)
        }
    columns = list(next(iter(rows.values())))
    return Result(
        benchmark="pipeline",
        settings={"bundle": bundle.name, "version": bundle.version, "rounds": rounds},
        seed=seed,
        tables=(
            Table(
                f"A turn of the bundle {bundle.name!r}, ms, one thread, median of {rounds}",
                ("utterance, s", *columns),
                tuple((seconds, *row.values()) for seconds, row in rows.items()),
            ),
        ),
        notes=_notes(bundle),
        charts=(
            Bars(
                f"A turn of the bundle {bundle.name!r}",
                "ms, one thread",
                {
                    f"{seconds:g} s": {k: v for k, v in row.items() if k != "whole turn"}
                    for seconds, row in rows.items()
                },
            ),
        ),
        quick=quick,
    )


def stages(bundle: Bundle, seconds: float, rounds: int, seed: int) -> dict[str, float]:
    """Milliseconds by stage, of a turn with a full context and a speaker who was heard before."""
    predictor = Predictor(bundle)
    rng = np.random.default_rng(seed)
    tokens = max(3, round(seconds * TOKENS_A_SECOND))
    said = [
        _seen(bundle, utterance(n, "AB"[n % 2], seconds, tokens, rng), rng)
        for n in range(EARLIER + 1)
    ]
    state = predictor.start()
    for earlier in said[:-1]:
        ((state, _),) = predictor.predict([(state, earlier)])
    items = [(state, said[-1])]
    encoded = predictor.encode(items)
    fused = predictor.fuse(encoded)

    def encoding(encoder: Encoder) -> Callable[[], object]:
        before = state.speakers.get((encoder.stream, said[-1].speaker), encoder.start())
        return lambda: encoder.encode([(before, said[-1])])

    times = race(
        {
            **{encoder.stream: encoding(encoder) for encoder in bundle.encoders},
            "fusion": lambda: predictor.fuse(encoded),
            "decoder": lambda: predictor.decode(fused),
            "whole turn": lambda: predictor.predict(items),
        },
        rounds,
    )
    return {name: median(found) for name, found in times.items()}


def _seen(bundle: Bundle, said: Utterance, rng: np.random.Generator) -> Utterance:
    """With pictures, where the bundle reads them."""
    if Modality.FACIAL not in bundle.fusion.modalities:
        return said
    hop = SAMPLE_RATE // PICTURES_A_SECOND
    frames = tuple(
        Frame(sample, rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        for sample in range(said.start_sample, said.end_sample, hop)
    )
    return replace(said, frames=frames)


def _notes(bundle: Bundle) -> tuple[str, ...]:
    if Modality.FACIAL not in bundle.fusion.modalities:
        return ()
    return (
        f"Pictures of {WIDTH} x {HEIGHT} noise, {PICTURES_A_SECOND} a second: faces are searched "
        "for as ever, and one in the middle is then read as if it had been found.",
    )
