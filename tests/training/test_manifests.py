"""Manifests of clips: what is written is read, and every fault names its line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emotrace_training.folds import speaker_folds
from emotrace_training.manifests import (
    ManifestError,
    Record,
    as_json,
    read_clips,
    read_manifest,
    read_sound,
    write_manifest,
)


@pytest.fixture
def clip(tmp_path: Path) -> Record:
    file = tmp_path / "one.wav"
    soundfile.write(file, np.zeros(1_600, np.float32), 16_000)
    return Record.alone(
        file.as_posix(), "toy", "toy:a", "anger", "train", 0.1, "Zażółć.", "pl", "CC0-1.0"
    )


def test_there_and_back(tmp_path: Path, clip: Record) -> None:
    path = tmp_path / "deep" / "manifest.jsonl"
    clips = [
        clip,
        replace(clip, id="b", split="test", text="one\u2028text", span=(0.0, 0.1), flags=("odd",)),
        replace(clip, id="c", file=None, split="", scores={"anger": 0.5}),
    ]
    write_manifest(path, clips)
    found = read_manifest(path, splits=("train", "test"))
    assert found == clips
    assert found[2].place == f"{path}:3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"emotion": "joyfulness"}, "'joyfulness' is no canonical emotion"),
        ({"split": "dev"}, "split: Input should be 'train', 'valid', 'test' or ''"),
        ({"file": "nowhere.wav"}, "no file nowhere.wav"),
        ({"video": "nowhere.mp4"}, "no file nowhere.mp4"),
        ({"span": [1.0, 0.5]}, "does not go forward"),
        ({"seconds": float("nan")}, "seconds: Input should be a finite number"),
        ({"scores": {"zeal": 1.0}}, "'zeal' is no canonical emotion"),
        ({"colour": "red"}, "colour: Unexpected"),
        ({}, "id 'one' of corpus toy stands in .*:1 too"),
    ],
)
def test_a_bad_line_is_named(
    tmp_path: Path, clip: Record, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "manifest.jsonl"
    lines = [as_json(clip), {**as_json(clip), **change}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ManifestError, match=message) as caught:
        read_manifest(path)
    assert f"{path}:2" in str(caught.value)


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"file": "x"}'])
def test_what_is_no_record(tmp_path: Path, line: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ManifestError, match=r"manifest.jsonl:1: not a record"):
        read_manifest(path)


def test_an_empty_split_and_a_missing_file(tmp_path: Path, clip: Record) -> None:
    path = tmp_path / "manifest.jsonl"
    with pytest.raises(ManifestError, match="emotrace-train prepare"):
        read_manifest(path)
    write_manifest(path, [clip])
    with pytest.raises(ManifestError, match="no record of split 'test'"):
        read_manifest(path, splits=("train", "test"))


def test_the_voice_pipeline_takes_whole_files_with_a_split(tmp_path: Path, clip: Record) -> None:
    path = tmp_path / "manifest.jsonl"
    write_manifest(path, [clip, replace(clip, id="text", file=None)])
    assert read_clips(path, ("train",)) == [clip]
    for change, message in (
        ({"span": (0.0, 0.1)}, r":1: is a part of .*one\.wav"),
        ({"split": ""}, ":1: has no split"),
    ):
        write_manifest(path, [replace(clip, **change)])
        with pytest.raises(ManifestError, match=message):
            read_clips(path)


def test_any_rate_and_channels_become_16_khz_mono(tmp_path: Path, clip: Record) -> None:
    t = np.arange(48_000) / 48_000
    wave = 0.1 * np.sin(2 * np.pi * 440 * t)
    file = tmp_path / "stereo.wav"
    soundfile.write(file, np.stack([wave, 0 * wave], axis=1), 48_000)
    stereo = replace(clip, file=file.as_posix())
    whole = read_sound(stereo)
    expected = 0.05 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert whole.dtype == np.float32
    assert np.abs(whole - expected)[800:-800].max() < 1e-3
    part = read_sound(replace(stereo, span=(0.25, 0.75)))
    assert part.shape == (8_000,)
    assert np.abs(part - expected[4_000:12_000])[800:-800].max() < 1e-3


def test_audio_that_cannot_be_used(tmp_path: Path, clip: Record) -> None:
    assert read_sound(clip).shape == (1_600,)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, np.zeros(0, np.float32), 16_000)
    film = tmp_path / "film.mp4"
    film.write_bytes(b"")
    for file, message in (
        (broken, "cannot be read as audio"),
        (tmp_path / "absent.wav", "cannot be read as audio"),
        (empty, "empty or not finite"),
        (film, "cannot be read as audio"),
    ):
        with pytest.raises(ManifestError, match=message) as caught:
            read_sound(replace(clip, file=file.as_posix(), place="manifest.jsonl:7"))
        assert f"manifest.jsonl:7: {file}" in str(caught.value)
    with pytest.raises(ManifestError, match=r"manifest.jsonl:7: .*'one' has no audio"):
        read_sound(replace(clip, file=None, place="manifest.jsonl:7"))


def test_folds_keep_speakers_whole_and_corpora_even(clip: Record) -> None:
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
