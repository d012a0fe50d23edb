"""`extract`: what every encoder of a recipe makes of every record, kept on disk.

A frozen encoder's features are kept; of one that is tuned, what its front end gives. `fit` does the
same where it has not been done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from emotrace_training.dataset import Dataset, load_dataset
from emotrace_training.extraction import (
    Extractor,
    extractor_of,
    precomputed,
    report_of,
    stream_features,
)
from emotrace_training.recipe import Recipe, read_recipe, run_name
from emotrace_training.stream_encoders import learns_from_texts
from emotrace_training.telling import named_errors

__all__ = ["CACHE", "Extractor", "command", "precomputed"]

CACHE = Path("runs/features")


def command(
    recipe: Annotated[str, typer.Argument(help="a name (see `recipes`) or a TOML file")],
    manifest: Annotated[Path, typer.Option(help="records, as `prepare` writes them")] = Path(
        "runs/manifest.jsonl"
    ),
    cache: Annotated[Path, typer.Option(help="where features are kept")] = CACHE,
    variant: Annotated[list[str] | None, typer.Option(help="default: all")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="override a key: training.epochs=3")
    ] = None,
) -> None:
    """Run a recipe's encoders over its records and keep what they give; `fit` reads it."""
    with named_errors():
        for one in read_recipe(recipe, variant or (), set_ or ()):
            dataset = load_dataset(one, manifest)
            extractor = extractor_of(one, dataset, cache)
            faults = []
            for name in one.streams:
                for texts in _texts(one, name, dataset):
                    found, _ = stream_features(one, name, dataset, extractor, texts)
                    faults += found.faults
            folder = cache / "reports" / run_name(recipe)
            folder.mkdir(parents=True, exist_ok=True)
            report = report_of(faults, dataset)
            file = folder / f"{one.variant}.json"
            file.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
            typer.echo(
                f"{one.variant}: {report['records']} records, dropped {report['dropped']}, "
                f"without features {report['faults']}: {file}"
            )


def _texts(recipe: Recipe, name: str, dataset: Dataset) -> Iterator[Sequence[str]]:
    """The training texts of each fold, where the encoder depends on them."""
    if not learns_from_texts(recipe.streams[name]):
        yield ()
        return
    for fold in dataset.folds:
        yield dataset.training_texts(fold)
