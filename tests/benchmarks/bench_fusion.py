"""Milliseconds of GatedxLSTM on one thread: forward at batch 1 and 32, and a training step.

Then one paper-size stack against the xlstm package, where that is installed.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable

import torch

from emotrace_models.fusion import GatedxLSTM, GatedxLSTMConfig, Sequences
from emotrace_models.layers import XLSTMStack
from emotrace_models.types import Modality

BOTH = (Modality.ACOUSTIC, Modality.LEXICAL)
SECONDS = 1.0  # how long each thing is measured


def median_ms(work: Callable[[], object]) -> float:
    for _ in range(3):
        work()
    times = []
    end = time.perf_counter() + SECONDS
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def fusion(config: GatedxLSTMConfig) -> tuple[float, float, float]:
    torch.manual_seed(0)
    model = GatedxLSTM(config)
    inputs, one_input = (
        {
            modality.value: Sequences(
                torch.randn(batch, 6, 1, config.embedding), torch.ones(batch, 6, dtype=torch.int64)
            )
            for modality in config.modalities
        }
        for batch in (32, 1)
    )

    def train() -> None:
        model.zero_grad()
        model(inputs).logits.logsumexp(1).sum().backward()

    with torch.inference_mode():
        model.eval()
        one = median_ms(lambda: model(one_input))
        many = median_ms(lambda: model(inputs))
    model.train()
    return one, many, median_ms(train)


def stacks() -> None:
    ours = XLSTMStack(512, blocks=8).eval()
    x = torch.randn(8, 16, 512)
    with torch.inference_mode():
        print(
            f"stack of 8 blocks, 512 wide, 8 x 16 steps: ours {median_ms(lambda: ours(x)):.1f} ms"
        )
        if importlib.util.find_spec("xlstm") is None:
            print("the xlstm package is not installed: no comparison")
            return
        import xlstm

        block = xlstm.mLSTMBlockConfig(mlstm=xlstm.mLSTMLayerConfig())
        theirs = xlstm.xLSTMBlockStack(
            xlstm.xLSTMBlockStackConfig(block, context_length=16, num_blocks=8, embedding_dim=512)
        ).eval()
        print(f"the same in the xlstm package: {median_ms(lambda: theirs(x)):.1f} ms")


def main() -> None:
    torch.set_num_threads(1)
    print("width blocks share          batch 1   batch 32  training step of 32, ms")
    for width, blocks in ((64, 1), (64, 2)):
        for share in ("modality", "role_modality", "none"):
            config = GatedxLSTMConfig(BOTH, 4, 128, 8, width, blocks, share=share, missing="mask")
            one, many, train = fusion(config)
            print(f"{width:5} {blocks:6} {share:13} {one:9.2f} {many:10.2f} {train:10.2f}")
    stacks()


if __name__ == "__main__":
    main()
