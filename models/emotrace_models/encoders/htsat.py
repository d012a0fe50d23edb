"""HTSAT without its copies: the forward pass of CLAP's audio tower in evaluation.

Weights and results are those of transformers' ClapAudioModel; three things make it quicker. Tokens
stay in the order of their windows from one block to the next, so that shifting, cutting into
windows and putting both back is one gather. Query, key and value are one product. Attention is one
fused call, to which the bias of relative places and the mask of shifted windows go as one table
that is made once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SEPARATE = -100.0  # added to scores between regions that only the shift has made neighbours


class _Block(NamedTuple):
    """gather [token]: where each token lay before, None where it stays. qkv: the joined maps.
    table [1 or window, head, place, place]: what is added to the scores."""

    layer: Any
    gather: Tensor | None
    weight: Tensor
    bias: Tensor
    table: Tensor


class _Stage(NamedTuple):
    """places: of a window. leave [token]: to rows and columns, or four by four for a merge."""

    blocks: tuple[_Block, ...]
    places: int
    leave: Tensor
    merge: Any


class Htsat:
    """Reads with the weights that `model`, a ClapAudioModel in evaluation mode, had when this was
    made. The patches' precision is that of all that follows them."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._encoder = model.audio_encoder
        sides = [size[0] for size in self._encoder.input_resolutions]
        with next(model.parameters()).device:  # where the tables are wanted too
            self._stages = [_stage(*pair) for pair in zip(self._encoder.layers, sides, strict=True)]

    def __call__(self, spectra: Tensor) -> tuple[Tensor, Tensor]:
        """[item, 1, frame, band] float32 -> the last map [item, width, frequency, cell] and its
        mean [item, width]."""
        encoder = self._encoder
        levels = encoder.batch_norm(spectra.transpose(1, 3)).transpose(1, 3)
        picture = encoder.reshape_mel2img(levels)
        x = encoder.patch_embed(picture.to(encoder.patch_embed.proj.weight.dtype))
        for stage in self._stages:
            for block in stage.blocks:
                x = _attended(x, block, stage.places)
                layer = block.layer
                x = x + layer.output(layer.intermediate(layer.layernorm_after(x)))
            x = x.index_select(1, stage.leave)
            if stage.merge is not None:
                x = torch.unflatten(x, 1, (-1, 4)).flatten(2)
                x = stage.merge.reduction(stage.merge.norm(x))
        x = encoder.norm(x).transpose(1, 2)  # [item, width, token]
        side = encoder.input_resolutions[-1][0]
        # The picture's strips lie side by side again: rows are strip by frequency.
        strips = torch.unflatten(x, 2, (encoder.freq_ratio, -1, side))
        last = strips.transpose(2, 3).flatten(3)
        return last, last.flatten(2).mean(-1)


def readable(config: Any) -> bool:
    """Whether windows fill the maps of all stages, as Htsat needs; LAION's do. config:
    transformers' ClapAudioConfig."""
    side = config.spec_size // config.patch_stride[0]
    sides = [side // 2**stage for stage in range(len(config.depths))]
    return all(side % config.window_size == 0 for side in sides)


def _attended(x: Tensor, block: _Block, places: int) -> Tensor:
    """[item, token, width] in the last block's order -> in this one's, with attention added."""
    if block.gather is not None:
        x = x.index_select(1, block.gather)
    items, tokens, width = x.shape
    attention = block.layer.attention
    heads = attention.self.num_attention_heads
    joined = F.linear(block.layer.layernorm_before(x), block.weight, block.bias)
    q, k, v = joined.view(-1, places, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    # One table serves all windows, or each has its own, of each item again.
    table = block.table if len(block.table) == 1 else block.table.repeat(items, 1, 1, 1)
    mixed = F.scaled_dot_product_attention(q, k, v, table).transpose(1, 2)
    added: Tensor = attention.output(mixed.reshape(items, tokens, width), x)
    return x + added


def _stage(stage: Any, side: int) -> _Stage:
    window = stage.blocks[0].attention.self.window_size[0]
    before = torch.arange(side * side)  # which place the token of each number has
    blocks = []
    for layer in stage.blocks:
        shift = layer.shift_size if side > window else 0
        order = _order(side, window, shift)
        gather = None if torch.equal(order, before) else _inverse(before)[order]
        own = layer.attention.self
        parts = (own.query, own.key, own.value)
        blocks.append(
            _Block(
                layer,
                gather,
                torch.cat([part.weight.detach() for part in parts]),
                torch.cat([part.bias.detach() for part in parts]),
                _table(own, side, window, shift),
            )
        )
        before = order
    leave = _inverse(before)
    if stage.downsample is not None:
        rows = torch.arange(side * side).view(side, side)
        corners = [rows[row::2, column::2] for column in range(2) for row in range(2)]
        leave = leave[torch.stack(corners, -1).flatten()]
    return _Stage(tuple(blocks), window * window, leave, stage.downsample)


def _order(side: int, window: int, shift: int) -> Tensor:
    """[token]: the place in rows and columns of each token, window by window of a shifted map."""
    places = torch.arange(side * side).view(side, side).roll((-shift, -shift), (0, 1))
    return _by_window(places, window).flatten()


def _by_window(places: Tensor, window: int) -> Tensor:
    """[row, column] -> [window, place]."""
    count = len(places) // window
    return places.view(count, window, count, window).transpose(1, 2).reshape(count**2, -1)


def _inverse(order: Tensor) -> Tensor:
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))


def _table(attention: Any, side: int, window: int, shift: int) -> Tensor:
    bias = attention.relative_position_bias_table.detach()[attention.relative_position_index]
    table: Tensor = bias.permute(2, 0, 1).contiguous()[None]  # [1, head, place, place]
    if shift == 0:
        return table
    index = torch.arange(side)
    region = (index >= side - window).long() + (index >= side - shift).long()
    regions = _by_window(region[:, None] * 3 + region, window)  # [window, place]
    apart = regions[:, :, None] != regions[:, None]
    return table + (SEPARATE * apart[:, None]).to(table.dtype)
