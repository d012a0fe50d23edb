"""A stack of xLSTM blocks: mLSTM, with sLSTM at chosen positions, and a norm at the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, cast

from torch import Tensor, nn

from emotrace_models.layers.mlstm import MLSTMBlock, MLSTMState
from emotrace_models.layers.norms import ScaleNorm
from emotrace_models.layers.slstm import SLSTMBlock, SLSTMState

StackState = tuple[MLSTMState | SLSTMState, ...]


class Block(Protocol):
    """What the stack asks of a block; only the block itself knows the form of its state."""

    def __call__(self, x: Tensor) -> Tensor: ...
    def start(self, batch: int) -> Any: ...
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]: ...


class XLSTMStack(nn.Module):
    """[batch, step, width] -> the same shape, causal. State dict: xLSTMBlockStack of xlstm 2.0.6.

    slstm_at: positions of sLSTM blocks, counted from 0. kernel: steps that the convolution sees.
    Raises ValueError where the heads do not divide the width or a position is outside the stack.
    """

    def __init__(
        self,
        width: int,
        blocks: int,
        heads: int = 4,
        slstm_at: tuple[int, ...] = (),
        kernel: int = 4,
    ) -> None:
        super().__init__()
        if outside := [place for place in slstm_at if not 0 <= place < blocks]:
            raise ValueError(f"slstm_at {outside} is outside a stack of {blocks} blocks")
        self.blocks = nn.ModuleList(
            SLSTMBlock(width, heads, index, blocks, kernel)
            if index in slstm_at
            else MLSTMBlock(width, heads, blocks, kernel)
            for index in range(blocks)
        )
        self.post_blocks_norm = ScaleNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        for block in self._blocks():
            x = block(x)
        y: Tensor = self.post_blocks_norm(x)
        return y

    def start(self, batch: int) -> StackState:
        """The state before the first step, a value: `step` returns the next one."""
        return tuple(block.start(batch) for block in self._blocks())

    def step(self, x: Tensor, state: StackState) -> tuple[Tensor, StackState]:
        """One step x [batch, width] -> its output [batch, width] and the state after it."""
        after = []
        for block, before in zip(self._blocks(), state, strict=True):
            x, now = block.step(x, before)
            after.append(now)
        return self.post_blocks_norm(x), tuple(after)

    def _blocks(self) -> Iterable[Block]:
        return cast("Iterable[Block]", self.blocks)
