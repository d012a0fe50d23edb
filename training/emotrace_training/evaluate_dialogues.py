"""`evaluate-dialogues`: a bundle on composed test dialogues: ablation, calibration, faithfulness.

Every utterance goes through the Predictor in the order of its dialogue, as it would live: that is
the row `gated + decoder`. The rows with less come from the same vectors with some of them hidden.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from tqdm import tqdm

from emotrace_models.bundle import Bundle, BundleError, bundle_path
from emotrace_models.calibration import Calibration
from emotrace_models.predictor import Predictor
from emotrace_models.types import FloatArray, Modality, Transcript, Utterance
from emotrace_training.compose import ComposedDialogue, composed_file, read_composed
from emotrace_training.faithfulness import faithfulness
from emotrace_training.fusion_fitting import logits_of, only
from emotrace_training.labelled_clips import read_sound
from emotrace_training.metrics import accuracy, confusion, f1_weighted, reliability, uar
from emotrace_training.plots import reliability_plot
from emotrace_training.windows import EMPTY, HeardTurn, Windows, windows

BATCH = 32  # dialogues that go through the predictor side by side
GATED, DECODED = "gated", "gated + decoder"
METRICS = {"uar": uar, "accuracy": accuracy, "f1_weighted": f1_weighted}


@dataclass(frozen=True, slots=True, eq=False)
class Passed:
    """What the Predictor made of dialogues, turn by turn in order.

    posterior [turn, class] before the decoder; decoder [turn]: its labels, read `lag` turns later.
    """

    part: Windows
    logits: FloatArray
    posterior: NDArray[np.float64]
    decoder: NDArray[np.int64]


def utterance(index: int, text: str, speaker: str, clip: str | None) -> Utterance:
    """A composed turn as the service would hand it to the Predictor."""
    samples = None if clip is None else read_sound(Path(clip))
    length = 0 if samples is None else len(samples)
    return Utterance(index, speaker, 0, length, samples, Transcript(text, "client"))


def pass_through(predictor: Predictor, dialogues: Sequence[ComposedDialogue]) -> Passed:
    """All dialogues through the Predictor, several side by side, which changes nothing."""
    labels, lag = predictor.bundle.labels, predictor.bundle.decoder.lag
    heard: list[list[HeardTurn]] = [[] for _ in dialogues]
    logits: list[list[FloatArray]] = [[] for _ in dialogues]
    posteriors: list[list[NDArray[np.float64]]] = [[] for _ in dialogues]
    decoder: list[list[int]] = [[] for _ in dialogues]
    with tqdm(total=sum(len(d.turns) for d in dialogues), unit="turn", leave=False) as bar:
        for start in range(0, len(dialogues), BATCH):
            group = range(start, min(start + BATCH, len(dialogues)))
            states = {i: predictor.start() for i in group}
            for number in range(max(len(dialogues[i].turns) for i in group)):
                at = [i for i in group if number < len(dialogues[i].turns)]
                turns = [dialogues[i].turns[number] for i in at]
                items = [
                    (states[i], utterance(number, turn.text, turn.speaker, turn.clip))
                    for i, turn in zip(at, turns, strict=True)
                ]
                encoded = predictor.encode(items)
                results = predictor.decode(predictor.fuse(encoded))
                for i, turn, found, (state, outcome) in zip(
                    at, turns, encoded, results, strict=True
                ):
                    states[i] = state
                    name = labels.project(turn.label)
                    label = EMPTY if name is None else labels.index(name)
                    heard[i].append(HeardTurn(turn.speaker, found.features.streams, label))
                    logits[i].append(outcome.prediction.logits)
                    posteriors[i].append(outcome.prediction.posterior)
                    decoder[i].append(outcome.decision.label)
                    for revision in outcome.revisions:
                        if lag is None or number - revision.turn <= lag:
                            decoder[i][revision.turn] = revision.new
                bar.update(len(at))
    fusion = predictor.bundle.fusion
    widths = {name: spec.width for name, spec in fusion.streams.items()}
    return Passed(
        windows(heard, widths, fusion.start_window()),
        np.array([row for rows in logits for row in rows]),
        np.array([row for rows in posteriors for row in rows]),
        np.array([label for rows in decoder for label in rows]),
    )


def command(
    composed: Annotated[Path, typer.Option(help="from `compose`")] = Path("runs/composed"),
    bundle: Annotated[
        list[str] | None,
        typer.Option(help="one, or one a seed (models of several seeds); default: `default`"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="test sets of `compose`")] = 3,
    out: Annotated[Path, typer.Option(help="report.json and reliability.png go here")] = Path(
        "runs/evaluation"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Score bundles on composed test dialogues: ablation rows, calibration, faithfulness."""
    names = bundle or ["default"]
    if len(names) not in (1, seeds):
        raise typer.BadParameter(f"give one --bundle or {seeds}, one a seed, not {len(names)}")
    out.mkdir(parents=True, exist_ok=True)
    try:
        loaded = {name: Bundle.load(bundle_path(name)) for name in dict.fromkeys(names)}
    except BundleError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    runs: list[dict[str, Any]] = []
    before, after, truths = [], [], []
    for seed in range(seeds):
        predictor = Predictor(loaded[names[seed % len(names)]])
        dialogues = read_composed(composed_file(composed, "test", seed))
        passed = pass_through(predictor, dialogues)
        turns = passed.part.targets()
        truths.append(passed.part.labels[turns])
        raw = Calibration()
        before.append(np.stack([raw.posterior(row, ()) for row in passed.logits[turns]]))
        after.append(passed.posterior[turns])
        runs.append(
            {
                "seed": seed,
                "bundle": predictor.bundle.name,
                "rows": rows(predictor, passed),
                "calibration": {
                    "before": reliability(before[-1], truths[-1]).expected_calibration_error,
                    "after": reliability(after[-1], truths[-1]).expected_calibration_error,
                },
                "faithfulness": faithfulness(predictor.bundle, passed.part, turns, seed),
            }
        )
    truth = np.concatenate(truths)
    curves = {
        "before": reliability(np.concatenate(before), truth),
        "after": reliability(np.concatenate(after), truth),
    }
    reliability_plot(curves, "composed test dialogues", out / "reliability.png")
    report: dict[str, Any] = {
        "turns": len(truths[0]),
        "mean": _over_seeds(runs, np.mean),
        "sd": _over_seeds(runs, np.std),
        "calibration": _mean([run["calibration"] for run in runs]),
        "faithfulness": _mean([run["faithfulness"] for run in runs]),
        "seeds": runs,
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    for row, scores in report["mean"].items():
        listed = ", ".join(
            f"{name} {value:.4f} ± {report['sd'][row][name]:.4f}" for name, value in scores.items()
        )
        typer.echo(f"{row:16} {listed}")
    for name in ("calibration", "faithfulness"):
        typer.echo(f"{name}: {report[name]}")


def rows(predictor: Predictor, passed: Passed) -> dict[str, dict[str, float]]:
    """The ablation: scores of each row over the turns that have a class."""
    part, turns = passed.part, passed.part.targets()
    truth, names = part.labels[turns], predictor.labels
    predicted: dict[str, NDArray[np.int64]] = {}
    for title, modality in (("audio only", Modality.ACOUSTIC), ("text only", Modality.LEXICAL)):
        keep = only(modality, part, alone=False)
        predicted[title] = logits_of(predictor.bundle.fusion, part, turns, keep).argmax(axis=1)
    predicted[GATED] = passed.posterior[turns].argmax(axis=1)
    predicted[DECODED] = passed.decoder[turns]
    matrices = {title: confusion(truth, found, len(names)) for title, found in predicted.items()}
    return {
        title: {name: metric(matrix) for name, metric in METRICS.items()}
        for title, matrix in matrices.items()
    }


def _over_seeds(runs: Sequence[Mapping[str, Any]], reduce: Any) -> dict[str, dict[str, float]]:
    return {
        row: {name: float(reduce([run["rows"][row][name] for run in runs])) for name in METRICS}
        for row in runs[0]["rows"]
    }


def _mean(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([value[name] for value in values])) for name in values[0]}
