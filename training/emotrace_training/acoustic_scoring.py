"""Vectors of whole clips, each speaker's clips in a seeded random order, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emotrace_models.encoders.compact_acoustic import collate
from emotrace_models.encoders.prototypes import EMOTIONS, class_prototypes
from emotrace_models.encoders.running_statistics import KEPT, views
from emotrace_models.labels import SCHEMES, LabelSet
from emotrace_models.types import FloatArray
from emotrace_training.acoustic_bank import Bank
from emotrace_training.manifests import Record

Tower = Callable[[Tensor, Tensor, Tensor], Tensor]
Scores = dict[str, float]  # by corpus, and their mean
Vectors = NDArray[np.float32]

DRAWS = 3  # orders in which each speaker's clips are heard


class Labelled(Protocol):
    @property
    def corpus(self) -> str: ...

    @property
    def emotion(self) -> str: ...


@dataclass(frozen=True, slots=True, eq=False)
class Voices:
    """clips: those of the bank, in its order. prior, anchor: as in CompactAcoustic."""

    clips: Sequence[Record]
    bank: Bank
    prior: Tensor
    anchor: float

    def pasts(
        self, chosen: Sequence[int], seed: int, variant: int = 0
    ) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Each chosen clip with the moments [3, KEPT] of all that its speaker said before it."""
        rng = np.random.default_rng(seed)
        sums: dict[str, NDArray[np.float64]] = {}
        for index in rng.permutation(np.asarray(chosen)):
            speaker = self.clips[index].speaker
            earlier = sums.get(speaker, np.zeros((3, KEPT)))
            yield int(index), earlier
            sums[speaker] = earlier + self.bank.moments[index, variant]

    @torch.inference_mode()
    def embed(self, tower: Tower, chosen: Sequence[int], seed: int, variant: int = 0) -> Vectors:
        """Vectors [len(chosen), width] in `chosen`'s order, of the clips themselves (variant 0) or
        of virtual copies of them.
        """
        row_of = {index: row for row, index in enumerate(chosen)}
        heard = self.pasts(chosen, seed, variant)
        waiting = sorted(heard, key=lambda p: self.bank.starts[p[0], variant, 1])
        found: list[Vectors | None] = [None] * len(chosen)
        for at in range(0, len(waiting), 32):
            inputs = []
            for index, earlier in waiting[at : at + 32]:
                frames = torch.from_numpy(self.bank.spoken(index, variant).astype(np.float32))
                mask = torch.ones(len(frames), dtype=torch.bool)
                own = torch.from_numpy(self.bank.moments[index, variant])
                past = torch.from_numpy(earlier.astype(np.float32))
                inputs.append(views(frames, mask, own, past, self.prior, self.anchor))
            vectors = tower(*collate(inputs)).float().numpy()
            for (index, _), vector in zip(waiting[at : at + 32], vectors, strict=True):
                found[row_of[index]] = vector
        return np.stack([vector for vector in found if vector is not None])

    def drawn(self, tower: Tower, chosen: Sequence[int], seed: int) -> Vectors:
        """Vectors [DRAWS, len(chosen), width], in DRAWS orders of each speaker's clips."""
        return np.stack([self.embed(tower, chosen, seed + draw) for draw in range(DRAWS)])


def corpus_uar(vectors: FloatArray, clips: Sequence[Labelled], scheme: str = "common4") -> Scores:
    """Unweighted average recall of the nearest prototype, by corpus, and their mean as `mean`.

    Only clips whose emotion the scheme holds count.
    """
    labels = SCHEMES[scheme]
    guesses = nearest(vectors, labels)
    hits: dict[str, dict[str, list[bool]]] = {}
    for clip, guess in zip(clips, guesses, strict=True):
        if (truth := labels.project(clip.emotion)) is not None:
            hits.setdefault(clip.corpus, {}).setdefault(truth, []).append(guess == truth)
    scores = {
        corpus: float(np.mean([np.mean(found) for found in classes.values()]))
        for corpus, classes in sorted(hits.items())
    }
    return {**scores, "mean": float(np.mean(list(scores.values())))}


def nearest(vectors: FloatArray, labels: LabelSet) -> list[str]:
    """The class of `labels` whose prototype is nearest to each vector."""
    rows = [EMOTIONS.index(name) for name in labels.names]
    prototypes = class_prototypes(vectors.shape[1]).numpy()[rows]
    return [labels.names[i] for i in (vectors @ prototypes.T).argmax(axis=1)]


def scores(vectors: FloatArray, clips: Sequence[Labelled]) -> dict[str, Scores]:
    """UAR of the four and of the seven classes."""
    return {scheme: corpus_uar(vectors, clips, scheme) for scheme in ("common4", "ekman7")}
