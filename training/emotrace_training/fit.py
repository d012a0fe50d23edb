"""`fit`: trains the models of a recipe: every variant, fold and seed.

A run that was killed goes on after the last whole epoch; what is finished is not done again.
With several GPUs: `accelerate launch -m emotrace_training fit RECIPE ...`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from numpy.typing import NDArray
from safetensors.torch import save_file
from tqdm import tqdm

from emotrace_models.encoders.base import NetworkEncoder
from emotrace_training.checkpoints import STATE, check_made_by
from emotrace_training.dataset import Dataset, load_dataset, presence
from emotrace_training.extract import (
    CACHE,
    report_of,
)
from emotrace_training.fitting import Job, Progress, predict, train
from emotrace_training.learner import (
    Learner,
    build_fusion,
    fill_standardise,
    model_config,
)
from emotrace_training.preparing import (
    NothingToTrainOn,
    Prepared,
    Preparer,
    shift_probability,
    usable,
)
from emotrace_training.recipe import Recipe, RecipeError, read_recipe, run_name
from emotrace_training.run_folder import (
    DATA,
    PREDICTIONS,
    RECIPE,
    REPORT,
    WEIGHTS,
    seed_folder,
)
from emotrace_training.splits import Fold, counts
from emotrace_training.stream_encoders import build_encoder, key_of, learns_from_texts
from emotrace_training.tables import Table
from emotrace_training.telling import named_errors
from emotrace_training.watching import kept
from emotrace_training.windows import EMPTY


def fit_one(
    recipe: Recipe,
    dataset: Dataset,
    fold: Fold,
    prepared: Prepared,
    seed: int,
    folder: Path,
    accelerator: Accelerator,
    restart: bool = False,
) -> None:
    """Train, predict valid and test, write. Raises TrainingError and its kinds."""
    table = prepared.table
    parts = {
        "train": usable(recipe, table, fold.of("train")),
        "valid": usable(recipe, table, fold.of("valid")),
        "test": usable(recipe, table, fold.of("test")),
    }
    needed = ("train", "test") if recipe.training.keep == "last" else tuple(parts)
    for part in needed:
        if not len(parts[part]):
            raise NothingToTrainOn(
                f"{recipe.name}, fold {fold.name}: no record of {part!r} has all streams; see "
                f"{DATA} for what is missing, or set data.complete = false"
            )
    torch.manual_seed(seed)
    learner = Learner(build_fusion(recipe), tuned_encoders(recipe, dataset, fold, seed))
    fill_standardise(learner, table, parts["train"])
    made_by = _made_by(recipe, dataset, fold, prepared, seed, parts)
    folder.mkdir(parents=True, exist_ok=True)
    if restart and accelerator.is_main_process:
        for name in (STATE, REPORT):
            (folder / name).unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    if (folder / REPORT).is_file():
        check_made_by(
            folder / REPORT, json.loads((folder / REPORT).read_text())["made_by"], made_by
        )
        return
    job = Job(
        table=table,
        train=parts["train"],
        valid=parts["valid"],
        classes=len(dataset.label_set.names),
        modalities={name: m.value for name, m in learner.fusion.stream_modalities.items()},
        training=recipe.training,
        seed=seed,
        folder=folder,
        made_by=made_by,
        presence=presence(dataset.records, dataset.label_set)
        if recipe.training.loss == "binary"
        else None,
    )
    began = time.monotonic()
    with tqdm(
        desc=f"{recipe.variant} {fold.name} seed {seed}",
        total=recipe.training.epochs,
        unit="epoch",
        leave=False,
        disable=None if accelerator.is_main_process else True,
    ) as bar:

        def tell(progress: Progress) -> None:
            newest = progress.history[-1]
            valid = newest.get("valid", {}).get(recipe.training.early_stop.watch)
            bar.n = progress.epoch
            bar.set_postfix(
                loss=f"{newest['loss']:.4f}", valid="-" if valid is None else f"{valid:.4f}"
            )

        history = train(learner, job, accelerator, tell)
    predictions = _predictions(recipe, dataset, fold, table, parts, learner, accelerator)
    if not accelerator.is_main_process:
        return
    np.savez(folder / PREDICTIONS, allow_pickle=False, **predictions)
    save_file(
        {name: t.detach().cpu().contiguous() for name, t in learner.state_dict().items()},
        folder / WEIGHTS,
    )
    report = {
        "fold": fold.name,
        "seed": seed,
        "counts": {part: len(turns) for part, turns in parts.items()},
        "epochs": len(history),
        "kept_epoch": kept(history, recipe.training),
        "seconds": round(time.monotonic() - began, 1),
        "p0": shift_probability(dataset, fold),
        "parameters": {
            "fusion": sum(p.numel() for p in learner.fusion.parameters()),
            **{
                name: sum(p.numel() for p in encoder.parameters())
                for name, encoder in prepared.encoders.items()
                if encoder is not None
            },
        },
        "versions": {"torch": torch.__version__, "accelerate": version("accelerate")},
        "history": history,
        "made_by": made_by,
    }
    written = folder / f"{REPORT}.part"
    written.write_text(json.dumps(report, indent=2) + "\n")
    written.replace(folder / REPORT)  # last: its presence says that all is there
    (folder / STATE).unlink(missing_ok=True)


def tuned_encoders(
    recipe: Recipe, dataset: Dataset, fold: Fold, seed: int
) -> dict[str, NetworkEncoder]:
    """Fresh tuned encoders, their new weights by this seed."""
    found = {}
    for name, stream in recipe.streams.items():
        if stream.tune:
            texts = dataset.training_texts(fold) if learns_from_texts(stream) else ()
            encoder = build_encoder(recipe, name, texts, seed)
            assert isinstance(encoder, NetworkEncoder)
            found[name] = encoder
    return found


def _made_by(
    recipe: Recipe,
    dataset: Dataset,
    fold: Fold,
    prepared: Prepared,
    seed: int,
    parts: Mapping[str, NDArray[np.int64]],
) -> dict[str, Any]:
    """What a checkpoint belongs to."""
    ids = {
        part: hashlib.sha256(
            json.dumps(
                [(dataset.records[i].id, int(dataset.labels[i])) for i in turns.tolist()]
            ).encode()
        ).hexdigest()[:16]
        for part, turns in parts.items()
    }
    training = recipe.training.model_dump(mode="json", exclude={"seeds"})
    if recipe.training.loss == "cross_entropy":
        del training["loss"]  # runs from before there was another one remain valid
    return {
        "architecture": {
            "model": recipe.model.name,
            "config": model_config(recipe),
            "streams": {
                name: None if encoder is None else key_of(encoder, recipe.streams[name].tune)
                for name, encoder in prepared.encoders.items()
            },
        },
        "data": {"labels": list(dataset.label_set.names), "fold": fold.name, **ids},
        "training": {**training, "seed": seed},
    }


def _predictions(
    recipe: Recipe,
    dataset: Dataset,
    fold: Fold,
    table: Table,
    parts: Mapping[str, NDArray[np.int64]],
    learner: Learner,
    accelerator: Accelerator,
) -> dict[str, NDArray[Any]]:
    """Logits of valid and test; where there is a decoder, of their other turns as well."""
    turns = []
    for part in ("valid", "test"):
        own = fold.of(part)
        turns.append(own[table.heard()[own]] if recipe.decoder is not None else parts[part])
    both = np.concatenate(turns)
    measured = np.concatenate([parts["valid"], parts["test"]])
    labels = np.where(np.isin(both, measured), dataset.labels[both], EMPTY)
    prepared = accelerator.prepare_model(learner, evaluation_mode=True)
    records = [dataset.records[i] for i in both.tolist()]
    return {
        "part": np.repeat(np.array(["valid", "test"]), [len(t) for t in turns]),
        "id": np.array([record.id for record in records]),
        "corpus": np.array([record.corpus for record in records]),
        "dialogue": np.array([record.dialogue for record in records]),
        "speaker": np.array([record.speaker for record in records]),
        "label": labels,
        "logits": predict(prepared, table, both, accelerator),
        **(
            {"presence": presence(records, dataset.label_set)}
            if recipe.training.loss == "binary"
            else {}
        ),
    }


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
