"""The acoustic step, from made clips to an encoder, and the parts that it stands on."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import typer
from click.testing import Result
from safetensors.torch import load_file
from typer.testing import CliRunner

from emotrace_models.encoders.compact_acoustic import CompactAcoustic, CompactAcousticConfig
from emotrace_models.encoders.prototypes import EMOTIONS, class_prototypes, in_frame
from emotrace_models.types import Utterance
from emotrace_training.acoustic import command, corpus_prior
from emotrace_training.acoustic_bank import Bank, build_bank
from emotrace_training.acoustic_fitting import masked
from emotrace_training.acoustic_sampling import Sampler, labels_of
from emotrace_training.acoustic_scoring import Voices, corpus_uar
from emotrace_training.losses import contrastive
from emotrace_training.manifests import ClipSplit, Record, read_sound, write_manifest

SPLIT: dict[str, ClipSplit] = {"a": "train", "b": "train", "c": "valid", "d": "test"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """Four speakers of buzzes: angry ones high and loud, sad ones low and soft."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    found = []
    for speaker, split in SPLIT.items():
        for number in range(8):
            emotion = ("anger", "sadness", "neutral", "happiness")[number % 4]
            pitch = {"anger": 300, "sadness": 100, "neutral": 150, "happiness": 220}[emotion]
            t = np.arange(int(rng.integers(4_000, 20_000))) / 16_000
            wave = sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 6)) * 0.05
            file = folder / f"{speaker}-{number}.wav"
            soundfile.write(file, wave + rng.standard_normal(len(t)) * 0.001, 16_000)
            found.append(
                Record.alone(
                    file.as_posix(), "toy", f"toy:{speaker}", emotion, split,
                    len(t) / 16_000, "", "en", "CC0-1.0",
                )
            )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def bank(clips: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Bank:
    folds = [ord(clip.speaker[-1]) % 2 for clip in clips]
    return build_bank(tmp_path_factory.mktemp("bank"), clips, folds, 3, 0, workers=1)


def invoke(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def smoke(manifest: Path, out: Path, *more: object) -> Result:
    common = ("--manifest", manifest, "--out", out, "--frames", out.parent / "frames", "--smoke")
    return invoke(*common, "--folds", 3, "--variants", 2, "--workers", 1, *more)


def test_the_step_from_end_to_end(clips: list[Record], tmp_path: Path) -> None:
    manifest, out = tmp_path / "manifest.jsonl", tmp_path / "acoustic"
    write_manifest(manifest, clips)
    one = smoke(manifest, out, "--members", 2, "--fold", 1)
    assert one.exit_code == 0, one.output
    assert sorted(p.name for p in out.iterdir()) == ["fold-1.json", "fold-1.safetensors"]
    done = smoke(manifest, out, "--members", 2)
    assert done.exit_code == 0, done.output
    assert "fold-1: " in done.output, "a tower that is there is fitted again"
    report = json.loads((out / "report.json").read_text())
    assert set(report) == {"recipe", "tower", "seed", "held_out", "test"}
    assert len(report["held_out"]["folds"]) == 3
    assert set(report["test"][0]) == {"common4", "ekman7"}

    config = CompactAcousticConfig(**json.loads((out / "config.json").read_text()))
    encoder = CompactAcoustic(config).eval()
    encoder.load_state_dict(load_file(out / "encoder.safetensors"))
    with np.load(out / "oof.npz", allow_pickle=False) as held_out:
        assert held_out["vector"].shape == (3 * 24, config.width)
        assert set(held_out["split"]) == {"train", "valid"}
        folds = dict(zip(held_out["speaker"].tolist(), held_out["fold"].tolist(), strict=True))
        assert sorted(folds.values()) == [0, 1, 2]
    with np.load(out / "test.npz", allow_pickle=False) as test:
        assert set(test["speaker"]) == {"toy:d"}
        drawn = {
            (int(draw), str(file)): vector
            for draw, file, vector in zip(test["draw"], test["file"], test["vector"], strict=True)
        }
    # The encoder itself, fed with the sound in the order of each draw, gives the same vectors.
    heard = [clip for clip in clips if clip.split == "test"]
    for draw in range(3):
        state = encoder.start()
        for index in np.random.default_rng(draw).permutation(len(heard)):
            file = heard[index].file
            turn = Utterance(0, "d", 0, 0, read_sound(heard[index]))
            vector, state = encoder.encode([(state, turn)])[0]
            assert vector is not None
            # The encoder gives the part in the frame; the bank's frames are float16.
            expected = in_frame(torch.from_numpy(drawn[draw, file])).numpy()
            np.testing.assert_allclose(vector, expected, atol=0.02)

    for bad in (("--fold", 3), ("--tower", 2, "--members", 2), ("--without", "none")):
        assert smoke(manifest, out, *bad).exit_code == 2
    gone = invoke("--manifest", tmp_path / "none.jsonl")
    assert gone.exit_code == 1
    assert "emotrace-train prepare" in gone.output


def test_the_encoder_alone(clips: list[Record], tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    write_manifest(manifest, clips)
    for seed in (0, 1):
        out = tmp_path / str(seed)
        done = smoke(manifest, out, "--members", 1, "--shipped-only", "--seed", seed)
        assert done.exit_code == 0, done.output
        assert {p.name for p in out.iterdir()} == {
            "tower-0.safetensors", "encoder.safetensors", "config.json", "test.npz", "report.json",
        }  # fmt: skip
    assert len(list((tmp_path / "frames").iterdir())) == 2, "each seed has its frames made again"
    one, other = (load_file(tmp_path / s / "encoder.safetensors") for s in "01")
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(one["prior"], other["prior"])


def test_a_corpus_left_out_is_not_heard(clips: list[Record], tmp_path: Path) -> None:
    manifest, out = tmp_path / "manifest.jsonl", tmp_path / "without"
    write_manifest(
        manifest,
        [replace(c, corpus="other") if c.speaker in ("toy:a", "toy:d") else c for c in clips],
    )
    done = smoke(manifest, out, "--members", 1, "--without", "other")
    assert done.exit_code == 0, done.output
    report = json.loads((out / "report.json").read_text())
    assert set(report["left_out"][0]["common4"]) == {"other", "mean"}
    assert not (out / "test.npz").exists()
    prior = load_file(out / "encoder.safetensors")["prior"]
    known = [c for c in clips if c.speaker in ("toy:b", "toy:c")]
    own = build_bank(tmp_path / "own", known, [0] * len(known), 1, 0, workers=1)
    torch.testing.assert_close(prior, corpus_prior(known, own))


def test_settings_by_name(clips: list[Record], tmp_path: Path) -> None:
    manifest, out = tmp_path / "manifest.jsonl", tmp_path / "set"
    write_manifest(manifest, clips)
    chosen = ("--set", "warp=0.0", "--set", "pooled=8", "--held-out-only")
    done = smoke(manifest, out, *chosen)
    assert done.exit_code == 0, done.output
    report = json.loads((out / "report.json").read_text())
    assert (report["recipe"]["warp"], report["tower"]["pooled"]) == (0.0, 8)
    assert "test" not in report
    assert (out / "oof.npz").exists()
    assert not (out / "encoder.safetensors").exists()
    for bad in ("none=1", "warp=x", "pooled=3", "warp"):
        assert smoke(manifest, out, "--set", bad).exit_code == 2
    other = smoke(manifest, tmp_path / "killed", "--held-out-only", "--no-resume")
    assert other.exit_code == 0, other.output


def test_a_killed_run_goes_on_as_if_unbroken(clips: list[Record], tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    write_manifest(manifest, clips)

    def fit(name: str, broken: bool = False) -> Path:
        done = smoke(manifest, tmp_path / name, "--fold", 0)
        assert broken or done.exit_code == 0, done.output
        return tmp_path / name

    unbroken = fit("unbroken")
    with pytest.MonkeyPatch.context() as patch:

        def killed(line: str) -> None:
            raise KeyboardInterrupt  # at what is said after the first epoch

        patch.setattr("emotrace_training.acoustic_study.typer.echo", killed)
        broken = fit("broken", broken=True)
    assert (broken / "fold-0.checkpoint").exists()
    fit("broken")
    one, other = (load_file(p / "fold-0.safetensors") for p in (unbroken, broken))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name])


def test_the_bank_is_made_once(clips: list[Record], tmp_path: Path) -> None:
    few = clips[:3]
    first = build_bank(tmp_path, few, [0, 0, 0], 1, 0, workers=1)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.np*")}
    again = build_bank(tmp_path, few, [0, 0, 0], 1, 0, workers=1)
    assert times == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.np*")}
    np.testing.assert_array_equal(first.clip(1, 0), again.clip(1, 0))
    build_bank(tmp_path, few, [0, 0, 0], 1, 1, workers=1)
    assert len(list(tmp_path.glob("bank-*"))) == 2


def test_batches_hold_only_what_was_chosen(clips: list[Record], bank: Bank) -> None:
    chosen = [i for i, clip in enumerate(clips) if clip.speaker == "toy:a"]
    sampler = Sampler(clips, chosen, bank, np.random.default_rng(0), others=0.4)
    batch = sampler.batch(200)
    assert batch.frames.shape[:2] == batch.mask.shape
    assert bool(batch.mask.any(dim=1).all())
    assert bool((batch.frames[~batch.mask] == 0).all())
    counts = Counter(EMOTIONS[i] for i in batch.labels.tolist())
    assert set(counts) == {"anger", "sadness", "neutral", "happiness"}
    assert max(counts.values()) < 2 * min(counts.values())
    most = sum(bank.moments[chosen, v].sum(axis=0)[0, 0] for v in range(3))
    assert batch.earlier[:, 0, 0].max() <= most
    assert batch.earlier[:, 0, 0].min() == 0, "some have no past"


def test_each_clip_hears_the_past_of_its_own_speaker(clips: list[Record], bank: Bank) -> None:
    heard: dict[str, float] = {}
    voices = Voices(clips, bank, corpus_prior(clips, bank), anchor=300.0)
    for index, earlier in voices.pasts(range(len(clips)), seed=0):
        speaker = clips[index].speaker
        assert earlier[0, 0] == pytest.approx(heard.get(speaker, 0.0))
        heard[speaker] = heard.get(speaker, 0.0) + float(bank.moments[index, 0, 0, 0])


def test_the_prior_is_the_mean_of_corpora(clips: list[Record], bank: Bank) -> None:
    prior = corpus_prior(clips, bank)
    count, total, _ = bank.moments[:, 0].astype(np.float64).sum(axis=0)
    np.testing.assert_allclose(prior[0].numpy(), total / count, rtol=1e-4)
    assert bool((prior[1] > 0).all())


def test_uar_of_known_vectors(clips: list[Record]) -> None:
    prototypes = class_prototypes(16).numpy()
    labels = labels_of(clips)
    assert corpus_uar(prototypes[labels], clips) == {"toy": 1.0, "mean": 1.0}
    always = np.repeat(prototypes[:1], len(clips), axis=0)
    assert corpus_uar(always, clips)["toy"] == 0.25


def test_contrast_prefers_classes_apart() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    apart = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    mingled = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    assert contrastive(apart, labels, 0.2) < contrastive(mingled, labels, 0.2)
    assert contrastive(apart, torch.arange(4), 0.2) == 0


def test_masks_leave_the_input_alone() -> None:
    bands, contours = torch.ones(32, 2, 64, 60), torch.ones(32, 4, 60)
    hidden, _ = masked(bands, contours, np.random.default_rng(0))
    assert bool((bands == 1).all())
    assert 0.3 < hidden.mean().item() < 0.99
