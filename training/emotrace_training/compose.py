"""`compose`: dialogues of real labelled text and real acted speech, put together by emotion.

No corpus here holds recorded emotional dialogues. So a text dialogue is taken as it is, each of its
speakers is given one actor, and each line a clip of that actor with the line's emotion. The clip's
own words differ from the line: only the emotion agrees. What comes out names clips, it holds none.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from emotrace_training.dialogues import Split, TextDialogue
from emotrace_training.manifests import ClipSplit, Record, read_clips
from emotrace_training.text_corpora import read_dialogues

# Which actors speak which lines: no actor of one split is heard in another.
ACTORS: dict[Split, ClipSplit] = {"train": "train", "dev": "valid", "test": "test"}
# Clips whose label is not the line's, but close: used along with those that have it.
_NEAR = {"neutral": ("calm",), "happiness": ("excitement",)}


@dataclass(frozen=True, slots=True)
class Turn:
    """clip: its file, or None where the actor has none of this emotion (the words remain)."""

    speaker: str
    text: str
    label: str
    clip: str | None


@dataclass(frozen=True, slots=True)
class ComposedDialogue:
    """actors: the actor (`corpus:speaker`) of each speaker."""

    id: str
    corpus: str
    actors: Mapping[str, str]
    turns: tuple[Turn, ...]


def compose(
    dialogues: Iterable[TextDialogue], clips: Sequence[Record], seed: int
) -> list[ComposedDialogue]:
    """One composed dialogue for each of `dialogues`; the same arguments give the same result.

    Speakers get different actors while there are enough. An actor's clips of an emotion are used
    up in random order before one is heard again in the same dialogue.
    Raises ValueError where there are no clips.
    """
    if not clips:
        raise ValueError("there are no clips to compose dialogues from")
    shelf = _shelf(clips)
    composed = []
    for dialogue in dialogues:
        generator = random.Random(f"{seed}/{dialogue.id}")
        speakers = list(dict.fromkeys(line.speaker for line in dialogue.lines))
        actors = _cast(speakers, sorted(shelf), generator)
        left: dict[tuple[str, str], list[str]] = {}
        turns = []
        for line in dialogue.lines:
            key = (actors[line.speaker], line.label)
            if not left.get(key):
                left[key] = list(shelf[key[0]].get(line.label, ()))
                generator.shuffle(left[key])
            clip = left[key].pop() if left[key] else None
            turns.append(Turn(line.speaker, line.text, line.label, clip))
        composed.append(ComposedDialogue(dialogue.id, dialogue.corpus, actors, tuple(turns)))
    return composed


def write_dialogues(file: Path, dialogues: Iterable[ComposedDialogue]) -> None:
    """One JSON object a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(asdict(dialogue), ensure_ascii=False) for dialogue in dialogues)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_composed(file: Path) -> list[ComposedDialogue]:
    """What `write_dialogues` wrote."""
    found = []
    for line in file.read_text(encoding="utf-8").rstrip("\n").split("\n"):
        values = json.loads(line)
        values["turns"] = tuple(Turn(**turn) for turn in values["turns"])
        found.append(ComposedDialogue(**values))
    return found


def composed_file(folder: Path, split: Split, seed: int) -> Path:
    """Where `command` writes a split's dialogues of one seed."""
    return folder / f"{split}-{seed}.jsonl"


def command(
    text: Annotated[Path, typer.Option(help="folder of the text corpora")] = Path(
        "../shared/data/text"
    ),
    manifest: Annotated[Path, typer.Option(help="clips, as `prepare` writes them")] = Path(
        "runs/manifest.jsonl"
    ),
    out: Annotated[Path, typer.Option(help="where the dialogues go")] = Path("runs/composed"),
    draws: Annotated[int, typer.Option(min=1, help="training sets, each cast anew")] = 4,
    seeds: Annotated[int, typer.Option(min=1, help="dev and test sets, each cast anew")] = 3,
    seed: Annotated[int, typer.Option(help="the first of them")] = 0,
) -> None:
    """Compose dialogues of real labelled text and acted clips of the same emotions."""
    clips = read_clips(manifest, tuple(ACTORS.values()))
    counts: dict[Split, int] = {"train": draws, "dev": seeds, "test": seeds}
    for split, count in counts.items():
        dialogues = read_dialogues(text, split)
        voices = [clip for clip in clips if clip.split == ACTORS[split]]
        for number in tqdm(range(seed, seed + count), desc=split):
            found = compose(dialogues, voices, number)
            write_dialogues(composed_file(out, split, number), found)
        turns = [turn for dialogue in found for turn in dialogue.turns]
        heard = sum(turn.clip is not None for turn in turns)
        typer.echo(
            f"{split}: {count} x {len(found)} dialogues, {len(turns)} turns, {heard} with a voice"
        )


def _shelf(clips: Sequence[Record]) -> dict[str, dict[str, list[str]]]:
    """Actor -> emotion -> files of clips, sorted, near emotions included."""
    shelf: dict[str, dict[str, list[str]]] = {}
    for clip in sorted(clips, key=lambda c: c.audio):
        shelf.setdefault(clip.speaker, {}).setdefault(clip.emotion, []).append(clip.audio)
    for emotions in shelf.values():
        own = {label: list(files) for label, files in emotions.items()}
        for label, near in _NEAR.items():
            files = [file for name in (label, *near) for file in own.get(name, ())]
            if files:
                emotions[label] = files
    return shelf


def _cast(
    speakers: Sequence[str], actors: Sequence[str], generator: random.Random
) -> dict[str, str]:
    """An actor for each speaker."""
    order: list[str] = []
    while len(order) < len(speakers):
        order += generator.sample(actors, len(actors))
    return dict(zip(speakers, order, strict=False))
