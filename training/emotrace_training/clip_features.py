"""Labelled clips through a bundle, by the Predictor's own steps, each clip on its own.

No clip is context of another, as in a session of one utterance. What an encoder keeps of a speaker
is carried from clip to clip of that speaker, which come in a seeded random order. Features are
encoded once; what the fusion model makes of them can then be asked for any set of modalities.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from emotrace_models.bundle import Bundle, BundleError
from emotrace_models.predictor import DialogueState, Encoded, NothingToHear, Predictor
from emotrace_models.types import (
    FloatArray,
    Modality,
    Prediction,
    Transcript,
    Utterance,
    UtteranceFeatures,
    frozen_mapping,
)
from emotrace_training.labelled_clips import LabelledClip, read_sound

BATCH = 16


@dataclass(frozen=True, slots=True, eq=False)
class HeardClips:
    """Clips that could be read, in the order in which they were heard.

    clips: their numbers in the table. unreadable: file and reason, by place in the table.
    """

    clips: tuple[int, ...]
    features: tuple[UtteranceFeatures, ...]
    unreadable: dict[str, str]


def hear(
    predictor: Predictor,
    table: Sequence[LabelledClip],
    wanted: Sequence[int],
    root: Path,
    seed: int,
    words: bool = False,
    note: Callable[[int, FloatArray], None] | None = None,
) -> HeardClips:
    """The features of clips `wanted` of a table. words: also what the column `text` says. note: is
    given the number and the samples of each clip that is heard.

    Raises BundleError where the bundle needs what a clip does not have.
    """
    order = [int(i) for i in np.random.default_rng(seed).permutation(wanted)]
    clips: list[int] = []
    features: list[UtteranceFeatures] = []
    unreadable: dict[str, str] = {}
    states: dict[str, DialogueState] = {}
    with tqdm(total=len(order), unit="clip", leave=False) as bar:
        for wave in _waves(order, table):
            items = []
            for i in wave:
                clip = table[i]
                try:
                    utterance = _utterance(i, clip, root, words)
                except ValueError as error:
                    unreadable[clip.place or clip.file] = f"{clip.file}: {error}"
                    continue
                if note is not None and utterance.samples is not None:
                    note(i, utterance.samples)
                items.append((states.get(clip.speaker, predictor.start()), utterance))
            for encoded in _encoded(predictor, items):
                found = encoded.features
                states[found.speaker] = replace(predictor.start(), speakers=encoded.state.speakers)
                clips.append(found.index)
                features.append(found)
            bar.update(len(wave))
    return HeardClips(tuple(clips), tuple(features), unreadable)


def shown(
    features: UtteranceFeatures, bundle: Bundle, modalities: Collection[Modality]
) -> UtteranceFeatures:
    """An utterance of which only these modalities are known."""
    known = bundle.fusion.stream_modalities
    streams = {name: v for name, v in features.streams.items() if known[name] in modalities}
    return replace(features, streams=frozen_mapping(streams))


def predictions(predictor: Predictor, features: Sequence[UtteranceFeatures]) -> list[Prediction]:
    """What the bundle makes of utterances, each without context."""
    found: list[Prediction] = []
    start = predictor.start()
    for first in range(0, len(features), BATCH):
        items = [
            Encoded(replace(start, window=start.window.push(one)), one)
            for one in features[first : first + BATCH]
        ]
        found += [fused.prediction for fused in predictor.fuse(items)]
    return found


def logits_of(found: Sequence[Prediction]) -> FloatArray:
    """Raw logits [clip, class]."""
    return np.stack([one.logits for one in found])


def _utterance(index: int, clip: LabelledClip, root: Path, words: bool) -> Utterance:
    """Raises ValueError where there is no sound to read."""
    samples = read_sound(root / clip.file, clip.span)
    said = None
    if words and clip.text:
        said = Transcript(clip.text, "client", clip.language or None)
    return Utterance(index, clip.speaker, 0, len(samples), samples, said)


def _encoded(
    predictor: Predictor, items: Sequence[tuple[DialogueState, Utterance]]
) -> list[Encoded]:
    try:
        return predictor.encode(items) if items else []
    except NothingToHear as error:
        raise BundleError(f"the bundle cannot hear: {error}") from error


def _waves(order: Sequence[int], table: Sequence[LabelledClip]) -> Iterator[tuple[int, ...]]:
    """Batches of clips with one a speaker, each speaker's in the given order."""
    waiting: dict[str, list[int]] = {}
    for i in reversed(order):
        waiting.setdefault(table[i].speaker, []).append(i)
    while waiting:
        speakers = list(waiting)[:BATCH]
        yield tuple(waiting[speaker].pop() for speaker in speakers)
        waiting = {speaker: left for speaker, left in waiting.items() if left}
