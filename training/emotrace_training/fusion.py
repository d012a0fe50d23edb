"""`fuse`: fits GatedxLSTM to composed dialogues, single clips and faces; chooses the epoch on dev.

Training dialogues use vectors of towers that never saw the line or heard the actor. Dev is MELD's
dev split spoken by the actors that casting.py keeps for it; test actors and lines are not touched
here.

Writes, under the output folder: heard-dev-K.npz (voices, kept for the next seed) and for each seed
seed-N/{model.safetensors,config.json,dev-K.npz,report.json}.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from emotrace_models.calibration import modality_key
from emotrace_models.encoders.prototypes import EMOTIONS, class_prototypes
from emotrace_models.fusion import FusionModel, GatedxLSTM, GatedxLSTMConfig
from emotrace_models.labels import SCHEMES, LabelSet
from emotrace_models.types import FloatArray, Modality
from emotrace_training.compose import MODALITIES
from emotrace_training.dialogues import Split
from emotrace_training.fusion_fitting import FusionRecipe, class_weights, fit, logits_of, only
from emotrace_training.fusion_windows import (
    FACES,
    Singles,
    Sources,
    of_seed,
    save_windows,
    single_clips,
    single_faces,
)
from emotrace_training.label_views import LabelView, label_views
from emotrace_training.windows import Windows, joined

# A vector in the prototypes' frame is the same eight numbers over and over, so cutting it into
# steps would read them again and again: one step says all.
CONFIG = GatedxLSTMConfig(
    MODALITIES, 7, 128, steps=1, width=64, blocks=1, share="modality", missing="mask"
)
SMOKE = replace(CONFIG, embedding=16, width=8, heads=2)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A seed's model and the names of its classes."""

    model: GatedxLSTM
    labels: LabelSet


def command(
    composed: Annotated[Path, typer.Option(help="from `compose`")] = Path("runs/composed"),
    lexical: Annotated[Path, typer.Option(help="from `lexical`")] = Path("runs/lexical"),
    acoustic: Annotated[Path, typer.Option(help="from `acoustic`")] = Path("runs/acoustic"),
    face: Annotated[Path, typer.Option(help="from `face`")] = Path("runs/face"),
    manifest: Annotated[Path, typer.Option(help="from `prepare`")] = Path("runs/manifest.jsonl"),
    out: Annotated[Path, typer.Option(help="where the models go")] = Path("runs/fusion"),
    modality: Annotated[
        list[Modality] | None, typer.Option(help="default: voice, words and face")
    ] = None,
    labels: Annotated[str, typer.Option(help="scheme of the classes")] = "ekman7",
    draws: Annotated[int, typer.Option(min=1, help="training sets of `compose` used")] = 3,
    dev_draws: Annotated[int, typer.Option(min=1, help="dev sets of `compose` used")] = 3,
    seeds: Annotated[int, typer.Option(min=1, help="models fitted, one a seed")] = 3,
    seed: Annotated[int, typer.Option(help="the first of them")] = 0,
    epochs: Annotated[int, typer.Option(min=1)] = 6,
    threads: Annotated[int, typer.Option(min=1, help="processor threads")] = 1,
    smoke: Annotated[bool, typer.Option(help="a tiny model, for tiny towers")] = False,
) -> None:
    """Fit the fusion model to composed dialogues, single clips and single faces.

    Seed N reads dev with the towers in LEXICAL-N and FACE-N where they are there.
    """
    torch.set_num_threads(threads)
    scheme, modalities = SCHEMES[labels], tuple(modality or MODALITIES)
    config = replace(SMOKE if smoke else CONFIG, modalities=modalities, classes=len(scheme.names))
    recipe = FusionRecipe(epochs=epochs)
    for number in range(seed, seed + seeds):
        sources = Sources(
            labels=scheme,
            composed=composed,
            manifest=manifest,
            acoustic=acoustic,
            lexical=lexical,
            words=of_seed(lexical, number),
            faces=of_seed(face, number) / FACES if Modality.FACIAL in modalities else None,
            cache=out,
            threads=threads,
        )
        dev = [sources.dialogue_windows("dev", n) for n in range(dev_draws)]
        parts = [training_part(sources, n, recipe) for n in range(draws)]
        watched = {
            singles.modality.value: singles.windows(modalities)
            for singles in single_items(sources, "dev")
        }
        torch.manual_seed(number)
        model = GatedxLSTM(config)
        history = _fit(model, scheme, parts, recipe, number, dev[0], watched)
        folder = out / f"seed-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        save_fusion(folder, Fitted(model, scheme))
        for n, part in enumerate(dev):
            save_windows(folder / f"dev-{n}.npz", part)
        report = {
            "seed": number,
            "recipe": asdict(recipe),
            "dev_score_by_epoch": history,
            "dev": ablation(model, scheme, dev[0]),
            "alone": {
                name: scores(model, part, label_views(scheme), None)
                for name, part in watched.items()
            },
        }
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        typer.echo(json.dumps(report, indent=2))


def training_part(
    sources: Sources, number: int, recipe: FusionRecipe
) -> tuple[Windows, FloatArray]:
    """A draw of dialogues, single clips and faces beside it, and the loss weight of each turn."""
    classes = len(sources.labels.names)
    part = sources.dialogue_windows("train", number)
    parts, weights = [part], [class_weights(part.labels, classes, recipe.balance)]
    for singles in single_items(sources, "train"):
        parts.append(singles.windows(sources.modalities))
        weights.append(recipe.singles * singles.weights(classes))
    return joined(parts), np.concatenate(weights)


def single_items(sources: Sources, split: Split) -> list[Singles]:
    """Single clips and faces of a split."""
    found = [single_clips(sources.acoustic, sources.labels, split)]
    if sources.faces is not None:
        found.append(single_faces(sources.faces, sources.labels, split))
    return found


def subsets(modalities: Sequence[Modality]) -> list[tuple[Modality, ...]]:
    """Every set of modalities that an utterance may have; all of them last."""
    sizes = range(1, len(modalities) + 1)
    return [chosen for size in sizes for chosen in combinations(modalities, size)]


def ablation(model: FusionModel, labels: LabelSet, part: Windows) -> dict[str, Any]:
    """Scores with everything and with less, with and without context, by label set."""
    views = label_views(labels)
    found = {}
    for chosen in subsets(model.modalities):
        for title, alone in (("", False), (", no context", True)):
            found[modality_key(chosen) + title] = scores(
                model, part, views, only(chosen, part, alone)
            )
    return found


def scores(
    model: FusionModel,
    part: Windows,
    views: dict[str, LabelView],
    keep: np.ndarray | None,
) -> dict[str, dict[str, float]]:
    """By label set, over the turns of which something is shown."""
    turns = part.targets()
    if keep is not None:
        turns = turns[(part.present[turns] & keep[0, 0]).any(axis=1)]
    logits = logits_of(model, part, turns, keep)
    return {
        name: view.scores(view.truth(part.labels[turns]), view.logits(logits).argmax(axis=1))
        for name, view in views.items()
    }


def save_fusion(folder: Path, fitted: Fitted) -> None:
    save_file(fitted.model.state_dict(), folder / "model.safetensors")
    config = {"labels": fitted.labels.scheme, "model": asdict(fitted.model.config)}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def load_fusion(folder: Path) -> Fitted:
    """The model that `command` left in a seed's folder, in evaluation mode."""
    config = json.loads((folder / "config.json").read_text())
    model = GatedxLSTM(GatedxLSTMConfig(**config["model"]))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return Fitted(model.eval(), SCHEMES[config["labels"]])


def _fit(
    model: GatedxLSTM,
    labels: LabelSet,
    parts: Sequence[tuple[Windows, FloatArray]],
    recipe: FusionRecipe,
    seed: int,
    dev: Windows,
    watched: dict[str, Windows],
) -> list[float]:
    """Fits `model` and says how good each epoch was: what it makes of dev, with faces and without,
    and of towers alone."""
    own = {labels.scheme: LabelView(labels, labels)}
    spoken = [m for m in model.modalities if m != Modality.FACIAL]

    def value(candidate: FusionModel, part: Windows, keep: np.ndarray | None) -> float:
        found = scores(candidate, part, own, keep)[labels.scheme]
        return (found["uar"] + found["accuracy"]) / 2

    with tqdm(desc=f"fuse, seed {seed}", unit="step") as bar:

        def judge(candidate: FusionModel) -> float:
            values = [
                value(candidate, dev, None),
                value(candidate, dev, only(spoken, dev, False)),
                *(value(candidate, part, None) for part in watched.values()),
            ]
            bar.set_postfix(dev=f"{np.mean(values):.4f}")
            return float(np.mean(values))

        def show(step: int, steps: int) -> None:
            bar.total = steps
            bar.update(step - bar.n)

        rows = [EMOTIONS.index(name) for name in labels.names]
        prototypes = class_prototypes(model.config.embedding)[rows]
        return fit(model, parts, recipe, seed, prototypes, judge, show)[1]
