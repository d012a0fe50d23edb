"""Which kernels the time of a computation goes to, and how much of it none of them runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from emotrace_bench.roofline import synchronised

PASSES = 5
# By what stands in a kernel's name; the first that fits.
GROUPS = {
    "products": r"gemm|gemv|cutlass|cublas|xmma|nvjet|addmm|\bmm\b|matmul|bmm|dot|linear",
    "convolutions": r"conv|cudnn",
    "attention": r"fmha|flash|attention|softmax",
    "norms": r"norm",
    "copies": r"copy|cat|memcpy|memset|transpose|permute|gather|index|pad|roll|contiguous",
}
REST = "element by element, and others"


@dataclass(frozen=True, slots=True)
class Kernels:
    """busy: milliseconds of a pass in which a kernel runs. launches: of a pass. shares: of `busy`,
    by group."""

    busy: float
    launches: float
    shares: dict[str, float]


def kernels(device: str, work: Callable[[], object]) -> Kernels:
    """On a processor, its operators stand for kernels."""
    on_gpu = torch.device(device).type == "cuda"
    run = synchronised(device, work)
    run()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as watched:
        for _ in range(PASSES):
            run()
    times: Counter[str] = Counter()
    launches = 0
    for event in watched.key_averages():
        if on_gpu != (event.device_type.name == "CUDA"):
            continue
        taken = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        times[group(event.key)] += taken
        launches += event.count
    total = sum(times.values())
    return Kernels(
        1e-3 * total / PASSES,
        launches / PASSES,
        {name: taken / total for name, taken in times.most_common()},
    )


def group(kernel: str) -> str:
    return next(
        (name for name, pattern in GROUPS.items() if re.search(pattern, kernel, re.IGNORECASE)),
        REST,
    )
