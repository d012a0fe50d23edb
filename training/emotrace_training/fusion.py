"""`fuse`: fits GatedxLSTM to composed dialogues and single clips; chooses the epoch on dev.

Training dialogues use vectors of towers that never saw the line or heard the actor. Dev is MELD's
dev split spoken by the actors of `valid`; test actors and lines are not touched here.

Writes, under the output folder: {train,dev}-K.npz (windows, kept, so that a run goes on where it
stopped) and for each seed seed-N/{model.safetensors,config.json,report.json}.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from emotrace_models.encoders.prototypes import EMOTIONS, class_prototypes, in_frame
from emotrace_models.fusion import FusionModel, GatedxLSTM, GatedxLSTMConfig
from emotrace_models.labels import SCHEMES
from emotrace_models.types import FloatArray, Modality
from emotrace_training.compose import ComposedDialogue, composed_file, read_composed
from emotrace_training.dialogues import Split
from emotrace_training.fusion_fitting import FusionRecipe, class_weights, fit, logits_of, only
from emotrace_training.hearing import Listener, load_listener
from emotrace_training.lexical import VECTORS, load_tower
from emotrace_training.lexical_fitting import embed
from emotrace_training.manifests import ClipSplit, read_manifest
from emotrace_training.metrics import accuracy, confusion, uar
from emotrace_training.windows import EMPTY, HeardTurn, Stream, Windows, joined, windows

MODALITIES = (Modality.ACOUSTIC, Modality.LEXICAL)
LABELS = SCHEMES["common4"]
CONFIG = GatedxLSTMConfig(
    MODALITIES, len(LABELS.names), 128, steps=8, width=64, blocks=1, share="modality",
    missing="mask",
)  # fmt: skip
SMOKE = replace(CONFIG, embedding=16, width=8, heads=2)


def class_of(label: str) -> int:
    """The class index of a canonical label, or EMPTY outside the scheme: context only."""
    name = LABELS.project(label)
    return EMPTY if name is None else LABELS.index(name)


def heard_dialogues(
    dialogues: Sequence[ComposedDialogue],
    sounds: Sequence[Sequence[FloatArray | None]],
    words: Sequence[Sequence[FloatArray | None]],
) -> list[list[HeardTurn]]:
    """Composed dialogues with the vectors of each turn."""
    result = []
    for dialogue, sound, word in zip(dialogues, sounds, words, strict=True):
        turns = []
        for turn, acoustic, lexical in zip(dialogue.turns, sound, word, strict=True):
            found = {Modality.ACOUSTIC: acoustic, Modality.LEXICAL: lexical}
            streams = {m.value: v for m, v in found.items() if v is not None}
            turns.append(HeardTurn(turn.speaker, streams, class_of(turn.label)))
        result.append(turns)
    return result


def clip_windows(file: Path, split: ClipSplit) -> tuple[Windows, FloatArray]:
    """Single clips, each a dialogue of its own without words, and a loss weight for each.

    Corpora and classes weigh by the square root of how many clips they have.
    """
    with np.load(file) as table:
        chosen = np.flatnonzero(table["split"] == split)
        corpora, emotions = table["corpus"][chosen], table["emotion"][chosen]
        vectors = in_frame(torch.from_numpy(table["vector"][chosen])).numpy()
    turns = [
        [HeardTurn("speaker", {Modality.ACOUSTIC.value: vector}, class_of(str(emotion)))]
        for vector, emotion in zip(vectors, emotions, strict=True)
    ]
    part = windows(turns, streams_of(vectors.shape[1]), GatedxLSTM.start_window())
    names, corpus = np.unique(corpora, return_inverse=True)
    groups = np.where(part.labels == EMPTY, EMPTY, part.labels * len(names) + corpus)
    return part, class_weights(groups, len(names) * len(LABELS.names), 0.5)


def command(
    composed: Annotated[Path, typer.Option(help="from `compose`")] = Path("runs/composed"),
    lexical: Annotated[Path, typer.Option(help="from `lexical`")] = Path("runs/lexical"),
    acoustic: Annotated[Path, typer.Option(help="from `acoustic`")] = Path("runs/acoustic"),
    manifest: Annotated[Path, typer.Option(help="from `prepare`")] = Path("runs/manifest.jsonl"),
    out: Annotated[Path, typer.Option(help="where the models go")] = Path("runs/fusion"),
    draws: Annotated[int, typer.Option(min=1, help="training sets of `compose` used")] = 2,
    seeds: Annotated[int, typer.Option(min=1, help="models fitted, one a seed")] = 3,
    seed: Annotated[int, typer.Option(help="the first of them")] = 0,
    epochs: Annotated[int, typer.Option(min=1)] = 5,
    balance: Annotated[float, typer.Option(help="0 plain loss, 1 balanced classes")] = 0.5,
    clips: Annotated[float, typer.Option(help="weight of single clips in the loss")] = 1.0,
    threads: Annotated[int, typer.Option(min=1, help="processor threads")] = 1,
    smoke: Annotated[bool, typer.Option(help="a tiny model, for tiny towers")] = False,
) -> None:
    """Fit the fusion model to composed dialogues and single clips."""
    torch.set_num_threads(threads)
    config = SMOKE if smoke else CONFIG
    recipe = FusionRecipe(epochs=epochs, balance=balance, clips=clips)
    everything = read_manifest(manifest)
    listener = load_listener(acoustic, everything, threads)
    dev = [dialogue_windows("dev", n, composed, lexical, listener, out) for n in range(seeds)]
    train = [dialogue_windows("train", n, composed, lexical, listener, out) for n in range(draws)]
    single, weights = clip_windows(acoustic / "oof.npz", "train")
    watched, _ = clip_windows(acoustic / "oof.npz", "valid")
    parts = [
        (
            joined([part, single]),
            np.concatenate(
                [class_weights(part.labels, len(LABELS.names), balance), clips * weights]
            ),
        )
        for part in train
    ]
    for number in range(seed, seed + seeds):
        torch.manual_seed(number)
        dev_part = dev[number % len(dev)]
        model, history = _fit(GatedxLSTM(config), parts, recipe, number, dev_part, watched)
        folder = out / f"seed-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
        report = {
            "seed": number,
            "recipe": asdict(recipe),
            "dev_score_by_epoch": history,
            "dev": ablation(model, dev_part),
            "valid_clips": _score(model, watched, only(Modality.ACOUSTIC, watched, True)),
        }
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        typer.echo(json.dumps(report, indent=2))


def dialogue_windows(
    split: Split, number: int, composed: Path, lexical: Path, listener: Listener, cache: Path
) -> Windows:
    """One draw of composed dialogues as windows; read back where they have been made before."""
    file = cache / f"{split}-{number}.npz"
    if file.is_file():
        return load_windows(file)
    dialogues = read_composed(composed_file(composed, split, number))
    with tqdm(desc=f"hear {split} {number}", total=sum(len(d.turns) for d in dialogues)) as bar:
        sounds = listener.hear(dialogues, bar.update)
    words = _out_of_fold(lexical, dialogues) if split == "train" else _by_tower(lexical, dialogues)
    turns = heard_dialogues(dialogues, sounds, words)
    part = windows(turns, streams_of(listener.width), GatedxLSTM.start_window())
    cache.mkdir(parents=True, exist_ok=True)
    tables: dict[str, Any] = {"entries": part.entries, "labels": part.labels}
    for name, stream in part.streams.items():
        tables |= {f"{name}.values": stream.values, f"{name}.starts": stream.starts}
    np.savez(file, **tables)
    return part


def streams_of(width: int) -> dict[str, int]:
    """Both streams have vectors of one width."""
    return {modality.value: width for modality in MODALITIES}


def load_windows(file: Path) -> Windows:
    """Windows that an earlier run kept."""
    with np.load(file) as table:
        streams = {m.value: Stream(table[f"{m}.values"], table[f"{m}.starts"]) for m in MODALITIES}
        return Windows(streams, table["entries"], table["labels"])


def load_fusion(folder: Path) -> GatedxLSTM:
    """The model that `command` left in a seed's folder, in evaluation mode."""
    model = GatedxLSTM(GatedxLSTMConfig(**json.loads((folder / "config.json").read_text())))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


def ablation(model: FusionModel, part: Windows) -> dict[str, dict[str, float]]:
    """Scores with everything, and with less."""
    return {
        "fused": _score(model, part, None),
        "acoustic": _score(model, part, only(Modality.ACOUSTIC, part, False)),
        "lexical": _score(model, part, only(Modality.LEXICAL, part, False)),
        "acoustic, no context": _score(model, part, only(Modality.ACOUSTIC, part, True)),
        "lexical, no context": _score(model, part, only(Modality.LEXICAL, part, True)),
    }


def _score(model: FusionModel, part: Windows, keep: np.ndarray | None) -> dict[str, float]:
    turns = part.targets()
    if keep is not None:
        turns = turns[(part.present[turns] & keep[0, 0]).any(axis=1)]
    predicted = logits_of(model, part, turns, keep).argmax(axis=1)
    matrix = confusion(part.labels[turns], predicted, len(LABELS.names))
    return {"uar": uar(matrix), "accuracy": accuracy(matrix)}


def _fit(
    model: GatedxLSTM,
    parts: Sequence[tuple[Windows, FloatArray]],
    recipe: FusionRecipe,
    seed: int,
    dev: Windows,
    watched: Windows,
) -> tuple[FusionModel, list[float]]:
    with tqdm(desc=f"fuse, seed {seed}", unit="step") as bar:

        def judge(candidate: FusionModel) -> float:
            fused = _score(candidate, dev, None)
            alone = _score(candidate, watched, only(Modality.ACOUSTIC, watched, True))
            value = (fused["uar"] + fused["accuracy"] + alone["uar"]) / 3
            bar.set_postfix(dev=f"{value:.4f}")
            return value

        def show(step: int, steps: int) -> None:
            bar.total = steps
            bar.update(step - bar.n)

        rows = [EMOTIONS.index(name) for name in LABELS.names]
        prototypes = class_prototypes(model.config.embedding)[rows]
        return fit(model, parts, recipe, seed, prototypes, judge, show)


def _out_of_fold(
    lexical: Path, dialogues: Sequence[ComposedDialogue]
) -> list[list[FloatArray | None]]:
    with np.load(lexical / VECTORS) as table:
        keys = zip(table["dialogue"].tolist(), table["line"].tolist(), strict=True)
        known = dict(zip(keys, table["vectors"], strict=True))
    return [
        [known[d.id, i] if turn.text.strip() else None for i, turn in enumerate(d.turns)]
        for d in dialogues
    ]


def _by_tower(
    lexical: Path, dialogues: Sequence[ComposedDialogue]
) -> list[list[FloatArray | None]]:
    vectors = iter(embed(load_tower(lexical), [t.text for d in dialogues for t in d.turns]))
    found = [[(turn, next(vectors)) for turn in dialogue.turns] for dialogue in dialogues]
    return [[v if turn.text.strip() else None for turn, v in turns] for turns in found]
