"""`export`: a trained model of a run -> a bundle that emotrace-serve loads.

The temperatures are those that suit the validation part, one for each set of modalities that the
model was trained to do with. The decoder has the recipe's settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import typer
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from emotrace_models.bundle import Bundle, bundle_path
from emotrace_models.calibration import Calibration, modality_key
from emotrace_models.decoding import DecoderConfig
from emotrace_models.drift import LEAST
from emotrace_models.encoders import Encoder
from emotrace_models.types import Modality
from emotrace_training.calibrate import fit_temperature
from emotrace_training.checkpoints import CheckpointMismatch
from emotrace_training.dataset import Dataset, load_dataset
from emotrace_training.extract import CACHE
from emotrace_training.fast_form import (
    recorded_drift,
    tested_dialogues,
    with_drift,
    with_graphs,
)
from emotrace_training.fitting import predict
from emotrace_training.learner import Learner, build_fusion
from emotrace_training.one_model import tuned_encoders
from emotrace_training.preparing import Prepared, Preparer, usable
from emotrace_training.recipe import Recipe
from emotrace_training.run_card import write_run_card
from emotrace_training.run_folder import WEIGHTS, RunUnusable, Trained, Variant, read_run
from emotrace_training.scoring import score
from emotrace_training.splits import Fold
from emotrace_training.tables import Table
from emotrace_training.telling import named_errors

UNKNOWN_LICENCE = "LicenseRef-unknown"
FEWEST = 10  # validation turns that a temperature is fitted to


class NotServable(RunUnusable):
    """A model whose input the service cannot make."""


def build_bundle(
    variant: Variant,
    trained: Trained,
    manifest: Path,
    cache: Path,
    name: str,
    version: str,
    accelerator: Accelerator,
) -> Bundle:
    """The bundle of one trained model. Raises RunUnusable and its kinds, CheckpointMismatch."""
    recipe = variant.recipe
    dataset = load_dataset(recipe, manifest)
    fold = next((fold for fold in dataset.folds if fold.name == trained.fold), None)
    if fold is None:
        raise RunUnusable(f"{manifest}: gives no fold {trained.fold}; use the manifest of the run")
    prepared = Preparer(recipe, dataset, cache).prepare(fold)
    if recipe.training.loss == "binary":
        raise NotServable(
            f"{variant.folder}: trained with loss binary, so its classes do not exclude one "
            "another, as the service's do; train with cross_entropy"
        )
    if files := [stream for stream, encoder in prepared.encoders.items() if encoder is None]:
        raise NotServable(
            f"{variant.folder}: stream {', '.join(files)} comes from a file of vectors, which the "
            "service cannot make; train with an encoder"
        )
    tuned = tuned_encoders(recipe, dataset, fold, trained.seed)
    encoders = {**cast(Mapping[str, Encoder], prepared.encoders), **tuned}
    learner = Learner(build_fusion(recipe), tuned)
    _load(learner, trained.folder / WEIGHTS)
    required = requires(recipe, learner.fusion.stream_modalities)
    files_of: dict[str, bytes] = {}
    for encoder in encoders.values():
        if clash := sorted(
            n for n, data in encoder.asset_files.items() if files_of.get(n, data) != data
        ):
            raise NotServable(f"{variant.folder}: two encoders have their own {', '.join(clash)}")
        files_of.update(encoder.asset_files)
    sources = licences_of(recipe, dataset)
    licence = " AND ".join(sorted({part for own in sources.values() for part in own}))
    report = score(variant).report
    card = write_run_card(name, version, licence, variant, trained, report, required)
    return Bundle(
        name=name,
        version=version,
        licence=licence,
        languages=tuple(sorted({r.language for r in dataset.records if r.language})),
        labels=dataset.label_set,
        encoders=tuple(encoders[stream].eval() for stream in learner.fusion.streams),
        fusion=learner.fusion.eval(),
        calibration=Calibration(
            temperatures(recipe, fold, prepared, learner, required, accelerator), 0.0
        ),
        decoder=serving_decoder(recipe, trained, len(dataset.label_set.names)),
        card=card,
        licence_text=licence_text(licence, sources),
        assets=files_of,
        requires=required,
    )


def requires(recipe: Recipe, streams: Mapping[str, Modality]) -> tuple[Modality, ...]:
    """Modalities that the model never learnt to do without: none of their streams was hidden, and
    training had them always."""
    if not recipe.data.complete:
        return ()
    hidden = {name for name, share in recipe.training.hide.items() if share}
    modalities = dict.fromkeys(streams.values())
    return tuple(
        m
        for m in modalities
        if len(modalities) == 1
        or not (m.value in hidden or all(s in hidden for s, own in streams.items() if own == m))
    )


def temperatures(
    recipe: Recipe,
    fold: Fold,
    prepared: Prepared,
    learner: Learner,
    required: Sequence[Modality],
    accelerator: Accelerator,
) -> dict[str, float]:
    """A temperature for each set of modalities that holds the required ones, where the validation
    part has turns enough."""
    table, streams = prepared.table, learner.fusion.stream_modalities
    turns = usable(recipe, table, fold.of("valid"))
    modalities = tuple(dict.fromkeys(streams.values()))
    wrapped = accelerator.prepare_model(learner, evaluation_mode=True)
    found = {}
    for size in range(1, len(modalities) + 1):
        for shown in combinations(modalities, size):
            if set(required) <= set(shown):
                keep = _showing(table, streams, shown)
                own = turns[(table.present[turns] & keep[0, 0]).any(axis=1)]
                if len(own) >= FEWEST:
                    logits = predict(wrapped, table, own, accelerator, keep)
                    labels = table.windows.labels[own]
                    found[modality_key(shown)] = fit_temperature(logits, labels)
    return found


def serving_decoder(recipe: Recipe, trained: Trained, classes: int) -> DecoderConfig:
    """The recipe's decoder for live use. Without dialogues to learn from, p0 says nothing: every
    label is as likely to follow as any other."""
    chosen = recipe.decoder
    p0 = chosen.p0 if chosen is not None and chosen.p0 is not None else trained.report()["p0"]
    if p0 is None:
        p0 = 1 - 1 / classes
    if chosen is None:
        return DecoderConfig(p0=p0)
    defaults = DecoderConfig(p0=p0)
    return DecoderConfig(
        p0=p0,
        alpha=chosen.alpha,
        beam=chosen.beam,
        lag=defaults.lag if chosen.lag is None else chosen.lag,
        temperature=chosen.temperature,
    )


def licences_of(recipe: Recipe, dataset: Dataset) -> dict[str, set[str]]:
    """The licences of what the weights come from: corpora, bundles, other weights."""
    found: dict[str, set[str]] = {}
    for record in dataset.records:
        found.setdefault(record.corpus, set()).update(
            (record.licence or UNKNOWN_LICENCE).split(" AND ")
        )
    if recipe.data.faces is not None:  # drawn from FER2013, which states no licence
        found["faces of FER2013"] = {UNKNOWN_LICENCE}
    for stream in recipe.streams.values():
        if stream.bundle is not None:
            bundle = Bundle.load(bundle_path(stream.bundle))
            found[f"bundle {bundle.name}"] = set(bundle.licence.split(" AND "))
        elif stream.weights is not None:
            found[f"weights {Path(stream.weights).name}"] = {UNKNOWN_LICENCE}
    return found


def licence_text(licence: str, sources: Mapping[str, set[str]]) -> str:
    listed = "\n".join(f"  {name}: {', '.join(sorted(own))}" for name, own in sources.items())
    return (
        f"The weights in this folder come from these, under these licences:\n\n{listed}\n\n"
        f"They are under all of them together: {licence}. Where a licence is unknown, or forbids "
        "it,\ndo not pass the weights on. The program code of Emotrace is under Apache-2.0.\n"
    )


def command(
    run: Annotated[Path, typer.Argument(help="a folder that `fit` wrote, or one variant's in it")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the bundle's folder")],
    manifest: Annotated[Path, typer.Option(help="the manifest of the run")] = Path(
        "runs/manifest.jsonl"
    ),
    variant: Annotated[str | None, typer.Option(help="needed where the run has several")] = None,
    fold: Annotated[str | None, typer.Option(help="default: the first")] = None,
    seed: Annotated[int | None, typer.Option(help="default: the first")] = None,
    name: Annotated[str | None, typer.Option(help="the bundle's name; default: its folder")] = None,
    version: Annotated[str, typer.Option()] = "1",
    cache: Annotated[Path, typer.Option(help="where features are kept")] = CACHE,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="with the fast form: 8-bit text graphs, drift report")
    ] = False,
) -> None:
    """Write a trained model as a bundle: emotrace-serve --bundle FOLDER serves it."""
    with named_errors():
        found = read_run(run, [variant] if variant is not None else [])
        if len(found) > 1:
            listed = ", ".join(one.folder.name for one in found)
            raise RunUnusable(f"{run}: has the variants {listed}; choose one with --variant")
        trained = found[0].find(fold, seed)
        bundle = build_bundle(
            found[0],
            trained,
            manifest,
            cache,
            name or out.name.lower(),
            version,
            Accelerator(cpu=True),
        )
        if onnx:
            bundle = in_fast_form(bundle, found[0].recipe, manifest, trained.fold)
        bundle.save(out)
        Bundle.load(out)  # what was written can be read
        typer.echo(
            f"{out}: {trained.fold} seed {trained.seed}, needs "
            f"{', '.join(bundle.requires) or 'any modality'}; emotrace-serve --bundle {out}"
        )


def in_fast_form(bundle: Bundle, recipe: Recipe, manifest: Path, fold: str) -> Bundle:
    """The bundle with its graphs, and with its drift report over the fold's test dialogues.

    Raises GraphRefused, DriftTooLarge.
    """
    dataset = load_dataset(recipe, manifest)
    parts = next(one for one in dataset.folds if one.name == fold)
    ready = with_graphs(bundle, typer.echo)
    dialogues = tested_dialogues(dataset, parts)
    return with_drift(ready, recorded_drift(ready, dialogues, f"test part of fold {fold}"), LEAST)


def _load(learner: Learner, file: Path) -> None:
    try:
        learner.load_state_dict(load_file(file))
    except (OSError, SafetensorError) as error:
        raise RunUnusable(f"{file}: {error}; fit with --restart") from error
    except RuntimeError as error:
        raise CheckpointMismatch(f"{file}: is of another architecture: {error}") from error


def _showing(
    table: Table, streams: Mapping[str, Modality], shown: Sequence[Modality]
) -> NDArray[np.bool_]:
    """A `keep` [1, entry, stream] that shows these modalities."""
    row = [streams[name] in shown for name in table.streams]
    entries = table.windows.entries.shape[1]
    return np.broadcast_to(np.array(row), (1, entries, len(row))).copy()
