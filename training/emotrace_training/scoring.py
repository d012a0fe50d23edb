"""The figures of a run: each metric by its formula, pooled over folds, mean and deviation of seeds.

A seed's predictions of all test folds are pooled into one confusion matrix: in leave-one-out every
utterance is tested once. The deviation is that of the seeds (n in the denominator).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotrace_models.decoding import DecoderConfig, decode_dialogue, log_softmax
from emotrace_models.types import FloatArray
from emotrace_training.calibrate import fit_temperature, softmax
from emotrace_training.metrics import (
    Counts,
    Matrix,
    accuracy,
    binary_acc,
    binary_f1,
    confusion,
    expected_calibration_error,
    f1_macro,
    f1_of_macro_pr,
    f1_weighted,
    negative_log_likelihood,
    per_class,
    uar,
)
from emotrace_training.recipe_tables import Decoder, Recipe
from emotrace_training.run_folder import PREDICTIONS, RunUnusable, Trained, Variant
from emotrace_training.windows import EMPTY

METRICS: dict[str, Callable[[Matrix], float]] = {
    "accuracy": accuracy,
    "uar": uar,
    "f1_macro": f1_macro,
    "f1_weighted": f1_weighted,
    "f1_of_macro_pr": f1_of_macro_pr,
}
MODEL, DECODED = "model", "model + decoder"


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """One part of a fold, turn by turn in dialogue order. label: EMPTY for context only.

    presence [turn, class]: which classes a turn has, None where it has one.
    """

    dialogue: NDArray[np.str_]
    speaker: NDArray[np.str_]
    label: NDArray[np.int64]
    logits: FloatArray
    presence: FloatArray | None = None

    @property
    def measured(self) -> NDArray[np.bool_]:
        return np.asarray(self.label != EMPTY)


def read_predictions(trained: Trained, part: str) -> Predictions:
    """Raises RunUnusable."""
    file = trained.folder / PREDICTIONS
    try:
        with np.load(file, allow_pickle=False) as table:
            own = table["part"] == part
            names = np.char.add(np.char.add(table["corpus"], ":"), table["dialogue"])
            return Predictions(
                names[own],
                table["speaker"][own],
                table["label"][own],
                table["logits"][own],
                table["presence"][own] if "presence" in table else None,
            )
    except (OSError, ValueError, KeyError) as error:
        raise RunUnusable(f"{file}: {error}; fit with --restart") from error


def decoded(predictions: Predictions, config: DecoderConfig, passes: int) -> NDArray[np.int64]:
    """The decoder's label of every turn."""
    labels = np.full(len(predictions.label), EMPTY, dtype=np.int64)
    for name in dict.fromkeys(predictions.dialogue.tolist()):
        turns = np.flatnonzero(predictions.dialogue == name)
        scores = log_softmax(predictions.logits[turns])
        speakers = predictions.speaker[turns].tolist()
        labels[turns] = decode_dialogue(speakers, scores, config, passes).emitted
    return labels


def decoder_config(recipe: Decoder, p0: float | None) -> DecoderConfig | None:
    """p0: from the training dialogues; None where neither they nor the recipe give one."""
    chosen = recipe.p0 if recipe.p0 is not None else p0
    if chosen is None:
        return None
    lag = recipe.lag
    return DecoderConfig(
        p0=chosen, alpha=recipe.alpha, beam=recipe.beam, lag=lag, temperature=recipe.temperature
    )


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A variant's figures; report: as values for JSON. posterior [turn, class] and truth of all
    seeds' test turns, before and after the temperature that suits the validation part."""

    variant: Variant
    report: dict[str, Any]
    matrix: Counts
    before: NDArray[np.float64]
    after: NDArray[np.float64] | None
    truth: NDArray[np.int64]


def score(variant: Variant) -> Scored:
    """Raises RunUnusable."""
    recipe = variant.recipe
    names = recipe.data.label_set.names
    rows: dict[str, dict[int, list[Counts]]] = {MODEL: {}}
    by_fold: dict[str, list[Counts]] = {}
    before, after, truths = [], [], []
    each_class: dict[int, list[list[Counts]]] = {}
    configs = [_decoder_of(recipe, trained) for trained in variant.trained]
    missing = variant.missing()
    if recipe.decoder is not None and None in configs:
        missing.append("decoder: too few training dialogues for p0; set decoder.p0")
        configs = [None] * len(configs)
    for trained, config in zip(variant.trained, configs, strict=True):
        test = read_predictions(trained, "test")
        own, truth = test.measured, test.label[test.measured]
        matrix = confusion(truth, test.logits[own].argmax(axis=1), len(names))
        rows[MODEL].setdefault(trained.seed, []).append(matrix)
        by_fold.setdefault(trained.fold, []).append(matrix)
        if test.presence is not None:
            each_class.setdefault(trained.seed, []).append(
                by_class(test.presence[own], test.logits[own] > 0)
            )
        before.append(softmax(test.logits[own], 1.0))
        truths.append(truth)
        if (temperature := validation_temperature(trained)) is not None:
            after.append(softmax(test.logits[own], temperature))
        if config is not None and recipe.decoder is not None:
            found = decoded(test, config, recipe.decoder.passes)
            rows.setdefault(DECODED, {}).setdefault(trained.seed, []).append(
                confusion(truth, found[own], len(names))
            )
    matrices = {row: pooled(seeds) for row, seeds in rows.items()}
    total = np.sum(list(matrices[MODEL].values()), axis=0)
    posterior, truth = np.concatenate(before), np.concatenate(truths)
    report = {
        "title": recipe.recipe.title,
        "source": recipe.recipe.source,
        "protocol": recipe.recipe.protocol,
        "traps": list(recipe.recipe.traps),
        "published": recipe.recipe.published,
        "published_deviation": recipe.recipe.deviation,
        "split": recipe.data.split.model_dump(),
        "classes": list(names),
        "seeds": sorted(matrices[MODEL]),
        "folds": {
            fold: _over([{n: metric(m) for n, metric in METRICS.items()} for m in found])
            for fold, found in by_fold.items()
        },
        "missing": missing,
        "rows": {row: summary(list(found.values())) for row, found in matrices.items()},
        "per_class": {
            row: _classes(list(found.values()), names) for row, found in matrices.items()
        },
        **({"each_class": _each_class(each_class, names)} if each_class else {}),
        "confusion": total.tolist(),
        "tested": int(next(iter(matrices[MODEL].values())).sum()),
        "calibration": {
            "before": _calibration(posterior, truth),
            **(
                {"after": _calibration(np.concatenate(after), truth)}
                if len(after) == len(before)
                else {}
            ),
        },
        "data": {
            key: value
            for key, value in variant.data().items()
            if key not in ("listed", "labels", "folds")
        },
        "trained": [
            {
                key: one.report()[key]
                for key in ("fold", "seed", "counts", "epochs", "kept_epoch", "seconds", "p0")
            }
            for one in variant.trained
        ],
        "parameters": variant.trained[0].report()["parameters"],
    }
    joined = np.concatenate(after) if len(after) == len(before) else None
    return Scored(variant, report, total, posterior, joined, truth)


def by_class(presence: FloatArray, guessed: NDArray[np.bool_]) -> list[Counts]:
    """The two-class matrix of every class: there or not, against guessed or not [turn, class]."""
    return [
        confusion(there.astype(np.int64), found.astype(np.int64), 2)
        for there, found in zip(presence.T, guessed.T, strict=True)
    ]


def _each_class(
    seeds: Mapping[int, Sequence[Sequence[Counts]]], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Accuracy and weighted F1 of each class by itself, folds pooled, means over seeds."""
    pooled_seeds = [np.sum(found, axis=0) for found in seeds.values()]  # [class, 2, 2] each
    return {
        name: {
            "binary_acc": float(np.mean([accuracy(found[i]) for found in pooled_seeds])),
            "binary_f1": float(np.mean([f1_weighted(found[i]) for found in pooled_seeds])),
        }
        for i, name in enumerate(names)
    }


def validation_temperature(trained: Trained) -> float | None:
    """The temperature that suits the validation part; None where there is none."""
    valid = read_predictions(trained, "valid")
    if not valid.measured.any():
        return None
    return fit_temperature(valid.logits[valid.measured], valid.label[valid.measured])


def pooled(seeds: Mapping[int, Sequence[Counts]]) -> dict[int, Counts]:
    """A seed's folds as one matrix."""
    return {seed: np.sum(found, axis=0) for seed, found in sorted(seeds.items())}


def summary(matrices: Sequence[Counts]) -> dict[str, dict[str, Any]]:
    """Each metric: mean and deviation over seeds, and each seed's."""
    found = {name: [metric(matrix) for matrix in matrices] for name, metric in METRICS.items()}
    return {
        name: {"mean": float(np.mean(values)), "sd": float(np.std(values)), "seeds": values}
        for name, values in found.items()
    }


def _decoder_of(recipe: Recipe, trained: Trained) -> DecoderConfig | None:
    if recipe.decoder is None:
        return None
    return decoder_config(recipe.decoder, trained.report()["p0"])


def _classes(matrices: Sequence[Counts], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Per class, means over seeds; None where not defined."""
    tables = [per_class(matrix, names) for matrix in matrices]
    binary = [(binary_acc(matrix), binary_f1(matrix)) for matrix in matrices]
    return {
        name: {
            **_over([table[name] for table in tables]),
            "binary_acc": float(np.mean([acc[i] for acc, _ in binary])),
            "binary_f1": float(np.mean([f1[i] for _, f1 in binary])),
        }
        for i, name in enumerate(names)
    }


def _over(tables: Sequence[Mapping[str, float | int | None]]) -> dict[str, float | None]:
    found = {}
    for key in tables[0]:
        values = [value for table in tables if (value := table[key]) is not None]
        found[key] = float(np.mean(values)) if values else None
    return found


def _calibration(posterior: NDArray[np.float64], truth: NDArray[np.int64]) -> dict[str, float]:
    return {
        "expected_calibration_error": expected_calibration_error(posterior, truth),
        "negative_log_likelihood": negative_log_likelihood(posterior, truth),
    }
