"""Speech corpora into manifests: on the real folders where they are, and on a made one."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner

from emotrace_training.corpora.clips import read_clips
from emotrace_training.corpora.emodb import SENTENCES, prepare_emodb
from emotrace_training.corpora.nemo import prepare_nemo
from emotrace_training.corpora.ravdess import prepare_ravdess
from emotrace_training.manifests import ManifestError, Record, read_manifest
from emotrace_training.prepare import command

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
    return read_clips(path, "toy", "en", "CC0-1.0", lambda row: "")


@pytest.mark.parametrize(
    ("name", "prepare", "clips", "speakers", "emotions"),
    [
        ("emodb", prepare_emodb, 408, 8, 7),
        ("ravdess_speech", prepare_ravdess, 1_320, 22, 8),
        ("nemo", prepare_nemo, 3_942, 8, 6),
    ],
)
def test_the_real_folders(
    shared: Path,
    name: str,
    prepare: Callable[[Path], list[Record]],
    clips: int,
    speakers: int,
    emotions: int,
) -> None:
    found = prepare(shared / "data" / name)
    assert len(found) == clips
    assert len({clip.speaker for clip in found}) == speakers
    assert len({clip.emotion for clip in found}) == emotions
    assert all(clip.text and clip.licence and 0.2 < clip.seconds < 20 for clip in found)
    splits: dict[str, set[str]] = {}
    for clip in found:
        splits.setdefault(clip.speaker, set()).add(clip.split)
    assert all(len(names) == 1 for names in splits.values()), "a speaker stands in two splits"


def test_names_are_made_canonical(tmp_path: Path) -> None:
    rows = [GOOD, {**GOOD, "emotion": "Fearful", "split": "test"}]
    found = read(folder_of(tmp_path / "toy", rows))
    assert [(c.emotion, c.split, c.speaker) for c in found] == [
        ("happiness", "train", "toy:7"),
        ("fear", "test", "toy:7"),
    ]


def test_the_words_of_emodb(tmp_path: Path) -> None:
    found = prepare_emodb(folder_of(tmp_path / "emodb", [GOOD], text_code="b10"))
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


def test_the_command(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    rows = [{**GOOD, "file": f"audio/{s}.wav", "split": s} for s in ("train", "test")]
    folder = folder_of(tmp_path / "nemo", rows, text="Tak.")
    for row in rows:
        (folder / row["file"]).write_bytes((folder / "audio" / "a.wav").read_bytes())
    manifest = tmp_path / "manifest.jsonl"
    arguments = ["--data", str(tmp_path), "--manifest", str(manifest), "--corpus"]
    done = CliRunner().invoke(app, [*arguments, "nemo"])
    assert done.exit_code == 0, done.output
    found = read_manifest(manifest, splits=("train", "test"))
    assert Counter(clip.text for clip in found) == {"Tak.": 2}
    missing = CliRunner().invoke(app, [*arguments, "emodb"])
    assert missing.exit_code == 1
    assert "labels.csv" in missing.output
    unknown = CliRunner().invoke(app, [*arguments, "iemocap"])
    assert unknown.exit_code == 2
    assert "no corpus" in unknown.output
