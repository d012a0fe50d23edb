"""`evaluate-robustness`: which clips, what is known of a speaker, and the live path."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fakes import toy_bundle

from emotrace_models.bundle import Bundle, BundleError
from emotrace_models.predictor import Predictor
from emotrace_models.types import Modality, Utterance
from emotrace_training import evaluate_robustness
from emotrace_training.degradations import Babble, white
from emotrace_training.evaluate_robustness import Ears, Row, Session
from emotrace_training.labelled_clips import LabelsUnreadable
from emotrace_training.robustness_clips import SPEECH, Clip, read_speech, sampled

EMOTIONS = ("happy", "angry", "calm", "sad", "surprised", "boredom")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three corpora of two test speakers and one training speaker, six clips each."""
    base = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for corpus in SPEECH:
        (base / corpus).mkdir()
        rows = []
        for speaker, split in (("a", "test"), ("b", "test"), ("c", "train")):
            for emotion in EMOTIONS:
                name = f"{speaker}-{emotion}.wav"
                sound = rng.standard_normal(int(rng.integers(4_000, 9_000))) * 0.1
                soundfile.write(base / corpus / name, sound, 16_000)
                rows.append((name, speaker, emotion, split))
        with (base / corpus / "labels.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([("file", "speaker", "emotion", "split"), *rows])
    return base


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("bundles") / "seven", scheme="ekman7")


@pytest.fixture(scope="module")
def session(data: Path, toy: Path) -> Session:
    clips, voices = read_speech(data, "test", 0)
    found = Session(Ears(Bundle.load(toy)), clips, Babble(voices), 7, {})
    found.measure(Row("alone", earlier=0), range(len(clips)))
    return found


def test_clips_of_a_split(data: Path) -> None:
    clips, voices = read_speech(data, "test", 0)
    assert len(clips) == 3 * 2 * 5, "boredom is none of the seven"
    assert {clip.emotion for clip in clips} == {
        "happiness", "anger", "neutral", "sadness", "surprise",
    }  # fmt: skip
    assert {clip.speaker for clip in clips} == {f"{c}:{s}" for c in SPEECH for s in "ab"}
    known = {clip.samples.tobytes() for clip in clips}
    assert len(voices) == 3 * 6
    assert not known & {voice.tobytes() for voice in voices}, "babble is of other voices"
    with pytest.raises(LabelsUnreadable, match="valid or test"):
        read_speech(data, "train", 0)


def test_a_sample_is_even(data: Path) -> None:
    silence = np.zeros(1, np.float32)
    sizes = {("x", "anger"): 50, ("x", "fear"): 4, ("y", "anger"): 30}
    clips = [Clip("c", s, e, silence) for (s, e), n in sizes.items() for _ in range(n)]
    clips += [Clip("d", "z", "fear", silence) for _ in range(3)]
    chosen = [clips[i] for i in sampled(clips, 24, 0)]
    counts = {key: sum((c.speaker, c.emotion) == key for c in chosen) for key in sizes}
    assert counts == {("x", "anger"): 10, ("x", "fear"): 4, ("y", "anger"): 10}
    assert sum(c.corpus == "d" for c in chosen) == 3
    assert sampled(clips, 24, 0) != sampled(clips, 24, 1)


def test_sessions_are_heard_as_live_ones(session: Session, toy: Path) -> None:
    """One by one through the Predictor, the speaker's state carried, noise on everything."""
    predictor = Predictor(Bundle.load(toy))
    clips = session.clips
    row = Row("noise", change=white(5.0))
    expected, states = {}, {}
    for i in np.random.default_rng(7).permutation(len(clips)):
        clip = clips[i]
        sound = row.change(clip.samples, session.babble, np.random.default_rng([7, i]))
        state = states.get(clip.speaker, predictor.start())
        spoken = Utterance(0, clip.speaker, 0, len(sound), sound)
        ((after, outcome),) = predictor.predict([(state, spoken)])
        states[clip.speaker] = replace(predictor.start(), speakers=after.speakers)
        expected[int(i)] = {"common4": int(outcome.prediction.posterior.argmax())}
    assert session.measure(row, range(len(clips))) == expected


def test_a_past_that_is_put_together_is_one_that_was_heard(session: Session) -> None:
    clips = session.clips
    own = [i for i, clip in enumerate(clips) if clip.speaker == "emodb:a"]
    said = own[:3]
    state = session.ears.predictor.start()
    for i in said:
        spoken = Utterance(i, "emodb:a", 0, len(clips[i].samples), clips[i].samples)
        (one,) = session.ears.predictor.encode([(state, spoken)])
        state = one.state
    built = session.ears.knowing("emodb:a", [session.alone[i] for i in said])
    ((heard, known),) = [(s.speakers["acoustic", "emodb:a"].moments for s in (state, built))]
    np.testing.assert_allclose(heard, known, rtol=1e-5)


def test_which_past_a_row_has(session: Session) -> None:
    clips = session.clips
    every = range(len(clips))
    pasts = session._drawn(Row("", earlier=3), every)
    for i, past in pasts.items():
        assert len(past) == len(set(past)) == 3
        assert i not in past
        assert {clips[j].speaker for j in past} == {clips[i].speaker}
    many = session._drawn(Row("", earlier=16), every)
    assert {len(past) for past in many.values()} == {16}, "again where there are too few"
    twice = Session(session.ears, [*clips, *clips], session.babble, 7, {})
    twice.alone = {**session.alone, **{i + len(clips): m for i, m in session.alone.items()}}
    alike = twice._drawn(Row("", earlier=4, alike=True), every)
    assert all(past == [i + len(clips)] * 4 for i, past in alike.items())
    before = session._before(every)
    assert sorted(len(past) for past in before.values()) == sorted([0, 1, 2, 3, 4] * 6)


def test_other_encoders_are_refused(tmp_path: Path) -> None:
    words = toy_bundle(tmp_path / "words", modalities=(Modality.LEXICAL,))
    with pytest.raises(BundleError, match="no encoder compact_acoustic"):
        Ears(Bundle.load(words))


def test_the_command(data: Path, seven: Path, tmp_path: Path, invoke) -> None:
    table = invoke(
        evaluate_robustness.command, "--bundle", seven, "--bundle", seven, "--data", data,
        "--most", 3, "--out", tmp_path,
    )  # fmt: skip
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["clips"] == dict.fromkeys(SPEECH, 10)
    first, second = report["uar"]
    assert set(second) == set(report["headline"]) < set(first)
    assert all(first[row] == second[row] for row in second), "same bundle, same seed"
    for views in first.values():
        assert set(views) == {"ekman7"}, "the toy has no view of four classes"
        scores = [views["ekman7"][corpus] for corpus in SPEECH]
        assert views["ekman7"]["mean"] == pytest.approx(np.mean(scores))
    assert table.rstrip() + "\n" == (tmp_path / "table.md").read_text()
    assert len(table.rstrip().splitlines()) == 4 + len(evaluate_robustness.ROWS)
    assert (tmp_path / "robustness.png").read_bytes().startswith(b"\x89PNG")
    wrong = invoke(evaluate_robustness.command, "--bundle", seven, "--data", tmp_path, code=1)
    assert "labels.csv" in wrong
