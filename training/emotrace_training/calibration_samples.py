"""Logits and truth that calibration is fitted to, for every set of modalities there may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotrace_models.calibration import modality_key
from emotrace_models.types import FloatArray, Modality
from emotrace_training.compose import ComposedDialogue
from emotrace_training.fusion import Fitted, subsets
from emotrace_training.fusion_fitting import logits_of, only, used_of
from emotrace_training.fusion_windows import Singles, single_clips, single_faces
from emotrace_training.label_views import LabelView
from emotrace_training.windows import EMPTY, Windows


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """logits [item, class]; truth [item]; dialogue [item]: the number of the dialogue or single
    item, to hold some out; situation [item]: 0 a dialogue, else the corpus of a single item."""

    logits: FloatArray
    truth: NDArray[np.int64]
    dialogue: NDArray[np.int64]
    situation: NDArray[np.int64]

    @property
    def weight(self) -> NDArray[np.float64]:
        """[item], their sum is the number of items: dialogues weigh as much as all single items
        together, each corpus of these the same."""
        counts = np.bincount(self.situation)
        shares = np.where(counts > 0, 1.0, 0.0)
        shares[1:] /= max(1.0, shares[1:].sum())
        weights = (shares / np.maximum(counts, 1))[self.situation]
        return np.asarray(weights * len(weights) / weights.sum())

    def part(self, chosen: NDArray[np.bool_]) -> Sample:
        return Sample(
            self.logits[chosen], self.truth[chosen], self.dialogue[chosen], self.situation[chosen]
        )

    def viewed(self, view: LabelView) -> Sample:
        """The items that have a class of the label set asked for, by its classes."""
        truth = view.truth(self.truth)
        seen = Sample(view.logits(self.logits), truth, self.dialogue, self.situation)
        return seen.part(truth != EMPTY)


def samples_of(
    fitted: Fitted,
    dialogues: Sequence[ComposedDialogue],
    dev: Windows,
    acoustic: Path,
    faces: Path | None,
) -> dict[str, Sample]:
    """By `modality_key`. dialogues: of dev's turns, in order. acoustic, faces: single clips and
    faces of dev too."""
    names = {name: i for i, name in enumerate(dict.fromkeys(d.id for d in dialogues))}
    of_turn = np.array([names[d.id] for d in dialogues for _ in d.turns])
    singles = {Modality.ACOUSTIC.value: single_clips(acoustic, fitted.labels, "dev")}
    if faces is not None:
        singles[Modality.FACIAL.value] = single_faces(faces, fitted.labels, "dev")
    found = {}
    for chosen in subsets(fitted.model.modalities):
        key, keep = modality_key(chosen), only(chosen, dev, False)
        turns = dev.targets()
        turns = turns[used_of(dev, turns, keep) == key]
        parts = [
            Sample(
                logits_of(fitted.model, dev, turns, keep),
                dev.labels[turns],
                of_turn[turns],
                np.zeros(len(turns), np.int64),
            )
        ]
        if key in singles:
            parts.append(_alone(fitted, singles[key]))
        found[key] = Sample(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("logits", "truth", "dialogue", "situation")
            )
        )
    return found


def _alone(fitted: Fitted, singles: Singles) -> Sample:
    part = singles.windows(fitted.model.modalities)
    turns = part.targets()
    return Sample(
        logits_of(fitted.model, part, turns), part.labels[turns], turns, 1 + singles.corpus[turns]
    )
