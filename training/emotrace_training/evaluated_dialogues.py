"""Composed dialogues through a Predictor, turn by turn, as live ones go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from emotrace_models.bundle import Bundle
from emotrace_models.encoders import Encoder, SpeakerState
from emotrace_models.predictor import Predictor
from emotrace_models.types import FloatArray, Frame, Modality, Transcript, Utterance
from emotrace_training.compose import ComposedDialogue, Turn
from emotrace_training.fusion_windows import class_of, face_vectors
from emotrace_training.labelled_clips import read_sound
from emotrace_training.windows import HeardTurn, Windows, windows

BATCH = 32  # dialogues that go through the predictor side by side


@dataclass(frozen=True, slots=True, eq=False)
class Passed:
    """What the Predictor made of dialogues, turn by turn in order.

    posterior [turn, class] before the decoder; decoder [turn]: its labels, read `lag` turns later.
    """

    dialogues: Sequence[ComposedDialogue]
    part: Windows
    logits: FloatArray
    posterior: NDArray[np.float64]
    decoder: NDArray[np.int64]


class KnownFaces(Encoder):
    """The vectors that the face step left of its pictures, by id: a picture's bytes are its id.

    Composed faces are cut out already, so there is nothing for the bundle's detector to find.
    """

    modality: ClassVar[Modality] = Modality.FACIAL

    def __init__(self, vectors: Mapping[str, FloatArray]) -> None:
        super().__init__(None)
        self._vectors = vectors
        self.width = len(next(iter(vectors.values())))

    @classmethod
    def small(cls) -> tuple[Any, Mapping[str, bytes]]:
        """Raises TypeError: it is made of vectors, not of a config."""
        raise TypeError("known faces have no config")

    def start(self) -> SpeakerState:
        return None

    def encode(
        self, items: Sequence[tuple[SpeakerState, Utterance]]
    ) -> list[tuple[FloatArray | None, SpeakerState]]:
        return [(self._vector(utterance), state) for state, utterance in items]

    def _vector(self, utterance: Utterance) -> FloatArray | None:
        for frame in utterance.frames:
            if isinstance(frame.image, bytes):
                return self._vectors[frame.image.decode()]
        return None


def with_known_faces(bundle: Bundle, file: Path) -> Bundle:
    """The bundle with the face step's vectors of composed faces instead of its face encoder."""
    known = KnownFaces(face_vectors(file))
    encoders = [e for e in bundle.encoders if e.modality != Modality.FACIAL]
    return replace(bundle, encoders=(*encoders, known))


def utterance(index: int, turn: Turn) -> Utterance:
    """A composed turn as the service would hand it to the Predictor."""
    samples = None if turn.clip is None else read_sound(Path(turn.clip))
    frames = () if turn.face is None else (Frame(0, turn.face.encode()),)
    length = 0 if samples is None else len(samples)
    words = Transcript(turn.text, "client")
    return Utterance(index, turn.speaker, 0, length, samples, words, frames)


def noticed(bundle: Bundle, dialogues: Sequence[ComposedDialogue]) -> list[ComposedDialogue]:
    """The dialogues without the turns of which the bundle has nothing to go by: no voice, no face
    that it looks at, and no words that it reads. A live session gives no estimate for those."""
    looks = Modality.FACIAL in bundle.fusion.modalities
    readers = [encoder for encoder in bundle.encoders if encoder.modality == Modality.LEXICAL]

    def there(turn: Turn) -> bool:
        if turn.clip is not None or (looks and turn.face is not None):
            return True
        said = utterance(0, turn)
        return any(e.encode([(e.start(), said)])[0][0] is not None for e in readers)

    kept = [replace(d, turns=tuple(turn for turn in d.turns if there(turn))) for d in dialogues]
    return [dialogue for dialogue in kept if dialogue.turns]


def pass_through(predictor: Predictor, dialogues: Sequence[ComposedDialogue]) -> Passed:
    """All dialogues through the Predictor, several side by side, which changes nothing.

    Raises NothingToHear for a turn of which the bundle has nothing; see `noticed`.
    """
    labels, lag = predictor.bundle.labels, predictor.bundle.decoder.lag
    looks = Modality.FACIAL in predictor.modalities
    heard: list[list[HeardTurn]] = [[] for _ in dialogues]
    logits: list[list[FloatArray]] = [[] for _ in dialogues]
    posteriors: list[list[NDArray[np.float64]]] = [[] for _ in dialogues]
    decoder: list[list[int]] = [[] for _ in dialogues]
    with tqdm(total=sum(len(d.turns) for d in dialogues), unit="turn", leave=False) as bar:
        for start in range(0, len(dialogues), BATCH):
            group = range(start, min(start + BATCH, len(dialogues)))
            states = {i: predictor.start() for i in group}
            for number in range(max(len(dialogues[i].turns) for i in group)):
                at = [i for i in group if number < len(dialogues[i].turns)]
                turns = [dialogues[i].turns[number] for i in at]
                items = [
                    (states[i], utterance(number, turn if looks else replace(turn, face=None)))
                    for i, turn in zip(at, turns, strict=True)
                ]
                encoded = predictor.encode(items)
                results = predictor.decode(predictor.fuse(encoded))
                for i, turn, found, (state, outcome) in zip(
                    at, turns, encoded, results, strict=True
                ):
                    states[i] = state
                    label = class_of(turn.label, labels)
                    heard[i].append(HeardTurn(turn.speaker, found.features.streams, label))
                    logits[i].append(outcome.prediction.logits)
                    posteriors[i].append(outcome.prediction.posterior)
                    decoder[i].append(outcome.decision.label)
                    for revision in outcome.revisions:
                        if lag is None or number - revision.turn <= lag:
                            decoder[i][revision.turn] = revision.new
                bar.update(len(at))
    fusion = predictor.bundle.fusion
    widths = {name: spec.width for name, spec in fusion.streams.items()}
    return Passed(
        dialogues,
        windows(heard, widths, fusion.start_window()),
        np.array([row for rows in logits for row in rows]),
        np.array([row for rows in posteriors for row in rows]),
        np.array([label for rows in decoder for label in rows]),
    )
