"""Contexts as arrays: each utterance's vectors once, and which utterances stand in which slot.

The slots come from the same ContextWindow that serves live dialogues, so training cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emotrace_models.context import OFFSETS, ContextWindow
from emotrace_models.types import FloatArray, Modality, UtteranceFeatures

EMPTY = -1
PAIRS = 2 * OFFSETS  # self and interlocutor at each offset


@dataclass(frozen=True, slots=True)
class HeardTurn:
    """A turn as the fusion model meets it. label: class index, or EMPTY for context only."""

    speaker: str
    vectors: Mapping[Modality, FloatArray]
    label: int


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """All turns of many dialogues, in order.

    vectors [turn, modality, width] float32, zero where absent; present [turn, modality] bool;
    slots [turn, pair] int64, the turn that stands at (offset, role) or EMPTY; labels [turn].
    """

    modalities: tuple[Modality, ...]
    vectors: FloatArray
    present: NDArray[np.bool_]
    slots: NDArray[np.int64]
    labels: NDArray[np.int64]

    def targets(self) -> NDArray[np.int64]:
        """Indices of the turns that have a class."""
        return np.flatnonzero(self.labels != EMPTY)

    def gather(
        self, turns: NDArray[np.int64], keep: NDArray[np.bool_] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Contexts of `turns`: vectors [turn, slot, width], valid [turn, slot], labels [turn].

        keep [turn, pair, modality]: what may be seen of what there is; all of it by default.
        """
        index = self.slots[turns]  # [turn, pair]
        valid = self.present[index] & (index != EMPTY)[..., None]  # [turn, pair, modality]
        if keep is not None:
            valid &= keep
        vectors = self.vectors[index] * valid[..., None]
        flat = (len(turns), PAIRS * len(self.modalities))
        return (
            torch.from_numpy(vectors.reshape(*flat, -1)),
            torch.from_numpy(valid.reshape(flat)),
            torch.from_numpy(self.labels[turns]),
        )


def windows(
    dialogues: Sequence[Sequence[HeardTurn]], modalities: tuple[Modality, ...], width: int
) -> Windows:
    """Dialogues -> arrays. Raises ValueError where there is no turn."""
    turns = [turn for dialogue in dialogues for turn in dialogue]
    if not turns:
        raise ValueError("there are no turns to make windows of")
    vectors = np.zeros((len(turns), len(modalities), width), dtype=np.float32)
    present = np.zeros((len(turns), len(modalities)), dtype=np.bool_)
    slots = np.full((len(turns), PAIRS), EMPTY, dtype=np.int64)
    number = 0
    for dialogue in dialogues:
        window = ContextWindow.empty()
        for turn in dialogue:
            for column, modality in enumerate(modalities):
                if (vector := turn.vectors.get(modality)) is not None:
                    vectors[number, column] = vector
                    present[number, column] = True
            if turn.vectors:  # a turn of which nothing is known never reaches a predictor
                window = window.push(UtteranceFeatures(number, turn.speaker, turn.vectors))
                pairs = window.context().pairs
                slots[number] = [EMPTY if f is None else f.index for pair in pairs for f in pair]
            number += 1
    labels = np.array([turn.label for turn in turns], dtype=np.int64)
    labels[slots[:, 0] == EMPTY] = EMPTY
    return Windows(modalities, vectors, present, slots, labels)


def joined(parts: Sequence[Windows]) -> Windows:
    """Several windows as one."""
    starts = np.cumsum([0, *(len(part.labels) for part in parts)])
    slots = [
        np.where(part.slots == EMPTY, EMPTY, part.slots + start)
        for part, start in zip(parts, starts[:-1], strict=True)
    ]
    return Windows(
        parts[0].modalities,
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.present for part in parts]),
        np.concatenate(slots),
        np.concatenate([part.labels for part in parts]),
    )
