"""Sound that is no speech: no words, no estimate, and a dialogue that it does not touch."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile
from doubles import QUIET, TURN, EnergyBackend, Stage, silence, speech
from nonspeech import KINDS, non_speech

from emotrace_models.bundle import Bundle
from emotrace_models.types import FloatArray, Transcript, Utterance
from emotrace_models.voice_activity import VoiceDetector, VoiceState
from emotrace_protocol.messages import (
    Endpointing,
    Marker,
    SessionEnd,
    SessionStart,
    Transcription,
    UtteranceText,
)
from emotrace_service.analysis import analyze
from emotrace_service.inference import Detected

SEED = 200  # of sounds on which no threshold was settled
INVENTED = "Thank you for watching! I am so happy."


def noise(seconds: float) -> bytes:
    """What `EnergyBackend` takes for speech and nobody said."""
    samples = np.random.default_rng(SEED).normal(0, 0.2, int(seconds * 16_000))
    return (samples.clip(-1, 1) * 32_767).astype("<i2").tobytes()


NO_TURN = noise(1.0) + silence(0.6)


async def test_noise_is_rejected_and_counted(stage: Stage) -> None:
    stage.backend.words = INVENTED
    socket = await stage.play(QUIET, NO_TURN, Marker(id="m"), TURN, SessionEnd())
    assert socket.types == [
        "session.started",
        "speech.started",
        "speech.ended",
        "speech.rejected",
        "marker.reached",
        "speech.started",
        "speech.ended",
        "transcript.final",
        "emotion.final",
        "session.ended",
    ]
    ended, (rejected,) = socket.of("speech.ended")[0], socket.of("speech.rejected")
    assert rejected.reason == "noise"
    place = ("utterance", "speaker", "start_ms", "end_ms")
    assert [getattr(rejected, name) for name in place] == [getattr(ended, name) for name in place]
    totals = socket.heard[-1].totals
    assert (totals.utterances, totals.rejected, totals.finals, totals.failed) == (2, 1, 1, 0)
    assert stage.metric("emotrace_utterances_total", result="rejected") == 1
    assert stage.metric("emotrace_rejections_total", reason="noise") == 1


async def test_nothing_is_computed_for_it(stage: Stage) -> None:
    stage.backend.words = INVENTED
    transcribed: list[int] = []
    heard = stage.backend.transcribe

    async def transcribe(utterance: Utterance, language: str | None) -> Transcript | None:
        transcribed.append(utterance.index)
        return await heard(utterance, language)

    stage.backend.transcribe = transcribe  # type: ignore[method-assign]
    await stage.play(QUIET, NO_TURN, TURN, NO_TURN, SessionEnd())
    assert transcribed == [1]
    assert [utterance.index for utterance in stage.backend.predicted] == [1]


async def test_a_dialogue_is_what_it_is_without_it(toy: Path) -> None:
    """Also with words that a client or a recogniser invents for it: equal, not nearly equal."""
    turns = [speech(1.0), speech(1.6), speech(0.8)]
    before = silence(0.32)  # so that the first turn, too, has a rest before it
    plain = await Stage(toy).play(
        QUIET, before, *(turn + silence(0.6) for turn in turns), SessionEnd()
    )
    finals = [_estimate(final) for final in plain.of("emotion.final")]
    assert len(finals) == 3

    mixed = Stage(toy, audio_queue_ms=60_000)
    hearing = await mixed.play(
        QUIET, NO_TURN, *(turn + silence(0.6) + NO_TURN for turn in turns), SessionEnd()
    )
    assert [_estimate(final) for final in hearing.of("emotion.final")] == finals
    assert len(hearing.of("speech.rejected")) == 4

    inventing = Stage(toy, text_wait_ms=0)
    socket, task = inventing.session()
    socket.say(SessionStart(interim=False, transcription=Transcription.CLIENT))
    index = 0
    for turn in turns:
        socket.say(noise(1.0))
        await socket.until("speech.started")
        socket.say(UtteranceText(text=INVENTED, utterance=index), silence(0.6))
        await socket.until("speech.rejected")
        socket.say(turn + silence(0.6))
        await socket.until("emotion.final")
        index += 2
    socket.say(SessionEnd())
    await task
    assert [_estimate(final) for final in socket.of("emotion.final")] == finals
    assert "transcript.final" not in socket.types


def _estimate(final: object) -> tuple[object, ...]:
    fields = ("posterior", "label", "confidence", "abstained", "decoder", "doubts", "quality")
    return tuple(getattr(final, name) for name in fields)


async def test_words_that_come_after_the_rejection_are_late(toy: Path) -> None:
    stage = Stage(toy, text_wait_ms=10_000)
    socket, task = stage.session()
    socket.say(SessionStart(interim=False, transcription=Transcription.CLIENT), NO_TURN)
    await socket.until("speech.rejected")  # it did not wait for words
    socket.say(UtteranceText(text=INVENTED, utterance=0), SessionEnd())
    await task
    assert [warning.code for warning in socket.of("warning")] == ["text_late"]


async def test_no_interim_estimates_of_it(stage: Stage) -> None:
    socket, task = stage.session()
    socket.say(SessionStart(), noise(2.5), Marker(id="settled"))
    await socket.until("marker.reached")
    socket.say(silence(0.6), SessionEnd())
    await task
    assert not socket.of("emotion.interim")
    assert stage.metric("emotrace_interims_total", result="withheld") >= 1
    assert not stage.backend.predicted


async def test_an_interim_and_a_final_say_how_good_the_sound_was(stage: Stage) -> None:
    socket, task = stage.session()
    socket.say(SessionStart(), speech(1.5))
    await socket.until("emotion.interim")  # the first hears little
    socket.say(silence(0.3))
    interim = await socket.until("emotion.interim")
    socket.say(silence(0.3), SessionEnd())
    await task
    (final,) = socket.of("emotion.final")
    for estimate in (interim, final):
        assert estimate.quality.level_db == pytest.approx(-13, abs=3)
        assert estimate.quality.clipped == 0.0
        assert 2_000 < estimate.quality.bandwidth_hz < 5_000  # of the made-up voice
    assert ("low_confidence" in final.doubts) == final.abstained


async def test_words_that_look_invented_are_not_shown_and_not_used(toy: Path) -> None:
    stage = Stage(toy)
    plain = await stage.play(QUIET, TURN, SessionEnd())
    stage.backend.words = INVENTED * 9
    socket = await stage.play(QUIET, TURN, SessionEnd())
    (final,), (silent,) = socket.of("emotion.final"), plain.of("emotion.final")
    assert "transcript.final" not in socket.types
    assert "text_unreliable" in final.doubts
    assert final.missing == ("lexical",)
    assert final.posterior == silent.posterior
    assert stage.metric("emotrace_doubts_total", code="text_unreliable") == 1


async def test_words_that_the_bundle_cannot_read_are_doubted(stage: Stage) -> None:
    stage.backend.words = "Idę jutro do domu, bo jest już bardzo późno"
    socket = await stage.play(QUIET.model_copy(update={"language": "pl"}), TURN, SessionEnd())
    (final,) = socket.of("emotion.final")
    assert final.missing == ("lexical",)
    assert "language" in final.doubts
    assert "text_unreliable" not in final.doubts
    assert socket.of("transcript.final")[0].language == "pl"


async def test_an_offset_is_said_and_changes_no_emotion(stage: Stage) -> None:
    def shifted(data: bytes) -> bytes:
        samples = np.frombuffer(data, "<i2").astype(np.int32) * 0.5 + 9_000
        return samples.astype("<i2").tobytes()

    def halved(data: bytes) -> bytes:
        return (np.frombuffer(data, "<i2") * 0.5).astype("<i2").tobytes()

    backend = DetectingBackend(stage.backend.predictor.bundle, loud_enough=True)
    stage.serving.backend = stage.backend = backend
    one = await stage.play(QUIET, silence(1.0), halved(TURN), SessionEnd())
    other = await stage.play(QUIET, shifted(silence(1.0)), shifted(TURN), SessionEnd())
    (plain,), (final,) = one.of("emotion.final"), other.of("emotion.final")
    assert "offset" not in plain.doubts
    assert "offset" in final.doubts
    assert list(final.posterior.values()) == pytest.approx(list(plain.posterior.values()), abs=0.02)


async def test_a_file_says_the_same(stage: Stage) -> None:
    pcm = NO_TURN + TURN
    live = await stage.play(QUIET, pcm, SessionEnd())
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(pcm, "<i2"), 16_000, format="WAV", subtype="PCM_16")

    async def here() -> bool:
        return False

    with closing(stage.serving.decoders):
        report = await analyze(stage.serving, file.getvalue(), json.dumps({}), "[]", here)
    kinds = [event["type"] for event in report["events"]]
    assert kinds == live.types
    final = next(event for event in report["events"] if event["type"] == "emotion.final")
    assert final["posterior"] == live.of("emotion.final")[0].posterior
    assert [entry["rejected"] for entry in report["utterances"]] == ["noise", None]


class DetectingBackend(EnergyBackend):
    """EnergyBackend with ears: the real voice detector, or energy of what the detector hears."""

    def __init__(self, bundle: Bundle, *, loud_enough: bool = False) -> None:
        super().__init__(bundle)
        self._detector = None if loud_enough else VoiceDetector()

    def start_voice(self) -> VoiceState:
        return super().start_voice() if self._detector is None else self._detector.start()

    async def detect(self, blocks: Sequence[FloatArray], states: Sequence[VoiceState]) -> Detected:
        if self._detector is None:
            loud = [(block.std(axis=1) > 0.02).astype(np.float32) for block in blocks]
            return Detected(tuple(loud), tuple(states))
        rows, after = self._detector.forward(list(np.stack(blocks, axis=1)), states)
        return Detected(tuple(np.stack(rows, axis=1)), tuple(after))


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_ten_seconds_of_what_nobody_spoke_have_no_estimate(toy: Path, kind: str) -> None:
    """The real voice detector, made to hear speech almost everywhere, and then the gate."""
    stage = Stage(toy)
    stage.serving.backend = stage.backend = DetectingBackend(stage.backend.predictor.bundle)
    stage.backend.words = INVENTED
    start = QUIET.model_copy(update={"endpointing": Endpointing(threshold=0.2)})
    pcm = (non_speech(kind, 10.0, SEED) * 32_767).astype("<i2").tobytes()
    socket = await stage.play(
        start, *(pcm[at : at + 32_000] for at in range(0, len(pcm), 32_000)), SessionEnd()
    )
    assert not socket.of("emotion.final")
    assert "transcript.final" not in socket.types
    totals = socket.heard[-1].totals
    assert totals.utterances == totals.rejected


async def test_every_turn_of_the_demo_is_speech(toy: Path, root: Path) -> None:
    stage = Stage(toy)
    stage.serving.backend = stage.backend = DetectingBackend(stage.backend.predictor.bundle)
    demo = root / "clients" / "emotrace_clients" / "browser" / "demo" / "dialogue.flac"
    samples, rate = soundfile.read(demo, dtype="int16", always_2d=True)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")

    async def here() -> bool:
        return False

    with closing(stage.serving.decoders):
        report = await analyze(stage.serving, file.getvalue(), json.dumps({}), "[]", here)
    assert len(report["utterances"]) >= 6
    assert all(entry["label"] is not None for entry in report["utterances"])
    assert not any(entry["rejected"] for entry in report["utterances"])
