"""A corpus of made dialogues that a tiny model can learn: buzzes, words and vectors by emotion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from emotrace_training.manifests import Record, write_manifest

EMOTIONS = ("anger", "happiness", "neutral", "sadness")
SAID = {
    "anger": "get out of here", "happiness": "what a lovely day", "neutral": "the train is late",
    "sadness": "i lost it all", "fear": "help me please", "unknown": "hm",
}  # fmt: skip
PITCH = {"anger": 300, "happiness": 220, "neutral": 150, "sadness": 100, "fear": 260, "unknown": 90}
TURNS = 5
WIDTH = 8


@dataclass(frozen=True, slots=True)
class Toy:
    """manifest: 12 dialogues of 5 turns in 3 sessions; the last turn of each is of no class.
    vectors: a table of vectors [8] by record id."""

    manifest: Path
    vectors: Path
    records: tuple[Record, ...]


def toy_corpus(folder: Path, sound: bool = False) -> Toy:
    rng = np.random.default_rng(0)
    records, vectors = [], []
    for number in range(12):
        dialogue = f"Ses0{number % 3 + 1}_d{number:02}"
        for turn in range(TURNS):
            mood = number + turn % 2 + turn // 3
            emotion = "fear" if turn == TURNS - 1 else EMOTIONS[mood % 4]
            name = f"{dialogue}_{turn}"
            file = None
            if sound:
                t = np.arange(int(rng.integers(4_000, 9_000))) / 16_000
                wave = sum(np.sin(2 * np.pi * PITCH[emotion] * k * t) / k for k in range(1, 4))
                path = folder / f"{name}.wav"
                soundfile.write(path, 0.1 * wave + 0.001 * rng.standard_normal(len(t)), 16_000)
                file = path.as_posix()
            records.append(
                Record(
                    id=name, corpus="toy", dialogue=dialogue, turn=turn, start_s=float(turn),
                    end_s=turn + 0.9, speaker=f"toy:{'AB'[turn % 2]}{number % 3}", emotion=emotion,
                    split=("train", "valid", "test")[number % 3] if number > 2 else "train",
                    text=SAID[emotion], language="en", licence="CC0-1.0", file=file, seconds=0.5,
                )
            )  # fmt: skip
            mean = np.zeros(WIDTH)
            mean[list(SAID).index(emotion)] = 2.0
            vectors.append(mean + 0.2 * rng.standard_normal(WIDTH))
    write_manifest(folder / "toy.jsonl", records)
    np.savez(folder / "vectors.npz", id=[r.id for r in records], values=np.float32(vectors))
    return Toy(folder / "toy.jsonl", folder / "vectors.npz", tuple(records))


HEAD = """\
[recipe]
title = "Toy"
source = "Nobody, 2026"
published = {{ uar = 0.5 }}
protocol = "made up"
traps = ["not a corpus"]
[data]
labels = "iemocap4"
split = {split}
"""

GATED = """\
[streams.acoustic]
{source}
[model]
name = "gated_xlstm"
modalities = ["acoustic"]
embedding = {width}
steps = 4
width = 8
blocks = 1
heads = 2
share = "modality"
missing = "mask"
[training]
epochs = 3
batch = 8
optimiser = {{ name = "adam", rate = 0.02 }}
"""


def gated_recipe(
    folder: Path, source: str, more: str = "", split: str = '{ kind = "own" }', width: int = WIDTH
) -> str:
    """A recipe of one stream; source: keys of its table; more: what follows in [training]."""
    file = folder / "toy.toml"
    file.write_text(HEAD.format(split=split) + GATED.format(source=source, width=width) + more)
    return file.as_posix()
