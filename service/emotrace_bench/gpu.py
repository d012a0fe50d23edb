"""The full-size model on an accelerator: utterances a second against the papers' way, and what is
left to gain.

An utterance is both its towers and all twelve stacks; log-mel is left out, on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from emotrace_bench.charts import Lines
from emotrace_bench.full_size import build, full, tiny
from emotrace_bench.gpu_runs import ROUNDS, Run, one_batch
from emotrace_bench.kernels import Kernels
from emotrace_bench.papers_network import PapersNetwork
from emotrace_bench.result import Ratio, Result, Table
from emotrace_bench.roofline import Peak, peak
from emotrace_bench.static_turn import batch_of

BATCHES, TINY_BATCHES = (1, 8, 64, 256), (1, 2)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SECONDS, TOKENS = 3.0, 20  # of an utterance
SIDE, MEGABYTES = 8_192, 1_024  # of the product and the copy that show what the device can do


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    run: Run
    kernels: Kernels


def measure(device: str, seed: int, quick: bool) -> Result:
    """device: of torch. quick: tiny models, whose times say nothing of the full size."""
    sizes = tiny() if quick else full()
    model = build(sizes, seed)
    batches = TINY_BATCHES if quick else BATCHES
    heard = batch_of(model, batches[-1], SECONDS, TOKENS, seed)
    network = PapersNetwork(model.to(device))
    peaks = {
        name: peak(device, dtype, *((256, 8) if quick else (SIDE, MEGABYTES)))
        for name, dtype in DTYPES.items()
    }
    runs: list[Run] = []
    watched: list[Watched] = []
    notes: list[str] = []
    for name, dtype in DTYPES.items():
        own = model if dtype is torch.float32 else model.in_bf16()
        for size in batches:
            try:
                found, seen = one_batch(device, network, own, name, size, heard, peaks[name], notes)
            except torch.OutOfMemoryError:
                notes.append(f"Batch {size} in {name}: more memory than the device has.")
                continue
            runs += found
            if size in (batches[0], batches[-1]):
                watched += [Watched(run, seen) for run in found]
    return _result(sizes.name, device, runs, watched, peaks, notes, seed, quick)


def _result(
    sizes: str,
    device: str,
    runs: Sequence[Run],
    watched: Sequence[Watched],
    peaks: Mapping[str, Peak],
    notes: Sequence[str],
    seed: int,
    quick: bool,
) -> Result:
    papers = median(ms for run in runs for ms in run.papers)
    return Result(
        benchmark="gpu",
        settings={
            "sizes": sizes,
            "device": device,
            "utterance_s": SECONDS,
            "tokens": TOKENS,
            "rounds": ROUNDS,
        },
        seed=seed,
        tables=(
            Table(
                f"Ours; the papers' way: {papers:.1f} ms an utterance, {1e3 / papers:.1f} per s",
                (
                    "batch",
                    "numbers",
                    "launch",
                    "ms",
                    "per s",
                    "ratio",
                    "logits differ",
                    "TFLOP/s",
                    "of bound",
                    "bound by",
                ),
                tuple(_row(run) for run in runs),
            ),
            Table(
                "Where the time of a pass goes",
                ("batch", "numbers", "launch", "kernels run, ms", "of time", "launches", "kernels"),
                tuple(_kernel_row(one) for one in watched),
            ),
            Table(
                "What the device can do, measured",
                ("numbers", "product, TFLOP/s", "copy, GB/s"),
                tuple((name, p.flops / 1e12, p.bytes / 1e9) for name, p in peaks.items()),
            ),
        ),
        ratios=tuple(
            Ratio(
                f"utterances/s, ours ({run.dtype}, {run.launch}, batch {run.batch}) / papers' way",
                run.ratio,
                run.difference,
            )
            for run in quickest(runs)
        ),
        notes=(
            "Ratio: times as many utterances/s as the papers' way, one at a time in float32. Of "
            "bound: the least time that products and one reading of all weights take on this "
            "device, over the time taken. Kernels are those of an eager pass.",
            *notes,
        ),
        charts=(
            Lines(
                "Utterances a second",
                "batch",
                "utterances/s",
                {
                    f"{dtype}, {launch}": tuple(
                        (float(run.batch), run.utterances)
                        for run in runs
                        if (run.dtype, run.launch) == (dtype, launch)
                    )
                    for dtype, launch in dict.fromkeys((run.dtype, run.launch) for run in runs)
                },
            ),
        ),
        quick=quick,
    )


def quickest(runs: Sequence[Run]) -> list[Run]:
    """Of each kind of number at its best batch and launch."""
    return [
        max((run for run in runs if run.dtype == dtype), key=lambda run: run.utterances)
        for dtype in dict.fromkeys(run.dtype for run in runs)
    ]


def _row(run: Run) -> tuple[int, str, str, float, float, float, float, float, float, str]:
    return (
        run.batch,
        run.dtype,
        run.launch,
        run.ms,
        run.utterances,
        run.ratio,
        run.difference,
        run.demand.flops / run.ms / 1e9,
        run.demand.bound(run.peak) / run.ms,
        run.demand.limit(run.peak),
    )


def _kernel_row(one: Watched) -> tuple[int, str, str, float, float, float, str]:
    shares = ", ".join(f"{name} {share:.0%}" for name, share in one.kernels.shares.items())
    return (
        one.run.batch,
        one.run.dtype,
        one.run.launch,
        one.kernels.busy,
        one.kernels.busy / one.run.ms,
        one.kernels.launches,
        shares,
    )
