"""A session's words: the client's, the server's, late, or none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from doubles import QUIET, TURN, Stage, silence, speech

from emotrace_models.types import Modality
from emotrace_protocol.messages import (
    Marker,
    SessionEnd,
    SessionStart,
    Transcription,
    UtteranceText,
)


async def test_words_that_are_there_first_are_read_beside_the_sound(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, read = stage.backend, []
    sense = backend.sense

    async def slowly(*arguments: Any, **options: Any) -> Any:
        await reading.wait()  # it would never come if the words waited for the sound
        return await sense(*arguments, **options)

    plain = backend.read

    async def noted(state: Any, utterance: Any) -> Any:
        read.append(utterance.transcript.text)
        reading.set()
        return await plain(state, utterance)

    reading = asyncio.Event()
    monkeypatch.setattr(backend, "sense", slowly)
    monkeypatch.setattr(backend, "read", noted)
    socket, task = stage.session()
    socket.say(SessionStart(interim=False, transcription=Transcription.CLIENT), speech(1.0))
    await socket.until("speech.started")
    socket.say(UtteranceText(text="i am so happy", utterance=0))
    await socket.listened()
    socket.say(silence(0.6), SessionEnd())
    await asyncio.wait_for(task, 20)
    (final,) = socket.of("emotion.final")
    assert final.modalities == ("acoustic", "lexical")
    assert set(read) == {"i am so happy"}


@pytest.mark.parametrize("late", [False, True])
async def test_words_of_the_client_count_until_the_estimate(stage: Stage, late: bool) -> None:
    socket, task = stage.session()
    text = UtteranceText(text="i am so happy", utterance=0)
    socket.say(SessionStart(interim=False, transcription=Transcription.CLIENT), speech(1.0))
    await socket.until("speech.started")
    if not late:
        socket.say(text)
    socket.say(silence(0.6))
    await socket.until("emotion.final")
    if late:
        socket.say(text)
    socket.say(SessionEnd())
    await task
    warned = [warning.code for warning in socket.of("warning")]
    assert warned == (["text_timeout", "text_late"] if late else [])
    expected = ("acoustic",) if late else ("acoustic", "lexical")
    assert socket.of("emotion.final")[0].modalities == expected


async def test_words_are_waited_for(toy: Path) -> None:
    stage = Stage(toy, text_wait_ms=10_000)
    socket, task = stage.session()
    socket.say(SessionStart(interim=False, transcription=Transcription.CLIENT), TURN)
    ended = await socket.until("speech.ended")
    socket.say(UtteranceText(text="this is a sad day", utterance=ended.utterance), SessionEnd())
    await task
    assert socket.of("transcript.final")[0].text == "this is a sad day"
    assert not socket.of("warning")


async def test_an_empty_text_says_that_there_are_no_words(toy: Path) -> None:
    stage = Stage(toy, text_wait_ms=10_000)
    socket, task = stage.session()
    socket.say(SessionStart(interim=False, transcription=Transcription.CLIENT), TURN)
    await socket.until("speech.ended")
    socket.say(UtteranceText(text=" ", utterance=0), SessionEnd())
    await task
    assert "transcript.final" not in socket.types
    assert socket.of("emotion.final")[0].missing == ("lexical",)


async def test_the_servers_words_are_used_unless_the_client_has_some(stage: Stage) -> None:
    stage.backend.words = "from the server"
    socket, task = stage.session()
    socket.say(QUIET, TURN, speech(1.0), Marker(id="two open"))
    await socket.until("marker.reached")
    socket.say(UtteranceText(text="from the client", utterance=1), silence(0.6), SessionEnd())
    await task
    transcripts = [(one.text, one.source) for one in socket.of("transcript.final")]
    assert transcripts == [("from the server", "server"), ("from the client", "client")]


async def test_a_transcriber_that_fails_costs_the_words_and_not_the_utterance(
    stage: Stage,
) -> None:
    stage.backend.words, stage.backend.deaf = "", True
    socket = await stage.play(QUIET, TURN, SessionEnd())
    assert [one.code for one in socket.of("warning")] == ["modality_missing"]
    assert socket.of("emotion.final")[0].modalities == ("acoustic",)


async def test_with_transcription_off_words_are_refused_once(stage: Stage) -> None:
    stage.backend.words = "never used"
    socket = await stage.play(
        SessionStart(interim=False, transcription=Transcription.OFF),
        UtteranceText(text="a", speaker="bot"),
        UtteranceText(text="b", speaker="bot"),
        TURN,
        SessionEnd(),
    )
    assert [one.code for one in socket.of("warning")] == ["modality_missing"]
    assert "transcript.final" not in socket.types
    assert socket.heard[-1].totals.utterances == 1


async def test_words_for_an_utterance_that_is_not_there(stage: Stage) -> None:
    socket = await stage.play(QUIET, UtteranceText(text="x", utterance=7), SessionEnd())
    (failed,) = socket.of("error")
    assert (failed.code, failed.param) == ("utterance_unknown", "utterance")


async def test_a_bundle_that_needs_words_is_refused_where_there_are_none(toy: Path) -> None:
    stage = Stage(toy, requires=(Modality.LEXICAL,))
    socket = await stage.play(SessionStart(transcription=Transcription.OFF))
    (refused,) = socket.of("error")
    assert (refused.code, refused.param, socket.code) == ("modality_unavailable", "bundle", 4422)
    assert "needs the lexical modality" in refused.message


async def test_a_bundle_that_needs_words_gives_no_interims_and_says_which_utterance_had_none(
    toy: Path,
) -> None:
    stage = Stage(toy, requires=(Modality.LEXICAL,))
    stage.backend.words = ""
    socket = await stage.play(SessionStart(), silence(0.3), speech(2.0), silence(1.0), SessionEnd())
    assert [one.code for one in socket.of("warning")] == ["interim_skipped"]
    assert not socket.of("emotion.interim")
    (failed,) = socket.of("error")
    assert (failed.code, failed.utterance, failed.fatal) == ("utterance_incomplete", 0, False)
    assert socket.of("session.ended")[0].totals.failed == 1
