"""MELD (Poria et al., ACL 2019): lines of a TV series, seven emotions, several speakers.

File order is dialogue order: Utterance_ID has gaps (models.md 9.2). Dialogue ids restart in each
split, so ids here begin with the split.
"""

from __future__ import annotations

from pathlib import Path

from emotrace_models.labels import canonical
from emotrace_training.dialogues import Line, Split, TextDialogue, read_rows

_COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Season", "Episode")


def prepare_meld(folder: Path, split: Split) -> list[TextDialogue]:
    """Dialogues of `{split}_sent_emo.csv`. Raises CorpusUnreadable, UnknownLabel."""
    lines: dict[str, list[Line]] = {}
    groups: dict[str, str] = {}
    for row in read_rows(folder / f"{split}_sent_emo.csv", _COLUMNS):
        number = row["Dialogue_ID"]
        lines.setdefault(number, []).append(
            Line(row["Speaker"].strip(), row["Utterance"].strip(), canonical(row["Emotion"]))
        )
        groups.setdefault(number, episode(row["Season"], row["Episode"]))
    return [
        TextDialogue(f"meld-{split}-{number}", "meld", groups[number], tuple(found))
        for number, found in lines.items()
    ]


def episode(season: str, number: str) -> str:
    """The group of a scene: EmoryNLP is cut from the same episodes and repeats their lines."""
    return f"friends-{int(season)}-{int(number)}"
