"""GoEmotions (Demszky et al., ACL 2020): single comments with one or several of 28 labels.

The paper's Ekman mapping puts each label into one of six groups or neutral. A comment whose labels
fall into several groups has no one emotion: it is left out where one is needed (`prepare`, and so
everywhere that figures are made: 4,968 of the 5,427 test comments stay), and counts for each of its
groups alike where a tower is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emotrace_training.dialogues import CorpusUnreadable, Line, Split, TextDialogue

_EKMAN = {
    "anger": ("anger", "annoyance", "disapproval"),
    "disgust": ("disgust",),
    "fear": ("fear", "nervousness"),
    "happiness": (
        "admiration", "amusement", "approval", "caring", "desire", "excitement", "gratitude",
        "joy", "love", "optimism", "pride", "relief",
    ),
    "sadness": ("disappointment", "embarrassment", "grief", "remorse", "sadness"),
    "surprise": ("confusion", "curiosity", "realization", "surprise"),
    "neutral": ("neutral",),
}  # fmt: skip
_GROUPS = {name: group for group, names in _EKMAN.items() for name in names}
LABELS = tuple(sorted(_GROUPS))  # the corpus's own, finer names


@dataclass(frozen=True, slots=True)
class Comment:
    """labels: of LABELS, at least one."""

    id: str
    text: str
    labels: tuple[str, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The canonical emotions of its labels, each once."""
        return tuple(sorted({_GROUPS[label] for label in self.labels}))


def read_goemotions(folder: Path, split: Split) -> list[Comment]:
    """All comments of `{split}.tsv`. Raises CorpusUnreadable."""
    file = folder / f"{split}.tsv"
    try:
        names = (folder / "labels.txt").read_text(encoding="utf-8").split()
        rows = file.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except OSError as error:
        raise CorpusUnreadable(f"{error.filename}: {error.strerror}") from error
    comments = []
    for number, row in enumerate(rows, start=1):
        try:
            text, indices, identifier = row.split("\t")
            labels = tuple(names[int(i)] for i in indices.split(","))
            if not set(labels) <= set(LABELS):
                raise KeyError(labels)
        except (ValueError, IndexError, KeyError) as error:
            raise CorpusUnreadable(f"{file}: row {number} is not text, labels, id") from error
        comments.append(Comment(f"goemotions-{identifier}", text.strip(), labels))
    return comments


def prepare_goemotions(folder: Path, split: Split) -> list[TextDialogue]:
    """Comments of one emotion as dialogues of one line. Raises CorpusUnreadable."""
    return [
        TextDialogue(c.id, "goemotions", c.id, (Line("author", c.text, c.groups[0]),))
        for c in read_goemotions(folder, split)
        if len(c.groups) == 1
    ]
