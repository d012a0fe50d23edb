"""Speech corpora into manifests: on the real folders where they are, and on a made one."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emotrace_training.corpora.emodb import SENTENCES, read_emodb
from emotrace_training.corpora.labels_csv import read_labels_csv
from emotrace_training.corpora.loading import Loaded, Settings
from emotrace_training.corpora.nemo import read_nemo
from emotrace_training.corpora.ravdess import read_ravdess
from emotrace_training.manifests import ManifestError, Record

Row = dict[str, str]
GOOD: Row = {"file": "audio/a.wav", "speaker": "7", "emotion": "joy", "split": "train"}


def folder_of(path: Path, rows: list[Row], **columns: str) -> Path:
    (path / "audio").mkdir(parents=True)
    soundfile.write(path / "audio" / "a.wav", np.zeros(1_600, np.float32), 16_000)
    with (path / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        names = ["file", "speaker", "emotion", "split", "seconds", *columns]
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows({"seconds": "0.1", **columns, **row} for row in rows)
    return path


def read(path: Path) -> list[Record]:
    return read_labels_csv(path, "toy", "en", "CC0-1.0", lambda row: "").records


@pytest.mark.parametrize(
    ("name", "loader", "clips", "speakers", "emotions"),
    [
        ("emodb", read_emodb, 408, 8, 7),
        ("ravdess_speech", read_ravdess, 1_320, 22, 8),
        ("nemo", read_nemo, 3_942, 8, 6),
    ],
)
def test_12_11_the_real_folders(
    shared: Path,
    name: str,
    loader: Callable[[Path, Settings], Loaded],
    clips: int,
    speakers: int,
    emotions: int,
) -> None:
    found = loader(shared / "data" / name, Settings()).records
    assert len(found) == clips
    assert len({clip.speaker for clip in found}) == speakers
    assert len({clip.emotion for clip in found}) == emotions
    assert all(clip.text and clip.licence and 0.2 < clip.seconds < 20 for clip in found)
    splits: dict[str, set[str]] = {}
    for clip in found:
        splits.setdefault(clip.speaker, set()).add(clip.split)
    assert all(len(names) == 1 for names in splits.values()), "a speaker stands in two splits"


def test_names_are_made_canonical(tmp_path: Path) -> None:
    (found,) = read(folder_of(tmp_path / "toy", [{**GOOD, "emotion": "Fearful"}], gender="f"))
    assert (found.emotion, found.label_raw, found.split) == ("fear", "Fearful", "train")
    assert (found.id, found.speaker, found.gender) == ("a", "toy:7", "female")


def test_the_words_of_emodb(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "emodb", [GOOD], text_code="b10")
    found = read_emodb(folder, Settings()).records
    assert found[0].text == SENTENCES["b10"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"emotion": "zeal"}, "no emotion is called 'zeal'"),
        ({"split": "dev"}, "'dev' is no split"),
        ({"file": "audio/b.wav"}, "no audio at"),
        ({"seconds": "long"}, "could not convert"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, change: Row, message: str) -> None:
    path = folder_of(tmp_path / "toy", [GOOD, {**GOOD, **change}])
    with pytest.raises(ManifestError, match=message) as caught:
        read(path)
    assert "labels.csv:3" in str(caught.value)


def test_no_folder_no_column_no_clips(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="No such file"):
        read(tmp_path)
    (tmp_path / "labels.csv").write_text("file,speaker\n")
    with pytest.raises(ManifestError, match="no column emotion, split, seconds"):
        read(tmp_path)
    with pytest.raises(ManifestError, match="lists no clips"):
        read(folder_of(tmp_path / "toy", []))


def test_a_clip_that_comes_twice_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"labels.csv:3: a stands in .*labels.csv:2 too"):
        read(folder_of(tmp_path / "toy", [GOOD, GOOD]))
