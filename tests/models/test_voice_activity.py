"""Stepping the voice detector frame by frame is the same as running the whole file."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from faster_whisper.vad import get_vad_model
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emotrace_models.types import FloatArray
from emotrace_models.voice_activity import (
    FRAME_SAMPLES,
    VoiceDetector,
    VoiceDetectorUnavailable,
    asset_path,
)

CLIPS_A_CORPUS = 3
ROUNDING = 2e-5  # of Silero's own layout against ours, over whole files


@pytest.fixture(scope="module")
def detector() -> VoiceDetector:
    return VoiceDetector()


def _step(detector: VoiceDetector, sound: FloatArray) -> FloatArray:
    states = [detector.start()]
    probabilities = []
    for frame in sound.reshape(-1, 1, FRAME_SAMPLES):
        (probability,), states = detector.forward([frame], states)
        probabilities.append(probability[0])
    return np.array(probabilities)


def _whole(sound: FloatArray) -> FloatArray:
    """faster-whisper's own run over a file. It blanks the end of the last frame: add one more."""
    probabilities: FloatArray = get_vad_model()(np.append(sound, np.zeros(FRAME_SAMPLES, "f4")))
    return probabilities[:-1]


def _frames(samples: FloatArray) -> FloatArray:
    return samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].astype(np.float32)


@pytest.mark.parametrize("kind", ["noise", "silence", "tone", "full scale"])
def test_stepping_is_the_whole_file_on_synthetic_sound(detector: VoiceDetector, kind: str) -> None:
    time = np.arange(100 * FRAME_SAMPLES) / 16_000
    sound = {
        "noise": np.random.default_rng(0).normal(0, 0.1, len(time)),
        "silence": np.zeros(len(time)),
        "tone": 0.5 * np.sin(2 * np.pi * 220 * time),
        "full scale": np.sign(np.sin(2 * np.pi * 100 * time)),
    }[kind].astype(np.float32)
    np.testing.assert_allclose(_step(detector, sound), _whole(sound), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("corpus", ["emodb", "ravdess_speech", "nemo"])
def test_stepping_is_the_whole_file_on_speech_and_hears_it(
    detector: VoiceDetector, shared: Path, corpus: str
) -> None:
    folder = shared / "data" / corpus
    with (folder / "labels.csv").open() as stream:
        files = [row["file"] for row in csv.DictReader(stream)]
    chosen = files[:: len(files) // CLIPS_A_CORPUS][:CLIPS_A_CORPUS]
    assert len(chosen) == CLIPS_A_CORPUS
    for file in chosen:
        samples, rate = soundfile.read(folder / file, dtype="float32")
        assert rate == 16_000
        sound = _frames(samples)
        stepped = _step(detector, sound)
        np.testing.assert_allclose(stepped, _whole(sound), rtol=0, atol=ROUNDING)
        assert stepped.max() > 0.9


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.integers(0, 4).flatmap(
            lambda frames: arrays(
                np.float32,
                (frames, FRAME_SAMPLES),
                elements=st.floats(-1, 1, width=32),
                fill=st.just(0.25),
            )
        ),
        min_size=1,
        max_size=6,
    )
)
def test_company_and_cuts_change_no_bit(sounds: list[FloatArray]) -> None:
    detector = VoiceDetector()
    together, states = detector.forward(sounds, [detector.start() for _ in sounds])
    for sound, found, state in zip(sounds, together, states, strict=True):
        alone = detector.start()
        for frame, probability in zip(sound, found, strict=True):
            (one,), (alone,) = detector.forward([frame[np.newaxis]], [alone])
            assert one[0] == probability
        assert np.array_equal(alone.values, state.values)


@pytest.mark.parametrize("rows", [2, 3, 7, 16, 33, 100])
def test_company_of_any_size_changes_no_bit(detector: VoiceDetector, rows: int) -> None:
    sounds = list(np.random.default_rng(rows).normal(0, 0.1, (rows, 2, 512)).astype(np.float32))
    together, _ = detector.forward(sounds, [detector.start()] * rows)
    for sound, found in zip(sounds, together, strict=True):
        (alone,), _ = detector.forward([sound], [detector.start()])
        assert np.array_equal(found, alone)


def test_a_state_is_a_value(detector: VoiceDetector) -> None:
    frame = np.random.default_rng(0).normal(0, 0.2, (1, FRAME_SAMPLES)).astype(np.float32)
    _, (state,) = detector.forward([frame], [detector.start()])
    before = state.values.copy()
    first, _ = detector.forward([frame], [state])
    frame_again = frame.copy()
    frame[:] = 0.0  # the caller may reuse its buffer
    second, _ = detector.forward([frame_again], [state])
    assert np.array_equal(first, second)
    assert np.array_equal(state.values, before)


@pytest.mark.parametrize("shape", [(1, 256), (FRAME_SAMPLES,), (1, 1, FRAME_SAMPLES)])
def test_a_wrong_shape_is_refused(detector: VoiceDetector, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="sounds of shapes"):
        detector.forward([np.zeros(shape, np.float32)], [detector.start()])


def test_a_sound_without_a_state_is_refused(detector: VoiceDetector) -> None:
    with pytest.raises(ValueError, match="for 0 states"):
        detector.forward([np.zeros((1, FRAME_SAMPLES), np.float32)], [])


def test_a_missing_or_broken_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VoiceDetectorUnavailable, match="cannot be loaded"):
        VoiceDetector(tmp_path / "none.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(asset_path().read_bytes()[:1000])
    with pytest.raises(VoiceDetectorUnavailable, match=r"broken\.onnx cannot be loaded"):
        VoiceDetector(broken)


def test_another_network_is_refused(shared: Path) -> None:
    with pytest.raises(VoiceDetectorUnavailable, match="expected Silero VAD v6"):
        VoiceDetector(shared / "data" / "weights" / "silero_vad.onnx")


def test_a_missing_asset_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emotrace_models.voice_activity.find_spec", lambda _: None)
    with pytest.raises(VoiceDetectorUnavailable, match="pip install 'faster-whisper"):
        asset_path()


def test_it_loads_without_importing_faster_whisper_or_torch() -> None:
    code = (
        "import sys; from emotrace_models.voice_activity import VoiceDetector; VoiceDetector();"
        "sys.exit(bool({'faster_whisper', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
