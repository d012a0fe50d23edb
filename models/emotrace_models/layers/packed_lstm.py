"""An LSTM over sequences of different lengths, with one bias a gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class PackedLSTM(nn.Module):
    """Reads each sequence to its own end, in one direction or both; nothing beyond is read.

    PyTorch's LSTM has two biases a gate, which add up to one. Here the bias is the weight of a last
    input that is always 1, so that the parameters are those of the equations (and of Keras, whose
    initial values these are: Xavier, orthogonal, and a forget bias of 1).
    """

    def __init__(self, inputs: int, hidden: int, bidirectional: bool = True) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            inputs + 1, hidden, bias=False, batch_first=True, bidirectional=bidirectional
        )
        self.width = hidden * (2 if bidirectional else 1)
        for name, weight in self.lstm.named_parameters():
            with torch.no_grad():
                if "weight_hh" in name:
                    nn.init.orthogonal_(weight)
                else:
                    nn.init.xavier_normal_(weight[:, :-1])
                    weight[:, -1] = 0.0
                    weight[hidden : 2 * hidden, -1] = 1.0

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x [batch, step, inputs], lengths [batch] of at least 1 -> outputs [batch, step, width],
        zero beyond the lengths, and final states [batch, width]: forward after the last step,
        backward after the first."""
        packed = pack_padded_sequence(
            F.pad(x, (0, 1), value=1.0), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        outputs, (states, _) = self.lstm(packed)
        padded, _ = pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])
        return padded, states.transpose(0, 1).flatten(1)
