"""Speakers into folds: every corpus spread evenly, the same on every machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from emotrace_training.manifests import Record


def speaker_folds(clips: Sequence[Record], folds: int, seed: int) -> dict[str, int]:
    """Speaker -> fold. Within a corpus the speakers come in a seeded order, fold after fold, the
    next one to the fold that has fewest of that corpus, then fewest clips of all.
    """
    sizes = Counter(clip.speaker for clip in clips)
    corpus = {clip.speaker: clip.corpus for clip in clips}
    given: dict[str, int] = {}
    load = [0] * folds
    for name in sorted(set(corpus.values())):
        speakers = sorted(s for s, c in corpus.items() if c == name)
        np.random.default_rng(seed).shuffle(speakers)
        mine = [0] * folds
        for speaker in speakers:
            fold = min(range(folds), key=lambda f: (mine[f], load[f], f))
            given[speaker] = fold
            mine[fold] += 1
            load[fold] += sizes[speaker]
    return given
