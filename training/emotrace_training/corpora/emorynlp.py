"""EmoryNLP (Zahiri & Choi 2018): scenes of the series that MELD is cut from.

It repeats lines of MELD's dev and test splits word for word. A scene that shares a line with them
is dropped whole. Lines of fewer than `SHARED_CHARACTERS` letters and digits do not count: "Yeah,
right." stands in every other scene. That keeps 584 of the 659 training scenes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from emotrace_models.labels import canonical
from emotrace_training.corpora.meld import episode
from emotrace_training.dialogues import (
    CorpusUnreadable,
    Line,
    Split,
    TextDialogue,
    plain,
    read_rows,
)

SHARED_CHARACTERS = 25
# "Powerful" and "peaceful" are moods of the Feeling Wheel that mix several emotions (pride, love,
# content): no canonical emotion is their like, so their lines stay as context only.
_LABELS = {"powerful": "other", "peaceful": "other"}
_COLUMNS = ("Utterance", "Speaker", "Emotion", "Scene_ID", "Season", "Episode")


def prepare_emorynlp(folder: Path, split: Split) -> list[TextDialogue]:
    """Scenes of `emorynlp_{split}_final.csv`. Raises CorpusUnreadable, UnknownLabel."""
    file = folder / f"emorynlp_{split}_final.csv"
    lines: dict[tuple[str, str, str], list[Line]] = {}
    for row in read_rows(file, _COLUMNS):
        key = (row["Season"], row["Episode"], row["Scene_ID"])
        name = row["Emotion"].strip().lower()
        label = _LABELS.get(name) or canonical(name)
        speaker = _speaker(row["Speaker"], file)
        lines.setdefault(key, []).append(Line(speaker, row["Utterance"].strip(), label))
    return [
        TextDialogue(
            f"emorynlp-{split}-{season}-{number}-{scene}",
            "emorynlp",
            episode(season, number),
            tuple(found),
        )
        for (season, number, scene), found in lines.items()
    ]


def without_shared(
    scenes: Iterable[TextDialogue], held_out: Iterable[TextDialogue]
) -> list[TextDialogue]:
    """The scenes that share no line with the dialogues of `held_out`."""
    lines = (plain(line.text) for dialogue in held_out for line in dialogue.lines)
    known = {line for line in lines if len(line) >= SHARED_CHARACTERS}
    return [scene for scene in scenes if not any(plain(line.text) in known for line in scene.lines)]


def _speaker(field: str, file: Path) -> str:
    """`['Monica Geller']` -> `Monica Geller`; several speak together -> all their names."""
    try:
        names = ast.literal_eval(field)
    except (SyntaxError, ValueError) as error:
        raise CorpusUnreadable(f"{file}: {field!r} is no list of speakers") from error
    return " & ".join(names)
