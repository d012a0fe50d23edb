"""One model of a recipe: trained, measured on valid and test, written to its folder."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors.torch import save_file
from tqdm import tqdm

from emotrace_models.encoders.base import NetworkEncoder
from emotrace_training.checkpoints import STATE, check_made_by
from emotrace_training.dataset import Dataset, presence
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
    shift_probability,
    usable,
)
from emotrace_training.recipe import Recipe
from emotrace_training.run_folder import (
    DATA,
    PREDICTIONS,
    REPORT,
    WEIGHTS,
)
from emotrace_training.splits import Fold
from emotrace_training.stream_encoders import build_encoder, key_of, learns_from_texts
from emotrace_training.tables import Table
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
