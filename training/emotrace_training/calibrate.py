"""`calibrate-dialogues`: probabilities, threshold and decoder of each label set, fitted on dev.

For every set of modalities that an utterance may have: a temperature, and where there are words a
bias a class, since only dialogues tell how often an emotion occurs. Dev dialogues are MELD's dev
lines with voices of actors whom neither the tower nor the fusion model has heard (casting.py). A
voice alone is fitted to their single clips too, all corpora alike, because that is how strangers
are heard; a face alone to single faces.
p0 comes from the reference labels of the training dialogues, all of them, as in the original
(Yeh et al., ICASSP 2020). Test is not touched.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from emotrace_models.calibration import Calibration, modality_key
from emotrace_models.decoding import estimate_p0
from emotrace_models.types import FloatArray, Modality
from emotrace_training.calibration_samples import Sample, samples_of
from emotrace_training.compose import ComposedDialogue, composed_file, read_composed
from emotrace_training.decoder_fitting import choose_decoder
from emotrace_training.fusion import load_fusion
from emotrace_training.fusion_fitting import logits_of, only, used_of
from emotrace_training.fusion_windows import FACES, load_windows, of_seed
from emotrace_training.label_views import LabelView, label_views
from emotrace_training.metrics import (
    expected_calibration_error,
    negative_log_likelihood,
    risk_coverage,
)
from emotrace_training.vector_scaling import Scaling, fit_scaling
from emotrace_training.windows import EMPTY, joined

CALIBRATION = "calibration.json"
BALANCES = (0.0, 0.25, 0.5, 0.75, 1.0)  # exponents of the inverse class frequency in the bias
STRENGTH = 10.0  # labels that it takes to move a bias
SPOKEN = (Modality.ACOUSTIC, Modality.LEXICAL)  # what most sessions have: no camera
BOTH = modality_key(SPOKEN)
Posterior = NDArray[np.float64]


def softmax(logits: FloatArray, temperature: float) -> Posterior:
    """logits [item, class] -> probabilities, by the rule that serves (Calibration.posterior)."""
    return Calibration({BOTH: temperature}).posterior(logits, SPOKEN)


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


def fit_rule(sample: Sample, balance: float | None) -> Scaling:
    """The rule of one set of modalities. balance: None for a temperature alone.

    The bias is fitted with classes weighted by their inverse frequency to the power of `balance`:
    0 keeps the classes as frequent as dev has them, 1 takes all for equally likely. Then bias and
    logits are scaled together, which moves no label, until confidence fits dev as it is.
    """
    classes = sample.logits.shape[1]
    rule = Scaling(1.0, (0.0,) * classes)
    if balance is not None:
        counts = np.bincount(sample.truth, sample.weight, classes)
        weights = sample.weight * np.maximum(counts, 1.0)[sample.truth] ** -balance
        weights *= sample.weight.sum() / weights.sum()
        rule = fit_scaling(sample.logits, sample.truth, rule, STRENGTH, weights)
    scores = sample.logits / rule.temperature + np.array(rule.bias)

    def cost(log_scale: float) -> float:
        p = Scaling(math.exp(log_scale), (0.0,) * classes).posterior(scores)
        true = np.maximum(p[np.arange(len(p)), sample.truth], np.finfo(np.float64).tiny)
        return float(-sample.weight @ np.log(true))

    scale = math.exp(golden_section(cost, -math.log(8), math.log(8), 1e-3))
    return Scaling(rule.temperature * scale, tuple(b / scale for b in rule.bias))


def choose_balance(sample: Sample, view: LabelView) -> tuple[float, dict[str, dict[str, float]]]:
    """The exponent of the best mean of accuracy, weighted F1 and UAR on halves of dev that the bias
    was not fitted to; and what each exponent gave."""
    tried = {}
    for balance in BALANCES:
        guesses = np.zeros(len(sample.truth), np.int64)
        for half in (0, 1):
            held = sample.dialogue % 2 == half
            rule = fit_rule(sample.part(~held), balance)
            guesses[held] = rule.posterior(sample.logits[held]).argmax(axis=1)
        tried[f"{balance:g}"] = view.scores(sample.truth, guesses)
    best = max(tried, key=lambda one: sum(tried[one].values()))
    return float(best), tried


def halving_confidence(posterior: Posterior, truth: NDArray[np.int64]) -> float:
    """The least confidence from which on half as many labels are wrong as of all."""
    curve = risk_coverage(posterior, truth)
    return float(curve.confidence[np.flatnonzero(curve.risk <= curve.risk[-1] / 2)].min(initial=1))


def calibrated(calibration: Calibration, logits: FloatArray, used: NDArray[np.str_]) -> Posterior:
    """logits [turn, class] and the modalities that each rests on, [turn] -> posterior."""
    posterior = np.zeros(logits.shape)
    for key in np.unique(used).tolist():
        rest = used == key
        modalities = [Modality(name) for name in key.split("+") if name]
        posterior[rest] = calibration.posterior(logits[rest], modalities)
    return posterior


def command(
    composed: Annotated[Path, typer.Option(help="from `compose`")] = Path("runs/composed"),
    acoustic: Annotated[Path, typer.Option(help="from `acoustic`")] = Path("runs/acoustic"),
    face: Annotated[Path, typer.Option(help="from `face`")] = Path("runs/face"),
    fusion: Annotated[Path, typer.Option(help="from `fuse`")] = Path("runs/fusion"),
    seed: Annotated[int, typer.Option(help="which of its models")] = 0,
) -> None:
    """Fit the calibration and decoder settings of one fusion model on the dev dialogues."""
    folder = fusion / f"seed-{seed}"
    fitted = load_fusion(folder)
    draws = sorted(int(file.stem.split("-")[1]) for file in folder.glob("dev-*.npz"))
    dialogues = [d for n in draws for d in read_composed(composed_file(composed, "dev", n))]
    dev = joined([load_windows(folder / f"dev-{n}.npz") for n in draws])
    looks = Modality.FACIAL in fitted.model.modalities
    faces = of_seed(face, seed) / FACES if looks else None
    samples = samples_of(fitted, dialogues, dev, acoustic, faces)
    p0 = estimate_p0(
        [(turn.speaker, turn.label) for turn in dialogue.turns]
        for dialogue in read_composed(composed_file(composed, "train", 0))
    )
    spoken = only(SPOKEN, dev, False)
    turns = np.arange(len(dev.labels))
    logits, used = logits_of(fitted.model, dev, turns, spoken), used_of(dev, turns, spoken)
    sets = {
        name: _fitted_set(view, samples, dialogues, dev.labels, logits, used, p0)
        for name, view in label_views(fitted.labels).items()
    }
    (folder / CALIBRATION).write_text(json.dumps({"sets": sets}, indent=2) + "\n")
    typer.echo(json.dumps(sets, indent=2))


def _fitted_set(
    view: LabelView,
    samples: Mapping[str, Sample],
    dialogues: Sequence[ComposedDialogue],
    labels: NDArray[np.int64],
    logits: FloatArray,
    used: NDArray[np.str_],
    p0: float,
) -> dict[str, Any]:
    """Everything of one label set. labels, logits, used: of all dev turns, without faces."""
    seen = {key: sample.viewed(view) for key, sample in samples.items()}
    balances = {
        key: choose_balance(sample, view)
        for key, sample in seen.items()
        if Modality.LEXICAL in key.split("+")
    }
    rules = {
        key: fit_rule(sample, balances[key][0] if key in balances else None)
        for key, sample in seen.items()
    }
    calibration = Calibration(
        {key: rule.temperature for key, rule in rules.items()},
        biases={key: rule.bias for key, rule in rules.items() if any(rule.bias)},
    )
    posterior, truth = calibrated(calibration, view.logits(logits), used), view.truth(labels)
    known = (truth != EMPTY) & (used != "")

    def score(reference: NDArray[np.int64], found: NDArray[np.int64]) -> float:
        scores = view.scores(reference, found)
        return (scores["uar"] + scores["accuracy"]) / 2

    decoder, gains = choose_decoder(dialogues, posterior, truth, p0, score)
    curve = risk_coverage(posterior[known], truth[known])
    return {
        "temperatures": calibration.temperatures,
        "biases": calibration.biases,
        "abstain_below": halving_confidence(posterior[known], truth[known]),
        "decoder": asdict(decoder),
        "dev": {
            "balance": {
                key: {"chosen": chosen, "held_out": tried}
                for key, (chosen, tried) in balances.items()
            },
            "ece": {
                key: {
                    "before": expected_calibration_error(softmax(s.logits, 1.0), s.truth),
                    "after": expected_calibration_error(rules[key].posterior(s.logits), s.truth),
                }
                for key, s in seen.items()
            },
            "risk": {f"{share:.0%}": curve.risk_at(share) for share in (0.5, 0.7, 0.9, 1.0)},
            "aurc": curve.aurc,
            "scores": view.scores(truth[known], posterior[known].argmax(axis=1)),
            "decoder": gains,
        },
    }
