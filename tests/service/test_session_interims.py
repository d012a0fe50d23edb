"""Estimates before an utterance is over: they come early, and change nothing that follows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
from doubles import QUIET, TURN, Stage, silence, speech

from emotrace_protocol.messages import (
    AudioFormat,
    Marker,
    SessionEnd,
    SessionStart,
    Transcription,
    UtteranceText,
)


def pieces_of(pcm: bytes, size: int = 2_560) -> list[bytes]:
    return [pcm[at : at + size] for at in range(0, len(pcm), size)]


async def test_interims_never_follow_the_end_of_their_utterance(stage: Stage) -> None:
    stage.backend.hold = asyncio.Event()
    socket, task = stage.session()
    socket.say(SessionStart(), speech(1.5))
    await stage.backend.until_waiting(1)
    socket.say(silence(0.6))
    await socket.until("speech.ended")
    stage.backend.hold.set()
    socket.say(SessionEnd())
    await task
    assert not socket.of("emotion.interim")
    assert len(socket.of("emotion.final")) == 1
    assert stage.backend.cancelled == 1


async def test_an_estimate_is_there_before_the_end_is_sure(stage: Stage) -> None:
    socket, task = stage.session()
    socket.say(SessionStart(), speech(1.0), silence(0.3), Marker(id="silent for 0.3 s"))
    await socket.until("marker.reached")
    early = await socket.until("emotion.interim") if not socket.of("emotion.interim") else None
    early = early or socket.of("emotion.interim")[-1]
    assert not socket.of("speech.ended")
    socket.say(silence(0.3), SessionEnd())
    await task
    (final,) = socket.of("emotion.final")
    assert final.timings.foreseen
    assert (early.posterior, early.start_ms, early.end_ms) == (
        final.posterior,
        final.start_ms,
        final.end_ms,
    )
    assert len(stage.backend.predicted) == len(socket.of("emotion.interim"))  # none for the final
    assert stage.metric("emotrace_foresights_total", result="used") == 1


async def test_speech_that_goes_on_drops_what_was_made_ahead(stage: Stage) -> None:
    said = speech(1.0) + silence(0.3) + speech(1.0) + silence(0.6)
    socket = await stage.play(SessionStart(), *pieces_of(said), SessionEnd())
    without = await stage.play(QUIET, said, SessionEnd())
    (one,), (other,) = socket.of("emotion.final"), without.of("emotion.final")
    assert one.end_ms - one.start_ms > 2_300
    assert one.posterior == other.posterior
    assert stage.metric("emotrace_foresights_total", result="dropped") >= 1


async def test_what_another_speaker_changed_meanwhile_counts(stage: Stage) -> None:
    """An estimate made ahead is of a dialogue that has gone on: it is made anew."""
    stereo = SessionStart(interim=False, audio=AudioFormat(channels=2))

    def both(first: bytes, second: bytes) -> bytes:
        pair = [np.frombuffer(one, "<i2") for one in (first, second)]
        return np.stack(pair, axis=1).tobytes()

    # B ends, and is decided on, in the pause in which A's end is not sure yet.
    said = both(speech(1.0) + silence(0.8), silence(0.2) + speech(0.6) + silence(1.0))
    socket = await stage.play(stereo, *pieces_of(said), SessionEnd())
    whole = await stage.play(stereo, said, SessionEnd())
    assert [one.utterance for one in socket.of("emotion.final")] == [
        one.utterance for one in whole.of("emotion.final")
    ]
    for one, other in zip(socket.of("emotion.final"), whole.of("emotion.final"), strict=True):
        assert one.posterior == other.posterior
        assert one.decoder == other.decoder


async def test_words_that_are_slow_get_an_estimate_without_them_first(toy: Path) -> None:
    stage = Stage(toy, text_wait_ms=10_000, early_estimate_ms=0)
    socket, task = stage.session()
    socket.say(SessionStart(transcription=Transcription.CLIENT), TURN)
    ended = await socket.until("speech.ended")
    early = await socket.until("emotion.interim")
    assert early.modalities == ("acoustic",)
    socket.say(UtteranceText(text="this is a sad day", utterance=ended.utterance), SessionEnd())
    await task
    (final,) = socket.of("emotion.final")
    assert final.modalities == ("acoustic", "lexical")


async def test_an_interim_changes_nothing_that_follows(stage: Stage) -> None:
    with_interims, task = stage.session()
    said = speech(2.5)
    with_interims.say(SessionStart(), said[:48_000])
    await with_interims.until("emotion.interim")
    with_interims.say(said[48_000:], silence(0.6), SessionEnd())
    await task
    without = await stage.play(QUIET, said + silence(0.6), SessionEnd())
    assert len(with_interims.of("emotion.interim")) >= 1
    (one,), (other,) = with_interims.of("emotion.final"), without.of("emotion.final")
    assert one.posterior == other.posterior
