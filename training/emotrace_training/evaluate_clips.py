"""`evaluate-clips`: a bundle on a folder of labelled clips, each on its own, by the Predictor."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from emotrace_models.bundle import Bundle, bundle_path
from emotrace_models.labels import SCHEMES, LabelSet, LabelSetMismatch
from emotrace_models.predictor import Predictor
from emotrace_training.clip_features import hear, predictions
from emotrace_training.labelled_clips import LabelledClip, class_of, read_labels
from emotrace_training.metrics import (
    EmptyFold,
    accuracy,
    confusion,
    expected_calibration_error,
    f1_weighted,
    recalls,
    uar,
)
from emotrace_training.telling import named_errors


def evaluate(
    predictor: Predictor,
    clips: Sequence[LabelledClip],
    root: Path,
    scheme: LabelSet,
    seed: int,
    words: bool = False,
) -> dict[str, Any]:
    """Scores of `clips` by name, ready for JSON.

    Raises LabelSetMismatch where a class of the bundle is none of the scheme's, EmptyFold where no
    clip is left.
    """
    classes = _classes(predictor, scheme)
    named = {i: class_of(clip.emotion, scheme) for i, clip in enumerate(clips)}
    truth = {i: scheme.index(name) for i, name in named.items() if name is not None}
    dropped = Counter(clips[i].emotion for i, name in named.items() if name is None)
    heard = hear(predictor, clips, list(truth), root, seed, words)
    if not heard.clips:
        raise EmptyFold("no clip is left: none has a label of the set and can be read")
    labels = np.array([truth[i] for i in heard.clips])
    posterior = np.zeros((len(labels), len(scheme.names)))
    found = predictions(predictor, heard.features)
    np.add.at(posterior.T, classes, np.stack([one.posterior for one in found]).T)
    matrix = confusion(labels, posterior.argmax(axis=1), len(scheme.names))
    counts = matrix.sum(axis=1)
    return {
        "scheme": scheme.scheme,
        "classes": list(scheme.names),
        "uar": uar(matrix),
        "accuracy": accuracy(matrix),
        "f1_weighted": f1_weighted(matrix),
        "ece": expected_calibration_error(posterior, labels),
        "recall": {
            name: float(share)
            for name, share, count in zip(scheme.names, recalls(matrix), counts, strict=True)
            if count
        },
        "confusion": matrix.tolist(),
        "counts": {
            "rows": len(clips),
            "used": len(labels),
            "dropped_by_label": dict(sorted(dropped.items())),
            "unreadable": len(heard.unreadable),
        },
        "unreadable": dict(sorted(heard.unreadable.items())),
    }


def command(
    labels: Annotated[
        Path, typer.Option(help="table (.csv, .tsv, .jsonl) of file, speaker, emotion")
    ],
    root: Annotated[Path, typer.Option(help="folder that the column `file` starts from")],
    bundle: Annotated[str, typer.Option(help="name of a shipped bundle, or a folder")] = "default",
    scheme: Annotated[
        str | None,
        typer.Option(help=f"a label set: {', '.join(SCHEMES)}; default: the bundle's own"),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="rows of this split only, `all` for every row; "
            "default: test where the CSV has such rows, else every row"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="of the order of each speaker's clips")] = 0,
    words: Annotated[
        bool, typer.Option("--words", help="use the column `text` too, not the sound alone")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Score a bundle on any folder of labelled clips, each clip on its own.

    Emotion names are mapped by emotrace_models.labels.ALIASES (happy, joy, calm, surprised ...).
    Rows whose emotion is outside the set are dropped and counted, as is audio that cannot be read.
    A label set that the bundle can be asked for (its views) is measured as a session gets it.
    """
    if scheme is not None and scheme not in SCHEMES:
        raise typer.BadParameter(f"no scheme {scheme!r}; there are {', '.join(SCHEMES)}")
    with named_errors():
        own = Bundle.load(bundle_path(bundle))
        predictor = Predictor(own.projected(scheme) if scheme in own.schemes else own)
        clips, taken = read_labels(labels, split)
        chosen = SCHEMES[scheme] if scheme else own.labels
        result = evaluate(predictor, clips, root, chosen, seed, words)
    report = {
        "bundle": predictor.bundle.name,
        "version": predictor.bundle.version,
        "labels": str(labels),
        "split": taken,
        "seed": seed,
        **result,
    }
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    typer.echo(f"{taken}: {report['counts']['used']} of {report['counts']['rows']} clips used")
    for name in ("uar", "accuracy", "f1_weighted", "ece"):
        typer.echo(f"{name:12} {report[name]:.4f}")
    for name, row in zip(report["classes"], report["confusion"], strict=True):
        typer.echo(f"{name:12} {row}")


def _classes(predictor: Predictor, scheme: LabelSet) -> list[int]:
    """The class of the scheme that each class of the bundle counts as."""
    found = [scheme.project(name) for name in predictor.labels]
    if None in found:
        missing = [name for name, to in zip(predictor.labels, found, strict=True) if to is None]
        raise LabelSetMismatch(f"{scheme.scheme} has no class for {', '.join(missing)}")
    return [scheme.index(name) for name in found if name is not None]
