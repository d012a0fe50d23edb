"""One stream's encoder in GBAN: convolutions and an LSTM (Liu et al. 2020, models.md 5.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotrace_models.layers.packed_lstm import PackedLSTM
from emotrace_models.layers.pooled_convolutions import SpeechConvolutions, TextConvolutions

Last = Literal["final", "position"]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What an encoder makes of one stream of a batch.

    outputs [batch, step, width], zero where there is no step. mask [batch, step]: the steps that
    are attended to; an absent stream has one, all zeros. real: those that stand for data.
    last [batch, width]: the last state, zero where the stream is absent.
    """

    outputs: Tensor
    mask: Tensor
    real: Tensor
    last: Tensor


class StreamReader(nn.Module):
    """last: `final`, the states after the last step, in each direction; `position`, the output at
    the last place, where the backward direction has read one step."""

    def __init__(
        self,
        convolutions: SpeechConvolutions | TextConvolutions,
        hidden: int,
        bidirectional: bool = True,
        last: Last = "final",
    ) -> None:
        super().__init__()
        self.last = last
        self.convolutions = convolutions
        self.lstm = PackedLSTM(convolutions.width, hidden, bidirectional)

    def forward(self, x: Tensor, lengths: Tensor) -> Reading:
        """x [batch, position, width], zero beyond lengths [batch]."""
        present = lengths > 0
        reach = self.convolutions.reach
        x = F.pad(x, (0, 0, 0, max(0, reach - x.shape[1])))
        features, steps = self.convolutions(x, lengths.clamp_min(reach))
        steps = torch.where(present, steps, 1)
        outputs, last = self.lstm(features, steps)
        mask = torch.arange(outputs.shape[1], device=x.device) < steps[:, None]
        if self.last == "position":
            last = outputs[torch.arange(len(outputs), device=x.device), steps - 1]
        return Reading(
            outputs=outputs * present[:, None, None],
            mask=mask,
            real=mask & present[:, None],
            last=last * present[:, None],
        )


def padding_as_data(x: Tensor, lengths: Tensor, size: int, front: bool) -> tuple[Tensor, Tensor]:
    """x [batch, position, width], zero beyond lengths -> [batch, size, width], zeros at the front
    or at the end that count in the lengths; longer sequences are cut. Absent ones stay so."""
    x = F.pad(x, (0, 0, 0, max(0, size - x.shape[1])))[:, :size]
    if front:
        first = (size - lengths).clamp_min(0)
        places = torch.arange(size, device=x.device) - first[:, None]
        x = x.gather(1, places.clamp_min(0)[..., None].expand_as(x))
        x = x.masked_fill((places < 0)[..., None], 0.0)
    return x, torch.where(lengths > 0, size, 0)


def xavier(module: nn.Module) -> None:
    """The paper's initial values of a linear map or a convolution; others are left alone."""
    if isinstance(module, nn.Linear | nn.Conv1d):
        nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
