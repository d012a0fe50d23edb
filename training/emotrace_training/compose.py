"""`compose`: dialogues of real labelled text and real acted speech, put together by emotion.

No corpus here holds recorded emotional dialogues. So a text dialogue is taken as it is, each of its
speakers is given one actor, and each line a clip of that actor with the line's emotion. The clip's
own words differ from the line: only the emotion agrees. What comes out names clips, it holds none.

A line may have a face too, a still picture of somebody with the line's emotion: not the actor, and
somebody else at every turn. Figures on composed faces say that the modalities are put together
well, not how much a camera helps.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from tqdm import tqdm

from emotrace_models.types import Modality
from emotrace_training.casting import RECORD_SPLITS, casting
from emotrace_training.composed_faces import NEAREST
from emotrace_training.corpora.emorynlp import prepare_emorynlp
from emotrace_training.dialogues import Split, TextDialogue
from emotrace_training.manifests import ClipSplit, Record, read_clips
from emotrace_training.text_corpora import read_dialogues

MODALITIES = (Modality.ACOUSTIC, Modality.LEXICAL, Modality.FACIAL)
CORPORA = ("meld", "emorynlp", "dailydialog")
# Clips whose label is not the line's, but close: used along with those that have it.
_NEAR = {"neutral": ("calm",), "happiness": ("excitement",)}


@dataclass(frozen=True, slots=True)
class Turn:
    """clip: its file, or None where the actor has none of this emotion (the words remain).
    face: the id of a picture, or None."""

    speaker: str
    text: str
    label: str
    clip: str | None
    face: str | None = None


@dataclass(frozen=True, slots=True)
class ComposedDialogue:
    """actors: the actor (`corpus:speaker`) of each speaker."""

    id: str
    corpus: str
    actors: Mapping[str, str]
    turns: tuple[Turn, ...]


def compose(
    dialogues: Iterable[TextDialogue],
    clips: Sequence[Record],
    seed: int,
    faces: Mapping[str, Sequence[str]] | None = None,
) -> list[ComposedDialogue]:
    """One composed dialogue for each of `dialogues`; the same arguments give the same result.

    Speakers get different actors while there are enough. An actor's clips of an emotion are used
    up in random order before one is heard again in the same dialogue. faces: ids of pictures by
    emotion; they do not change who is heard. Raises ValueError where there are no clips.
    """
    if not clips:
        raise ValueError("there are no clips to compose dialogues from")
    shelf = _shelf(clips)
    composed = []
    for dialogue in dialogues:
        generator = random.Random(f"{seed}/{dialogue.id}")
        looks = random.Random(f"{seed}/{dialogue.id}/faces")
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
            pictures = (faces or {}).get(NEAREST.get(line.label, line.label), ())
            face = looks.choice(pictures) if pictures else None
            turns.append(Turn(line.speaker, line.text, line.label, clip, face))
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


def read_faces(file: Path, split: ClipSplit) -> dict[str, list[str]]:
    """Ids of the face step's pictures of one side, by emotion."""
    with np.load(file) as table:
        chosen = table["side"] == split
        named = zip(table["emotion"][chosen].tolist(), table["id"][chosen].tolist(), strict=True)
    found: dict[str, list[str]] = {}
    for emotion, name in named:
        found.setdefault(emotion, []).append(name)
    return found


def read_lines(text: Path, split: Split, corpora: Sequence[str]) -> list[TextDialogue]:
    """The text dialogues of `corpora` to be spoken in a split: MELD's for dev and test.

    Without MELD they are EmoryNLP's: no test scenes of it are at hand, so its dev scenes are halved
    by episode. Raises CorpusUnreadable.
    """
    if split == "train" or "meld" in corpora:
        return [d for d in read_dialogues(text, split) if d.corpus in corpora]
    half = ("dev", "test").index(split)
    return [d for d in prepare_emorynlp(text / "emorynlp", "dev") if d.fold(2) == half]


def command(
    text: Annotated[Path, typer.Option(help="folder of the text corpora")] = Path(
        "../shared/data/text"
    ),
    manifest: Annotated[Path, typer.Option(help="clips, as `prepare` writes them")] = Path(
        "runs/manifest.jsonl"
    ),
    faces: Annotated[Path, typer.Option(help="pictures, as `face` writes them")] = Path(
        "runs/face/faces.npz"
    ),
    out: Annotated[Path, typer.Option(help="where the dialogues go")] = Path("runs/composed"),
    modality: Annotated[
        list[Modality] | None, typer.Option(help="of a turn; default: voice, words and face")
    ] = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help=f"whose texts; default: {', '.join(CORPORA)}")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="training sets, each cast anew")] = 3,
    seeds: Annotated[int, typer.Option(min=1, help="dev and test sets, each cast anew")] = 3,
    seed: Annotated[int, typer.Option(help="the first of them")] = 0,
) -> None:
    """Compose dialogues of real labelled text and acted clips of the same emotions."""
    clips = read_clips(manifest, tuple(RECORD_SPLITS.values()))
    cast = casting((clip.corpus, clip.speaker, clip.split) for clip in clips)
    chosen = modality or MODALITIES
    counts: dict[Split, int] = {"train": draws, "dev": seeds, "test": seeds}
    for split, count in counts.items():
        dialogues = read_lines(text, split, corpus or CORPORA)
        voices = [clip for clip in clips if cast[clip.speaker] == split]
        pictures = read_faces(faces, RECORD_SPLITS[split]) if Modality.FACIAL in chosen else {}
        for number in tqdm(range(seed, seed + count), desc=split):
            found = compose(dialogues, voices, number, pictures)
            write_dialogues(composed_file(out, split, number), found)
        turns = [turn for dialogue in found for turn in dialogue.turns]
        heard, seen = (
            sum(part is not None for part in parts)
            for parts in zip(*((turn.clip, turn.face) for turn in turns), strict=True)
        )
        typer.echo(
            f"{split}: {count} x {len(found)} dialogues, {len(turns)} turns, {heard} with a voice, "
            f"{seen} with a face"
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
