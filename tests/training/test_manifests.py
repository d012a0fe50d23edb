"""Manifests of clips: what is written is read, and every fault names its line."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emotrace_training.folds import speaker_folds
from emotrace_training.manifests import (
    Clip,
    ManifestError,
    read_audio,
    read_manifest,
    write_manifest,
)


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    file = tmp_path / "one.wav"
    soundfile.write(file, np.zeros(1_600, np.float32), 16_000)
    return Clip(file.as_posix(), "toy", "toy:a", "anger", "train", 0.1, "Zażółć.", "pl", "CC0-1.0")


def test_there_and_back(tmp_path: Path, clip: Clip) -> None:
    path = tmp_path / "deep" / "manifest.jsonl"
    clips = [clip, replace(clip, split="test", text="one\u2028text")]
    write_manifest(path, clips)
    assert read_manifest(path, splits=("train", "test")) == clips


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"emotion": "joyfulness"}, "'joyfulness' is no canonical emotion"),
        ({"split": "dev"}, "'dev' is no split"),
        ({"file": "nowhere.wav"}, "no audio at nowhere.wav"),
    ],
)
def test_a_bad_line_is_named(
    tmp_path: Path, clip: Clip, change: dict[str, str], message: str
) -> None:
    path = tmp_path / "manifest.jsonl"
    lines = [asdict(clip), {**asdict(clip), **change}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ManifestError, match=message) as caught:
        read_manifest(path)
    assert f"{path}:2" in str(caught.value)


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"file": "x"}'])
def test_what_is_no_clip(tmp_path: Path, line: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ManifestError, match=r"manifest.jsonl:1: not a clip"):
        read_manifest(path)


def test_an_empty_split_and_a_missing_file(tmp_path: Path, clip: Clip) -> None:
    path = tmp_path / "manifest.jsonl"
    with pytest.raises(ManifestError, match="emotrace-train prepare"):
        read_manifest(path)
    write_manifest(path, [clip])
    with pytest.raises(ManifestError, match="no clip of split 'test'"):
        read_manifest(path, splits=("train", "test"))


def test_audio_that_cannot_be_used(tmp_path: Path, clip: Clip) -> None:
    assert read_audio(clip.file).shape == (1_600,)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    stereo = tmp_path / "stereo.wav"
    soundfile.write(stereo, np.zeros((100, 2), np.float32), 44_100)
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, np.zeros(0, np.float32), 16_000)
    for file, message in (
        (broken, "cannot be read as audio"),
        (tmp_path / "absent.wav", "cannot be read as audio"),
        (stereo, "44100 Hz 2 channels; convert it to 16000 Hz mono"),
        (empty, "empty or not finite"),
    ):
        with pytest.raises(ManifestError, match=message) as caught:
            read_audio(file)
        assert str(file) in str(caught.value)


def test_folds_keep_speakers_whole_and_corpora_even(clip: Clip) -> None:
    clips = [
        replace(clip, corpus=corpus, speaker=f"{corpus}:{speaker}")
        for corpus, speakers in (("a", 9), ("b", 4))
        for speaker in range(speakers)
        for _ in range(3)
    ]
    folds = speaker_folds(clips, 3, seed=0)
    assert folds == speaker_folds(list(reversed(clips)), 3, seed=0)
    assert folds != speaker_folds(clips, 3, seed=1)
    for corpus, most in (("a", 3), ("b", 2)):
        counts = [sum(1 for s, f in folds.items() if s[0] == corpus and f == k) for k in range(3)]
        assert max(counts) == most
        assert min(counts) >= 1
