"""What the fusion model is fitted to: composed dialogues, single clips and single faces as windows.

Vectors of train and dev are those of towers that never heard the actor and never saw the line or
the face, so that each looks to the fusion model as it will when somebody new speaks.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from emotrace_models.encoders.prototypes import in_frame
from emotrace_models.fusion import GatedxLSTM
from emotrace_models.labels import LabelSet
from emotrace_models.types import FloatArray, Modality
from emotrace_training.casting import RECORD_SPLITS, casting
from emotrace_training.compose import ComposedDialogue, composed_file, read_composed
from emotrace_training.dialogues import Split
from emotrace_training.fusion_fitting import class_weights
from emotrace_training.hearing import Listener, load_listener
from emotrace_training.lexical import VECTORS, load_tower
from emotrace_training.lexical_fitting import embed
from emotrace_training.manifests import read_manifest
from emotrace_training.windows import EMPTY, HeardTurn, Stream, Windows, windows

FACES, HELD_OUT = "faces.npz", "oof.npz"
Vectors = list[list[FloatArray | None]]  # of each turn of each dialogue


def of_seed(folder: Path, seed: int) -> Path:
    """Where a step left the tower of a seed: FOLDER of seed 0, FOLDER-1 of seed 1, and so on;
    FOLDER where there is none of that seed."""
    own = folder.with_name(f"{folder.name}-{seed}")
    return own if seed and own.is_dir() else folder


@dataclass(frozen=True)
class Sources:
    """The folders of the steps before, for the fusion model of one seed.

    lexical: of seed 0, whose vectors of training lines come from towers that never saw them;
    words: whose tower reads the lines of dev. cache: where heard dialogues are kept. faces: None
    for a model that does not look.
    """

    labels: LabelSet
    composed: Path
    manifest: Path
    acoustic: Path
    lexical: Path
    words: Path
    faces: Path | None
    cache: Path
    threads: int = 1

    @cached_property
    def listener(self) -> Listener:
        return load_listener(self.acoustic, read_manifest(self.manifest), self.threads)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        heard = (Modality.ACOUSTIC, Modality.LEXICAL)
        return heard if self.faces is None else (*heard, Modality.FACIAL)

    def dialogue_windows(self, split: Split, number: int) -> Windows:
        """One draw of composed dialogues."""
        dialogues = read_composed(composed_file(self.composed, split, number))
        if split == "train":
            voices, words = self._recalled(dialogues, number), self._out_of_fold(dialogues)
        else:
            voices, words = self._heard(dialogues, split, number), self._read(dialogues)
        found = {Modality.ACOUSTIC: voices, Modality.LEXICAL: words}
        if self.faces is not None:
            found[Modality.FACIAL] = _seen(self.faces, dialogues)
        turns = [
            [
                HeardTurn(
                    turn.speaker,
                    {m.value: v for m, vs in found.items() if (v := vs[d][t]) is not None},
                    class_of(turn.label, self.labels),
                )
                for t, turn in enumerate(dialogue.turns)
            ]
            for d, dialogue in enumerate(dialogues)
        ]
        return windows_of(turns, self.modalities, _width(found))

    def _recalled(self, dialogues: Sequence[ComposedDialogue], number: int) -> Vectors:
        """The voices as each clip was heard after one of its speaker's random pasts: hearing all
        training turns in their own dialogues takes ten times as long as fitting the model."""
        with np.load(self.acoustic / HELD_OUT) as table:
            files, found = table["file"].tolist(), framed(table["vector"])
        places: dict[str, list[int]] = {}
        for place, name in enumerate(files):
            places.setdefault(name, []).append(place)
        draws = random.Random(number)
        return [
            [
                None if turn.clip is None else found[draws.choice(places[turn.clip])]
                for turn in d.turns
            ]
            for d in dialogues
        ]

    def _heard(self, dialogues: Sequence[ComposedDialogue], split: Split, number: int) -> Vectors:
        """The voices, heard in their dialogues; read back where an earlier run has heard them."""
        file = self.cache / f"heard-{split}-{number}.npz"
        if not file.is_file():
            count = sum(len(d.turns) for d in dialogues)
            with tqdm(desc=f"hear {split} {number}", total=count) as bar:
                heard = self.listener.hear(dialogues, bar.update)
            vectors = [vector for turns in heard for vector in turns if vector is not None]
            self.cache.mkdir(parents=True, exist_ok=True)
            np.savez(file, vectors=np.stack(vectors))
        with np.load(file) as table:
            kept = iter(framed(table["vectors"]))
        return [[None if turn.clip is None else next(kept) for turn in d.turns] for d in dialogues]

    def _out_of_fold(self, dialogues: Sequence[ComposedDialogue]) -> Vectors:
        with np.load(self.lexical / VECTORS) as table:
            keys = zip(table["dialogue"].tolist(), table["line"].tolist(), strict=True)
            known = dict(zip(keys, framed(table["vectors"]), strict=True))
        return [
            [known[d.id, i] if turn.text.strip() else None for i, turn in enumerate(d.turns)]
            for d in dialogues
        ]

    def _read(self, dialogues: Sequence[ComposedDialogue]) -> Vectors:
        lines = [turn.text for d in dialogues for turn in d.turns]
        vectors = iter(embed(load_tower(self.words), lines))
        found = [[(turn, next(vectors)) for turn in dialogue.turns] for dialogue in dialogues]
        return [[v if turn.text.strip() else None for turn, v in turns] for turns in found]


@dataclass(frozen=True, slots=True, eq=False)
class Singles:
    """Clips or faces, each of which stands alone: vector, class and number of the corpus."""

    modality: Modality
    vectors: FloatArray
    labels: NDArray[np.int64]
    corpus: NDArray[np.int64]

    def windows(self, modalities: Sequence[Modality]) -> Windows:
        """Each as a dialogue of its own."""
        turns = [
            [HeardTurn("speaker", {self.modality.value: vector}, label)]
            for vector, label in zip(self.vectors, self.labels.tolist(), strict=True)
        ]
        return windows_of(turns, modalities, self.vectors.shape[1])

    def weights(self, classes: int) -> FloatArray:
        """Of the loss, [item]: corpora and classes by the square root of how many they have."""
        groups = np.where(self.labels == EMPTY, EMPTY, self.labels + classes * self.corpus)
        return class_weights(groups, classes * (int(self.corpus.max()) + 1), 0.5)


def single_clips(acoustic: Path, labels: LabelSet, split: Split) -> Singles:
    """Clips of a split's actors by the tower that never heard them, in one of the orders in which
    it was heard."""
    with np.load(acoustic / HELD_OUT) as table:
        names = ("corpus", "speaker", "split")
        cast = casting(zip(*(table[name].tolist() for name in names), strict=True))
        spoken = np.array([cast[speaker] == split for speaker in table["speaker"].tolist()])
        chosen = np.flatnonzero(spoken & (table["draw"] == 0))
        corpora, emotions = table["corpus"][chosen], table["emotion"][chosen]
        vectors = framed(table["vector"][chosen])
    _, corpus = np.unique(corpora, return_inverse=True)
    found = np.array([class_of(str(emotion), labels) for emotion in emotions], dtype=np.int64)
    return Singles(Modality.ACOUSTIC, vectors, found, corpus)


def single_faces(file: Path, labels: LabelSet, split: Split) -> Singles:
    """The face step's pictures of one split, none of which the network was taught."""
    with np.load(file) as table:
        chosen = table["side"] == RECORD_SPLITS[split]
        emotions, vectors = table["emotion"][chosen], framed(table["vector"][chosen])
    found = np.array([class_of(str(emotion), labels) for emotion in emotions], dtype=np.int64)
    return Singles(Modality.FACIAL, vectors, found, np.zeros(len(found), dtype=np.int64))


def framed(vectors: FloatArray) -> FloatArray:
    """Vectors [row, width] that a step has kept, as encoders give them."""
    found: FloatArray = in_frame(torch.from_numpy(vectors)).numpy()
    return found


def class_of(label: str, labels: LabelSet) -> int:
    """The class index of a canonical label, or EMPTY outside the scheme: context only."""
    name = labels.project(label)
    return EMPTY if name is None else labels.index(name)


def windows_of(
    turns: Sequence[Sequence[HeardTurn]], modalities: Sequence[Modality], width: int
) -> Windows:
    """Dialogues as GatedxLSTM meets them; all streams have vectors of one width."""
    return windows(turns, {m.value: width for m in modalities}, GatedxLSTM.start_window())


def face_vectors(file: Path) -> dict[str, FloatArray]:
    """Vectors of the face step's pictures by id."""
    with np.load(file) as table:
        return dict(zip(table["id"].tolist(), framed(table["vector"]), strict=True))


def save_windows(file: Path, part: Windows) -> None:
    tables: dict[str, Any] = {"entries": part.entries, "labels": part.labels}
    for name, stream in part.streams.items():
        tables |= {f"{name}.values": stream.values, f"{name}.starts": stream.starts}
    np.savez(file, streams=np.array(list(part.streams)), **tables)


def load_windows(file: Path) -> Windows:
    """What `save_windows` wrote."""
    with np.load(file) as table:
        streams = {
            name: Stream(table[f"{name}.values"], table[f"{name}.starts"])
            for name in table["streams"].tolist()
        }
        return Windows(streams, table["entries"], table["labels"])


def _seen(file: Path, dialogues: Sequence[ComposedDialogue]) -> Vectors:
    known = face_vectors(file)
    return [[None if t.face is None else known[t.face] for t in d.turns] for d in dialogues]


def _width(found: dict[Modality, Vectors]) -> int:
    """All streams have vectors of one width."""
    return next(len(v) for vs in found.values() for turns in vs for v in turns if v is not None)
