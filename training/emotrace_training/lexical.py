"""`lexical`: fits the lexical tower; gives training lines vectors of towers that never saw them.

A tower overfits the lines that it is fitted to, so a fusion model fitted to its vectors of those
lines would trust words too much. So the training dialogues are cut into folds (an episode of the
series is never cut apart) and each fold's vectors come from a tower fitted to the others. The
shipped tower is fitted to everything.

Writes, under the output folder: tokenizer.json, tower.safetensors, tower.json, fold-K.npz (kept, so
that a run goes on where it stopped), vectors.npz (dialogue, line, vectors), report.json.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from emotrace_models.encoders.compact_lexical import (
    CompactLexical,
    CompactLexicalConfig,
)
from emotrace_models.encoders.prototypes import EMOTIONS, class_prototypes, prototype_index
from emotrace_models.encoders.subwords import TOKENIZER
from emotrace_models.labels import SCHEMES
from emotrace_models.types import FloatArray
from emotrace_training.dialogues import Split, TextDialogue
from emotrace_training.lexical_fitting import (
    LexicalRecipe,
    LexicalSample,
    embed,
    fit,
    train_tokenizer,
)
from emotrace_training.metrics import accuracy, confusion, f1_weighted, uar
from emotrace_training.text_corpora import read_comments, read_dialogues

VECTORS, TOWER, REPORT = "vectors.npz", "tower", "report.json"
SMOKE = CompactLexicalConfig(width=16, heads=2, tokens=16)


def samples_of(dialogues: Sequence[TextDialogue]) -> list[LexicalSample]:
    """The lines that have words and an emotion with a prototype."""
    return [
        LexicalSample(line.text, row, dialogue.corpus)
        for dialogue in dialogues
        for line in dialogue.lines
        if line.text.strip() and (row := prototype_index(line.label)) is not None
    ]


def save_tower(model: CompactLexical, tokenizer: bytes, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TOKENIZER).write_bytes(tokenizer)
    (folder / f"{TOWER}.json").write_text(json.dumps(asdict(model.config), indent=2) + "\n")
    save_file(model.state_dict(), folder / f"{TOWER}.safetensors")


def load_tower(folder: Path) -> CompactLexical:
    """What `save_tower` wrote, in evaluation mode."""
    config = CompactLexicalConfig(**json.loads((folder / f"{TOWER}.json").read_text()))
    model = CompactLexical(config, {TOKENIZER: (folder / TOKENIZER).read_bytes()})
    model.load_state_dict(load_file(folder / f"{TOWER}.safetensors"))
    return model.eval()


def score(
    model: CompactLexical, dialogues: Sequence[TextDialogue], scheme: str
) -> dict[str, float]:
    """Each line alone, by its nearest prototype among the classes of `scheme`."""
    labels = SCHEMES[scheme]
    lines = [line for dialogue in dialogues for line in dialogue.lines if line.text.strip()]
    kept = [(line.text, name) for line in lines if (name := labels.project(line.label))]
    rows = [EMOTIONS.index(name) for name in labels.names]
    classes = class_prototypes(model.width).numpy()[rows]
    predicted = (embed(model, [text for text, _ in kept]) @ classes.T).argmax(axis=1)
    truth = np.array([labels.index(name) for _, name in kept])
    matrix = confusion(truth, predicted, len(labels.names))
    return {
        "lines": len(kept),
        "accuracy": accuracy(matrix),
        "uar": uar(matrix),
        "f1_weighted": f1_weighted(matrix),
    }


def out_of_fold(
    dialogues: Sequence[TextDialogue],
    extra: Sequence[LexicalSample],
    tokenizer: bytes,
    recipe: LexicalRecipe,
    folds: int,
    seed: int,
    folder: Path,
    config: CompactLexicalConfig,
) -> FloatArray:
    """Vectors [line, width] of all lines in order, each by a tower that never saw its group."""
    fold_of = np.array([d.fold(folds) for d in dialogues for _ in d.lines])
    texts = [line.text for dialogue in dialogues for line in dialogue.lines]
    vectors = np.zeros((len(texts), config.width), dtype=np.float32)
    for fold in range(folds):
        file = folder / f"fold-{fold}.npz"
        mine = np.flatnonzero(fold_of == fold)
        if not file.is_file():
            others = samples_of([d for d in dialogues if d.fold(folds) != fold])
            model = _fit(
                others + list(extra), tokenizer, recipe, seed + 1 + fold, config, f"fold {fold}"
            )
            np.savez(file, vectors=embed(model, [texts[i] for i in mine]))
        vectors[mine] = np.load(file)["vectors"]
    return vectors


def command(
    text: Annotated[Path, typer.Option(help="folder of the text corpora")] = Path(
        "../shared/data/text"
    ),
    out: Annotated[Path, typer.Option(help="where tower and vectors go")] = Path("runs/lexical"),
    folds: Annotated[int, typer.Option(min=2, help="parts of the training dialogues")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="passes over the texts")] = 5,
    vocabulary: Annotated[int, typer.Option(min=300, help="subwords, with padding")] = 8192,
    threads: Annotated[int, typer.Option(min=1, help="processor threads")] = 1,
    seed: Annotated[int, typer.Option()] = 0,
    test: Annotated[bool, typer.Option(help="report MELD test too: once, at the end")] = False,
    smoke: Annotated[bool, typer.Option(help="a tiny tower")] = False,
) -> None:
    """Fit the lexical tower to the words of the text corpora."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    recipe = LexicalRecipe(epochs=epochs)
    config = replace(SMOKE if smoke else CompactLexicalConfig(), vocabulary=vocabulary)
    dialogues = read_dialogues(text, "train")
    comments = samples_of(read_comments(text, "train"))
    samples = samples_of(dialogues) + comments
    if not (out / TOKENIZER).is_file():
        tokenizer = train_tokenizer([sample.text for sample in samples], vocabulary)
        (out / TOKENIZER).write_bytes(tokenizer)
    tokenizer = (out / TOKENIZER).read_bytes()
    if not (out / f"{TOWER}.safetensors").is_file():
        save_tower(_fit(samples, tokenizer, recipe, seed, config, "all"), tokenizer, out)
    model = load_tower(out)
    vectors = out_of_fold(dialogues, comments, tokenizer, recipe, folds, seed, out, config)
    np.savez(
        out / VECTORS,
        dialogue=np.array([d.id for d in dialogues for _ in d.lines]),
        line=np.array([i for d in dialogues for i in range(len(d.lines))]),
        vectors=vectors,
    )
    splits: tuple[Split, ...] = ("dev", "test") if test else ("dev",)
    report = {
        f"meld_{split}": {
            scheme: score(model, read_dialogues(text, split), scheme)
            for scheme in ("common4", "ekman7")
        }
        for split in splits
    }
    (out / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    typer.echo(json.dumps(report, indent=2))


def _fit(
    samples: Sequence[LexicalSample],
    tokenizer: bytes,
    recipe: LexicalRecipe,
    seed: int,
    config: CompactLexicalConfig,
    title: str,
) -> CompactLexical:
    with tqdm(desc=f"lexical, {title}", unit="step") as bar:

        def show(step: int, steps: int) -> None:
            bar.total = steps
            bar.update(step - bar.n)

        return fit(samples, tokenizer, recipe, seed, config, show)
