"""`calibrate-dialogues`: temperatures by modality and the decoder's settings, on dev.

p0 comes from the reference labels of the training dialogues, all of them, as in the original
(Yeh et al., ICASSP 2020). Temperatures minimise the negative log-likelihood of dev; the decoder's
concentration and temperature are those at which its labels are best on dev. Test is not touched.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from emotrace_models.calibration import Calibration, modality_key
from emotrace_models.decoding import DecoderConfig, decode_dialogue, estimate_p0
from emotrace_models.fusion import FusionModel
from emotrace_models.types import FloatArray, Modality
from emotrace_training.compose import ComposedDialogue, composed_file, read_composed
from emotrace_training.fusion import LABELS, MODALITIES, clip_windows, load_fusion, load_windows
from emotrace_training.fusion_fitting import logits_of, only
from emotrace_training.metrics import (
    accuracy,
    confusion,
    expected_calibration_error,
    negative_log_likelihood,
    uar,
)
from emotrace_training.windows import Windows

CALIBRATION = "calibration.json"
ALPHAS = (0.5, 1.0, 2.0)
DECODER_TEMPERATURES = (1.0, 0.7, 0.5)
DOUBT = 0.5  # confidence under which a calibrated label is more likely wrong than right
BOTH = modality_key(MODALITIES)
Posterior = NDArray[np.float64]


def softmax(logits: FloatArray, temperature: float) -> Posterior:
    """logits [item, class] -> probabilities, by the rule that serves (Calibration.posterior)."""
    rule = Calibration({BOTH: temperature})
    return np.stack([rule.posterior(row, MODALITIES) for row in logits])


def fit_temperature(logits: FloatArray, truth: NDArray[np.int64]) -> float:
    """The temperature, from 1/8 to 8, of the smallest negative log-likelihood.

    The likelihood has one optimum in the logarithm of the temperature: golden-section search.
    """

    def cost(log_temperature: float) -> float:
        return negative_log_likelihood(softmax(logits, math.exp(log_temperature)), truth)

    return math.exp(golden_section(cost, -math.log(8), math.log(8), 1e-3))


def golden_section(
    cost: Callable[[float], float], low: float, high: float, tolerance: float
) -> float:
    """Where between low and high a function with one minimum has it (Kiefer, 1953)."""
    ratio = (math.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = cost(a), cost(b)
    while high - low > tolerance:
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - ratio * (high - low)
            at_a = cost(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + ratio * (high - low)
            at_b = cost(b)
    return (low + high) / 2


def decoded(
    dialogues: Sequence[ComposedDialogue], posterior: Posterior, config: DecoderConfig
) -> NDArray[np.int64]:
    """The decoder's labels [turn] of all dialogues in order, each given out `lag` turns later."""
    labels: list[int] = []
    for dialogue in dialogues:
        part = posterior[len(labels) : len(labels) + len(dialogue.turns)]
        scores = np.log(np.maximum(part, np.finfo(np.float64).tiny))
        speakers = [turn.speaker for turn in dialogue.turns]
        labels += decode_dialogue(speakers, scores, config).emitted
    return np.array(labels, dtype=np.int64)


def command(
    composed: Annotated[Path, typer.Option(help="from `compose`")] = Path("runs/composed"),
    acoustic: Annotated[Path, typer.Option(help="from `acoustic`")] = Path("runs/acoustic"),
    fusion: Annotated[Path, typer.Option(help="from `fuse`")] = Path("runs/fusion"),
    seed: Annotated[int, typer.Option(help="which of its models")] = 0,
) -> None:
    """Fit temperatures and decoder settings of one fusion model on the dev dialogues."""
    model = load_fusion(fusion / f"seed-{seed}")
    draws = sorted(int(file.stem.split("-")[1]) for file in fusion.glob("dev-*.npz"))
    dev = [
        (read_composed(composed_file(composed, "dev", n)), load_windows(fusion / f"dev-{n}.npz"))
        for n in draws
    ]
    clips, _ = clip_windows(acoustic / "oof.npz", "valid")
    temperatures, errors = _temperatures(model, [part for _, part in dev], clips)
    posteriors = [
        softmax(logits_of(model, part, np.arange(len(part.labels))), temperatures[BOTH])
        for _, part in dev
    ]
    truth = np.concatenate([part.labels[part.targets()] for _, part in dev])
    guesses = np.concatenate(
        [p[part.targets()] for p, (_, part) in zip(posteriors, dev, strict=True)]
    )
    p0 = estimate_p0(
        [(turn.speaker, turn.label) for turn in dialogue.turns]
        for dialogue in read_composed(composed_file(composed, "train", 0))
    )
    tried: list[tuple[DecoderConfig, dict[str, float]]] = []
    for alpha, temperature in product(ALPHAS, DECODER_TEMPERATURES):
        config = DecoderConfig(p0=p0, alpha=alpha, temperature=temperature)
        found = [
            decoded(dialogues, posterior, config)[part.targets()]
            for posterior, (dialogues, part) in zip(posteriors, dev, strict=True)
        ]
        tried.append((config, _scores(truth, np.concatenate(found))))
    best, _ = max(tried, key=lambda one: one[1]["uar"] + one[1]["accuracy"])
    report = {
        "temperatures": temperatures,
        "abstain_below": DOUBT,
        "decoder": asdict(best),
        "dev": {
            "calibration": errors,
            "classifier": _scores(truth, guesses.argmax(axis=1)),
            "decoder": [
                {"alpha": config.alpha, "temperature": config.temperature, **scores}
                for config, scores in tried
            ],
        },
    }
    file = fusion / f"seed-{seed}" / CALIBRATION
    file.write_text(json.dumps(report, indent=2) + "\n")
    typer.echo(json.dumps(report, indent=2))


def _temperatures(
    model: FusionModel, dev: Sequence[Windows], clips: Windows
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """A temperature for each set of modalities, and the calibration error before and after it."""
    views: dict[str, list[tuple[Windows, NDArray[np.bool_] | None]]] = {
        BOTH: [(part, None) for part in dev],
        Modality.ACOUSTIC: [
            *((part, only(Modality.ACOUSTIC, part, False)) for part in dev),
            (clips, None),
        ],
        Modality.LEXICAL: [(part, only(Modality.LEXICAL, part, False)) for part in dev],
    }
    temperatures, errors = {}, {}
    for key, parts in views.items():
        logits, truth = [], []
        for part, keep in parts:
            turns = part.targets()
            seen = part.present[turns] if keep is None else part.present[turns] & keep[0, 0]
            turns = turns[seen.any(axis=1)]
            logits.append(logits_of(model, part, turns, keep))
            truth.append(part.labels[turns])
        everything, labels = np.concatenate(logits), np.concatenate(truth)
        temperature = fit_temperature(everything, labels)
        temperatures[str(key)] = temperature
        errors[str(key)] = {
            "before": expected_calibration_error(softmax(everything, 1.0), labels),
            "after": expected_calibration_error(softmax(everything, temperature), labels),
        }
    return temperatures, errors


def _scores(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> dict[str, float]:
    matrix = confusion(truth, predicted, len(LABELS.names))
    return {"uar": uar(matrix), "accuracy": accuracy(matrix)}
