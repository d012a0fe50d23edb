"""`evaluate-clips`: which rows count, what is reported, and that the path is the live one."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fakes import toy_bundle

from emotrace_models.bundle import Bundle, View
from emotrace_models.calibration import Calibration
from emotrace_models.decoding import DecoderConfig
from emotrace_models.labels import SCHEMES, LabelSetMismatch
from emotrace_models.predictor import Predictor
from emotrace_models.types import Modality, Utterance
from emotrace_training import evaluate_clips
from emotrace_training.clip_features import hear, predictions, shown
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
    table = folder / "labels.csv"
    assert set(found["unreadable"]) == {f"{table}:9", f"{table}:10"}
    assert found["unreadable"][f"{table}:9"].startswith("bad.wav: ")
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
    with pytest.raises(LabelsUnreadable, match="No such file"):
        read_labels(tmp_path / "gone.csv", None)


def test_further_columns(tmp_path: Path) -> None:
    table = tmp_path / "l.jsonl"
    table.write_text(
        '{"file": "a.wav", "speaker": "x", "label": "sad", "from": 0.5, "to": 1, "mood": "m"}\n'
        '{"file": "b.wav", "speaker": "x", "emotion": "joy", "text": "hi", "language": "en"}\n'
    )
    first, second = read_labels(table, None)[0]
    assert first == LabelledClip("a.wav", "x", "sad", span=(0.5, 1.0))
    assert (first.place, first.facts["mood"]) == (f"{table}:1", "m")
    assert second == LabelledClip("b.wav", "x", "joy", "hi", "en")
    for row, message in (
        ('"file": ""', "2: no file"),
        ('"file": "a.wav", "start": 2, "end": 1', "2: start 2.0 and end 1.0 do not go forward"),
        ('"file": "a.wav", "from": 2', "2: from and to are seconds, both or neither"),
    ):
        table.write_text(f'{{"file": "a", "speaker": "x", "emotion": "sad"}}\n{{{row}}}\n')
        with pytest.raises(LabelsUnreadable, match=f"jsonl:{message}"):
            read_labels(table, None)


def test_a_part_of_a_file(predictor: Predictor, folder: Path) -> None:
    """Seconds 0.1 to 0.3 of a file are heard as a file of them would be."""
    sound = read_sound(folder / "0.wav")
    part = LabelledClip("0.wav", "x", "sad", span=(0.1, 0.3))
    heard = hear(predictor, [part], [0], folder, 0)
    ((_, alone),) = predictor.predict(
        [(predictor.start(), Utterance(0, "x", 0, 3_200, sound[1_600:4_800]))]
    )
    assert predictions(predictor, heard.features)[0].posterior == pytest.approx(
        alone.prediction.posterior
    )


def test_words_count_only_where_asked_for(predictor: Predictor, folder: Path) -> None:
    said = LabelledClip("0.wav", "x", "sad", text="i lost it all")
    without = predictions(predictor, hear(predictor, [said], [0], folder, 0).features)[0]
    heard = hear(predictor, [said], [0], folder, 0, words=True)
    both = predictions(predictor, heard.features)[0]
    assert without.used == (Modality.ACOUSTIC,)
    assert both.used == (Modality.ACOUSTIC, Modality.LEXICAL)
    deaf = shown(heard.features[0], predictor.bundle, [Modality.ACOUSTIC])
    assert predictions(predictor, [deaf])[0].logits.tolist() == without.logits.tolist()


def test_a_view_is_measured_as_a_session_gets_it(tmp_path: Path, folder: Path, invoke) -> None:
    wide = Bundle.load(toy_bundle(tmp_path / "toy", scheme="ekman7"))
    view = View(Calibration({"acoustic": 3.0}), DecoderConfig(p0=0.5))
    replace(wide, views={"common4": view}).save(tmp_path / "wide")
    arguments = ("--labels", folder / "labels.csv", "--root", folder, "--json", "--bundle")
    found = json.loads(
        invoke(evaluate_clips.command, *arguments, tmp_path / "wide", "--scheme", "common4")
    )
    predictor = Predictor(Bundle.load(tmp_path / "wide").projected("common4"))
    clips = read_labels(folder / "labels.csv", None)[0]
    expected = evaluate(predictor, clips, folder, SCHEMES["common4"], 0)
    assert {key: found[key] for key in expected} == json.loads(json.dumps(expected))
    arguments = (*arguments, tmp_path / "toy", "--scheme", "common4")
    assert "common4 has no class for" in invoke(evaluate_clips.command, *arguments, code=1)


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
