"""`lexical`: fits the lexical tower; gives training lines vectors of towers that never saw them.

A tower overfits the lines that it is fitted to, so a fusion model fitted to its vectors of those
lines would trust words too much. So the training lines are cut into folds (an episode of the
series is never cut apart) and each fold's vectors come from a tower fitted to the others. The
shipped tower is fitted to everything. Further seeds need no folds: `--folds 0`.

Writes, under the output folder: tokenizer.json, tower.safetensors, tower.json, fold-K.npz (kept, so
that a run goes on where it stopped), vectors.npz and comments.npz (dialogue, line, vectors; of the
dialogues and of the single comments), report.json.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from emotrace_models.encoders.compact_lexical import (
    CompactLexical,
    CompactLexicalConfig,
)
from emotrace_models.encoders.prototypes import EMOTIONS, prototype_index
from emotrace_models.encoders.subwords import TOKENIZER
from emotrace_training.corpora.goemotions import LABELS, Comment
from emotrace_training.dialogues import TextDialogue, fold_of, plain
from emotrace_training.lexical_fitting import LexicalRecipe, embed, fit, train_tokenizer
from emotrace_training.lexical_sampling import LexicalSample
from emotrace_training.text_corpora import (
    held_out_lines,
    read_all_comments,
    read_comments,
    read_dialogues,
)
from emotrace_training.text_scoring import METRICS, Corpus, biases, logits, read_lines, scores

VECTORS, COMMENTS, TOWER, REPORT = "vectors.npz", "comments.npz", "tower", "report.json"
CONFIG = CompactLexicalConfig(members=2, convolutions=1, transformer=False, pairs=32_768, cut=0.35)
SMOKE = CompactLexicalConfig(
    width=16, heads=2, tokens=16, convolutions=1, transformer=False, pairs=64
)


class TextCorpus(StrEnum):
    MELD = "meld"
    EMORYNLP = "emorynlp"
    DAILYDIALOG = "dailydialog"
    GOEMOTIONS = "goemotions"


def samples_of(
    dialogues: Sequence[TextDialogue], held_out: frozenset[str] = frozenset()
) -> list[LexicalSample]:
    """The lines that have words and an emotion with a prototype and are not held out."""
    return [
        LexicalSample(line.text, (row,), dialogue.corpus)
        for dialogue in dialogues
        for line in dialogue.lines
        if line.text.strip()
        and (row := prototype_index(line.label)) is not None
        and plain(line.text) not in held_out
    ]


def comment_samples(
    comments: Sequence[Comment], held_out: frozenset[str] = frozenset()
) -> list[LexicalSample]:
    """Comments, each with all its groups and its own labels, those held out left out."""
    return [
        LexicalSample(
            comment.text,
            tuple(EMOTIONS.index(group) for group in comment.groups),
            "goemotions",
            tuple(LABELS.index(label) for label in comment.labels),
        )
        for comment in comments
        if comment.text and plain(comment.text) not in held_out
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


@dataclass(frozen=True, slots=True)
class Texts:
    """What there is to train on, but for the lines that are held out of it.

    alone: the comments of one emotion, as dialogues of one line: those that get vectors.
    """

    dialogues: Sequence[TextDialogue]
    comments: Sequence[Comment]
    alone: Sequence[TextDialogue]
    held_out: frozenset[str]

    @classmethod
    def read(cls, root: Path, corpora: Sequence[str]) -> Texts:
        """Raises CorpusUnreadable."""
        single = "goemotions" in corpora
        return cls(
            [d for d in read_dialogues(root, "train") if d.corpus in corpora],
            read_all_comments(root, "train") if single else [],
            read_comments(root, "train") if single else [],
            held_out_lines(root),
        )

    def samples(self, folds: int = 1, without: int | None = None) -> list[LexicalSample]:
        """All samples, or those outside the fold `without` of `folds`."""
        dialogues = [d for d in self.dialogues if d.fold(folds) != without]
        comments = [c for c in self.comments if fold_of(c.id, folds) != without]
        return samples_of(dialogues, self.held_out) + comment_samples(comments, self.held_out)

    def lines(self, folds: int, fold: int) -> list[str]:
        """The words of all lines of a fold: dialogues, then comments alone."""
        found = [d for d in (*self.dialogues, *self.alone) if d.fold(folds) == fold]
        return [line.text for dialogue in found for line in dialogue.lines]


def command(
    text: Annotated[Path, typer.Option(help="folder of the text corpora")] = Path(
        "../shared/data/text"
    ),
    out: Annotated[Path, typer.Option(help="where tower and vectors go")] = Path("runs/lexical"),
    corpora: Annotated[
        list[TextCorpus] | None, typer.Option(help="corpora to train on; may be repeated")
    ] = None,
    folds: Annotated[int, typer.Option(min=0, help="parts of the training lines; 0: none")] = 3,
    fold: Annotated[
        int | None, typer.Option(min=0, help="do this fold alone, beside another process")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="passes over the texts")] = 4,
    vocabulary: Annotated[int, typer.Option(min=300, help="subwords, with padding")] = 8192,
    threads: Annotated[int, typer.Option(min=1, help="processor threads")] = 1,
    seed: Annotated[int, typer.Option()] = 0,
    smoke: Annotated[bool, typer.Option(help="a tiny tower")] = False,
) -> None:
    """Fit the lexical tower to the words of the text corpora."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    if folds == 1:
        raise typer.BadParameter("one fold leaves nothing to train on", param_hint="--folds")
    recipe = LexicalRecipe(epochs=epochs)
    config = replace(SMOKE if smoke else CONFIG, vocabulary=vocabulary)
    texts = Texts.read(text, [str(corpus) for corpus in corpora or TextCorpus])
    if not (out / TOKENIZER).is_file():
        written = train_tokenizer([sample.text for sample in texts.samples()], vocabulary)
        (out / TOKENIZER).write_bytes(written)
    tokenizer = (out / TOKENIZER).read_bytes()
    if fold is None and not (out / f"{TOWER}.safetensors").is_file():
        save_tower(_fit(texts.samples(), tokenizer, recipe, seed, config, "all"), tokenizer, out)
    for number in range(folds) if fold is None else (fold,):
        if not (out / f"fold-{number}.npz").is_file():
            others = texts.samples(folds, without=number)
            title = f"fold {number}"
            model = _fit(others, tokenizer, recipe, seed + 1 + number, config, title)
            np.savez(out / f"fold-{number}.npz", vectors=embed(model, texts.lines(folds, number)))
    if fold is not None:
        return
    if folds:
        _put_together(texts, folds, out)
    model = load_tower(out)
    report = {"dev": {name: on_dev(model, text, name) for name in METRICS}}
    (out / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    typer.echo(json.dumps(report, indent=2))


def on_dev(model: CompactLexical, text: Path, corpus: Corpus) -> dict[str, Any]:
    """Scores of a corpus's dev split by scheme. Its biases are set there too: they flatter it."""
    found = {}
    for scheme in ("common4", "ekman7"):
        lines = read_lines(text, corpus, "dev", scheme)
        found[scheme] = scores(model, lines, biases(logits(model, lines), lines))
    return found


def _put_together(texts: Texts, folds: int, out: Path) -> None:
    """The folds' vectors in the order of the lines."""
    kept = [iter(np.load(out / f"fold-{fold}.npz")["vectors"]) for fold in range(folds)]
    vectors = {
        (d.id, i): next(kept[d.fold(folds)])
        for d in (*texts.dialogues, *texts.alone)
        for i in range(len(d.lines))
    }
    for name, dialogues in ((VECTORS, texts.dialogues), (COMMENTS, texts.alone)):
        keys = [(d.id, i) for d in dialogues for i in range(len(d.lines))]
        if keys:
            np.savez(
                out / name,
                dialogue=np.array([dialogue for dialogue, _ in keys]),
                line=np.array([line for _, line in keys]),
                vectors=np.stack([vectors[key] for key in keys]),
            )


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
