"""`evaluate-dialogues`: a bundle on composed test dialogues: ablation, calibration, faithfulness.

Every utterance goes through the Predictor in the order of its dialogue, as it would live: that is
the row `all + decoder`. The rows with less come from the same vectors with some of them hidden.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from emotrace_models.bundle import Bundle, BundleError, bundle_path
from emotrace_models.calibration import Calibration
from emotrace_models.predictor import Predictor
from emotrace_models.types import Modality
from emotrace_training.calibrate import calibrated
from emotrace_training.compose import composed_file, read_composed
from emotrace_training.decoder_fitting import decoded
from emotrace_training.evaluated_dialogues import (
    Passed,
    noticed,
    pass_through,
    with_known_faces,
)
from emotrace_training.faithfulness import faithfulness
from emotrace_training.fusion import subsets
from emotrace_training.fusion_fitting import logits_of, only, used_of
from emotrace_training.fusion_windows import FACES, of_seed
from emotrace_training.label_views import METRICS, LabelView
from emotrace_training.metrics import reliability, risk_coverage
from emotrace_training.plots import reliability_plot, risk_coverage_plot

NAMES = {Modality.ACOUSTIC: "audio", Modality.LEXICAL: "text", Modality.FACIAL: "face"}
SHARES = (0.5, 0.7, 0.9, 1.0)


def command(
    composed: Annotated[Path, typer.Option(help="from `compose`")] = Path("runs/composed"),
    bundle: Annotated[
        list[str] | None,
        typer.Option(help="one, or one a seed (models of several seeds); default: `default`"),
    ] = None,
    face: Annotated[Path, typer.Option(help="from `face`: vectors of the faces")] = Path(
        "runs/face"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="test sets of `compose`")] = 3,
    out: Annotated[Path, typer.Option(help="report.json and plots go here")] = Path(
        "runs/evaluation"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Score bundles on composed test dialogues, by label set: ablation, calibration, abstention."""
    names = bundle or ["default"]
    if len(names) not in (1, seeds):
        raise typer.BadParameter(f"give one --bundle or {seeds}, one a seed, not {len(names)}")
    out.mkdir(parents=True, exist_ok=True)
    try:
        loaded = {name: Bundle.load(bundle_path(name)) for name in dict.fromkeys(names)}
    except BundleError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    runs: dict[str, list[dict[str, Any]]] = {}
    kept: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]]] = {}
    for seed in range(seeds):
        number = seed % len(names)
        one = loaded[names[number]]
        if Modality.FACIAL in one.fusion.modalities:
            one = with_known_faces(one, of_seed(face, number) / FACES)
        dialogues = noticed(one, read_composed(composed_file(composed, "test", seed)))
        passed = pass_through(Predictor(one), dialogues)
        for scheme in one.schemes:
            view = one.projected(scheme)
            found = viewed(passed, one, view)
            truth = LabelView(one.labels, view.labels).truth(found.part.labels)
            turns = np.flatnonzero(truth >= 0)
            raw = Calibration().posterior(found.logits[turns], ())
            kept.setdefault(scheme, []).append((raw, found.posterior[turns], truth[turns]))
            curve = risk_coverage(found.posterior[turns], truth[turns])
            runs.setdefault(scheme, []).append(
                {
                    "seed": seed,
                    "bundle": one.name,
                    "turns": len(turns),
                    "rows": rows(view, found, truth),
                    "calibration": {
                        "before": reliability(raw, truth[turns]).expected_calibration_error,
                        "after": _error(found.posterior[turns], truth[turns]),
                    },
                    "risk": {f"{share:.0%}": curve.risk_at(share) for share in SHARES},
                    "aurc": curve.aurc,
                    "abstention": abstention(view, found.posterior[turns], truth[turns]),
                    "faithfulness": faithfulness(view, found.part, turns, seed),
                }
            )
    report: dict[str, Any] = {"sets": {s: _summed(runs[s]) for s in runs}}
    for scheme, parts in kept.items():
        _plots(scheme, parts, out)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    typer.echo(json.dumps(report, indent=2) if as_json else _told(report))


def viewed(passed: Passed, own: Bundle, view: Bundle) -> Passed:
    """What a Predictor of the view makes of the same dialogues; the features are the same."""
    if view is own:
        return passed
    logits = LabelView(own.labels, view.labels).logits(passed.logits)
    used = used_of(passed.part, np.arange(len(logits)))
    posterior = calibrated(view.calibration, logits, used)
    decoder = decoded(passed.dialogues, posterior, view.decoder)
    return Passed(passed.dialogues, passed.part, logits, posterior, decoder)


def rows(bundle: Bundle, passed: Passed, truth: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """The ablation: for every set of modalities the scores over the turns that have any of it.

    truth [turn]: classes of the bundle, under 0 outside them. ece: of the calibrated confidence.
    """
    part, turns = passed.part, np.flatnonzero(truth >= 0)
    view = LabelView(bundle.labels, bundle.labels)
    found: dict[str, dict[str, float]] = {}

    def score(title: str, keep: NDArray[np.bool_]) -> None:
        used = used_of(part, turns, keep)
        seen, used = turns[used != ""], used[used != ""]
        if not len(seen):
            return
        posterior = calibrated(bundle.calibration, logits_of(bundle.fusion, part, seen, keep), used)
        found[title] = {
            **view.scores(truth[seen], posterior.argmax(axis=1)),
            "ece": _error(posterior, truth[seen]),
            "turns": len(seen),
        }

    chosen = subsets(bundle.fusion.modalities)
    for modalities in chosen:
        score(title_of(modalities), only(modalities, part, alone=False))
    spoken = tuple(m for m in bundle.fusion.modalities if m != Modality.FACIAL)
    for modalities in dict.fromkeys((spoken, chosen[-1])):
        title = title_of(modalities)
        keep = only(modalities, part, alone=False)
        score(f"{title}, no context", only(modalities, part, alone=True))
        every = np.arange(len(truth))
        posterior = calibrated(
            bundle.calibration,
            logits_of(bundle.fusion, part, every, keep),
            used_of(part, every, keep),
        )
        labels = decoded(passed.dialogues, posterior, bundle.decoder)
        found[f"{title} + decoder"] = {
            **view.scores(truth[turns], labels[turns]),
            "turns": len(turns),
        }
    return found


def title_of(modalities: Sequence[Modality]) -> str:
    """The row of a set of modalities: `audio + text`."""
    return " + ".join(NAMES[modality] for modality in modalities)


def abstention(
    bundle: Bundle, posterior: NDArray[np.float64], truth: NDArray[np.int64]
) -> dict[str, float]:
    """What the bundle's threshold does: share answered, and errors among those and among all."""
    answered = posterior.max(axis=1) >= bundle.calibration.abstain_below
    wrong = posterior.argmax(axis=1) != truth
    return {
        "threshold": bundle.calibration.abstain_below,
        "coverage": float(answered.mean()),
        "risk": float(wrong[answered].mean()) if answered.any() else 0.0,
        "risk of all": float(wrong.mean()),
    }


def _error(posterior: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    return reliability(posterior, truth).expected_calibration_error


def _plots(
    scheme: str,
    parts: Sequence[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]],
    out: Path,
) -> None:
    """reliability-SCHEME.png and risk-coverage-SCHEME.png over all seeds."""
    before, after, truth = (np.concatenate(column) for column in zip(*parts, strict=True))
    title = f"composed test dialogues, {before.shape[1]} classes"
    curves = {"before": reliability(before, truth), "after": reliability(after, truth)}
    reliability_plot(curves, title, out / f"reliability-{scheme}.png")
    curve = {"all modalities": risk_coverage(after, truth)}
    risk_coverage_plot(curve, title, out / f"risk-coverage-{scheme}.png")


def _summed(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the seeds, deviations of the rows, and each seed's own figures."""
    tables = [run["rows"] for run in runs]
    return {
        "turns": runs[0]["turns"],
        "mean": _by_row(tables, np.mean),
        "sd": _by_row(tables, np.std),
        **{
            name: _mean([run[name] for run in runs])
            for name in ("calibration", "risk", "abstention", "faithfulness")
        },
        "aurc": float(np.mean([run["aurc"] for run in runs])),
        "seeds": list(runs),
    }


def _by_row(tables: Sequence[Mapping[str, Any]], reduce: Any) -> dict[str, dict[str, float]]:
    return {
        row: {name: float(reduce([table[row][name] for table in tables])) for name in scores}
        for row, scores in tables[0].items()
    }


def _mean(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([value[name] for value in values])) for name in values[0]}


def _told(report: Mapping[str, Any]) -> str:
    lines = []
    for scheme, found in report["sets"].items():
        lines.append(f"{scheme}: {found['turns']} turns, {len(found['seeds'])} seeds")
        for row, scores in found["mean"].items():
            listed = ", ".join(
                f"{name} {scores[name]:.4f} ± {found['sd'][row][name]:.4f}" for name in METRICS
            )
            lines.append(f"  {row:34} {listed}")
        lines += [
            f"  {name}: {found[name]}"
            for name in ("calibration", "risk", "aurc", "abstention", "faithfulness")
        ]
    return "\n".join(lines)
