"""All turns of a dataset in memory, and batches of their contexts as tensors.

Streams of frozen encoders stand there as features; those of tuned encoders as what their front ends
gave, each utterance once a batch however often it stands in a context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emotrace_models.context import Window
from emotrace_models.fusion import Sequences
from emotrace_training.dataset import Dataset
from emotrace_training.feature_cache import Features
from emotrace_training.windows import EMPTY, HeardTurn, Windows, windows


@dataclass(frozen=True, slots=True, eq=False)
class FrontBatch:
    """values [utterance, position, ...], zeros on the right; lengths [utterance]; where
    [row, entry]: the utterance that stands there, or EMPTY."""

    values: Tensor
    lengths: Tensor
    where: Tensor

    def to(self, device: torch.device) -> FrontBatch:
        return FrontBatch(self.values.to(device), self.lengths.to(device), self.where.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Contexts of some turns: streams as features, or as fronts; labels [row]."""

    features: Mapping[str, Sequences]
    fronts: Mapping[str, FrontBatch]
    labels: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(
            {
                name: Sequences(stream.values.to(device), stream.lengths.to(device))
                for name, stream in self.features.items()
            },
            {name: fronts.to(device) for name, fronts in self.fronts.items()},
            self.labels.to(device),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Fronts:
    """What a front end gave, one turn after the other: values [position of all turns, ...]; starts
    [turn + 1]."""

    values: NDArray[Any]
    starts: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts)

    def batch(self, turns: NDArray[np.int64], keep: NDArray[np.bool_]) -> FrontBatch:
        """turns [row, entry], EMPTY or not in `keep` [row, entry]: absent."""
        seen = keep & (turns != EMPTY) & (self.lengths[turns] > 0)
        unique, inverse = np.unique(turns[seen], return_inverse=True)
        where = np.full(turns.shape, EMPTY, dtype=np.int64)
        where[seen] = inverse
        lengths = self.lengths[unique]
        steps = np.arange(lengths.max(initial=0))
        real = steps < lengths[:, None]
        values = np.zeros((*real.shape, *self.values.shape[1:]), dtype=self.values.dtype)
        values[real] = self.values[(self.starts[unique][:, None] + steps)[real]]
        return FrontBatch(
            torch.from_numpy(values), torch.from_numpy(lengths), torch.from_numpy(where)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """streams: in the model's order. present [turn, stream]. windows: entries, labels, frozen
    streams; turns are the dataset's records, in its order."""

    streams: tuple[str, ...]
    windows: Windows
    fronts: Mapping[str, Fronts]
    present: NDArray[np.bool_]

    def batch(self, turns: NDArray[np.int64], keep: NDArray[np.bool_] | None = None) -> Batch:
        """keep [turn or 1, entry, stream]: what may be seen of what there is; None for all."""
        entries = self.windows.entries[turns]
        shape = (*entries.shape, len(self.streams))
        seen = np.broadcast_to(True if keep is None else keep, shape)
        column = {name: seen[..., i] for i, name in enumerate(self.streams)}
        return Batch(
            {
                name: stream.padded(entries, column[name])
                for name, stream in self.windows.streams.items()
            },
            {name: fronts.batch(entries, column[name]) for name, fronts in self.fronts.items()},
            torch.from_numpy(self.windows.labels[turns]),
        )

    def heard(self) -> NDArray[np.bool_]:
        """[turn]: those of which anything is there."""
        return np.asarray(self.present.any(axis=1))

    def complete(self) -> NDArray[np.bool_]:
        """[turn]: those with every stream."""
        return np.asarray(self.present.all(axis=1))


def table_of(
    dataset: Dataset,
    features: Mapping[str, Sequence[Features]],
    tuned: frozenset[str],
    window: Window,
) -> Table:
    """features: of each stream by record, in the model's order of streams. tuned: streams that hold
    what a front end gave. Raises ValueError where a stream has nothing at all."""
    for name, found in features.items():
        if all(f is None for f in found):
            raise ValueError(f"stream {name}: no record has any features")
    dialogues = [
        [
            HeardTurn(
                dataset.records[i].speaker,
                {name: f for name, found in features.items() if (f := found[i]) is not None},
                int(dataset.labels[i]),
            )
            for i in dialogue
        ]
        for dialogue in dataset.dialogues()
    ]
    widths = {
        name: int(next(f.shape[-1] for f in found if f is not None))
        for name, found in features.items()
        if name not in tuned
    }
    return Table(
        tuple(features),
        windows(dialogues, widths, window),
        {name: fronts_of(found) for name, found in features.items() if name in tuned},
        np.array([[f is not None for f in found] for found in features.values()]).T,
    )


def fronts_of(features: Sequence[Features]) -> Fronts:
    """Arrays [position, ...] of each turn, or None, as one."""
    one = next(f for f in features if f is not None)
    nothing = np.zeros((0, *one.shape[1:]), dtype=one.dtype)
    rows = [nothing if f is None else f for f in features]
    return Fronts(np.concatenate(rows), np.cumsum([0, *(len(r) for r in rows)], dtype=np.int64))
