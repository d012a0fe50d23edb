"""A session's rules, on a socket in memory and a backend without threads."""

from __future__ import annotations

from pathlib import Path

from doubles import QUIET, TURN, Stage, silence, speech

from emotrace_protocol.messages import Ack, Image, SessionEnd, SessionStart, UtteranceText


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
