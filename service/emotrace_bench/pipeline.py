"""A turn of the full-size GatedxLSTM, stage by stage: the papers' way against ours.

All contestants hear the same dialogue with the same weights, a turn each a round. Nothing is
transcribed: words come with the sound.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from statistics import median
from typing import Protocol

import numpy as np
import torch

from emotrace_bench.charts import Bars
from emotrace_bench.dialogue import dialogue
from emotrace_bench.full_size import Model, Sizes, build, bundled, full, tiny
from emotrace_bench.graphs import with_text_graph
from emotrace_bench.machine import cores
from emotrace_bench.our_way import OurWay
from emotrace_bench.papers_network import PADDED, LaionFront, PapersNetwork
from emotrace_bench.papers_way import PapersWay
from emotrace_bench.racing import median_ratio
from emotrace_bench.result import Ratio, Result, Table
from emotrace_bench.timed import Timed, Workers
from emotrace_models.bundle import Bundle
from emotrace_models.predictor import Predictor
from emotrace_models.profiles import Profile, describe, profiled
from emotrace_models.types import Utterance

PROFILES: tuple[Profile, ...] = ("exact", "fast")

SECONDS, TOKENS = 3.0, 20  # of an utterance
WARM = 3  # turns; the first two also lack context
REST_S = 0.02  # between contestants: the threads of one still wait for work when it is over

ALL_CORES, ONE_THREAD = "all cores", "one thread"
SIDE_BY_SIDE = "side by side"  # a worker of one thread for each encoder, as the service has them
PAPERS = f"papers' way, {PADDED} tokens"
PAPERS_UNPADDED = f"papers' way, {TOKENS} tokens"
BARS: Mapping[Profile, tuple[float, float]] = {"exact": (2.5, 4.0), "fast": (5.0, 8.0)}


class Way(Protocol):
    def turn(self, utterance: Utterance) -> Timed: ...


def measure(profiles: Sequence[Profile], turns: int, seed: int, quick: bool) -> Result:
    """turns: that are counted. quick: tiny models, whose times say nothing of the full size.

    Raises GraphUnavailable, and FastUnavailable of profiles.py.
    """
    sizes = tiny() if quick else full()
    torch.set_num_threads(1)  # of this thread, which only waits later on
    model = build(sizes, seed)
    heard = dialogue(WARM + turns, SECONDS, TOKENS, seed)
    network = PapersNetwork(model)
    bundles = _bundles(model, profiles)
    with ExitStack() as stack:
        timed = run(_ways(stack, network, bundles), heard)
    return _result(sizes, model, network, bundles, timed, turns, seed, quick)


def _bundles(model: Model, profiles: Sequence[Profile]) -> dict[Profile, Bundle]:
    """Raises GraphUnavailable, FastUnavailable."""
    bundle = bundled(model)
    if "fast" in profiles:
        bundle = with_text_graph(bundle, model.text)
    return {profile: profiled(bundle, profile) for profile in profiles}


def _ways(
    stack: ExitStack, network: PapersNetwork, bundles: Mapping[Profile, Bundle]
) -> dict[tuple[str, str], Way]:
    """By what is run and how, in the order of the table."""
    front = LaionFront()

    def workers(count: int, threads: int, *, flush: bool) -> Workers:
        return stack.enter_context(Workers(count, threads, flush=flush))

    # Shared: the more threads wait for work in a process, the sooner OpenMP lets each fall asleep,
    # and waking up is dear.
    every = workers(1, cores(), flush=False)
    plain, one, beside = (
        workers(count, 1, flush=flush) for count, flush in ((1, False), (1, True), (2, True))
    )
    ways: dict[tuple[str, str], Way] = {
        (name, threads): OnWorker(PapersWay(network, front, tokens), worker)
        for name, tokens in ((PAPERS, PADDED), (PAPERS_UNPADDED, 0))
        for threads, worker in ((ALL_CORES, every), (ONE_THREAD, plain))
    }
    for profile, bundle in bundles.items():
        predictor = Predictor(bundle)
        name = ours(profile)
        ways[name, SIDE_BY_SIDE] = OurWay(predictor, beside)
        ways[name, ALL_CORES] = OurWay(predictor, every)
        ways[name, ONE_THREAD] = OurWay(predictor, one)
    return ways


def ours(profile: Profile) -> str:
    return f"ours, {profile}"


class OnWorker:
    """A way on another thread, so that the torch threads of one do not count for another."""

    def __init__(self, way: Way, workers: Workers) -> None:
        self._way = way
        self._workers = workers

    def turn(self, utterance: Utterance) -> Timed:
        return self._workers.run(lambda: self._way.turn(utterance))


def run(
    ways: Mapping[tuple[str, str], Way], heard: Sequence[Utterance]
) -> dict[tuple[str, str], list[Timed]]:
    """Every way through the dialogue, a turn each a round; the first WARM turns are not given back.

    Who comes after whom is drawn anew each round: a way is a quarter quicker where the one before
    it left the processor's second core awake.
    """
    order = np.random.default_rng(0)
    timed: dict[tuple[str, str], list[Timed]] = {name: [] for name in ways}
    names = list(ways)
    for utterance in heard:
        for place in order.permutation(len(names)):
            time.sleep(REST_S)
            timed[names[place]].append(ways[names[place]].turn(utterance))
    return {name: found[WARM:] for name, found in timed.items()}


def _result(
    sizes: Sizes,
    model: Model,
    network: PapersNetwork,
    bundles: Mapping[Profile, Bundle],
    timed: Mapping[tuple[str, str], Sequence[Timed]],
    turns: int,
    seed: int,
    quick: bool,
) -> Result:
    papers = timed[PAPERS, ALL_CORES]
    rows = {name: _row(found) for name, found in timed.items()}
    return Result(
        benchmark="pipeline",
        settings={
            "sizes": sizes.name,
            "parameters": model.parameters,
            "turns": turns,
            "utterance_s": SECONDS,
            "tokens": TOKENS,
            **{profile: _numerics(bundle) for profile, bundle in bundles.items()},
            "stacks": "package xlstm" if network.package else "our own, one by one",
        },
        seed=seed,
        tables=(
            Table(
                f"A turn, ms, median of {turns}",
                ("way", "threads", *next(iter(rows.values()))),
                tuple((*name, *row.values()) for name, row in rows.items()),
            ),
            Table(
                "Outputs beside the papers' way, largest over all turns",
                ("way", "threads", "logits move by", "they differ by", "posteriors by"),
                tuple(
                    (*name, _movement(found), *differences(found, papers))
                    for name, found in timed.items()
                ),
            ),
        ),
        ratios=tuple(ratio for profile in bundles for ratio in ratios(profile, timed)),
        notes=_notes(network),
        charts=(
            Bars(
                "A turn of GatedxLSTM, stage by stage",
                "ms, one after the other; side by side, the two towers overlap",
                {
                    f"{way}, {threads}": {
                        part: value for part, value in row.items() if part in PARTS
                    }
                    for (way, threads), row in rows.items()
                },
            ),
        ),
        quick=quick,
    )


def _numerics(bundle: Bundle) -> str:
    return ", ".join(f"{part} {numerics}" for part, numerics in describe(bundle).items())


PARTS = ("prepared", "front", "audio", "text", "stacks", "decoder")


def _row(found: Sequence[Timed]) -> dict[str, float]:
    stages = [asdict(one.stages) for one in found]
    return {
        **{part: median(stage[part] for stage in stages) for part in PARTS},
        "critical path": median(one.critical for one in found),
        "all work": median(one.work for one in found),
    }


def ratios(profile: Profile, timed: Mapping[tuple[str, str], Sequence[Timed]]) -> list[Ratio]:
    """The papers' way over ours; the bar is that of the critical path as the service runs it."""
    least, aim = BARS[profile]
    name = ours(profile)
    papers, unpadded = quicker(timed, PAPERS), quicker(timed, PAPERS_UNPADDED)
    served, alone = timed[name, SIDE_BY_SIDE], timed[name, ONE_THREAD]
    return [
        Ratio(
            f"{PAPERS} / {name}, critical path",
            _over(papers, served),
            differences(served, papers)[0],
            least=least,
            aim=aim,
        ),
        Ratio(
            f"{PAPERS_UNPADDED} / {name}, critical path",
            _over(unpadded, served),
            differences(served, unpadded)[0],
        ),
        Ratio(
            f"{PAPERS} / {name}, critical path where the sound was heard before the turn was over",
            median_ratio([one.critical for one in papers], [one.after_sound for one in alone]),
            differences(alone, papers)[0],
        ),
        Ratio(
            f"{PAPERS} / {name}, all work, each on one thread",
            median_ratio(
                [one.work for one in timed[PAPERS, ONE_THREAD]], [one.work for one in alone]
            ),
            differences(alone, timed[PAPERS, ONE_THREAD])[0],
        ),
    ]


def quicker(timed: Mapping[tuple[str, str], Sequence[Timed]], name: str) -> Sequence[Timed]:
    """On all cores or on one thread: which is quicker depends on what else the machine does, and
    the papers' way shall not be held up by it."""
    both = [timed[name, threads] for threads in (ALL_CORES, ONE_THREAD)]
    return min(both, key=lambda found: median(one.critical for one in found))


def _over(theirs: Sequence[Timed], own: Sequence[Timed]) -> float:
    return median_ratio([one.critical for one in theirs], [one.critical for one in own])


def differences(found: Sequence[Timed], reference: Sequence[Timed]) -> tuple[float, float]:
    """The largest of logits and of posteriors, turn by turn."""
    pairs = list(zip(found, reference, strict=True))
    return (
        max(float(np.abs(a.logits - b.logits).max()) for a, b in pairs),
        max(float(np.abs(a.posterior - b.posterior).max()) for a, b in pairs),
    )


def _movement(found: Sequence[Timed]) -> float:
    """The most that a logit changes from turn to turn: a difference says nothing without it."""
    logits = np.stack([one.logits for one in found])
    return float(np.ptp(logits, axis=0).max())


def _notes(network: PapersNetwork) -> tuple[str, ...]:
    notes = [
        "Critical path: from the end of the turn, words known, to its result. `prepared` runs "
        "before, while the other speaks; `all work` has both. The server hears the sound while it "
        "waits whether speech goes on; what then is left is text, stacks and decoder.",
        "The papers' way is taken at the quicker of its two settings of threads. The server's "
        "threads flush denormal numbers to zero; torch by itself, and so the papers' way, does "
        "not.",
        "The papers' way has no decoder here, and takes each earlier utterance's vectors as "
        "known: the authors extract them once.",
    ]
    if not network.package:
        notes.append(
            "The package xlstm is not installed (pip install --no-deps xlstm==2.0.6): twelve "
            "stacks of our own, one after the other, stand for it."
        )
    return tuple(notes)
