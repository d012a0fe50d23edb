"""All text corpora of one folder, with what repeats MELD's held-out lines taken out."""

from __future__ import annotations

from pathlib import Path

from emotrace_training.corpora.dailydialog import prepare_dailydialog
from emotrace_training.corpora.emorynlp import (
    SHARED_CHARACTERS,
    prepare_emorynlp,
    without_shared,
)
from emotrace_training.corpora.goemotions import Comment, prepare_goemotions, read_goemotions
from emotrace_training.corpora.meld import prepare_meld
from emotrace_training.dialogues import Split, TextDialogue, plain


def read_dialogues(root: Path, split: Split) -> list[TextDialogue]:
    """Dialogues of the folders meld, emorynlp and dailydialog_reccon under `root`.

    MELD alone is used for dev and test; the training split has all three, with the EmoryNLP scenes
    that share a line with MELD's dev or test split dropped. Raises CorpusUnreadable, UnknownLabel.
    """
    found = prepare_meld(root / "meld", split)
    if split == "train":
        held_out = [*prepare_meld(root / "meld", "dev"), *prepare_meld(root / "meld", "test")]
        found += without_shared(prepare_emorynlp(root / "emorynlp", "train"), held_out)
        found += prepare_dailydialog(root / "dailydialog_reccon", "train")
    return found


def read_comments(root: Path, split: Split) -> list[TextDialogue]:
    """Single comments of the folder goemotions under `root`, as dialogues of one line."""
    return prepare_goemotions(root / "goemotions", split)


def read_all_comments(root: Path, split: Split) -> list[Comment]:
    """All comments of the folder goemotions under `root`, also those of several emotions."""
    return read_goemotions(root / "goemotions", split)


def held_out_lines(root: Path) -> frozenset[str]:
    """`plain` lines of the dev and test splits of MELD and GoEmotions that are too long to be
    repeated by chance: five of MELD's test stand in its own training split too."""
    found: list[TextDialogue] = []
    for split in ("dev", "test"):
        found += [
            *prepare_meld(root / "meld", split),
            *prepare_goemotions(root / "goemotions", split),
        ]
    lines = (plain(line.text) for dialogue in found for line in dialogue.lines)
    return frozenset(line for line in lines if len(line) >= SHARED_CHARACTERS)
