"""Emotion labels: the canonical names, each corpus's own names, and projections (models.md §10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CANONICAL = (
    "neutral", "calm", "happiness", "excitement", "sadness", "anger", "frustration",
    "fear", "disgust", "surprise", "boredom", "other", "unknown",
)  # fmt: skip

# The names that corpora and people use, in lower case.
ALIASES: dict[str, str] = {
    **{name: name for name in CANONICAL},
    "neu": "neutral", "n": "neutral", "no emotion": "neutral", "no_emotion": "neutral",
    "calmness": "calm", "peaceful": "calm",
    "happy": "happiness", "hap": "happiness", "joy": "happiness", "joyful": "happiness",
    "happines": "happiness", "happniess": "happiness", "enjoyment": "happiness",
    "exc": "excitement", "excited": "excitement",
    "sad": "sadness", "sadnes": "sadness",
    "ang": "anger", "angry": "anger", "mad": "anger",
    "fru": "frustration", "frustrated": "frustration",
    "fea": "fear", "fearful": "fear", "scared": "fear", "afraid": "fear",
    "dis": "disgust", "disgusted": "disgust",
    "sur": "surprise", "surprised": "surprise",
    "bored": "boredom",
    "oth": "other", "xxx": "unknown",
}  # fmt: skip


class UnknownLabel(ValueError):
    """A name that stands in no table; the message names it."""


class LabelSetMismatch(ValueError):
    """Two label sets that should be the same are not; the message says where they differ."""


def canonical(name: str) -> str:
    """The canonical label of a name as a corpus or a person writes it; UnknownLabel if none."""
    try:
        return ALIASES[name.strip().lower()]
    except KeyError:
        raise UnknownLabel(
            f"no emotion is called {name!r}; known names: {', '.join(sorted(ALIASES))}"
        ) from None


@dataclass(frozen=True, slots=True)
class LabelSet:
    """An ordered set of canonical labels and the rule that projects others into it.

    Class order is stored by name in every bundle, and classes are matched by name, never by index.
    """

    scheme: str
    names: tuple[str, ...]
    merges: tuple[tuple[str, str], ...] = ()  # (canonical label, class of this set)

    def project(self, label: str) -> str | None:
        """The class of a canonical label, or None where it is outside the set."""
        if label in self.names:
            return label
        return dict(self.merges).get(label)

    def index(self, name: str) -> int:
        return self.names.index(name)

    def order_from(self, names: Sequence[str]) -> tuple[int, ...]:
        """Indices that bring columns named `names` into this set's order.

        Raises LabelSetMismatch where the two do not hold the same names.
        """
        if sorted(names) != sorted(self.names):
            missing = sorted(set(self.names) - set(names))
            extra = sorted(set(names) - set(self.names))
            raise LabelSetMismatch(
                f"label sets differ: missing {missing}, not in {self.scheme}: {extra}"
            )
        return tuple(list(names).index(name) for name in self.names)


_FOUR = ("anger", "happiness", "neutral", "sadness")

SCHEMES: dict[str, LabelSet] = {
    scheme.scheme: scheme
    for scheme in (
        LabelSet("iemocap4", _FOUR),
        LabelSet("iemocap4m", _FOUR, (("excitement", "happiness"),)),
        LabelSet("common4", _FOUR, (("excitement", "happiness"), ("calm", "neutral"))),
        LabelSet(
            "ekman7",
            ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
            (("excitement", "happiness"), ("calm", "neutral")),
        ),
    )
}
