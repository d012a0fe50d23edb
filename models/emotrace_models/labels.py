"""Emotion labels: the canonical names, each corpus's own names, and projections (models.md §10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    "fea": "fear", "fearful": "fear", "scared": "fear", "afraid": "fear", "anxiety": "fear",
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


def strongest(scores: Mapping[str, float], order: Sequence[str]) -> str | None:
    """The label of the highest score above 0; of equal ones the first of `order`, None for none."""
    above = [name for name in order if scores.get(name, 0.0) > 0]
    return max(above, key=lambda name: scores[name], default=None)


_FOUR = ("anger", "happiness", "neutral", "sadness")
_EKMAN = ("neutral", "surprise", "fear", "sadness", "happiness", "disgust", "anger")
_MILD = (("excitement", "happiness"), ("calm", "neutral"))

# models.md section 10. Whether excitement is happiness is a property of the experiment: iemocap4
# leaves it out (GatedxLSTM, GBAN), iemocap4m merges it (dual stream, decoder, IAAN).
SCHEMES: dict[str, LabelSet] = {
    scheme.scheme: scheme
    for scheme in (
        LabelSet("iemocap4", _FOUR),
        LabelSet("iemocap4m", _FOUR, (("excitement", "happiness"),)),
        LabelSet(
            "iemocap6",
            ("happiness", "sadness", "neutral", "anger", "excitement", "frustration"),
        ),
        LabelSet(
            "iemocap8",
            (
                "anger", "happiness", "sadness", "neutral", "excitement", "frustration",
                "surprise", "fear",
            ),
        ),
        LabelSet("ekman7", _EKMAN, _MILD),
        # Of a model whose voices never were surprised.
        LabelSet("ekman6", tuple(name for name in _EKMAN if name != "surprise"), _MILD),
        LabelSet("ekman7_frustration", _EKMAN, (*_MILD, ("frustration", "anger"))),
        LabelSet("mosei6", ("happiness", "sadness", "anger", "surprise", "disgust", "fear")),
        LabelSet(
            "emodb7", ("anger", "boredom", "disgust", "fear", "happiness", "sadness", "neutral")
        ),
        LabelSet(
            "ravdess8",
            (
                "neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise",
            ),
        ),
        LabelSet("crema6", ("anger", "disgust", "fear", "happiness", "neutral", "sadness")),
        LabelSet("nemo6", ("anger", "fear", "happiness", "neutral", "sadness", "surprise")),
        LabelSet("common4", _FOUR, _MILD),
    )
}  # fmt: skip
