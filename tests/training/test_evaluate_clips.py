"""`evaluate-clips`: which rows count, what is reported, and that the path is the live one."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emotrace_models.bundle import Bundle
from emotrace_models.labels import SCHEMES, LabelSetMismatch
from emotrace_models.predictor import Predictor
from emotrace_models.types import Utterance
from emotrace_training import evaluate_clips
from emotrace_training.evaluate_clips import evaluate
from emotrace_training.labelled_clips import LabelledClip, LabelsUnreadable, read_labels, read_sound
from emotrace_training.metrics import EmptyFold

NAMES = ("happy", "joy", "Angry", "calm", "sad", "surprised", "bliss")


@pytest.fixture(scope="module")
def predictor(toy: Path) -> Predictor:
    return Predictor(Bundle.load(toy))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven clips of two speakers, one file that is no audio, one that is not there."""
    base = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    rows = []
    for number, name in enumerate(NAMES):
        sound = rng.standard_normal(6_000 + 500 * number) * 0.1
        soundfile.write(base / f"{number}.wav", sound, 16_000)
        rows.append((f"{number}.wav", "xy"[number % 2], name, "test" if number < 5 else "train"))
    (base / "bad.wav").write_bytes(b"no sound")
    rows += [("bad.wav", "x", "sad", "test"), ("gone.wav", "x", "sad", "test")]
    with (base / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "speaker", "emotion", "split"])
        writer.writerows(rows)
    return base


def test_a_table_of_any_names(predictor: Predictor, folder: Path) -> None:
    clips, taken = read_labels(folder / "labels.csv", "all")
    assert taken == "all"
    found = evaluate(predictor, clips, folder, predictor.bundle.labels, 0)
    assert found["counts"] == {
        "rows": 9, "used": 5, "dropped_by_label": {"bliss": 1, "surprised": 1}, "unreadable": 2,
    }  # fmt: skip
    assert list(found["unreadable"]) == ["bad.wav", "gone.wav"]
    assert np.array(found["confusion"]).sum(axis=1).tolist() == [1, 2, 1, 1]
    assert 0 <= found["ece"] <= 1
    json.dumps(found)


def test_the_split_of_a_table(folder: Path, tmp_path: Path) -> None:
    table = folder / "labels.csv"
    assert read_labels(table, None)[1] == "test"
    assert len(read_labels(table, None)[0]) == 7
    assert len(read_labels(table, "train")[0]) == 2
    with pytest.raises(LabelsUnreadable, match="no rows of split 'dev'"):
        read_labels(table, "dev")
    plain = tmp_path / "plain.csv"
    plain.write_text("file,speaker,emotion\na.wav,x,sad\n")
    assert read_labels(plain, None) == ([LabelledClip("a.wav", "x", "sad")], "all")
    with pytest.raises(LabelsUnreadable, match="no column split"):
        read_labels(plain, "test")
    plain.write_text("file,emotion\na.wav,sad\n")
    with pytest.raises(LabelsUnreadable, match="no column speaker"):
        read_labels(plain, None)
    with pytest.raises(LabelsUnreadable, match="cannot be read"):
        read_labels(tmp_path / "gone.csv", None)


def test_clips_are_heard_as_a_live_session_hears_them(predictor: Predictor, folder: Path) -> None:
    """One by one through the Predictor, the speaker's state carried, context dropped."""
    clips = [c for c in read_labels(folder / "labels.csv", "all")[0] if c.file[0].isdigit()]
    labels = predictor.bundle.labels
    states = {}
    matrix = np.zeros((4, 4), dtype=int)
    known = {"happy": 1, "joy": 1, "Angry": 0, "calm": 2, "sad": 3}
    kept = [i for i, clip in enumerate(clips) if clip.emotion in known]
    for i in np.random.default_rng(5).permutation(kept):
        clip = clips[i]
        state = states.get(clip.speaker, predictor.start())
        sound = read_sound(folder / clip.file)
        ((after, outcome),) = predictor.predict(
            [(state, Utterance(0, clip.speaker, 0, len(sound), sound))]
        )
        states[clip.speaker] = replace(predictor.start(), speakers=after.speakers)
        matrix[known[clip.emotion], outcome.prediction.posterior.argmax()] += 1
    assert evaluate(predictor, clips, folder, labels, 5)["confusion"] == matrix.tolist()


def test_another_scheme(predictor: Predictor, folder: Path) -> None:
    clips, _ = read_labels(folder / "labels.csv", "all")
    seven = evaluate(predictor, clips, folder, SCHEMES["ekman7"], 0)
    assert seven["counts"]["used"] == 6
    assert seven["recall"]["surprise"] == 0, "a class that the bundle does not have"
    strict = evaluate(predictor, clips, folder, SCHEMES["iemocap4"], 0)
    assert strict["counts"]["dropped_by_label"]["calm"] == 1
    narrow = replace(SCHEMES["ekman7"], names=("anger", "fear"), merges=())
    with pytest.raises(LabelSetMismatch, match="no class for happiness, neutral, sadness"):
        evaluate(predictor, clips, folder, narrow, 0)


def test_nothing_left(predictor: Predictor, folder: Path) -> None:
    with pytest.raises(EmptyFold):
        evaluate(predictor, [LabelledClip("0.wav", "x", "bliss")], folder, SCHEMES["common4"], 0)


def test_sound_of_any_rate_and_number_of_channels(tmp_path: Path) -> None:
    t = np.arange(44_100) / 44_100
    stereo = np.stack([np.sin(2 * np.pi * 440 * t), np.zeros_like(t)], axis=1)
    soundfile.write(tmp_path / "s.flac", stereo, 44_100)
    found = read_sound(tmp_path / "s.flac")
    assert abs(len(found) - 16_000) <= 1
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(found)) / 16_000)
    np.testing.assert_allclose(found[500:-500], expected[500:-500], atol=1e-3)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    with pytest.raises(ValueError, match="empty"):
        read_sound(tmp_path / "empty.wav")


def test_the_command(toy: Path, folder: Path, invoke) -> None:
    arguments = ("--labels", folder / "labels.csv", "--root", folder, "--bundle", toy)
    found = json.loads(invoke(evaluate_clips.command, *arguments, "--json"))
    assert found["bundle"] == "toy"
    assert found["split"] == "test"
    assert found["counts"]["used"] == 5
    assert {"uar", "accuracy", "f1_weighted", "confusion", "ece", "classes"} <= set(found)
    assert "uar" in invoke(evaluate_clips.command, *arguments, "--split", "all")
    with_scheme = invoke(evaluate_clips.command, *arguments, "--scheme", "ekman7", "--json")
    assert json.loads(with_scheme)["scheme"] == "ekman7"
    invoke(evaluate_clips.command, *arguments, "--scheme", "ekman9", code=2)
    wrong = (*arguments[:5], folder)
    assert "no bundle" in invoke(evaluate_clips.command, *wrong, code=1)
