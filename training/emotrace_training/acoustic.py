"""`emotrace-train acoustic`: the cross-fitted acoustic ensemble, and vectors nobody was fitted to.

Speakers of train and valid are dealt into folds; member k never hears fold k. The encoder holds
all members. Vectors of fold k by member k alone (`oof.npz`) are what later steps are fitted to:
they look as a stranger's vectors do. `test.npz` holds the test split through the whole ensemble.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated
from zipfile import ZipFile

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from emotrace_models.encoders.acoustic_tower import AcousticTower
from emotrace_models.encoders.compact_acoustic import CompactAcoustic, CompactAcousticConfig
from emotrace_training.acoustic_bank import Bank, build_bank
from emotrace_training.acoustic_fitting import AcousticRecipe, Interrupted, fit_member
from emotrace_training.acoustic_scoring import Tower, corpus_uar, embed
from emotrace_training.folds import speaker_folds
from emotrace_training.manifests import ManifestError, Record, read_clips

Vectors = NDArray[np.float32]  # [draw, clip, width]

DRAWS = 3  # orders in which each speaker's clips are heard
WATCHED = 400  # held-out clips scored after an epoch

SMOKE = CompactAcousticConfig(width=16, members=2, channels=(4, 4, 8, 8), contour=4, pooled=16)
SMOKE_RECIPE = AcousticRecipe(epochs=2, steps=2, batch=8)


def command(
    manifest: Annotated[Path, typer.Option(help="from `prepare`")] = Path("runs/manifest.jsonl"),
    out: Annotated[Path, typer.Option(help="working folder")] = Path("runs/acoustic"),
    seed: int = 0,
    epochs: Annotated[int | None, typer.Option(help="default: the recipe's")] = None,
    folds: Annotated[int, typer.Option(min=2, help="members of the ensemble")] = 4,
    variants: Annotated[int, typer.Option(min=1, help="virtual copies, the clip included")] = 6,
    member: Annotated[
        int | None, typer.Option(help="fit this one only; run two at once on two cores")
    ] = None,
    resume: Annotated[bool, typer.Option(help="go on from what is there")] = True,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    workers: Annotated[int, typer.Option(min=1, help="processes that analyse clips")] = 2,
    smoke: Annotated[bool, typer.Option(help="a tiny tower for a few steps")] = False,
) -> None:
    """Train the acoustic towers and write the encoder with its held-out vectors."""
    torch.set_num_threads(threads)
    config = SMOKE if smoke else CompactAcousticConfig(members=folds)
    config = replace(config, members=folds)
    recipe = SMOKE_RECIPE if smoke else AcousticRecipe()
    recipe = replace(recipe, epochs=epochs or recipe.epochs)
    if member is not None and not 0 <= member < folds:
        raise typer.BadParameter(f"member {member} of {folds} folds")
    try:
        everything = read_clips(manifest, splits=("train", "test"))
        known = [clip for clip in everything if clip.split != "test"]
        fold_of = speaker_folds(known, folds, seed)
        fold = [fold_of[clip.speaker] for clip in known]
        bank = build_bank(out, known, fold, variants, seed, workers)
        prior = corpus_prior(known, bank)
        for k in range(folds) if member is None else [member]:
            _member(k, known, fold, bank, prior, config, recipe, seed, out, resume)
        if member is None:
            _assemble(everything, known, fold, bank, prior, config, recipe, seed, out, workers)
    except (ManifestError, Interrupted) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


def corpus_prior(clips: Sequence[Record], bank: Bank) -> Tensor:
    """Mean and deviation [2, KEPT] of every column, each corpus with the same weight."""
    corpora = np.array([clip.corpus for clip in clips])
    means, squares = [], []
    for name in sorted(set(corpora)):
        count, total, square = bank.moments[corpora == name, 0].astype(np.float64).sum(axis=0)
        means.append(total / np.maximum(count, 1))
        squares.append(square / np.maximum(count, 1))
    mean = np.mean(means, axis=0)
    deviation = np.sqrt(np.maximum(np.mean(squares, axis=0) - mean**2, 1e-4))
    return torch.from_numpy(np.stack([mean, deviation]).astype(np.float32))


def _member(
    k: int,
    clips: list[Record],
    fold: list[int],
    bank: Bank,
    prior: Tensor,
    config: CompactAcousticConfig,
    recipe: AcousticRecipe,
    seed: int,
    out: Path,
    resume: bool,
) -> None:
    """Fit member k, unless its weights are there."""
    weights = out / f"member-{k}.safetensors"
    checkpoint = out / f"member-{k}.checkpoint"
    if not resume:
        weights.unlink(missing_ok=True)
        checkpoint.unlink(missing_ok=True)
    if weights.exists():
        typer.echo(f"member {k}: {weights} is there")
        return
    held = [i for i, f in enumerate(fold) if f == k]
    watched = sorted(np.random.default_rng(seed).permutation(held)[:WATCHED].tolist())
    began = time.monotonic()

    def report(epoch: int, loss: float, tower: AcousticTower) -> None:
        tower.eval()
        vectors = embed(tower, clips, watched, bank, prior, config.anchor, seed)
        scores = corpus_uar(vectors, [clips[i] for i in watched])
        listed = " ".join(f"{name} {score:.3f}" for name, score in scores.items())
        spent = time.monotonic() - began
        typer.echo(f"member {k} epoch {epoch + 1} loss {loss:.3f} uar {listed} ({spent:.0f} s)")

    chosen = [i for i, f in enumerate(fold) if f != k]
    own_seed = seed * 1_000 + k
    tower = fit_member(clips, chosen, bank, prior, config, recipe, own_seed, checkpoint, report)
    save_file({n: t.contiguous() for n, t in tower.state_dict().items()}, weights)
    checkpoint.unlink()


def _assemble(
    everything: list[Record],
    known: list[Record],
    fold: list[int],
    bank: Bank,
    prior: Tensor,
    config: CompactAcousticConfig,
    recipe: AcousticRecipe,
    seed: int,
    out: Path,
    workers: int,
) -> None:
    """encoder.safetensors, config.json, oof.npz, test.npz, report.json."""
    encoder = CompactAcoustic(config).eval()
    encoder.prior.copy_(prior)
    for k, tower in enumerate(encoder.members):
        tower.load_state_dict(load_file(out / f"member-{k}.safetensors"))
    save_file(encoder.state_dict(), out / "encoder.safetensors")
    (out / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")

    def drawn(tower: Tower, clips: list[Record], chosen: list[int], frames: Bank) -> Vectors:
        draws = [
            embed(tower, clips, chosen, frames, prior, config.anchor, seed + draw)
            for draw in range(DRAWS)
        ]
        return np.stack(draws)

    vectors = np.zeros((DRAWS, len(known), config.width), np.float32)
    members = []
    for k, tower in enumerate(encoder.members):
        held = [i for i, f in enumerate(fold) if f == k]
        vectors[:, held] = drawn(tower, known, held, bank)
        members.append(corpus_uar(vectors[0, held], [known[i] for i in held]))
    _write_vectors(out / "oof.npz", known, fold, vectors)
    test = [clip for clip in everything if clip.split == "test"]
    heard = build_bank(out, test, [-1] * len(test), 1, seed, workers)
    found = drawn(encoder, test, list(range(len(test))), heard)
    _write_vectors(out / "test.npz", test, [-1] * len(test), found)
    report = {
        "recipe": asdict(recipe),
        "seed": seed,
        "held_out": {"all": corpus_uar(vectors[0], known), "members": members},
        "test": {
            scheme: [corpus_uar(draw, test, scheme) for draw in found]
            for scheme in ("common4", "ekman7")
        },
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    typer.echo(json.dumps(report, indent=2))


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
