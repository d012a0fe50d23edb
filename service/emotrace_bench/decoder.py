"""A turn's cost in the decoder: ours, one step further, against decoding the dialogue anew."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from emotrace_bench.charts import Lines
from emotrace_bench.racing import median_ratio, race
from emotrace_bench.reference_decoder import PUBLISHED_BEAM, redecode
from emotrace_bench.result import Ratio, Result, Table
from emotrace_models.decoding import (
    Beam,
    DecoderConfig,
    EmotionDecoder,
    decode_dialogue,
    log_softmax,
    revisions,
)

CLASSES, P0 = 4, 0.4
TURNS = (10, 50, 100, 200, 500)
PREFIXES = 20  # of the dialogue, at which both must agree
STEPS = 100  # of ours that are timed as one
LEAST, AIM = 100.0, 1_000.0
SETTINGS = ((5, 4), (10, 4), (10, 7), (50, 4))  # beam, classes
LONG = 20_000  # turns, to see whether a turn's cost grows
WINDOW = 1_000  # turns at its start and end that are compared


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """speakers [turn], scores [turn, class]: log-probabilities of a classifier that is unsure."""

    speakers: tuple[str, ...]
    scores: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of the causal pass at several lengths of the dialogue, and of both passes at its full
    length. cost: the largest difference, in nats."""

    lengths: int
    labels: bool
    labels_of_two_passes: bool
    cost: float


def measure(rounds: int, seed: int, quick: bool) -> Result:
    turns = tuple(n // 10 for n in TURNS[1:]) if quick else TURNS
    heard = scored(turns[-1], CLASSES, seed)
    agreement = agree(heard)
    times = {turn: turn_times(heard, turn, rounds) for turn in turns}
    last = times[turns[-1]]
    growth = [cost(beam, classes, on, LONG // 100 if quick else LONG, seed)
              for beam, classes in SETTINGS for on in (False, True)]  # fmt: skip
    return Result(
        benchmark="decoder",
        settings={
            "beam": PUBLISHED_BEAM,
            "classes": CLASSES,
            "p0": P0,
            "turns": turns[-1],
            "rounds": rounds,
        },
        seed=seed,
        tables=(
            Table(
                f"The turn number ..., median of {rounds}",
                ("turn", "anew, two passes, ms", "anew, one pass, ms", "ours, ms", "ratio"),
                tuple(
                    (
                        turn,
                        median(found[TWO]),
                        median(found[ONE]),
                        median(found[OURS]),
                        median_ratio(found[TWO], found[OURS]),
                    )
                    for turn, found in times.items()
                ),
            ),
            Table(
                "A turn of ours by settings, us: advance, decide and revisions",
                ("beam", "classes", "recombine", "us", "last turns over first"),
                tuple(growth),
            ),
        ),
        ratios=(
            Ratio(
                f"published way (anew, two passes) / ours, turn {turns[-1]}",
                median_ratio(last[TWO], last[OURS]),
                agreement.cost,
                of="costs of one pass",
                least=LEAST,
                aim=AIM,
            ),
            Ratio(
                f"anew in one causal pass / ours, turn {turns[-1]}",
                median_ratio(last[ONE], last[OURS]),
                agreement.cost,
                of="costs",
            ),
        ),
        notes=(
            f"Labels of one causal pass, ours against anew, at {agreement.lengths} lengths: "
            f"{'equal' if agreement.labels else 'NOT EQUAL'}; of two passes at {turns[-1]} turns: "
            f"{'equal' if agreement.labels_of_two_passes else 'NOT EQUAL'}.",
        ),
        charts=(
            Lines(
                f"One more turn, beam {PUBLISHED_BEAM}",
                "turn",
                "ms",
                {
                    name: tuple((float(turn), median(found[name])) for turn, found in times.items())
                    for name in (TWO, ONE, OURS)
                },
            ),
        ),
        quick=quick,
    )


TWO, ONE, OURS = "anew, two passes", "anew, one pass", "ours"


def scored(turns: int, classes: int, seed: int) -> Scored:
    rng = np.random.default_rng(seed)
    return Scored(
        tuple(rng.choice(["A", "B"], turns).tolist()),
        log_softmax(rng.normal(scale=1.5, size=(turns, classes))),
    )


def agree(heard: Scored) -> Agreement:
    """Ours against the reference, at PREFIXES lengths of the dialogue."""
    total = len(heard.speakers)
    config = DecoderConfig(P0, beam=PUBLISHED_BEAM, lag=None, recombine=False, horizon=total)
    decoder = EmotionDecoder(heard.scores.shape[1], config)
    beam, same, largest, lengths = decoder.start(), True, 0.0, 0
    for turn in range(1, total + 1):
        beam = decoder.advance(beam, heard.speakers[turn - 1], heard.scores[turn - 1])
        if turn % max(1, total // PREFIXES) == 0:
            anew = redecode(heard.speakers[:turn], heard.scores[:turn], P0, passes=1)
            same = same and anew.labels == decoder.labels(beam)
            largest = max(largest, abs(anew.cost - beam.best.cost))
            lengths += 1
    twice = decode_dialogue(heard.speakers, heard.scores, config, passes=2)
    return Agreement(
        lengths, same, twice.labels == redecode(heard.speakers, heard.scores, P0).labels, largest
    )


def turn_times(heard: Scored, turn: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds that the turn number `turn` costs, by way. Ours is the mean of STEPS steps."""
    config = DecoderConfig(P0, beam=PUBLISHED_BEAM, recombine=False)
    decoder = EmotionDecoder(heard.scores.shape[1], config)
    speakers, scores = heard.speakers[:turn], heard.scores[:turn]
    beam = decoder.start()
    for speaker, row in zip(speakers[:-1], scores[:-1], strict=True):
        beam = decoder.advance(beam, speaker, row)

    def ours() -> None:
        for _ in range(STEPS):
            step(decoder, beam, speakers[-1], scores[-1])

    times = race(
        {
            TWO: lambda: redecode(speakers, scores, P0),
            ONE: lambda: redecode(speakers, scores, P0, passes=1),
            OURS: ours,
        },
        rounds,
    )
    times[OURS] = [taken / STEPS for taken in times[OURS]]
    return times


def step(decoder: EmotionDecoder, beam: Beam, speaker: str, scores: NDArray[np.float64]) -> Beam:
    """All that a live turn asks of the decoder."""
    after = decoder.advance(beam, speaker, scores)
    decoder.decide(after)
    revisions(beam, after)
    return after


def cost(
    size: int, classes: int, recombine: bool, turns: int, seed: int
) -> tuple[int, int, bool, float, float]:
    """The settings; median microseconds of a turn; the last turns' median over the first ones'."""
    decoder = EmotionDecoder(classes, DecoderConfig(P0, beam=size, recombine=recombine))
    heard = scored(turns, classes, seed)
    beam, times = decoder.start(), []
    for turn in range(turns):
        began = perf_counter()
        beam = step(decoder, beam, "AB"[turn % 2], heard.scores[turn])
        times.append(1e6 * (perf_counter() - began))
    window = min(WINDOW, turns // 4)
    return size, classes, recombine, median(times), median(times[-window:]) / median(times[:window])
