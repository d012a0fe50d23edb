"""`fine-tune`: the last layer of a bundle fitted to a site's utterances, and to its own classes.

Encoders and all else of the fusion model stay. Folds of speakers are left out in turn: the next
fold decides when to stop, and the rest is fitted to, so that every logit is by a layer that never
met its speaker. By these logits the bundle is measured and calibrated. Its own layer is fitted to
everybody, for as many epochs as the folds took (their median).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from emotrace_models.bundle import Bundle, View, bundle_path
from emotrace_models.calibration import Calibration, modality_key
from emotrace_models.fusion import FusionModel
from emotrace_models.labels import SCHEMES, LabelSet
from emotrace_models.predictor import Predictor
from emotrace_models.types import FloatArray, Modality
from emotrace_training import site_options as options
from emotrace_training.card import with_section
from emotrace_training.head import (
    Examples,
    fit_head,
    head_of,
    read_by_head,
    turns_of,
    with_classes,
    with_head,
)
from emotrace_training.labelled_clips import LabelledClip
from emotrace_training.posterior_figures import Compared, posterior_figures
from emotrace_training.recalibrate import (
    measured_how,
    site_facts,
    site_name,
    tell_unreadable,
    write_report,
)
from emotrace_training.site_calibration import Recalibrated, Rows, recalibrated, scaling_of
from emotrace_training.site_data import Site, hear_site, meanings_of, read_site
from emotrace_training.site_page import figures_markdown
from emotrace_training.telling import TrainingError, named_errors
from emotrace_training.vector_scaling import FEWEST
from emotrace_training.windows import Windows

SECTION = "## Fine-tuned on site"
OWN = "own"  # the scheme of classes that the bundle did not have
KEEP = "bundle"  # of --classes: those that the bundle has
Sets = Mapping[tuple[Modality, ...], NDArray[np.int64]]


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """logits [row, class] of each set of modalities, of layers that never met the row's speaker;
    model: with a layer fitted to everybody. epochs: of each fold."""

    model: FusionModel
    logits: Mapping[tuple[Modality, ...], FloatArray]
    epochs: tuple[int, ...]


def tune(start: FusionModel, turns: Windows, folds: NDArray[np.int64], sets: Sets) -> Tuned:
    """start: the model with the classes that `turns` are labelled by. An utterance stands among the
    examples once with each set of modalities that it has, so that the layer learns to do without.
    """
    read = {
        modalities: read_by_head(start, turns, rows, _showing(start, turns, modalities))
        for modalities, rows in sets.items()
    }
    rows = np.concatenate(list(sets.values()))
    share = (1 / np.bincount(rows)[rows]).astype(np.float32)
    examples = Examples(torch.cat(list(read.values())), turns.labels[rows], share)
    head, names = head_of(start), np.unique(folds)
    logits = {
        modalities: np.zeros((len(own), len(head.bias)), np.float32)
        for modalities, own in sets.items()
    }
    epochs = []
    for number, fold in enumerate(names):
        watched = names[(number + 1) % len(names)]
        train = (folds[rows] != fold) & (folds[rows] != watched)
        fitted, best = fit_head(head, examples.of(train), examples.of(folds[rows] == watched))
        epochs.append(best)
        for modalities, own in sets.items():
            out = np.flatnonzero(folds[own] == fold)
            logits[modalities][out] = fitted.logits(read[modalities][torch.from_numpy(out)])
    most = max(1, round(float(np.median(epochs))))
    final, _ = fit_head(head, examples, None, most)
    return Tuned(with_head(start, final), logits, tuple(epochs))


def fine_tune(
    bundle: Bundle, site: Site, labels: LabelSet, name: str, version: str
) -> tuple[Bundle, dict[str, Any], list[Compared]]:
    """The bundle with a new last layer, the report, and what was compared for it.

    Raises TrainingError where the fusion model has no last layer that can be fitted.
    """
    predictor = Predictor(bundle)
    start = with_classes(bundle.fusion, bundle.labels.names, labels.names)
    truth = np.array([labels.index(label) for label in site.labels])
    turns = turns_of(start, site.features, truth)
    sets = site.sets(predictor)
    tuned = tune(start, turns, site.folds, sets)
    same = labels == bundle.labels

    def calibrated(own: LabelSet, was: Calibration) -> Recalibrated | None:
        columns = [labels.index(one) for one in own.names]
        rows = {
            modalities: Rows(
                tuned.logits[modalities][:, columns],
                tuple(site.labels[i] for i in chosen),
                site.folds[chosen],
            )
            for modalities, chosen in sets.items()
        }
        return recalibrated(own, was, rows)

    whole = calibrated(labels, bundle.calibration if same else Calibration())
    if whole is None:
        raise TrainingError(f"too few utterances of two classes or more: {site.counts}")
    views = {}
    for scheme, view in bundle.views.items():
        if set(SCHEMES[scheme].names) < set(labels.names):
            one = calibrated(SCHEMES[scheme], view.calibration if same else Calibration())
            if one is not None:
                views[scheme] = View(one.calibration, view.decoder)
    compared = _compared(predictor, site, whole, sets)
    majority = np.bincount(truth).max() / len(truth)
    report = {
        "bundle": bundle.name,
        "version": bundle.version,
        **site_facts(site),
        "classes": list(labels.names),
        "epochs": list(tuned.epochs),
        "majority": {"accuracy": float(majority), "uar": 1 / len(labels.names)},
        "views_dropped": [scheme for scheme in bundle.views if scheme not in views],
        "compared": [pair.report() for pair in compared],
    }
    alone = all((modality,) in sets for modality in predictor.modalities)
    made = replace(
        bundle,
        name=name,
        version=version,
        labels=labels,
        fusion=tuned.model,
        calibration=whole.calibration,
        views=views,
        # A layer for new classes has learnt nothing of modalities that no utterance had.
        requires=bundle.requires if same or alone else _heard_always(bundle),
        card=with_section(bundle.card, SECTION, _section(report, compared)),
    )
    return made, report, compared


def classes_of(
    clips: Sequence[LabelledClip], bundle: Bundle, wanted: str | None, table: Path
) -> tuple[LabelSet, list[LabelledClip]]:
    """The classes to fit, and the utterances that are of one of them.

    wanted: names with commas between, or `bundle`; None for those of the table. Raises
    TrainingError where there are fewer than two, or one has too few utterances.
    """
    if wanted == KEEP:
        labels = bundle.labels
    else:
        found = {clip.emotion for clip in clips}
        names = sorted(found if wanted is None else {n.strip() for n in wanted.split(",")})
        known = sorted(names) == sorted(bundle.labels.names)
        labels = bundle.labels if known else LabelSet(OWN, tuple(names))
    projected = [(clip, labels.project(clip.emotion)) for clip in clips]
    kept = [replace(clip, emotion=name) for clip, name in projected if name is not None]
    counts = {name: sum(clip.emotion == name for clip in kept) for name in labels.names}
    few = {name: count for name, count in counts.items() if count < FEWEST}
    if len(counts) < 2 or (few and wanted != KEEP):
        raise TrainingError(
            f"{table}: a class needs at least {FEWEST} utterances, and two classes are needed; it "
            f"has {', '.join(f'{name} {count}' for name, count in counts.items())}; leave classes "
            "out with --classes, or join them with --label"
        )
    return labels, kept


def command(
    labels: options.Table,
    root: options.Root,
    out: options.Out,
    bundle: options.Source = "default",
    classes: Annotated[
        str | None,
        typer.Option(help=f"with commas between, or `{KEEP}` for its own; default: the table's"),
    ] = None,
    split: options.Split = None,
    words: options.Words = False,
    label: options.Meanings = None,
    own: Annotated[
        list[str] | None, typer.Option(help="a class of yours that no table knows: cheerful")
    ] = None,
    name: options.Name = None,
    seed: options.Seed = 0,
) -> None:
    """Fit the last layer of a bundle to your own utterances, and to your own classes.

    Writes the bundle OUT, which emotrace-serve loads, and OUT/report/report.html: figures of
    speakers left out, beside the old bundle's on the classes that both know.
    """
    meanings = meanings_of(label or (), own or ())
    with named_errors():
        old = Bundle.load(bundle_path(bundle))
        clips = read_site(labels, split, meanings, own or ())
        chosen, kept = classes_of(clips, old, classes, labels)
        site = hear_site(Predictor(old), kept, root, seed, words)
        made, report, compared = fine_tune(
            old, site, chosen, name or site_name(old), f"{old.version}+site"
        )
        made.save(out)
        Bundle.load(out)  # what was written can be read
        remarks = [measured_how(report), _against_majority(report)]
        folder = write_report(f"{made.name}: fine-tuned on site", remarks, report, compared, out)
    tell_unreadable(site)
    for remark in remarks:
        typer.echo(remark)
    typer.echo(f"{out}: emotrace-serve --bundle {out}; report: {folder / 'report.html'}")


def _compared(predictor: Predictor, site: Site, whole: Recalibrated, sets: Sets) -> list[Compared]:
    """The tuned bundle's own classes, and beside the old bundle those that both know."""
    old, new = predictor.bundle, whole.labels
    shared = tuple(name for name in new.names if name in old.labels.names)
    found = []
    for one in whole.measured:
        key = modality_key(one.modalities)
        limit = whole.calibration.abstain_below
        after = posterior_figures(one.after, one.truth, new.names, limit)
        after["threshold"] = whole.answered(one)
        posteriors, figures = {"after": one.after}, {"after": after}
        if len(shared) > 1:
            scaling = scaling_of(old.calibration, one.modalities, len(old.labels.names))
            before = scaling.posterior(site.logits(predictor, sets[one.modalities], one.modalities))
            rows = np.flatnonzero([new.names[i] in shared for i in one.truth])
            truth = np.array([shared.index(new.names[i]) for i in one.truth[rows]])
            both = {
                "before": _chosen(before[rows], [old.labels.index(n) for n in shared]),
                "after": _chosen(one.after[rows], [new.index(n) for n in shared]),
            }
            limits = {"before": old.calibration.abstain_below, "after": limit}
            pair = Compared(
                f"{new.scheme}, classes of both",
                key,
                shared,
                truth,
                both,
                {w: posterior_figures(p, truth, shared, limits[w]) for w, p in both.items()},
            )
            if shared == new.names and set(shared) == set(old.labels.names):
                posteriors = {"before": both["before"], **posteriors}
                figures = {"before": dict(pair.figures["before"]), **figures}
            else:
                found.append(pair)
        found.append(Compared(new.scheme, key, new.names, one.truth, posteriors, figures))
    return found


def _chosen(posterior: NDArray[np.float64], columns: Sequence[int]) -> NDArray[np.float64]:
    """The posterior given that one of these classes is true."""
    part = np.maximum(posterior[:, list(columns)], np.finfo(np.float64).tiny)
    return np.asarray(part / part.sum(axis=1, keepdims=True))


def _showing(
    model: FusionModel, turns: Windows, modalities: Sequence[Modality]
) -> NDArray[np.bool_]:
    """[1, entry, stream]: these modalities alone."""
    row = [spec.modality in modalities for spec in model.streams.values()]
    return np.broadcast_to(np.array(row), (1, turns.entries.shape[1], len(row)))


def _heard_always(bundle: Bundle) -> tuple[Modality, ...]:
    return tuple(dict.fromkeys((*bundle.requires, Modality.ACOUSTIC)))


def _against_majority(report: Mapping[str, Any]) -> str:
    least = report["majority"]
    return (
        f"Saying the most frequent class every time: accuracy {least['accuracy']:.3f}, "
        f"uar {least['uar']:.3f}."
    )


def _section(report: Mapping[str, Any], compared: Sequence[Compared]) -> str:
    counts = ", ".join(f"{name} {count}" for name, count in report["utterances"].items())
    return (
        "`emotrace-train fine-tune`: the last layer of the fusion model was fitted to "
        f"{sum(report['utterances'].values())} labelled utterances of {report['speakers']} "
        f"speakers of one site ({counts}), each without context. All else is that of "
        f"`{report['bundle']}`, version {report['version']}, whose figures in this card are its "
        f"own. Classes now: {', '.join(report['classes'])}. {measured_how(report)} "
        f"{_against_majority(report)}\n\n{figures_markdown(compared)}"
    )
