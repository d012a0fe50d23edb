"""`emotrace-train acoustic-report`: what acoustic runs score, read from the vectors that they left.

`held out`: clips of train and valid by the tower of the fold that never heard their speaker.
`test`: through the encoder. `all speakers`: both together, so every clip of the corpora is scored
by towers that never heard its speaker. Means over the orders in which a speaker's clips came.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer

from emotrace_training.acoustic_scoring import Scores, scores


class Heard(NamedTuple):
    corpus: str
    emotion: str


COLUMNS = ("corpus", "emotion", "draw", "vector")


def command(
    runs: Annotated[list[Path], typer.Argument(help="working folders of `acoustic`")],
) -> None:
    """Print the recall of four and of seven classes by corpus for each run."""
    typer.echo("| run | clips | classes | corpora | mean |\n|---|---|---|---|---|")
    for run in runs:
        parts = {"held out": [run / "oof.npz"], "test": [run / "test.npz"]}
        parts["all speakers"] = [*parts["held out"], *parts["test"]]
        for name, files in parts.items():
            if all(file.exists() for file in files):
                for scheme, found in scored(files).items():
                    mean = found.pop("mean")
                    corpora = ", ".join(f"{corpus} {score:.3f}" for corpus, score in found.items())
                    typer.echo(f"| {run} | {name} | {scheme} | {corpora} | {mean:.3f} |")


def scored(files: Sequence[Path]) -> dict[str, Scores]:
    """Unweighted average recall by scheme and corpus, mean over the draws of the vectors."""
    tables = [np.load(file) for file in files]
    columns = {name: np.concatenate([table[name] for table in tables]) for name in COLUMNS}
    draws = []
    for draw in np.unique(columns["draw"]):
        rows = np.flatnonzero(columns["draw"] == draw)
        clips = [
            Heard(corpus, emotion)
            for corpus, emotion in zip(
                columns["corpus"][rows].tolist(), columns["emotion"][rows].tolist(), strict=True
            )
        ]
        draws.append(scores(columns["vector"][rows], clips))
    return {
        scheme: {
            corpus: float(np.mean([draw[scheme][corpus] for draw in draws]))
            for corpus in draws[0][scheme]
        }
        for scheme in draws[0]
    }
