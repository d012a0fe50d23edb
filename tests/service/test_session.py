"""A session's rules, on a socket in memory and a backend without threads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles import Stage, silence, speech
from structlog.testing import capture_logs

from emotrace_models.types import Modality
from emotrace_protocol.errors import ErrorCode
from emotrace_protocol.messages import (
    Ack,
    AudioFormat,
    Image,
    Marker,
    SessionEnd,
    SessionStart,
    Transcription,
    UtteranceText,
)
from emotrace_service.errors import EngineClosed

TURN = speech(1.0) + silence(0.6)
QUIET = SessionStart(interim=False)


@pytest.fixture
def stage(toy: Path) -> Stage:
    return Stage(toy)


async def test_one_turn_from_start_to_end(stage: Stage) -> None:
    socket = await stage.play(QUIET, TURN, SessionEnd())
    assert socket.types == [
        "session.started",
        "speech.started",
        "speech.ended",
        "emotion.final",
        "session.ended",
    ]
    ended = socket.heard[-1]
    assert ended.reason == "client"
    assert ended.totals.model_dump() == {
        "audio_ms": 1_600,
        "audio_bytes": len(TURN),
        "messages": 3,
        "utterances": 1,
        "finals": 1,
        "revisions": 0,
        "rejected": 0,
        "failed": 0,
        "events": 5,
    }
    assert socket.code == 1000


async def test_what_a_session_is_told_at_its_start(stage: Stage) -> None:
    socket = await stage.play(SessionStart(speakers=("Ada",)), SessionEnd())
    started = socket.heard[0]
    assert started.labels == ("anger", "happiness", "neutral", "sadness")
    assert started.speakers == ("Ada",)
    live = {one.modality: one.live for one in started.modalities}
    assert live == {"acoustic": True, "lexical": False, "facial": False}
    reason = next(one.reason for one in started.modalities if one.modality == "lexical")
    assert "models pull" in reason


async def test_the_open_utterance_is_finished_at_the_end(stage: Stage) -> None:
    socket = await stage.play(QUIET, speech(1.0), SessionEnd())
    (ended,) = socket.of("speech.ended")
    assert ended.reason == "end_of_audio"
    assert len(socket.of("emotion.final")) == 1


async def test_an_endless_utterance_is_cut_and_events_go_on(stage: Stage) -> None:
    start = QUIET.model_copy(
        update={"endpointing": QUIET.endpointing.model_copy(update={"max_utterance_ms": 2_000})}
    )
    socket = await stage.play(start, *[speech(1.0)] * 7, SessionEnd())
    reasons = [ended.reason for ended in socket.of("speech.ended")]
    assert len(reasons) >= 3
    assert set(reasons[:-1]) == {"max_length"}
    assert len(socket.of("emotion.final")) == len(reasons)


async def test_a_poisoned_utterance_fails_alone(stage: Stage) -> None:
    stage.backend.poison = {1}
    socket = await stage.play(QUIET, TURN, TURN, TURN, SessionEnd())
    (failed,) = socket.of("error")
    assert (failed.code, failed.utterance, failed.fatal) == ("inference_failed", 1, False)
    assert [final.utterance for final in socket.of("emotion.final")] == [0, 2]
    totals = socket.heard[-1].totals
    assert (totals.utterances, totals.finals, totals.failed) == (3, 2, 1)


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


def pieces_of(pcm: bytes, size: int = 2_560) -> list[bytes]:
    return [pcm[at : at + size] for at in range(0, len(pcm), size)]


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


async def test_turns_without_audio_keep_their_place_and_a_session_has_sixteen_speakers(
    stage: Stage,
) -> None:
    texts = [UtteranceText(text=f"word {n}", speaker=f"s{n}") for n in range(16)]
    socket = await stage.play(QUIET, TURN, *texts, SessionEnd())
    finals = socket.of("emotion.final")
    assert [final.utterance for final in finals] == list(range(16))
    assert {final.start_ms for final in finals[1:]} == {1_600 // 32 * 32}
    (failed,) = socket.of("error")
    assert failed.code == "speaker_unknown"


async def test_images_are_answered_once(stage: Stage) -> None:
    picture = Image(speaker="A", jpeg="AAAA")
    stranger = Image(speaker="Z", jpeg="AAAA")
    socket = await stage.play(QUIET, picture, picture, stranger, SessionEnd())
    assert [one.code for one in socket.of("warning")] == ["modality_missing"]
    assert [one.code for one in socket.of("error")] == ["speaker_unknown"]


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


async def test_acks_of_what_was_not_sent(stage: Stage) -> None:
    socket = await stage.play(QUIET, Ack(sequence=0), Ack(sequence=99), SessionEnd())
    assert [one.code for one in socket.of("error")] == ["ack_invalid"]


async def test_the_server_is_heard_while_nothing_happens(toy: Path) -> None:
    stage = Stage(toy, heartbeat_ms=1)
    socket, task = stage.session()
    socket.say(QUIET, silence(0.5))
    while (await socket.until("heartbeat")).audio_ms < 480:
        pass
    socket.say(SessionEnd())
    await task
    assert socket.code == 1000


async def test_a_client_that_says_nothing(toy: Path) -> None:
    stage = Stage(toy, start_timeout_ms=1)
    socket = await stage.play()
    assert [one.code for one in socket.of("error")] == ["start_timeout"]
    assert socket.code == 4408


async def test_a_client_that_sends_no_audio(toy: Path) -> None:
    stage = Stage(toy, idle_no_audio_ms=1)
    socket = await stage.play(QUIET)
    assert socket.types == ["session.started", "error", "session.ended"]
    assert socket.heard[1].code == "idle_no_audio"
    assert socket.heard[2].reason == "idle"
    assert socket.code == 4408


async def test_silence_for_ever_ends_by_the_audios_own_clock(toy: Path) -> None:
    stage = Stage(toy, idle_no_speech_ms=2_000)
    socket = await stage.play(QUIET, TURN, *[silence(0.5)] * 6)
    assert socket.types[-3:] == ["emotion.final", "error", "session.ended"]
    assert socket.heard[-2].code == "idle_no_speech"
    assert socket.code == 4408


async def test_a_client_that_is_too_fast_is_warned_and_then_refused_and_loses_nothing(
    toy: Path,
) -> None:
    stage = Stage(toy, audio_queue_ms=4_000)
    stage.backend.hold = asyncio.Event()
    socket, task = stage.session()
    socket.say(QUIET, TURN)
    await socket.until("speech.ended")
    socket.say(TURN, TURN)
    await socket.until("warning")
    socket.say(TURN)
    await socket.listened()
    stage.backend.hold.set()
    await task
    (warning,) = socket.of("warning")
    (failed,) = socket.of("error")
    assert (warning.code, failed.code) == ("backpressure", "rate_limited")
    assert failed.retry_after_ms > 0
    assert len(socket.of("emotion.final")) == 3  # all that was taken in
    assert socket.heard[-1].totals.audio_bytes == 3 * len(TURN)
    assert socket.code == 4429


async def test_a_client_that_does_not_read_is_let_go(toy: Path) -> None:
    stage = Stage(toy, send_timeout_ms=1)
    socket, task = stage.session()
    socket.say(QUIET)
    await socket.until("session.started")
    socket.stuck = True
    socket.say(Marker(id="x"))
    await asyncio.wait_for(task, 20)
    assert socket.code == 4480
    assert stage.metric("emotrace_refusals_total", code="slow_consumer") == 1
    assert stage.metric("emotrace_sessions") == 0


async def test_a_client_that_vanishes_in_mid_prediction(stage: Stage) -> None:
    stage.backend.hold = asyncio.Event()
    socket, task = stage.session()
    before = asyncio.all_tasks() - {task}
    socket.say(SessionStart(), speech(1.5))
    await stage.backend.until_waiting(1)
    socket.say(silence(0.6))
    await stage.backend.until_waiting(2)
    socket.vanish()
    await asyncio.wait_for(task, 20)
    assert stage.metric("emotrace_sessions") == 0
    assert stage.metric("emotrace_session_ends_total", reason="vanished") == 1
    assert stage.backend.cancelled == 2  # the interim and the final
    assert asyncio.all_tasks() - {task} == before


async def test_a_fault_of_the_server_is_told_without_its_text(stage: Stage) -> None:
    stage.backend.broken = RuntimeError("a secret")
    with capture_logs() as logged:
        socket = await stage.play(QUIET, TURN)
    assert socket.types == ["session.started", "error", "session.ended"]
    assert socket.heard[1].code == "internal"
    assert socket.code == 1011
    assert "RuntimeError" in str(logged)
    assert "a secret" not in str(logged) + str(socket.heard)


async def test_a_server_that_stops_finishes_what_it_took_in(stage: Stage) -> None:
    socket, task = stage.session()
    socket.say(QUIET, speech(1.0))
    await socket.until("speech.started")
    await stage.serving.drain()
    await task
    assert socket.types[-4:] == ["speech.ended", "emotion.final", "error", "session.ended"]
    assert socket.heard[-2].code == "going_away"
    assert socket.heard[-1].reason == "going_away"
    assert socket.code == 1012
    late = await stage.play(QUIET)
    assert [one.code for one in late.heard] == ["going_away"]


async def test_an_engine_that_closes_ends_the_session(stage: Stage) -> None:
    stage.backend.broken = EngineClosed("the server stops")
    socket = await stage.play(QUIET, TURN)
    assert socket.heard[1].code == "going_away"
    assert socket.code == 1012


async def test_no_place_left(toy: Path) -> None:
    stage = Stage(toy, max_sessions=1)
    first, task = stage.session()
    first.say(QUIET)
    await first.until("session.started")
    second = await stage.play(QUIET)
    (failed,) = second.heard
    assert (failed.code, failed.retryable) == (ErrorCode.CAPACITY, True)
    assert failed.retry_after_ms > 0
    assert second.code == 1013
    first.say(TURN, SessionEnd())
    await task
    assert len(first.of("emotion.final")) == 1
    assert (await stage.play(QUIET, SessionEnd())).code == 1000
