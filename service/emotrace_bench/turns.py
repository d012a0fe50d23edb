"""Whether a turn costs more when the dialogue is long: its time and what is kept of the dialogue.

A dialogue's state is a value. So it is kept at several lengths, and afterwards the same turns are
taken from each of them in rounds: nothing else differs, and noise meets all alike. Which hypotheses
happen to be alive moves a turn's time by a tenth, at any length; so there are several dialogues.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean, median
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

from emotrace_bench.charts import Lines
from emotrace_bench.full_size import BOTH, LABELS, bundle_of
from emotrace_bench.machine import resident_mib
from emotrace_bench.racing import median_ratio, race
from emotrace_bench.result import Ratio, Result, Table
from emotrace_models.decoding import EmotionDecoder, log_softmax, revisions
from emotrace_models.fusion import GatedxLSTM, GatedxLSTMConfig
from emotrace_models.predictor import DialogueState, Encoded, Predictor
from emotrace_models.types import UtteranceFeatures, frozen_mapping

WIDTH = 512  # of the vectors that are kept of each utterance: CLAP's
MOST = 1.1  # the bar of both ratios
STEPS = 50  # turns that are timed as one
DIALOGUES = 3
POOL = 64  # different utterances; they come again
Take = Callable[[DialogueState, "Turn"], DialogueState]
SHARED = (type, ModuleType, FunctionType, BuiltinFunctionType)  # code, which no dialogue owns


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    features: UtteranceFeatures
    scores: np.ndarray[Any, np.dtype[np.float64]]  # [class]


@dataclass(frozen=True, slots=True)
class Kept:
    """Bytes of what is kept of a dialogue: state is all of it, its beam and window included."""

    beam: int
    window: int
    state: int


class Dialogues:
    """A small GatedxLSTM over vectors of full width, with its decoder."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        fusion = GatedxLSTM(
            GatedxLSTMConfig(BOTH, len(LABELS.names), WIDTH, width=16, blocks=1, heads=2)
        )
        bundle = bundle_of("features", (), fusion.eval())
        self.predictor = Predictor(bundle)
        self.decoder = EmotionDecoder(len(LABELS.names), bundle.decoder)
        self._rng = np.random.default_rng(seed)
        self._pool = [
            frozen_mapping({m.value: self._rng.normal(size=WIDTH).astype(np.float32) for m in BOTH})
            for _ in range(POOL)
        ]

    def turns(self, count: int) -> list[Turn]:
        """Two speakers, random vectors and scores."""
        speakers = self._rng.choice(["A", "B"], count).tolist()
        scores = log_softmax(self._rng.normal(scale=1.5, size=(count, len(LABELS.names))))
        return [
            Turn(UtteranceFeatures(n, speaker, self._pool[n % POOL]), row)
            for n, (speaker, row) in enumerate(zip(speakers, scores, strict=True))
        ]

    def advance(self, state: DialogueState, turn: Turn) -> DialogueState:
        """Decoder and context, as a turn needs them, without the fusion model."""
        window = state.window.push(turn.features)
        window.context().slots(self.predictor.bundle.fusion.stream_modalities)
        beam = self.decoder.advance(state.beam, turn.features.speaker, turn.scores)
        self.decoder.decide(beam)
        revisions(state.beam, beam)
        return replace(state, window=window, beam=beam)

    def predict(self, state: DialogueState, turn: Turn) -> DialogueState:
        """The whole turn through the Predictor, from its features on."""
        heard = replace(state, window=state.window.push(turn.features))
        fused = self.predictor.fuse([Encoded(heard, turn.features)])
        return self.predictor.decode(fused)[0][0]


def lengths(longest: int) -> tuple[int, ...]:
    """10, 100, 1,000 ... and the longest itself."""
    tens = [10**power for power in range(1, len(str(longest)))]
    return tuple(sorted({*tens, longest}))


def measure(sizes: tuple[int, ...], rounds: int, seed: int, quick: bool) -> Result:
    """sizes: rising, turns of the dialogue. The first of at least 100 and the last are compared."""
    dialogues = Dialogues(seed)
    before = resident_mib()
    states: dict[int, list[DialogueState]] = {size: [] for size in sizes}
    for _ in range(DIALOGUES):
        for size, state in grow(dialogues, sizes).items():
            states[size].append(state)
    after = resident_mib()
    kept = {size: held(of_size) for size, of_size in states.items()}
    short, long = base(sizes), sizes[-1]
    torch.set_num_threads(1)
    bare = race_from(states, dialogues.turns(STEPS), dialogues.advance, rounds)
    whole = race_from(states, dialogues.turns(STEPS), dialogues.predict, rounds)
    return Result(
        benchmark="scale turns",
        settings={
            "longest": long,
            "rounds": rounds,
            "dialogues": DIALOGUES,
            "turns timed as one": STEPS,
            "vector width": WIDTH,
        },
        seed=seed,
        tables=(
            Table(
                f"The turn after ... turns, median of {rounds}",
                (
                    "turns",
                    "decoder and context, us",
                    "with a small model, us",
                    "beam, bytes",
                    "window, bytes",
                    "state, bytes",
                ),
                tuple(
                    (
                        length,
                        median(bare[length]),
                        median(whole[length]),
                        kept[length].beam,
                        kept[length].window,
                        kept[length].state,
                    )
                    for length in sizes
                ),
            ),
        ),
        ratios=(
            Ratio(
                f"time of decoder and context, turn {long:,} / turn {short:,}",
                median_ratio(bare[long], bare[short]),
                None,
                most=MOST,
            ),
            Ratio(
                f"time of a whole turn with a small model, turn {long:,} / turn {short:,}",
                median_ratio(whole[long], whole[short]),
                None,
                most=MOST,
            ),
            Ratio(
                f"memory of a dialogue's state, turn {long:,} / turn {short:,}",
                kept[long].state / kept[short].state,
                None,
                most=MOST,
            ),
        ),
        notes=(_grown(before, after, long),),
        charts=(
            Lines(
                "A turn of a long dialogue",
                "turn",
                "us",
                {
                    "decoder and context": _curve(bare),
                    "with a small model": _curve(whole),
                },
            ),
        ),
        quick=quick,
    )


def base(sizes: tuple[int, ...]) -> int:
    """The length that the longest is compared with."""
    return next(length for length in sizes if length >= 100)


def grow(dialogues: Dialogues, sizes: Iterable[int]) -> dict[int, DialogueState]:
    """One dialogue's state at each size. Only its last turns before such a size go through the
    fusion model, which leaves nothing in the state that is older than they are."""
    state = dialogues.predictor.start()
    states: dict[int, DialogueState] = {}
    said = 0
    for size in sizes:
        while said < size:
            for turn in dialogues.turns(min(STEPS, size - said)):
                said += 1
                through = dialogues.predict if size - said < STEPS else dialogues.advance
                state = through(state, turn)
        states[size] = state
    return states


def held(states: Sequence[DialogueState]) -> Kept:
    """The mean of the states."""
    return Kept(
        round(fmean(deep_bytes(state.beam) for state in states)),
        round(fmean(deep_bytes(state.window) for state in states)),
        round(fmean(deep_bytes(state) for state in states)),
    )


def race_from(
    states: Mapping[int, Sequence[DialogueState]], turns: list[Turn], take: Take, rounds: int
) -> dict[int, list[float]]:
    """Microseconds a turn, of the same turns from each state, by size of the dialogues."""

    def run(of_size: Sequence[DialogueState]) -> None:
        for state in of_size:
            for turn in turns:
                state = take(state, turn)

    times = race({str(size): partial(run, of_size) for size, of_size in states.items()}, rounds)
    return {
        int(name): [1e3 * ms / (DIALOGUES * len(turns)) for ms in found]
        for name, found in times.items()
    }


def _grown(before: float | None, after: float | None, turns: int) -> str:
    if before is None or after is None:
        return "This system does not tell how much memory the process has."
    return (
        f"{DIALOGUES} dialogues of {turns:,} turns one after the other: the process has "
        f"{after - before:.1f} MiB more."
    )


def deep_bytes(thing: object) -> int:
    """Memory of a value with all that it refers to, each object once."""
    seen: set[int] = set()
    open_: list[object] = [thing]
    total = 0
    while open_:
        one = open_.pop()
        if id(one) in seen or isinstance(one, SHARED):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        open_ += gc.get_referents(one)
    return total


def _curve(times: Mapping[int, list[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((float(length), median(found)) for length, found in times.items())
