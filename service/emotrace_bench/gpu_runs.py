"""One batch of the full-size model on a device, by every way of ours and by the papers' way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from emotrace_bench.full_size import Model
from emotrace_bench.kernels import Kernels, kernels
from emotrace_bench.papers_network import PADDED, PapersNetwork, padded_tokens
from emotrace_bench.racing import median_ratio, race
from emotrace_bench.roofline import Demand, Peak, demand, synchronised
from emotrace_bench.static_turn import Batch, StaticTurn

ROUNDS, WARM = 10, 3
COMPARED = 8  # utterances whose outputs are held against the papers' way
EAGER, GRAPH = "eager", "graph"

Pass = Callable[[], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One way of ours at one batch. times: milliseconds a batch, by round; papers: a single
    utterance in the same rounds. difference: the largest of logits."""

    batch: int
    dtype: str
    launch: str
    times: list[float]
    papers: list[float]
    difference: float
    demand: Demand
    peak: Peak

    @property
    def ms(self) -> float:
        return median(self.times)

    @property
    def utterances(self) -> float:
        """A second."""
        return 1e3 * self.batch / self.ms

    @property
    def ratio(self) -> float:
        """Times as many utterances a second as the papers' way."""
        return self.batch * median_ratio(self.papers, self.times)


@torch.inference_mode()
def one_batch(
    device: str,
    network: PapersNetwork,
    own: Model,
    dtype: str,
    size: int,
    heard: Batch,
    limits: Peak,
    notes: list[str],
) -> tuple[list[Run], Kernels]:
    """All ways of ours at one batch, and the kernels of one pass. network: the
    papers' way, in float32; own: what is timed."""
    batch = heard.on(device, size)
    turn = StaticTurn(own).eval()

    def eager() -> Tensor:
        logits: Tensor = turn(batch)
        return logits

    papers = PapersPass(network, batch)
    expected = torch.stack([papers.judge(i) for i in range(min(size, COMPARED))])
    needs = demand(turn, eager)
    passes: dict[str, Pass] = {EAGER: eager}
    if torch.device(device).type == "cuda":
        try:
            passes[GRAPH] = captured(eager)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            notes.append(f"Batch {size} in {dtype}: no graph could be captured ({reason}).")
    differences = {
        launch: float((run()[: len(expected)].float() - expected).abs().max())
        for launch, run in passes.items()
    }
    theirs = "papers"
    times = race(
        {
            theirs: synchronised(device, papers.next),
            **{launch: synchronised(device, run) for launch, run in passes.items()},
        },
        ROUNDS,
        WARM,
    )
    runs = [
        Run(size, dtype, launch, times[launch], times[theirs], differences[launch], needs, limits)
        for launch in passes
    ]
    return runs, kernels(device, eager)


class PapersPass:
    """The papers' way through a batch, one utterance at a time, texts padded to 77 tokens."""

    def __init__(self, network: PapersNetwork, batch: Batch) -> None:
        self._network = network
        self._batch = batch
        device = batch.ids.device
        self._texts = [
            tuple(part.to(device) for part in padded_tokens(row.tolist(), PADDED))
            for row in batch.ids
        ]
        self._place = 0

    def judge(self, place: int) -> Tensor:
        """Logits [class] of one utterance."""
        heard = self._network.hear(self._batch.mel[place])
        ids, mask = self._texts[place]
        read = self._network.read(ids, mask)
        encoded = self._network.encode([heard, read, *self._batch.context[place]])
        return self._network.classify(encoded, heard)

    def next(self) -> None:
        self.judge(self._place)
        self._place = (self._place + 1) % len(self._texts)


def captured(work: Pass) -> Pass:
    """The work as a CUDA graph: launched at once. Raises RuntimeError where it cannot be."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = work()

    def replay() -> Tensor:
        graph.replay()
        return logits

    return replay
