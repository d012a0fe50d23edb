"""Raters' votes as soft labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from emotrace_training.corpora.loading import Loaded

# The name that IEMOCAP's raters see; `neutral` elsewhere.
_NAMES = {"neutral state": "neutral"}


def shares(loaded: Loaded, votes: Sequence[str], place: str) -> dict[str, float]:
    """Canonical label -> its share of the votes. A vote for nothing known is a fault."""
    found: Counter[str] = Counter()
    for vote in votes:
        name = vote.lower()
        if label := loaded.label(_NAMES.get(name, name), place):
            found[label] += 1
    return {label: count / found.total() for label, count in sorted(found.items())}
