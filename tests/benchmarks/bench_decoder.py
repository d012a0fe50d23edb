"""The decoder's cost a turn, and that it does not grow with the dialogue. One thread.

python tests/benchmarks/bench_decoder.py
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

from emotrace_models.decoding import DecoderConfig, EmotionDecoder, log_softmax, revisions

TURNS = 20_000
WINDOW = 1_000  # turns at the dialogue's start and end that are compared


def measure(beam_size: int, classes: int, recombine: bool) -> tuple[float, float, float]:
    """Median microseconds of advance + decide + revisions: all turns, the first, the last ones."""
    decoder = EmotionDecoder(classes, DecoderConfig(0.4, beam=beam_size, recombine=recombine))
    scores = log_softmax(np.random.default_rng(0).normal(size=(TURNS, classes)))
    beam, times = decoder.start(), []
    for turn in range(TURNS):
        started = perf_counter()
        after = decoder.advance(beam, "AB"[turn % 2], scores[turn])
        decoder.decide(after)
        revisions(beam, after)
        times.append(perf_counter() - started)
        beam = after
    micro = np.array(times) * 1e6
    return (
        float(np.median(micro)),
        float(np.median(micro[:WINDOW])),
        float(np.median(micro[-WINDOW:])),
    )


def main() -> None:
    print("beam classes recombine  us/turn  turns 19,001-20,000 over turns 1-1,000")
    for beam_size, classes in ((5, 4), (10, 4), (10, 7), (50, 4)):
        for recombine in (False, True):
            overall, first, last = measure(beam_size, classes, recombine)
            print(
                f"{beam_size:4d} {classes:7d} {recombine!s:>9} {overall:8.0f}  {last / first:.2f}"
            )


if __name__ == "__main__":
    main()
