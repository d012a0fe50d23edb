"""Several xLSTM stacks of one shape as one computation: GatedxLSTM's, one a slot.

The maths is that of `mlstm`, `slstm` and `xlstm`, whose cells are used here; no loop runs over the
stacks, and each weight is read once. Only the step that is asked for leaves the last block: its
output gate, down-projection, feed-forward and norms see one step instead of all (exact, since
nothing reads the others). Rows are items times steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from emotrace_models.layers.grouped import (
    GroupedBlockDiagonal,
    GroupedConvolution,
    GroupedHeadNorm,
    GroupedLinear,
    GroupedNorm,
    Groups,
    of,
    product,
    stacked,
)
from emotrace_models.layers.mlstm import MLSTMBlock, MLSTMCell, MLSTMLayer, attention, log_weights
from emotrace_models.layers.slstm import (
    GATES,
    CellState,
    GatedFeedForward,
    SLSTMBlock,
    SLSTMCell,
    SLSTMLayer,
    advance,
)
from emotrace_models.layers.xlstm import XLSTMStack


def pick(x: Tensor, place: Tensor, axis: int) -> Tensor:
    """One entry of `axis`, which stays, with length 1; place broadcasts over the other axes."""
    shape = list(x.shape)
    shape[axis] = 1
    return x.gather(axis, place.expand(shape))


def features_first(x: Tensor) -> Tensor:
    """[group, item, step, width] -> [group, width, row]."""
    return x.flatten(1, 2).transpose(1, 2).contiguous()  # a view would slow the products down


def at_step(x: Tensor, last: Tensor) -> Tensor:
    """[group, item, step, width] -> [group, item, 1, width]."""
    return pick(x, last[..., None, None], 2)


class GroupedMLSTMCell(nn.Module):
    def __init__(self, cells: Sequence[MLSTMCell]) -> None:
        super().__init__()
        self.heads = cells[0].heads
        self.igate = GroupedLinear([cell.igate for cell in cells])
        self.fgate = GroupedLinear([cell.fgate for cell in cells])
        self.outnorm = GroupedHeadNorm([cell.outnorm for cell in cells])

    def attention(
        self, q: Tensor, k: Tensor, v: Tensor, last: Tensor | None, groups: Groups
    ) -> Tensor:
        """[group, feature, item, step] each -> [group, item, head, step, step], of step `last`
        alone if given."""
        i, f = (self._gate(gate, (q, k, v), groups) for gate in (self.igate, self.fgate))
        weights = log_weights(i, f)
        if last is not None:
            weights = pick(weights, last[..., None, None, None], -2)
            q = pick(q, last[:, None, :, None], -1)
        return attention(self.heads_of(q), self.heads_of(k), weights)

    def heads_of(self, x: Tensor) -> Tensor:
        """[group, feature, item, step] -> [group, item, head, step, size]."""
        return torch.unflatten(x, 1, (self.heads, -1)).permute(0, 3, 1, 4, 2)

    def _gate(self, gate: GroupedLinear, qkv: tuple[Tensor, ...], groups: Groups) -> Tensor:
        """[group, item, head, step]: the gate's map of [q; k; v], which need not be joined."""
        weights = of(gate.weight, groups).chunk(3, dim=-1)
        y = torch.bmm(weights[0], qkv[0].flatten(2))
        for weight, x in zip(weights[1:], qkv[1:], strict=True):
            y = torch.baddbmm(y, weight, x.flatten(2))
        y = y + of(cast(Tensor, gate.bias), groups).unsqueeze(-1)
        return y.view(*y.shape[:2], *qkv[0].shape[2:]).transpose(1, 2)


class GroupedMLSTMLayer(nn.Module):
    def __init__(self, layers: Sequence[MLSTMLayer]) -> None:
        super().__init__()
        self.proj_up = GroupedLinear([layer.proj_up for layer in layers])
        self.q_proj = GroupedBlockDiagonal([layer.q_proj for layer in layers])
        self.k_proj = GroupedBlockDiagonal([layer.k_proj for layer in layers])
        self.v_proj = GroupedBlockDiagonal([layer.v_proj for layer in layers])
        self.conv1d = GroupedConvolution([layer.conv1d for layer in layers])
        self.mlstm_cell = GroupedMLSTMCell([layer.mlstm_cell for layer in layers])
        self.learnable_skip = stacked(layer.learnable_skip for layer in layers)
        self.proj_down = GroupedLinear([layer.proj_down for layer in layers])

    def forward(self, x: Tensor, last: Tensor | None, groups: Groups) -> Tensor:
        """[group, item, step, width] -> the same shape, of step `last` alone if given."""
        count, items, steps, _ = x.shape
        rows = features_first(x)
        p, z = self._up(rows, x, last, groups)
        p = p.reshape(count, -1, items, steps)
        c = functional.silu(self.conv1d(p, groups), inplace=True)
        # What has been used goes at once: the next tensor then gets its place, which is still in
        # the processor's cache. That is a tenth of the time.
        v = self.v_proj(p, groups)
        del p, rows
        q, k = self.q_proj(c, groups), self.k_proj(c, groups)
        attended = self.mlstm_cell.attention(q, k, v, last, groups)
        del q, k
        h = attended @ self.mlstm_cell.heads_of(v)
        del v
        if last is not None:
            c = pick(c, last[:, None, :, None], -1)
        c = of(self.learnable_skip, groups)[..., None, None] * c
        h = self.mlstm_cell.outnorm(h, groups, c).flatten(2)
        del c
        gate = functional.silu(z, inplace=True)
        out: Tensor = self.proj_down(gate.mul_(h), groups)
        return torch.unflatten(out.transpose(1, 2), 1, (items, -1))

    def _up(
        self, rows: Tensor, x: Tensor, last: Tensor | None, groups: Groups
    ) -> tuple[Tensor, Tensor]:
        """x, as rows [group, width, row] too -> what enters the cell and the gate of what leaves
        it, of step `last` alone if given: [group, inner width, row] each."""
        weight = of(self.proj_up.weight, groups)
        if weight.dtype != x.dtype:
            # A batched product in bfloat16 would copy half of a weight first.
            p, z = product(weight, rows).chunk(2, dim=1)
            if last is None:
                return p, z
            z = torch.unflatten(z, 2, x.shape[1:3])
            return p, pick(z, last[:, None, :, None], -1).flatten(2)
        enter, leave = weight.chunk(2, dim=1)
        z = product(leave, rows if last is None else features_first(at_step(x, last)))
        return product(enter, rows), z


class GroupedMLSTMBlock(nn.Module):
    def __init__(self, blocks: Sequence[MLSTMBlock]) -> None:
        super().__init__()
        self.xlstm_norm = GroupedNorm([block.xlstm_norm for block in blocks])
        self.xlstm = GroupedMLSTMLayer([block.xlstm for block in blocks])

    def forward(self, x: Tensor, last: Tensor | None, groups: Groups) -> Tensor:
        y: Tensor = self.xlstm(self.xlstm_norm(x, groups), last, groups)
        return (x if last is None else at_step(x, last)) + y


class GroupedSLSTMCell(nn.Module):
    def __init__(self, cells: Sequence[SLSTMCell]) -> None:
        super().__init__()
        self.heads = cells[0].heads
        self.size = cells[0].size
        self._recurrent_kernel_ = stacked(cell._recurrent_kernel_ for cell in cells)
        self._bias_ = stacked(cell._bias_ for cell in cells)

    def forward(self, gates: Tensor, groups: Groups) -> Tensor:
        """[gate, group, item, step, head, size], what the inputs give to the gates -> the outputs
        [group, item, step, head, size]."""
        kernel = torch.unflatten(of(self._recurrent_kernel_, groups), 2, (GATES, self.size))
        bias = of(self._bias_, groups).view(-1, GATES, self.heads, self.size).transpose(0, 1)
        gates = gates + bias[:, :, None, None]
        zeros = torch.zeros_like(gates[0, :, :, 0])
        state = CellState(zeros, zeros, zeros, torch.full_like(zeros, -math.inf))
        outputs = []
        for step in gates.unbind(3):
            recurrent = torch.einsum("gbhi,ghaoi->agbho", state.output, kernel)
            state = advance((step + recurrent).unbind(0), state)
            outputs.append(state.output)
        return torch.stack(outputs, dim=2)


class GroupedSLSTMLayer(nn.Module):
    def __init__(self, layers: Sequence[SLSTMLayer]) -> None:
        super().__init__()
        self.conv1d = GroupedConvolution([layer.conv1d for layer in layers])
        self.fgate = GroupedBlockDiagonal([layer.fgate for layer in layers])
        self.igate = GroupedBlockDiagonal([layer.igate for layer in layers])
        self.zgate = GroupedBlockDiagonal([layer.zgate for layer in layers])
        self.ogate = GroupedBlockDiagonal([layer.ogate for layer in layers])
        self.slstm_cell = GroupedSLSTMCell([layer.slstm_cell for layer in layers])
        self.group_norm = GroupedHeadNorm([layer.group_norm for layer in layers])

    def forward(self, x: Tensor, last: Tensor | None, groups: Groups) -> Tensor:
        """[group, item, step, width] -> the same shape, of step `last` alone if given."""
        a = x.permute(0, 3, 1, 2)  # [group, feature, item, step]
        c = functional.silu(self.conv1d(a, groups))
        gates = torch.stack(
            [
                self.fgate(c, groups),
                self.igate(c, groups),
                self.zgate(a, groups),
                self.ogate(a, groups),
            ]
        )
        gates = torch.unflatten(gates, 2, (self.slstm_cell.heads, -1)).permute(0, 1, 4, 5, 2, 3)
        y = self.slstm_cell(gates, groups)  # [group, item, step, head, size]
        if last is not None:
            y = pick(y, last[..., None, None, None], 2)
        out: Tensor = self.group_norm(y.transpose(2, 3), groups)
        return out.permute(0, 2, 3, 1)


class GroupedFeedForward(nn.Module):
    def __init__(self, layers: Sequence[GatedFeedForward]) -> None:
        super().__init__()
        self.proj_up = GroupedLinear([layer.proj_up for layer in layers])
        self.proj_down = GroupedLinear([layer.proj_down for layer in layers])

    def forward(self, x: Tensor, groups: Groups) -> Tensor:
        gate, up = self.proj_up(features_first(x), groups).chunk(2, dim=1)
        y: Tensor = self.proj_down(functional.gelu(gate) * up, groups)
        return y.transpose(1, 2).view(x.shape)


class GroupedSLSTMBlock(nn.Module):
    def __init__(self, blocks: Sequence[SLSTMBlock]) -> None:
        super().__init__()
        self.xlstm_norm = GroupedNorm([block.xlstm_norm for block in blocks])
        self.xlstm = GroupedSLSTMLayer([block.xlstm for block in blocks])
        self.ffn_norm = GroupedNorm([block.ffn_norm for block in blocks])
        self.ffn = GroupedFeedForward([block.ffn for block in blocks])

    def forward(self, x: Tensor, last: Tensor | None, groups: Groups) -> Tensor:
        y: Tensor = self.xlstm(self.xlstm_norm(x, groups), last, groups)
        y = (x if last is None else at_step(x, last)) + y
        out: Tensor = y + self.ffn(self.ffn_norm(y, groups), groups)
        return out


class GroupedXLSTM(nn.Module):
    """Stacks of one shape as one computation: their weights are copied, and stack g's weight `p`
    is this module's `p`[g]. See `name_by_stack` for state dicts."""

    def __init__(self, stacks: Sequence[XLSTMStack]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            GroupedMLSTMBlock(cast("Sequence[MLSTMBlock]", blocks))
            if isinstance(blocks[0], MLSTMBlock)
            else GroupedSLSTMBlock(cast("Sequence[SLSTMBlock]", blocks))
            for blocks in zip(*(stack.blocks for stack in stacks), strict=True)
        )
        self.post_blocks_norm = GroupedNorm([stack.post_blocks_norm for stack in stacks])

    def weights_to_bf16(self) -> None:
        """The maps that hold nearly all weights in bfloat16 from now on: with few rows, a pass
        waits for them to be read. All else stays in float32: gates, sums and norms are few bytes
        and need their digits."""
        for name, module in self.named_modules():
            if name.rpartition(".")[2] in ("proj_up", "proj_down"):
                module.to(torch.bfloat16)

    def forward(self, x: Tensor, last: Tensor, groups: Groups = None) -> Tensor:
        """x [group, item, step, width] -> the output at step `last` [group, item] of each, as
        [group, item, width]. groups: which stacks these are; all of them unless given.

        No later step has any influence, so sequences of several lengths are padded at their ends.
        """
        final = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            x = block(x, last if index == final else None, groups)
        y: Tensor = self.post_blocks_norm(x, groups)
        return y.squeeze(2)
