"""`emotrace-train acoustic`: the acoustic encoder, and vectors of strangers to fit the rest to.

Two kinds of towers with one recipe. The encoder holds towers fitted to all speakers of train and
valid. Towers of folds never hear the speakers of their fold: everything is chosen by them, and
their vectors of those speakers (`oof.npz`) are what later steps are fitted to, as they look like a
stranger's. `test.npz` holds the test split through the encoder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated, Any
from zipfile import ZipFile

import numpy as np
import torch
import typer
from safetensors.torch import save_file
from torch import Tensor

from emotrace_models.encoders.compact_acoustic import CompactAcoustic, CompactAcousticConfig
from emotrace_training.acoustic_bank import Bank, build_bank
from emotrace_training.acoustic_fitting import AcousticRecipe, Interrupted
from emotrace_training.acoustic_scoring import DRAWS, Vectors, Voices, scores
from emotrace_training.acoustic_study import Study
from emotrace_training.folds import speaker_folds
from emotrace_training.manifests import ManifestError, Record, read_clips

FRAMES_SEED = 0  # of folds and virtual speakers: those of all ensembles are the same

SMOKE = CompactAcousticConfig(width=16, members=2, channels=(4, 4, 8, 8), contour=4, pooled=16)
SMOKE_RECIPE = AcousticRecipe(epochs=2, steps=2, batch=8)


def command(
    manifest: Annotated[Path, typer.Option(help="from `prepare`")] = Path("runs/manifest.jsonl"),
    out: Annotated[Path, typer.Option(help="working folder")] = Path("runs/acoustic"),
    frames: Annotated[
        Path | None,
        typer.Option(help="where analysed clips are kept; default: acoustic-frames beside `out`"),
    ] = None,
    seed: int = 0,
    epochs: Annotated[int | None, typer.Option(help="default: the recipe's")] = None,
    members: Annotated[int, typer.Option(min=1, help="towers of the encoder")] = 2,
    folds: Annotated[int, typer.Option(min=2)] = 4,
    variants: Annotated[int, typer.Option(min=1, help="virtual copies, the clip included")] = 8,
    held_out_only: Annotated[bool, typer.Option(help="towers of folds; no encoder")] = False,
    shipped_only: Annotated[bool, typer.Option(help="the encoder; no towers of folds")] = False,
    fold: Annotated[int | None, typer.Option(help="fit this fold's tower and stop")] = None,
    tower: Annotated[int | None, typer.Option(help="fit this shipped tower and stop")] = None,
    without: Annotated[
        str, typer.Option(help="leave a corpus out and score the encoder on all of it")
    ] = "",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE of the recipe or of the tower, VALUE as JSON"),
    ] = None,
    resume: Annotated[bool, typer.Option(help="go on from what is there")] = True,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    workers: Annotated[int, typer.Option(min=1, help="processes that analyse clips")] = 2,
    smoke: Annotated[bool, typer.Option(help="a tiny tower for a few steps")] = False,
) -> None:
    """Train the acoustic towers and write the encoder, and vectors of held-out and test clips."""
    torch.set_num_threads(threads)
    frames = frames or out.parent / "acoustic-frames"
    config, recipe = _settings(
        replace(SMOKE if smoke else CompactAcousticConfig(), members=members),
        SMOKE_RECIPE if smoke else AcousticRecipe(),
        setting or [],
    )
    recipe = replace(recipe, epochs=epochs or recipe.epochs)
    if fold is not None and not 0 <= fold < folds:
        raise typer.BadParameter(f"fold {fold} of {folds}")
    if tower is not None and not 0 <= tower < members:
        raise typer.BadParameter(f"tower {tower} of {members}")
    try:
        everything = read_clips(manifest, splits=("train", "test"))
        known = [clip for clip in everything if clip.split != "test"]
        if without and without not in {clip.corpus for clip in known}:
            raise typer.BadParameter(f"no clip is of {without!r}")
        fold_of = speaker_folds(known, folds, FRAMES_SEED)
        dealt = [fold_of[clip.speaker] for clip in known]
        bank = build_bank(frames, known, dealt, variants, FRAMES_SEED, workers)
        prior = corpus_prior(known, bank, without)
        study = Study(known, dealt, bank, prior, config, recipe, seed, out, without)
        study.prepare(resume)
        alone = fold is not None or tower is not None
        for k in range(folds) if not alone else [] if fold is None else [fold]:
            if not shipped_only and not without:
                study.fit_fold(k)
        for m in range(members) if not alone else [] if tower is None else [tower]:
            if not held_out_only:
                study.fit_shipped(m)
        if alone:
            return
        report: dict[str, Any] = {"recipe": asdict(recipe), "tower": asdict(config), "seed": seed}
        if not shipped_only and not without:
            report["held_out"] = _held_out(study, folds)
        if not held_out_only:
            test = [clip for clip in everything if clip.split == "test"]
            heard = build_bank(frames, test, [-1] * len(test), 1, FRAMES_SEED, workers)
            report |= _encoder(study, test, heard)
    except (ManifestError, Interrupted) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    path = out / "report.json"  # an earlier run may have written the other half
    report = (json.loads(path.read_text()) if path.exists() else {}) | report
    path.write_text(json.dumps(report, indent=2) + "\n")
    typer.echo(json.dumps(report, indent=2))


def corpus_prior(clips: Sequence[Record], bank: Bank, without: str = "") -> Tensor:
    """Mean and deviation [2, KEPT] of every column, each corpus with the same weight."""
    corpora = np.array([clip.corpus for clip in clips])
    means, squares = [], []
    for name in sorted(set(corpora) - {without}):
        count, total, square = bank.moments[corpora == name, 0].astype(np.float64).sum(axis=0)
        means.append(total / np.maximum(count, 1))
        squares.append(square / np.maximum(count, 1))
    mean = np.mean(means, axis=0)
    deviation = np.sqrt(np.maximum(np.mean(squares, axis=0) - mean**2, 1e-4))
    return torch.from_numpy(np.stack([mean, deviation]).astype(np.float32))


def _settings(
    config: CompactAcousticConfig, recipe: AcousticRecipe, settings: Sequence[str]
) -> tuple[CompactAcousticConfig, AcousticRecipe]:
    """Raises typer.BadParameter for a name or a value that is none of either."""
    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            if name in {field.name for field in fields(recipe)}:
                recipe = replace(recipe, **{name: json.loads(value)})
            else:
                config = replace(config, **{name: json.loads(value)})
        except (TypeError, ValueError) as error:
            raise typer.BadParameter(f"{setting!r}: {error}") from error
    return config, recipe


def _held_out(study: Study, folds: int) -> dict[str, Any]:
    """oof.npz, and the scores of all held-out clips, each by the tower that never heard it."""
    config = study.config
    vectors = np.zeros((DRAWS, len(study.clips), config.width), np.float32)
    for k in range(folds):
        held, tower = study.held(k), study.tower(f"fold-{k}")
        vectors[:, held] = study.voices.drawn(tower, held, study.seed)
    _write_vectors(study.out / "oof.npz", study.clips, study.fold, vectors)
    return {
        "all": [scores(draw, study.clips) for draw in vectors],
        "folds": [json.loads((study.out / f"fold-{k}.json").read_text()) for k in range(folds)],
    }


def _encoder(study: Study, test: list[Record], heard: Bank) -> dict[str, Any]:
    """encoder.safetensors, config.json, test.npz, and the scores of the test split; with a corpus
    left out only the scores of all its clips.
    """
    config = study.config
    encoder = CompactAcoustic(config).eval()
    encoder.prior.copy_(study.prior)
    for m, member in enumerate(encoder.members):
        member.load_state_dict(study.tower(f"tower-{m}").state_dict())
    save_file(encoder.state_dict(), study.out / "encoder.safetensors")
    (study.out / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    strangers = Voices(test, heard, study.prior, config.anchor)
    if study.without:
        # Neither the speakers of train nor those of test were heard.
        found, clips = [], []
        for voices in (study.voices, strangers):
            chosen = [i for i, clip in enumerate(voices.clips) if clip.corpus == study.without]
            found.append(voices.drawn(encoder, chosen, study.seed))
            clips += [voices.clips[i] for i in chosen]
        vectors = np.concatenate(found, axis=1)
        return {"without": study.without, "left_out": [scores(draw, clips) for draw in vectors]}
    vectors = strangers.drawn(encoder, range(len(test)), study.seed)
    _write_vectors(study.out / "test.npz", test, [-1] * len(test), vectors)
    return {"test": [scores(draw, test) for draw in vectors]}


def _write_vectors(path: Path, clips: list[Record], fold: list[int], vectors: Vectors) -> None:
    """One row a clip and draw."""
    draws = len(vectors)
    columns = {
        **{
            name: np.array([getattr(clip, name) for clip in clips] * draws)
            for name in ("file", "corpus", "speaker", "emotion", "split")
        },
        "fold": np.array(fold * draws),
        "draw": np.repeat(np.arange(draws), len(clips)),
        "vector": vectors.reshape(-1, vectors.shape[-1]),
    }
    with ZipFile(path, "w") as archive:  # np.savez has no column called `file`
        for name, values in columns.items():
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, values, allow_pickle=False)
