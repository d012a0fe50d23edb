"""Masked reconstruction: what is altered, what is asked, resuming, the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import typer
from typer.testing import CliRunner

from emotrace_models.encoders.tera import Tera, TeraConfig
from emotrace_training import pretrain as step
from emotrace_training.alteration import Alteration, alter
from emotrace_training.manifests import ClipSplit, Record, write_manifest
from emotrace_training.pretrain import Mismatch, PretrainRecipe, pretrain

CONFIG = TeraConfig(bands=12, layers=1, width=16, heads=2, inner=32)
RECIPE = PretrainRecipe(epochs=3, batch=4, frames=30)
QUIET = Alteration(noisy=0.0)


def fronts(count: int = 10) -> list[np.ndarray[tuple[int, int], np.dtype[np.float16]]]:
    """Slow waves, whose hidden parts follow from the rest."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        times = np.arange(int(rng.integers(20, 50)))[:, None]
        made.append(np.sin(times / 6 + np.arange(12) / 3 + rng.uniform(0, 6)).astype(np.float16))
    return made


def altered(alteration: Alteration, seed: int = 0) -> tuple[torch.Tensor, ...]:
    clean = 5 + torch.rand(64, 50, 20)
    lengths = torch.arange(64) % 45 + 6
    clean *= (torch.arange(50) < lengths[:, None])[..., None]
    generator = torch.Generator().manual_seed(seed)
    return (clean, *alter(clean, lengths, alteration, generator), lengths)


def test_what_is_not_asked_for_is_shown_as_it_is() -> None:
    clean, shown, asked, lengths = altered(QUIET)
    assert torch.equal(shown[~asked], clean[~asked])
    padding = torch.arange(50) >= lengths[:, None]
    assert not asked[padding].any()
    assert asked.flatten(1).any(1).all()


def test_alteration_in_time_and_in_frequency() -> None:
    """Whole frames and whole bands are asked for; frames are zeroed, swapped or left in 8:1:1."""
    zeroed, swapped, left = 0, 0, 0
    for seed in range(20):
        clean, shown, asked, lengths = altered(QUIET, seed)
        for item, length in enumerate(lengths.tolist()):
            cells = asked[item, :length]
            frames, bands = cells.all(1), cells.all(0)
            if frames.all():  # an item of few frames: nothing tells its bands
                continue
            assert torch.equal(cells, frames[:, None] | bands)
            assert int(bands.sum()) <= 4  # a fifth of 20
            assert not shown[item, :length][:, bands].any()
            hidden = shown[item, :length][frames][:, ~bands]
            meant = clean[item, :length][frames][:, ~bands]
            if not hidden.any():
                zeroed += 1
            elif torch.equal(hidden, meant):
                left += 1
            else:
                swapped += 1
    total = zeroed + swapped + left
    assert zeroed / total == pytest.approx(0.8, abs=0.04)
    assert swapped / total == pytest.approx(0.1, abs=0.04)


def test_runs_of_seven_cover_about_the_share_asked_for() -> None:
    alteration = Alteration(widest=0.0, noisy=0.0)
    clean = torch.ones(200, 400, 4)
    _, asked = alter(clean, torch.full((200,), 400), alteration, torch.Generator().manual_seed(0))
    share = asked[..., 0].float().mean()
    assert 0.12 < share <= 0.15 + 0.01  # runs may overlap
    edges = torch.nn.functional.pad(asked[..., 0].int(), (1, 1)).diff(dim=1)
    starts, ends = (edges == 1).nonzero()[:, 1], (edges == -1).nonzero()[:, 1]
    assert (ends - starts).min() >= 7


def test_noise_comes_to_some_items_and_is_not_asked_for() -> None:
    alteration = Alteration(widest=0.0, noisy=0.5, zeroed=0.0, swapped=0.0)
    clean, shown, _, lengths = altered(alteration)
    noisy = torch.tensor([not torch.equal(s, c) for s, c in zip(shown, clean, strict=True)])
    assert 0.3 < noisy.float().mean() < 0.7
    padding = torch.arange(50) >= lengths[:, None]
    assert not shown[padding].any()
    real = ~padding & noisy[:, None]
    assert float((shown - clean)[real].std()) == pytest.approx(0.2, abs=0.02)


def test_training_restores_better_with_every_epoch(tmp_path: Path) -> None:
    recipe = PretrainRecipe(epochs=12, batch=4, frames=30, rate=5e-3)
    _, losses = pretrain(fronts(), CONFIG, recipe, 0, tmp_path / "checkpoint.pt")
    assert len(losses) == 12
    assert losses[-1] < 0.8 * losses[0]


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole, losses = pretrain(fronts(), CONFIG, RECIPE, 0, tmp_path / "whole.pt")

    def stop(done: int, steps: int, loss: float) -> None:
        if done == steps // 3 + 1:  # one step into the second epoch
            raise KeyboardInterrupt

    torn = tmp_path / "torn.pt"
    with pytest.raises(KeyboardInterrupt):
        pretrain(fronts(), CONFIG, RECIPE, 0, torn, stop)
    done: list[int] = []
    resumed, again = pretrain(
        fronts(), CONFIG, RECIPE, 0, torn, lambda at, steps, loss: done.append(at)
    )
    assert done[0] == 4  # of 9: the first epoch is not done again
    assert again == losses
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    other, _ = pretrain(fronts(), CONFIG, RECIPE, 1, tmp_path / "other.pt")
    assert not torch.equal(other.project.weight, whole.project.weight)
    with pytest.raises(Mismatch, match=r"torn\.pt.*delete it"):
        pretrain(fronts(), CONFIG, RECIPE, 1, torn)


def invoke(*arguments: object, code: int = 0) -> str:
    app = typer.Typer()
    app.command()(step.command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result.output


def manifest_of(folder: Path, splits: tuple[ClipSplit, ...]) -> Path:
    rng = np.random.default_rng(0)
    records = []
    for number, split in enumerate(splits):
        file = folder / f"{number}.wav"
        soundfile.write(file, 0.1 * rng.standard_normal(8_000), 16_000)
        records.append(
            Record.alone(str(file), "made", "made:a", "anger", split, 0.5, "", "en", "CC0-1.0")
        )
    write_manifest(folder / "manifest.jsonl", records)
    return folder / "manifest.jsonl"


def test_the_command_hears_the_training_split_and_writes_what_from_pretrained_reads(
    tmp_path: Path,
) -> None:
    manifest = manifest_of(tmp_path, ("train", "train", "test"))
    small = ("--layers", 1, "--width", 8, "--heads", 2, "--epochs", 2, "--frames", 20)
    said = invoke("--manifest", manifest, "--out", tmp_path / "tera", *small)
    assert "2 clips" in said
    encoder = Tera.from_pretrained(tmp_path / "tera", pool=4)
    assert (encoder.config.layers, encoder.config.width, encoder.config.inner) == (1, 8, 32)
    report = json.loads((tmp_path / "tera" / "report.json").read_text())
    assert report["clips"] == 2
    assert len(report["losses"]) == 2
    assert not (tmp_path / "tera" / "checkpoint.pt").exists()


def test_bad_input_is_named(tmp_path: Path) -> None:
    out = ("--out", tmp_path / "tera")
    empty = manifest_of(tmp_path, ("test",))
    assert "no record of split 'train'" in invoke("--manifest", empty, *out, code=1)
    manifest = manifest_of(tmp_path, ("train",))
    (tmp_path / "0.wav").write_bytes(b"no sound")
    assert "0.wav" in invoke("--manifest", manifest, *out, code=1)
    assert "does not divide" in invoke("--manifest", manifest, *out, "--heads", 7, code=2)
