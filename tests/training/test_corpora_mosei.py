"""CMU-MOSEI: the tree in miniature, folds in each form, and what is broken."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from corpus_trees import MOSEI_FOLDS, mosei, tone

from emotrace_training.corpora.loading import Settings
from emotrace_training.corpora.mosei import read_mosei
from emotrace_training.corpora.video_folds import read_folds
from emotrace_training.manifests import (
    ManifestError,
    read_manifest,
    read_sound,
    write_manifest,
)

UNRATED = "transcript segment without label"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return mosei(tmp_path)


def test_12_11_mosei_tree(tree: Path, tmp_path: Path) -> None:
    loaded = read_mosei(tree, Settings())
    assert len(loaded.records) == 5
    assert loaded.counts() == {UNRATED: 1}
    assert loaded.notes == {"segments whose number differs from their label's": 1}
    assert loaded.faults[0].place.endswith("Combined/zz9.txt:2")
    assert [(r.id, r.split, r.emotion, r.label_raw, r.text) for r in loaded.records] == [
        ("-3g5yACwYnA_0", "train", "happiness", "sentiment 1", "I love it."),
        ("-3g5yACwYnA_1", "train", "unknown", "sentiment 0", "It has pages."),
        ("x__y_1_0", "valid", "disgust", "sentiment -3", "Yuck ___ really."),
        ("x__y_1_1", "valid", "sadness", "sentiment -1", "Sad and mad."),
        ("zz9_0", "test", "fear", "sentiment 0", "Help."),
    ]
    assert loaded.records[1].flags == ("no_emotion",)
    assert loaded.records[3].scores == {
        "happiness": 0.0, "sadness": 1.0, "anger": 1.0, "surprise": 0.0, "disgust": 0.0,
        "fear": 0.5,
    }  # fmt: skip
    write_manifest(tmp_path / "m.jsonl", loaded.records)
    assert read_manifest(tmp_path / "m.jsonl") == loaded.records


def test_sound_and_film_are_parts_of_the_whole_video(tree: Path) -> None:
    records = {r.id: r for r in read_mosei(tree, Settings()).records}
    own, whole = records["-3g5yACwYnA_0"], records["-3g5yACwYnA_1"]
    assert own.video is not None
    assert own.video.endswith("Segmented/Combined/-3g5yACwYnA_0.mp4")
    assert (own.video_span, own.span) == (None, (0.0, 0.5))
    assert whole.video is not None
    assert whole.video.endswith("Full/Combined/-3g5yACwYnA.mp4")
    assert whole.video_span == whole.span == (0.6, 1.2)
    assert len(read_sound(whole)) == 9_600


def test_without_folds_no_record_has_a_split(tree: Path) -> None:
    (tree / "folds.json").unlink()
    loaded = read_mosei(tree, Settings())
    assert loaded.counts() == {UNRATED: 1, "no folds given": 1}
    assert "cmu_mosei_std_folds.py" in next(
        f.detail for f in loaded.faults if "--folds" in f.detail
    )
    assert {r.split for r in loaded.records} == {""}


def test_folds_in_each_form(tree: Path, tmp_path: Path) -> None:
    expected = {"-3g5yACwYnA": "train", "x__y_1": "valid", "zz9": "test"}
    lines = "".join(f"standard_{name}_fold = {ids!r}\n" for name, ids in MOSEI_FOLDS.items())
    python = tmp_path / "cmu_mosei_std_folds.py"
    python.write_text("import os\nos.abort()\n" + lines)  # read, not run
    assert read_folds(python) == read_folds(tree / "folds.json") == expected
    loaded = read_mosei(tree, Settings(folds=python))
    assert {r.dialogue: r.split for r in loaded.records} == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("f.json", "{", "f.json:1: is not JSON"),
        ("f.json", "[]", "is not {"),
        ("f.json", '{"train": ["a"], "valid": "b", "test": ["c"]}', "valid is no list"),
        ("f.json", '{"train": ["a"], "valid": ["a"], "test": ["c"]}', "a stands in train and"),
        ("f.json", '{"train": ["a"], "test": ["c"]}', "no ids of valid"),
        ("f.py", "standard_train_fold = [", "f.py:1: is not Python"),
    ],
)
def test_folds_that_cannot_be_read(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ManifestError, match=message):
        read_folds(tmp_path / name)


def test_what_is_broken_is_counted(tree: Path) -> None:
    raw = tree / "Raw"
    tone(raw / "Audio" / "Full" / "WAV_16000" / "x__y_1.wav", seconds=1.3)
    (raw / "Audio" / "Full" / "WAV_16000" / "zz9.wav").unlink()
    said = raw / "Transcript" / "Segmented" / "Combined" / "-3g5yACwYnA.txt"
    said.write_text("-3g5yACwYnA___0___0.3___0.5___Late.\nother___1___0.6___1.2___Not mine.\n")
    with h5py.File(tree / "CMU_MOSEI_Labels.csd", "a") as sequence:
        sequence["All Labels/data/x__y_1/features"][1, 3] = np.nan
    (tree / "folds.json").write_text(json.dumps({**MOSEI_FOLDS, "test": ["another"]}))
    loaded = read_mosei(tree, Settings())
    assert loaded.counts() == {
        "label cannot be read": 1, "label without transcript segment": 2, "missing media": 1,
        "segment ends after its sound": 1, "transcript line cannot be read": 1, UNRATED: 2,
        "video in no fold": 1,
    }  # fmt: skip
    assert [r.id for r in loaded.records] == ["-3g5yACwYnA_0", "-3g5yACwYnA_1", "x__y_1_1"]
    cut = loaded.records[2]
    assert (cut.span, cut.flags) == ((1.0, 1.3), ("cut",))
    kept = read_mosei(tree, Settings(on_missing="zero"))
    assert kept.records[-1].flags == ("no_audio",)
    assert len(kept.records) == 4


def test_no_sequence_of_labels(tree: Path) -> None:
    labels = tree / "CMU_MOSEI_Labels.csd"
    labels.write_bytes(b"no HDF5")
    with pytest.raises(ManifestError, match="is no sequence of labels"):
        read_mosei(tree, Settings())
    labels.unlink()
    with h5py.File(labels, "w") as sequence:
        sequence.create_group("COVAREP")
    with pytest.raises(ManifestError, match=r"no group 'All Labels'; it has \['COVAREP'\]"):
        read_mosei(tree, Settings())
    labels.unlink()
    with pytest.raises(ManifestError, match=r"0 files called CMU_MOSEI_Labels\.csd"):
        read_mosei(tree, Settings())
