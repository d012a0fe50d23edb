"""Bad input to a real server: each gets its typed error, and the server lives on.

The codes are those of docs/protocol.md, "Errors".
"""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from live import LiveServer, demo_pcm, live_server, pieces, settled, silence, stream, talk
from websockets.exceptions import ConnectionClosed

from emotrace_protocol.messages import (
    AudioEncoding,
    AudioFormat,
    Marker,
    SessionEnd,
    SessionStart,
)

START = SessionStart(interim=False)
NAN = struct.pack("<f", float("nan"))
FLOATS = SessionStart(interim=False, audio=AudioFormat(encoding=AudioEncoding.F32LE))


@pytest.fixture(scope="module")
def running(toy: Path) -> Iterator[LiveServer]:
    with live_server(toy, max_sessions=3) as server:
        yield server


@pytest.fixture
async def server(running: LiveServer) -> AsyncIterator[LiveServer]:
    """The server, which must serve a next session whatever the test did to it."""
    yield running
    audio, pcm = demo_pcm(3.5)
    _, heard, ended = await stream(running, SessionStart(audio=audio, interim=False), pieces(pcm))
    assert ended.totals.finals >= 1
    assert ended.totals.failed == 0
    assert not [event for event in heard if event.type == "error"]


def started(**fields: object) -> str:
    return json.dumps({"type": "session.start", **fields})


@pytest.mark.parametrize(
    ("first", "code", "close"),
    [
        (silence(0.1), "not_started", 4400),
        (SessionEnd(), "not_started", 4400),
        (Marker(id="x"), "not_started", 4400),
        (started(protocol_version=2), "protocol_unsupported", 4422),
        (started(audio={"sample_rate": 11_025}), "audio_format_unsupported", 4415),
        (started(audio={"sample_rate": 0}), "audio_format_unsupported", 4415),
        (started(audio={"channels": 9}), "audio_format_unsupported", 4415),
        (started(audio={"encoding": "opus"}), "audio_format_unsupported", 4415),
        (started(audio={"channels": "2"}), "config_invalid", 4422),
        (started(speakers=["A", "B"]), "config_invalid", 4422),
        (started(endpointing={"silence_ms": 1}), "config_invalid", 4422),
        (
            started(endpointing={"min_speech_ms": 2_000, "max_utterance_ms": 2_000}),
            "config_invalid",
            4422,
        ),
        (started(bundle="somebody-elses"), "bundle_unknown", 4422),
        (started(labels=["anger", "joy"]), "labels_mismatch", 4422),
        (started(purpose="recruitment"), "purpose_prohibited", 4403),
        (started(purpose="Employee monitoring"), "purpose_prohibited", 4403),
    ],
)
async def test_a_session_that_cannot_begin(
    server: LiveServer, first: bytes | str, code: str, close: int
) -> None:
    async with talk(server) as client:
        await client.say(first)
        assert await client.closed() == close
    (failed,) = client.heard
    assert (failed.type, failed.code, failed.fatal) == ("error", code, True)
    assert failed.message


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("{", "message_invalid"),
        ("[1]", "message_invalid"),
        ("[" * 60_000, "message_invalid"),
        ('{"type": "marker", "id": "' + "x" * 70_000 + '"}', "message_too_large"),
        ('{"type": "marker", "id": NaN}', "message_invalid"),
        ('{"type": "marker", "type": "marker", "id": "x"}', "message_invalid"),
        ('{"type": "sing"}', "type_unknown"),
        (started(), "already_started"),
        (started(audio={"sample_rate": 8_000}), "already_started"),
        ('{"type": "marker"}', "message_invalid"),
        ('{"type": "utterance.text", "text": "x", "utterance": 4}', "utterance_unknown"),
        ('{"type": "ack", "sequence": 1000}', "ack_invalid"),
        (
            '{"type": "utterance.text", "speaker": "A", "text": "' + "x" * 4_097 + '"}',
            "text_too_long",
        ),
    ],
)
async def test_a_bad_message_in_an_open_session(server: LiveServer, said: str, code: str) -> None:
    audio, pcm = demo_pcm(3.5)
    async with talk(server) as client:
        await client.say(SessionStart(interim=False, audio=audio), *pieces(pcm)[:1], said)
        await client.say(*pieces(pcm)[1:], SessionEnd())
        closed = await client.closed()
    (failed,) = client.of("error")
    assert len(client.of("emotion.final")) >= 1, "nothing that was taken in is lost"
    assert (failed.code, failed.fatal, closed) == (code, False, 1000)
    assert client.heard[-1].type == "session.ended"


async def test_five_invalid_messages_in_a_minute(server: LiveServer) -> None:
    async with talk(server) as client:
        await client.say(START, *["{"] * 5)
        assert await client.closed() == 4400
    assert [one.code for one in client.of("error")] == ["message_invalid"] * 4 + ["too_many_errors"]
    assert client.heard[-1].reason == "error"


async def test_a_message_over_the_limit_is_left_out_and_one_far_over_it_ends_the_session(
    server: LiveServer,
) -> None:
    async with talk(server) as client:
        await client.say(START, bytes(1024 * 1024 + 2), silence(0.1), SessionEnd())
        assert await client.closed() == 1000
    assert [one.code for one in client.of("error")] == ["message_too_large"]
    assert client.heard[-1].totals.audio_ms == 100
    async with talk(server) as client:
        with suppress(ConnectionClosed):  # it may close before it has read all of it
            await client.say(START, bytes(3 * 1024 * 1024))
        assert await client.closed() == 1009


async def test_odd_bytes_join_the_next_message(server: LiveServer) -> None:
    audio, pcm = demo_pcm(3.5, channel=0)
    start = SessionStart(interim=False, audio=audio)
    _, heard, _ = await stream(server, start, pieces(pcm, 7_777))
    _, other, _ = await stream(server, start, [*pieces(pcm, 7_777), b"\x01"])
    codes = [event.code for event in other if event.type == "warning"]
    assert codes == ["audio_misaligned"]
    finals = [
        [event.posterior for event in events if event.type == "emotion.final"]
        for events in (heard, other)
    ]
    assert finals[0] == finals[1]


async def test_samples_that_are_not_numbers(server: LiveServer) -> None:
    async with talk(server) as client:
        await client.say(FLOATS, NAN * 160, bytes(6_400), NAN * 160, SessionEnd())
        assert await client.closed() == 1000
    assert [one.code for one in client.of("error")] == ["audio_nonfinite"] * 2
    assert client.heard[-1].totals.audio_ms == 100


async def test_nothing_but_samples_that_are_not_numbers(server: LiveServer) -> None:
    async with talk(server) as client:
        await client.say(FLOATS, *[NAN * 160] * 30)
        assert await client.closed() == 4415
    codes = [one.code for one in client.of("error")]
    assert codes == ["audio_nonfinite"] * 19 + ["audio_format_suspect"]


async def test_an_encoded_file_sent_as_samples(server: LiveServer) -> None:
    async with talk(server) as client:
        await client.say(START, b"OggS\x00" + bytes(4_000))
        assert await client.closed() == 4415
    assert [one.code for one in client.of("error")] == ["audio_format_suspect"]


async def test_an_empty_message_is_ignored(server: LiveServer) -> None:
    async with talk(server) as client:
        await client.say(START, b"", silence(0.1), SessionEnd())
        assert await client.closed() == 1000
    assert client.heard[-1].totals.messages == 4


async def test_what_comes_after_the_end(server: LiveServer) -> None:
    audio, pcm = demo_pcm(3.5)
    async with talk(server) as client:
        await client.say(SessionStart(interim=False, audio=audio), *pieces(pcm), SessionEnd())
        await client.say(silence(0.1), SessionEnd())
        assert await client.closed() == 1000
    assert client.heard[-1].totals.finals >= 1
    assert {one.code for one in client.of("error")} <= {"already_ended"}


async def test_unknown_fields_are_named_and_ignored(server: LiveServer) -> None:
    async with talk(server) as client:
        await client.say(started(mood="x", audio={"depth": 3}), SessionEnd())
        assert await client.closed() == 1000
    (warning,) = client.of("warning")
    assert warning.code == "field_unknown"
    assert "mood" in warning.message
    assert "audio.depth" in warning.message


async def test_text_that_is_not_utf8(server: LiveServer) -> None:
    async with talk(server) as client:
        await client.say(START)
        await client.until("session.started")
        await client.socket.send(b"\xff\xfe", text=True)
        assert await client.closed() == 1007


async def test_labels_in_any_order_are_the_same_labels(server: LiveServer) -> None:
    async with talk(server) as client:
        names = ["sadness", "neutral", "anger", "happiness"]
        await client.say(started(labels=names), SessionEnd())
        assert await client.closed() == 1000
    assert set(client.heard[0].labels) == set(names)


async def test_a_prohibited_purpose_is_refused_for_files_too(server: LiveServer) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.post(
            f"{server.url}/v1/audio/analyze",
            files={"file": b"RIFF"},
            data={"start": '{"purpose": "insurance"}'},
        )
    assert answer.status_code == 415  # no sound file at all comes first


async def test_clients_that_come_and_vanish_leave_no_socket_and_no_session(toy: Path) -> None:
    audio, pcm = demo_pcm(3.5)
    start = SessionStart(audio=audio)
    with live_server(toy) as server:
        before = open_descriptors()
        for n in range(60):
            async with talk(server) as client:
                if n % 3:
                    await client.say(start, *pieces(pcm)[: n % 3])
                    await client.until("session.started")
                client.socket.transport.abort()
        assert await settled(server)
        assert open_descriptors() < before + 10, "60 clients were here"


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
