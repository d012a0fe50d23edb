"""Soft alignment of two sequences: each step of one as a weighted mean of the other's.

Liu et al., Interspeech 2020, equations 5 to 10 (models.md section 5.3), and the forms that their
released code and their baseline (Xu et al., Interspeech 2019) use.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from emotrace_models.layers.masking import masked_softmax

Score = Literal["tanh_dot", "additive", "scaled_dot"]

CHUNK = 16  # steps of the second sequence at a time: the additive form builds step x step x width


class Alignment(nn.Module):
    """Scores of every pair of steps (i of the first, j of the second), both of one width.

    tanh_dot (paper): tanh(s_i . t_j). One weight is then at most e^2 times another.
    additive (released code): sum_d scale_d tanh(s_id + t_jd), with a scale for each direction.
    scaled_dot: s_i . t_j / sqrt(width).
    """

    def __init__(self, score: Score, width: int) -> None:
        super().__init__()
        self.score = score
        if score == "additive":
            limit = math.sqrt(3 / width)  # Keras' own for a vector
            self.scales = nn.Parameter(torch.empty(width, 2).uniform_(-limit, limit))

    def forward(
        self, first: Tensor, first_mask: Tensor, second: Tensor, second_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """first [batch, i, width], second [batch, j, width], masks [batch, step] with at least one
        real step each. Gives the weights of first steps for each second one [batch, j, i] and of
        second steps for each first one [batch, i, j]: each row sums to 1."""
        if self.score == "additive":
            onto_second, onto_first = additive_scores(first, second, self.scales).unbind(-1)
        else:
            scores = second @ first.transpose(1, 2)
            if self.score == "tanh_dot":
                scores = scores.tanh()
            else:
                scores = scores / math.sqrt(first.shape[-1])
            onto_second = onto_first = scores
        return (
            masked_softmax(onto_second, first_mask[:, None]),
            masked_softmax(onto_first.transpose(1, 2), second_mask[:, None]),
        )


class PerceptronAlignment(nn.Module):
    """u . tanh(W s_i + V t_j + b), for each j over the steps i: Att-LSTM's."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, hidden, bias=False)
        self.second = nn.Linear(width, hidden)
        self.scale = nn.Linear(hidden, 1, bias=False)

    def forward(self, first: Tensor, first_mask: Tensor, second: Tensor) -> Tensor:
        """Weights [batch, j, i]; see Alignment."""
        scores = additive_scores(self.first(first), self.second(second), self.scale.weight.T)
        return masked_softmax(scores[..., 0], first_mask[:, None])


def additive_scores(first: Tensor, second: Tensor, scales: Tensor) -> Tensor:
    """first [batch, i, width], second [batch, j, width], scales [width, n] -> [batch, j, i, n]:
    sum_d scales_dn tanh(first_id + second_jd)."""
    parts = torch.split(second, CHUNK, dim=1)
    return torch.cat([(first[:, None] + p[:, :, None]).tanh() @ scales for p in parts], dim=1)


def heaviest(weights: Tensor, stride: int, reach: int) -> Tensor:
    """weights [batch, row, step], where step i stands for positions stride * i and the `reach` from
    there -> first and last position [batch, row, 2] of each row's heaviest step, -1 of an empty
    row."""
    largest, step = weights.max(-1)
    places = torch.stack([step * stride, step * stride + reach - 1], dim=-1)
    return places.masked_fill(largest[..., None] == 0, -1)
