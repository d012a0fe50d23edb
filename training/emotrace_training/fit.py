"""`fit`: trains the models of a recipe: every variant, fold and seed.

A run that was killed goes on after the last whole epoch; what is finished is not done again.
With several GPUs: `accelerate launch -m emotrace_training fit RECIPE ...`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from emotrace_training.dataset import Dataset, load_dataset
from emotrace_training.extract import CACHE
from emotrace_training.extraction import report_of
from emotrace_training.one_model import fit_one
from emotrace_training.preparing import (
    Prepared,
    Preparer,
)
from emotrace_training.recipe import Recipe, RecipeError, read_recipe, run_name
from emotrace_training.run_folder import (
    DATA,
    RECIPE,
    seed_folder,
)
from emotrace_training.splits import counts
from emotrace_training.telling import named_errors
from emotrace_training.windows import EMPTY


def command(
    recipe: Annotated[str, typer.Argument(help="a name (see `recipes`) or a TOML file")],
    manifest: Annotated[Path, typer.Option(help="records, as `prepare` writes them")] = Path(
        "runs/manifest.jsonl"
    ),
    out: Annotated[
        Path | None, typer.Option(help="the run's folder; default: runs/fit/RECIPE")
    ] = None,
    cache: Annotated[Path, typer.Option(help="where features are kept")] = CACHE,
    variant: Annotated[list[str] | None, typer.Option(help="default: all")] = None,
    fold: Annotated[list[str] | None, typer.Option(help="default: all")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="default: the recipe's")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="override a key: training.epochs=3")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="processor threads")] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="do not use a GPU")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="begin again")] = False,
) -> None:
    """Train every variant, fold and seed of a recipe; goes on where it was interrupted."""
    if threads is not None:
        torch.set_num_threads(threads)
    with named_errors():
        recipes = read_recipe(recipe, variant or (), set_ or ())
        accelerator = accelerator_of(recipes, cpu)
        run = out or Path("runs/fit") / run_name(recipe)
        for one in recipes:
            fit_variant(one, manifest, run / one.variant, cache, fold, seed, accelerator, restart)
        if accelerator.is_main_process:
            typer.echo(f"{run}: done; next: emotrace-train evaluate {run}")


def fit_variant(
    recipe: Recipe,
    manifest: Path,
    folder: Path,
    cache: Path,
    only_folds: Sequence[str] | None,
    only_seeds: Sequence[int] | None,
    accelerator: Accelerator,
    restart: bool,
) -> None:
    """All folds and seeds of one variant, into `folder`."""
    dataset = load_dataset(recipe, manifest)
    names = [one.name for one in dataset.folds]
    if missing := sorted(set(only_folds or ()) - set(names)):
        raise RecipeError(f"no fold {', '.join(missing)}; there are {', '.join(names)}")
    preparer = Preparer(recipe, dataset, cache)
    for one in dataset.folds:
        if only_folds and one.name not in only_folds:
            continue
        with accelerator.main_process_first():
            prepared = preparer.prepare(one)
        if accelerator.is_main_process:
            _write_head(recipe, dataset, prepared, folder)
        for seed in only_seeds or recipe.training.seeds:
            place = seed_folder(folder, one.name, seed)
            fit_one(recipe, dataset, one, prepared, seed, place, accelerator, restart)


def accelerator_of(recipes: Sequence[Recipe], cpu: bool) -> Accelerator:
    """Raises RecipeError where variants want different precisions."""
    precisions = {recipe.training.precision for recipe in recipes}
    if len(precisions) > 1:
        raise RecipeError(f"{recipes[0].name}: one training.precision for all variants, please")
    return Accelerator(
        cpu=cpu,
        mixed_precision=precisions.pop(),
        # Encoders of empty slots are not used in every batch.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def _write_head(recipe: Recipe, dataset: Dataset, prepared: Prepared, folder: Path) -> None:
    """What the run was made of: recipe.json, data.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECIPE).write_text(recipe.model_dump_json(indent=2) + "\n")
    complete = prepared.table.complete()
    data = {
        **report_of(prepared.faults, dataset),
        "labels": asdict(dataset.label_set),
        "without_class": int((dataset.labels == EMPTY).sum()),
        "incomplete": int((~complete & (dataset.labels != EMPTY)).sum()),
        "folds": {fold.name: counts(fold, dataset.labels) for fold in dataset.folds},
        "licences": sorted({record.licence for record in dataset.records}),
        "languages": sorted({record.language for record in dataset.records}),
        "corpora": sorted({record.corpus for record in dataset.records}),
    }
    (folder / DATA).write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
