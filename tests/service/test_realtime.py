"""OpenAI's Realtime protocol: the same session under other names."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles import RATE, MemorySocket, Stage
from realtime import (
    QUIET,
    TRANSCRIPTION,
    TURN,
    g711,
    played,
    realtime,
    silence,
    sound,
    speech,
    update,
)

from emotrace_protocol import decode_event
from emotrace_protocol.events import NOTICE
from emotrace_protocol.messages import AudioEncoding, AudioFormat, SessionEnd, SessionStart
from emotrace_service.realtime_config import SessionConfig


async def test_one_turn_in_the_words_of_the_protocol(stage: Stage) -> None:
    socket = await played(stage, TURN)
    assert socket.kinds == [
        "session.created",
        "emotrace.session.started",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        f"{TRANSCRIPTION}.completed",
        "emotrace.emotion.final",
        "emotrace.session.ended",
    ]
    assert socket.code == 1000
    names = [event["event_id"] for event in socket.told]
    assert len(set(names)) == len(names)
    items = {event["item_id"] for event in socket.told if "item_id" in event}
    (item,) = items
    (added,) = socket.all("conversation.item.added")
    assert added["item"]["id"] == item
    assert added["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    started, stopped = socket.told[2], socket.told[3]
    (completed,) = socket.all(f"{TRANSCRIPTION}.completed")
    assert completed["usage"] == {
        "type": "duration",
        "seconds": (stopped["audio_end_ms"] - started["audio_start_ms"]) / 1_000,
    }


async def test_what_a_client_is_told_at_first(stage: Stage) -> None:
    socket, _, task = realtime(stage)
    created = await socket.next("session.created")
    socket.vanish()
    await task
    assert created["session"] == {
        "id": "sess_1",
        "object": "realtime.transcription_session",
        "type": "transcription",
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24_000},
                "noise_reduction": None,
                "transcription": {"language": None},
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.5,
                    "prefix_padding_ms": 200,
                    "silence_duration_ms": 500,
                },
            }
        },
        "include": None,
        "emotrace": created["session"]["emotrace"],
    }
    own = created["session"]["emotrace"]
    assert own["labels"] == ["anger", "happiness", "neutral", "sadness"]
    assert (own["bundle"]["name"], own["speaker"], own["notice"]) == ("toy", "A", NOTICE)
    assert {one["modality"]: one["live"] for one in own["modalities"]}["lexical"] is False
    assert stage.metric("emotrace_session_ends_total", reason="vanished") == 1


async def native(stage: Stage, audio: AudioFormat, pcm: bytes) -> MemorySocket:
    start = SessionStart(audio=audio, interim=False)
    return await stage.play(start, pcm, SessionEnd())


@pytest.mark.parametrize(
    ("format_", "audio"),
    [
        ({"type": "audio/pcm", "rate": 24_000}, AudioFormat(sample_rate=24_000)),
        ({"type": "audio/pcmu"}, AudioFormat(encoding=AudioEncoding.MULAW, sample_rate=8_000)),
        ({"type": "audio/pcma"}, AudioFormat(encoding=AudioEncoding.ALAW, sample_rate=8_000)),
    ],
)
async def test_the_numbers_are_those_of_the_native_protocol(
    toy: Path, format_: dict[str, Any], audio: AudioFormat
) -> None:
    turn = speech(1.0, audio.sample_rate) + silence(0.8, audio.sample_rate)
    pcm = 3 * turn
    if audio.encoding is not AudioEncoding.S16LE:
        pcm = g711(pcm, format_["type"].removeprefix("audio/"))
    ours = await native(Stage(toy), audio, pcm)
    cut = [pcm[at : at + 1_111] for at in range(0, len(pcm), 1_111)]
    theirs = await played(Stage(toy), *cut, format=format_)
    finals = ours.of("emotion.final")
    completed = theirs.all(f"{TRANSCRIPTION}.completed")
    assert len(finals) == len(completed) == 3
    for final, one in zip(finals, completed, strict=True):
        assert one["emotion"] == final.decoder.label
        assert one["emotions"] == final.posterior
        same = ("confidence", "abstained", "speaker", "start_ms", "end_ms", "explanation")
        expected = final.model_dump(mode="json")
        assert {name: one[name] for name in same} == {name: expected[name] for name in same}
    for final, one in zip(finals, theirs.all("emotrace.emotion.final"), strict=True):
        plain = {k: v for k, v in one.items() if k not in ("event_id", "item_id", "timings")}
        plain["type"] = "emotion.final"
        assert plain["posterior"] == final.posterior
        decode_event(json.dumps({**plain, "timings": one["timings"]}))  # raises: is none of ours
    chain = [event["previous_item_id"] for event in theirs.all("input_audio_buffer.committed")]
    items = [event["item_id"] for event in completed]
    assert chain == [None, *items[:-1]]


async def test_the_servers_words_are_told_and_are_part_of_the_answer(stage: Stage) -> None:
    stage.backend.words = "i am so happy"
    socket = await played(stage, TURN)
    (delta,) = socket.all(f"{TRANSCRIPTION}.delta")
    (completed,) = socket.all(f"{TRANSCRIPTION}.completed")
    assert delta["delta"] == completed["transcript"] == "i am so happy"
    assert delta["item_id"] == completed["item_id"]
    assert completed["missing"] == []


async def test_without_a_transcriber_the_answer_says_that_words_are_missing(stage: Stage) -> None:
    socket = await played(stage, TURN)
    (completed,) = socket.all(f"{TRANSCRIPTION}.completed")
    assert (completed["transcript"], completed["missing"]) == ("", ["lexical"])
    assert not socket.all(f"{TRANSCRIPTION}.delta")


async def test_no_words_where_none_are_wanted(stage: Stage) -> None:
    stage.backend.words = "i am so happy"
    socket = await played(stage, TURN, transcription=None)
    (completed,) = socket.all(f"{TRANSCRIPTION}.completed")
    assert completed["transcript"] == ""
    (updated,) = socket.all("session.updated")
    assert updated["session"]["audio"]["input"]["transcription"] is None


async def test_what_is_no_speech_is_an_item_without_emotion(stage: Stage) -> None:
    noise = np.random.default_rng(200).normal(0, 0.2, RATE).astype(np.float32)
    socket = await played(stage, sound(noise) + silence(0.8))
    (completed,) = socket.all(f"{TRANSCRIPTION}.completed")
    assert (completed["transcript"], completed["rejected"]) == ("", "noise")
    assert "emotion" not in completed
    (rejected,) = socket.all("emotrace.speech.rejected")
    assert rejected["item_id"] == completed["item_id"]


async def test_an_utterance_that_fails_is_told_with_its_item(stage: Stage) -> None:
    stage.backend.poison.add(0)
    socket = await played(stage, TURN, TURN)
    (failed,) = socket.all(f"{TRANSCRIPTION}.failed")
    assert failed["item_id"] == socket.all("input_audio_buffer.committed")[0]["item_id"]
    assert (failed["error"]["type"], failed["error"]["code"]) == (
        "server_error",
        "inference_failed",
    )
    assert len(socket.all(f"{TRANSCRIPTION}.completed")) == 1


async def test_revisions_and_interims_come_under_their_own_names(stage: Stage) -> None:
    socket = await played(stage, speech(2.0) + silence(0.8), config=SessionConfig())
    assert socket.all("emotrace.emotion.interim")
    quiet = await played(stage, speech(2.0) + silence(0.8))
    assert not quiet.all("emotrace.emotion.interim")


async def test_updates_change_what_they_name_and_nothing_else(stage: Stage) -> None:
    socket, _, task = realtime(stage)
    vad = {"type": "server_vad", "threshold": 0.6}
    socket.tell("session.update", session=update(turn_detection=vad))
    await socket.next("session.updated")
    session = update(format={"type": "audio/pcmu"}) | {"emotrace": {"speaker": "Ann"}}
    socket.tell("session.update", session=session)
    updated = await socket.next("session.updated")
    inputs = updated["session"]["audio"]["input"]
    assert inputs["turn_detection"]["threshold"] == 0.6
    assert inputs["format"] == {"type": "audio/pcmu"}
    assert updated["session"]["emotrace"]["speaker"] == "Ann"
    socket.append(g711(TURN, "pcmu"))
    started = await socket.next("emotrace.session.started")
    assert (started["audio"]["encoding"], started["speakers"]) == ("mulaw", ["Ann"])
    socket.vanish()
    await task


async def test_the_beta_speaks_its_own_form(stage: Stage) -> None:
    socket, _, task = realtime(stage, QUIET, beta=True)
    created = await socket.next("session.created")
    assert created["session"]["input_audio_format"] == "pcm16"
    session = {
        "input_audio_format": "g711_alaw",
        "input_audio_transcription": {"model": "whisper-1", "language": "de"},
        "turn_detection": {"type": "server_vad", "silence_duration_ms": 400},
    }
    socket.tell("transcription_session.update", session=session)
    updated = (await socket.next("transcription_session.updated"))["session"]
    assert updated["input_audio_format"] == "g711_alaw"
    assert updated["input_audio_transcription"] == {"language": "de"}
    assert updated["turn_detection"]["silence_duration_ms"] == 400
    socket.append(g711(speech(1.0, 8_000) + silence(0.8, 8_000), "pcma"))
    socket.end()
    await asyncio.wait_for(task, 30)
    assert len(socket.all(f"{TRANSCRIPTION}.completed")) == 1
    assert "conversation.item.created" in socket.kinds
    assert "conversation.item.added" not in socket.kinds


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"noise_reduction": {"type": "near_field"}}, "noise_reduction"),
        ({"transcription": {"model": "gpt-4o-transcribe"}}, "transcription.model"),
        ({"transcription": {"prompt": "expect names"}}, "transcription.prompt"),
        ({"transcription": {"keywords": ["Emotrace"]}}, "transcription.keywords"),
        (
            {"turn_detection": {"type": "server_vad", "prefix_padding_ms": 300}},
            "turn_detection.prefix_padding_ms",
        ),
    ],
)
async def test_what_has_no_effect_is_said(stage: Stage, given: dict[str, Any], param: str) -> None:
    socket = await played(stage, **given)
    (warning,) = socket.all("emotrace.warning")
    assert (warning["code"], warning["param"]) == (
        "field_ignored",
        f"session.audio.input.{param}",
    )
    (updated,) = socket.all("session.updated")
    inputs = updated["session"]["audio"]["input"]
    assert inputs["noise_reduction"] is None
    assert inputs["turn_detection"]["prefix_padding_ms"] == 200


async def test_the_end_may_come_first(stage: Stage) -> None:
    socket = await played(stage)
    assert socket.kinds[-1] == "emotrace.session.ended"
    assert socket.code == 1000


async def test_after_the_end_nothing_more_is_taken(stage: Stage) -> None:
    stage.backend.hold = asyncio.Event()
    socket, _, task = realtime(stage, QUIET)
    socket.append(TURN)
    socket.end()
    socket.append(TURN)
    error = (await socket.next("error"))["error"]
    assert error["code"] == "already_ended"
    stage.backend.hold.set()
    await asyncio.wait_for(task, 30)
    assert len(socket.all(f"{TRANSCRIPTION}.completed")) == 1


async def test_who_never_sends_audio_is_let_go(toy: Path) -> None:
    socket, _, task = realtime(Stage(toy, idle_no_audio_ms=1))
    await asyncio.wait_for(task, 30)
    assert socket.kinds == ["session.created", "error"]
    assert socket.told[1]["error"]["code"] == "idle_no_audio"
    assert socket.code == 4408


async def test_a_full_server_says_so_and_remembers_that_no_session_began(toy: Path) -> None:
    stage = Stage(toy, max_sessions=1)
    first, other, first_task = realtime(stage, QUIET)
    first.append(TURN)
    await first.next("emotrace.emotion.final")
    second, client, second_task = realtime(stage, QUIET)
    second.append(TURN)
    await asyncio.wait_for(second_task, 30)
    error = second.all("error")[0]["error"]
    assert (error["type"], error["code"]) == ("server_error", "capacity")
    assert error["retry_after_ms"] > 0
    assert second.code == 1013
    assert client.full
    first.vanish()
    await asyncio.wait_for(first_task, 30)
    assert not other.full


async def test_a_client_that_reads_nothing_is_left(toy: Path) -> None:
    socket, _, task = realtime(Stage(toy, send_timeout_ms=1))
    socket.stuck = True
    await asyncio.wait_for(task, 30)


async def test_a_busy_server_says_what_it_leaves_out_and_its_heartbeat_is_not_told(
    toy: Path,
) -> None:
    stage = Stage(toy, heartbeat_ms=1)
    socket, _, task = realtime(stage, QUIET)
    socket.append(silence(0.1))
    await socket.next("emotrace.session.started")
    stage.serving.degrade(1)
    degraded = await socket.next("emotrace.service.degraded")
    assert degraded["level"] == 1
    socket.end()
    await asyncio.wait_for(task, 30)
    assert not [kind for kind in socket.kinds if "heartbeat" in kind]
