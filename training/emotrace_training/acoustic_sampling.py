"""Draws training batches from a bank: balanced, cropped at random, with a simulated past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emotrace_models.encoders.prototypes import EMOTIONS, prototype_index
from emotrace_models.encoders.running_statistics import KEPT
from emotrace_models.encoders.spectral import COLUMNS
from emotrace_training.acoustic_bank import Bank
from emotrace_training.manifests import Record

CROPS = (100, 130, 160, 200, 240)  # frames; one is drawn for a batch
MARGIN = 15  # frames of silence that may stand round the speech
CORPUS_POWER = 0.35  # draws from a corpus grow with its clips to this power
MAIN = ("anger", "happiness", "neutral", "sadness")
CLEAN_SHARE = 0.3
ALONE_SHARE, SAME_EMOTION_SHARE = 0.15, 0.15  # of pasts
LONGEST_PAST = 40  # clips


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """frames [item, frame, COLUMNS], mask [item, frame], earlier [item, 3, KEPT], labels [item]."""

    frames: Tensor
    mask: Tensor
    earlier: Tensor
    labels: Tensor


class Sampler:
    """clips: those of the bank, in its order; chosen: the indices of those that may be drawn.

    others: share of draws with an emotion that is none of MAIN.
    """

    def __init__(
        self,
        clips: Sequence[Record],
        chosen: Sequence[int],
        bank: Bank,
        rng: np.random.Generator,
        others: float,
    ) -> None:
        self._bank = bank
        self._rng = rng
        self._others = others
        self._labels = labels_of(clips)
        self._chosen = np.array([i for i in chosen if self._labels[i] >= 0])
        self._speaker = np.array([clip.speaker for clip in clips])
        self._shares = self._balanced([clips[i].corpus for i in self._chosen])
        self._past = {
            s: self._chosen[self._speaker[self._chosen] == s]
            for s in sorted(set(self._speaker[self._chosen]))
        }

    def _balanced(self, corpora: Sequence[str]) -> NDArray[np.float64]:
        """Probability of each chosen clip: corpora tempered, main emotions equal in a corpus."""
        names, corpus = np.unique(np.array(corpora), return_inverse=True)
        labels = self._labels[self._chosen]
        main = np.isin(labels, [EMOTIONS.index(name) for name in MAIN])
        shares = np.zeros(len(labels))
        for c in range(len(names)):
            weight = float((corpus == c).sum()) ** CORPUS_POWER
            groups = [(main, 1 - self._others), (~main, self._others)]
            for group, share in groups:
                here = (corpus == c) & group
                for label in np.unique(labels[here]):
                    cell = here & (labels == label)
                    shares[cell] = weight * share / len(np.unique(labels[here])) / cell.sum()
        return np.asarray(shares / shares.sum())

    def batch(self, size: int) -> Batch:
        length = int(self._rng.choice(CROPS))
        frames = np.zeros((size, length, COLUMNS), np.float32)
        mask = np.zeros((size, length), bool)
        earlier = np.zeros((size, 3, KEPT), np.float32)
        drawn = self._rng.choice(self._chosen, size, p=self._shares)
        for row, clip in enumerate(drawn):
            variant = 0
            if self._rng.random() >= CLEAN_SHARE and self._bank.variants > 1:
                variant = int(self._rng.integers(1, self._bank.variants))
            crop = self._crop(self._bank.clip(clip, variant), clip, variant, length)
            frames[row, : len(crop)] = crop
            mask[row, : len(crop)] = True
            past = self._draw_past(clip)
            earlier[row] = self._bank.moments[past, variant].sum(axis=0)
        return Batch(
            torch.from_numpy(frames),
            torch.from_numpy(mask),
            torch.from_numpy(earlier),
            torch.from_numpy(self._labels[drawn]),
        )

    def _crop(
        self,
        frames: NDArray[np.float16],
        clip: int,
        variant: int,
        length: int,
    ) -> NDArray[np.float16]:
        """At most `length` frames round the speech; a quarter of the crops begin at its onset."""
        first, last = self._bank.active[clip, variant]
        low = max(0, int(first) - int(self._rng.integers(MARGIN + 1)))
        high = min(len(frames), int(last) + 1 + int(self._rng.integers(MARGIN + 1)))
        if high - low <= length:
            return frames[low:high]
        start = low
        if self._rng.random() >= 0.25:
            start = int(self._rng.integers(low, high - length + 1))
        return frames[start : start + length]

    def _draw_past(self, clip: int) -> NDArray[np.int64]:
        """Which clips the speaker said before: none, a few, many; sometimes all of one emotion."""
        others: NDArray[np.int64] = self._past[self._speaker[clip]]
        others = others[others != clip]
        kind = self._rng.random()
        if kind < ALONE_SHARE:
            return others[:0]
        if kind < ALONE_SHARE + SAME_EMOTION_SHARE:
            others = others[self._labels[others] == self._labels[clip]]
        if not len(others):
            return others
        count = round(float(np.exp(self._rng.uniform(0.0, np.log(LONGEST_PAST)))))
        return np.asarray(self._rng.choice(others, min(count, len(others)), replace=False))


def labels_of(clips: Sequence[Record]) -> NDArray[np.int64]:
    """The prototype of each clip's emotion, -1 where it has none."""
    rows = [prototype_index(clip.emotion) for clip in clips]
    return np.array([-1 if row is None else row for row in rows], dtype=np.int64)
