"""DailyDialog as annotated by RECCON (Li et al. 2017; Poria et al. 2021): everyday talk of two.

A few of its labels are misspelt ("happines", "sad"); labels.ALIASES knows them.
"""

from __future__ import annotations

from pathlib import Path

from emotrace_models.labels import canonical
from emotrace_training.dialogues import Line, Split, TextDialogue, read_rows

_FILES: dict[Split, str] = {"train": "train.csv", "dev": "valid.csv", "test": "test.csv"}
_COLUMNS = ("dialog", "speaker", "emotion", "text")


def prepare_dailydialog(folder: Path, split: Split) -> list[TextDialogue]:
    """Dialogues of `{train,valid,test}.csv`. Raises CorpusUnreadable, UnknownLabel."""
    lines: dict[str, list[Line]] = {}
    for row in read_rows(folder / _FILES[split], _COLUMNS):
        lines.setdefault(row["dialog"], []).append(
            Line(row["speaker"], row["text"].strip(), canonical(row["emotion"]))
        )
    return [
        TextDialogue(f"dailydialog-{split}-{number}", "dailydialog", number, tuple(found))
        for number, found in lines.items()
    ]
