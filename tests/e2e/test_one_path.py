"""Live stream, file endpoint and training's evaluation give the same numbers for the same sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from live import DEMO, demo_pcm, live_server, pieces, post_file, stream

from emotrace_models.bundle import Bundle, bundle_path
from emotrace_models.predictor import Predictor
from emotrace_protocol.events import EmotionFinal
from emotrace_protocol.messages import SessionStart
from emotrace_training.compose import ComposedDialogue, Turn
from emotrace_training.evaluated_dialogues import pass_through

TOLERANCE = 1e-5


@pytest.fixture(params=["toy", "default", "free"])
def bundle(request: pytest.FixtureRequest, toy: Path) -> Path:
    return toy if request.param == "toy" else bundle_path(request.param)


async def test_live_equals_file_equals_training(bundle: Path, tmp_path: Path) -> None:
    audio, pcm = demo_pcm()
    speakers = ("Ann", "Ben")
    with live_server(bundle) as server:
        start = SessionStart(audio=audio, speakers=speakers, interim=False)
        _, heard, _ = await stream(server, start, pieces(pcm, 6_400))
        answer = post_file(server, DEMO.read_bytes(), {"speakers": speakers}).json()
    live = [event for event in heard if isinstance(event, EmotionFinal)]
    file = [event for event in answer["events"] if event["type"] == "emotion.final"]
    assert len(live) == len(file) >= 6
    trained = training_posteriors(bundle, live, audio.sample_rate, speakers, tmp_path)
    for event, from_file, row in zip(live, file, trained, strict=True):
        assert event.posterior == pytest.approx(from_file["posterior"], abs=TOLERANCE)
        assert list(event.posterior.values()) == pytest.approx(list(row), abs=TOLERANCE)


def training_posteriors(
    bundle: Path,
    finals: list[EmotionFinal],
    rate: int,
    speakers: tuple[str, ...],
    folder: Path,
) -> np.ndarray:
    """The utterances cut out as clips, in one composed dialogue, as training evaluates it."""
    samples, _ = soundfile.read(DEMO, dtype="int16", always_2d=True)
    turns = []
    for final in finals:
        clip = folder / f"{final.utterance}.flac"
        first, last = (at * rate // 1_000 for at in (final.start_ms, final.end_ms))
        soundfile.write(clip, samples[first:last, speakers.index(final.speaker)], rate)
        turns.append(Turn(final.speaker, "", "neutral", str(clip)))
    dialogue = ComposedDialogue("demo", "demo", {}, tuple(turns))
    return pass_through(Predictor(Bundle.load(bundle)), [dialogue]).posterior
