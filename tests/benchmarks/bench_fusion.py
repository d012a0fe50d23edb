"""Milliseconds of GatedxLSTM on one thread: small models, then the paper's twelve stacks.

The paper's stacks (8 blocks, 512 wide, 16 steps) at batch 1: as one grouped computation, as twelve
stacks of our own, and as twelve of the xlstm package where that is installed, all with the same
weights and equal outputs. They take turns, so that what else the machine does meets all alike;
times are of this thread's processor, not of the clock on the wall.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from emotrace_models.fusion import GatedxLSTM, GatedxLSTMConfig, Inputs, Sequences
from emotrace_models.layers import GroupedXLSTM, XLSTMStack
from emotrace_models.types import Modality

BOTH = (Modality.ACOUSTIC, Modality.LEXICAL)
SECONDS = 1.0  # how long each thing is measured
STACKS, BLOCKS, WIDTH, STEPS = 12, 8, 512, 16
ROUNDS = 15
TOLERANCE = 1e-5


def milliseconds(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return 1000 * (time.thread_time() - start)


def median_ms(work: Callable[[], object]) -> float:
    for _ in range(3):
        work()
    times = []
    end = time.perf_counter() + SECONDS
    while len(times) < 5 or time.perf_counter() < end:
        times.append(milliseconds(work))
    return statistics.median(times)


def contexts(config: GatedxLSTMConfig, batch: int) -> Inputs:
    """Full ones."""
    entries = config.slots // len(config.modalities)
    return {
        modality.value: Sequences(
            torch.randn(batch, entries, 1, config.embedding),
            torch.ones(batch, entries, dtype=torch.int64),
        )
        for modality in config.modalities
    }


def small_models() -> None:
    print("width blocks share          batch 1   batch 32  training step of 32, ms")
    for width, blocks in ((64, 1), (64, 2)):
        for share in ("modality", "role_modality", "none"):
            config = GatedxLSTMConfig(BOTH, 4, 128, 8, width, blocks, share=share, missing="mask")
            torch.manual_seed(0)
            model = GatedxLSTM(config).eval()
            one, many = contexts(config, 1), contexts(config, 32)

            def train(model: GatedxLSTM = model, inputs: Inputs = many) -> None:
                model.zero_grad()
                model(inputs).logits.logsumexp(1).sum().backward()

            with torch.inference_mode():
                at_1 = median_ms(lambda m=model, x=one: m(x))  # type: ignore[misc]
                at_32 = median_ms(lambda m=model, x=many: m(x))  # type: ignore[misc]
            step = median_ms(train)
            print(f"{width:5} {blocks:6} {share:13} {at_1:9.2f} {at_32:10.2f} {step:10.2f}")


def separately(stacks: Sequence[nn.Module]) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.stack([stack(steps)[:, -1] for stack, steps in zip(stacks, x)])  # noqa: B905


def package_stacks(ours: Sequence[XLSTMStack]) -> list[nn.Module]:
    """The same stacks in the xlstm package, whose tensors share our memory."""
    import xlstm

    block = xlstm.mLSTMBlockConfig(mlstm=xlstm.mLSTMLayerConfig())
    theirs = []
    for stack in ours:
        config = xlstm.xLSTMBlockStackConfig(
            block, context_length=STEPS, num_blocks=BLOCKS, embedding_dim=WIDTH
        )
        theirs.append(xlstm.xLSTMBlockStack(config).eval())
        theirs[-1].load_state_dict(stack.state_dict(), assign=True)
    return theirs


def paper_stacks() -> None:
    torch.manual_seed(0)
    ours = [XLSTMStack(WIDTH, BLOCKS).eval() for _ in range(STACKS)]
    for stack in ours:
        for parameter in stack.parameters():  # zeros would hide errors
            parameter.data.add_(0.03 * torch.randn_like(parameter))
    grouped = GroupedXLSTM(ours).eval()
    last = torch.full((STACKS, 1), STEPS - 1)
    contestants: dict[str, Callable[[Tensor], Tensor]] = {
        "grouped": lambda x: grouped(x, last),
        "twelve of our stacks": separately(ours),
    }
    if importlib.util.find_spec("xlstm") is None:
        print("the xlstm package is not installed: no comparison with it")
    else:
        contestants["twelve of the xlstm package"] = separately(package_stacks(ours))
    x = torch.randn(STACKS, 1, STEPS, WIDTH)
    with torch.inference_mode():
        times = race(contestants, x)
    report(times)
    empty_slots(grouped, x, last)


def race(
    contestants: Mapping[str, Callable[[Tensor], Tensor]], x: Tensor
) -> dict[str, list[float]]:
    expected = contestants["grouped"](x)
    for name, contestant in contestants.items():
        off = float((contestant(x) - expected).abs().max())
        assert off <= TOLERANCE, f"{name} is off by {off:.1e}"
        print(f"{name}: largest difference {off:.1e}, largest output {expected.abs().max():.1f}")
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, contestant in contestants.items():
            times[name].append(milliseconds(lambda run=contestant: run(x)))  # type: ignore[misc]
    return times


def report(times: Mapping[str, Sequence[float]]) -> None:
    print(f"{STACKS} stacks of {BLOCKS} blocks, {WIDTH} wide, batch 1, {STEPS} steps, one thread:")
    for name, all_ms in times.items():
        ratios = [other / own for other, own in zip(all_ms, times["grouped"], strict=True)]
        print(
            f"  {name:28} median {statistics.median(all_ms):6.1f} ms, best {min(all_ms):6.1f} ms,"
            f" grouped is {statistics.median(ratios):.2f} times as fast"
        )


def empty_slots(grouped: GroupedXLSTM, x: Tensor, last: Tensor) -> None:
    """What a dialogue's first turn costs where empty slots are left out: two stacks of twelve."""
    some = slice(0, 2)
    with torch.inference_mode():
        ms = median_ms(lambda: grouped(x[some], last[some], some))
    print(f"  grouped, the first turn's 2 slots of 12: {ms:.1f} ms")


def main() -> None:
    torch.set_num_threads(1)
    small_models()
    paper_stacks()


if __name__ == "__main__":
    main()
