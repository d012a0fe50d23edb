"""`evaluate-cost`: the sizes that are compared, and that each is the network it says."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from fakes import toy_bundle
from safetensors.torch import save_file

from emotrace_models.bundle import Bundle, BundleError
from emotrace_models.encoders import CompactAcoustic
from emotrace_models.predictor import Predictor
from emotrace_models.types import Modality
from emotrace_training import evaluate_cost
from emotrace_training.evaluate_cost import (
    acoustic_of,
    first_towers,
    load_voice,
    parts,
    sizes_of,
    spoken,
    times,
)
from emotrace_training.robustness_clips import SPEECH


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(toy_bundle(tmp_path_factory.mktemp("bundles") / "seven", scheme="ekman7"))


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `acoustic` leaves it."""
    folder = tmp_path_factory.mktemp("acoustic")
    config, _ = CompactAcoustic.small()
    encoder = CompactAcoustic(replace(config, channels=(2, 2, 2, 2)))
    save_file(encoder.state_dict(), folder / "encoder.safetensors")
    (folder / "config.json").write_text(json.dumps(asdict(encoder.config)))
    return folder


def test_fewer_towers_are_the_first_ones(bundle: Bundle) -> None:
    own = acoustic_of(bundle)
    one = first_towers(own, 1)
    assert torch.equal(one.prior, own.prior)
    bands, contours = torch.randn(1, 2, 64, 40), torch.randn(1, 4, 40)
    lengths = torch.tensor([40])
    with torch.inference_mode():
        alone = one(bands, contours, lengths)
        torch.testing.assert_close(alone, own.members[0](bands, contours, lengths))
        assert not torch.allclose(alone, own(bands, contours, lengths))


def test_sizes_share_words_and_fusion(bundle: Bundle, narrow: Path) -> None:
    sizes = sizes_of(bundle, {"narrow": load_voice(narrow)})
    assert [size.name for size in sizes] == ["toy", "1 of its 2 towers", "narrow"]
    assert all(size.bundle.fusion is bundle.fusion for size in sizes)
    assert all(size.bundle.encoders[1] is bundle.encoders[1] for size in sizes)
    whole, fewer, other = (size.megabytes for size in sizes)
    assert other < fewer < whole
    utterance = spoken(0)
    for size in sizes:
        predictor = Predictor(size.bundle)
        predictor.predict([(predictor.start(), utterance)])


def test_what_is_no_voice_is_named(bundle: Bundle, toy: Path, tmp_path: Path) -> None:
    assert load_voice(toy).config == acoustic_of(Bundle.load(toy)).config
    with pytest.raises(BundleError, match="no encoder of `acoustic`"):
        load_voice(tmp_path)
    words = Bundle.load(toy_bundle(tmp_path / "words", modalities=(Modality.LEXICAL,)))
    with pytest.raises(BundleError, match="no encoder compact_acoustic"):
        sizes_of(words, {})


def test_jobs_take_turns(bundle: Bundle) -> None:
    log: list[str] = []
    jobs = {"slow": lambda: log.append("slow") or sum(range(100_000)), "b": lambda: log.append("b")}
    found = times(jobs, 4)
    assert log == ["slow", "b"] * 7, "three rounds are not counted"
    assert {name: len(values) for name, values in found.items()} == {"slow": 4, "b": 4}
    assert min(found["slow"]) > max(found["b"])
    assert set(parts(bundle, spoken(0))) == {
        "frames", "acoustic, from its input", "lexical, from its input", "fusion, with reasons",
        "decoder",
    }  # fmt: skip


def test_the_command(bundle: Bundle, narrow: Path, tmp_path: Path, invoke) -> None:
    rng = np.random.default_rng(0)
    for corpus in SPEECH:
        (tmp_path / corpus).mkdir()
        rows = [("file", "speaker", "emotion", "split")]
        for emotion, split in (("happy", "test"), ("sad", "test"), ("sad", "train")):
            name = f"{emotion}-{split}.wav"
            soundfile.write(tmp_path / corpus / name, rng.standard_normal(6_000) * 0.1, 16_000)
            rows.append((name, "a" if split == "test" else "b", emotion, split))
        with (tmp_path / corpus / "labels.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
    bundle.save(tmp_path / "bundle")
    out = tmp_path / "out"
    arguments = ("--bundle", tmp_path / "bundle", "--data", tmp_path, "--out", out, "--rounds", 2)
    table = invoke(evaluate_cost.command, *arguments, "--voice", f"narrow={narrow}")
    report = json.loads((out / "report.json").read_text())
    assert [size["name"] for size in report["sizes"]] == ["toy", "1 of its 2 towers", "narrow"]
    assert report["sizes"][0]["ratio"] == 1
    assert all(0 <= size["uar"]["ekman7"] <= 1 for size in report["sizes"])
    written = sum(file.stat().st_size for file in (tmp_path / "bundle").iterdir()) / 1e6
    assert report["files_mb"] == written
    assert "| narrow |" in table
    assert (out / "accuracy-cost.png").read_bytes().startswith(b"\x89PNG")
    invoke(evaluate_cost.command, *arguments, "--voice", "narrow", code=2)
    assert "no bundle" in invoke(evaluate_cost.command, *arguments, "--voice", "x=/none", code=1)
