"""What the Realtime endpoint does not take: it is refused by name, and breaks nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from doubles import Stage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from realtime import QUIET, TRANSCRIPTION, TURN, realtime

from emotrace_protocol import ProtocolError
from emotrace_service.realtime_config import SessionConfig, merged, start_text
from emotrace_service.realtime_messages import BetaSessionUpdate, SessionUpdate, read_message

FIELDS = st.sampled_from(
    [*"ab", "session", "audio", "input", "format", "type", "transcription", "turn_detection",
     "emotrace", "labels", "include", "input_audio_format", "threshold", "language", "event_id"]
)  # fmt: skip


def updating(**session: Any) -> dict[str, Any]:
    return {"type": "session.update", "session": {"type": "transcription", **session}}


def inputs(**given: Any) -> dict[str, Any]:
    return updating(audio={"input": given})


@pytest.mark.parametrize(
    ("message", "code", "param", "said"),
    [
        ({"type": "response.create"}, "type_unknown", "type", "gives no responses"),
        ({"type": "conversation.item.create", "item": {}}, "type_unknown", "type", "transcription"),
        ({"type": "output_audio_buffer.clear"}, "type_unknown", "type", "transcription"),
        ({"no": "type"}, "type_unknown", "type", "session.update"),
        ({"type": "session.update"}, "config_invalid", "session", "required"),
        (
            {"type": "session.update", "session": {"type": "realtime"}},
            "config_invalid",
            "session.type",
            "transcription",
        ),
        (
            inputs(format={"type": "audio/pcm", "rate": 16_000}),
            "config_invalid",
            "session.audio.input.format.rate",
            "24000",
        ),
        (
            inputs(format={"type": "audio/opus"}),
            "config_invalid",
            "session.audio.input.format",
            "audio/pcmu",
        ),
        (
            inputs(turn_detection={"type": "semantic_vad"}),
            "config_invalid",
            "session.audio.input.turn_detection.type",
            "server_vad",
        ),
        (
            inputs(turn_detection={"type": "server_vad", "create_response": True}),
            "config_invalid",
            "session.audio.input.turn_detection.create_response",
            "False",
        ),
        (
            inputs(turn_detection={"type": "server_vad", "idle_timeout_ms": 5_000}),
            "config_invalid",
            "session.audio.input.turn_detection.idle_timeout_ms",
            "null",
        ),
        (
            inputs(turn_detection={"type": "server_vad", "threshold": 1.5}),
            "config_invalid",
            "session.audio.input.turn_detection.threshold",
            "less than 1",
        ),
        (
            inputs(turn_detection={"type": "server_vad", "silence_duration_ms": 9_000}),
            "config_invalid",
            "session.audio.input.turn_detection.silence_duration_ms",
            "5000",
        ),
        (
            inputs(transcription={"language": "in English please"}),
            "config_invalid",
            "session.audio.input.transcription.language",
            "language",
        ),
        (
            updating(include=["item.input_audio_transcription.logprobs"]),
            "config_invalid",
            "session.include",
            "log probabilities",
        ),
        (updating(audio={"output": {}}), "config_invalid", "session.audio.output", "no such field"),
        (updating(tools=[]), "config_invalid", "session.tools", "no such field"),
        (
            updating(emotrace={"bundle": "x"}),
            "bundle_unknown",
            "session.emotrace.bundle",
            "'toy'",
        ),
        (
            updating(emotrace={"labels": ["joy"]}),
            "labels_mismatch",
            "session.emotrace.labels",
            "common4",
        ),
        (
            {"type": "input_audio_buffer.append", "audio": "?"},
            "message_invalid",
            "audio",
            "base64",
        ),
        ({"type": "input_audio_buffer.append"}, "message_invalid", "audio", "required"),
        (
            {"type": "input_audio_buffer.clear", "speech": 1},
            "message_invalid",
            "speech",
            "no such field",
        ),
    ],
)
async def test_what_is_not_taken_is_refused_by_name_and_the_session_goes_on(
    stage: Stage, message: dict[str, Any], code: str, param: str, said: str
) -> None:
    socket, _, task = realtime(stage, QUIET)
    socket.say(json.dumps({**message, "event_id": "mine"}))
    error = (await socket.next("error"))["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    assert (error["param"], error["event_id"]) == (param, "mine")
    assert said in error["message"]
    socket.append(TURN)
    socket.end()
    await asyncio.wait_for(task, 30)
    assert len(socket.all(f"{TRANSCRIPTION}.completed")) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01",
        "hello",
        "[]",
        "[" * 100_000,
        '{"type": "session.update", "session": NaN}',
        '{"type": "input_audio_buffer.clear", "event_id": "\\ud800"}',
        json.dumps(inputs(transcription={"prompt": 70_000 * "x"})),
    ],
)
async def test_no_message_breaks_a_connection(stage: Stage, data: str | bytes) -> None:
    socket, _, task = realtime(stage, QUIET)
    socket.say(data)
    assert (await socket.next("error"))["error"]["code"] in (
        "message_invalid",
        "message_too_large",
        "config_invalid",
    )
    socket.append(TURN)
    socket.end()
    await asyncio.wait_for(task, 30)
    assert socket.code == 1000


@pytest.mark.parametrize("after_audio", [False, True])
async def test_who_sends_nothing_but_errors_is_cut_off(stage: Stage, after_audio: bool) -> None:
    socket, _, task = realtime(stage, QUIET)
    if after_audio:
        socket.append(TURN)
        await socket.next("emotrace.emotion.final")
    for _ in range(5):
        socket.say("no json")
    await asyncio.wait_for(task, 30)
    assert [event["error"]["code"] for event in socket.all("error")] == [
        *["message_invalid"] * 4,
        "too_many_errors",
    ]
    assert socket.code == 4400


async def test_a_prohibited_purpose_ends_the_connection(stage: Stage) -> None:
    socket, _, task = realtime(stage)
    socket.say(json.dumps(updating(emotrace={"purpose": "recruitment"})))
    await asyncio.wait_for(task, 30)
    (error,) = socket.all("error")
    assert error["error"]["code"] == "purpose_prohibited"
    assert socket.code == 4403


async def test_the_configuration_is_fixed_from_the_first_audio_on(stage: Stage) -> None:
    socket, _, task = realtime(stage, QUIET)
    socket.append(TURN)
    await socket.next("emotrace.emotion.final")
    socket.say(json.dumps(inputs(transcription={"prompt": "changes nothing"})))
    await socket.next("session.updated")
    socket.say(json.dumps(inputs(format={"type": "audio/pcmu"})))
    error = (await socket.next("error"))["error"]
    assert (error["code"], error["param"]) == ("config_invalid", "session")
    assert "first audio" in error["message"]
    socket.append(TURN)
    await socket.next("emotrace.emotion.final")
    socket.end()
    await asyncio.wait_for(task, 30)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    message=st.dictionaries(FIELDS, JSON, max_size=4),
    kind=st.sampled_from(["session.update", "transcription_session.update", "emotrace.x"]),
)
def test_whatever_is_sent_is_a_message_or_is_refused(message: dict[str, Any], kind: str) -> None:
    try:
        read = read_message(json.dumps({**message, "type": kind}))
    except ProtocolError:
        return
    if isinstance(read, SessionUpdate):
        json.loads(start_text(merged(SessionConfig(), read.session)))
    elif isinstance(read, BetaSessionUpdate):
        json.loads(start_text(merged(SessionConfig(), read.session.general())))
