"""GoEmotions (Demszky et al., ACL 2020): single comments, 28 labels, here those of one Ekman group.

A comment is kept where all its labels fall into one group of the paper's Ekman mapping.
"""

from __future__ import annotations

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


def prepare_goemotions(folder: Path, split: Split) -> list[TextDialogue]:
    """Comments of `{split}.tsv` as dialogues of one line. Raises CorpusUnreadable."""
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
            groups = {_GROUPS[names[int(i)]] for i in indices.split(",")}
        except (ValueError, IndexError, KeyError) as error:
            raise CorpusUnreadable(f"{file}: row {number} is not text, labels, id") from error
        if len(groups) == 1:
            line = Line("author", text.strip(), groups.pop())
            comments.append(
                TextDialogue(f"goemotions-{identifier}", "goemotions", identifier, (line,))
            )
    return comments
