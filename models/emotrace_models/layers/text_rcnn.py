"""Recurrent readers of an image's rows (Yu et al., Electronics 2024; models.md section 4.3).

`TextRCNN` is what the paper describes, `ReleasedBiLSTM` what its released code runs.
"""

from __future__ import annotations

from torch import Tensor, cat, nn


class _Recurrent(nn.Module):
    def __init__(self, features: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(features, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True, bidirectional=True)


class TextRCNN(_Recurrent):
    """Each step's embedding beside its BiLSTM outputs, ReLU, the largest of all steps."""

    def __init__(self, features: int, embedding: int, hidden: int) -> None:
        super().__init__(features, embedding, hidden)
        self.width = embedding + 2 * hidden

    def head(self, width: int) -> nn.Module:
        """The published layer behind the vector."""
        return nn.Linear(self.width, width)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, step, feature] -> steps [batch, step, width], vector [batch, width]."""
        embedded = self.embedding(image)
        steps = cat([embedded, self.lstm(embedded)[0]], dim=-1).relu()
        return steps, steps.amax(1)


class ReleasedBiLSTM(_Recurrent):
    """The final states of both directions; the release defines a ReLU and never applies it."""

    def __init__(self, features: int, embedding: int, hidden: int, dropout: float) -> None:
        super().__init__(features, embedding, hidden)
        self.width = 2 * hidden
        self.dropout = dropout

    def head(self, width: int) -> nn.Module:
        """The published layers behind the vector."""
        half = self.width // 2
        dropout = nn.Dropout(self.dropout)
        return nn.Sequential(dropout, nn.Linear(self.width, half), dropout, nn.Linear(half, width))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, step, feature] -> steps [batch, step, width], vector [batch, width]."""
        steps, (final, _) = self.lstm(self.embedding(image))
        return steps, cat([final[0], final[1]], dim=-1)
