"""`report`: what a bundle is worth on labelled clips, for each label set, by every group of them.

Writes report.json, report.html and card.md: the bundle's card with these figures in it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from emotrace_models.bundle import CARD, Bundle, bundle_path
from emotrace_models.predictor import Predictor
from emotrace_models.signal_quality import measure
from emotrace_models.types import SAMPLE_RATE, FloatArray, Prediction
from emotrace_training.card import FIGURES, with_section
from emotrace_training.clip_features import hear, predictions
from emotrace_training.labelled_clips import LabelledClip, class_of, read_labels
from emotrace_training.metrics import EmptyFold
from emotrace_training.posterior_figures import posterior_figures
from emotrace_training.report_groups import Known, Measured, groups
from emotrace_training.report_text import figures_section, write_report_page
from emotrace_training.telling import TrainingError, named_errors

CORPORA = ("emodb", "ravdess_speech", "nemo")
TABLE = "labels.csv"


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """Clips of all corpora that were heard, one a row, and what was left out."""

    labels: tuple[str, ...]
    known: tuple[Known, ...]
    predictions: tuple[Prediction, ...]
    corpora: Mapping[str, Mapping[str, Any]]


def hear_corpora(
    bundle: Bundle,
    tables: Mapping[str, Path],
    split: str | None,
    most: int | None,
    words: bool,
    seed: int,
) -> Heard:
    """Every corpus by itself, clips of test speakers where the table has splits. Raises
    LabelsUnreadable, BundleError."""
    predictor = Predictor(bundle)
    labels: list[str] = []
    known: list[Known] = []
    found: list[Prediction] = []
    corpora: dict[str, dict[str, Any]] = {}
    for corpus, table in tables.items():
        clips, taken = read_labels(table, split)
        inside = [i for i, clip in enumerate(clips) if class_of(clip.emotion, bundle.labels)]
        if most is not None and len(inside) > most:
            chosen = np.random.default_rng(seed).choice(len(inside), most, replace=False)
            inside = [inside[int(i)] for i in np.sort(chosen)]
        sounds: dict[int, Known] = {}

        def note(
            number: int,
            samples: FloatArray,
            clips: Sequence[LabelledClip] = clips,
            corpus: str = corpus,
            sounds: dict[int, Known] = sounds,
        ) -> None:
            sounds[number] = Known(
                corpus, clips[number].facts, len(samples) / SAMPLE_RATE, measure(samples).snr_db
            )

        heard = hear(predictor, clips, inside, table.parent, seed, words, note)
        labels += [clips[i].emotion for i in heard.clips]
        known += [sounds[i] for i in heard.clips]
        found += predictions(predictor, heard.features)
        outside = Counter(c.emotion for c in clips if class_of(c.emotion, bundle.labels) is None)
        corpora[corpus] = {
            "split": taken,
            "rows": len(clips),
            "used": len(heard.clips),
            "speakers": len({clips[i].speaker for i in heard.clips}),
            "outside_by_label": dict(sorted(outside.items())),
            "unreadable": len(heard.unreadable),
        }
    if not labels:
        raise EmptyFold("no clip is left: none has a label of the set and can be read")
    return Heard(tuple(labels), tuple(known), tuple(found), corpora)


def measured(bundle: Bundle, heard: Heard) -> tuple[dict[str, Any], dict[str, Measured]]:
    """Figures of every label set, ready for JSON, and what they rest on."""
    report: dict[str, Any] = {}
    kept: dict[str, Measured] = {}
    for scheme in bundle.schemes:
        view = bundle.projected(scheme)
        names = view.labels.names
        columns = [bundle.labels.index(name) for name in names]
        classes = [class_of(label, view.labels) for label in heard.labels]
        rows = np.flatnonzero([name is not None for name in classes])
        if not len(rows):
            continue
        truth = np.array([names.index(name) for name in classes if name is not None])
        posterior = np.stack(
            [
                view.calibration.posterior(one.logits[columns], one.used)
                for one in (heard.predictions[i] for i in rows)
            ]
        )
        limit = view.calibration.abstain_below
        by_group = {
            dimension: {
                bucket: posterior_figures(posterior[own], truth[own], names, limit)
                for bucket, own in buckets.items()
            }
            for dimension, buckets in groups([heard.known[i] for i in rows]).items()
        }
        corpora = by_group["corpus"].values()
        report[scheme] = {
            "classes": list(names),
            "all": posterior_figures(posterior, truth, names, limit),
            "mean_of_corpora": {
                metric: float(np.mean([one[metric] for one in corpora]))
                for metric in ("uar", "accuracy", "ece", "aurc", "risk", "risk_at_70")
            },
            "groups": by_group,
        }
        corpus = tuple(heard.known[i].corpus for i in rows)
        kept[scheme] = Measured(names, truth, posterior, corpus)
    return report, kept


def tables_of(named: Sequence[str], data: Path) -> dict[str, Path]:
    """`NAME=FILE` each, or the corpora of the shipped bundle as they lie in `data`."""
    if not named:
        found = {corpus: data / corpus / TABLE for corpus in CORPORA}
        there = {corpus: table for corpus, table in found.items() if table.is_file()}
        if not there:
            raise TrainingError(
                f"{data}: none of {', '.join(CORPORA)} with its {TABLE}; name your own with "
                "--labels NAME=FILE"
            )
        return there
    pairs = [text.partition("=") for text in named]
    if wrong := [name for name, equals, file in pairs if not (name and equals and file)]:
        raise typer.BadParameter(f"--labels {wrong[0]}: write NAME=FILE, as in mine=labels.csv")
    return {name: Path(file) for name, _, file in pairs}


def command(
    bundle: Annotated[str, typer.Option(help="name of a shipped bundle, or a folder")] = "default",
    labels: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FILE, a table of file, speaker, emotion beside its clips; gender, language, "
            "intensity where known; default: the speech corpora under --data"
        ),
    ] = None,
    data: Annotated[Path, typer.Option(help="folder of corpora")] = Path("../shared/data"),
    out: Annotated[Path, typer.Option("--out", "-o", help="where the report goes")] = Path(
        "runs/report"
    ),
    split: Annotated[
        str | None, typer.Option(help="as in `evaluate-clips`; default: test where there is one")
    ] = None,
    most: Annotated[int | None, typer.Option(min=1, help="clips of a corpus, at most")] = None,
    words: Annotated[
        bool, typer.Option("--words", help="use the column `text` too, not the sound alone")
    ] = False,
    dialogues: Annotated[
        Path | None, typer.Option(help="report.json of `evaluate-dialogues`, to be told beside it")
    ] = None,
    update_card: Annotated[
        bool, typer.Option("--update-card", help="put the figures into the bundle's own card")
    ] = False,
    seed: Annotated[int, typer.Option(help="of the clips chosen, and of their order")] = 0,
) -> None:
    """Measure a bundle by corpus, sex, language, length, noise and intensity; write its card."""
    with named_errors():
        folder = bundle_path(bundle)
        loaded = Bundle.load(folder)
        heard = hear_corpora(loaded, tables_of(labels or (), data), split, most, words, seed)
        found, kept = measured(loaded, heard)
        told = _dialogues(dialogues)
    report = {
        "bundle": loaded.name,
        "version": loaded.version,
        "licence": loaded.licence,
        "heard": "sound and words" if words else "sound alone",
        "corpora": heard.corpora,
        "label_sets": found,
        "dialogues": told,
    }
    card = with_section(loaded.card, FIGURES, figures_section(report))
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (out / CARD).write_text(card, encoding="utf-8")
    write_report_page(report, kept, card, out)
    if update_card:
        replace(loaded, card=card).save(folder)
    for scheme, one in found.items():
        mean, whole = one["mean_of_corpora"], one["all"]
        typer.echo(
            f"{scheme}: {whole['count']} clips, uar {whole['uar']:.3f} (mean of corpora "
            f"{mean['uar']:.3f}), ece {whole['ece']:.3f}, risk {whole['risk']:.3f}, at 70 % "
            f"coverage {whole['risk_at_70']:.3f}"
        )
    typer.echo(f"{out / 'report.html'}")


def _dialogues(file: Path | None) -> dict[str, Any] | None:
    if file is None:
        return None
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise TrainingError(f"{file}: is no report of `evaluate-dialogues`: {error}") from error
    return found
