"""How well a lexical tower reads single lines: its vectors, read out by class biases set on dev.

The tower's vectors lie in the prototypes' frame, and every corpus has its own mix of classes, which
the vectors are kept free of. So a line's logits are SCALE times its cosines with the prototypes of
the scheme's classes, plus a bias a class that is set on the corpus's dev split, for the metric that
is reported. Nothing else is fitted: a bias per class, on dev.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from emotrace_models.encoders.compact_lexical import CompactLexical
from emotrace_models.encoders.prototypes import EMOTIONS, class_prototypes
from emotrace_models.labels import SCHEMES, LabelSet
from emotrace_training.dialogues import Split, TextDialogue
from emotrace_training.lexical_fitting import embed
from emotrace_training.metrics import accuracy, confusion, f1_macro, f1_weighted, uar
from emotrace_training.text_corpora import read_comments, read_dialogues

SCALE = 8.0  # of LexicalRecipe: the logits' scale in training
STEPS = np.arange(-2.0, 2.01, 0.1)  # biases that are tried
ROUNDS = 3  # over all classes
Corpus = Literal["meld", "goemotions"]
METRICS: dict[Corpus, Callable[[NDArray[np.int64]], float]] = {
    "meld": f1_weighted,
    "goemotions": f1_macro,
}
Said = Callable[[str], str]  # what of a line is read


def as_written(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """texts [line], truth [line]: indices into the scheme's classes."""

    corpus: Corpus
    texts: tuple[str, ...]
    truth: NDArray[np.int64]
    labels: LabelSet


def read_lines(root: Path, corpus: Corpus, split: Split, scheme: str = "ekman7") -> Lines:
    """The lines with words of a class of the scheme; of GoEmotions the comments of one group.

    Raises CorpusUnreadable.
    """
    labels, read = SCHEMES[scheme], {"meld": read_dialogues, "goemotions": read_comments}[corpus]
    dialogues: Sequence[TextDialogue] = read(root, split)
    found = [
        (line.text, labels.index(name))
        for dialogue in dialogues
        for line in dialogue.lines
        if line.text.strip() and (name := labels.project(line.label)) is not None
    ]
    truth = np.array([row for _, row in found], dtype=np.int64)
    return Lines(corpus, tuple(text for text, _ in found), truth, labels)


def logits(model: CompactLexical, lines: Lines, said: Said = as_written) -> NDArray[np.float64]:
    """[line, class] without biases; zeros where nothing can be read."""
    rows = [EMOTIONS.index(name) for name in lines.labels.names]
    classes = class_prototypes(model.width).numpy()[rows]
    vectors = embed(model, [said(text) for text in lines.texts])
    return np.asarray(SCALE * (vectors @ classes.T), dtype=np.float64)


def biases(scores: NDArray[np.float64], lines: Lines) -> NDArray[np.float64]:
    """[class]: those of STEPS, one class after another, that the corpus's metric is highest with;
    of equal ones the smallest."""
    metric, count = METRICS[lines.corpus], scores.shape[1]
    found = np.zeros(count)

    def reached(bias: NDArray[np.float64]) -> float:
        return metric(confusion(lines.truth, (scores + bias).argmax(axis=1), count))

    for _ in range(ROUNDS):
        for column in range(count):
            tried = np.tile(found, (len(STEPS), 1))
            tried[:, column] = STEPS
            best = max(tried, key=lambda bias: (reached(bias), -abs(bias[column])))
            found = best - best.mean()
    return found


def scores(
    model: CompactLexical, lines: Lines, bias: NDArray[np.float64], said: Said = as_written
) -> dict[str, Any]:
    predicted = (logits(model, lines, said) + bias).argmax(axis=1)
    matrix = confusion(lines.truth, predicted, len(lines.labels.names))
    return {
        "lines": len(lines.texts),
        "accuracy": accuracy(matrix),
        "uar": uar(matrix),
        "f1_weighted": f1_weighted(matrix),
        "f1_macro": f1_macro(matrix),
    }
