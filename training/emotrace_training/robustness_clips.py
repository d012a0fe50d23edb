"""The clips that robustness is measured on, in memory, and voices for babble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emotrace_models.labels import SCHEMES
from emotrace_models.types import FloatArray
from emotrace_training.labelled_clips import (
    LabelledClip,
    LabelsUnreadable,
    class_of,
    read_labels,
    read_sound,
)

SPEECH = ("emodb", "ravdess_speech", "nemo")
WIDEST = SCHEMES["ekman7"]
BABBLERS = 20  # clips a corpus


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """speaker: `corpus:speaker`. emotion: of ekman7."""

    corpus: str
    speaker: str
    emotion: str
    samples: FloatArray


def read_speech(data: Path, split: str, seed: int) -> tuple[list[Clip], list[FloatArray]]:
    """The clips of a split with an emotion of ekman7, and some clips of training speakers.

    A split of training speakers would hear its own voices as babble: LabelsUnreadable, as for
    tables and sound that cannot be read.
    """
    if split not in ("valid", "test"):
        raise LabelsUnreadable(f"robustness is measured on valid or test, not on {split!r}")
    clips, voices = [], []
    for corpus in SPEECH:
        table, root = data / corpus / "labels.csv", data / corpus
        for row in read_labels(table, split)[0]:
            emotion = class_of(row.emotion, WIDEST)
            if emotion is not None:
                clips.append(Clip(corpus, f"{corpus}:{row.speaker}", emotion, _sound(root, row)))
        strangers = read_labels(table, "train")[0]
        chosen = np.random.default_rng(seed).permutation(len(strangers))[:BABBLERS]
        voices += [_sound(root, strangers[int(i)]) for i in chosen]
    return clips, voices


def sampled(clips: Sequence[Clip], most: int, seed: int) -> list[int]:
    """At most `most` clips of each corpus, as even over speakers and emotions as they come."""
    cells: dict[str, dict[tuple[str, str], list[int]]] = {}
    for i in np.random.default_rng(seed).permutation(len(clips)):
        clip = clips[i]
        cell = cells.setdefault(clip.corpus, {}).setdefault((clip.speaker, clip.emotion), [])
        cell.append(int(i))
    chosen: list[int] = []
    for corpus in cells.values():
        ranked = sorted((rank, i) for cell in corpus.values() for rank, i in enumerate(cell))
        chosen += [i for _, i in ranked[:most]]
    return sorted(chosen)


def _sound(root: Path, clip: LabelledClip) -> FloatArray:
    try:
        return read_sound(root / clip.file, clip.span)
    except ValueError as error:
        raise LabelsUnreadable(f"{root / clip.file}: {error}") from error
