"""Contexts as arrays: each utterance's features once, and which utterances stand in which entry.

The entries come from the same windows that serve live dialogues, so training cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emotrace_models.context import Window
from emotrace_models.fusion import Inputs, Sequences
from emotrace_models.types import FloatArray, UtteranceFeatures

EMPTY = -1


@dataclass(frozen=True, slots=True)
class HeardTurn:
    """A turn as the fusion model meets it.

    streams: features [width] or [step, width]. label: class index, or EMPTY for context only.
    """

    speaker: str
    streams: Mapping[str, FloatArray]
    label: int


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """The features of all turns in one stream, one after the other.

    values [step of all turns, width] float32; starts [turn + 1] int64: where each turn's begin;
    a turn without any has none.
    """

    values: FloatArray
    starts: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[turn] steps, 0 where the turn has none."""
        return np.diff(self.starts)

    def padded(self, turns: NDArray[np.int64], keep: NDArray[np.bool_]) -> Sequences:
        """The features of `turns` [row, entry], EMPTY or not in `keep` [row, entry]: absent."""
        lengths = np.where(keep & (turns != EMPTY), self.lengths[turns], 0)
        steps = np.arange(max(1, lengths.max(initial=0)))
        real = steps < lengths[..., None]  # [row, entry, step]
        values = np.zeros((*real.shape, self.values.shape[1]), dtype=np.float32)
        values[real] = self.values[(self.starts[turns][..., None] + steps)[real]]
        return Sequences(torch.from_numpy(values), torch.from_numpy(lengths))


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """All turns of many dialogues, in order.

    entries [turn, entry] int64: the turn that stands there, or EMPTY; labels [turn].
    """

    streams: Mapping[str, Stream]
    entries: NDArray[np.int64]
    labels: NDArray[np.int64]

    @property
    def present(self) -> NDArray[np.bool_]:
        """[turn, stream]: which turns have which stream."""
        return np.stack([stream.lengths > 0 for stream in self.streams.values()], axis=1)

    def targets(self) -> NDArray[np.int64]:
        """Indices of the turns that have a class."""
        return np.flatnonzero(self.labels != EMPTY)

    def filled(self, turns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """[turn, entry, stream]: what there is in the contexts of `turns`."""
        entries = self.entries[turns]
        filled: NDArray[np.bool_] = self.present[entries] & (entries != EMPTY)[..., None]
        return filled

    def gather(
        self, turns: NDArray[np.int64], keep: NDArray[np.bool_] | None = None
    ) -> tuple[Inputs, Tensor]:
        """Contexts of `turns` and their labels [turn].

        keep [turn or 1, entry, stream]: what may be seen of what there is; all of it by default.
        """
        entries = self.entries[turns]
        if keep is None:
            keep = np.ones((1, 1, len(self.streams)), dtype=np.bool_)
        inputs = {
            name: stream.padded(entries, np.broadcast_to(keep[..., column], entries.shape))
            for column, (name, stream) in enumerate(self.streams.items())
        }
        return inputs, torch.from_numpy(self.labels[turns])


def windows(
    dialogues: Sequence[Sequence[HeardTurn]], streams: Mapping[str, int], window: Window
) -> Windows:
    """Dialogues -> arrays. streams: width by name; window: the empty one of the fusion model.

    Raises ValueError where there is no turn.
    """
    turns = [turn for dialogue in dialogues for turn in dialogue]
    if not turns:
        raise ValueError("there are no turns to make windows of")
    entries = np.full((len(turns), len(window.context().entries)), EMPTY, dtype=np.int64)
    number = 0
    for dialogue in dialogues:
        heard = window
        for turn in dialogue:
            if turn.streams:  # a turn of which nothing is known never reaches a predictor
                heard = heard.push(UtteranceFeatures(number, turn.speaker, turn.streams))
                entries[number] = [
                    EMPTY if entry.features is None else entry.features.index
                    for entry in heard.context().entries
                ]
            number += 1
    labels = np.array([turn.label for turn in turns], dtype=np.int64)
    labels[entries[:, 0] == EMPTY] = EMPTY
    return Windows(
        {name: stream_of([t.streams.get(name) for t in turns], w) for name, w in streams.items()},
        entries,
        labels,
    )


def stream_of(features: Sequence[FloatArray | None], width: int) -> Stream:
    """Features of each turn, [width] or [step, width] or None, as one stream."""
    rows = [np.zeros((0, width), np.float32) if f is None else np.atleast_2d(f) for f in features]
    starts = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
    return Stream(np.concatenate(rows).astype(np.float32, copy=False), starts)


def joined(parts: Sequence[Windows]) -> Windows:
    """Several windows as one."""
    firsts = np.cumsum([0, *(len(part.labels) for part in parts)])
    entries = [
        np.where(part.entries == EMPTY, EMPTY, part.entries + first)
        for part, first in zip(parts, firsts[:-1], strict=True)
    ]
    return Windows(
        {name: _end_to_end([part.streams[name] for part in parts]) for name in parts[0].streams},
        np.concatenate(entries),
        np.concatenate([part.labels for part in parts]),
    )


def _end_to_end(streams: Sequence[Stream]) -> Stream:
    firsts = np.cumsum([0, *(len(stream.values) for stream in streams)])
    starts = [stream.starts[:-1] + first for stream, first in zip(streams, firsts, strict=False)]
    return Stream(
        np.concatenate([stream.values for stream in streams]),
        np.concatenate([*starts, firsts[-1:]]),
    )
