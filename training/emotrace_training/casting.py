"""Which actors speak the composed dialogues of a split: none is heard in two.

Test has those of `test`. Dev has those of `valid` and, of each corpus, every fourth of `train`: the
few of `valid` say too little of strangers to fit probabilities to, and what the fusion model was
fitted to says nothing, as it comes to know each clip. The towers have been fitted to actors of
`train`; but dialogues are heard by the tower of the fold that never heard the actor.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from emotrace_training.dialogues import Split
from emotrace_training.manifests import ClipSplit

RECORD_SPLITS: dict[Split, ClipSplit] = {"train": "train", "dev": "valid", "test": "test"}
DEV_EVERY = 4


def casting(voices: Iterable[tuple[str, str, str]]) -> dict[str, Split]:
    """(corpus, speaker, split) of clips -> the split of composed dialogues that a speaker is in."""
    found: dict[str, Split] = {}
    taught: dict[str, set[str]] = defaultdict(set)
    for corpus, speaker, split in voices:
        if split == "train":
            taught[corpus].add(speaker)
        else:
            found[speaker] = "dev" if split == "valid" else "test"
    for speakers in taught.values():
        for number, speaker in enumerate(sorted(speakers), start=1):
            found[speaker] = "train" if number % DEV_EVERY else "dev"
    return found
