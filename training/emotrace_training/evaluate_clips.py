"""`evaluate-clips`: a bundle on a folder of labelled clips, each on its own, by the Predictor.

No clip is context of another, as in a session of one utterance. What an encoder keeps of a speaker
is carried from clip to clip of that speaker, which come in a seeded random order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from tqdm import tqdm

from emotrace_models.bundle import Bundle, BundleError, bundle_path
from emotrace_models.labels import SCHEMES, LabelSet, LabelSetMismatch, UnknownLabel, canonical
from emotrace_models.predictor import DialogueState, NothingToHear, Predictor
from emotrace_models.types import Utterance
from emotrace_training.labelled_clips import (
    LabelledClip,
    LabelsUnreadable,
    read_labels,
    read_sound,
)
from emotrace_training.metrics import (
    EmptyFold,
    accuracy,
    confusion,
    expected_calibration_error,
    f1_weighted,
    recalls,
    uar,
)


def evaluate(
    predictor: Predictor,
    clips: Sequence[LabelledClip],
    root: Path,
    scheme: LabelSet,
    seed: int,
) -> dict[str, Any]:
    """Scores of `clips` by name, ready for JSON.

    Raises LabelSetMismatch where a class of the bundle is none of the scheme's, EmptyFold where no
    clip is left.
    """
    classes = _classes(predictor, scheme)
    dropped: Counter[str] = Counter()
    truth: dict[int, int] = {}
    for i, clip in enumerate(clips):
        name = _projected(clip.emotion, scheme)
        if name is None:
            dropped[clip.emotion] += 1
        else:
            truth[i] = scheme.index(name)
    unreadable: dict[str, str] = {}
    used: list[int] = []
    posteriors: list[np.ndarray] = []
    order = [int(i) for i in np.random.default_rng(seed).permutation(list(truth))]
    with tqdm(total=len(order), unit="clip", leave=False) as bar:
        for wave in _waves(order, clips):
            for i, posterior in _heard(predictor, wave, clips, root, unreadable):
                spread = np.zeros(len(scheme.names))
                np.add.at(spread, classes, posterior)
                used.append(i)
                posteriors.append(spread)
            bar.update(len(wave.turns))
    if not used:
        raise EmptyFold("no clip is left: none has a label of the set and can be read")
    labels = np.array([truth[i] for i in used])
    posterior = np.stack(posteriors)
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
            "used": len(used),
            "dropped_by_label": dict(sorted(dropped.items())),
            "unreadable": len(unreadable),
        },
        "unreadable": dict(sorted(unreadable.items())),
    }


def command(
    labels: Annotated[Path, typer.Option(help="CSV with the columns file, speaker, emotion")],
    root: Annotated[Path, typer.Option(help="folder that the column `file` starts from")],
    bundle: Annotated[str, typer.Option(help="name of a shipped bundle, or a folder")] = "default",
    scheme: Annotated[
        str | None, typer.Option(help=f"{', '.join(SCHEMES)}; default: the bundle's own")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="rows of this split only, `all` for every row; "
            "default: test where the CSV has such rows, else every row"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="of the order of each speaker's clips")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Score a bundle on any folder of labelled clips, by sound alone, each clip on its own.

    Emotion names are mapped by emotrace_models.labels.ALIASES (happy, joy, calm, surprised ...).
    Rows whose emotion is outside the set are dropped and counted, as is audio that cannot be read.
    """
    if scheme is not None and scheme not in SCHEMES:
        raise typer.BadParameter(f"no scheme {scheme!r}; there are {', '.join(SCHEMES)}")
    try:
        predictor = Predictor(Bundle.load(bundle_path(bundle)))
        clips, taken = read_labels(labels, split)
        chosen = SCHEMES[scheme] if scheme else predictor.bundle.labels
        result = evaluate(predictor, clips, root, chosen, seed)
    except (BundleError, LabelsUnreadable, LabelSetMismatch, EmptyFold) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
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


@dataclass(frozen=True, slots=True)
class _Wave:
    """Clips of different speakers, so that they can be heard at once."""

    turns: tuple[int, ...]
    states: dict[str, DialogueState]


def _waves(order: Sequence[int], clips: Sequence[LabelledClip], size: int = 16) -> Iterator[_Wave]:
    """Batches of at most `size` clips with one a speaker, each speaker's in the given order."""
    waiting: dict[str, list[int]] = {}
    for i in reversed(order):
        waiting.setdefault(clips[i].speaker, []).append(i)
    states: dict[str, DialogueState] = {}
    while waiting:
        speakers = list(waiting)[:size]
        yield _Wave(tuple(waiting[s].pop() for s in speakers), states)
        waiting = {s: left for s, left in waiting.items() if left}


def _heard(
    predictor: Predictor,
    wave: _Wave,
    clips: Sequence[LabelledClip],
    root: Path,
    unreadable: dict[str, str],
) -> Iterator[tuple[int, np.ndarray]]:
    """The posterior of each clip of a wave that can be heard."""
    items: list[tuple[DialogueState, Utterance]] = []
    turns: list[int] = []
    for i in wave.turns:
        clip = clips[i]
        try:
            samples = read_sound(root / clip.file)
        except ValueError as error:
            unreadable[clip.file] = str(error)
            continue
        state = wave.states.get(clip.speaker) or predictor.start()
        items.append((state, Utterance(i, clip.speaker, 0, len(samples), samples)))
        turns.append(i)
    if not items:
        return
    try:
        results = predictor.predict(items)
    except NothingToHear as error:
        raise BundleError(f"the bundle cannot hear: {error}") from error
    for i, (state, outcome) in zip(turns, results, strict=True):
        # The speaker's statistics go on; context and decoder start anew.
        wave.states[clips[i].speaker] = replace(predictor.start(), speakers=state.speakers)
        yield i, outcome.prediction.posterior


def _classes(predictor: Predictor, scheme: LabelSet) -> list[int]:
    """The class of the scheme that each class of the bundle counts as."""
    found = [scheme.project(name) for name in predictor.labels]
    if None in found:
        missing = [name for name, to in zip(predictor.labels, found, strict=True) if to is None]
        raise LabelSetMismatch(f"{scheme.scheme} has no class for {', '.join(missing)}")
    return [scheme.index(name) for name in found if name is not None]


def _projected(emotion: str, scheme: LabelSet) -> str | None:
    try:
        return scheme.project(canonical(emotion))
    except UnknownLabel:
        return None
