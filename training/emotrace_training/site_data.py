"""A site's own labelled utterances: what their labels mean, folds of speakers, and what a bundle
makes of them by the modalities that it is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray

from emotrace_models.labels import UnknownLabel, canonical
from emotrace_models.predictor import Predictor
from emotrace_models.types import FloatArray, Modality, UtteranceFeatures
from emotrace_training.clip_features import hear, logits_of, predictions, shown
from emotrace_training.labelled_clips import EVERY_SPLIT, LabelledClip, read_labels
from emotrace_training.manifests import ManifestError
from emotrace_training.telling import TrainingError

FOLDS = 5
SPEAKERS = 3  # fewer cannot be left out in turn, with some left to choose by
FEWEST = 50  # utterances that anything may be fitted to


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """Utterances that were heard, one a row.

    labels: canonical, or the site's own. folds [row]: no speaker is in two, unless `by_speaker` is
    False, where there are too few. unreadable: why, by place in the table.
    """

    labels: tuple[str, ...]
    speakers: tuple[str, ...]
    features: tuple[UtteranceFeatures, ...]
    folds: NDArray[np.int64]
    by_speaker: bool
    unreadable: Mapping[str, str]

    @property
    def counts(self) -> dict[str, int]:
        """Utterances by label."""
        return dict(sorted(Counter(self.labels).items()))

    def sets(self, predictor: Predictor) -> dict[tuple[Modality, ...], NDArray[np.int64]]:
        """Rows that have all of a set of modalities, for every set that the bundle can do with and
        that enough rows have; the fullest set last."""
        streams = predictor.bundle.fusion.stream_modalities
        there = [{streams[name] for name in one.streams} for one in self.features]
        modalities = predictor.modalities
        found = {}
        for size in range(1, len(modalities) + 1):
            for chosen in combinations(modalities, size):
                rows = np.flatnonzero([set(chosen) <= own for own in there])
                if set(predictor.bundle.requires) <= set(chosen) and len(rows) >= FEWEST:
                    found[chosen] = rows
        return found

    def logits(
        self, predictor: Predictor, rows: NDArray[np.int64], modalities: Collection[Modality]
    ) -> FloatArray:
        """Raw logits [row, class] of the bundle, shown these modalities alone."""
        seen = [shown(self.features[i], predictor.bundle, modalities) for i in rows]
        return logits_of(predictions(predictor, seen))


def read_site(
    table: Path, split: str | None, meanings: Mapping[str, str], own: Collection[str] = ()
) -> list[LabelledClip]:
    """The utterances of a table with their labels as this package knows them, or as one of `own`.

    split None: every row whose split is not `test`. Rows labelled `unknown` are left out. Raises
    ManifestError, with file and line, for a label that nothing is known of.
    """
    clips, _ = read_labels(table, split or EVERY_SPLIT)
    if split is None:
        clips = [clip for clip in clips if clip.facts.get("split") != "test"]
    found = []
    for clip in clips:
        try:
            name = clip.emotion if clip.emotion in own else meanings.get(clip.emotion)
            name = name or canonical(clip.emotion)
        except UnknownLabel as error:
            raise ManifestError(
                f"{clip.place}: {error}; or say what it means: --label '{clip.emotion}=NAME'"
            ) from None
        if name != "unknown":
            found.append(replace(clip, emotion=name))
    return found


def meanings_of(pairs: Iterable[str], own: Collection[str] = ()) -> dict[str, str]:
    """`cheerful=joy` -> the canonical label, or the own one, that cheerful stands for."""
    found = {}
    for pair in pairs:
        name, equals, meaning = pair.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"--label {pair}: write NAME=MEANING, as in cheerful=joy")
        try:
            found[name] = meaning if meaning in own else canonical(meaning)
        except UnknownLabel as error:
            raise typer.BadParameter(f"--label {pair}: {error}") from None
    return found


def hear_site(
    predictor: Predictor, clips: Sequence[LabelledClip], root: Path, seed: int, words: bool
) -> Site:
    """Raises TrainingError where fewer than FEWEST can be read."""
    heard = hear(predictor, clips, range(len(clips)), root, seed, words)
    used = [clips[i] for i in heard.clips]
    if len(used) < FEWEST:
        first = next((f"; {place}: {why}" for place, why in heard.unreadable.items()), "")
        raise TrainingError(
            f"{len(used)} labelled utterances can be used, and at least {FEWEST} are needed: "
            f"{len(heard.unreadable)} cannot be read{first}"
        )
    speakers = tuple(clip.speaker for clip in used)
    folds, by_speaker = folds_of(speakers)
    labels = tuple(clip.emotion for clip in used)
    return Site(labels, speakers, heard.features, folds, by_speaker, heard.unreadable)


def folds_of(speakers: Sequence[str]) -> tuple[NDArray[np.int64], bool]:
    """A fold for each row, and whether no speaker is in two folds.

    Speakers, those with most rows first, go each to the fold with fewest. With fewer speakers than
    SPEAKERS the rows are dealt one after the other.
    """
    sizes = Counter(speakers)
    if len(sizes) < SPEAKERS:
        return np.arange(len(speakers)) % FOLDS, False
    load = [0] * min(FOLDS, len(sizes))
    given = {}
    for speaker, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        given[speaker] = fold = load.index(min(load))
        load[fold] += size
    return np.array([given[speaker] for speaker in speakers]), True
